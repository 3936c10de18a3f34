//! Keys by pattern.

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tandem_engine::glob;
use tandem_engine::log::Level;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome};
use tandem_engine::module::{Call, Cx, FunctionDef};
use tandem_engine::table::{arg, function, mi_text, optional};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::params::DEFAULT;
use crate::state::Local;

/// Keys that one command lists.
const LISTED_MAX: usize = 100_000;

const CHUNK: &[ArgSig] = &[optional("collection", ArgKind::Str), arg("glob", ArgKind::Str)];
const ROUTES: Routes =
    Routes(Routes::ANY.0 & !Routes::ERROR.0 & !Routes::TIMER.0 & !Routes::EVENT.0);

pub(crate) const FUNCTIONS: &[FunctionDef] = &[function(
    "cache_remove_chunk",
    CHUNK,
    ROUTES,
    "Takes the values out whose keys fit a pattern of *, ? and [a-z].",
    |call: &mut Call<'_, '_, '_>| {
        let Some(state) = call.state::<Local>() else { return Called::Returned(-1) };
        let name = match call.given(0) {
            true => String::from_utf8_lossy(&call.text(0)).into_owned(),
            false => DEFAULT.to_owned(),
        };
        let pattern = String::from_utf8_lossy(&call.text(1)).into_owned();
        match remove(&state, call.cx, &name, &pattern) {
            Ok(()) => Called::Returned(1),
            Err(why) => call.complain(Level::Error, why),
        }
    },
)];

pub(crate) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "cachedb_local:remove_chunk",
        old_names: &["cache_remove_chunk"],
        param_sets: &[&[mi_text("glob")], &[mi_text("glob"), mi_text("collection")]],
        help: "Takes the values out whose keys fit a pattern.",
        run: |call: &mut MiCall<'_, '_>| {
            let (pattern, name) = named(call);
            let Some(state) = call.cx.node.module::<Local>(call.cx.slot) else {
                return MiOutcome::failed(500, "Internal error");
            };
            match remove(&state, call.cx, &name, &pattern) {
                Ok(()) => MiOutcome::ok(),
                Err(why) => {
                    call.cx.log(Level::Error, why);
                    MiOutcome::failed(500, "Internal error")
                }
            }
        },
    },
    MiDef {
        name: "cachedb_local:fetch_chunk",
        old_names: &["cache_fetch_chunk"],
        param_sets: &[&[mi_text("glob")], &[mi_text("glob"), mi_text("collection")]],
        help: "Lists the values whose keys fit a pattern.",
        run: |call: &mut MiCall<'_, '_>| {
            let (pattern, name) = named(call);
            let state = call.cx.node.module::<Local>(call.cx.slot);
            let found = state
                .ok_or_else(String::new)
                .and_then(|state| found(&state, call.cx, &name, &pattern));
            match found {
                Ok(found) => {
                    let row = |(key, value): (Bytes, Bytes)| -> Json {
                        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                        json!({"name": text(&key), "value": text(&value)})
                    };
                    let rows: Vec<Json> = found.into_iter().map(row).collect();
                    MiOutcome::Done(json!({"keys": rows}))
                }
                Err(why) => {
                    call.cx.log(Level::Error, why);
                    MiOutcome::failed(400, "Internal Error")
                }
            }
        },
    },
];

fn named(call: &MiCall<'_, '_>) -> (String, String) {
    let collection = call.text("collection").unwrap_or_else(|| DEFAULT.to_owned());
    (call.text("glob").unwrap_or_default(), collection)
}

fn found(
    state: &Local,
    cx: &Cx<'_>,
    name: &str,
    pattern: &str,
) -> Result<Vec<(Bytes, Bytes)>, String> {
    let collection = state.collection(name);
    let collection = collection.ok_or_else(|| format!("there is no collection `{name}`"))?;
    let pattern = glob::compile(pattern)?;
    let entries = (0..=usize::from(u8::MAX)).flat_map(|b| collection.entries(cx.now, b));
    let mut fitting: Vec<(Bytes, Bytes)> = entries
        .filter(|(key, _)| pattern.is_match(key))
        .filter_map(|(key, entry)| Some((key, entry.value?)))
        .take(LISTED_MAX)
        .collect();
    fitting.sort_unstable();
    Ok(fitting)
}

fn remove(state: &Local, cx: &Cx<'_>, name: &str, pattern: &str) -> Result<(), String> {
    let keys = found(state, cx, name, pattern)?;
    let Some(collection) = state.collection(name) else { return Ok(()) };
    keys.iter().try_for_each(|(key, _)| state.delete(cx, collection, key))
}
