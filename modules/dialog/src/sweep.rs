//! What happens by time. Once a second all shards are asked for what has come due, so much in one
//! step and the rest a millisecond later. Nothing is armed for a single dialog.

use tandem_clock::SEC;
use tandem_engine::module::{Cx, Timer};

use crate::id::DialogId;
use crate::record::{EndReason, State};
use crate::state::Dialogs;
use crate::stats;
use crate::table::SHARDS;

/// The timer that walks; the id is the shard.
const SWEEP: u32 = 0;
/// Dialogs that one step deals with.
const DUE_A_STEP: usize = 250;

impl Dialogs {
    pub(crate) fn start_sweeping(&self, cx: &mut Cx<'_>) {
        cx.set_timer(cx.now.after_s(1), Timer { kind: SWEEP, id: 0 });
    }

    pub(crate) fn sweep(&self, cx: &mut Cx<'_>, timer: Timer) {
        let mut left = DUE_A_STEP;
        for shard in timer.id as usize..SHARDS {
            let (due, more) = self.table.due(shard, cx.now, left);
            left -= due.len().min(left);
            for id in due {
                self.come_due(cx, id);
            }
            if more {
                let timer = Timer { kind: SWEEP, id: shard as u64 };
                cx.set_timer(cx.now.after_ms(1), timer);
                return;
            }
        }
        self.start_sweeping(cx);
    }

    fn come_due(&self, cx: &mut Cx<'_>, id: DialogId) {
        let now_s = cx.now.mono_ns / SEC;
        let what = self.table.read(id, |e| (e.dialog.state, e.local.expires_at <= now_s));
        match what {
            Some((State::Deleted, _)) => {
                self.table.remove(id);
            }
            Some((_, true)) => {
                self.count(cx, stats::EXPIRED);
                self.end(cx, id, EndReason::Lifetime, None);
            }
            _ => {}
        }
    }

    /// What begins with the answer.
    pub(crate) fn after_answer(&self, _cx: &mut Cx<'_>, _id: DialogId) {}
}
