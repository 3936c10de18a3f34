//! The capability `ratelimit-pipe-repl`: each node tells its own counts every so often.

use std::sync::Arc;

use bytes::Bytes;
use tandem_bin::ratelimit as wire;
use tandem_clock::Now;
use tandem_cluster::{Digests, Form, Snapshot};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::outbox::Record;
use tandem_engine::replication::{Incoming, Replicated};

use crate::pipe::{Algorithm, Pipe};
use crate::state::RateLimit;

/// How often a count of 0 is told.
const QUIET_MAX: u32 = 3;
/// Bytes of a pipe beside its name.
const PIPE_BYTES: usize = 18;

impl RateLimit {
    /// Tells the peers what is counted here.
    pub(crate) fn send(&self, cx: &mut Cx<'_>) {
        let (now, rules) = (cx.now, self.rules());
        let mut counts = Vec::new();
        for (name, pipe) in self.pipes.lock().iter_mut().filter(|(_, pipe)| pipe.replicated) {
            let counter = pipe.own(now, &rules);
            pipe.quiet = if counter == 0 { pipe.quiet.saturating_add(1) } else { 0 };
            if pipe.quiet <= QUIET_MAX {
                counts.push(told(name, pipe, counter));
            }
        }
        for packet in self.packets(counts) {
            let Ok(payload) = wire::encode(&packet) else { continue };
            self.append(cx, wire::COUNTERS, payload);
        }
    }

    /// Tells other clusters what all of this one count.
    pub(crate) fn send_bridged(&self, cx: &mut Cx<'_>) {
        let (now, rules) = (cx.now, self.rules());
        let mut counts = Vec::new();
        for (name, pipe) in self.pipes.lock().iter_mut() {
            if pipe.replicated && pipe.algorithm == Algorithm::TailDrop {
                let counter = pipe.own(now, &rules).saturating_add(pipe.neighbours(now));
                counts.push(told(name, pipe, counter));
            }
        }
        let node = Arc::clone(cx.node);
        for packet in self.packets(counts) {
            let Ok(payload) = wire::encode_bridged(self.cluster, &packet) else { continue };
            node.membership().send_over_bridges(cx, wire::BRIDGED_EDGE, wire::VERSION, &payload);
        }
    }

    /// Divides counts so that no packet is larger than wanted.
    fn packets(&self, counts: Vec<wire::Pipe>) -> Vec<Vec<wire::Pipe>> {
        let mut packets: Vec<Vec<wire::Pipe>> = Vec::new();
        let mut bytes = usize::MAX;
        for pipe in counts {
            bytes = bytes.saturating_add(pipe.name.len() + PIPE_BYTES);
            if bytes > self.packet_bytes {
                packets.push(Vec::new());
                bytes = pipe.name.len() + PIPE_BYTES;
            }
            packets.last_mut().into_iter().for_each(|packet| packet.push(pipe.clone()));
        }
        packets
    }

    fn append(&self, cx: &Cx<'_>, kind: u32, payload: Bytes) {
        let stamp = cx.node.outbox.stamp(cx.now);
        let record = Record::same(self.slot, kind, wire::VERSION, payload, stamp);
        cx.node.outbox.append(0, record);
    }

    /// Another cluster tells what it counts. The node that hears it tells the others of its own.
    ///
    /// It does so also where it does not count them itself: others of its cluster may.
    fn bridged(&self, cx: &mut Cx<'_>, change: &Incoming) {
        let (cluster, pipes) = match wire::decode_bridged(&change.payload) {
            Ok(told) => told,
            Err(e) => {
                let text = format!("counters over a bridge (node {}): {e}", change.source);
                return cx.log(Level::Warning, text);
            }
        };
        if cluster == self.cluster {
            return;
        }
        if change.kind == wire::BRIDGED_EDGE {
            self.append(cx, wire::BRIDGED_CORE, change.payload.clone());
        }
        if !self.is_bridged() {
            return;
        }
        let until = cx.now.after_s(self.believe_bridge_s);
        self.hear(cx.now, pipes, |pipe, counter| {
            pipe.bridged.insert(cluster, (counter, until));
        });
    }

    /// Nothing counted makes no pipe: two clusters would keep each other's alive for ever.
    fn hear(&self, now: Now, pipes: Vec<wire::Pipe>, note: impl Fn(&mut Pipe, i32)) {
        for told in pipes {
            let name = String::from_utf8_lossy(&told.name).into_owned();
            if told.counter == 0 {
                if let Some(pipe) = self.pipes.lock().get_mut(&name) {
                    note(pipe, 0);
                }
                continue;
            }
            let algorithm = Algorithm::of_number(told.algorithm).unwrap_or(self.default);
            let new = || Pipe::new(algorithm, told.limit, true, now);
            self.with_pipe(&name, new, |pipe| note(pipe, told.counter));
        }
    }
}

fn told(name: &str, pipe: &Pipe, counter: i32) -> wire::Pipe {
    wire::Pipe {
        name: Bytes::copy_from_slice(name.as_bytes()),
        flags: wire::REPLICATED,
        algorithm: pipe.algorithm.number(),
        limit: pipe.limit,
        counter,
    }
}

impl Replicated for RateLimit {
    fn capability(&self) -> &'static str {
        "ratelimit-pipe-repl"
    }

    fn cluster(&self) -> u32 {
        self.cluster
    }

    fn startup_sync(&self) -> bool {
        false
    }

    fn apply(&self, cx: &mut Cx<'_>, change: Incoming) {
        match change.kind {
            wire::COUNTERS => {}
            wire::BRIDGED_EDGE | wire::BRIDGED_CORE => return self.bridged(cx, &change),
            _ => return,
        }
        let pipes = match wire::decode(&change.payload) {
            Ok(pipes) => pipes,
            Err(e) => {
                let text = format!("counters of node {} cannot be read: {e}", change.source);
                return cx.log(Level::Warning, text);
            }
        };
        let until = cx.now.after_s(self.believe_s);
        self.hear(cx.now, pipes, |pipe, counter| {
            pipe.remote.insert(change.source, (counter, until));
        });
    }

    /// Counters are told all the time: there is nothing to sync.
    fn merge(&self, _: &mut Cx<'_>, _: u32, _: Form, _: u16, _: Vec<Bytes>) {}

    fn snapshot(&self, _: &mut Cx<'_>, _: Form, _: Option<&[u8]>) -> Snapshot {
        Snapshot { version: wire::VERSION, records: Vec::new() }
    }

    fn digests(&self, _: Now) -> Digests {
        Digests::default()
    }

    fn replay_since(&self, _: &mut Cx<'_>, _: u32, _: u64, _: &[u8]) -> Vec<(u32, u16, Bytes)> {
        Vec::new()
    }
}
