//! One cluster: its peers, the graph, and how packets leave.

use crate::caps::LocalCap;
use crate::complaints::Complaints;
use crate::config::{ClusterConfig, NodeConfig};
use crate::effects::{ConnId, Effect, Effects, Level};
use crate::link::LinkTimes;
use crate::peer::{Kind, OutConn, Peer};
use crate::questions::Questions;
use crate::table::TagTable;
use crate::tags::Tags;
use crate::wire::{Hello, LEVEL_MAX, LEVEL_MIN, Tandem};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tandem_bin::clusterer::{Body, Internal, LinkStateUpdate};
use tandem_bin::{ClusterId, Framer, NodeId, Trailer};
use tandem_clock::{MS, Mono, Now, SEC};

/// What the clusters of a node share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) me: NodeId,
    pub(crate) incarnation: u64,
    /// What peers need to judge nonces of this node.
    pub(crate) nonce_key: Bytes,
    /// What they need to open texts that it has sealed.
    pub(crate) node_key: Bytes,
    pub(crate) addresses: Vec<(IpAddr, bool)>,
    pub(crate) table: Arc<TagTable>,
    pub(crate) next_conn: u64,
    /// Whom an outgoing connection leads to.
    pub(crate) conns: BTreeMap<u64, (ClusterId, NodeId)>,
    pub(crate) questions: Questions,
    pub(crate) complaints: Complaints,
    /// Changes that some peer was not told of because they fit no packet.
    pub(crate) oversized: u64,
    /// The time of the last step.
    pub(crate) seen: Mono,
    /// The state file has to be written.
    pub(crate) unsaved: bool,
}

/// A step: when it happens, what it may change, what it asks for.
pub(crate) struct Ctx<'a> {
    pub(crate) now: Now,
    pub(crate) out: &'a mut Effects,
    pub(crate) node: &'a mut Shared,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) cfg: ClusterConfig,
    pub(crate) id: ClusterId,
    pub(crate) me: NodeId,
    pub(crate) enabled: bool,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) caps: Vec<LocalCap>,
    pub(crate) tags: Tags,
    pub(crate) mark: u64,
    pub(crate) ls_sequence: i32,
    pub(crate) top_sequence: i32,
    pub(crate) cap_sequence: i32,
    pub(crate) times: LinkTimes,
    pub(crate) tick_ns: u64,
    pub(crate) next_tick: Option<Mono>,
    pub(crate) next_bulk: Option<Mono>,
}

impl Cluster {
    pub(crate) fn new(me: NodeId, mut cfg: ClusterConfig) -> Self {
        let times = LinkTimes {
            ping_interval_ns: u64::from(cfg.ping_interval_s.max(1)) * SEC,
            ping_timeout_ns: u64::from(cfg.ping_timeout_ms.max(50)) * MS,
            node_timeout_ns: u64::from(cfg.node_timeout_s.max(1)) * SEC,
            retries: 0,
            late_max: 0,
        };
        let peers = std::mem::take(&mut cfg.peers);
        let wanted = peers.into_iter().filter(|peer| peer.node != me);
        Self {
            id: cfg.cluster,
            me,
            enabled: cfg.own.enabled,
            peers: wanted.map(|peer| (peer.node, Peer::new(peer, false))).collect(),
            caps: Vec::new(),
            tags: Tags::default(),
            mark: 0,
            ls_sequence: -1,
            top_sequence: -1,
            cap_sequence: -1,
            tick_ns: tick_ns(&times),
            times,
            next_tick: None,
            next_bulk: None,
            cfg,
        }
    }

    pub(crate) fn trailer(&self, destination: NodeId) -> Trailer {
        Trailer::new(self.id, self.me, destination)
    }

    /// Peers whose links are up, without the administratively disabled.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.iter().filter(|(_, peer)| peer.link.is_up()).map(|(&id, _)| id)
    }

    /// Reachable peers of a kind.
    pub(crate) fn reachable(&self, kind: Kind) -> Vec<NodeId> {
        let wanted = |peer: &Peer| peer.reachable && peer.cfg.enabled && peer.kind == kind;
        self.peers.iter().filter(|(_, peer)| wanted(peer)).map(|(&id, _)| id).collect()
    }

    /// Hands a packet to the connection of a peer, which is opened if there is none.
    pub(crate) fn post(&mut self, ctx: &mut Ctx<'_>, node: NodeId, bytes: &[u8]) -> bool {
        let cluster = self.id;
        let local_ip = Some(self.cfg.own.address.ip()).filter(|ip| !ip.is_unspecified());
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        if peer.conn.is_none() {
            ctx.node.next_conn += 1;
            let id = ctx.node.next_conn;
            ctx.node.conns.insert(id, (cluster, node));
            let opened_at = ctx.now.mono_ns;
            peer.conn =
                Some(OutConn { id, open: false, opened_at, pings: 0, framer: Framer::default() });
            peer.buf.clear();
            ctx.out.push(Effect::Connect {
                conn: ConnId::Outgoing(id),
                peer: peer.cfg.address,
                local_ip,
            });
            let hello = hello(ctx, cluster, peer);
            peer.buf.extend_from_slice(&hello);
        }
        if peer.buf.len() + bytes.len() > PENDING_BYTES_MAX {
            peer.drop_log();
            return false;
        }
        peer.buf.extend_from_slice(bytes);
        if peer.buf.len() > FLUSH_BYTES {
            flush(peer, ctx.out);
        }
        true
    }

    /// Sends a trailer packet to a node, directly or through others. False if there is no path.
    pub(crate) fn route(&mut self, ctx: &mut Ctx<'_>, node: NodeId, bytes: &[u8]) -> bool {
        match self.next_hop(node) {
            Some(hop) => self.post(ctx, hop, bytes),
            None => false,
        }
    }

    pub(crate) fn send_tandem(&mut self, ctx: &mut Ctx<'_>, node: NodeId, packet: &Tandem) -> bool {
        match packet.encode(&self.trailer(node)) {
            Ok(bytes) => match self.next_hop(node) {
                Some(hop) => self.post(ctx, hop, &bytes),
                // A peer that is coming up is told on its own connection.
                None => self.post(ctx, node, &bytes),
            },
            Err(error) => {
                ctx.out.log(Level::Error, format!("packet for node {node} dropped: {error}"));
                false
            }
        }
    }

    pub(crate) fn send_internal(&mut self, ctx: &mut Ctx<'_>, node: NodeId, body: Body) -> bool {
        let packet = Internal { cluster: self.id, source: self.me, body };
        match packet.encode() {
            Ok(bytes) => self.post(ctx, node, &bytes),
            Err(error) => {
                ctx.out.log(Level::Error, format!("packet for node {node}: {error}"));
                false
            }
        }
    }

    pub(crate) fn send_ping(&mut self, ctx: &mut Ctx<'_>, node: NodeId, want_list: bool) {
        if !self.send_internal(ctx, node, Body::Ping { want_list }) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&node) else { return };
        match &mut peer.conn {
            Some(conn) if !conn.open => conn.pings += 1,
            _ => peer.pings.written(1),
        }
    }

    pub(crate) fn hello_to(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let cluster = self.id;
        let Some(peer) = self.peers.get(&node) else { return };
        let bytes = hello(ctx, cluster, peer);
        self.route(ctx, node, &bytes);
    }

    /// Writes what the step has left in the buffers.
    pub(crate) fn flush_all(&mut self, out: &mut Effects) {
        for peer in self.peers.values_mut() {
            flush(peer, out);
        }
    }

    /// The neighbour to send through; the node itself on a direct link. Breadth first; ties go
    /// to the lower priority value, then to the lower id.
    pub(crate) fn next_hop(&self, to: NodeId) -> Option<NodeId> {
        if self.peers.get(&to)?.link.is_up() {
            return Some(to);
        }
        if !self.cfg.rerouting {
            return None;
        }
        let rank = |id: &NodeId| (self.peers.get(id).map_or(0, |peer| peer.cfg.priority), *id);
        let mut seen: BTreeSet<NodeId> = self.neighbours().chain([self.me]).collect();
        let mut layer: Vec<(NodeId, NodeId)> = self.neighbours().map(|id| (id, id)).collect();
        layer.sort_by_key(|(_, id)| rank(id));
        while !layer.is_empty() {
            let mut next = Vec::new();
            for (hop, id) in layer {
                let Some(peer) = self.peers.get(&id) else { continue };
                if peer.neighbours.contains(&to) {
                    return Some(hop);
                }
                for &further in peer.neighbours.iter().filter(|id| self.peers.contains_key(id)) {
                    if seen.insert(further) {
                        next.push((hop, further));
                    }
                }
            }
            next.sort_by_key(|(_, id)| rank(id));
            layer = next;
        }
        None
    }

    /// Tells every neighbour but `about` that our link to it changed.
    pub(crate) fn announce_link(&mut self, ctx: &mut Ctx<'_>, about: NodeId, up: bool) {
        let others: Vec<_> = self.neighbours().filter(|&id| id != about).collect();
        if others.is_empty() {
            return;
        }
        self.ls_sequence = self.ls_sequence.saturating_add(1);
        let update = LinkStateUpdate {
            sequence: self.ls_sequence,
            timestamp: ctx.now.unix_s() as u32,
            neighbour: about,
            up,
            path: vec![self.me],
        };
        for id in others {
            self.send_internal(ctx, id, Body::LinkState(update.clone()));
        }
    }

    /// A link left the state UP: what was on the way is lost.
    pub(crate) fn link_lost(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.lost_at_unix_ms = Some(ctx.now.unix_ms);
            let since = peer.link.last_packet().unwrap_or(ctx.now.mono_ns);
            ctx.node.table.set_silent(self.id, node, since);
            peer.caps_are_old = true;
            peer.drop_log();
            if peer.bulk.repeats() {
                // What waited to be repeated has not arrived.
                let now = ctx.now.mono_ns;
                peer.replayed = peer.replayed.map(|(since, _)| (since, now));
            }
            peer.bulk.clear();
            // Bytes stuck in a dead connection must not arrive after a heal.
            close(peer, ctx);
        }
        self.announce_link(ctx, node, false);
        self.refresh_reachable(ctx);
    }

    /// The outgoing connection is gone, or never came to be.
    pub(crate) fn conn_lost(&mut self, ctx: &mut Ctx<'_>, node: NodeId, failed: bool) {
        let times = self.times;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let Some(conn) = peer.conn.take() else { return };
        ctx.node.conns.remove(&conn.id);
        peer.buf.clear();
        peer.drop_log();
        let flapping = ctx.now.mono_ns.saturating_sub(conn.opened_at) < self.tick_ns;
        if !failed && !flapping && peer.link.is_up() {
            // Idle or restarted: a fresh connection tells, at once.
            peer.compare_soon(ctx.now.mono_ns, true);
            peer.link.on_own_ping(ctx.now.mono_ns);
            let stock = peer.kind == Kind::Stock;
            self.send_ping(ctx, node, false);
            if stock {
                self.catch_up_with_stock(ctx, node, ctx.now.unix_ms);
                self.announce_to_stock(ctx, node);
            }
            return;
        }
        if failed || flapping {
            let times = peer.times(&times);
            if peer.link.on_send_failed(&times) {
                self.link_lost(ctx, node);
            }
        }
    }

    /// Recomputes who can be reached, and reports what changed.
    pub(crate) fn refresh_reachable(&mut self, ctx: &mut Ctx<'_>) {
        let now_reachable: Vec<(NodeId, bool)> =
            self.peers.keys().map(|&id| (id, self.next_hop(id).is_some())).collect();
        for (id, reachable) in now_reachable {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            if peer.reachable == reachable {
                continue;
            }
            peer.reachable = reachable;
            ctx.out.push(Effect::NodeState { cluster: self.id, node: id, up: reachable });
            if reachable {
                self.node_up(ctx, id);
            } else {
                self.node_down(ctx, id);
            }
        }
        self.publish(ctx);
    }

    fn node_up(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let direct = self.next_hop(node) == Some(node);
        let is_tandem = self.peers.get(&node).is_some_and(|peer| peer.kind == Kind::Tandem);
        if !direct || is_tandem {
            // The stream may have outlived the cut, and our addresses have moved meanwhile.
            self.hello_to(ctx, node);
        }
        let unproven = self.peers.get_mut(&node).filter(|p| p.kind == Kind::Unproven);
        if let Some(peer) = unproven.filter(|_| !direct) {
            let at = ctx.now.mono_ns.saturating_add(crate::peer::ASSUME_STOCK_NS);
            peer.assume_stock_at = Some(at);
        }
        self.answer_parked(ctx, node);
        self.retry_pending(ctx);
        self.greet(ctx, node);
        // Its word about its addresses may have come before the link was up.
        self.addresses_moved(ctx, Some(node));
    }

    fn node_down(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.drop_log();
            peer.lost_at_unix_ms = Some(ctx.now.unix_ms);
            let since = peer.link.last_packet().unwrap_or(ctx.now.mono_ns);
            ctx.node.table.set_silent(self.id, node, since);
            peer.caps_are_old = true;
            peer.assume_stock_at = None;
        }
        self.donor_lost(ctx, node);
        self.holder_lost(ctx, node);
    }

    /// A node that described itself, or was described by another.
    pub(crate) fn learn(&mut self, ctx: &mut Ctx<'_>, cfg: NodeConfig) {
        ctx.out.log(
            Level::Info,
            format!("cluster {}: learnt node {} at {}", self.id, cfg.node, cfg.url),
        );
        self.peers.insert(cfg.node, Peer::new(cfg, true));
    }

    /// Tells the table who is reachable, and who of them is synced.
    pub(crate) fn publish(&mut self, ctx: &mut Ctx<'_>) {
        let mut nodes: Vec<NodeId> =
            self.peers.iter().filter(|(_, p)| p.reachable).map(|(&id, _)| id).collect();
        if self.enabled {
            nodes.push(self.me);
        }
        nodes.sort_unstable();
        let synced = |id: NodeId, cap: &LocalCap| match self.peers.get(&id) {
            Some(peer) => peer.caps.get(&cap.name) == Some(&true),
            None => cap.ok,
        };
        let sharers = self.caps.iter().map(|cap| {
            let who = nodes.iter().copied().filter(|&id| synced(id, cap)).collect();
            (cap.text(), who)
        });
        let is_stock = |id: &NodeId| self.peers.get(id).is_some_and(|p| p.kind == Kind::Stock);
        let stock = nodes.iter().copied().filter(is_stock).collect();
        ctx.node.table.set_nodes(self.id, nodes.clone(), stock, sharers.collect());
    }
}

/// Closes the connection to a peer; what waited for it is dropped.
pub(crate) fn close(peer: &mut Peer, ctx: &mut Ctx<'_>) {
    if let Some(conn) = peer.conn.take() {
        ctx.node.conns.remove(&conn.id);
        ctx.out.push(Effect::Close { conn: ConnId::Outgoing(conn.id) });
    }
    peer.buf.clear();
}

pub(crate) fn flush(peer: &mut Peer, out: &mut Effects) {
    if let Some(conn) = peer.conn.as_ref().filter(|conn| conn.open)
        && !peer.buf.is_empty()
    {
        let bytes = peer.buf.split().freeze();
        out.push(Effect::Write { conn: ConnId::Outgoing(conn.id), bytes });
    }
}

fn hello(ctx: &Ctx<'_>, cluster: ClusterId, peer: &Peer) -> Bytes {
    let hello = Tandem::Hello(Hello {
        incarnation: ctx.node.incarnation,
        level_min: LEVEL_MIN,
        level_max: LEVEL_MAX,
        clock_unix_ms: ctx.now.unix_ms,
        addresses: ctx.node.addresses.clone(),
        next_number: peer.next_number,
        nonce_key: ctx.node.nonce_key.clone(),
        node_key: ctx.node.node_key.clone(),
    });
    let trailer = Trailer::new(cluster, ctx.node.me, peer.cfg.node);
    // At most 64 addresses: it always fits.
    hello.encode(&trailer).unwrap_or_default()
}

/// The heartbeat: the greatest common divisor of the intervals, at least 50 ms.
fn tick_ns(times: &LinkTimes) -> u64 {
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    gcd(gcd(times.ping_interval_ns, times.ping_timeout_ns), times.node_timeout_ns).max(50 * MS)
}

/// Bytes that may wait for a connection that is being opened.
const PENDING_BYTES_MAX: usize = 4 << 20;
/// Bytes that are written without waiting for the end of the batch.
const FLUSH_BYTES: usize = 64 << 10;
