//! What the tests with stock nodes played by raw packets stand on: node 1, a Tandem node, and its
//! time.
#![allow(dead_code, clippy::unwrap_used)]

use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use tandem_bin::{Framer, NodeId};
use tandem_clock::{MS, Now};
use tandem_cluster::*;

pub(crate) const CAP: &str = "usrloc-contact-repl";

pub(crate) fn ip(n: u32) -> IpAddr {
    [10, 0, 0, n as u8].into()
}

pub(crate) const BEGIN: Now = Now { mono_ns: 1000 * MS, unix_ms: 1_700_000_000_000 };

/// Node 1, the seed of cluster 1, which knows `peers`; and its capability.
pub(crate) fn node(peers: &[NodeId], tune: impl FnOnce(&mut ClusterConfig)) -> (Clusterer, CapId) {
    let mut config = Config::new(1, 77);
    let of = |id: NodeId| NodeConfig::new(id, SocketAddr::new(ip(id), 5566));
    let mut own = of(1);
    own.seed = true;
    let mut cluster = ClusterConfig::new(1, own);
    cluster.peers.extend(peers.iter().map(|&id| of(id)));
    tune(&mut cluster);
    config.clusters.push(cluster);
    let mut machine = Clusterer::new(config);
    let cap = machine.register_capability(1, CAP, true).unwrap();
    (machine, cap)
}

/// The whole packets of a write.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Bytes> {
    let mut framer = Framer::default();
    framer.push(bytes);
    std::iter::from_fn(|| framer.next_frame().ok().flatten()).collect()
}

/// Two records, both in the first bucket.
pub(crate) fn snapshot(buckets: Option<&[u8]>) -> Snapshot {
    let mut records = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    records.retain(|_| buckets.is_none_or(|b| b.contains(&0)));
    Snapshot { version: 5, records }
}

/// A test's world around node 1.
pub(crate) trait Stand {
    fn parts(&mut self) -> (&mut Clusterer, &mut Now);

    /// Carries one effect out.
    fn effect(&mut self, effect: Effect);

    /// Living nodes answer PINGs.
    fn answer_pings(&mut self);

    fn input(&mut self, f: impl FnOnce(&mut Clusterer, Now, &mut Effects)) {
        let mut out = Effects::default();
        let (machine, now) = self.parts();
        f(machine, *now, &mut out);
        let effects: Vec<_> = out.drain().collect();
        effects.into_iter().for_each(|effect| self.effect(effect));
    }

    /// Lets time pass.
    fn run_ms(&mut self, ms: u64) {
        let end = self.parts().1.plus_ns(ms * MS);
        loop {
            let (machine, now) = self.parts();
            let Some(at) = machine.next_deadline().filter(|&at| at <= end.mono_ns) else { break };
            *now = now.plus_ns(at.saturating_sub(now.mono_ns));
            self.input(|m, now, out| m.handle_timeout(now, out));
            self.answer_pings();
        }
        *self.parts().1 = end;
    }
}
