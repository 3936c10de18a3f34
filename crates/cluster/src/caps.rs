//! Own capabilities and their sync.

use crate::cluster::{Cluster, Ctx};
use crate::donor::DonationKind;
use crate::effects::{CapId, CapState, Effect, Form, Level, Stamp};
use crate::peer::{Kind, Peer};
use bytes::Bytes;
use std::collections::VecDeque;
use tandem_bin::NodeId;
use tandem_bin::clusterer::{Body, CapNode, CapUpdate, Extra};
use tandem_clock::{Mono, SEC};

/// A capability of this node in one cluster.
#[derive(Debug)]
pub(crate) struct LocalCap {
    pub(crate) id: CapId,
    pub(crate) name: Bytes,
    pub(crate) startup_sync: bool,
    /// Records of a peer stand against ours, and do not add to them.
    pub(crate) replaces: bool,
    /// Stock nodes have no sync of it.
    pub(crate) only_tandem_syncs: bool,
    pub(crate) enabled: bool,
    pub(crate) ok: bool,
    pub(crate) sync: SyncPhase,
    /// Live packets that wait for the end of a sync from a stock donor.
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) queue_bytes: usize,
}

/// Where a sync stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyncPhase {
    Idle,
    /// No donor yet.
    Pending {
        since: Mono,
    },
    /// SYNC_REQ was sent; nothing has come.
    Requested {
        donor: NodeId,
        at: Mono,
    },
    Receiving {
        donor: NodeId,
        received: u64,
        total: Option<u64>,
        last: Mono,
    },
    /// Everything came from a Tandem donor; digests are compared until they are equal.
    Verifying {
        donor: NodeId,
        received: u64,
        until: Mono,
    },
}

/// A live packet that waits.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) source: NodeId,
    pub(crate) packet_type: u32,
    pub(crate) version: u16,
    pub(crate) payload: Bytes,
    pub(crate) stamp: Option<Stamp>,
}

impl LocalCap {
    pub(crate) fn new(id: CapId, name: Bytes, startup_sync: bool) -> Self {
        Self {
            id,
            name,
            startup_sync,
            replaces: false,
            only_tandem_syncs: false,
            enabled: true,
            ok: !startup_sync,
            sync: SyncPhase::Idle,
            queue: VecDeque::new(),
            queue_bytes: 0,
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    pub(crate) fn state(&self) -> CapState {
        match self.sync {
            _ if self.ok => CapState::Synced,
            SyncPhase::Idle => CapState::NotSynced,
            SyncPhase::Pending { .. } | SyncPhase::Requested { .. } => CapState::Pending,
            SyncPhase::Receiving { .. } | SyncPhase::Verifying { .. } => CapState::InProgress,
        }
    }

    /// The donor whose records are awaited now.
    fn awaits(&self, from: NodeId) -> bool {
        match self.sync {
            SyncPhase::Requested { donor, .. } | SyncPhase::Receiving { donor, .. } => {
                donor == from
            }
            _ => false,
        }
    }
}

impl Cluster {
    pub(crate) fn cap_index(&self, name: &[u8]) -> Option<usize> {
        self.caps.iter().position(|cap| cap.name.as_ref() == name)
    }

    fn report(&mut self, ctx: &mut Ctx<'_>, i: usize, report: impl Into<String>) {
        if let Some(cap) = self.caps.get(i) {
            ctx.out.push(Effect::CapState {
                cluster: self.id,
                cap: cap.id,
                state: cap.state(),
                report: report.into(),
            });
        }
    }

    pub(crate) fn own_cap_node(&self) -> CapNode {
        let capabilities = self.caps.iter().map(|cap| (cap.name.clone(), cap.ok)).collect();
        CapNode { node: self.me, capabilities }
    }

    /// Sets or clears OK, and tells every neighbour: with the state of every capability, as a peer
    /// that takes updates in another order drops all but the last.
    fn set_ok(&mut self, ctx: &mut Ctx<'_>, i: usize, ok: bool) {
        let Some(cap) = self.caps.get_mut(i) else { return };
        cap.ok = ok;
        let node = self.own_cap_node();
        let update = self.cap_update(ctx, vec![node], false);
        let neighbours: Vec<_> = self.neighbours().collect();
        for id in neighbours {
            self.send_internal(ctx, id, Body::Capabilities(update.clone()));
        }
        self.publish(ctx);
        if ok {
            let waits = |peer: &Peer| peer.reachable && !peer.parked.is_empty();
            let waiting: Vec<_> =
                self.peers.iter().filter(|(_, peer)| waits(peer)).map(|(&id, _)| id).collect();
            for id in waiting {
                self.answer_parked(ctx, id);
            }
        }
    }

    pub(crate) fn on_cap_update(&mut self, ctx: &mut Ctx<'_>, source: NodeId, update: CapUpdate) {
        let Some(peer) = self.peers.get_mut(&source) else { return };
        let before = peer.cap_seen;
        if !peer.cap_seen.accept(update.sequence, update.timestamp) {
            return;
        }
        let reborn = update.sequence <= before.sequence;
        let mut synced = Vec::new();
        for block in update.nodes.iter().filter(|block| block.node != self.me) {
            let Some(peer) = self.peers.get_mut(&block.node) else { continue };
            for (name, ok) in &block.capabilities {
                if peer.caps.len() < CAPS_MAX || peer.caps.contains_key(name) {
                    let before = peer.caps.insert(Bytes::copy_from_slice(name), *ok);
                    if *ok && before == Some(false) && peer.kind == Kind::Stock {
                        synced.push((block.node, name.clone()));
                    }
                }
            }
        }
        synced.iter().for_each(|(node, name)| self.stock_is_synced(ctx, *node, name));
        if update.nodes.iter().any(|block| block.node == source) {
            self.ask_known_stock(ctx, source);
        }
        self.publish(ctx);
        self.retry_pending(ctx);
        if update.require_reply {
            self.send_caps(ctx, source, false);
            self.lost_by_stock(ctx, source, reborn);
            self.stock_has_come_up(ctx, source);
        }
        if update.intact {
            let path = update.path.clone();
            self.flood(ctx, source, &path, |path| {
                Body::Capabilities(CapUpdate { path, require_reply: false, ..update })
            });
        }
    }

    /// Asks for all records of a capability; see the steps of the protocol description.
    pub(crate) fn request_sync(&mut self, ctx: &mut Ctx<'_>, i: usize) {
        let Some(cap) = self.caps.get(i) else { return };
        if !cap.enabled || cap.sync != SyncPhase::Idle {
            return;
        }
        if cap.ok {
            self.set_ok(ctx, i, false);
        }
        self.ask_donor(ctx, i, None);
    }

    /// Asks the first reachable node that is synced, or waits for one.
    fn ask_donor(&mut self, ctx: &mut Ctx<'_>, i: usize, not: Option<NodeId>) {
        let now = ctx.now.mono_ns;
        let Some(cap) = self.caps.get(i) else { return };
        let name = cap.name.clone();
        let is_donor = |id: NodeId| {
            self.peers.get(&id).is_some_and(|peer| {
                peer.reachable && peer.cfg.enabled && peer.caps.get(&name) == Some(&true)
            })
        };
        // A Tandem donor counts and compares; a stock one only counts.
        let mut donors: Vec<NodeId> =
            self.peers.keys().copied().filter(|&id| is_donor(id)).collect();
        if cap.only_tandem_syncs {
            let is = |id: &NodeId, kind| self.peers.get(id).is_some_and(|peer| peer.kind == kind);
            let has_stock = donors.iter().any(|id| is(id, Kind::Stock));
            donors.retain(|id| is(id, Kind::Tandem));
            if donors.is_empty() && has_stock {
                return self.fall_back(ctx, i, "Sync request dropped! (stock nodes have no sync)");
            }
        }
        donors.sort_by_key(|id| {
            let tandem = self.peers.get(id).is_some_and(|peer| peer.kind == Kind::Tandem);
            (Some(*id) == not, !tandem, *id)
        });
        for donor in donors {
            if self.send_sync_req(ctx, donor, name.clone()) {
                if let Some(cap) = self.caps.get_mut(i) {
                    cap.sync = SyncPhase::Requested { donor, at: now };
                }
                self.report(ctx, i, format!("Sync requested from node [{donor}]"));
                return;
            }
        }
        if let Some(cap) = self.caps.get_mut(i) {
            cap.sync = SyncPhase::Pending { since: now };
        }
        self.report(ctx, i, "Sync request postponed! (no donor available)");
    }

    fn send_sync_req(&mut self, ctx: &mut Ctx<'_>, donor: NodeId, capability: Bytes) -> bool {
        let packet = Extra::SyncReq { capability }.encode(&self.trailer(donor));
        packet.is_ok_and(|bytes| self.route(ctx, donor, &bytes))
    }

    /// Pending requests find a donor as soon as one shows up. A seed waits no longer once it has
    /// heard from every peer that there is none.
    pub(crate) fn retry_pending(&mut self, ctx: &mut Ctx<'_>) {
        for i in 0..self.caps.len() {
            let Some(cap) = self.caps.get(i) else { continue };
            let SyncPhase::Pending { since } = cap.sync else { continue };
            let name = &cap.name;
            let donor = self.peers.values().any(|peer| {
                peer.reachable && peer.cfg.enabled && peer.caps.get(name) == Some(&true)
            });
            if !donor && self.cfg.own.seed && self.nobody_has(name) {
                self.fall_back(ctx, i, "Sync request dropped! (no node has any records)");
            } else if donor {
                self.ask_donor(ctx, i, None);
                if let Some(LocalCap { sync: SyncPhase::Pending { since: s }, .. }) =
                    self.caps.get_mut(i)
                {
                    *s = since;
                }
            }
        }
    }

    /// Whether every peer is there and has said that it waits for records itself. Stock nodes may
    /// have some and not say so.
    fn nobody_has(&self, name: &Bytes) -> bool {
        let waits = |peer: &Peer| {
            peer.reachable
                && peer.kind == Kind::Tandem
                && !peer.caps_are_old
                && peer.caps.get(name) == Some(&false)
        };
        let mut enabled = self.peers.values().filter(|peer| peer.cfg.enabled).peekable();
        enabled.peek().is_some() && enabled.all(waits)
    }

    /// A seed starts with what it has.
    fn fall_back(&mut self, ctx: &mut Ctx<'_>, i: usize, why: &str) {
        let Some(cap) = self.caps.get_mut(i) else { return };
        cap.sync = SyncPhase::Idle;
        let id = cap.id;
        self.set_ok(ctx, i, true);
        // A stock node gives what it has, synced or not, and it may be all there is.
        for node in self.reachable(Kind::Stock) {
            self.ask_stock(ctx, node, id);
        }
        self.report(ctx, i, format!("{why} => fallback to synced state"));
    }

    /// The donor of a running sync went away: ask another one.
    pub(crate) fn donor_lost(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        for i in 0..self.caps.len() {
            let Some(cap) = self.caps.get(i) else { continue };
            match cap.sync {
                _ if cap.awaits(node) => self.sync_failed(ctx, i, node, "the donor is gone"),
                SyncPhase::Verifying { donor, .. } if donor == node => self.finish_sync(ctx, i),
                _ => {}
            }
        }
    }

    fn sync_failed(&mut self, ctx: &mut Ctx<'_>, i: usize, donor: NodeId, why: &str) {
        self.report(ctx, i, format!("ERROR: Sync from node [{donor}] failed: {why}"));
        self.drain_queue(ctx, i);
        if let Some(cap) = self.caps.get_mut(i) {
            cap.sync = SyncPhase::Idle;
        }
        self.ask_donor(ctx, i, Some(donor));
    }

    /// Timeouts of syncs, and the seed's right to start alone.
    pub(crate) fn tick_caps(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.now.mono_ns;
        let timeout = u64::from(self.cfg.sync_timeout_s.max(1)) * SEC;
        let fallback = u64::from(self.cfg.seed_fallback_interval_s) * SEC;
        for i in 0..self.caps.len() {
            let Some(cap) = self.caps.get(i) else { continue };
            match cap.sync {
                SyncPhase::Pending { since }
                    if self.cfg.own.seed
                        && now.saturating_sub(since) >= fallback
                        && fallback > 0 =>
                {
                    let why = "ERROR: Sync request aborted! (no donor found in due time)";
                    self.fall_back(ctx, i, why);
                }
                SyncPhase::Requested { donor, at: last }
                | SyncPhase::Receiving { donor, last, .. }
                    if now.saturating_sub(last) >= timeout =>
                {
                    self.sync_failed(ctx, i, donor, "no packet in due time");
                }
                SyncPhase::Verifying { donor, until, .. } if now >= until => {
                    let text = format!("node {donor} differs still after the sync");
                    ctx.out.log(Level::Warning, text);
                    self.finish_sync(ctx, i);
                }
                _ => {}
            }
        }
    }

    /// A node wants our records. Only a synced node is a donor: an empty answer would look like
    /// an empty cluster.
    pub(crate) fn on_sync_req(&mut self, ctx: &mut Ctx<'_>, source: NodeId, name: &Bytes) {
        let Some(cap) = self.cap_index(name).and_then(|i| self.caps.get(i)) else { return };
        let (id, enabled, ok) = (cap.id, cap.enabled, cap.ok);
        if !enabled {
            ctx.out.log(Level::Info, format!("sync for node {source} refused: disabled"));
            return;
        }
        let Some(peer) = self.peers.get_mut(&source) else { return };
        // A stock node asks once. It gets its answer when there is one.
        if !peer.reachable || !ok {
            if peer.parked.len() < CAPS_MAX {
                peer.parked.insert(Bytes::copy_from_slice(name));
            }
            return;
        }
        self.give(ctx, source, id, DonationKind::Sync, None);
    }

    pub(crate) fn answer_parked(&mut self, ctx: &mut Ctx<'_>, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        for name in std::mem::take(&mut peer.parked) {
            self.on_sync_req(ctx, node, &name);
        }
    }

    /// Records from a donor, stock or Tandem.
    pub(crate) fn on_records(
        &mut self,
        ctx: &mut Ctx<'_>,
        source: NodeId,
        name: &Bytes,
        form: Form,
        version: u16,
        records: Vec<Bytes>,
    ) {
        let Some(i) = self.cap_index(name) else { return };
        let now = ctx.now.mono_ns;
        let count = records.len() as u64;
        if form == Form::Tandem
            && let Some(peer) = self.peers.get_mut(&source)
        {
            peer.taken += 1;
            peer.ack_due = true;
        }
        let mut started = false;
        let Some(cap) = self.caps.get_mut(i).filter(|cap| cap.enabled) else { return };
        if cap.awaits(source) {
            started = matches!(cap.sync, SyncPhase::Requested { .. });
            let (before, total) = match cap.sync {
                SyncPhase::Receiving { received, total, .. } => (received, total),
                _ => (0, None),
            };
            let received = before + count;
            cap.sync = SyncPhase::Receiving { donor: source, received, total, last: now };
        }
        let cap = cap.id;
        if started {
            self.report(ctx, i, format!("Sync started from node [{source}]"));
        }
        let cluster = self.id;
        ctx.out.push(Effect::DeliverSync { cluster, source, cap, form, version, records });
        self.check_complete(ctx, i);
    }

    pub(crate) fn on_sync_end(
        &mut self,
        ctx: &mut Ctx<'_>,
        source: NodeId,
        name: &Bytes,
        declared: u64,
    ) {
        let Some(i) = self.cap_index(name) else { return };
        let Some(cap) = self.caps.get_mut(i).filter(|cap| cap.awaits(source)) else { return };
        let received = match cap.sync {
            SyncPhase::Receiving { received, .. } => received,
            _ => 0,
        };
        let (total, last) = (Some(declared), ctx.now.mono_ns);
        cap.sync = SyncPhase::Receiving { donor: source, received, total, last };
        self.check_complete(ctx, i);
    }

    fn check_complete(&mut self, ctx: &mut Ctx<'_>, i: usize) {
        let Some(cap) = self.caps.get_mut(i) else { return };
        let SyncPhase::Receiving { donor, received, total: Some(total), .. } = cap.sync else {
            return;
        };
        if received < total {
            return;
        }
        let tandem = self.peers.get(&donor).is_some_and(|peer| peer.kind == Kind::Tandem);
        let until = ctx.now.after_ms(VERIFY_MS);
        cap.sync = SyncPhase::Verifying { donor, received, until };
        if tandem && cap.startup_sync {
            let id = cap.id;
            self.ask_digests(ctx, donor, id, true);
        } else {
            self.finish_sync(ctx, i);
        }
    }

    /// The sync is over: what waited is processed, and the neighbours are told.
    pub(crate) fn finish_sync(&mut self, ctx: &mut Ctx<'_>, i: usize) {
        self.drain_queue(ctx, i);
        let Some(cap) = self.caps.get_mut(i) else { return };
        let (donor, received) = match cap.sync {
            SyncPhase::Verifying { donor, received, .. } => (Some(donor), received),
            _ => (None, 0),
        };
        let (id, was_ok) = (cap.id, cap.ok);
        cap.sync = SyncPhase::Idle;
        if !was_ok {
            self.set_ok(ctx, i, true);
            self.ask_other_stock(ctx, id, donor);
        }
        self.report(ctx, i, format!("Sync completed, received [{received}] chunks"));
    }

    /// A module packet: to the module, or behind a running sync.
    pub(crate) fn deliver(&mut self, ctx: &mut Ctx<'_>, i: usize, packet: Queued, number: u64) {
        let Some(cap) = self.caps.get_mut(i).filter(|cap| cap.enabled) else { return };
        let SyncPhase::Receiving { donor, .. } = cap.sync else {
            hand_over(ctx, self.id, cap.id, packet);
            return;
        };
        let stock = self.peers.get(&donor).is_some_and(|peer| peer.kind != Kind::Tandem);
        if !stock || cap.ok || cap.queue_bytes + packet.payload.len() > QUEUE_BYTES_MAX {
            // Records of a Tandem donor carry stamps: the order of merging does not matter.
            hand_over(ctx, self.id, cap.id, packet);
            return;
        }
        if let Some(peer) = self.peers.get_mut(&packet.source).filter(|_| number > 0) {
            peer.held_back = Some(peer.held_back.map_or(number, |n| n.min(number)));
        }
        cap.queue_bytes += packet.payload.len();
        cap.queue.push_back(packet);
    }

    fn drain_queue(&mut self, ctx: &mut Ctx<'_>, i: usize) {
        let Some(cap) = self.caps.get_mut(i) else { return };
        cap.queue_bytes = 0;
        for packet in std::mem::take(&mut cap.queue) {
            hand_over(ctx, self.id, cap.id, packet);
        }
        if self.caps.iter().all(|cap| cap.queue.is_empty()) {
            for peer in self.peers.values_mut().filter(|peer| peer.held_back.is_some()) {
                peer.held_back = None;
                peer.ack_due = true;
            }
        }
    }

    pub(crate) fn enable_cap(&mut self, ctx: &mut Ctx<'_>, i: usize, enabled: bool) {
        let Some(cap) = self.caps.get_mut(i).filter(|cap| cap.enabled != enabled) else { return };
        cap.enabled = enabled;
        cap.sync = SyncPhase::Idle;
        self.drain_queue(ctx, i);
        let startup_sync = self.caps.get(i).is_some_and(|cap| cap.startup_sync);
        if !enabled {
            self.set_ok(ctx, i, false);
        } else if startup_sync {
            // An announced OK has to be a proof of data: it is earned again.
            self.request_sync(ctx, i);
        } else {
            self.set_ok(ctx, i, true);
        }
    }
}

fn hand_over(ctx: &mut Ctx<'_>, cluster: u32, cap: CapId, packet: Queued) {
    let Queued { source, packet_type, version, payload, stamp } = packet;
    ctx.out.push(Effect::Deliver { cluster, source, cap, packet_type, version, payload, stamp });
}

/// The largest record of a sync and the largest payload of a broadcast, in bytes: it has to fit
/// into one packet together with the names around it.
pub const RECORD_BYTES_MAX: usize = 65000;
/// Capabilities that are remembered of a peer.
const CAPS_MAX: usize = 64;
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// How long digests may stay different after a sync.
const VERIFY_MS: u64 = 5000;
