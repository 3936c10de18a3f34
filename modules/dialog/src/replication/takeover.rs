//! Who acts for a dialog, and what begins when that becomes this node.
//!
//! Every node has the same deadlines, but only one acts on them: the holder of the dialog's
//! sharing tag; without a tag the node that made the dialog while it lives, else the one with the
//! lowest id. The moment this node becomes the one, it looks through its dialogs: pings begin,
//! what is overdue is dealt with, and what a dead node owed is asked for.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tandem_clock::{MS, Mono, Now, SEC};
use tandem_cluster::{CapState, Effect as News, TagTable};
use tandem_engine::dialog::DialogMoment;
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};

use crate::change::{Change, Origin};
use crate::flags::Flags;
use crate::id::DialogId;
use crate::record::{Dialog, EndReason};
use crate::state::Dialogs;
use crate::table::SHARDS;

/// The timer that looks through the dialogs; the id is the shard.
pub(crate) const LOOK: u32 = 65;
/// What is overdue is spread over this time at least.
const SPREAD_NS: u64 = 2 * SEC;
/// Takeovers that follow each other within this time are one: turns go on and do not begin again.
const FLAPPING_NS: u64 = 10 * SEC;
/// Overdue dialogs that are dealt with in a second.
const OVERDUE_A_SECOND: u64 = 1000;
/// A call that does not answer just after this node took over is left alone: its route may be
/// moving still.
const MERCY_NS: u64 = 5 * SEC;
/// A node that is quiet for so long may still be heard again.
const SILENCE_NS: u64 = 2 * SEC;
/// What is due and not this node's is looked at again after this.
const PUT_OFF_S: u64 = 2;
/// A dialog that has expired so long ago and that nobody ends is dropped.
const LEAK_S: u64 = 600;
/// The same where a stock node acts: it ends a call within a second, and says so once.
const STOCK_LEAK_S: u64 = 20;
/// In the index of profiles, before the creator of a dialog without a tag.
pub(crate) const CREATOR_MARK: u8 = 0;

/// When this node last became responsible for something.
#[derive(Debug, Default)]
pub(crate) struct Takeover {
    /// Monotonic nanoseconds; 0: never.
    at: AtomicU64,
    /// When a tag became active here the last time; 0: never.
    activated: AtomicU64,
    /// What turns are counted from, and what they are spread over.
    turns_from: AtomicU64,
    spread_ns: AtomicU64,
    /// Calls that ring are given to the holders of their tags; some could not be so far.
    pub(crate) gives: AtomicBool,
    pub(crate) keeps: AtomicBool,
    sync: Mutex<Sync>,
}

/// What a stock donor has told since its sync began.
#[derive(Debug, Default)]
struct Sync {
    began_unix_ms: u64,
    seen: HashSet<DialogId>,
}

/// What the index of profiles keeps a dialog under, so that its node can be told.
pub(crate) fn owner_key(d: &Dialog) -> Box<[u8]> {
    match d.tag() {
        Some(tag) => tag.as_bytes().into(),
        None if d.creator == 0 => Box::default(),
        None => [&[CREATOR_MARK][..], &d.creator.to_be_bytes()].concat().into(),
    }
}

impl Dialogs {
    /// Whether this node acts for a dialog, as of now.
    pub(crate) fn is_ours(&self, cx: &Cx<'_>, d: &Dialog) -> bool {
        self.may_act(cx.node, d)
    }

    /// What this node does for a call of its own begins: it is watched and pinged.
    fn begin_acting(&self, cx: &mut Cx<'_>, id: DialogId) {
        self.after_answer(cx, id);
        self.plan_pings(cx, id);
    }

    /// Whether the turn of an overdue dialog has come after a takeover.
    pub(crate) fn is_its_turn(&self, now: Now, id: DialogId) -> bool {
        let Takeover { turns_from, spread_ns, .. } = &self.takeover;
        let from = turns_from.load(Ordering::Acquire);
        let wait = (u128::from(spread_ns.load(Ordering::Acquire)) * u128::from(id.id)) >> 32;
        from == 0 || now.mono_ns >= from.saturating_add(wait as u64)
    }

    /// Whether this node took over so lately that a failure means nothing yet.
    pub fn took_over_lately(&self, now: Now) -> bool {
        let at = self.takeover.at.load(Ordering::Acquire);
        at != 0 && now.mono_ns < at.saturating_add(MERCY_NS)
    }

    /// About when a call was answered that was over the node of its draft, if it was; in Unix
    /// milliseconds. That was not before this node heard the last of that node, which would have
    /// told it, nor after the address moved here, which the tag goes with.
    pub(crate) fn lost_ms(&self, cx: &Cx<'_>, node: u32, draft_at: Mono) -> u64 {
        let tags = cx.node.membership().tags();
        let silent = tags.and_then(|tags| tags.silent_since(self.params.cluster, node));
        let now = cx.now.mono_ns;
        let silent = silent.unwrap_or(now).clamp(draft_at.min(now), now);
        let activated = self.takeover.activated.load(Ordering::Acquire);
        let at = if activated > silent {
            // A silence may be older than what was lost in it.
            let from = silent.max(activated.saturating_sub(SILENCE_NS));
            from + (activated - from) / 2
        } else {
            silent.saturating_add(SILENCE_NS / 4).min(now)
        };
        cx.now.unix_ms.saturating_sub((now - at) / MS)
    }

    /// News of a cluster.
    pub(crate) fn heard_news(&self, cx: &mut Cx<'_>, news: &News) {
        let ours = self.params.cluster;
        if let News::TagChanged { active: true, .. } = news {
            self.takeover.activated.store(cx.now.mono_ns, Ordering::Release);
        }
        match news {
            News::TagChanged { cluster, active: true, .. } if *cluster == ours => {
                self.begin_takeover(cx);
            }
            // The tag of a dialog may be another cluster's.
            News::TagChanged { active: true, .. } => self.take_over_ringing(cx, 0),
            News::TagChanged { active: false, .. } => self.begin_giving(cx),
            News::NodeState { cluster, up: true, .. } if *cluster == ours => {
                self.peer_came(cx);
                self.begin_giving(cx);
            }
            News::NodeState { cluster, node, up: false } => {
                if *cluster == self.counts.cluster {
                    self.counts.forget_node(*node);
                }
                if *cluster == ours {
                    self.begin_takeover(cx);
                }
            }
            News::CapState { cluster, cap, state, .. }
                if *cluster == ours
                    && cx.node.membership().capability(cx.slot, 0) == Some(*cap) =>
            {
                self.sync_goes_on(cx, *state);
            }
            _ => {}
        }
    }

    /// A dialog came from a peer or a database: what this node does for its own begins, if it is
    /// its own.
    pub(crate) fn came_in(&self, cx: &mut Cx<'_>, id: DialogId) {
        let ours = |d: &Dialog| d.state.is_answered() && self.is_ours(cx, d);
        if self.read(id, ours) == Some(true) {
            self.begin_acting(cx, id);
        }
    }

    /// Whether this node may end a dialog whose time is over. If not, it looks again later: the
    /// node that may has told nothing yet.
    pub(crate) fn may_end(&self, cx: &mut Cx<'_>, id: DialogId) -> bool {
        let now_s = cx.now.unix_s();
        let found = self.read(id, |d| {
            let leak_s = if self.is_left_to_stock(cx.node, d) { STOCK_LEAK_S } else { LEAK_S };
            (self.is_ours(cx, d), u64::from(d.expires_s) + leak_s)
        });
        let Some((ours, leaks_at_s)) = found else { return false };
        if ours && self.is_its_turn(cx.now, id) {
            return true;
        }
        if !ours && leaks_at_s <= now_s {
            // Whoever should have ended it is gone for good, or has forgotten to say so.
            let (origin, reason) = (Origin::Peer { node: 0 }, EndReason::Lifetime);
            let _ = self.change_by(cx, id, origin, Change::Ended { reason }, None);
            return false;
        }
        self.put_off(cx, id);
        false
    }

    /// An ended dialog has been known for long enough; what it owes keeps it.
    pub(crate) fn forget(&self, cx: &Cx<'_>, id: DialogId) {
        if self.read(id, Dialog::owes) == Some(true) {
            self.put_off(cx, id);
        } else if let Some(entry) = self.table.remove(id) {
            self.remember(cx, &entry.dialog);
        }
    }

    /// What is due of a dialog is looked at again in a moment.
    fn put_off(&self, cx: &Cx<'_>, id: DialogId) {
        let until = cx.now.mono_ns / SEC + PUT_OFF_S;
        self.table.local(id, |_, local| local.put_off_s = until);
    }

    /// A dialog is forgotten; its end is not.
    fn remember(&self, cx: &Cx<'_>, d: &Dialog) {
        if self.is_replicated() && d.answered_s != 0 {
            self.table.bury(cx.now, d);
        }
    }

    fn begin_takeover(&self, cx: &mut Cx<'_>) {
        let now = cx.now.mono_ns.max(1);
        let from = self.takeover.turns_from.load(Ordering::Acquire);
        if from == 0 || now.saturating_sub(from) >= FLAPPING_NS {
            let overdue = self.table.overdue(cx.now) as u64;
            let spread = SPREAD_NS.max(overdue.saturating_mul(SEC / OVERDUE_A_SECOND));
            self.takeover.spread_ns.store(spread, Ordering::Release);
            self.takeover.turns_from.store(now, Ordering::Release);
        }
        self.takeover.at.store(now, Ordering::Release);
        cx.set_timer(cx.now.after_ms(1), Timer { kind: LOOK, id: 0 });
    }

    /// Looks through one shard after the other.
    pub(crate) fn look_through(&self, cx: &mut Cx<'_>, shard: u64) {
        let tags = cx.node.membership().tags().cloned();
        if shard == 0 {
            self.follow_all(cx);
            self.take_over_ringing(cx, 0);
        }
        for id in self.table.shard_ids(shard as usize) {
            let found = self.read(id, |d| {
                let owed = !d.state.is_alive() && self.is_orphaned(tags.as_deref(), d);
                let wanted = owed || d.state.is_answered();
                (wanted && self.is_ours(cx, d)).then_some(owed)
            });
            match found.flatten() {
                Some(true) => self.claim(cx, id),
                Some(false) => {
                    self.table.local(id, |_, local| local.put_off_s = 0);
                    self.store_again(id);
                    self.begin_acting(cx, id);
                }
                None => {}
            }
        }
        if let Some(sql) = &self.sql {
            self.pump_sql(cx, sql);
        }
        if shard + 1 < SHARDS as u64 {
            cx.set_timer(cx.now.after_ms(1), Timer { kind: LOOK, id: shard + 1 });
        }
    }

    /// Whether something is to be written for a call and the node that owes it is gone. One that
    /// lives, or comes back, pays itself.
    pub(crate) fn is_orphaned(&self, tags: Option<&TagTable>, d: &Dialog) -> bool {
        let debtor = d.debt.as_ref().filter(|debt| debt.is_open()).map(|debt| debt.node);
        debtor.zip(tags).is_some_and(|(node, tags)| !tags.is_reachable(self.params.cluster, node))
    }

    /// What another node owed for a call is asked of the modules that know how to pay.
    pub(crate) fn claim(&self, cx: &mut Cx<'_>, id: DialogId) {
        let Some(record) = self.read(id, Dialog::clone) else { return };
        self.tell(cx, DialogMoment::Owed, &record, None);
    }

    pub(super) fn seen_in_sync(&self, id: DialogId) {
        self.takeover.sync.lock().seen.insert(id);
    }

    fn sync_goes_on(&self, cx: &mut Cx<'_>, state: CapState) {
        match state {
            CapState::Synced => self.sync_ended(cx),
            // It is asked for; what is changed from now on is newer than what comes.
            CapState::Pending => {
                *self.takeover.sync.lock() =
                    Sync { began_unix_ms: cx.now.unix_ms, seen: HashSet::new() };
            }
            CapState::InProgress | CapState::NotSynced => {}
        }
    }

    /// A stock donor has told everything. What it lacks is over, if another node acts for it and
    /// nothing has been heard of it since.
    fn sync_ended(&self, cx: &mut Cx<'_>) {
        let sync = std::mem::take(&mut *self.takeover.sync.lock());
        if sync.seen.is_empty() {
            return;
        }
        let mut dropped = 0;
        for id in self.table.ids().into_iter().filter(|id| !sync.seen.contains(id)) {
            let is_over = self.read(id, |d| {
                let tagged = d.tag().is_some() || d.flags.has(Flags::LOADED);
                let old = d.stamp.time_us / 1000 < sync.began_unix_ms;
                d.state.is_answered() && tagged && old && !self.is_ours(cx, d)
            });
            if is_over == Some(true) {
                let (origin, reason) = (Origin::Peer { node: 0 }, EndReason::Peer);
                let ended = self.change_by(cx, id, origin, Change::Ended { reason }, None);
                dropped += u32::from(ended.is_ok());
            }
        }
        if dropped > 0 {
            cx.log(Level::Notice, format!("{dropped} dialogs ended while nobody told this node"));
        }
    }
}
