//! Node 1, a Tandem node, among stock nodes 2 to 4 that are played with raw packets.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use tandem_bin::clusterer::{Body, Extra, Internal};
use tandem_bin::{Framer, NodeId, Packet, Trailer};
use tandem_clock::{MS, Now};
use tandem_cluster::*;

pub(crate) const CAP: &str = "usrloc-contact-repl";

pub(crate) fn ip(n: u32) -> IpAddr {
    [10, 0, 0, n as u8].into()
}

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
        let mut config = Config::new(1, 77);
        let mut own = NodeConfig::new(1, SocketAddr::new(ip(1), 5566));
        own.seed = true;
        let mut cluster = ClusterConfig::new(1, own);
        let peer = |&id: &NodeId| NodeConfig::new(id, SocketAddr::new(ip(id), 5566));
        cluster.peers.extend(peers.iter().map(peer));
        tune(&mut cluster);
        config.clusters.push(cluster);
        let mut m = Clusterer::new(config);
        let cap = m.register_capability(1, CAP, true).unwrap();
        let now = Now { mono_ns: 1000 * MS, unix_ms: 1_700_000_000_000 };
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

    pub(crate) fn input(&mut self, f: impl FnOnce(&mut Clusterer, Now, &mut Effects)) {
        let mut out = Effects::default();
        f(&mut self.m, self.now, &mut out);
        let effects: Vec<_> = out.drain().collect();
        effects.into_iter().for_each(|effect| self.apply(effect));
    }

    fn apply(&mut self, effect: Effect) {
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
                let mut framer = Framer::default();
                framer.push(&bytes);
                while let Ok(Some(frame)) = framer.next_frame() {
                    self.got.push((to, frame));
                }
            }
            Effect::Persist { token, .. } => {
                self.input(|m, now, out| m.persisted(now, token, true, out));
            }
            Effect::SnapshotWanted { request, buckets, .. } => {
                // Both records are in the first bucket.
                if let Some(bytes) = self.bucket_bytes {
                    let record = |_: &u8| Bytes::from(vec![7; bytes]);
                    let records = buckets.unwrap_or_default().iter().map(record).collect();
                    let snapshot = Snapshot { version: 5, records };
                    self.input(|m, now, out| m.snapshot_ready(now, request, snapshot, out));
                    return;
                }
                let mut records = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
                records.retain(|_| buckets.as_ref().is_none_or(|b| b.contains(&0)));
                let snapshot = Snapshot { version: 5, records };
                self.input(|m, now, out| m.snapshot_ready(now, request, snapshot, out));
            }
            Effect::ReplayWanted { request, .. } => {
                self.log.push(effect);
                self.input(|m, now, out| m.replay_ready(now, request, vec![], out));
            }
            other => self.log.push(other),
        }
    }

    /// Lets time pass; living nodes answer PINGs and send their own.
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
        let is_ping = |(_, frame): &(NodeId, Bytes)| {
            let packet = Packet::decode(frame.clone()).unwrap();
            packet.capability.as_ref() == b"clusterer-internal" && packet.packet_type == 0
        };
        let pings: Vec<NodeId> = self.got.iter().filter(|p| is_ping(p)).map(|p| p.0).collect();
        self.got.retain(|p| !is_ping(p));
        for node in pings.into_iter().filter(|id| self.alive.contains(id)).collect::<Vec<_>>() {
            self.say(node, Body::Pong { nodes: vec![] });
        }
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
