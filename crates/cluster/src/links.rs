//! Heartbeats and the packets of `clusterer-internal`.

use crate::cluster::{Cluster, Ctx, close};
use crate::config::NodeConfig;
use crate::effects::{ConnId, Effect, Level};
use crate::link::LinkState;
use crate::peer::Kind;
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use tandem_bin::NodeId;
use tandem_bin::clusterer::{
    Body, CapUpdate, Description, FullTopUpdate, Internal, LinkStateUpdate, NODES_MAX, NodeBlock,
    NodeDescription, PATH_MAX,
};
use tandem_clock::Mono;

/// Where a packet came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) conn: ConnId,
    pub(crate) ip: IpAddr,
    /// The first packet of the connection was not a HELLO.
    pub(crate) without_hello: bool,
    /// When the connection last brought something after a silence.
    pub(crate) awoke_at: Mono,
}

impl Cluster {
    /// The heartbeat of every link.
    pub(crate) fn tick(&mut self, ctx: &mut Ctx<'_>) {
        if !self.enabled {
            return;
        }
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            let times = self.times;
            let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.cfg.enabled) else {
                continue;
            };
            let times = peer.times(&times);
            let probing = !matches!(peer.link.state(), LinkState::Up | LinkState::RestartPinging);
            let tick = peer.link.tick(ctx.now.mono_ns, &times);
            let given_up = peer.link.state() == LinkState::Down;
            let tries = tick.ping.is_some() || given_up;
            if probing && tries && peer.conn.as_ref().is_some_and(|c| c.is_old(ctx.now.mono_ns)) {
                // Nobody answers on this connection; it may be half dead. Probe with a new one. A
                // young one may lack a segment, or its handshake: TCP repeats it in time.
                close(peer, ctx);
            }
            if tick.ping == Some(false) && peer.kind != Kind::Tandem {
                peer.pings.are_over();
            }
            if tick.lost {
                self.link_lost(ctx, id);
            }
            if let Some(want_list) = tick.ping {
                self.send_ping(ctx, id, want_list);
            }
        }
    }

    /// A packet of `clusterer-internal`.
    pub(crate) fn internal(&mut self, ctx: &mut Ctx<'_>, from: Origin, kind: u32, body: &Bytes) {
        let packet = match Internal::decode(kind, body) {
            Ok(packet) => packet,
            Err(error) => {
                ctx.complain(Level::Warning, || {
                    format!("packet from {} dropped: {error}", from.ip)
                });
                return;
            }
        };
        let source = packet.source;
        if source == self.me {
            let id = self.id;
            let text = || format!("{} uses our node id {source} in cluster {id}", from.ip);
            ctx.complain(Level::Error, text);
            return;
        }
        if !self.enabled {
            return;
        }
        if !self.peers.contains_key(&source) {
            self.stranger(ctx, from, packet);
            return;
        }
        let hop_by_hop =
            matches!(packet.body, Body::Ping { .. } | Body::Pong { .. } | Body::UnknownId);
        if !self.may_speak(source, from.ip, hop_by_hop) {
            let ip = from.ip;
            ctx.complain(Level::Warning, || format!("packet of node {source} from {ip} dropped"));
            return;
        }
        if hop_by_hop {
            if from.without_hello {
                self.proven_stock(ctx, source);
            }
            self.on_neighbour(ctx, source, from.conn, &packet.body);
            return;
        }
        if let Some(peer) = self.peers.get_mut(&source) {
            peer.link.on_packet(ctx.now.mono_ns);
        }
        match packet.body {
            Body::LinkState(update) => self.on_link_state(ctx, source, update),
            Body::FullTop(update) => self.on_full_top(ctx, source, update),
            Body::Capabilities(update) => self.on_cap_update(ctx, source, update),
            // Described already: dropped, not flooded.
            _ => {}
        }
    }

    /// Only the addresses of nodes may speak: of the very node for hop-by-hop packets, of some
    /// enabled node for what is flooded and relayed.
    pub(crate) fn may_speak(&self, source: NodeId, ip: IpAddr, hop_by_hop: bool) -> bool {
        let Some(peer) = self.peers.get(&source) else { return false };
        let is_from = |cfg: &NodeConfig| cfg.enabled && cfg.address.ip() == ip;
        peer.cfg.enabled
            && (is_from(&peer.cfg)
                || !hop_by_hop && self.peers.values().any(|peer| is_from(&peer.cfg)))
    }

    fn on_neighbour(&mut self, ctx: &mut Ctx<'_>, source: NodeId, conn: ConnId, body: &Body) {
        let times = self.times;
        let now = ctx.now.mono_ns;
        let Some(peer) = self.peers.get_mut(&source) else { return };
        match body {
            Body::Ping { want_list } => {
                peer.link.on_packet(now);
                let ping = peer.link.on_ping(now, peer.kind == Kind::Tandem);
                let others = self.peers.keys().copied().filter(|&id| id != source);
                let nodes = if *want_list { others.collect() } else { Vec::new() };
                self.send_internal(ctx, source, Body::Pong { nodes });
                if ping {
                    self.send_ping(ctx, source, true);
                }
            }
            Body::Pong { nodes } => {
                let times = peer.times(&times);
                // An empty list is a list too: a restarted node has to be told everything again.
                if peer.link.asked_list() || !nodes.is_empty() {
                    peer.listed.clone_from(nodes);
                }
                peer.crossed(now, conn);
                if peer.link.on_pong(now, &times) {
                    peer.up_at = now;
                    self.link_up(ctx, source);
                }
            }
            Body::UnknownId => {
                let description = description(&self.cfg.own);
                let restarted = peer.link.restart();
                let path = vec![self.me];
                // First what is on the way is given up, then the answer leaves.
                if restarted {
                    self.link_lost(ctx, source);
                }
                let body = Body::Description(NodeDescription { description, path });
                self.send_internal(ctx, source, body);
            }
            _ => {}
        }
    }

    fn link_up(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        self.announce_link(ctx, node, true);
        self.send_full_top(ctx, node);
        self.send_caps(ctx, node, true);
        let was_reachable = self.peers.get(&node).is_some_and(|peer| peer.reachable);
        self.refresh_reachable(ctx);
        if was_reachable {
            self.greet(ctx, node);
        }
    }

    fn send_full_top(&mut self, ctx: &mut Ctx<'_>, to: NodeId) {
        let listed = self.peers.get(&to).map(|peer| peer.listed.clone()).unwrap_or_default();
        let mut nodes = vec![NodeBlock {
            node: self.me,
            description: None,
            ls_sequence: self.ls_sequence,
            ls_timestamp: if self.ls_sequence < 0 { 0 } else { ctx.now.unix_s() as u32 },
            neighbours: self.neighbours().collect(),
        }];
        for (&id, peer) in self.peers.iter().filter(|&(&id, _)| id != to) {
            let neighbours = peer.neighbours.iter().copied().filter(|&n| n != self.me);
            nodes.push(NodeBlock {
                node: id,
                description: (!listed.contains(&id)).then(|| description(&peer.cfg)),
                ls_sequence: peer.ls_seen.sequence,
                ls_timestamp: peer.ls_seen.timestamp,
                neighbours: neighbours.collect(),
            });
        }
        self.top_sequence = self.top_sequence.saturating_add(1);
        let update = FullTopUpdate {
            sequence: self.top_sequence,
            timestamp: ctx.now.unix_s() as u32,
            nodes,
            path: vec![self.me],
        };
        self.send_internal(ctx, to, Body::FullTop(update));
    }

    fn on_link_state(&mut self, ctx: &mut Ctx<'_>, source: NodeId, update: LinkStateUpdate) {
        let Some(peer) = self.peers.get_mut(&source) else { return };
        if !peer.ls_seen.accept(update.sequence, update.timestamp) {
            return;
        }
        if update.neighbour == self.me {
            let up = peer.link.is_up();
            let contradicts = match update.up {
                true => peer.link.state() == LinkState::Down,
                false => up,
            };
            if contradicts && peer.link.restart() {
                self.link_lost(ctx, source);
            }
        } else if !update.up {
            peer.neighbours.remove(&update.neighbour);
        } else if peer.neighbours.len() <= NODES_MAX {
            peer.neighbours.insert(update.neighbour);
        }
        self.refresh_reachable(ctx);
        let path = update.path.clone();
        self.flood(ctx, source, &path, |path| Body::LinkState(LinkStateUpdate { path, ..update }));
    }

    fn on_full_top(&mut self, ctx: &mut Ctx<'_>, source: NodeId, update: FullTopUpdate) {
        let Some(peer) = self.peers.get_mut(&source) else { return };
        if !peer.top_seen.accept(update.sequence, update.timestamp) {
            return;
        }
        let own = update.nodes.first().filter(|block| block.node == source);
        let seen_by_source = own.map(|block| block.neighbours.clone()).unwrap_or_default();
        for (i, block) in update.nodes.iter().enumerate() {
            if block.node == self.me || (i == 0 && block.node != source) {
                continue;
            }
            if self.on_block(ctx, block, i == 0) && seen_by_source.contains(&block.node) {
                // The source leaves itself out of the lists of others, whoever sees whom. A node
                // that has just started hears of the link from nobody else, and of its end from
                // that node.
                let third = self.peers.get_mut(&block.node).filter(|_| i > 0);
                third.map(|third| third.neighbours.insert(source));
            }
        }
        self.refresh_reachable(ctx);
        let path = update.path.clone();
        self.flood(ctx, source, &path, |path| Body::FullTop(FullTopUpdate { path, ..update }));
    }

    /// True if what is said of the node was news.
    fn on_block(&mut self, ctx: &mut Ctx<'_>, block: &NodeBlock, first: bool) -> bool {
        if !self.peers.contains_key(&block.node) {
            let Some(d) = &block.description else { return false };
            if let Some(cfg) = self.learnable(ctx, block.node, d, None) {
                self.learn(ctx, cfg);
            }
        }
        let Some(peer) = self.peers.get_mut(&block.node) else { return false };
        if !first && !peer.ls_seen.accept(block.ls_sequence, block.ls_timestamp) {
            return false;
        }
        peer.neighbours = block.neighbours.iter().copied().collect();
        let sees_me = peer.neighbours.remove(&self.me);
        if sees_me && peer.link.state() == LinkState::Down {
            peer.link.restart();
        }
        true
    }

    /// Passes a packet of `source` on to the neighbours that it has not visited.
    pub(crate) fn flood(
        &mut self,
        ctx: &mut Ctx<'_>,
        source: NodeId,
        path: &[NodeId],
        body: impl FnOnce(Vec<NodeId>) -> Body,
    ) {
        let next: Vec<_> =
            self.neighbours().filter(|id| !path.contains(id) && *id != source).collect();
        if path.len() > PATH_MAX || next.is_empty() {
            return;
        }
        let mut longer = path.to_vec();
        longer.push(self.me);
        let packet = Internal { cluster: self.id, source, body: body(longer) };
        if let Ok(bytes) = packet.encode() {
            for id in next {
                self.post(ctx, id, &bytes);
            }
        }
    }

    /// A packet of a node id that we do not know.
    fn stranger(&mut self, ctx: &mut Ctx<'_>, from: Origin, packet: Internal) {
        if self.cfg.db_mode || !self.cfg.discovery {
            let source = packet.source;
            ctx.complain(Level::Info, || format!("unknown node {source} at {} ignored", from.ip));
            return;
        }
        match packet.body {
            Body::Ping { .. } => {
                let reply = Internal { cluster: self.id, source: self.me, body: Body::UnknownId };
                if let Ok(bytes) = reply.encode() {
                    ctx.out.push(Effect::Write { conn: from.conn, bytes });
                }
            }
            Body::Description(d) => {
                // It describes itself, or a known node passes its description on.
                let flooded = d.path.len() > 1;
                let by_node = self.peers.values().any(|peer| peer.cfg.address.ip() == from.ip);
                if flooded && !by_node {
                    return;
                }
                let ip = (!flooded).then_some(from.ip);
                let Some(cfg) = self.learnable(ctx, packet.source, &d.description, ip) else {
                    return;
                };
                self.learn(ctx, cfg);
                let path = d.path.clone();
                let source = packet.source;
                self.flood(ctx, source, &path, |path| {
                    Body::Description(NodeDescription { path, ..d })
                });
            }
            _ => {}
        }
    }

    fn learnable(
        &self,
        ctx: &mut Ctx<'_>,
        node: NodeId,
        d: &Description,
        ip: Option<IpAddr>,
    ) -> Option<NodeConfig> {
        let room = self.peers.len() < NODES_MAX;
        if node == 0 || node == self.me || !room || self.cfg.db_mode || !self.cfg.discovery {
            return None;
        }
        let url = std::str::from_utf8(&d.url).ok()?;
        let Some(address) = address_of(url, ip) else {
            let text =
                || format!("node {node}: the URL {url} has no IP address; configure the node");
            ctx.complain(Level::Warning, text);
            return None;
        };
        Some(NodeConfig {
            url: url.to_owned(),
            sip_addr: String::from_utf8_lossy(&d.sip_addr).into_owned(),
            priority: d.priority,
            ping_retries: u32::try_from(d.ping_retries).unwrap_or(0).min(RETRIES_MAX),
            ..NodeConfig::new(node, address)
        })
    }

    /// Capabilities of this node and of third nodes, for `to`.
    pub(crate) fn send_caps(&mut self, ctx: &mut Ctx<'_>, to: NodeId, require_reply: bool) {
        let mut nodes = vec![self.own_cap_node()];
        for (&id, peer) in self.peers.iter().filter(|&(&id, p)| id != to && !p.caps.is_empty()) {
            let capabilities = peer.caps.iter().map(|(name, &ok)| (name.clone(), ok)).collect();
            nodes.push(tandem_bin::clusterer::CapNode { node: id, capabilities });
        }
        let update = self.cap_update(ctx, nodes, require_reply);
        self.send_internal(ctx, to, Body::Capabilities(update));
    }

    pub(crate) fn cap_update(
        &mut self,
        ctx: &Ctx<'_>,
        nodes: Vec<tandem_bin::clusterer::CapNode>,
        require_reply: bool,
    ) -> CapUpdate {
        self.cap_sequence = self.cap_sequence.saturating_add(1);
        CapUpdate {
            sequence: self.cap_sequence,
            timestamp: ctx.now.unix_s() as u32,
            nodes,
            require_reply,
            path: vec![self.me],
            intact: true,
        }
    }
}

fn description(cfg: &NodeConfig) -> Description {
    Description {
        url: Bytes::copy_from_slice(cfg.url.as_bytes()),
        sip_addr: Bytes::copy_from_slice(cfg.sip_addr.as_bytes()),
        priority: cfg.priority,
        ping_retries: i32::try_from(cfg.ping_retries).unwrap_or(i32::MAX),
    }
}

/// The socket address of a node URL with an IP address; a name counts as `ip`, if known.
fn address_of(url: &str, ip: Option<IpAddr>) -> Option<SocketAddr> {
    let (rest, default_port) = match (url.strip_prefix("bins:"), url.strip_prefix("bin:")) {
        (Some(rest), _) => (rest, 5556),
        (_, Some(rest)) => (rest, 5555),
        _ => (url, 5555),
    };
    if let Ok(address) = rest.parse::<SocketAddr>() {
        return Some(address);
    }
    let bare = rest.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, default_port));
    }
    let port = match rest.rsplit_once(':') {
        Some((_, port)) => port.parse().ok()?,
        None => default_port,
    };
    ip.map(|ip| SocketAddr::new(ip, port))
}

/// PING retries that a node may describe itself with.
const RETRIES_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_urls_have_default_ports_and_names_count_as_their_sender() {
        let read = |url| address_of(url, Some([9, 9, 9, 9].into())).map(|a| a.to_string());
        assert_eq!(read("bin:10.0.0.1:5566").as_deref(), Some("10.0.0.1:5566"));
        assert_eq!(read("bins:10.0.0.1").as_deref(), Some("10.0.0.1:5556"));
        assert_eq!(read("10.0.0.1").as_deref(), Some("10.0.0.1:5555"));
        assert_eq!(read("bin:[::1]:7").as_deref(), Some("[::1]:7"));
        assert_eq!(read("bin:[::1]").as_deref(), Some("[::1]:5555"));
        assert_eq!(read("bin:sip-b:5566").as_deref(), Some("9.9.9.9:5566"));
        assert_eq!(address_of("bin:sip-b:5566", None), None);
    }
}
