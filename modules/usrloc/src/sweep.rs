//! What happens by time: contacts end, and phones are woken before they do.
//!
//! Once a second all shards are asked for what has come due, so much in one step and the rest a
//! millisecond later. Nothing is armed for a single contact.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tandem_engine::module::{Cx, Timer};

use crate::state::{Table, Usrloc};
use crate::store::{Change, Due, Edit, Origin};
use crate::{events, timer};

/// Contacts that one step deals with.
const DUE_A_STEP: usize = 250;

impl Usrloc {
    /// There is something that will come due.
    pub(crate) fn start_sweeping(&self, cx: &mut Cx<'_>) {
        if !self.is_sweeping.load(Ordering::Relaxed)
            && !self.is_sweeping.swap(true, Ordering::AcqRel)
        {
            cx.set_timer(cx.now.after_s(1), Timer { kind: timer::SWEEP, id: 0 });
        }
    }

    /// Goes on with a walk through the shards of all tables; `from` is table and shard.
    pub(crate) fn sweep(&self, cx: &mut Cx<'_>, from: u64) {
        let (mut at, mut shard) = ((from >> 32) as usize, from as u32 as usize);
        let tables = self.tables();
        let now_s = cx.now.unix_s();
        let mut due = Due::default();
        while let Some(table) = tables.get(at) {
            if shard >= table.domain.shard_count() {
                (at, shard) = (at + 1, 0);
                continue;
            }
            let is_more = table.domain.pop_due(shard, now_s, DUE_A_STEP, &mut due);
            let handled = due.ended.len() + due.to_wake.len() + due.empty.len();
            self.deal_with(cx, table, std::mem::take(&mut due));
            shard += usize::from(!is_more);
            if is_more || handled >= DUE_A_STEP {
                let id = (at as u64) << 32 | shard as u64;
                cx.set_timer(cx.now.after_ms(1), Timer { kind: timer::SWEEP, id });
                return;
            }
        }
        self.is_sweeping.store(false, Ordering::Release);
        if tables.iter().any(|t| t.domain.aor_count() + t.domain.tombstone_count() > 0) {
            self.start_sweeping(cx);
        }
    }

    fn deal_with(&self, cx: &mut Cx<'_>, table: &Arc<Table>, due: Due) {
        for contact in due.ended {
            let id = contact.id;
            let expire = |edit: &mut Edit<'_>| edit.apply(Change::Expire { id });
            self.change(cx, table, contact.aor(), Origin::Local, expire);
        }
        for aor in due.empty {
            let expire = |edit: &mut Edit<'_>| edit.apply(Change::ExpireAor);
            self.change(cx, table, &aor, Origin::Local, expire);
        }
        if due.to_wake.is_empty() {
            return;
        }
        let node = Arc::clone(cx.node);
        let tags = node.membership().tags().map(|tags| &**tags);
        for contact in due.to_wake {
            // Waking a phone is an act of our own, as a ping is.
            if self.may_act(tags, &contact) {
                events::tell_refresh(cx, table.name(), &contact, "reg-refresh", b"");
            }
        }
    }
}
