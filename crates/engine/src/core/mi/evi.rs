//! Events: who listens, subscribing, raising by hand.

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};
use tandem_clock::Now;
use tandem_script::value::Value;

use crate::events::{EventView, SubscribeError, Subscriber};
use crate::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam};
use crate::table::{command, mi_int, mi_text};

const EVENT: &[MiParam] = &[mi_text("event")];
const SOCKET: &[MiParam] = &[mi_text("event"), mi_text("socket")];
const EXPIRE: &[MiParam] = &[mi_text("event"), mi_text("socket"), mi_int("expire")];
const PARAMS: &[MiParam] = &[mi_text("event"), MiParam { name: "params", kind: MiKind::Any }];

/// Seconds of a subscription that says nothing about its end.
const EXPIRE_S: i64 = 3600;

pub(super) const COMMANDS: &[MiDef] = &[
    command(
        "evi:subscribe",
        &["event_subscribe"],
        &[SOCKET, EXPIRE],
        "Tells an outside program of an event, for 3600 s by default; 0 s end it.",
        subscribe,
    ),
    command("evi:list", &["events_list"], &[&[]], "The events there are.", list),
    command(
        "evi:subscribers",
        &["subscribers_list"],
        &[&[], EVENT, SOCKET],
        "Who listens to which event.",
        subscribers,
    ),
    command("evi:raise", &["raise_event"], &[EVENT, PARAMS], "Raises an event.", raise),
];

fn subscribe(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let event = call.text("event").unwrap_or_default();
    let socket = call.text("socket").unwrap_or_default();
    let Ok(expire_s) = u32::try_from(call.int("expire").unwrap_or(EXPIRE_S)) else {
        return MiOutcome::failed(400, "Bad parameter value");
    };
    match call.cx.subscribe(&event, &socket, Some(expire_s)) {
        Ok(()) => MiOutcome::ok(),
        Err(SubscribeError::Socket | SubscribeError::Full) => {
            MiOutcome::failed(400, "Bad parameter value")
        }
    }
}

fn list(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let events = call.cx.node.events(call.cx.now);
    let events = events.iter().map(|e| json!({"name": e.name, "id": e.id}));
    MiOutcome::Done(json!({"Events": events.collect::<Json>()}))
}

fn subscribers(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let now = call.cx.now;
    let events = call.cx.node.events(now);
    let Some(name) = call.text("event") else {
        let heard = events.iter().filter(|e| e.route || !e.subscribers.is_empty());
        let heard = heard.map(|e| with_subscribers(e, now)).collect::<Json>();
        return MiOutcome::Done(json!({"Events": heard}));
    };
    let Some(event) = events.iter().find(|e| e.name == name) else {
        return MiOutcome::failed(404, "Event not published");
    };
    let Some(socket) = call.text("socket") else {
        return MiOutcome::Done(json!({"Event": with_subscribers(event, now)}));
    };
    match shown(event, now).into_iter().find(|s| s["socket"] == socket.as_str()) {
        Some(found) => MiOutcome::Done(json!({
            "Event": {"name": event.name, "id": event.id, "Subscriber": found}
        })),
        None => MiOutcome::failed(404, "Subscriber does not exist"),
    }
}

fn with_subscribers(event: &EventView, now: Now) -> Json {
    json!({"name": event.name, "id": event.id, "Subscribers": shown(event, now)})
}

/// The subscribers outside, then the script's own route.
fn shown(event: &EventView, now: Now) -> Vec<Json> {
    let mut shown: Vec<Json> = event.subscribers.iter().map(|s| subscriber(s, now)).collect();
    if event.route {
        shown.push(json!({"socket": format!("route:{}", event.name), "expire": "never"}));
    }
    shown
}

fn subscriber(subscriber: &Subscriber, now: Now) -> Json {
    match (subscriber.expire_s, subscriber.ttl_s(now)) {
        (Some(expire_s), Some(ttl_s)) => {
            json!({"socket": subscriber.socket, "expire": expire_s, "ttl": ttl_s})
        }
        _ => json!({"socket": subscriber.socket, "expire": "never"}),
    }
}

fn raise(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let name = call.text("event").unwrap_or_default();
    let events = call.cx.node.events(call.cx.now);
    let Some(event) = events.iter().find(|e| e.name == name) else {
        return MiOutcome::failed(404, "Event not registered");
    };
    let params = match call.arg("params") {
        None => Vec::new(),
        Some(Json::Array(list)) => {
            list.iter().filter_map(value).map(|v| (Bytes::new(), v)).collect()
        }
        Some(Json::String(text)) => match serde_json::from_str::<Map<String, Json>>(text) {
            Ok(map) => map
                .iter()
                .filter_map(|(n, v)| Some((Bytes::from(n.clone().into_bytes()), value(v)?)))
                .collect(),
            Err(_) => return MiOutcome::failed(400, "Bad Params"),
        },
        Some(_) => return MiOutcome::failed(400, "No Params"),
    };
    if !event.route && event.subscribers.is_empty() && !call.cx.node.events.is_heard() {
        return MiOutcome::failed(480, "Temporarily Unavailable");
    }
    call.cx.raise_named(&name, params);
    MiOutcome::ok()
}

/// A JSON value as a value of a script; what is no plain value is taken as its text.
fn value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::String(text) => Value::str(text.clone().into_bytes()),
        Json::Number(n) => match n.as_i64().and_then(|n| i32::try_from(n).ok()) {
            Some(n) => Value::Int(n),
            None => Value::str(n.to_string().into_bytes()),
        },
        other => Value::str(other.to_string().into_bytes()),
    })
}
