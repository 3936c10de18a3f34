//! What happens by time. Once a second all shards are asked for what has come due, so much in one
//! step and the rest a millisecond later. Nothing is armed for a single dialog.

use tandem_clock::SEC;
use tandem_engine::context::Ctx;
use tandem_engine::module::{Cx, Timer};

use crate::change::Change;
use crate::flags::Flags;
use crate::id::DialogId;
use crate::record::{Dialog, EndReason, State};
use crate::state::Dialogs;
use crate::stats;
use crate::table::SHARDS;

/// The timer that walks; the id is the shard.
pub(crate) const SWEEP: u32 = 0;
/// Dialogs that one step deals with.
const DUE_A_STEP: usize = 250;
/// Token of the route that runs at the end of the lifetime.
pub(crate) const TIMEOUT_ROUTE: u64 = 1;

/// What has come due of a dialog.
#[derive(Debug, Default)]
struct DueNow {
    forget: bool,
    expired: bool,
    race: bool,
    acts: bool,
}

impl Dialogs {
    pub(crate) fn start_sweeping(&self, cx: &mut Cx<'_>) {
        cx.set_timer(cx.now.after_s(1), Timer { kind: SWEEP, id: 0 });
    }

    pub(crate) fn sweep(&self, cx: &mut Cx<'_>, from: usize) {
        let mut left = DUE_A_STEP;
        for shard in from..SHARDS {
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
        let due = self.table.read(id, |e| DueNow {
            forget: e.dialog.state == State::Deleted,
            expired: e.local.expires_at <= now_s,
            race: e.local.race_at != 0 && e.local.race_at <= now_s,
            acts: self.may_act(cx.node, &e.dialog),
        });
        let Some(due) = due else { return };
        if due.forget {
            self.forget(cx, id);
        } else if due.race {
            self.table.local(id, |_, local| local.race_at = 0);
            if due.acts {
                self.hang_up(cx, id, EndReason::Race, b"");
            }
        } else if due.expired {
            if self.may_end(cx, id) {
                self.expired(cx, id);
            }
        } else {
            self.ping_due(cx, id);
        }
    }

    /// The lifetime is over. The route for that comes first and may prolong it.
    fn expired(&self, cx: &mut Cx<'_>, id: DialogId) {
        let route = self.table.local(id, |d, local| {
            let has_route = !d.routes.on_timeout.is_empty();
            let asks = has_route && local.asked_at_end != d.expires_s;
            if asks {
                local.asked_at_end = d.expires_s;
                // It comes due again if the route takes its time.
                local.expires_at += 1;
            }
            asks.then(|| d.routes.on_timeout.clone())
        });
        match route {
            None => {}
            Some(Some(name)) => {
                let found = std::str::from_utf8(&name).ok().and_then(|n| cx.named_route(n));
                let ctx = Box::new(self.context(cx, id, None));
                let refused = match found {
                    Some(route) => cx.run_route(route, ctx, TIMEOUT_ROUTE).is_some(),
                    None => true,
                };
                if refused {
                    self.time_out(cx, id);
                }
            }
            Some(None) => self.time_out(cx, id),
        }
    }

    /// The route for the end of the lifetime has ended.
    pub(crate) fn timeout_route_ended(&self, cx: &mut Cx<'_>, ctx: &Ctx) {
        let Some(id) = self.current(ctx).map(|current| current.id) else { return };
        let prolonged = self.table.read(id, |e| e.local.asked_at_end != e.dialog.expires_s);
        match prolonged {
            Some(true) => {
                let change = Change::Flags { set: Flags::SELF_EXTENDED, clear: Flags::NONE };
                self.try_change(cx, id, change);
            }
            Some(false) => self.time_out(cx, id),
            None => {}
        }
    }

    fn time_out(&self, cx: &mut Cx<'_>, id: DialogId) {
        let found = self.read(id, |d| (d.state, d.flags.has(Flags::BYE_ON_TIMEOUT)));
        let Some((state, byes)) = found.filter(|(state, _)| state.is_alive()) else { return };
        self.count(cx, stats::EXPIRED);
        if byes && state.is_answered() {
            self.hang_up(cx, id, EndReason::Lifetime, b"");
        } else {
            self.end(cx, id, EndReason::Lifetime, None);
        }
    }

    /// What begins with the answer: a call that was cancelled and answered at once is watched.
    pub(crate) fn after_answer(&self, cx: &mut Cx<'_>, id: DialogId) {
        let races = |d: &Dialog| d.flags.has(Flags::RACE.with(Flags::END_ON_RACE));
        let at = cx.now.mono_ns.div_ceil(SEC) + u64::from(self.params.race_timeout_s);
        if self.read(id, races) == Some(true) {
            self.table.local(id, |_, local| local.race_at = at);
        }
    }
}
