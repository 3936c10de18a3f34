//! The ends that this node makes: BYE to both sides, or CANCEL while it rings.

use tandem_engine::module::Cx;
use tandem_tm::Tm;

use crate::id::DialogId;
use crate::record::{EndReason, Side, State};
use crate::state::Dialogs;

/// What was done to end a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HungUp {
    Byes,
    Cancelled,
    /// It is over, or gone.
    Nothing,
}

impl Dialogs {
    /// Ends a dialog: BYE goes to both sides of one that was answered, CANCEL to the callees of
    /// one that rings. `extra` are header lines for the requests.
    pub fn hang_up(
        &self,
        cx: &mut Cx<'_>,
        id: DialogId,
        reason: EndReason,
        extra: &[u8],
    ) -> HungUp {
        let found = self.table.read(id, |e| (e.dialog.state, e.local.invite));
        let Some((state, invite)) = found else { return HungUp::Nothing };
        match state {
            State::Deleted => HungUp::Nothing,
            State::Unacked | State::Confirmed => {
                cx.for_slot(self.slot, |cx| {
                    self.send_bye(cx, id, Side::Caller, extra);
                    self.send_bye(cx, id, Side::Callee, extra);
                    self.end(cx, id, reason, None);
                });
                HungUp::Byes
            }
            State::Unconfirmed | State::Early => {
                self.end(cx, id, reason, None);
                if let Some((slot, tm)) = cx.node.find::<Tm>()
                    && let Some(tx) = invite
                {
                    cx.for_slot(slot, |cx| tm.cancel(cx, tx));
                }
                HungUp::Cancelled
            }
        }
    }
}
