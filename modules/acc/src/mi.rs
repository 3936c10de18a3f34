//! What operators ask: the records that wait, and those that another node owes.

use serde_json::json;
use tandem_dialog::{Dialogs, State as Phase};
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::Cx;
use tandem_engine::table::mi_int;

use crate::plan;
use crate::state::Acc;

const NO_PLACE: &str = "there is no database to account to";

/// The commands of the module.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "tandem:cdr_spool",
        old_names: &[],
        param_sets: &[&[]],
        help: "Records that wait for the database, or for the RADIUS server: in numbers, and the \
               first thousand of those in memory.",
        run: |call| match state(call.cx) {
            None => MiOutcome::failed(500, NO_PLACE),
            Some(acc) => {
                let mut all = acc.ledgers().map(|ledger| {
                    let mut shown = ledger.summary();
                    shown["Records"] = ledger.records().into();
                    shown
                });
                let Some(mut shown) = all.next() else { return MiOutcome::failed(500, NO_PLACE) };
                if let Some(second) = all.next() {
                    shown["radius_spool"] = second;
                }
                MiOutcome::Done(shown)
            }
        },
    },
    MiDef {
        name: "tandem:cdr_claim",
        old_names: &[],
        param_sets: &[&[mi_int("of")]],
        help: "Writes the records of calls that a node which does not return owes (of: its id).",
        run: claim,
    },
];

fn state(cx: &Cx<'_>) -> Option<std::sync::Arc<Acc>> {
    cx.node.module::<Acc>(cx.slot)
}

fn claim(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let of = call.int("of").and_then(|n| u32::try_from(n).ok());
    let Some(of) = of else { return MiOutcome::failed(400, "of is the id of a node") };
    let (Some(acc), Some((_, dialogs))) = (state(call.cx), call.cx.node.find::<Dialogs>()) else {
        return MiOutcome::failed(500, "the module dialog is not loaded");
    };
    if acc.ledgers().next().is_none() {
        return MiOutcome::failed(500, NO_PLACE);
    }
    let mut claimed = 0;
    for id in dialogs.table.ids() {
        let owed = dialogs.read(id, |d| {
            let owes = d.debt.as_ref().is_some_and(|debt| debt.node == of && debt.is_open());
            let over = d.state == Phase::Deleted;
            let plan = (owes && over).then(|| plan::read(d, &acc.params.extra, &acc.params.legs));
            Some((plan??, d.ended_ms()))
        });
        let Some((mut plan, ended_ms)) = owed.flatten() else { continue };
        plan.cdr.ended_ms = ended_ms;
        acc.write_plan(call.cx, &plan, id, plan.marks);
        claimed += 1;
    }
    MiOutcome::Done(json!({ "Claimed": claimed }))
}
