//! Functions that raise events, subscribe to them, and ask how ready a part of the node is.

use bytes::Bytes;
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_script::value::Value;

use crate::log::Level;
use crate::module::{Call, FunctionDef};
use crate::reports::MAIN;
use crate::table::{arg, function, optional};

const RAISE: &[ArgSig] =
    &[arg("event", ArgKind::Str), optional("attrs", ArgKind::Var), optional("vals", ArgKind::Var)];
const SUBSCRIBE: &[ArgSig] =
    &[arg("event", ArgKind::Str), arg("socket", ArgKind::Str), optional("expire", ArgKind::Int)];
const IDENTIFIER: &[ArgSig] = &[arg("group", ArgKind::Str), optional("identifier", ArgKind::Str)];

pub(super) const RAISE_EVENT: FunctionDef = function(
    "raise_event",
    RAISE,
    Routes::ANY,
    "Raises an event with the values of two parallel lists, names and values.",
    raise,
);

pub(super) const SUBSCRIBE_EVENT: FunctionDef = function(
    "subscribe_event",
    SUBSCRIBE,
    Routes::ANY,
    "Tells an outside program of an event, for ever or for some seconds.",
    |call| {
        let event = text(call, 0);
        let socket = text(call, 1);
        let expire_s = call.int(2).map(|s| u32::try_from(s).unwrap_or(0));
        match call.cx.subscribe(&event, &socket, expire_s) {
            Ok(()) => Called::Returned(1),
            Err(_) => call.complain(
                Level::Error,
                format!("{socket} cannot be subscribed; is event_datagram loaded?"),
            ),
        }
    },
);

pub(super) const SR_CHECK_STATUS: FunctionDef = function(
    "sr_check_status",
    IDENTIFIER,
    Routes::ANY,
    "Whether a part of the node is ready: its status, which is negative when it is not.",
    |call| {
        let group = text(call, 0);
        let identifier = if call.given(1) { text(call, 1) } else { MAIN.to_owned() };
        match call.cx.node.reports.status(&group, &identifier) {
            Some((0, _)) => Called::Returned(-1),
            Some((status, _)) => Called::Returned(status),
            None => call.complain(
                Level::Error,
                format!("there is no status of `{identifier}` in the group `{group}`"),
            ),
        }
    },
);

fn text(call: &Call<'_, '_, '_>, index: usize) -> String {
    String::from_utf8_lossy(&call.text(index)).into_owned()
}

fn raise(call: &mut Call<'_, '_, '_>) -> Called {
    let event = text(call, 0);
    // With one list only, it holds values without names.
    let (names, values) = match (call.list(1), call.list(2)) {
        (values, none) if !call.given_var(2) => (none, values),
        both => both,
    };
    if call.given_var(1) && call.given_var(2) && names.len() != values.len() {
        return call.complain(
            Level::Error,
            format!("{event} has {} names and {} values", names.len(), values.len()),
        );
    }
    if event.is_empty() || !call.cx.node.events.publish(&event) {
        return call.complain(Level::Error, "there are too many events, or this one has no name");
    }
    // The oldest value of a list is the first parameter.
    let mut names = names.into_iter().rev();
    let mut name = || names.next().and_then(Value::into_bytes).unwrap_or_default();
    let params: Vec<(Bytes, Value)> = values.into_iter().rev().map(|v| (name(), v)).collect();
    call.cx.raise_named(&event, params);
    Called::Returned(1)
}
