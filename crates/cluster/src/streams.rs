//! Streams and the packets that come on them: framing, limits, who may send.

use crate::cluster::{Cluster, Ctx, flush};
use crate::clusterer::Clusterer;
use crate::effects::{ConnId, Effect, Effects, Level};
use crate::link::LinkState;
use crate::links::Origin;
use crate::peer::{Kind, Peer, Seen};
use crate::wire::{Hello, TANDEM, Tandem};
use bytes::Bytes;
use std::net::IpAddr;
use tandem_bin::clusterer::{EXTRA, INTERNAL, Internal};
use tandem_bin::{ClusterId, Framer, NodeId, Packet, Trailer};
use tandem_clock::{Mono, Now, SEC};

/// A stream that a peer opened.
#[derive(Debug)]
pub(crate) struct Accepted {
    ip: IpAddr,
    framer: Framer,
    /// `None` before the first packet; then whether it was a HELLO.
    hello_first: Option<bool>,
    /// The HELLO of a node that was unknown when it came.
    early: Option<(ClusterId, NodeId, Hello)>,
    /// Since when a whole packet is awaited: of a stranger always, of a node while a packet is
    /// incomplete.
    waits_since: Mono,
    /// When it last brought something after a silence.
    awoke_at: Mono,
}

/// Streams that peers may have open, in all and from one address that is no node's.
const ACCEPTED_MAX: usize = 1024;
const ACCEPTED_OF_STRANGER_MAX: usize = 16;
/// And from the address of a node: workers of stock nodes may open one each.
const ACCEPTED_OF_NODE_MAX: usize = 256;
/// How long a packet may take to arrive whole. The field allows 32 reads.
const DRIP_NS: u64 = 10 * SEC;
/// What a stream brings after such a silence may have been on its way for as long.
const SILENCE_NS: u64 = 2 * SEC;
/// Stock nodes close streams that were at rest for twice as long.
const REST_NS: u64 = 60 * SEC;
/// A stock node is asked again for everything after this at the earliest.
const AGAIN_NS: u64 = 10 * SEC;
/// The only capability whose packets cross bridges between clusters.
const BRIDGED: &[u8] = b"ratelimit-pipe-repl";
/// The only packet type that comes over a bridge; the others are for the nodes of one cluster.
const BRIDGED_EDGE: u32 = 10;

impl Clusterer {
    /// A peer opened a stream; `conn` is the caller's number for it.
    pub fn handle_accepted(&mut self, now: Now, conn: ConnId, ip: IpAddr, out: &mut Effects) {
        let ConnId::Accepted(id) = conn else { return };
        let is_node = self.is_node(ip);
        let of_ip = self.accepted.values().filter(|stream| stream.ip == ip).count();
        if is_node && self.accepted.len() >= ACCEPTED_MAX {
            self.make_room(out);
        }
        let most = if is_node { ACCEPTED_OF_NODE_MAX } else { ACCEPTED_OF_STRANGER_MAX };
        if of_ip >= most || self.accepted.len() >= ACCEPTED_MAX {
            let text = || format!("BIN connection from {ip} refused: {of_ip} are open");
            self.shared.complaints.add(now, Level::Warning, out, text);
            out.push(Effect::Close { conn });
            return;
        }
        let framer = Framer::default();
        let waits_since = now.mono_ns;
        let (hello_first, early, awoke_at) = (None, None, 0);
        let stream = Accepted { ip, framer, hello_first, early, waits_since, awoke_at };
        self.accepted.insert(id, stream);
    }

    fn is_node(&self, ip: IpAddr) -> bool {
        let mut peers = self.clusters.values().flat_map(|c| c.peers.values());
        peers.any(|peer| peer.cfg.address.ip() == ip)
    }

    /// Nodes come before strangers: the oldest stream of a stranger is closed.
    fn make_room(&mut self, out: &mut Effects) {
        let oldest = self.accepted.iter().find(|(_, stream)| !self.is_node(stream.ip));
        if let Some(id) = oldest.map(|(&id, _)| id) {
            self.accepted.remove(&id);
            out.push(Effect::Close { conn: ConnId::Accepted(id) });
        }
    }

    /// Closes streams on which a packet does not arrive whole in time.
    pub(crate) fn close_drips(&mut self, now: Now, out: &mut Effects) {
        let late = |s: &Accepted| {
            let is_due = now.mono_ns.saturating_sub(s.waits_since) >= DRIP_NS;
            is_due && (s.framer.pending_bytes() > 0 || !self.is_node(s.ip))
        };
        let late: Vec<_> =
            self.accepted.iter().filter(|(_, s)| late(s)).map(|(&id, s)| (id, s.ip)).collect();
        for (id, ip) in late {
            let text = || format!("BIN connection of {ip} closed: no whole packet in 10 s");
            self.shared.complaints.add(now, Level::Warning, out, text);
            let conn = ConnId::Accepted(id);
            out.push(Effect::Close { conn });
            self.handle_closed(now, conn, out);
        }
    }

    pub fn handle_connected(&mut self, _now: Now, conn: ConnId, out: &mut Effects) {
        if self.bridge_connected(conn, out) {
            return;
        }
        let Some((cluster, node)) = self.owner(conn) else { return };
        let peer = self.clusters.get_mut(&cluster).and_then(|c| c.peers.get_mut(&node));
        let Some(peer) = peer else { return };
        if let Some(conn) = &mut peer.conn {
            conn.open = true;
            peer.pings.written(std::mem::take(&mut conn.pings));
        }
        flush(peer, out);
    }

    pub fn handle_connect_failed(&mut self, now: Now, conn: ConnId, out: &mut Effects) {
        self.lost(now, conn, true, out);
    }

    pub fn handle_closed(&mut self, now: Now, conn: ConnId, out: &mut Effects) {
        if let ConnId::Accepted(id) = conn
            && let Some(gone) = self.accepted.remove(&id)
        {
            self.told_in_vain(now, &gone, out);
        }
        self.lost(now, conn, false, out);
    }

    /// A stream on which a stock node spoke is over, and what it said last may be lost: changes,
    /// or that it took a tag, which it says once. It is asked for everything, and hears again of
    /// what we hold, so that never two do. Streams that were at rest end all the time.
    fn told_in_vain(&mut self, now: Now, gone: &Accepted, out: &mut Effects) {
        let rested = now.mono_ns.saturating_sub(gone.waits_since) >= REST_NS;
        if rested || gone.hello_first.is_none() {
            return;
        }
        self.each(now, out, |c, ctx| {
            let spoke = |p: &Peer| p.kind == Kind::Stock && p.cfg.address.ip() == gone.ip;
            let nodes = c.peers.iter().filter(|(_, p)| spoke(p) && p.link.is_up());
            for node in nodes.map(|(&id, _)| id).collect::<Vec<_>>() {
                let asked = c.peers.get(&node).and_then(|p| p.replayed).map(|(_, at)| at);
                if asked.is_none_or(|at| now.mono_ns.saturating_sub(at) >= AGAIN_NS) {
                    c.catch_up_with_stock(ctx, node, now.unix_ms);
                }
                c.announce_to_stock(ctx, node);
            }
        });
    }

    fn lost(&mut self, now: Now, conn: ConnId, failed: bool, out: &mut Effects) {
        if self.bridge_lost(conn, out) {
            return;
        }
        let Some((cluster, node)) = self.owner(conn) else { return };
        self.within(now, out, cluster, |c, ctx| c.conn_lost(ctx, node, failed));
    }

    fn owner(&self, conn: ConnId) -> Option<(ClusterId, NodeId)> {
        match conn {
            ConnId::Outgoing(id) => self.shared.conns.get(&id).copied(),
            ConnId::Accepted(_) => None,
        }
    }

    /// Bytes of a stream, in order. What they deliver comes before the acknowledgement.
    pub fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8], out: &mut Effects) {
        if let ConnId::Accepted(id) = conn
            && !self.accepted.contains_key(&id)
        {
            // Accepted before this machine was there: what is said on it would never be heard.
            return out.push(Effect::Close { conn });
        }
        if let Some(framer) = self.framer(conn) {
            let begins = framer.pending_bytes() == 0;
            framer.push(bytes);
            self.heard(conn, now, begins);
        }
        loop {
            match self.framer(conn).map(Framer::next_frame) {
                Some(Ok(Some(frame))) => self.frame(now, conn, frame, out),
                Some(Err(error)) => {
                    let from = self.ip_of(conn);
                    let text = || format!("BIN connection of {from} closed: {error}");
                    self.shared.complaints.add(now, Level::Error, out, text);
                    out.push(Effect::Close { conn });
                    self.handle_closed(now, conn, out);
                    break;
                }
                Some(Ok(None)) | None => break,
            }
        }
        self.each(now, out, |c, ctx| c.send_acks(ctx));
    }

    /// A packet begins, or has come whole: the next one has its time.
    fn heard(&mut self, conn: ConnId, now: Now, begins: bool) {
        if let ConnId::Accepted(id) = conn
            && let Some(stream) = self.accepted.get_mut(&id).filter(|_| begins)
        {
            if now.mono_ns.saturating_sub(stream.waits_since) >= SILENCE_NS {
                stream.awoke_at = now.mono_ns;
            }
            stream.waits_since = now.mono_ns;
        }
    }

    /// Where a stream comes from or goes to, for a person.
    fn ip_of(&self, conn: ConnId) -> String {
        let ip = match conn {
            ConnId::Accepted(id) => self.accepted.get(&id).map(|stream| stream.ip),
            ConnId::Outgoing(_) => self.owner(conn).and_then(|(cluster, node)| {
                Some(self.clusters.get(&cluster)?.peers.get(&node)?.cfg.address.ip())
            }),
        };
        ip.map_or_else(|| "a closed connection".into(), |ip| ip.to_string())
    }

    fn framer(&mut self, conn: ConnId) -> Option<&mut Framer> {
        match conn {
            ConnId::Accepted(id) => self.accepted.get_mut(&id).map(|conn| &mut conn.framer),
            ConnId::Outgoing(id) => {
                let (cluster, node) = self.shared.conns.get(&id)?;
                let peer = self.clusters.get_mut(cluster)?.peers.get_mut(node)?;
                peer.conn.as_mut().filter(|conn| conn.id == id).map(|conn| &mut conn.framer)
            }
        }
    }

    fn frame(&mut self, now: Now, conn: ConnId, frame: Bytes, out: &mut Effects) {
        self.heard(conn, now, true);
        let packet = match Packet::decode(frame.clone()) {
            Ok(packet) => packet,
            Err(error) => {
                let from = self.ip_of(conn);
                let text = || format!("BIN packet of {from} dropped: {error}");
                self.shared.complaints.add(now, Level::Warning, out, text);
                return;
            }
        };
        let Some(origin) = self.origin(conn, &packet) else { return };
        match packet.trailer {
            None => self.internal(now, origin, &packet, out),
            Some(trailer) => self.routed(now, origin, &packet, trailer, &frame, out),
        }
    }

    /// Where a packet came from; notes what the first one of a stream was.
    fn origin(&mut self, conn: ConnId, packet: &Packet) -> Option<Origin> {
        let ConnId::Accepted(id) = conn else {
            let (cluster, node) = self.owner(conn)?;
            let peer = self.clusters.get(&cluster)?.peers.get(&node)?;
            let ip = peer.cfg.address.ip();
            return Some(Origin { conn, ip, without_hello: false, awoke_at: 0 });
        };
        let accepted = self.accepted.get_mut(&id)?;
        let is_hello = packet.capability.as_ref() == TANDEM && packet.packet_type == 1;
        let hello_first = *accepted.hello_first.get_or_insert(is_hello);
        if is_hello
            && let (Some(t), Ok(Tandem::Hello(hello))) =
                (packet.trailer, Tandem::decode(1, &packet.payload))
        {
            accepted.early = Some((t.cluster, t.source, hello));
        }
        let awoke_at = accepted.awoke_at;
        Some(Origin { conn, ip: accepted.ip, without_hello: !hello_first, awoke_at })
    }

    fn internal(&mut self, now: Now, origin: Origin, packet: &Packet, out: &mut Effects) {
        let ip = origin.ip;
        let Ok((cluster, source)) = Internal::origin(&packet.payload) else {
            let text = || format!("packet from {ip} dropped: it is cut short");
            return self.shared.complaints.add(now, Level::Warning, out, text);
        };
        if !self.clusters.contains_key(&cluster) {
            let text = || format!("packet from {ip} dropped: this node is in no cluster {cluster}");
            return self.shared.complaints.add(now, Level::Warning, out, text);
        }
        let early = match origin.conn {
            ConnId::Accepted(id) => self.accepted.get_mut(&id).and_then(|conn| conn.early.clone()),
            ConnId::Outgoing(_) => None,
        };
        self.within(now, out, cluster, |c, ctx| {
            // A node that was unknown when it said HELLO, and is known now.
            if let Some((_, _, hello)) = early.filter(|e| (e.0, e.1) == (cluster, source))
                && c.may_speak(source, origin.ip, true)
                && c.peers.get(&source).is_some_and(|peer| peer.hello.is_none())
            {
                c.on_hello(ctx, source, hello);
            }
            c.internal(ctx, origin, packet.packet_type, &packet.payload);
        });
    }

    fn routed(
        &mut self,
        now: Now,
        origin: Origin,
        packet: &Packet,
        trailer: Trailer,
        frame: &Bytes,
        out: &mut Effects,
    ) {
        if !self.clusters.contains_key(&trailer.cluster) {
            let (ip, cluster) = (origin.ip, trailer.cluster);
            let text = || format!("packet from {ip} dropped: this node is in no cluster {cluster}");
            return self.shared.complaints.add(now, Level::Warning, out, text);
        }
        if let Some(from) = trailer.bridge.filter(|from| !self.may_bridge(*from, origin.ip)) {
            let ip = origin.ip;
            let text = || format!("bridge packet from {ip} dropped: no node of cluster {from}");
            return self.shared.complaints.add(now, Level::Warning, out, text);
        }
        let life = match origin.conn {
            ConnId::Accepted(id) => self.accepted.get(&id).and_then(|s| s.early.as_ref()),
            ConnId::Outgoing(_) => None,
        };
        let life = life
            .filter(|(cluster, node, _)| (*cluster, *node) == (trailer.cluster, trailer.source));
        let life = life.map(|(.., hello)| hello.incarnation);
        self.within(now, out, trailer.cluster, |c, ctx| {
            let source = trailer.source;
            if trailer.bridge.is_some() {
                // It is not asked where it comes from, so it may carry nothing else.
                let is_bridged = packet.capability == BRIDGED && packet.packet_type == BRIDGED_EDGE;
                if c.enabled && is_bridged {
                    c.on_module_packet(ctx, source, packet);
                }
                return;
            }
            if !c.admits(ctx, source, origin.ip) {
                return;
            }
            if let Some(peer) = c.peers.get_mut(&source) {
                peer.awoke_at = match origin {
                    // Behind the answer on its own stream, a silence is just one.
                    _ if peer.read_on == Some(origin.conn) => 0,
                    // Another node passes it on, and has it from a stream of which we know nothing.
                    _ if peer.cfg.address.ip() != origin.ip => now.mono_ns,
                    _ => origin.awoke_at,
                };
            }
            c.passed_on(ctx, source, origin.ip);
            if trailer.destination != c.me {
                // Byte for byte; never back to where it comes from.
                let relays = c.cfg.rerouting || packet.capability != EXTRA;
                if trailer.destination != source && relays {
                    c.route(ctx, trailer.destination, frame);
                }
                return;
            }
            match packet.capability.as_ref() {
                TANDEM => c.on_tandem(ctx, (source, life), packet.packet_type, &packet.payload),
                EXTRA => c.on_extra(ctx, source, packet),
                INTERNAL => {}
                _ => c.on_module_packet(ctx, source, packet),
            }
        });
    }
}

impl Cluster {
    /// A packet that another node passes on shows that this one sees its source. To a node that was
    /// started again before it was missed a stock node tells its links in no other way.
    fn passed_on(&mut self, ctx: &mut Ctx<'_>, source: NodeId, by: IpAddr) {
        let is_news = |peer: &Peer| !peer.reachable && peer.cfg.address.ip() != by;
        if !self.cfg.rerouting || !self.peers.get(&source).is_some_and(is_news) {
            return;
        }
        // One that tells its links is believed that.
        let silent = |peer: &Peer| {
            peer.link.is_up() && (peer.top_seen, peer.ls_seen) == (Seen::NOTHING, Seen::NOTHING)
        };
        let by = self.peers.values_mut().find(|p| p.cfg.address.ip() == by && silent(p));
        if by.is_some_and(|by| by.neighbours.insert(source)) {
            self.refresh_reachable(ctx);
        }
    }

    /// Whether a packet with a trailer may come in; notes that its source lives.
    fn admits(&mut self, ctx: &mut Ctx<'_>, source: NodeId, ip: IpAddr) -> bool {
        if source == self.me {
            ctx.complain(Level::Error, || format!("{ip} uses our node id {source}"));
            return false;
        }
        if !self.enabled {
            return false;
        }
        if !self.may_speak(source, ip, false) {
            ctx.complain(Level::Warning, || format!("packet of node {source} from {ip} dropped"));
            return false;
        }
        if let Some(peer) = self.peers.get_mut(&source) {
            if peer.link.state() == LinkState::Down {
                peer.link.restart();
            }
            peer.link.on_packet(ctx.now.mono_ns);
        }
        true
    }
}
