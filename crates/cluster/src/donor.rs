//! Records on their way to a peer: syncs, repairs and replays. They are built bucket by bucket
//! and sent no faster than the peer takes them, so that half a million of them stop nobody.

use crate::caps::RECORD_BYTES_MAX;
use crate::cluster::{Cluster, Ctx};
use crate::effects::{CapId, Effect, Form, Level, RequestId, Snapshot};
use crate::peer::{BULK_EVERY_NS, Kind, Peer};
use crate::questions::Question;
use crate::wire::{Done, Records, Tandem};
use bytes::Bytes;
use std::collections::VecDeque;
use tandem_bin::clusterer::{Extra, Sync, SyncEnd};
use tandem_bin::{NodeId, Packet};
use tandem_clock::{Mono, SEC};

/// What is being given to a peer.
#[derive(Debug)]
pub(crate) struct Donation {
    cap: CapId,
    kind: DonationKind,
    /// Buckets that have not been asked of the module yet.
    left: VecDeque<u8>,
    /// Buckets in one question.
    step: usize,
    /// The question that is open.
    asked: Option<RequestId>,
    /// Records given so far.
    count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DonationKind {
    /// All records, and their number at the end.
    Sync,
    /// Records of differing buckets.
    Repair,
    /// Changes that a stock peer has missed, since this time.
    Replay { since_unix_ms: u64 },
}

/// A change to be repeated: packet type, version, payload.
pub type Missed = (u32, u16, Bytes);

/// Packets of the bulk for one peer, and what it has taken.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    pub(crate) donations: Vec<Donation>,
    packets: VecDeque<Packed>,
    bytes: usize,
    /// Changes made while the module looks for missed ones: what it finds may be older.
    later: Vec<Bytes>,
    /// How many of `packets` have their place in the order of changes.
    in_order: usize,
    /// Packets with records that it has not acknowledged.
    in_flight: u64,
    /// What it last said it has taken.
    taken: u64,
    /// When something was sent or acknowledged the last time.
    moved_at: Mono,
    /// What has left since the turn began.
    turn_at: Mono,
    turn_bytes: usize,
}

/// A packet, and whether later changes must not overtake it.
#[derive(Debug)]
struct Packed {
    bytes: Bytes,
    in_order: bool,
}

impl Bulk {
    /// The connection is gone, and everything on it. What was promised is given up: who still
    /// wants it asks again.
    pub(crate) fn clear(&mut self) {
        let taken = self.taken;
        *self = Self { taken, ..Self::default() };
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.donations.is_empty()
    }

    fn push(&mut self, bytes: Bytes, in_order: bool) {
        self.bytes += bytes.len();
        self.in_order += usize::from(in_order);
        self.packets.push_back(Packed { bytes, in_order });
    }

    fn pop(&mut self) -> Option<Bytes> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.bytes.len();
        self.in_order -= usize::from(packet.in_order);
        Some(packet.bytes)
    }

    /// Whether missed changes are being looked for or wait to be sent. What changes meanwhile
    /// goes behind them: an update that arrives after the delete would bring the record back.
    pub(crate) fn repeats(&self) -> bool {
        self.in_order > 0 || self.looks()
    }

    fn looks(&self) -> bool {
        let replay = |d: &Donation| matches!(d.kind, DonationKind::Replay { .. });
        self.donations.iter().any(|d| replay(d) && d.asked.is_some())
    }

    /// Puts a change behind what is repeated. False: there is no room for it.
    pub(crate) fn follow(&mut self, packet: Bytes, bytes_max: usize) -> bool {
        if self.bytes + packet.len() > bytes_max {
            return false;
        }
        if self.looks() {
            self.bytes += packet.len();
            self.later.push(packet);
        } else {
            self.push(packet, true);
        }
        true
    }

    /// What was found has its place: the changes that were made meanwhile come behind it.
    fn settle_later(&mut self) {
        if !self.looks() {
            for packet in std::mem::take(&mut self.later) {
                self.bytes -= packet.len();
                self.push(packet, true);
            }
        }
    }

    /// The peer has taken this many packets with records since it knows us.
    pub(crate) fn on_taken(&mut self, now: Mono, taken: u64) {
        let more = taken.saturating_sub(self.taken);
        self.taken = taken;
        self.in_flight = self.in_flight.saturating_sub(more);
        self.moved_at = now;
    }

    /// A new life of the peer counts from 0.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }
}

impl Cluster {
    /// Begins to give records to a peer, from these buckets or from all.
    pub(crate) fn give(
        &mut self,
        ctx: &mut Ctx<'_>,
        to: NodeId,
        cap: CapId,
        kind: DonationKind,
        buckets: Option<&[u8]>,
    ) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let donations = &mut peer.bulk.donations;
        let same = |d: &&mut Donation| d.cap == cap && d.kind == kind && kind != DonationKind::Sync;
        if let Some(known) = donations.iter_mut().find(same) {
            let more = buckets.unwrap_or_default().iter();
            let new: Vec<u8> = more.copied().filter(|b| !known.left.contains(b)).collect();
            known.left.extend(new);
            return;
        }
        if donations.len() >= DONATIONS_MAX {
            ctx.complain(Level::Warning, || format!("node {to} asks for too many syncs"));
            return;
        }
        let left = buckets.map_or_else(|| (0..=u8::MAX).collect(), |b| b.iter().copied().collect());
        donations.push(Donation { cap, kind, left, step: STEP_FIRST, asked: None, count: 0 });
        self.ask_buckets(ctx, to);
        self.send_bulk(ctx);
    }

    /// Asks the modules for the next buckets, while the peer takes what there is.
    fn ask_buckets(&mut self, ctx: &mut Ctx<'_>, to: NodeId) {
        let cluster = self.id;
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let form = if peer.kind == Kind::Tandem { Form::Tandem } else { Form::Stock };
        if peer.bulk.bytes >= LOW_WATER_BYTES {
            return;
        }
        for donation in peer.bulk.donations.iter_mut().filter(|d| d.asked.is_none()) {
            let cap = donation.cap;
            let next = donation.step.min(donation.left.len());
            let buckets: Vec<u8> = donation.left.drain(..next).collect();
            let request = ctx.node.questions.ask(cluster, cap, Question::Buckets { to });
            donation.asked = Some(request);
            ctx.out.push(match donation.kind {
                DonationKind::Replay { since_unix_ms } => {
                    Effect::ReplayWanted { request, cluster, peer: to, cap, since_unix_ms, buckets }
                }
                DonationKind::Sync | DonationKind::Repair => {
                    let buckets = Some(buckets);
                    Effect::SnapshotWanted { request, cluster, cap, form, buckets }
                }
            });
        }
    }

    fn donation(&mut self, to: NodeId, request: RequestId) -> Option<&mut Donation> {
        let donations = &mut self.peers.get_mut(&to)?.bulk.donations;
        donations.iter_mut().find(|d| d.asked == Some(request))
    }

    /// The module has built some buckets.
    pub(crate) fn buckets_ready(
        &mut self,
        ctx: &mut Ctx<'_>,
        to: NodeId,
        request: RequestId,
        snapshot: Snapshot,
    ) {
        let tandem = self.peers.get(&to).is_some_and(|peer| peer.kind == Kind::Tandem);
        let Some(donation) = self.donation(to, request) else { return };
        let (cap, repair) = (donation.cap, donation.kind == DonationKind::Repair);
        let Some(name) = self.caps.iter().find(|c| c.id == cap).map(|c| c.name.clone()) else {
            return;
        };
        let (mut packets, mut count) = (Vec::new(), 0);
        for batch in batches(snapshot.records, self.cfg.sync_packet_size, ctx) {
            count += batch.len() as u64;
            let trailer = self.trailer(to);
            packets.extend(if tandem {
                let (capability, version) = (name.clone(), snapshot.version);
                let records = Records { capability, version, repair, records: batch };
                Tandem::Records(records).encode(&trailer)
            } else {
                let (capability, data_version) = (name.clone(), snapshot.version.into());
                Extra::Sync(Sync { capability, data_version, chunks: batch, intact: true })
                    .encode(&trailer)
            });
        }
        self.answered(ctx, to, request, (packets, false), count);
    }

    /// The module has found what a stock peer missed.
    pub(crate) fn replay_found(
        &mut self,
        ctx: &mut Ctx<'_>,
        to: NodeId,
        request: RequestId,
        missed: Vec<Missed>,
    ) {
        let trailer = Some(self.trailer(to));
        let Some(cap) = self.donation(to, request).map(|d| d.cap) else { return };
        let Some(name) = self.caps.iter().find(|c| c.id == cap).map(|c| c.name.clone()) else {
            return;
        };
        let packet = |(packet_type, version, payload)| {
            let capability = name.clone();
            Packet { capability, packet_type, version, payload, trailer }.encode().ok()
        };
        let packets = missed.into_iter().filter_map(packet).collect();
        self.answered(ctx, to, request, (packets, true), 0);
    }

    fn answered(
        &mut self,
        ctx: &mut Ctx<'_>,
        to: NodeId,
        request: RequestId,
        (packets, in_order): (Vec<Bytes>, bool),
        count: u64,
    ) {
        let bytes: usize = packets.iter().map(Bytes::len).sum();
        let Some(donation) = self.donation(to, request) else { return };
        donation.asked = None;
        donation.count += count;
        // Large buckets one by one, small ones many at once.
        donation.step = match bytes {
            b if b > STEP_BYTES => (donation.step / 4).max(1),
            b if b < STEP_BYTES / 8 => (donation.step * 2).min(STEP_MAX),
            _ => donation.step,
        };
        let over =
            donation.left.is_empty().then_some((donation.cap, donation.kind, donation.count));
        let end = over.and_then(|(cap, kind, count)| match kind {
            DonationKind::Sync => self.end_of_sync(to, cap, count),
            DonationKind::Repair | DonationKind::Replay { .. } => None,
        });
        let Some(peer) = self.peers.get_mut(&to) else { return };
        if over.is_some_and(|(_, kind, _)| kind == DonationKind::Sync) && peer.kind == Kind::Stock {
            let since = ctx.now.unix_ms.saturating_sub(AROUND_SYNC_MS);
            peer.repeat_later(ctx.now.after_ms(AFTER_SYNC_MS), since);
        }
        if over.is_some() {
            peer.bulk.donations.retain(|d| d.asked.is_some() || !d.left.is_empty());
        }
        packets.into_iter().chain(end).for_each(|packet| peer.bulk.push(packet, in_order));
        peer.bulk.settle_later();
        self.ask_buckets(ctx, to);
        self.send_bulk(ctx);
    }

    /// A stock peer takes a delete that another node sends before our records as one of something
    /// unknown, and then our record, which was built before. So what changed about then is repeated.
    pub(crate) fn tick_repeat(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.now.mono_ns;
        for id in self.reachable(Kind::Stock) {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            let Some((_, since_unix_ms)) = peer.repeat_at.filter(|(at, _)| *at <= now) else {
                continue;
            };
            peer.repeat_at = None;
            let caps = self.caps.iter().filter(|cap| cap.enabled && cap.startup_sync && cap.ok);
            for cap in caps.map(|cap| cap.id).collect::<Vec<_>>() {
                self.give(ctx, id, cap, DonationKind::Replay { since_unix_ms }, None);
            }
        }
    }

    fn end_of_sync(&self, to: NodeId, cap: CapId, count: u64) -> Option<Bytes> {
        let capability = self.caps.iter().find(|c| c.id == cap)?.name.clone();
        let tandem = self.peers.get(&to).is_some_and(|peer| peer.kind == Kind::Tandem);
        if tandem {
            return Tandem::Done(Done { capability, count }).encode(&self.trailer(to)).ok();
        }
        let chunks = i32::try_from(count).unwrap_or(i32::MAX);
        Extra::SyncEnd(SyncEnd { capability, chunks }).encode(&self.trailer(to)).ok()
    }

    /// Sends the next packets to every peer that has room for them.
    pub(crate) fn send_bulk(&mut self, ctx: &mut Ctx<'_>) {
        let ids: Vec<_> =
            self.peers.iter().filter(|(_, p)| !p.bulk.is_empty()).map(|(&id, _)| id).collect();
        let now = ctx.now.mono_ns;
        let mut waiting = false;
        for id in ids {
            self.send_bulk_to(ctx, id);
            self.ask_buckets(ctx, id);
            waiting |= self.peers.get(&id).is_some_and(|peer| !peer.bulk.packets.is_empty());
        }
        // A turn that is due stays due: acknowledgements come in between.
        let next = now.saturating_add(BULK_EVERY_NS);
        self.next_bulk = match self.next_bulk {
            Some(at) if waiting && at > now => Some(at),
            _ => waiting.then_some(next),
        };
    }

    fn send_bulk_to(&mut self, ctx: &mut Ctx<'_>, id: NodeId) {
        let now = ctx.now.mono_ns;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let mut budget = turn_budget(peer, now);
        while budget > 0 {
            let Some(peer) = self.peers.get_mut(&id) else { return };
            let Some(packet) = peer.bulk.pop() else { return };
            peer.bulk.in_flight += 1;
            peer.bulk.moved_at = now;
            peer.bulk.turn_bytes += packet.len();
            budget = budget.saturating_sub(packet.len());
            self.route(ctx, id, &packet);
        }
    }
}

/// Bytes that may leave now. A Tandem peer says what it has taken; a stock one says nothing, and
/// gets as much in a turn as one of its kind takes in.
fn turn_budget(peer: &mut Peer, now: Mono) -> usize {
    let stalled = now.saturating_sub(peer.bulk.moved_at) >= GIVE_UP_NS;
    if peer.kind == Kind::Tandem {
        if stalled {
            // Lost with a connection, or a peer that does not say.
            peer.bulk.in_flight = 0;
        }
        return if peer.bulk.in_flight < WINDOW_PACKETS { TURN_BYTES } else { 0 };
    }
    if now.saturating_sub(peer.bulk.turn_at) >= BULK_EVERY_NS {
        peer.bulk.turn_at = now;
        peer.bulk.turn_bytes = 0;
    }
    STOCK_TURN_BYTES.saturating_sub(peer.bulk.turn_bytes)
}

/// Groups records into packets of about `size` bytes.
fn batches(records: Vec<Bytes>, size: usize, ctx: &mut Ctx<'_>) -> Vec<Vec<Bytes>> {
    let size = size.clamp(1024, RECORD_BYTES_MAX);
    let mut all = Vec::new();
    let mut batch: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    for record in records {
        if record.len() > RECORD_BYTES_MAX {
            let size = record.len();
            let text = format!("a record of {size} bytes fits no packet and is not synced");
            ctx.out.log(Level::Error, text);
            continue;
        }
        let cost = record.len() + CHUNK_OVERHEAD_BYTES;
        if !batch.is_empty() && bytes + cost > size {
            all.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += cost;
        batch.push(record);
    }
    if !batch.is_empty() {
        all.push(batch);
    }
    all
}

/// How long after its end a sync of a stock peer is followed by what changed about then, from how
/// long before its end on.
pub(crate) const AFTER_SYNC_MS: u64 = 3_000;
const AROUND_SYNC_MS: u64 = 15_000;
const CHUNK_OVERHEAD_BYTES: usize = 8;
/// Syncs, repairs and replays for one peer at a time.
const DONATIONS_MAX: usize = 64;
/// More is built when less than this waits to be sent.
const LOW_WATER_BYTES: usize = 256 << 10;
/// Buckets in the first question and in the largest, and about how much one should bring.
const STEP_FIRST: usize = 8;
const STEP_MAX: usize = 64;
const STEP_BYTES: usize = 512 << 10;
/// Packets with records on the way to a Tandem peer, and what leaves in one go.
const WINDOW_PACKETS: u64 = 64;
const TURN_BYTES: usize = 512 << 10;
/// What a stock peer gets every [`BULK_EVERY_NS`]: about 10 MB/s.
const STOCK_TURN_BYTES: usize = 192 << 10;
/// How long acknowledgements may be missing.
const GIVE_UP_NS: Mono = SEC;
