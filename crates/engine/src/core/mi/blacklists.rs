//! Lists of destinations that are not to be used. No module makes any yet, so every list is
//! unknown and every destination is free.

use std::net::IpAddr;

use serde_json::json;

use super::command;
use crate::mi::{MiCall, MiDef, MiOutcome, MiParam};
use crate::table::{mi_int, mi_text};

const NAME: &[MiParam] = &[mi_text("name")];
const IP: &[MiParam] = &[mi_text("ip")];
const PROTO: &[MiParam] = &[mi_text("proto"), mi_text("ip")];
const PORT: &[MiParam] = &[mi_text("proto"), mi_text("ip"), mi_int("port")];
const PATTERN: &[MiParam] = &[mi_text("proto"), mi_text("ip"), mi_int("port"), mi_text("pattern")];

const NAME_IP: &[MiParam] = &[mi_text("name"), mi_text("ip")];
const NAME_PROTO: &[MiParam] = &[mi_text("name"), mi_text("proto"), mi_text("ip")];
const NAME_PORT: &[MiParam] = &[mi_text("name"), mi_text("proto"), mi_text("ip"), mi_int("port")];
const NAME_PATTERN: &[MiParam] =
    &[mi_text("name"), mi_text("proto"), mi_text("ip"), mi_int("port"), mi_text("pattern")];
const RULE: &[MiParam] = &[mi_text("name"), mi_text("rule")];
const RULE_EXPIRE: &[MiParam] = &[mi_text("name"), mi_text("rule"), mi_int("expire")];

pub(super) const COMMANDS: &[MiDef] = &[
    command(
        "blacklists:list",
        &["list_blacklists"],
        &[&[], NAME],
        "The lists of destinations that are not used.",
        |call| match call.text("name") {
            None => MiOutcome::Done(json!({"Lists": []})),
            Some(_) => MiOutcome::failed(404, "Unknown name"),
        },
    ),
    command(
        "blacklists:check_all",
        &["check_blacklists"],
        &[IP, PROTO, PORT, PATTERN],
        "The lists that hold a destination.",
        |call| match address(call) {
            Some(_) => MiOutcome::Done(json!([])),
            None => MiOutcome::failed(400, "Missing or bad IP"),
        },
    ),
    command(
        "blacklists:check",
        &["check_blacklist"],
        &[NAME_IP, NAME_PROTO, NAME_PORT, NAME_PATTERN],
        "Whether a list holds a destination.",
        |call| match address(call) {
            Some(_) => no_list(),
            None => MiOutcome::failed(400, "Missing or bad IP"),
        },
    ),
    command(
        "blacklists:add_rule",
        &["add_blacklist_rule"],
        &[RULE, RULE_EXPIRE],
        "Adds a rule to a list.",
        |_| no_list(),
    ),
    command(
        "blacklists:del_rule",
        &["del_blacklist_rule"],
        &[RULE],
        "Takes a rule off a list.",
        |_| no_list(),
    ),
];

fn no_list() -> MiOutcome {
    MiOutcome::failed(400, "Missing or bad blacklist name")
}

fn address(call: &MiCall<'_, '_>) -> Option<IpAddr> {
    call.text("ip")?.trim_matches(['[', ']']).parse().ok()
}
