//! Management commands.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tandem_engine::cached::Part;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::table::mi_text;

use crate::rules::{Found, Rules};
use crate::state::Dialplan;

/// The command table.
pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "dialplan:reload",
        old_names: &["dp_reload"],
        param_sets: &[&[], &[mi_text("partition")]],
        help: "Reads the tables of rules, or one, again.",
        run: reload,
    },
    MiDef {
        name: "dialplan:translate",
        old_names: &["dp_translate"],
        param_sets: &[
            &[mi_text("dpid"), mi_text("input")],
            &[mi_text("dpid"), mi_text("input"), mi_text("partition")],
        ],
        help: "Tries a set of rules on a text.",
        run: translate,
    },
    MiDef {
        name: "dialplan:show_partition",
        old_names: &["dp_show_partition"],
        param_sets: &[&[], &[mi_text("partition")]],
        help: "The partitions with their tables and databases.",
        run: show,
    },
];

const UNKNOWN: &str = "Partition not found";

fn state(call: &MiCall<'_, '_>) -> Option<Arc<Dialplan>> {
    call.cx.node.module::<Dialplan>(call.cx.slot)
}

fn reload(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(state) = state(call) else { return MiOutcome::failed(400, UNKNOWN) };
    let request = call.request;
    match call.text("partition") {
        None => state.partitions.reload(call.cx, request, None),
        Some(name) => match state.part(Some(&name)) {
            Some(part) => state.partitions.reload(call.cx, request, Some(&part.name)),
            None => MiOutcome::failed(400, UNKNOWN),
        },
    }
}

fn translate(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(state) = state(call) else { return MiOutcome::failed(400, UNKNOWN) };
    let id = call.text("dpid").unwrap_or_default();
    let input = call.text("input").unwrap_or_default();
    if id.is_empty() {
        return MiOutcome::failed(404, "Empty id parameter");
    }
    let Ok(id) = id.trim().parse::<i64>() else {
        return MiOutcome::failed(404, "Wrong id parameter");
    };
    if input.is_empty() {
        return MiOutcome::failed(404, "Empty input parameter");
    }
    let name = call.text("partition");
    let part = match (state.part(name.as_deref()), name) {
        (Some(part), _) => part,
        (None, None) => return MiOutcome::failed(404, "'default' partition not found"),
        (None, Some(_)) => return MiOutcome::failed(400, UNKNOWN),
    };
    match part.table().translate(id, input.as_bytes(), call.cx.moment()) {
        Found::Rule { output, attrs } => MiOutcome::Done(json!({
            "Output": String::from_utf8_lossy(&output),
            "ATTRIBUTES": attrs.unwrap_or_default(),
        })),
        Found::NoRules => MiOutcome::failed(404, "No information available for dpid"),
        Found::Nothing | Found::Failed(_) => MiOutcome::failed(404, "No translation"),
    }
}

fn show(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(state) = state(call) else { return MiOutcome::failed(404, "Partition Not Found") };
    let url = |part: &Part<Rules>| {
        let parts = state.partitions.parts();
        let at = parts.iter().position(|p| p.name == part.name);
        at.and_then(|at| state.urls.get(at)).cloned().unwrap_or_default()
    };
    let table = |part: &Part<Rules>| part.select.table.to_string();
    match call.text("partition") {
        None => {
            let row = |part: &Part<Rules>| -> Json {
                json!({"name": part.name, "table": table(part), "db_url": url(part)})
            };
            let rows: Vec<Json> = state.partitions.parts().iter().map(row).collect();
            MiOutcome::Done(json!({"Partitions": rows}))
        }
        Some(name) => match state.part(Some(&name)) {
            Some(part) => MiOutcome::Done(json!({
                "Partition": part.name,
                "Table": table(part),
                "db_url": url(part),
            })),
            None => MiOutcome::failed(404, "Partition Not Found"),
        },
    }
}
