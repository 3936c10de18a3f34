//! The calls that this node acts for: made here, taken over, or loaded after a restart.
//!
//! Nobody tells when a dialog comes from a peer or a database, or when the duty for it changes.
//! The table of dialogs is therefore gone through again and again, a few shards at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use tandem_clock::{MS, SEC};
use tandem_dialog::{Dialog, DialogId, Dialogs, SHARDS};
use tandem_engine::module::{Cx, Timer};

use crate::NatTraversal;
use crate::endpoints::Reason;
use crate::follow::endpoints_of;

/// The timer of the walk.
pub(crate) const WALK: u32 = 1;
/// Between two steps when nothing has happened, and at a start or takeover.
const STEP_NS: u64 = SEC;
const QUICK_STEP_NS: u64 = 10 * MS;

/// How far the walk is.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    next: AtomicUsize,
    /// Shards that are looked at without delay.
    urgent: AtomicUsize,
}

impl NatTraversal {
    /// Goes through all calls now: at the start, and when another node's calls are this one's.
    pub(crate) fn hurry(&self, cx: &mut Cx<'_>) {
        if self.dialogs(cx).is_some() && self.walk.urgent.swap(SHARDS, Ordering::Relaxed) == 0 {
            cx.set_timer(cx.now.after_ms(1), Timer { kind: WALK, id: 1 });
        }
    }

    /// A step of the walk; `is_quick`: of one that something has caused.
    pub(crate) fn walk(&self, cx: &mut Cx<'_>, is_quick: bool) {
        let Some(dialogs) = self.dialogs(cx) else { return };
        let urgent = self.walk.urgent.load(Ordering::Relaxed);
        let shards = match (is_quick, urgent) {
            (true, 0) => return,
            (true, _) => 1,
            // Once in an interval, so that who comes meanwhile is kept alive from the next on.
            (false, _) => SHARDS.div_ceil(usize::try_from(self.params.interval_s).unwrap_or(1)),
        };
        for _ in 0..shards.min(SHARDS) {
            let shard = self.walk.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
            dialogs.table.shard_ids(shard).into_iter().for_each(|id| self.look(cx, &dialogs, id));
        }
        let wait_ns = if is_quick { QUICK_STEP_NS } else { STEP_NS };
        if is_quick {
            self.walk.urgent.store(urgent.saturating_sub(1), Ordering::Relaxed);
        }
        let timer = Timer { kind: WALK, id: u64::from(is_quick) };
        cx.set_timer(cx.now.mono_ns + wait_ns, timer);
    }

    /// Keeps the endpoints of a call alive if this node acts for it. With a tag of the module it
    /// holds for all of them, and is asked when something is sent.
    fn look(&self, cx: &Cx<'_>, dialogs: &Dialogs, id: DialogId) {
        let seen = |d: &Dialog| {
            let endpoints = endpoints_of(d);
            let acts = || self.params.tag.is_some() || dialogs.may_act(cx.node, d);
            let acts = !endpoints.is_empty() && d.state.is_alive() && acts();
            (endpoints, acts)
        };
        let Some((endpoints, acts)) = dialogs.read(id, seen) else { return };
        for (endpoint, socket) in endpoints {
            if !acts {
                self.endpoints.lock().end_dialog(endpoint, id.number(), cx.now.unix_s());
            } else if let Some(socket) = cx.node.sockets.resolve(&socket) {
                self.note(cx, socket, Some(endpoint), Reason::Dialog { id: id.number() });
            }
        }
    }
}
