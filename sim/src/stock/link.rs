//! The state machine of a link.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use tandem_bin::NodeId;
use tandem_bin::clusterer::Body;
use tandem_clock::{Mono, Now, SEC};

use super::Stock;
use super::sync::Part;
use super::topology::Seen;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    RestartPinging,
    Restarted,
    Up,
    Retrying,
    Down,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) state: LinkState,
    retries: u32,
    last_ping: Option<Mono>,
    last_pong: Option<Mono>,
    last_packet: Option<Mono>,
    /// The last packet with a trailer that went there directly; it postpones the next PING.
    pub(super) last_routed: Option<Mono>,
    pub(super) listed: Vec<NodeId>,
    pub(super) neighbours: BTreeSet<NodeId>,
    pub(super) ls_seen: Seen,
    pub(super) top_seen: Seen,
    pub(super) cap_seen: Seen,
    pub(super) caps: BTreeMap<Bytes, bool>,
    pub(super) is_reachable: bool,
    /// It asked for these syncs before it could be reached.
    pub(super) parked: Vec<Part>,
}

const PING_INTERVAL_NS: Mono = 4 * SEC;
const PING_TIMEOUT_NS: Mono = SEC;
const NODE_TIMEOUT_NS: Mono = 60 * SEC;
const RETRIES: u32 = 3;

impl Peer {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            state: LinkState::RestartPinging,
            retries: 0,
            last_ping: None,
            last_pong: None,
            last_packet: None,
            last_routed: None,
            listed: Vec::new(),
            neighbours: BTreeSet::new(),
            ls_seen: Seen::default(),
            top_seen: Seen::default(),
            cap_seen: Seen::default(),
            caps: BTreeMap::new(),
            is_reachable: false,
            parked: Vec::new(),
        }
    }

    fn is_timely(&self) -> bool {
        match (self.last_ping, self.last_pong) {
            (Some(ping), Some(pong)) => pong >= ping && pong - ping <= PING_TIMEOUT_NS,
            _ => false,
        }
    }
}

fn older(at: Option<Mono>, now: Mono, by: Mono) -> bool {
    at.is_none_or(|at| now.saturating_sub(at) >= by)
}

impl Stock {
    pub(super) fn tick_link(&mut self, at: Now, id: NodeId) {
        let now = at.mono_ns;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let due = older(peer.last_ping, now, PING_TIMEOUT_NS);
        let missed = due && !peer.is_timely();
        let quiet = older(peer.last_routed, now, PING_TIMEOUT_NS);
        let (ping, next) = match peer.state {
            LinkState::RestartPinging => (Some(true), LinkState::Restarted),
            LinkState::Restarted if missed => {
                peer.retries = RETRIES - 1;
                (Some(true), LinkState::Retrying)
            }
            LinkState::Up if missed && quiet => {
                peer.retries = RETRIES - 1;
                (Some(true), LinkState::Retrying)
            }
            LinkState::Retrying if missed && peer.retries == 0 => (None, LinkState::Down),
            LinkState::Retrying if missed => {
                peer.retries -= 1;
                (Some(true), LinkState::Retrying)
            }
            LinkState::Down if older(peer.last_ping, now, NODE_TIMEOUT_NS) => {
                (Some(true), LinkState::Restarted)
            }
            LinkState::Up
                if older(peer.last_ping, now, PING_INTERVAL_NS)
                    && older(peer.last_routed, now, PING_INTERVAL_NS) =>
            {
                (Some(false), LinkState::Up)
            }
            same => (None, same),
        };
        let was_up = peer.state == LinkState::Up;
        peer.state = next;
        if was_up && next != LinkState::Up {
            self.link_lost(at, id);
        }
        if let Some(want_list) = ping {
            self.ping(at, id, want_list);
        }
    }

    fn ping(&mut self, now: Now, id: NodeId, want_list: bool) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.last_ping = Some(now.mono_ns);
        }
        self.send_internal(now, id, Body::Ping { want_list });
    }

    fn link_lost(&mut self, now: Now, id: NodeId) {
        self.announce_link(now, id, false);
        self.refresh(now);
    }

    /// Another packet than a PING or a PONG came.
    pub(super) fn heard(&mut self, now: Now, id: NodeId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.last_packet = Some(now.mono_ns);
        }
    }

    pub(super) fn on_ping(&mut self, now: Now, id: NodeId, want_list: bool) {
        self.heard(now, id);
        let others = self.peers.keys().copied().filter(|&other| other != id);
        let nodes = if want_list { others.collect() } else { Vec::new() };
        self.send_internal(now, id, Body::Pong { nodes });
        let was_down = self.peers.get(&id).is_some_and(|p| p.state == LinkState::Down);
        if was_down {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.state = LinkState::Restarted;
            }
            self.ping(now, id, true);
        }
    }

    pub(super) fn on_pong(&mut self, now: Now, id: NodeId, nodes: Vec<NodeId>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let at = now.mono_ns;
        peer.last_pong = Some(at);
        if !nodes.is_empty() {
            peer.listed = nodes;
        }
        let just_pinged = !older(peer.last_ping, at, PING_TIMEOUT_NS);
        let waits = match peer.state {
            LinkState::Restarted | LinkState::Retrying => true,
            LinkState::RestartPinging | LinkState::Down => just_pinged,
            LinkState::Up => false,
        };
        let lives = peer.is_timely() || !older(peer.last_packet, at, PING_TIMEOUT_NS);
        if waits && lives {
            peer.state = LinkState::Up;
            self.link_up(now, id);
        }
    }

    fn link_up(&mut self, now: Now, id: NodeId) {
        self.announce_link(now, id, true);
        self.send_full_top(now, id);
        self.send_caps(now, id, true);
        self.refresh(now);
    }

    /// Who can be reached has changed, perhaps: events of nodes.
    pub(super) fn refresh(&mut self, now: Now) {
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        for id in ids {
            let reachable = self.next_hop(id).is_some();
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            let came = reachable && !peer.is_reachable;
            peer.is_reachable = reachable;
            if came {
                self.node_up(now, id);
            }
        }
    }

    fn node_up(&mut self, now: Now, id: NodeId) {
        let parked = self.peers.get_mut(&id).map(|p| std::mem::take(&mut p.parked));
        for part in parked.unwrap_or_default() {
            self.donate(now, part, id);
        }
        // `cluster_auto_sync`, on by default.
        if !self.tags.is_active {
            self.request_sync(now, Part::Calls);
        }
        self.sync_while_pending(now);
        if self.tags.tells(id) {
            self.announce_tag(now, id);
        }
    }
}
