//! Values and kinds of statistics, and setting them to 0.

use serde_json::{Map, Value as Json};

use crate::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam};
use crate::statistics::selects;
use crate::stats::StatKind;
use crate::table::command;

const STATISTICS: &[MiParam] = &[MiParam { name: "statistics", kind: MiKind::Array }];

pub(super) const COMMANDS: &[MiDef] = &[
    command("statistics:get", &["get_statistics"], &[STATISTICS], "Values of statistics.", get),
    command(
        "statistics:list",
        &["list_statistics"],
        &[&[], STATISTICS],
        "Kinds of statistics.",
        list,
    ),
    command("statistics:reset", &["reset_statistics"], &[STATISTICS], "Sets counters to 0.", reset),
    command(
        "statistics:reset_all",
        &["reset_all_statistics"],
        &[&[]],
        "Sets all counters to 0.",
        reset_all,
    ),
];

fn wanted(call: &MiCall<'_, '_>) -> Vec<String> {
    let names = call.array("statistics").unwrap_or_default();
    names.iter().filter_map(Json::as_str).map(String::from).collect()
}

fn get(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let mut result = Map::new();
    for name in wanted(call) {
        for (full, _, value) in call.cx.node.statistics(call.cx.now) {
            if selects(&name, &full) {
                result.insert(full, value.into());
            }
        }
    }
    MiOutcome::Done(Json::Object(result))
}

fn list(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let mut names = wanted(call);
    if names.is_empty() {
        names.push("all".into());
    }
    let mut result = Map::new();
    for (full, kind, _) in call.cx.node.statistics(call.cx.now) {
        if names.iter().any(|n| selects(n, &full)) {
            let text = match kind {
                StatKind::Counter => "incremental",
                StatKind::Function => "non-incremental",
            };
            result.insert(full, text.into());
        }
    }
    MiOutcome::Done(Json::Object(result))
}

/// `reset` takes names without a group only, as in the field.
fn reset(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let mut any = false;
    for name in wanted(call) {
        any |= call.cx.node.reset_statistic(&name);
    }
    if any { MiOutcome::ok() } else { MiOutcome::failed(404, "Statistics Not Found") }
}

fn reset_all(call: &mut MiCall<'_, '_>) -> MiOutcome {
    call.cx.node.reset_all_statistics();
    MiOutcome::ok()
}
