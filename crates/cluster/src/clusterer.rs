//! The machine: inputs in, effects out.

use crate::bridge::Bridge;
use crate::caps::LocalCap;
use crate::cluster::{Cluster, Ctx, Shared};
use crate::complaints::Complaints;
use crate::config::{Config, GateMode};
use crate::donor::Missed;
use crate::effects::{
    ActivationId, CapId, Change, Digests, Effect, Effects, Level, Reason, Replicated, RequestId,
    Snapshot, Stamp,
};
use crate::peer::Kind;
use crate::questions::{Question, Questions};
use crate::saved;
use crate::streams::Accepted;
use crate::table::TagTable;
use crate::tags::SETTLE_BOOT_NS;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tandem_bin::{ClusterId, NodeId, TooBig};
use tandem_clock::{Mono, Now};
use thiserror::Error;

/// Why a command for the cluster cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClusterError {
    #[error("no such cluster: {0}")]
    UnknownCluster(ClusterId),
    #[error("no such node: {0}")]
    UnknownNode(NodeId),
    #[error("node {0} cannot be reached")]
    NotReachable(NodeId),
    #[error("the capability is not registered in this cluster")]
    UnknownCapability,
    #[error(transparent)]
    TooBig(#[from] TooBig),
}

/// All clusters of a node. Every input takes the time and appends to `out`; effects are to be
/// executed in order.
#[derive(Debug)]
pub struct Clusterer {
    pub(crate) shared: Shared,
    pub(crate) clusters: BTreeMap<ClusterId, Cluster>,
    pub(crate) accepted: BTreeMap<u64, Accepted>,
    caps: Vec<ClusterId>,
    gate: GateMode,
    last_activation: u64,
    last_token: u64,
    /// The state file is being written; what changes meanwhile waits, so that a peer who takes
    /// tags as fast as it can keeps no disk busy.
    saving: bool,
    /// The state file was found to be unreadable at start.
    bad_file: Option<String>,
    pub(crate) bridges: Vec<Bridge>,
    /// Hosts of other clusters, as bridges name them.
    pub(crate) bridge_hosts: BTreeMap<ClusterId, BTreeSet<IpAddr>>,
}

impl Clusterer {
    pub fn new(config: Config) -> Self {
        let me = config.my_node_id;
        let shared = Shared {
            me,
            incarnation: config.incarnation,
            nonce_key: Bytes::new(),
            node_key: Bytes::new(),
            addresses: config.addresses,
            table: Arc::new(TagTable::new(me)),
            next_conn: 0,
            conns: BTreeMap::new(),
            questions: Questions::default(),
            complaints: Complaints::default(),
            oversized: 0,
            seen: 0,
            unsaved: false,
        };
        for cfg in &config.clusters {
            shared.table.set_incarnation(cfg.cluster, me, config.incarnation);
        }
        let clusters = config.clusters.into_iter().map(|cfg| (cfg.cluster, Cluster::new(me, cfg)));
        let mut this = Self {
            shared,
            clusters: clusters.collect(),
            accepted: BTreeMap::new(),
            caps: Vec::new(),
            gate: config.gate,
            last_activation: 0,
            last_token: 0,
            saving: false,
            bad_file: None,
            bridges: Vec::new(),
            bridge_hosts: BTreeMap::new(),
        };
        this.restore(config.saved_claims);
        for tag in &config.tags {
            let Some(cluster) = this.clusters.get_mut(&tag.cluster) else { continue };
            let Some(register) = cluster.tags.define(&tag.name) else { continue };
            if tag.active_in_file {
                register.claim_from_file(me);
            }
        }
        this
    }

    fn restore(&mut self, file: Option<Bytes>) {
        let Some(file) = file else { return };
        match saved::decode(file) {
            Ok(tags) => {
                for tag in tags {
                    let Some(cluster) = self.clusters.get_mut(&tag.cluster) else { continue };
                    let Some(r) = cluster.tags.define(&tag.entry.tag) else { continue };
                    r.restore(tag.claim(), tag.held, self.shared.me);
                    r.epoch_seen = r.epoch_seen.max(tag.epoch_seen);
                    r.reason = Reason::new(tag.entry.reason, tag.entry.by);
                }
            }
            Err(error) => self.bad_file = Some(error.to_string()),
        }
    }

    /// Registers a capability before `start`. With `startup_sync` it is synced from a peer
    /// before it counts as OK, and its records are compared by digests.
    pub fn register_capability(
        &mut self,
        cluster: ClusterId,
        name: &str,
        startup_sync: bool,
    ) -> Result<CapId, ClusterError> {
        let c = self.clusters.get_mut(&cluster).ok_or(ClusterError::UnknownCluster(cluster))?;
        if let Some(known) = c.caps.iter_mut().find(|cap| cap.name.as_ref() == name.as_bytes()) {
            return Ok(known.id);
        }
        let id = CapId(u32::try_from(self.caps.len()).unwrap_or(u32::MAX));
        self.caps.push(cluster);
        let name = Bytes::copy_from_slice(name.as_bytes());
        c.caps.push(LocalCap::new(id, name, startup_sync));
        Ok(id)
    }

    /// Says before `start` that records of this capability stand against those of other nodes, as
    /// states do, and do not add to them: a node that is not synced itself has nothing to tell.
    pub fn records_replace(&mut self, id: CapId) {
        let caps = self.clusters.values_mut().flat_map(|c| c.caps.iter_mut());
        caps.filter(|cap| cap.id == id).for_each(|cap| cap.replaces = true);
    }

    /// Says before `start` that stock nodes have no sync of this capability, and are not asked.
    pub fn only_tandem_syncs(&mut self, id: CapId) {
        let caps = self.clusters.values_mut().flat_map(|c| c.caps.iter_mut());
        caps.filter(|cap| cap.id == id).for_each(|cap| cap.only_tandem_syncs = true);
    }

    /// A tag that a script uses; backup until it is activated. False if there are too many.
    pub fn define_tag(&mut self, name: &str, cluster: ClusterId, now: Now) -> bool {
        let mut out = Effects::default();
        let (shared, clusters) = (&mut self.shared, &mut self.clusters);
        let Some(c) = clusters.get_mut(&cluster) else { return false };
        let defined = c.tags.define(name).is_some();
        c.show_tag(&mut Ctx { now, out: &mut out, node: shared }, name);
        defined
    }

    /// The read view of tags for all threads.
    pub fn table(&self) -> Arc<TagTable> {
        Arc::clone(&self.shared.table)
    }

    pub fn gate(&self) -> GateMode {
        self.gate
    }

    /// Peers are told the key of this node's nonces when they are greeted; call it before
    /// [`Clusterer::start`].
    pub fn set_nonce_key(&mut self, key: Bytes) {
        self.shared.nonce_key = key;
    }

    /// Peers are told the key of this node when they are greeted, and at once when it changes.
    pub fn set_node_key(&mut self, now: Now, key: Bytes, out: &mut Effects) {
        if self.shared.node_key == key {
            return;
        }
        self.shared.node_key = key;
        self.each(now, out, |c, ctx| {
            for peer in c.reachable(Kind::Tandem) {
                c.hello_to(ctx, peer);
            }
        });
    }

    pub fn start(&mut self, now: Now, out: &mut Effects) {
        if let Some(error) = self.bad_file.take() {
            let text = format!("the state file is unreadable and ignored: {error}");
            out.log(Level::Warning, text);
        }
        self.each(now, out, |c, ctx| {
            c.next_tick = Some(ctx.now.mono_ns.saturating_add(c.tick_ns));
            for peer in c.peers.values_mut() {
                // What changes here before the first meeting has to be told at it.
                peer.lost_at_unix_ms = Some(ctx.now.unix_ms);
                peer.caps_are_old = true;
            }
            c.tags.settle_at = Some(ctx.now.mono_ns.saturating_add(SETTLE_BOOT_NS));
            let names: Vec<_> = c.tags.registers.keys().cloned().collect();
            for name in names {
                c.show_tag(ctx, &name);
            }
            for i in 0..c.caps.len() {
                if c.caps.get(i).is_some_and(|cap| cap.startup_sync) {
                    c.request_sync(ctx, i);
                }
            }
            c.publish(ctx);
            c.tick(ctx);
            c.settle_if_answered(ctx);
        });
    }

    /// Does what is due; call it at [`Clusterer::next_deadline`].
    pub fn handle_timeout(&mut self, now: Now, out: &mut Effects) {
        self.close_drips(now, out);
        self.each(now, out, |c, ctx| {
            let due = |at: Option<Mono>| at.is_some_and(|at| at <= ctx.now.mono_ns);
            let (tick, bulk) = (due(c.next_tick), due(c.next_bulk));
            if tick {
                c.next_tick = Some(ctx.now.mono_ns.saturating_add(c.tick_ns));
                c.tick(ctx);
                c.tick_caps(ctx);
            }
            if bulk {
                c.send_bulk(ctx);
            }
            c.tick_tags(ctx);
            c.tick_compare(ctx);
            c.tick_repeat(ctx);
        });
    }

    /// When `handle_timeout` has something to do.
    pub fn next_deadline(&self) -> Option<Mono> {
        let of_cluster = |c: &Cluster| {
            let peers = c.peers.values().filter(|peer| peer.reachable && peer.cfg.enabled);
            // Only what the step at that time also takes up: the rest would turn in a circle.
            let peers = peers.filter_map(|p| match p.kind {
                Kind::Tandem => p.compare_at.map(|(at, _)| at),
                Kind::Unproven => p.assume_stock_at,
                Kind::Stock => p.repeat_at.map(|(at, _)| at),
            });
            let pending = c.peers.values().any(|peer| {
                !peer.buf.is_empty() && peer.conn.as_ref().is_some_and(|conn| conn.open)
            });
            let own = [c.next_tick, c.next_bulk, c.tags.next_deadline(), pending.then_some(0)];
            peers.chain(own.into_iter().flatten()).min()
        };
        self.clusters.values().filter_map(of_cluster).min()
    }

    /// Replicates a change to every reachable peer. It leaves with the next `flush`, or with any
    /// other input. The mark grows also if nobody could be reached.
    #[allow(clippy::too_many_arguments, reason = "the fields of one packet")]
    pub fn broadcast(
        &mut self,
        now: Now,
        cap: CapId,
        packet_type: u32,
        version: u16,
        payload: &Bytes,
        stamp: Stamp,
        out: &mut Effects,
    ) -> Result<Replicated, ClusterError> {
        let change = Change::same(packet_type, version, payload.clone(), stamp);
        self.broadcast_change(now, cap, &change, out)
    }

    /// As [`Clusterer::broadcast`], with a word of its own for each kind of peer.
    ///
    /// # Errors
    /// An unknown capability, or more than fits a packet.
    pub fn broadcast_change(
        &mut self,
        now: Now,
        cap: CapId,
        change: &Change,
        out: &mut Effects,
    ) -> Result<Replicated, ClusterError> {
        let node = &mut self.shared;
        let cluster = self.caps.get(cap.0 as usize).ok_or(ClusterError::UnknownCapability)?;
        let c = self.clusters.get_mut(cluster).ok_or(ClusterError::UnknownCapability)?;
        Ok(c.broadcast(&mut Ctx { now, out, node }, cap, change)?)
    }

    /// Sends a change to one peer only, e.g. in answer to [`Effect::ReplayWanted`].
    #[allow(clippy::too_many_arguments, reason = "the fields of one packet")]
    pub fn send_to(
        &mut self,
        now: Now,
        cap: CapId,
        peer: NodeId,
        packet_type: u32,
        version: u16,
        payload: &Bytes,
        stamp: Stamp,
        out: &mut Effects,
    ) -> Result<(), ClusterError> {
        let (cluster, name) = self.capability_of(cap)?;
        let node = &mut self.shared;
        let c = self.clusters.get_mut(&cluster).ok_or(ClusterError::UnknownCapability)?;
        let change = Change::same(packet_type, version, payload.clone(), stamp);
        match c.send_change(&mut Ctx { now, out, node }, peer, &name, &change)? {
            (true, _) => Ok(()),
            (false, _) => Err(ClusterError::NotReachable(peer)),
        }
    }

    /// The cluster of a capability, and its name.
    pub(crate) fn capability_of(&self, cap: CapId) -> Result<(ClusterId, Bytes), ClusterError> {
        let cluster = *self.caps.get(cap.0 as usize).ok_or(ClusterError::UnknownCapability)?;
        let c = self.clusters.get(&cluster).ok_or(ClusterError::UnknownCapability)?;
        let name = c.caps.iter().find(|c| c.id == cap).map(|c| c.name.clone());
        Ok((cluster, name.ok_or(ClusterError::UnknownCapability)?))
    }

    /// Whether a Tandem peer of the cluster is reachable and not behind, so that a change handed
    /// to it will be acknowledged.
    pub fn can_acknowledge(&self, cluster: ClusterId) -> bool {
        self.clusters.get(&cluster).is_some_and(|c| {
            c.reachable(Kind::Tandem)
                .iter()
                .any(|id| c.peers.get(id).is_some_and(|peer| !peer.behind))
        })
    }

    /// Whether this node alone has changes that a peer may have in a moment: no Tandem peer of a
    /// cluster has them all, and one that lacks some is here, or was lost just now.
    pub fn has_to_hand_over(&self, now: Now) -> bool {
        self.clusters.values().any(|cluster| {
            let peers = || cluster.peers.values();
            !peers().any(|peer| peer.has_all(now)) && peers().any(|peer| peer.soon_has_more(now))
        })
    }

    /// Whether a peer can be reached that is not known to be a Tandem node.
    pub fn has_stock(&self) -> bool {
        let is_other = |peer: &crate::peer::Peer| peer.reachable && peer.kind != Kind::Tandem;
        self.clusters.values().any(|c| c.peers.values().any(is_other))
    }

    /// Emits what broadcasts have left in the buffers, one write per connection.
    pub fn flush(&mut self, out: &mut Effects) {
        self.clusters.values_mut().for_each(|c| c.flush_all(out));
    }

    /// Asks a synced node for all records of a capability.
    pub fn request_sync(&mut self, now: Now, cap: CapId, out: &mut Effects) {
        self.with_cap(now, cap, out, |c, ctx, i| c.request_sync(ctx, i));
    }

    /// The answer to [`Effect::SnapshotWanted`].
    pub fn snapshot_ready(
        &mut self,
        now: Now,
        request: RequestId,
        snapshot: Snapshot,
        out: &mut Effects,
    ) {
        let Some((cluster, _, question)) = self.shared.questions.answer(request) else { return };
        self.within(now, out, cluster, |c, ctx| {
            if let Question::Buckets { to } = question {
                c.buckets_ready(ctx, to, request, snapshot);
            }
        });
    }

    /// The answer to [`Effect::ReplayWanted`].
    pub fn replay_ready(
        &mut self,
        now: Now,
        request: RequestId,
        missed: Vec<Missed>,
        out: &mut Effects,
    ) {
        let Some((cluster, _, question)) = self.shared.questions.answer(request) else { return };
        self.within(now, out, cluster, |c, ctx| {
            if let Question::Buckets { to } = question {
                c.replay_found(ctx, to, request, missed);
            }
        });
    }

    /// The answer to [`Effect::DigestsWanted`].
    pub fn digests_ready(
        &mut self,
        now: Now,
        request: RequestId,
        digests: Digests,
        out: &mut Effects,
    ) {
        let Some((cluster, cap, question)) = self.shared.questions.answer(request) else { return };
        self.within(now, out, cluster, |c, ctx| match question {
            Question::SendDigests { to, at_once } => {
                c.send_digests(ctx, to, cap, digests, (true, at_once));
            }
            Question::Compare { from, theirs } => c.compare(ctx, from, cap, digests, &theirs),
            _ => {}
        });
    }

    /// Takes a tag, or announces again that it is held. [`Effect::Activated`] follows when the
    /// claim is on disk.
    pub fn activate_tag(
        &mut self,
        now: Now,
        name: &str,
        cluster: ClusterId,
        by: Reason,
        out: &mut Effects,
    ) -> Result<ActivationId, ClusterError> {
        if !self.clusters.contains_key(&cluster) {
            return Err(ClusterError::UnknownCluster(cluster));
        }
        self.last_activation += 1;
        let id = ActivationId(self.last_activation);
        self.within(now, out, cluster, |c, ctx| c.activate(ctx, name, by, id));
        Ok(id)
    }

    /// The state file was written (or could not be); what waited for it is announced.
    pub fn persisted(&mut self, now: Now, token: u64, ok: bool, out: &mut Effects) {
        if !ok {
            let text = "the state file cannot be written: a restart will not know the last holder";
            out.log(Level::Warning, text);
        }
        self.saving = false;
        self.each(now, out, |c, ctx| c.persisted(ctx, token));
    }

    /// Addresses of our sockets, and whether this host holds them.
    pub fn set_addresses(&mut self, now: Now, addresses: &[(IpAddr, bool)], out: &mut Effects) {
        if self.shared.addresses == addresses {
            return;
        }
        self.shared.addresses = addresses.to_vec();
        self.each(now, out, |c, ctx| {
            for peer in c.reachable(Kind::Tandem) {
                c.hello_to(ctx, peer);
            }
            c.addresses_moved(ctx, None);
        });
    }

    pub(crate) fn parts(&self) -> (&Shared, &BTreeMap<ClusterId, Cluster>) {
        (&self.shared, &self.clusters)
    }

    pub(crate) fn with_cap(
        &mut self,
        now: Now,
        cap: CapId,
        out: &mut Effects,
        f: impl FnOnce(&mut Cluster, &mut Ctx<'_>, usize),
    ) {
        let Some(&cluster) = self.caps.get(cap.0 as usize) else { return };
        self.within(now, out, cluster, |c, ctx| {
            if let Some(i) = c.caps.iter().position(|c| c.id == cap) {
                f(c, ctx, i);
            }
        });
    }

    pub(crate) fn within(
        &mut self,
        now: Now,
        out: &mut Effects,
        cluster: ClusterId,
        f: impl FnOnce(&mut Cluster, &mut Ctx<'_>),
    ) {
        self.shared.seen = now.mono_ns;
        if let Some(c) = self.clusters.get_mut(&cluster) {
            f(c, &mut Ctx { now, out, node: &mut self.shared });
            self.finish(out);
        }
    }

    pub(crate) fn each(
        &mut self,
        now: Now,
        out: &mut Effects,
        mut f: impl FnMut(&mut Cluster, &mut Ctx<'_>),
    ) {
        self.shared.seen = now.mono_ns;
        for c in self.clusters.values_mut() {
            f(c, &mut Ctx { now, out, node: &mut self.shared });
        }
        self.finish(out);
    }

    /// The end of a step: writes leave, and claims that changed go to disk.
    fn finish(&mut self, out: &mut Effects) {
        self.flush(out);
        if self.saving || !std::mem::take(&mut self.shared.unsaved) {
            return;
        }
        self.saving = true;
        self.last_token += 1;
        let token = self.last_token;
        for c in self.clusters.values_mut() {
            for a in c.tags.announcements.iter_mut().filter(|a| a.token.is_none()) {
                a.token = Some(token);
            }
        }
        out.push(Effect::Persist { token, bytes: saved::encode(self.clusters.values()) });
    }
}
