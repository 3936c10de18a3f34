//! Two dialogs of one call. When a node dies before it has sent 100, the INVITE comes again to
//! another one, which makes a dialog of its own, and the answer to both is the same. The BYE names
//! one of the two; the other one has the same Call-ID and tags, so it is over as well. A call that
//! comes by twice has two dialogs, too, and its BYE comes by twice: it has time to do so.

use tandem_engine::module::{Cx, Timer};

use crate::id::DialogId;
use crate::record::{Dialog, State};
use crate::state::Dialogs;

/// Looks for twins of a dialog that has ended; the id is its name.
pub(crate) const TWINS: u32 = 71;
/// How long a BYE may take to come by again.
const AGAIN_MS: u64 = 10_000;

impl Dialogs {
    pub(crate) fn plan_twins(&self, cx: &mut Cx<'_>, d: &Dialog) {
        if self.table.of_call(&d.call_id).len() > 1 {
            cx.set_timer(cx.now.after_ms(AGAIN_MS), Timer { kind: TWINS, id: d.id.number() });
        }
    }

    pub(crate) fn end_twins(&self, cx: &mut Cx<'_>, id: DialogId) {
        let ended = self.read(id, |d| {
            let tags = (d.caller.tag.clone(), d.callee()?.tag.clone());
            Some((d.call_id.clone(), tags, d.end_reason.filter(|_| d.state == State::Deleted)?))
        });
        let Some(Some((call_id, (from, to), reason))) = ended else { return };
        for twin in self.table.of_call(&call_id) {
            let lives = self.read(twin, |d| {
                d.state.is_answered()
                    && d.caller.tag == from
                    && d.callee().is_some_and(|leg| leg.tag == to)
                    && self.is_ours(cx, d)
            });
            if twin != id && lives == Some(true) {
                self.end(cx, twin, reason, None);
            }
        }
    }
}
