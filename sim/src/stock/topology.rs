//! Who sees whom, what it can do, and how packets find their way.

use std::collections::BTreeSet;

use bytes::Bytes;
use tandem_bin::NodeId;
use tandem_bin::clusterer::{
    Body, CapNode, CapUpdate, Description, FullTopUpdate, Internal, LinkStateUpdate, NodeBlock,
    PATH_MAX,
};
use tandem_clock::Now;

use super::link::LinkState;
use super::{CLUSTER, Stock};
use crate::options::Dice;

/// The last accepted sequence number and timestamp of one kind of update.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen(i32, u32);

impl Default for Seen {
    fn default() -> Self {
        Self(-1, 0)
    }
}

impl Seen {
    fn accept(&mut self, sequence: i32, timestamp: u32) -> bool {
        let newer = match sequence {
            0 => !(self.0 == 0 && timestamp <= self.1),
            s => s > self.0,
        };
        if newer {
            *self = Self(sequence, timestamp);
        }
        newer
    }
}

/// How often an update has a node more than it says, where there are third nodes.
const MALFORMED: f64 = 0.2;
/// Where a CAP_UPDATE has its number of nodes.
const CAP_NODES_AT: usize = 50;

impl Stock {
    pub(super) fn send_internal(&mut self, now: Now, to: NodeId, body: Body) {
        let packet = Internal { cluster: CLUSTER, source: self.me, body };
        if let Ok(bytes) = packet.encode() {
            self.post(now, to, &bytes);
        }
    }

    /// Sends a packet with a trailer on the way to a node; false if there is none.
    pub(super) fn route(&mut self, now: Now, to: NodeId, bytes: &Bytes) -> bool {
        let Some(hop) = self.next_hop(to) else { return false };
        if let Some(peer) = self.peers.get_mut(&hop) {
            peer.last_routed = Some(now.mono_ns);
        }
        self.post(now, hop, bytes);
        true
    }

    pub(super) fn next_hop(&self, to: NodeId) -> Option<NodeId> {
        let neighbours: Vec<NodeId> = self.linked().collect();
        if neighbours.contains(&to) {
            return Some(to);
        }
        let mut seen: BTreeSet<NodeId> = neighbours.iter().copied().chain([self.me]).collect();
        let mut layer: Vec<(NodeId, NodeId)> = neighbours.iter().map(|&n| (n, n)).collect();
        while !layer.is_empty() {
            let mut next = Vec::new();
            for (hop, id) in layer {
                let Some(peer) = self.peers.get(&id) else { continue };
                if peer.neighbours.contains(&to) {
                    return Some(hop);
                }
                next.extend(peer.neighbours.iter().filter(|n| seen.insert(**n)).map(|n| (hop, *n)));
            }
            layer = next;
        }
        None
    }

    pub(super) fn announce_link(&mut self, now: Now, about: NodeId, up: bool) {
        let others: Vec<NodeId> = self.linked().filter(|&id| id != about).collect();
        self.ls_sequence += 1;
        for id in others {
            let update = LinkStateUpdate {
                sequence: self.ls_sequence,
                timestamp: now.unix_s() as u32,
                neighbour: about,
                up,
                path: vec![self.me],
            };
            self.send_internal(now, id, Body::LinkState(update));
        }
    }

    pub(super) fn send_full_top(&mut self, now: Now, to: NodeId) {
        let listed = self.peers.get(&to).map(|p| p.listed.clone()).unwrap_or_default();
        let own = NodeBlock {
            node: self.me,
            description: None,
            ls_sequence: self.ls_sequence,
            ls_timestamp: now.unix_s() as u32,
            neighbours: self.linked().collect(),
        };
        let others = self.peers.iter().filter(|&(&id, _)| id != to).map(|(&id, p)| NodeBlock {
            node: id,
            description: (!listed.contains(&id)).then(|| Description {
                url: Bytes::from(format!("bin:{}", p.address)),
                sip_addr: Bytes::new(),
                priority: 50,
                ping_retries: 3,
            }),
            ls_sequence: -1,
            ls_timestamp: 0,
            neighbours: p.neighbours.iter().copied().collect(),
        });
        let nodes = [own].into_iter().chain(others).collect();
        self.top_sequence += 1;
        let (sequence, timestamp, path) = (self.top_sequence, now.unix_s() as u32, vec![self.me]);
        let update = FullTopUpdate { sequence, timestamp, nodes, path };
        self.send_internal(now, to, Body::FullTop(update));
    }

    pub(super) fn send_caps(&mut self, now: Now, to: NodeId, require_reply: bool) {
        let mut nodes = vec![CapNode { node: self.me, capabilities: self.own_caps() }];
        for (&id, peer) in self.peers.iter().filter(|&(&id, p)| id != to && !p.caps.is_empty()) {
            let capabilities = peer.caps.iter().map(|(name, ok)| (name.clone(), *ok)).collect();
            nodes.push(CapNode { node: id, capabilities });
        }
        let has_third = nodes.len() > 1;
        let update = self.cap_update(now, nodes, require_reply);
        let packet = Internal { cluster: CLUSTER, source: self.me, body: update };
        let Ok(bytes) = packet.encode() else { return };
        let mut bytes = bytes.to_vec();
        if has_third && self.dice.happens(MALFORMED) {
            // The nodes were counted before one more came to be known.
            if let Some(count) = bytes.get_mut(CAP_NODES_AT) {
                *count -= 1;
            }
        }
        self.post(now, to, &bytes);
    }

    pub(super) fn cap_update(
        &mut self,
        now: Now,
        nodes: Vec<CapNode>,
        require_reply: bool,
    ) -> Body {
        self.cap_sequence += 1;
        Body::Capabilities(CapUpdate {
            sequence: self.cap_sequence,
            timestamp: now.unix_s() as u32,
            nodes,
            require_reply,
            path: vec![self.me],
            intact: true,
        })
    }

    pub(super) fn on_link_state(&mut self, now: Now, source: NodeId, update: LinkStateUpdate) {
        let me = self.me;
        let Some(peer) = self.peers.get_mut(&source) else { return };
        if !peer.ls_seen.accept(update.sequence, update.timestamp) {
            return;
        }
        if update.neighbour == me {
            let contradicts = match update.up {
                true => peer.state == LinkState::Down,
                false => peer.state == LinkState::Up,
            };
            if contradicts {
                peer.state = LinkState::RestartPinging;
                if !update.up {
                    self.announce_link(now, source, false);
                }
            }
        } else if update.up {
            peer.neighbours.insert(update.neighbour);
        } else {
            peer.neighbours.remove(&update.neighbour);
        }
        self.refresh(now);
        let path = update.path.clone();
        self.flood(now, source, &path, |path| Body::LinkState(LinkStateUpdate { path, ..update }));
    }

    pub(super) fn on_full_top(&mut self, now: Now, source: NodeId, update: FullTopUpdate) {
        let me = self.me;
        let Some(peer) = self.peers.get_mut(&source) else { return };
        if !peer.top_seen.accept(update.sequence, update.timestamp) {
            return;
        }
        for (i, block) in update.nodes.iter().enumerate().filter(|(_, b)| b.node != me) {
            let Some(peer) = self.peers.get_mut(&block.node) else { continue };
            if i > 0 && !peer.ls_seen.accept(block.ls_sequence, block.ls_timestamp) {
                continue;
            }
            peer.neighbours = block.neighbours.iter().copied().collect();
            if peer.neighbours.remove(&me) && peer.state == LinkState::Down {
                peer.state = LinkState::RestartPinging;
            }
        }
        self.refresh(now);
        let path = update.path.clone();
        self.flood(now, source, &path, |path| Body::FullTop(FullTopUpdate { path, ..update }));
    }

    pub(super) fn on_cap_update(&mut self, now: Now, source: NodeId, update: CapUpdate) {
        let me = self.me;
        let Some(peer) = self.peers.get_mut(&source) else { return };
        if !peer.cap_seen.accept(update.sequence, update.timestamp) {
            return;
        }
        for block in update.nodes.iter().filter(|b| b.node != me) {
            if let Some(peer) = self.peers.get_mut(&block.node) {
                peer.caps.extend(block.capabilities.iter().cloned());
            }
        }
        self.sync_while_pending(now);
        if update.require_reply {
            self.send_caps(now, source, false);
        }
        let path = update.path.clone();
        self.flood(now, source, &path, |path| {
            Body::Capabilities(CapUpdate { path, require_reply: false, ..update })
        });
    }

    fn flood(
        &mut self,
        now: Now,
        source: NodeId,
        path: &[NodeId],
        body: impl FnOnce(Vec<NodeId>) -> Body,
    ) {
        let next: Vec<NodeId> = self.linked().filter(|id| !path.contains(id)).collect();
        if path.len() > PATH_MAX || next.is_empty() {
            return;
        }
        let longer = path.iter().copied().chain([self.me]).collect();
        let packet = Internal { cluster: CLUSTER, source, body: body(longer) };
        let Ok(bytes) = packet.encode() else { return };
        for id in next {
            self.post(now, id, &bytes);
        }
    }
}
