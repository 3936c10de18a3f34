//! Node 1, a Tandem node, among stock nodes 2 to 4 that are played with raw packets.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use crate::stand;

use bytes::Bytes;
use std::collections::BTreeMap;
use tandem_bin::clusterer::{Body, Extra, Internal};
use tandem_bin::{NodeId, Packet, Trailer};
use tandem_clock::Now;
use tandem_cluster::*;

pub(crate) use stand::{CAP, Stand, ip};

pub(crate) struct Scene {
    pub(crate) m: Clusterer,
    pub(crate) cap: CapId,
    pub(crate) now: Now,
    /// What node 1 wrote to each address, whole packets.
    pub(crate) got: Vec<(NodeId, Bytes)>,
    pub(crate) log: Vec<Effect>,
    /// Nodes that answer PINGs.
    pub(crate) alive: Vec<NodeId>,
    /// Each bucket holds one record of this size.
    pub(crate) bucket_bytes: Option<usize>,
    to: BTreeMap<ConnId, NodeId>,
}

impl Scene {
    /// Node 1 knows `peers`, all of them stock.
    pub(crate) fn new(peers: &[NodeId]) -> Self {
        Self::with(peers, |_| {})
    }

    pub(crate) fn with(peers: &[NodeId], tune: impl FnOnce(&mut ClusterConfig)) -> Self {
        let (m, cap) = stand::node(peers, tune);
        let now = stand::BEGIN;
        let (got, log, to) = (vec![], vec![], BTreeMap::new());
        let (alive, bucket_bytes) = (peers.to_vec(), None);
        let mut scene = Self { m, cap, now, got, log, alive, bucket_bytes, to };
        scene.input(|m, now, out| m.start(now, out));
        for id in 2..=6 {
            let conn = ConnId::Accepted(u64::from(id));
            scene.input(|m, now, out| m.handle_accepted(now, conn, ip(id), out));
        }
        scene
    }

    /// Says something on the connection of the node's own address.
    pub(crate) fn say(&mut self, source: NodeId, body: Body) {
        self.say_from(source, source, body);
    }

    pub(crate) fn say_from(&mut self, address: NodeId, source: NodeId, body: Body) {
        let bytes = Internal { cluster: 1, source, body }.encode().unwrap();
        self.bytes(address, &bytes);
    }

    pub(crate) fn say_extra(&mut self, source: NodeId, to: NodeId, extra: &Extra) {
        let bytes = extra.encode(&Trailer::new(1, source, to)).unwrap();
        self.bytes(source, &bytes);
    }

    pub(crate) fn module(&mut self, source: NodeId, to: NodeId) -> Bytes {
        let packet = Packet {
            capability: Bytes::from_static(CAP.as_bytes()),
            packet_type: 4,
            version: 5,
            payload: Bytes::from_static(b"live"),
            trailer: Some(Trailer::new(1, source, to)),
        };
        let bytes = packet.encode().unwrap();
        self.bytes(source, &bytes);
        bytes
    }

    pub(crate) fn bytes(&mut self, address: NodeId, bytes: &[u8]) {
        let conn = ConnId::Accepted(u64::from(address));
        self.input(|m, now, out| m.handle_bytes(now, conn, bytes, out));
    }

    /// Everybody is a neighbour.
    pub(crate) fn all_up(&mut self) {
        for id in self.alive.clone() {
            self.say(id, Body::Ping { want_list: true });
        }
        self.run_ms(1100);
        for id in self.alive.clone() {
            assert_eq!(self.link(id), "Up", "node {id}");
        }
    }

    pub(crate) fn link(&self, node: NodeId) -> &'static str {
        let status = self.m.status();
        status.clusters[0].nodes.iter().find(|n| n.node == node).map_or("", |n| n.link_state)
    }

    /// Packets of `clusterer-internal` for a node, without PING and PONG.
    pub(crate) fn internal(&self, to: NodeId) -> Vec<Internal> {
        let bodies = self.got.iter().filter(|p| p.0 == to).filter_map(|(_, frame)| {
            let packet = Packet::decode(frame.clone()).unwrap();
            if packet.capability.as_ref() != b"clusterer-internal" || packet.packet_type == 1 {
                return None;
            }
            Some(Internal::decode(packet.packet_type, &packet.payload).unwrap())
        });
        bodies.collect()
    }

    pub(crate) fn extra(&self, to: NodeId, kind: u32) -> Vec<Packet> {
        let packets = self.got.iter().filter(|p| p.0 == to);
        let packets = packets.map(|(_, frame)| Packet::decode(frame.clone()).unwrap());
        packets
            .filter(|p| p.capability.as_ref() == b"clusterer-extra" && p.packet_type == kind)
            .collect()
    }

    pub(crate) fn pongs(&self, to: NodeId) -> usize {
        let is_pong = |frame: &Bytes| {
            let packet = Packet::decode(frame.clone()).unwrap();
            packet.capability.as_ref() == b"clusterer-internal" && packet.packet_type == 1
        };
        self.got.iter().filter(|(node, frame)| *node == to && is_pong(frame)).count()
    }

    pub(crate) fn delivered(&self) -> usize {
        self.log.iter().filter(|e| matches!(e, Effect::Deliver { .. })).count()
    }

    pub(crate) fn delivered_records(&self) -> usize {
        let records = |e: &Effect| match e {
            Effect::DeliverSync { records, .. } => records.len(),
            _ => 0,
        };
        self.log.iter().map(records).sum()
    }

    pub(crate) fn cap_state(&self) -> CapState {
        self.m.status().clusters[0].capabilities[0].state
    }

    pub(crate) fn complained(&self, text: &str) -> bool {
        self.log.iter().any(|e| matches!(e, Effect::Log { text: t, .. } if t.contains(text)))
    }
}

impl Stand for Scene {
    fn parts(&mut self) -> (&mut Clusterer, &mut Now) {
        (&mut self.m, &mut self.now)
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { conn, peer, .. } => {
                let node = (1..=6).find(|&id| ip(id) == peer.ip()).unwrap();
                self.to.insert(conn, node);
                self.input(|m, now, out| m.handle_connected(now, conn, out));
            }
            Effect::Write { conn, bytes } => {
                let to = match conn {
                    ConnId::Accepted(n) => n as NodeId,
                    outgoing => self.to[&outgoing],
                };
                self.got.extend(stand::frames(&bytes).into_iter().map(|frame| (to, frame)));
            }
            Effect::Persist { token, .. } => {
                self.input(|m, now, out| m.persisted(now, token, true, out));
            }
            Effect::SnapshotWanted { request, buckets, .. } => {
                if let Some(bytes) = self.bucket_bytes {
                    let record = |_: &u8| Bytes::from(vec![7; bytes]);
                    let records = buckets.unwrap_or_default().iter().map(record).collect();
                    let snapshot = Snapshot { version: 5, records };
                    self.input(|m, now, out| m.snapshot_ready(now, request, snapshot, out));
                    return;
                }
                let snapshot = stand::snapshot(buckets.as_deref());
                self.input(|m, now, out| m.snapshot_ready(now, request, snapshot, out));
            }
            Effect::ReplayWanted { request, .. } => {
                self.log.push(effect);
                self.input(|m, now, out| m.replay_ready(now, request, vec![], out));
            }
            other => self.log.push(other),
        }
    }

    fn answer_pings(&mut self) {
        let is_ping = |(_, frame): &(NodeId, Bytes)| {
            let packet = Packet::decode(frame.clone()).unwrap();
            packet.capability.as_ref() == b"clusterer-internal" && packet.packet_type == 0
        };
        // What an answer makes node 1 ask is answered at once as well.
        while self.got.iter().any(is_ping) {
            let pings: Vec<NodeId> = self.got.iter().filter(|p| is_ping(p)).map(|p| p.0).collect();
            self.got.retain(|p| !is_ping(p));
            for node in pings {
                if self.alive.contains(&node) {
                    self.say(node, Body::Pong { nodes: vec![] });
                }
            }
        }
    }
}
