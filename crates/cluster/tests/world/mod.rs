//! A small deterministic world: nodes, streams with delay, partitions, crashes, disks.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use tandem_bin::{NodeId, Packet};
use tandem_clock::{MS, Mono, Now};
use tandem_cluster::*;

pub const CAP: &str = "usrloc-contact-repl";

/// A record: key, value, stamp. Merging takes the later stamp.
pub type Records = BTreeMap<u8, (Stamp, u8)>;

pub struct Node {
    pub machine: Option<Clusterer>,
    pub cap: CapId,
    pub saved: Option<Bytes>,
    pub records: Records,
    pub log: Vec<Effect>,
    /// Packets written to the wire, as (capability, type).
    pub sent: Vec<(String, u32)>,
    pub seed: bool,
    pub active_in_file: bool,
    pub addresses: Vec<(IpAddr, bool)>,
    pub lives: u64,
    pub disk_ok: bool,
}

enum Event {
    Accepted { at: NodeId, conn: ConnId, ip: IpAddr },
    Connected { at: NodeId, conn: ConnId },
    Failed { at: NodeId, conn: ConnId },
    Data { at: NodeId, conn: ConnId, bytes: Bytes },
    Closed { at: NodeId, conn: ConnId },
    Persisted { at: NodeId, token: u64, bytes: Bytes },
}

pub struct World {
    pub nodes: BTreeMap<NodeId, Node>,
    pub now: Mono,
    queue: BTreeMap<(Mono, u64), (u64, Event)>,
    sequence: u64,
    /// The other end of each stream.
    ends: BTreeMap<(NodeId, ConnId), (NodeId, ConnId)>,
    next_accepted: u64,
    /// What a cut keeps from arriving: it comes when the cut is over, as TCP repeats it.
    held: Vec<(u64, Event)>,
    /// How long a handshake of TCP takes; more than a second where a segment of it was lost.
    pub handshake_ms: u64,
    /// Pairs that cannot talk.
    pub cut: Vec<(NodeId, NodeId)>,
    pub size: NodeId,
    pub log_bytes_max: usize,
    /// Peers are looked for every second, as an operator wants it who moves an address.
    pub watchful: bool,
}

pub fn ip(node: NodeId) -> IpAddr {
    [10, 0, 0, node as u8].into()
}

fn addr(node: NodeId) -> SocketAddr {
    SocketAddr::new(ip(node), 5566)
}

impl World {
    pub fn new(size: NodeId) -> Self {
        let nodes = (1..=size).map(|id| (id, Node::new(id))).collect();
        Self {
            nodes,
            now: 1_000_000 * MS,
            queue: BTreeMap::new(),
            sequence: 0,
            ends: BTreeMap::new(),
            next_accepted: 0,
            held: Vec::new(),
            handshake_ms: 1,
            cut: Vec::new(),
            size,
            log_bytes_max: 16 << 20,
            watchful: false,
        }
    }

    pub fn time(&self) -> Now {
        Now { mono_ns: self.now, unix_ms: 1_700_000_000_000 + self.now / MS }
    }

    pub fn start(&mut self, id: NodeId) {
        let size = self.size;
        let time = self.time();
        let (log_bytes_max, watchful) = (self.log_bytes_max, self.watchful);
        let node = self.nodes.get_mut(&id).unwrap();
        node.lives += 1;
        let mut own = NodeConfig::new(id, addr(id));
        own.seed = node.seed;
        let mut cluster = ClusterConfig::new(1, own);
        cluster.peers =
            (1..=size).filter(|&n| n != id).map(|n| NodeConfig::new(n, addr(n))).collect();
        cluster.log_bytes_max = log_bytes_max;
        if watchful {
            (cluster.ping_interval_s, cluster.ping_timeout_ms) = (1, 300);
            cluster.node_timeout_s = 2;
        }
        let mut config = Config::new(id, u64::from(id) * 1000 + node.lives);
        config.clusters.push(cluster);
        config.addresses.clone_from(&node.addresses);
        config.saved_claims.clone_from(&node.saved);
        config.tags.push(TagConfig {
            name: "vip".into(),
            cluster: 1,
            active_in_file: node.active_in_file,
        });
        let mut machine = Clusterer::new(config);
        node.cap = machine.register_capability(1, CAP, true).unwrap();
        let mut out = Effects::default();
        machine.start(time, &mut out);
        node.machine = Some(machine);
        self.apply(id, out);
    }

    pub fn crash(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.machine = None;
        node.records.clear();
        let gone: Vec<_> = self.ends.keys().filter(|(n, _)| *n == id).copied().collect();
        for end in gone {
            self.hang_up(end);
        }
    }

    fn hang_up(&mut self, end: (NodeId, ConnId)) {
        if let Some((at, conn)) = self.ends.remove(&end) {
            self.ends.remove(&(at, conn));
            if !self.is_cut(end.0, at) {
                self.later(MS, Event::Closed { at, conn });
            }
        }
    }

    pub fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    fn later(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        let at = match &event {
            Event::Accepted { at, .. }
            | Event::Connected { at, .. }
            | Event::Failed { at, .. }
            | Event::Data { at, .. }
            | Event::Closed { at, .. }
            | Event::Persisted { at, .. } => *at,
        };
        let life = self.nodes.get(&at).map_or(0, |node| node.lives);
        self.queue.insert((self.now + delay, self.sequence), (life, event));
    }

    /// Runs one input of a node and what follows from it.
    pub fn step(&mut self, id: NodeId, f: impl FnOnce(&mut Clusterer, Now, &mut Effects)) {
        let time = self.time();
        let mut out = Effects::default();
        if let Some(machine) = self.nodes.get_mut(&id).and_then(|n| n.machine.as_mut()) {
            f(machine, time, &mut out);
        }
        self.apply(id, out);
    }

    fn apply(&mut self, id: NodeId, mut out: Effects) {
        let list: Vec<_> = out.drain().collect();
        for effect in list {
            self.effect(id, effect);
        }
    }

    fn effect(&mut self, id: NodeId, effect: Effect) {
        match effect {
            Effect::Connect { conn, peer, .. } => self.connect(id, conn, peer),
            Effect::Write { conn, bytes } => {
                let node = self.nodes.get_mut(&id).unwrap();
                let mut framer = tandem_bin::Framer::default();
                framer.push(&bytes);
                while let Ok(Some(frame)) = framer.next_frame() {
                    let packet = Packet::decode(frame).unwrap();
                    let name = String::from_utf8_lossy(&packet.capability).into_owned();
                    node.sent.push((name, packet.packet_type));
                }
                if let Some(&(at, conn)) = self.ends.get(&(id, conn)) {
                    self.later(MS, Event::Data { at, conn, bytes });
                }
            }
            Effect::Close { conn } => self.hang_up((id, conn)),
            Effect::Persist { token, bytes } => {
                self.later(2 * MS, Event::Persisted { at: id, token, bytes });
            }
            other => {
                self.module(id, &other);
                self.nodes.get_mut(&id).unwrap().log.push(other);
            }
        }
    }

    fn connect(&mut self, id: NodeId, conn: ConnId, peer: SocketAddr) {
        let at = (1..=99).find(|&n| addr(n) == peer).unwrap();
        let alive = self.nodes.get(&at).is_some_and(|node| node.machine.is_some());
        if !alive || self.is_cut(id, at) {
            self.later(MS, Event::Failed { at: id, conn });
            return;
        }
        self.next_accepted += 1;
        let other = ConnId::Accepted(self.next_accepted);
        self.ends.insert((id, conn), (at, other));
        self.ends.insert((at, other), (id, conn));
        let handshake = self.handshake_ms * MS;
        self.later(handshake, Event::Accepted { at, conn: other, ip: ip(id) });
        self.later(handshake, Event::Connected { at: id, conn });
    }

    fn module(&mut self, id: NodeId, effect: &Effect) {
        let node = self.nodes.get_mut(&id).unwrap();
        match effect {
            Effect::Deliver { payload, stamp, .. } => {
                let stamp = stamp.unwrap_or(Stamp { time_us: 0, node: 0 });
                node.merge(payload[0], stamp, payload[1]);
            }
            Effect::DeliverSync { records, form: Form::Tandem, .. } => {
                for r in records {
                    let ms = u64::from_le_bytes(r[2..10].try_into().unwrap());
                    let from = u32::from_le_bytes(r[10..14].try_into().unwrap());
                    node.merge(r[0], Stamp { time_us: ms, node: from }, r[1]);
                }
            }
            Effect::DeliverSync { records, form: Form::Stock, .. } => {
                for r in records {
                    node.merge(r[0], Stamp { time_us: 1, node: 0 }, r[1]);
                }
            }
            Effect::SnapshotWanted { request, buckets, form, .. } => {
                let wanted = |k: &u8| buckets.as_ref().is_none_or(|b| b.contains(k));
                let encode = |(k, (stamp, v)): (&u8, &(Stamp, u8))| {
                    let mut r = vec![*k, *v];
                    if *form == Form::Tandem {
                        r.extend(stamp.time_us.to_le_bytes());
                        r.extend(stamp.node.to_le_bytes());
                    }
                    Bytes::from(r)
                };
                let records = node.records.iter().filter(|(k, _)| wanted(k)).map(encode).collect();
                let (request, snapshot) = (*request, Snapshot { version: 5, records });
                self.step(id, |m, now, out| m.snapshot_ready(now, request, snapshot, out));
            }
            Effect::ListingWanted { request, buckets, .. } => {
                let wanted = node.records.iter().filter(|(k, _)| buckets.contains(k));
                let entries = wanted
                    .map(|(k, (stamp, v))| (Bytes::from(vec![*k]), stamp.time_us ^ u64::from(*v)))
                    .collect();
                let request = *request;
                self.step(id, |m, now, out| m.listing_ready(now, request, entries, out));
            }
            Effect::DigestsWanted { request, .. } => {
                let (request, digests) = (*request, node.digests());
                self.step(id, |m, now, out| m.digests_ready(now, request, digests, out));
            }
            _ => {}
        }
    }

    /// A change made on a node, replicated to the others.
    pub fn write(&mut self, id: NodeId, key: u8, value: u8) -> Option<Replicated> {
        let time = self.time();
        let node = self.nodes.get_mut(&id).unwrap();
        let stamp = Stamp { time_us: time.unix_ms, node: id };
        node.merge(key, stamp, value);
        let cap = node.cap;
        let payload = Bytes::from(vec![key, value]);
        let mut result = None;
        self.step(id, |m, now, out| {
            result = m.broadcast(now, cap, 3, 5, &payload, stamp, out).ok();
            m.flush(out);
        });
        result
    }

    pub fn activate(&mut self, id: NodeId) {
        self.step(id, |m, now, out| {
            m.activate_tag(now, "vip", 1, Reason::new("MI command", "test"), out).unwrap();
        });
    }

    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        loop {
            self.release();
            let timer =
                self.nodes.values().filter_map(|n| n.machine.as_ref()?.next_deadline()).min();
            let event = self.queue.first_key_value().map(|(&(at, _), _)| at);
            let Some(next) = timer.into_iter().chain(event).min().filter(|&at| at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if event.is_some_and(|at| at <= self.now) {
                let (_, (life, event)) = self.queue.pop_first().unwrap();
                self.dispatch(life, event);
                continue;
            }
            let ids: Vec<_> = self.nodes.keys().copied().collect();
            for id in ids {
                let now = self.now;
                let due = |n: &Node| n.machine.as_ref()?.next_deadline().filter(|&at| at <= now);
                if due(&self.nodes[&id]).is_some() {
                    self.step(id, |m, now, out| m.handle_timeout(now, out));
                }
            }
        }
        self.now = end;
    }

    /// Delivers what cuts have held back, in order.
    fn release(&mut self) {
        for (life, event) in std::mem::take(&mut self.held) {
            self.dispatch(life, event);
        }
    }

    fn dispatch(&mut self, life: u64, event: Event) {
        if let Event::Data { at, conn, .. } = &event
            && let Some(end) = self.ends.get(&(*at, *conn))
        {
            let waits = |held: &(u64, Event)| match &held.1 {
                Event::Data { at: a, conn: c, .. } => (a, c) == (at, conn),
                _ => false,
            };
            if self.is_cut(*at, end.0) || self.held.iter().any(waits) {
                self.held.push((life, event));
                return;
            }
        }
        match event {
            Event::Accepted { at, conn, ip } => {
                self.step(at, |m, now, out| m.handle_accepted(now, conn, ip, out));
            }
            Event::Connected { at, conn } => {
                self.step(at, |m, now, out| m.handle_connected(now, conn, out));
            }
            Event::Failed { at, conn } if self.nodes[&at].lives == life => {
                self.step(at, |m, now, out| m.handle_connect_failed(now, conn, out));
            }
            Event::Data { at, conn, bytes } if self.ends.contains_key(&(at, conn)) => {
                self.step(at, |m, now, out| m.handle_bytes(now, conn, &bytes, out));
            }
            Event::Closed { at, conn } if self.nodes[&at].lives == life => {
                self.step(at, |m, now, out| m.handle_closed(now, conn, out));
            }
            Event::Persisted { at, token, bytes } if self.nodes[&at].lives == life => {
                let node = self.nodes.get_mut(&at).unwrap();
                let ok = node.disk_ok;
                if ok {
                    node.saved = Some(bytes);
                }
                self.step(at, |m, now, out| m.persisted(now, token, ok, out));
            }
            _ => {}
        }
    }

    pub fn machine(&self, id: NodeId) -> &Clusterer {
        self.nodes[&id].machine.as_ref().unwrap()
    }

    pub fn holders(&self) -> Vec<NodeId> {
        let holds = |n: &Node| n.machine.as_ref().is_some_and(|m| m.table().is_active("vip", 1));
        self.nodes.iter().filter(|(_, n)| holds(n)).map(|(&id, _)| id).collect()
    }

    pub fn link(&self, from: NodeId, to: NodeId) -> NodeStatus {
        let status = self.machine(from).status();
        status.clusters[0].nodes.iter().find(|n| n.node == to).unwrap().clone()
    }

    pub fn cap_state(&self, id: NodeId) -> CapState {
        self.machine(id).status().clusters[0].capabilities[0].state
    }

    pub fn reports(&self, id: NodeId) -> Vec<String> {
        let report = |e: &Effect| match e {
            Effect::CapState { report, .. } => Some(report.clone()),
            _ => None,
        };
        self.nodes[&id].log.iter().filter_map(report).collect()
    }
}

impl Node {
    fn new(id: NodeId) -> Self {
        Self {
            machine: None,
            cap: CapIdHolder::any(),
            saved: None,
            records: Records::new(),
            log: Vec::new(),
            sent: Vec::new(),
            seed: id == 1,
            active_in_file: false,
            addresses: vec![(ip(id), true)],
            lives: 0,
            disk_ok: true,
        }
    }

    fn merge(&mut self, key: u8, stamp: Stamp, value: u8) {
        let old = self.records.entry(key).or_insert((stamp, value));
        if old.0 <= stamp {
            *old = (stamp, value);
        }
    }

    fn digests(&self) -> Digests {
        let mut digests = Digests { count: self.records.len() as u64, ..Digests::default() };
        for (key, (stamp, value)) in &self.records {
            digests.buckets[usize::from(*key)] = stamp
                .time_us
                .wrapping_mul(31)
                .wrapping_add(u64::from(*value) + u64::from(stamp.node) + 1);
        }
        digests
    }
}

/// A capability id before a machine has given one.
struct CapIdHolder;

impl CapIdHolder {
    fn any() -> CapId {
        let mut config = Config::new(1, 1);
        config.clusters.push(ClusterConfig::new(1, NodeConfig::new(1, addr(1))));
        Clusterer::new(config).register_capability(1, CAP, true).unwrap()
    }
}
