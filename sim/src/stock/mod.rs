//! A stock node, written from the description of the wire alone: it shares the codec with the
//! production code and nothing else.
//!
//! It has the ways of the field: links whose PINGs traffic postpones, connections on demand and
//! several in parallel, packets handled out of their order, updates that lie about their number
//! of nodes, donors that answer although they are not synced, tags given up to whoever announces
//! them, no memory of what it missed.

mod calls;
mod contacts;
mod link;
mod sync;
mod tags;
mod targets;
mod topology;
mod transport;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use tandem_bin::clusterer::{Body, EXTRA, Extra, INTERNAL, Internal};
use tandem_bin::dialog::profiles;
use tandem_bin::{ClusterId, NodeId, Packet, Trailer};
use tandem_clock::{Chance, Mono, Now};
use tandem_cluster::ConnId;

pub(crate) use self::calls::Listed;
use self::contacts::Contacts;
pub(crate) use self::contacts::Resident;
use self::link::{LinkState, Peer};
use self::sync::{Capability, Part};
use self::tags::Tags;
use self::targets::Targets;
use self::transport::Conn;

/// The cluster of all scenarios.
const CLUSTER: ClusterId = 1;
/// The heartbeat: the greatest common divisor of the default intervals.
pub(crate) const TICK_NS: Mono = tandem_clock::SEC;

/// What the node asks of the world.
#[derive(Debug)]
pub(crate) enum Act {
    Connect { conn: ConnId, peer: SocketAddr },
    Write { conn: ConnId, bytes: Bytes },
    Close { conn: ConnId },
}

/// The node.
#[derive(Debug)]
pub(crate) struct Stock {
    me: NodeId,
    is_seed: bool,
    peers: BTreeMap<NodeId, Peer>,
    conns: BTreeMap<ConnId, Conn>,
    next_conn: u64,
    ls_sequence: i32,
    top_sequence: i32,
    cap_sequence: i32,
    caps: [Capability; 4],
    tags: Tags,
    contacts: Contacts,
    calls: calls::Calls,
    /// Where there are gateways.
    targets: Option<Targets>,
    dice: Chance,
    acts: Vec<Act>,
}

impl Stock {
    pub(crate) fn new(
        me: NodeId,
        is_seed: bool,
        peers: &[(NodeId, SocketAddr)],
        now: Now,
        dice: Chance,
        has_targets: bool,
    ) -> Self {
        let peer = |&(id, address): &(NodeId, SocketAddr)| (id, Peer::new(address));
        let mut stock = Self {
            me,
            is_seed,
            peers: peers.iter().filter(|(id, _)| *id != me).map(peer).collect(),
            conns: BTreeMap::new(),
            next_conn: 0,
            ls_sequence: -1,
            top_sequence: -1,
            cap_sequence: -1,
            caps: Default::default(),
            tags: Tags::default(),
            contacts: Contacts::default(),
            calls: calls::Calls::default(),
            targets: has_targets.then(Targets::new),
            dice,
            acts: Vec::new(),
        };
        stock.parts().iter().for_each(|part| stock.request_sync(now, *part));
        stock
    }

    pub(crate) fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    /// The heartbeat; residents register with this node when it is their time.
    pub(crate) fn tick(&mut self, now: Now, residents: &mut [Resident], is_calm: bool) {
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        for id in ids {
            self.tick_link(now, id);
        }
        self.tick_sync(now);
        self.contacts.expire(now.unix_s());
        for resident in residents.iter_mut() {
            for (kind, payload) in resident.live(now.unix_s(), &mut self.contacts, is_calm) {
                self.broadcast(now, Part::Contacts.named(), kind, &payload);
            }
        }
        for packet in self.calls.expire(now.unix_s(), self.tags.is_active) {
            if let Ok(payload) = packet.encode() {
                self.broadcast(now, Part::Calls.named(), packet.packet_type(), &payload);
            }
        }
        if let Ok(payload) = profiles::encode(&self.calls.counters(self.tags.is_active)) {
            let named = (profiles::CAPABILITY, profiles::VERSION);
            self.broadcast(now, named, profiles::COUNTERS, &payload);
        }
        self.close_idle(now);
    }

    /// Active for the tag, and the nodes whose links are up.
    pub(crate) fn is_active(&self) -> bool {
        self.tags.is_active
    }

    pub(crate) fn linked(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.iter().filter(|(_, p)| p.state == LinkState::Up).map(|(&id, _)| id)
    }

    /// AoR and URI of every contact that has not expired, with Call-ID and CSeq.
    pub(crate) fn listed(&self, unix_s: u64) -> BTreeMap<(String, String), (String, u64)> {
        self.contacts.listed(unix_s)
    }

    /// Every call it knows, by Call-ID.
    pub(crate) fn calls(&self) -> BTreeMap<String, Listed> {
        self.calls.listed()
    }

    /// A packet, in whatever order the workers take it.
    pub(crate) fn packet(&mut self, now: Now, conn: ConnId, frame: &Bytes) {
        let Ok(packet) = Packet::decode(frame.clone()) else { return };
        let Some(ip) = self.conns.get(&conn).map(|c| c.ip) else { return };
        let knows = self.peers.values().any(|peer| peer.address.ip() == ip);
        if packet.capability == INTERNAL {
            let Ok(packet) = Internal::decode(packet.packet_type, &packet.payload) else { return };
            let is_peer = self.peers.contains_key(&packet.source);
            if packet.cluster == CLUSTER && packet.source != self.me && is_peer && knows {
                self.internal(now, packet);
            }
            return;
        }
        let Some(trailer) = packet.trailer else { return };
        let is_peer = self.peers.contains_key(&trailer.source);
        if trailer.cluster != CLUSTER || trailer.source == self.me || !is_peer || !knows {
            return;
        }
        self.heard(now, trailer.source);
        let source = self.peers.get_mut(&trailer.source);
        if let Some(peer) = source.filter(|p| p.state == LinkState::Down) {
            peer.state = LinkState::RestartPinging;
        }
        if trailer.destination != self.me {
            self.route(now, trailer.destination, frame);
        } else if packet.capability == EXTRA {
            let extra = Extra::decode(packet.packet_type, packet.version, &packet.payload);
            if let Ok(extra) = extra {
                self.extra(now, trailer.source, extra);
            }
        } else if let Some(part) = self.part(&packet.capability) {
            self.module_packet(part, packet);
        }
    }

    fn internal(&mut self, now: Now, packet: Internal) {
        let source = packet.source;
        match packet.body {
            Body::Ping { want_list } => self.on_ping(now, source, want_list),
            Body::Pong { nodes } => self.on_pong(now, source, nodes),
            other => {
                self.heard(now, source);
                match other {
                    Body::LinkState(update) => self.on_link_state(now, source, update),
                    Body::FullTop(update) => self.on_full_top(now, source, update),
                    Body::Capabilities(update) => self.on_cap_update(now, source, update),
                    // The list of nodes comes from the database.
                    _ => {}
                }
            }
        }
    }

    fn extra(&mut self, now: Now, source: NodeId, extra: Extra) {
        match extra {
            Extra::SyncReq { capability } => self.on_sync_req(now, source, &capability),
            Extra::Sync(sync) => self.on_sync(now, sync),
            Extra::SyncEnd(end) => self.on_sync_end(now, &end),
            Extra::ShtagActive { tag } => self.tags.on_announced(&tag),
            Extra::RemoveNode { .. } | Extra::Generic(_) | Extra::Mi(_) => {}
        }
    }

    /// One copy for every known node that can be reached.
    fn broadcast(
        &mut self,
        now: Now,
        (name, version): (&'static [u8], u16),
        packet_type: u32,
        payload: &Bytes,
    ) {
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        for id in ids {
            let packet = Packet {
                capability: Bytes::from_static(name),
                packet_type,
                version,
                payload: payload.clone(),
                trailer: Some(self.trailer(id)),
            };
            if let Ok(bytes) = packet.encode() {
                self.route(now, id, &bytes);
            }
        }
    }

    fn trailer(&self, to: NodeId) -> Trailer {
        Trailer::new(CLUSTER, self.me, to)
    }
}
