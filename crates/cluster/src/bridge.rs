//! Links from a cluster to another one: what all of it counts goes to one node of the other, from
//! the node that holds a tag. Nobody answers, and what is lost is told again soon.

use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use tandem_bin::{BRIDGED, ClusterId, Packet, Trailer};
use tandem_clock::{Mono, SEC};

use crate::clusterer::{ClusterError, Clusterer};
use crate::effects::{CapId, ConnId, Effect, Effects, Level};

/// Bytes that may wait for a connection; what is more makes the rest old.
const WAITING_BYTES_MAX: usize = 128 << 10;
/// Addresses of one bridge.
const ADDRESSES_MAX: usize = 64;
/// How long a connect may take before the next address is tried.
const CONNECT_NS: u64 = SEC;

/// A bridge as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    pub from: ClusterId,
    pub to: ClusterId,
    /// Only the node of `from` on which this tag is active sends.
    pub tag: String,
    /// Nodes of `to`, in the order in which they are tried.
    pub addresses: Vec<SocketAddr>,
}

/// A bridge with its connection.
#[derive(Debug)]
pub(crate) struct Bridge {
    cfg: BridgeConfig,
    /// The address that is used.
    at: usize,
    /// Its connection, and whether that is open.
    conn: Option<(u64, bool)>,
    /// When the connect began.
    since: Mono,
    waiting: BytesMut,
    /// It was said that nobody can be reached.
    told: bool,
}

impl Clusterer {
    /// Takes the bridges of this node's clusters; those there were are closed.
    pub fn set_bridges(&mut self, bridges: Vec<BridgeConfig>, out: &mut Effects) {
        for bridge in std::mem::take(&mut self.bridges) {
            if let Some((id, _)) = bridge.conn {
                out.push(Effect::Close { conn: ConnId::Outgoing(id) });
            }
        }
        // A bridge names nodes of the cluster it leads to, which may have one back to us.
        self.bridge_hosts.clear();
        for bridge in &bridges {
            let hosts = bridge.addresses.iter().take(ADDRESSES_MAX).map(SocketAddr::ip);
            self.bridge_hosts.entry(bridge.to).or_default().extend(hosts);
        }
        let ours = bridges.into_iter().filter(|b| self.clusters.contains_key(&b.from));
        let usable = ours.filter(|b| !b.addresses.is_empty());
        self.bridges = usable
            .map(|mut cfg| {
                cfg.addresses.truncate(ADDRESSES_MAX);
                Bridge { cfg, at: 0, conn: None, since: 0, waiting: BytesMut::new(), told: false }
            })
            .collect();
    }

    /// Whether a host may speak for another cluster over a bridge. Where none leads there, nothing
    /// is known of its nodes, and anybody may, as with stock nodes.
    pub(crate) fn may_bridge(&self, from: ClusterId, ip: IpAddr) -> bool {
        let own = self.clusters.get(&from);
        let own = own.map(|c| c.peers.values().any(|peer| peer.cfg.address.ip() == ip));
        let named = || self.bridge_hosts.get(&from).map(|hosts| hosts.contains(&ip));
        own.or_else(named).unwrap_or(true)
    }

    /// Sends a packet of a capability over the bridges of its cluster whose tags are active here;
    /// gives how many these are.
    ///
    /// # Errors
    /// An unknown capability, or more than fits a packet.
    pub fn send_over_bridges(
        &mut self,
        cap: CapId,
        packet_type: u32,
        version: u16,
        payload: &Bytes,
        out: &mut Effects,
    ) -> Result<usize, ClusterError> {
        let (cluster, capability) = self.capability_of(cap)?;
        let mut sent = 0;
        for at in 0..self.bridges.len() {
            let Some(bridge) = self.bridges.get_mut(at) else { continue };
            let (from, to) = (bridge.cfg.from, bridge.cfg.to);
            if from != cluster || !self.shared.table.is_active(&bridge.cfg.tag, from) {
                continue;
            }
            let trailer =
                Trailer { bridge: Some(from), ..Trailer::new(to, self.shared.me, BRIDGED) };
            let packet = Packet {
                capability: capability.clone(),
                packet_type,
                version,
                payload: payload.clone(),
                trailer: Some(trailer),
            };
            let bytes = packet.encode()?;
            if bridge.waiting.len() + bytes.len() > WAITING_BYTES_MAX {
                bridge.waiting.clear();
            }
            bridge.waiting.extend_from_slice(&bytes);
            sent += 1;
            self.open_bridge(at, out);
        }
        Ok(sent)
    }

    /// Opens the connection of a bridge that has something to send, or writes to it.
    fn open_bridge(&mut self, at: usize, out: &mut Effects) {
        let now = self.shared.seen;
        let Some(bridge) = self.bridges.get_mut(at) else { return };
        match bridge.conn {
            Some((id, true)) if !bridge.waiting.is_empty() => {
                let bytes = bridge.waiting.split().freeze();
                out.push(Effect::Write { conn: ConnId::Outgoing(id), bytes });
            }
            Some((id, false)) if now.saturating_sub(bridge.since) >= CONNECT_NS => {
                let conn = ConnId::Outgoing(id);
                out.push(Effect::Close { conn });
                self.bridge_lost(conn, out);
            }
            Some(_) => {}
            None => {
                let Some(peer) = bridge.cfg.addresses.get(bridge.at).copied() else { return };
                self.shared.next_conn += 1;
                let id = self.shared.next_conn;
                bridge.conn = Some((id, false));
                bridge.since = now;
                let own = self.clusters.get(&bridge.cfg.from).map(|c| c.cfg.own.address.ip());
                let local_ip = own.filter(|ip| !ip.is_unspecified());
                out.push(Effect::Connect { conn: ConnId::Outgoing(id), peer, local_ip });
            }
        }
    }

    /// A connection is open; true if it is one of a bridge.
    pub(crate) fn bridge_connected(&mut self, conn: ConnId, out: &mut Effects) -> bool {
        let Some(at) = self.bridge_of(conn) else { return false };
        if let Some(bridge) = self.bridges.get_mut(at)
            && let Some((_, open)) = &mut bridge.conn
        {
            *open = true;
            let (from, to) = (bridge.cfg.from, bridge.cfg.to);
            bridge.told = false;
            out.log(Level::Info, format!("the bridge from cluster {from} to {to} is open"));
        }
        self.open_bridge(at, out);
        true
    }

    /// A connection is gone; true if it was one of a bridge. The next address is tried at once
    /// with what waits, unless all of them have been.
    pub(crate) fn bridge_lost(&mut self, conn: ConnId, out: &mut Effects) -> bool {
        let Some(at) = self.bridge_of(conn) else { return false };
        let Some(bridge) = self.bridges.get_mut(at) else { return true };
        let was_open = bridge.conn.take().is_some_and(|(_, open)| open);
        if was_open {
            // What was written may be lost; the next count says more.
            bridge.at = 0;
            return true;
        }
        bridge.at += 1;
        if bridge.at < bridge.cfg.addresses.len() {
            self.open_bridge(at, out);
            return true;
        }
        let (from, to) = (bridge.cfg.from, bridge.cfg.to);
        bridge.at = 0;
        bridge.waiting.clear();
        if !std::mem::replace(&mut bridge.told, true) {
            let text =
                format!("no node of cluster {to} can be reached over the bridge from {from}");
            out.log(Level::Warning, text);
        }
        true
    }

    fn bridge_of(&self, conn: ConnId) -> Option<usize> {
        let ConnId::Outgoing(id) = conn else { return None };
        self.bridges.iter().position(|b| b.conn.is_some_and(|(own, _)| own == id))
    }
}
