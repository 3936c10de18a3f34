//! What happens by time. Once a second all shards are asked for what has come due, so much in one
//! step and the rest a millisecond later. Nothing is armed for a single record.

use std::sync::Arc;

use tandem_engine::module::{Cx, Timer};

use crate::change::{Change, Origin};
use crate::package::Status;
use crate::record::{Key, SubId, Subscription};
use crate::state::Presence;
use crate::table::{Presentity, SHARDS};

/// The timer that walks; the id is the shard.
pub(crate) const SWEEP: u32 = 2;
/// The timer of `clean_period`.
pub(crate) const CLEAN: u32 = 3;
/// Presentities that one step deals with, and subscriptions of one of them.
const DUE_A_STEP: usize = 100;
const SUBSCRIPTIONS_A_STEP: usize = 100;
/// What is over and not this node's is looked at again after this.
const PUT_OFF_S: u32 = 2;
/// A subscription that is over for so long and that nobody ends is dropped.
const LEAK_S: u64 = 600;

impl Presence {
    pub(crate) fn start_sweeping(&self, cx: &mut Cx<'_>) {
        if self.params.clean_period_s == 0 {
            return;
        }
        self.arm_sweep(cx);
        self.arm_clean(cx);
    }

    fn arm_sweep(&self, cx: &mut Cx<'_>) {
        cx.set_timer(cx.now.after_s(1), Timer { kind: SWEEP, id: 0 });
    }

    fn arm_clean(&self, cx: &mut Cx<'_>) {
        let period_s = self.params.clean_period_s.into();
        cx.set_timer(cx.now.after_s(period_s), Timer { kind: CLEAN, id: 0 });
    }

    /// Rows of the database whose time is over are deleted.
    pub(crate) fn clean_timer(&self, cx: &mut Cx<'_>) {
        if self.is_active(cx) {
            self.clean_sql(cx);
        }
        self.arm_clean(cx);
    }

    pub(crate) fn sweep(&self, cx: &mut Cx<'_>, from: usize) {
        if let Some(shard) = self.sweep_some(cx, from) {
            let timer = Timer { kind: SWEEP, id: shard as u64 };
            cx.set_timer(cx.now.after_ms(1), timer);
        } else {
            self.arm_sweep(cx);
        }
    }

    /// Deals with what is due, up to a number; gives the shard where it has stopped.
    fn sweep_some(&self, cx: &mut Cx<'_>, from: usize) -> Option<usize> {
        let mut left = DUE_A_STEP;
        for shard in from..SHARDS {
            let (keys, more) = self.table.due(shard, cx.now.unix_s(), left);
            left -= keys.len().min(left);
            let mut again = more;
            for key in keys {
                again |= self.come_due(cx, &key);
            }
            if again {
                return Some(shard);
            }
        }
        None
    }

    /// `presence:cleanup`: everything that is over now, and the rows.
    pub(crate) fn clean_now(&self, cx: &mut Cx<'_>) {
        self.sweep_some(cx, 0);
        if self.is_active(cx) {
            self.clean_sql(cx);
        }
    }

    /// Something of a presentity is over; true: there is more of it.
    fn come_due(&self, cx: &mut Cx<'_>, key: &Arc<Key>) -> bool {
        if let Ok(done) = self.apply(cx, key, Origin::Local, Change::Expire) {
            // Every node drops them; the rows go where this node acts.
            let origin = if self.is_active(cx) { Origin::Local } else { Origin::Tandem };
            self.follow(cx, key, origin, &done);
        }
        let now_s = cx.now.unix_s();
        let take = |p: &mut Presentity| p.ends.take_over(now_s, SUBSCRIPTIONS_A_STEP);
        let (over, has_more) = self.table.local(key, take).unwrap_or_default();
        let mut are_left = false;
        for id in &over {
            let s = self.table.subscription(key, id);
            are_left |= s.is_some_and(|s| !self.end(cx, key, &s));
        }
        if are_left {
            self.table.local(key, |p| p.ends.leave());
        }
        if !has_more {
            let are_left = self.table.local(key, |p| p.ends.end_round()).unwrap_or(false);
            let put_off = (now_s as u32).saturating_add(PUT_OFF_S);
            self.table.come_due_again(key, are_left.then_some(put_off));
        }
        has_more
    }

    /// A subscription is over; false: somebody else has to end it.
    fn end(&self, cx: &mut Cx<'_>, key: &Arc<Key>, s: &Subscription) -> bool {
        if !self.is_ours(cx, s) || !self.is_its_turn(cx.now, key) {
            let over_s = cx.now.unix_s().saturating_sub(s.expires_s.into());
            if over_s < LEAK_S {
                return false;
            }
            // Whoever should have ended it is gone for good, or has forgotten to say so.
            self.drop_silently(cx, key, &s.id);
            return true;
        }
        if s.status == Status::Terminated {
            self.notify_owed(cx, key, &[Arc::clone(&s.id)]);
            if self.table.subscription(key, &s.id).is_some() {
                self.forget(cx, key, &s.id);
            }
            return true;
        }
        if self.looks_before_end(cx, key, &s.id) {
            return false;
        }
        self.tell_end(cx, key, s);
        true
    }

    /// Ends a subscription if its time is still over.
    pub(crate) fn end_now(&self, cx: &mut Cx<'_>, key: &Arc<Key>, id: &Arc<SubId>) {
        let now_s = cx.now.unix_s();
        let over = self.table.subscription(key, id).filter(|s| u64::from(s.expires_s) <= now_s);
        if let Some(s) = over.filter(|s| s.status != Status::Terminated) {
            self.tell_end(cx, key, &s);
        }
    }

    fn tell_end(&self, cx: &mut Cx<'_>, key: &Arc<Key>, s: &Subscription) {
        let mut ended = s.clone();
        let was_pending = s.status == Status::Pending;
        let reason = if was_pending { b"giveup".as_slice() } else { b"timeout" };
        (ended.status, ended.reason) = (Status::Terminated, reason.into());
        ended.asks = ended.asks.saturating_add(1);
        if was_pending {
            self.keep_waiting(cx, key, s);
        }
        let _ = self.change(cx, key, Change::subscribe(ended));
    }

    fn drop_silently(&self, cx: &mut Cx<'_>, key: &Arc<Key>, id: &Arc<SubId>) {
        let change = Change::Forget { id: Arc::clone(id) };
        if let Ok(done) = self.apply(cx, key, Origin::Tandem, change) {
            self.follow(cx, key, Origin::Tandem, &done);
        }
    }
}
