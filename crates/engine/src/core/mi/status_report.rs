//! Status and reports of the parts of the node.

use serde_json::{Value as Json, json};

use crate::date::ctime;
use crate::mi::{MiCall, MiDef, MiOutcome, MiParam};
use crate::reports::{Group, Identifier, MAIN};
use crate::table::{command, mi_text};

const GROUP: &[MiParam] = &[mi_text("group")];
const IDENTIFIER: &[MiParam] = &[mi_text("group"), mi_text("identifier")];

pub(super) const COMMANDS: &[MiDef] = &[
    command(
        "status_report:get",
        &["sr_get_status"],
        &[GROUP, IDENTIFIER],
        "Whether an identifier is ready.",
        get,
    ),
    command(
        "status_report:status",
        &["sr_list_status"],
        &[&[], GROUP],
        "Whether each identifier is ready.",
        |call| list(call, "Identifiers", status),
    ),
    command(
        "status_report:reports",
        &["sr_list_reports"],
        &[&[], GROUP, IDENTIFIER],
        "What the identifiers reported.",
        |call| list(call, "Identifiers", reports),
    ),
    command(
        "status_report:identifiers",
        &["sr_list_identifiers"],
        &[&[], GROUP],
        "The identifiers of each group.",
        identifiers,
    ),
];

fn no_group() -> MiOutcome {
    MiOutcome::failed(404, "Group not found")
}

fn get(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let group = call.text("group").unwrap_or_default();
    let Some(group) = call.cx.node.reports.group(&group) else { return no_group() };
    let wanted = call.text("identifier").unwrap_or_else(|| MAIN.to_owned());
    match group.identifiers.iter().find(|i| i.name == wanted) {
        Some(found) => MiOutcome::Done(readiness(found)),
        None => MiOutcome::failed(404, "Identity not found"),
    }
}

fn readiness(of: &Identifier) -> Json {
    let mut shown = json!({"Readiness": of.status > 0, "Status": of.status});
    tell_details(&mut shown, of);
    shown
}

/// Details are only there if there are any.
fn tell_details(shown: &mut Json, of: &Identifier) {
    if !of.details.is_empty() {
        shown["Details"] = of.details.as_str().into();
    }
}

fn status(of: &Identifier) -> Json {
    let mut shown = json!({"Name": of.name, "Readiness": of.status > 0, "Status": of.status});
    tell_details(&mut shown, of);
    shown
}

fn reports(of: &Identifier) -> Json {
    let lines = of.reports.iter();
    let lines = lines.map(|r| json!({"Timestamp": r.at_s, "Date": ctime(r.at_s), "Log": r.text}));
    json!({"Name": of.name, "Reports": lines.collect::<Json>()})
}

/// One group is the list of its identifiers; without one, every group with its list.
fn list(call: &mut MiCall<'_, '_>, key: &str, show: fn(&Identifier) -> Json) -> MiOutcome {
    let Some(name) = call.text("group") else {
        let all = call.cx.node.reports.groups();
        let one = |g: &Group| json!({"Name": g.name, key: g.identifiers.iter().map(show).collect::<Json>()});
        return MiOutcome::Done(all.iter().map(one).collect());
    };
    let Some(group) = call.cx.node.reports.group(&name) else { return no_group() };
    let wanted = call.text("identifier");
    let shown = group.identifiers.iter();
    let shown: Vec<Json> =
        shown.filter(|i| wanted.as_ref().is_none_or(|w| *w == i.name)).map(show).collect();
    if wanted.is_some() && shown.is_empty() {
        return MiOutcome::failed(404, "Identifier not found");
    }
    MiOutcome::Done(shown.into())
}

fn identifiers(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let names = |g: &Group| {
        let names = g.identifiers.iter().map(|i| Json::from(i.name.clone()));
        json!({"Group": g.name, "Identifiers": names.collect::<Json>()})
    };
    match call.text("group") {
        None => MiOutcome::Done(call.cx.node.reports.groups().iter().map(names).collect()),
        Some(name) => match call.cx.node.reports.group(&name) {
            Some(group) => MiOutcome::Done(names(&group)),
            None => no_group(),
        },
    }
}
