//! Commands.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value as Json, json};
use tandem_engine::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam};
use tandem_engine::table::{command, mi_int, mi_text};
use tandem_script::value::Value;

use crate::CfgUtils;

const PERCENT: &[MiParam] = &[mi_int("prob_proc")];
const NAME: &[MiParam] = &[mi_text("name")];
const SET: &[MiParam] =
    &[mi_text("name"), mi_text("type"), MiParam { name: "value", kind: MiKind::Any }];

pub(crate) const COMMANDS: &[MiDef] = &[
    command(
        "cfgutils:rand_set_prob",
        &["rand_set_prob"],
        &[PERCENT],
        "Sets the probability of rand_event() in percent.",
        |call| {
            let percent = call.int("prob_proc").and_then(|p| i32::try_from(p).ok()).unwrap_or(-1);
            match state(call) {
                Some(state) if state.set_percent(percent) => MiOutcome::ok(),
                _ => MiOutcome::failed(400, "Bad parameter value"),
            }
        },
    ),
    command(
        "cfgutils:rand_reset_prob",
        &["rand_reset_prob"],
        &[&[]],
        "Restores initial_probability.",
        |call| {
            if let Some(state) = state(call) {
                state.percent.store(state.initial_percent, Ordering::Relaxed);
            }
            MiOutcome::ok()
        },
    ),
    command(
        "cfgutils:rand_get_prob",
        &["rand_get_prob"],
        &[&[]],
        "The probability of rand_event() in percent.",
        |call| {
            let percent = state(call).map_or(0, |s| s.percent.load(Ordering::Relaxed));
            MiOutcome::Done(json!({"actual probability percent": percent}))
        },
    ),
    command(
        "cfgutils:get_config_hash",
        &["get_config_hash"],
        &[&[]],
        "The digest of hash_file at the start.",
        |call| match state(call).and_then(|s| Some(s.digest.as_ref()?.lock().md5.clone())) {
            None => MiOutcome::failed(404, "Functionality disabled"),
            Some(None) => MiOutcome::failed(500, "Internal error"),
            Some(Some(md5)) => MiOutcome::Done(Json::from(md5)),
        },
    ),
    command(
        "cfgutils:check_config_hash",
        &["check_config_hash"],
        &[&[]],
        "Whether hash_file is still what it was at the start.",
        |call| match state(call).and_then(|s| Some(s.digest.as_ref()?.lock().path.clone())) {
            None => MiOutcome::failed(404, "Functionality disabled"),
            Some(path) => {
                call.cx.read_file(&path, call.request);
                MiOutcome::Later
            }
        },
    ),
    command("cfgutils:shv_get", &["shv_get"], &[&[], NAME], "Shared variables.", shv_get),
    command("cfgutils:shv_set", &["shv_set"], &[SET], "Sets a shared variable.", shv_set),
];

fn state(call: &MiCall<'_, '_>) -> Option<Arc<CfgUtils>> {
    call.cx.node.module::<CfgUtils>(call.cx.slot)
}

fn shown(value: &Value) -> (&'static str, Json) {
    match value {
        Value::Int(n) | Value::Both(n, _) => ("integer", Json::from(*n)),
        other => {
            let text = other.text().unwrap_or_default();
            ("string", Json::from(String::from_utf8_lossy(&text).into_owned()))
        }
    }
}

fn shv_get(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(state) = state(call) else { return MiOutcome::failed(404, "Not found") };
    let Some(name) = call.text("name") else {
        let rows = state.shared.all().into_iter().map(|(name, value)| {
            let (kind, value) = shown(&value);
            json!({"name": String::from_utf8_lossy(&name), "type": kind, "value": value})
        });
        return MiOutcome::Done(json!({"VARs": rows.collect::<Json>()}));
    };
    match state.shared.get(name.as_bytes()) {
        Some(value) => {
            let (kind, value) = shown(&value);
            MiOutcome::Done(json!({"VAR": {"type": kind, "value": value}}))
        }
        None if name.is_empty() => MiOutcome::failed(500, "bad shv name"),
        None => MiOutcome::failed(404, "Not found"),
    }
}

fn shv_set(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let name = call.text("name").unwrap_or_default();
    if name.is_empty() {
        return MiOutcome::failed(500, "bad shv name");
    }
    let value = match call.text("type").unwrap_or_default().as_str() {
        "int" | "integer" => {
            let number = call.int("value").and_then(|n| i32::try_from(n).ok());
            number.map(Value::Int)
        }
        "str" | "string" => call.text("value").map(Value::str),
        _ => return MiOutcome::failed(500, "type not found"),
    };
    let Some(value) = value else { return MiOutcome::failed(500, "value not found") };
    match state(call).map(|s| s.shared.set(name.as_bytes(), value)) {
        Some(Ok(())) => MiOutcome::ok(),
        _ => MiOutcome::failed(500, "cannot set shv value"),
    }
}
