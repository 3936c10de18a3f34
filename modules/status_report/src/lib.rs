//! `status_report`: a script says how ready its own parts are.
//!
//! The groups are those of `script_sr_group`; commands and `sr_check_status()` see them beside
//! those of the modules.

use std::sync::Arc;

use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Call, Cx, Module, ModuleDef, ParamValue};
use tandem_engine::reports::MAIN;
use tandem_engine::table::{arg, function, optional, param};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, ParamKind, ParamSig, Routes};

const STATUS: &[ArgSig] =
    &[arg("group", ArgKind::Str), arg("status", ArgKind::Int), optional("details", ArgKind::Str)];
const REPORT: &[ArgSig] = &[arg("group", ArgKind::Str), arg("report", ArgKind::Str)];

const fn many(mut row: ParamSig) -> ParamSig {
    row.multiple = true;
    row
}

/// The table of `status_report`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "status_report",
    help: "A script says how ready its own parts are.",
    dependencies: &[],
    params: &[many(param(
        "script_sr_group",
        ParamKind::Str,
        None,
        "A group whose status the script sets.",
    ))],
    functions: &[
        function(
            "sr_set_status",
            STATUS,
            Routes::ANY,
            "Sets the status of a group of the script; negative: not ready.",
            set_status,
        ),
        function(
            "sr_add_report",
            REPORT,
            Routes::ANY,
            "Adds a line to the reports of a group of the script.",
            add_report,
        ),
    ],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct StatusReport {
    groups: Vec<String>,
}

impl Module for StatusReport {
    fn start(&self, cx: &mut Cx<'_>) {
        for group in &self.groups {
            cx.node.reports.register(group, MAIN);
        }
    }
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let mut groups = Vec::new();
    for value in from.all("script_sr_group") {
        let ParamValue::Str(name) = value else { continue };
        let name = name.trim();
        if name.is_empty() || name == "core" {
            let message = "a group of a script needs a name of its own";
            return Err(BuildError::new("script_sr_group", message));
        }
        groups.push(name.to_owned());
    }
    Ok(Arc::new(StatusReport { groups }))
}

/// The group that the first argument names, if it is one of the script.
fn group(call: &mut Call<'_, '_, '_>) -> Option<String> {
    let name = String::from_utf8_lossy(&call.text(0)).into_owned();
    let known = call.state::<StatusReport>().is_some_and(|s| s.groups.contains(&name));
    if !known {
        call.complain(Level::Error, format!("`{name}` is no script_sr_group"));
    }
    known.then_some(name)
}

fn set_status(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(group) = group(call) else { return Called::Returned(-1) };
    let status = call.int(1).unwrap_or(0);
    if status == 0 {
        return call.complain(Level::Error, "a status is positive or negative, not 0");
    }
    let details = String::from_utf8_lossy(&call.text(2)).into_owned();
    call.cx.set_status(&group, MAIN, status, &details);
    Called::Returned(1)
}

fn add_report(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(group) = group(call) else { return Called::Returned(-1) };
    let text = String::from_utf8_lossy(&call.text(1)).into_owned();
    call.cx.report(&group, MAIN, &text);
    Called::Returned(1)
}
