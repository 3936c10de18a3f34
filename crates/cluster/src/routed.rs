//! Routed packets that have arrived, and what an operator does to nodes.

use crate::caps::Queued;
use crate::cluster::{Cluster, Ctx, close};
use crate::config::{ClusterConfig, NodeConfig};
use crate::effects::{Effect, Form, Level};
use crate::peer::Peer;
use std::collections::BTreeMap;
use tandem_bin::clusterer::{Extra, NODES_MAX};
use tandem_bin::{NodeId, Packet};

impl Cluster {
    /// A packet of `clusterer-extra` for this node.
    pub(crate) fn on_extra(&mut self, ctx: &mut Ctx<'_>, source: NodeId, packet: &Packet) {
        let extra = match Extra::decode(packet.packet_type, packet.version, &packet.payload) {
            Ok(extra) => extra,
            Err(error) => {
                ctx.complain(Level::Warning, || {
                    format!("packet of node {source} dropped: {error}")
                });
                return;
            }
        };
        let cluster = self.id;
        match extra {
            Extra::RemoveNode { node } => self.on_remove_node(ctx, node),
            Extra::Generic(message) => {
                ctx.out.push(Effect::Generic { cluster, source, message });
            }
            Extra::Mi(command) => ctx.out.push(Effect::Mi { cluster, source, command }),
            Extra::SyncReq { capability } => self.on_sync_req(ctx, source, &capability),
            Extra::Sync(sync) => {
                let version = u16::try_from(sync.data_version).unwrap_or(0);
                let name = sync.capability;
                self.on_records(ctx, source, &name, Form::Stock, version, sync.chunks);
            }
            Extra::SyncEnd(end) => {
                let total = u64::try_from(end.chunks).unwrap_or(0);
                self.on_sync_end(ctx, source, &end.capability, total);
            }
            Extra::ShtagActive { tag } => self.on_shtag_active(ctx, source, &tag),
        }
    }

    /// A packet of a module, in the stock protocol.
    pub(crate) fn on_module_packet(&mut self, ctx: &mut Ctx<'_>, source: NodeId, packet: &Packet) {
        let Some(i) = self.cap_index(&packet.capability) else { return };
        let queued = Queued {
            source,
            packet_type: packet.packet_type,
            version: packet.version,
            payload: packet.payload.clone(),
            stamp: None,
        };
        self.deliver(ctx, i, queued, 0);
    }

    fn on_remove_node(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        if self.cfg.db_mode {
            return;
        }
        if node == self.me {
            ctx.out.log(Level::Warning, format!("removed from cluster {}: disabled", self.id));
            self.enable(ctx, node, false);
        } else {
            self.remove(ctx, node);
        }
    }

    /// Takes over a node list.
    pub(crate) fn reload(&mut self, ctx: &mut Ctx<'_>, mut cfg: ClusterConfig) {
        let mut wanted: BTreeMap<NodeId, NodeConfig> = std::mem::take(&mut cfg.peers)
            .into_iter()
            .filter(|peer| peer.node != self.me)
            .map(|peer| (peer.node, peer))
            .collect();
        let known: Vec<_> = self.peers.keys().copied().collect();
        for id in known {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            match wanted.remove(&id) {
                None => self.remove(ctx, id),
                Some(new) if new.address == peer.cfg.address && new.enabled == peer.cfg.enabled => {
                    peer.cfg = new;
                }
                Some(new) => {
                    let enabled = new.enabled;
                    // With the old address: what is on the way there is not for the new one.
                    self.enable(ctx, id, false);
                    if let Some(peer) = self.peers.get_mut(&id) {
                        close(peer, ctx);
                        peer.cfg = new;
                    }
                    self.enable(ctx, id, enabled);
                }
            }
        }
        for (id, new) in wanted.into_iter().take(NODES_MAX) {
            ctx.out.log(Level::Info, format!("cluster {}: node {id} is new", self.id));
            self.peers.insert(id, Peer::new(new, false));
        }
        let enabled = cfg.own.enabled;
        self.cfg.own = cfg.own;
        if enabled != self.enabled {
            self.enable(ctx, self.me, enabled);
        }
        self.refresh_reachable(ctx);
    }

    /// Forgets a learnt node.
    pub(crate) fn remove(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        self.enable(ctx, node, false);
        if self.peers.remove(&node).is_some() {
            self.refresh_reachable(ctx);
        }
    }

    /// Enables or disables a peer, or this node in the cluster.
    pub(crate) fn enable(&mut self, ctx: &mut Ctx<'_>, node: NodeId, enabled: bool) {
        let mine = node == self.me;
        if mine {
            self.enabled = enabled;
        } else if let Some(peer) = self.peers.get_mut(&node) {
            peer.cfg.enabled = enabled;
        }
        let ids: Vec<_> = self.peers.keys().copied().filter(|&id| mine || id == node).collect();
        for id in ids {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            let was_up = if enabled { peer.link.restart() } else { peer.link.disable() };
            if was_up {
                self.link_lost(ctx, id);
            }
        }
        self.publish(ctx);
    }
}
