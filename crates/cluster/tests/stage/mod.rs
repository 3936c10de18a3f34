//! A Tandem node and stock nodes played with raw packets.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use crate::stand;

use bytes::Bytes;
use tandem_bin::clusterer::{Body, CapNode, CapUpdate, Extra, Internal};
use tandem_bin::{Packet, Trailer};
use tandem_clock::Now;
use tandem_cluster::*;

pub(crate) use stand::{Stand, ip};

pub(crate) const CAP: &[u8] = stand::CAP.as_bytes();

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
        let peers: &[u32] = if know_peer { &[2] } else { &[] };
        let (m, cap) = stand::node(peers, |_| {});
        let now = stand::BEGIN;
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

impl Stand for Stage {
    fn parts(&mut self) -> (&mut Clusterer, &mut Now) {
        (&mut self.m, &mut self.now)
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { conn, .. } => {
                self.input(|m, now, out| m.handle_connected(now, conn, out));
            }
            Effect::Write { bytes, .. } => {
                let frames = stand::frames(&bytes).into_iter();
                self.got.extend(frames.map(|frame| Packet::decode(frame).unwrap()));
            }
            Effect::Persist { token, .. } => {
                self.input(|m, now, out| m.persisted(now, token, true, out));
            }
            Effect::SnapshotWanted { request, form, buckets, .. } => {
                assert_eq!(form, Form::Stock);
                let snapshot = stand::snapshot(buckets.as_deref());
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

    fn answer_pings(&mut self) {
        let pings = self.of_type("clusterer-internal", 0).len();
        self.got
            .retain(|p| !(p.capability.as_ref() == b"clusterer-internal" && p.packet_type == 0));
        for _ in 0..pings {
            self.say(Body::Pong { nodes: vec![] });
        }
    }
}
