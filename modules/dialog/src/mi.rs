//! Management commands.

use serde_json::{Value as Json, json};
use tandem_engine::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam, RpcError};

use crate::id::DialogId;
use crate::state::Dialogs;

const fn by_name(name: &'static str, kind: MiKind) -> MiParam {
    MiParam { name, kind }
}

const LIST_SETS: &[&[MiParam]] = &[
    &[],
    &[by_name("callid", MiKind::NamedStr)],
    &[by_name("callid", MiKind::NamedStr), by_name("from_tag", MiKind::NamedStr)],
    &[by_name("index", MiKind::NamedInt), by_name("counter", MiKind::NamedInt)],
];

/// The command table.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "dialog:list",
        old_names: &["dlg_list"],
        param_sets: LIST_SETS,
        help: "Lists dialogs: all, those of a call, or a page of them.",
        run: |call| list(call, false),
    },
    MiDef {
        name: "dialog:list_ctx",
        old_names: &["dlg_list_ctx"],
        param_sets: LIST_SETS,
        help: "The same, with the values and profiles of each.",
        run: |call| list(call, true),
    },
];

fn list(call: &mut MiCall<'_, '_>, context: bool) -> MiOutcome {
    let Some(dialogs) = call.cx.node.module::<Dialogs>(call.cx.slot) else {
        return MiOutcome::failed(500, "Internal error");
    };
    if let Some(call_id) = call.text("callid") {
        let ids = dialogs.table.of_call(call_id.as_bytes());
        let tag = call.text("from_tag");
        let fits = |id: &DialogId| {
            tag.as_ref().is_none_or(|tag| {
                dialogs.read(*id, |d| *d.caller.tag == *tag.as_bytes()) == Some(true)
            })
        };
        let mut found =
            ids.into_iter().filter(fits).filter_map(|id| shown(call, &dialogs, id, context));
        return match found.next() {
            Some(entry) => MiOutcome::Done(json!({ "Dialog": entry })),
            None => MiOutcome::failed(404, "No such dialog"),
        };
    }
    let page = call.int("index").zip(call.int("counter"));
    let mut ids = dialogs.table.ids();
    ids.retain(|id| dialogs.table.read(*id, |e| e.local.is_listed(call.cx.now)) == Some(true));
    let Some((index, counter)) = page else {
        let all: Vec<Json> =
            ids.into_iter().filter_map(|id| shown(call, &dialogs, id, context)).collect();
        return MiOutcome::Done(json!({ "Dialogs": all }));
    };
    let (Ok(index), Ok(counter)) = (usize::try_from(index), usize::try_from(counter)) else {
        return MiOutcome::Failed(RpcError::invalid_params("index and counter are not negative"));
    };
    let count = ids.len();
    let page = ids.into_iter().skip(index).take(counter);
    let all: Vec<Json> = page.filter_map(|id| shown(call, &dialogs, id, context)).collect();
    MiOutcome::Done(json!({ "count": count, "Dialogs": all }))
}

/// The entry of a dialog that is still listed.
fn shown(call: &MiCall<'_, '_>, dialogs: &Dialogs, id: DialogId, context: bool) -> Option<Json> {
    let now = call.cx.now;
    let record = dialogs.table.read(id, |e| e.local.is_listed(now).then(|| e.dialog.clone()));
    record.flatten().map(|d| dialogs.entry(call.cx.node, &d, context))
}
