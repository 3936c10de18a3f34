//! Calls that ring and whose node is gone, or has lost their tag and the address that they came to.
//! Peers have a draft of each (see `drafts.rs`) with its transaction in it; whoever acts for such a
//! call by now goes on with both. The phones notice nothing: who rings is asked again, which he
//! absorbs, and what he says, a CANCEL of the caller, timeouts and failure routes find their
//! transaction.

use std::ops::RangeFrom;
use std::sync::atomic::Ordering;

use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_tm::Tm;

use crate::change::Origin;
use crate::drafts::{Draft, Entry, PATIENCE_NS};
use crate::duty::parts;
use crate::id::DialogId;
use crate::record::{Dialog, State};
use crate::replication::{empty, fields};
use crate::state::Dialogs;
use crate::table::SHARDS;

/// Takes calls over that ring; the id is the number that the next ones begin with.
pub(crate) const TAKE_OVER: u32 = 73;
/// Drafts that are looked at in one go.
const AT_ONCE: usize = 256;
/// Gives calls away that ring; the id is the shard that is looked at.
pub(crate) const GIVE: u32 = 74;
const SHARDS_AT_ONCE: u64 = 32;
/// The tag may go before the address does: so long until this node looks again.
const GIVE_AGAIN_MS: u64 = 250;

impl Dialogs {
    /// Goes through the calls that ring on other nodes.
    pub(crate) fn take_over_ringing(&self, cx: &mut Cx<'_>, from: u64) {
        let some = self.drafts.some(RangeFrom { start: from }, AT_ONCE);
        let next = some.get(AT_ONCE - 1).map(|last| last.number() + 1);
        some.into_iter().for_each(|id| self.take_over_call(cx, id));
        if let Some(id) = next {
            cx.set_timer(cx.now.after_ms(1), Timer { kind: TAKE_OVER, id });
        }
    }

    /// A tag has gone to another node, or a call has come whose tag is there: what rings goes there,
    /// too, once the addresses have.
    pub(crate) fn begin_giving(&self, cx: &mut Cx<'_>) {
        if !self.is_replicated() {
            return;
        }
        // What comes while some are looked at is looked at in the next round.
        self.takeover.keeps.store(true, Ordering::Release);
        if !self.takeover.gives.swap(true, Ordering::AcqRel) {
            self.takeover.keeps.store(false, Ordering::Release);
            cx.set_timer(cx.now.after_ms(1), Timer { kind: GIVE, id: 0 });
        }
    }

    /// Looks through some shards after the others, and again while calls ring here that are
    /// others'.
    pub(crate) fn give_calls(&self, cx: &mut Cx<'_>, shard: u64) {
        let (mut next, mut given) = (shard, 0);
        while next < (shard + SHARDS_AT_ONCE).min(SHARDS as u64) && given < AT_ONCE {
            for id in self.table.ringing(next as usize) {
                if self.read(id, |d| self.is_anothers(cx, d)) == Some(true) {
                    let gone = !self.is_held_here(cx, id) && self.give_call(cx, id);
                    given += usize::from(gone);
                    if gone {
                        let text = "a call that rings here goes on at another node";
                        cx.log(Level::Notice, text);
                    } else {
                        self.takeover.keeps.store(true, Ordering::Release);
                    }
                }
            }
            next += 1;
        }
        let (ms, id) = match next < SHARDS as u64 {
            true => (1, next),
            false if self.takeover.keeps.swap(false, Ordering::AcqRel) => (GIVE_AGAIN_MS, 0),
            false => {
                self.takeover.gives.store(false, Ordering::Release);
                // Somebody may have come in between.
                if self.takeover.keeps.load(Ordering::Acquire) {
                    self.begin_giving(cx);
                }
                return;
            }
        };
        cx.set_timer(cx.now.after_ms(ms), Timer { kind: GIVE, id });
    }

    /// Whether this host has an address that the call needs.
    fn is_held_here(&self, cx: &mut Cx<'_>, id: DialogId) -> bool {
        let tx = self.table.local(id, |_, local| local.invite).flatten();
        let (Some(tx), Some((_, tm))) = (tx, cx.node.find::<Tm>()) else { return true };
        tm.is_held_here(cx, tx)
    }

    /// It rings here, and a Tandem node that is there holds its tag.
    pub(crate) fn is_anothers(&self, cx: &Cx<'_>, d: &Dialog) -> bool {
        let (membership, cluster) = (cx.node.membership(), self.params.cluster);
        let rings = d.state < State::Unacked && d.answered_s == 0;
        let Some(tag) = d.tag().filter(|_| rings) else { return false };
        let Some(tags) = membership.tags() else { return false };
        let (name, its_cluster) = parts(tag, cluster);
        let holder = tags.holder(name, its_cluster);
        holder.is_some_and(|node| node != membership.node_id() && tags.is_reachable(cluster, node))
            && !tags.is_held_by_stock(name, its_cluster)
    }

    /// A call that rings goes on here, if it is this node's by now.
    pub(crate) fn take_over_call(&self, cx: &mut Cx<'_>, id: DialogId) {
        let Some(entry) = self.drafts.get(id) else { return };
        let Some(draft) = Draft::parse(&entry.draft) else { return self.drafts.remove(id) };
        let Some(transaction) = draft.section(tandem_tm::MODULE.name) else { return };
        let Some(dialog) = self.rings_nowhere(cx, &draft, id, &entry) else { return };
        let Some((slot, tm)) = cx.node.find::<Tm>() else { return };
        // What the transaction does first may already be about its dialog.
        if self.insert(cx, dialog, self.new_local(), Origin::Local) != Ok(true) {
            return;
        }
        let age_ns = cx.now.mono_ns.saturating_sub(entry.at);
        match cx.for_slot(slot, |cx| tm.take_over(cx, transaction, age_ns)) {
            Ok(tx) => {
                let rang_at = (draft.node, self.lost_ms(cx, draft.node, entry.at));
                self.table.local(id, |_, local| {
                    (local.invite, local.rang_at) = (Some(tx), Some(rang_at));
                });
                self.drafts.remove(id);
                self.turns.note(cx.now.mono_ns, id, draft.next_turn());
                self.draw_up(cx, id);
                let text = match draft.given {
                    true => "a call that another node has given away goes on here",
                    false => "a call that rings on a node that is gone goes on here",
                };
                cx.log(Level::Notice, text);
                // Its ACK or its BYE may have passed before.
                self.follow(cx, id);
            }
            Err(why) => {
                self.table.remove(id);
                let why = format!("a call that rings elsewhere can only be answered: {why}");
                cx.log(Level::Warning, why);
            }
        }
    }

    /// The dialog of a draft whose node is gone, if this node acts for it.
    fn rings_nowhere(
        &self,
        cx: &Cx<'_>,
        draft: &Draft,
        id: DialogId,
        entry: &Entry,
    ) -> Option<Dialog> {
        let is_old = cx.now.mono_ns.saturating_sub(entry.at) >= PATIENCE_NS;
        if is_old || self.table.is_buried(id) || self.read(id, |_| ()).is_some() {
            return None;
        }
        let head = fields::read_heading(&draft.record)?;
        let mut dialog = empty(id, &head.call_id);
        fields::lay_over(&mut dialog, &draft.record, &self.flag_names)?;
        let is_gone = if draft.given {
            true
        } else if draft.node == cx.node.membership().node_id() {
            // It rang here before this node was started again, or has ended here since.
            u64::from(dialog.start_s) <= cx.node.started.unix_s()
        } else {
            cx.node.membership().tags().is_some() && !self.still_rings(cx, draft, entry)
        };
        let rings = dialog.state < State::Unacked && dialog.answered_s == 0;
        let is_ours = is_gone && rings && self.is_ours(cx, &dialog);
        // Who takes it up is responsible for it from now on.
        (dialog.id, dialog.creator) = (id, 0);
        is_ours.then_some(dialog)
    }

    /// Another node has gone on with a call that rings here as well, since the two did not see each
    /// other: it is that node's, and this one asks and answers nobody any more.
    pub(crate) fn leave_call(&self, cx: &mut Cx<'_>, id: DialogId) {
        let taken = self.table.local(id, |_, local| local.invite.take()).flatten();
        // One that rings must not end with its transaction: peers would hear that it is over.
        if self.read(id, |d| d.state < State::Unacked) == Some(true) {
            self.table.remove(id);
        }
        let (Some(tx), Some((slot, tm))) = (taken, cx.node.find::<Tm>()) else { return };
        if cx.for_slot(slot, |cx| tm.forget(cx, tx)) {
            cx.log(Level::Notice, "a call that rings here goes on at another node");
        }
    }
}
