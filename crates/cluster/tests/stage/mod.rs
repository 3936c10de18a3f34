//! A Tandem node and stock nodes played with raw packets.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use tandem_bin::clusterer::{Body, CapNode, CapUpdate, Extra, Internal};
use tandem_bin::{Framer, Packet, Trailer};
use tandem_clock::{MS, Now};
use tandem_cluster::*;

pub(crate) const CAP: &[u8] = b"usrloc-contact-repl";

pub(crate) fn ip(n: u8) -> IpAddr {
    [10, 0, 0, n].into()
}

pub(crate) struct Stage {
    pub(crate) m: Clusterer,
    pub(crate) cap: CapId,
    pub(crate) now: Now,
    /// The stock node's connection to us, and ours to it.
    pub(crate) to_us: ConnId,
    pub(crate) accepted: u64,
    pub(crate) cap_sequence: i32,
    /// Packets we wrote to it.
    pub(crate) got: Vec<Packet>,
    pub(crate) log: Vec<Effect>,
    /// The test answers what missed changes are asked for; else there are none.
    pub(crate) keeps_questions: bool,
}

impl Stage {
    pub(crate) fn new(know_peer: bool) -> Self {
        let mut config = Config::new(1, 77);
        let mut own = NodeConfig::new(1, SocketAddr::new(ip(1), 5566));
        own.seed = true;
        let mut cluster = ClusterConfig::new(1, own);
        if know_peer {
            cluster.peers.push(NodeConfig::new(2, SocketAddr::new(ip(2), 5566)));
        }
        config.clusters.push(cluster);
        let mut m = Clusterer::new(config);
        let cap = m.register_capability(1, "usrloc-contact-repl", true).unwrap();
        let now = Now { mono_ns: 1000 * MS, unix_ms: 1_700_000_000_000 };
        let to_us = ConnId::Accepted(1);
        let mut stage = Self {
            m,
            cap,
            now,
            to_us,
            accepted: 1,
            cap_sequence: 0,
            got: vec![],
            log: vec![],
            keeps_questions: false,
        };
        stage.input(|m, now, out| m.start(now, out));
        stage.input(|m, now, out| m.handle_accepted(now, to_us, ip(2), out));
        stage
    }

    pub(crate) fn input(&mut self, f: impl FnOnce(&mut Clusterer, Now, &mut Effects)) {
        let mut out = Effects::default();
        f(&mut self.m, self.now, &mut out);
        self.apply(out);
    }

    pub(crate) fn apply(&mut self, mut out: Effects) {
        let effects: Vec<_> = out.drain().collect();
        for effect in effects {
            match effect {
                Effect::Connect { conn, .. } => {
                    self.input(|m, now, out| m.handle_connected(now, conn, out));
                }
                Effect::Write { bytes, .. } => {
                    let mut framer = Framer::default();
                    framer.push(&bytes);
                    while let Ok(Some(frame)) = framer.next_frame() {
                        self.got.push(Packet::decode(frame).unwrap());
                    }
                }
                Effect::Persist { token, .. } => {
                    self.input(|m, now, out| m.persisted(now, token, true, out));
                }
                Effect::SnapshotWanted { request, form, buckets, .. } => {
                    assert_eq!(form, Form::Stock);
                    // Both records are in the first bucket.
                    let mut records = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
                    records.retain(|_| buckets.as_ref().is_none_or(|b| b.contains(&0)));
                    let snapshot = Snapshot { version: 5, records };
                    self.input(|m, now, out| m.snapshot_ready(now, request, snapshot, out));
                }
                Effect::ReplayWanted { request, .. } => {
                    self.log.push(effect);
                    if !self.keeps_questions {
                        self.input(|m, now, out| m.replay_ready(now, request, vec![], out));
                    }
                }
                other => self.log.push(other),
            }
        }
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        let end = self.now.plus_ns(ms * MS);
        while let Some(at) = self.m.next_deadline().filter(|&at| at <= end.mono_ns) {
            let step = at.saturating_sub(self.now.mono_ns);
            self.now = self.now.plus_ns(step);
            self.input(|m, now, out| m.handle_timeout(now, out));
            self.answer_pings();
        }
        self.now = end;
    }

    pub(crate) fn answer_pings(&mut self) {
        let pings = self.of_type("clusterer-internal", 0).len();
        self.got
            .retain(|p| !(p.capability.as_ref() == b"clusterer-internal" && p.packet_type == 0));
        for _ in 0..pings {
            self.say(Body::Pong { nodes: vec![] });
        }
    }

    pub(crate) fn say(&mut self, body: Body) {
        let bytes = Internal { cluster: 1, source: 2, body }.encode().unwrap();
        let conn = self.to_us;
        self.input(|m, now, out| m.handle_bytes(now, conn, &bytes, out));
    }

    pub(crate) fn say_extra(&mut self, extra: &Extra) {
        let bytes = extra.encode(&Trailer::new(1, 2, 1)).unwrap();
        let conn = self.to_us;
        self.input(|m, now, out| m.handle_bytes(now, conn, &bytes, out));
    }

    pub(crate) fn say_caps(&mut self, synced: bool) {
        self.cap_sequence += 1;
        let node = CapNode { node: 2, capabilities: vec![(Bytes::from_static(CAP), synced)] };
        self.say(Body::Capabilities(CapUpdate {
            sequence: self.cap_sequence,
            timestamp: 5,
            nodes: vec![node],
            require_reply: true,
            path: vec![2],
            intact: true,
        }));
    }

    pub(crate) fn link_up(&mut self) {
        self.say(Body::Ping { want_list: true });
        self.run_ms(1100);
        assert_eq!(self.link(), "Up");
    }

    pub(crate) fn link(&self) -> &'static str {
        self.m.status().clusters[0].nodes[0].link_state
    }

    pub(crate) fn of_type(&self, name: &str, kind: u32) -> Vec<&Packet> {
        let wanted =
            |p: &&Packet| p.capability.as_ref() == name.as_bytes() && p.packet_type == kind;
        self.got.iter().filter(wanted).collect()
    }

    pub(crate) fn active(&self) -> bool {
        self.m.table().is_active("vip", 1)
    }

    pub(crate) fn activate(&mut self) {
        self.input(|m, now, out| {
            m.activate_tag(now, "vip", 1, Reason::new("MI command", "test"), out).unwrap();
        });
    }

    pub(crate) fn shtag_active(&mut self) {
        self.say_extra(&Extra::ShtagActive { tag: Bytes::from_static(b"vip") });
    }
}
