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
];

fn address(call: &MiCall<'_, '_>) -> Option<IpAddr> {
    call.text("ip")?.trim_matches(['[', ']']).parse().ok()
}
