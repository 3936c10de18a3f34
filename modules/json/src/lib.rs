//! `json`: documents as variables: `$json(body/items[0]/name)`.
//!
//! Documents belong to the run of a message, so that one message never sees those of another.
//! What startup_route makes is there for every message, which changes a copy of its own.
//!
//! # Files
//! `path.rs` reads names and walks documents, `store.rs` holds them, `print.rs` writes them.

mod path;
mod print;
mod store;

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value as Json;
use tandem_engine::log::Level;
use tandem_engine::module::{
    Build, BuildError, Call, FunctionDef, Module, ModuleDef, VarCall, VariableDef,
};
use tandem_engine::table::{arg, function, param};
use tandem_script::host::{Assign, Called, Index};
use tandem_script::sig::{ArgKind, ArgSig, ParamKind, Routes, VariableSig};
use tandem_script::value::Value;

use crate::path::{Path, View};
use crate::print::Style;
use crate::store::Store;

/// The table of `json`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "json",
    help: "JSON documents as variables.",
    dependencies: &[],
    params: &[param(
        "enable_long_quoting",
        ParamKind::Int,
        Some("0"),
        "1: integers that 32 bits cannot hold are read as texts; 0: they wrap.",
    )],
    functions: FUNCTIONS,
    variables: VARIABLES,
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

const LINK: &[ArgSig] = &[arg("dest", ArgKind::Var), arg("source", ArgKind::Var)];
const MERGE: &[ArgSig] =
    &[arg("main", ArgKind::Str), arg("patch", ArgKind::Str), arg("out", ArgKind::Var)];

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "json_link",
        LINK,
        Routes(Routes::ANY.0 & !Routes::ERROR.0),
        "Makes a document another name for a part of one: a change of either is one of both.",
        json_link,
    ),
    function(
        "json_merge",
        MERGE,
        Routes::ANY,
        "Merges a patch into a document (RFC 7396): null takes a key away.",
        json_merge,
    ),
];

const fn row(
    name: &'static str,
    takes_index: bool,
    help: &'static str,
    get: fn(&mut VarCall<'_, '_>) -> Value,
) -> VariableDef {
    let sig = VariableSig { name, writable: true, takes_name: true, takes_index, help };
    VariableDef { sig, get, set: Some(set) }
}

const VARIABLES: &[VariableDef] = &[
    row(
        "json",
        true,
        "A value of a document, by path: name/key[0]; `:=` takes JSON, `=` a text or number, \
         `[]` appends, NULL takes away. Names ending in .keys and .values list an object.",
        |call| get(call, Style::Spaced),
    ),
    row("json_compact", false, "The same, printed without blanks.", |call| {
        get(call, Style::Compact)
    }),
    row("json_pretty", false, "The same, printed with indents.", |call| get(call, Style::Pretty)),
    row("json_compact_noescape", false, "Without blanks and with plain slashes.", |call| {
        get(call, Style::Plain)
    }),
];

struct State {
    long_quoting: bool,
    /// What startup_route made.
    startup: RwLock<Store>,
}

impl Module for State {}

fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let long_quoting = build.int("enable_long_quoting").unwrap_or(0) != 0;
    Ok(Arc::new(State { long_quoting, startup: RwLock::default() }))
}

/// The documents of a run, in the section of the module.
#[derive(Default)]
struct Own {
    /// Whether what startup_route made was looked at.
    begun: bool,
    store: Store,
}

fn own<'a>(ctx: &'a mut tandem_engine::context::Ctx, slot: u16, state: &State) -> &'a mut Store {
    let own = ctx.section_mut::<Own>(slot);
    if !own.begun {
        own.begun = true;
        own.store = state.startup.read().clone();
    }
    &mut own.store
}

fn get(call: &mut VarCall<'_, '_>, style: Style) -> Value {
    let Some(state) = call.state::<State>() else { return Value::Null };
    let Ok(path) = Path::parse(call.access.name) else { return Value::Null };
    let store = own(call.ctx, call.cx.slot, &state);
    let Some(found) = store.get(&path) else { return Value::Null };
    let listed: Json;
    let found = match (path.view, found) {
        (View::Value, found) => found,
        (View::Keys, Json::Object(object)) => {
            listed = object.keys().map(|key| Json::from(key.as_str())).collect();
            &listed
        }
        (View::Values, Json::Object(object)) => {
            listed = object.values().cloned().collect();
            &listed
        }
        _ => return Value::Null,
    };
    let one = |json: &Json| value(json, style, state.long_quoting);
    match (call.access.index, found) {
        (Index::At(at), Json::Array(list)) => {
            path::place(list.len(), at).and_then(|at| list.get(at)).map_or(Value::Null, one)
        }
        // A list of one.
        (Index::At(0), json) => one(json),
        (Index::At(_), _) => Value::Null,
        (Index::All, Json::Array(list)) => {
            let texts = list.iter().filter_map(|json| one(json).into_bytes());
            Value::str(texts.collect::<Vec<_>>().join(&b", "[..]))
        }
        (_, json) => one(json),
    }
}

fn value(json: &Json, style: Style, long_quoting: bool) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => {
            Value::Both(i32::from(*b), if *b { "true".into() } else { "false".into() })
        }
        Json::String(text) => Value::str(text.clone()),
        Json::Number(number) => match number.as_i64() {
            Some(n) => match i32::try_from(n) {
                Ok(n) => Value::Int(n),
                Err(_) if long_quoting => Value::str(n.to_string()),
                Err(_) => Value::Int(n as i32),
            },
            None => Value::str(number.to_string()),
        },
        json => Value::str(print::text(json, style)),
    }
}

fn set(call: &mut VarCall<'_, '_>, how: Assign, value: Value) -> Result<(), String> {
    let state = call.state::<State>().ok_or("json is not there")?;
    let path = Path::parse(call.access.name)?;
    let new = match (how, &value) {
        (_, Value::Null) => None,
        (_, Value::Int(n) | Value::Both(n, _)) => Some(Json::from(*n)),
        (Assign::Set, Value::Str(text)) => {
            Some(Json::from(String::from_utf8_lossy(text).into_owned()))
        }
        (Assign::Replace, Value::Str(text)) => Some(store::parse(text)?),
    };
    let is_startup = call.ctx.block == Routes::STARTUP;
    let store = own(call.ctx, call.cx.slot, &state);
    match new {
        Some(new) => store.set(&path, new)?,
        None => store.remove(&path),
    }
    if is_startup {
        *state.startup.write() = store.clone();
    }
    Ok(())
}

/// The path in `$json(path)`, as an argument names it.
fn named(call: &mut Call<'_, '_, '_>, at: usize) -> Result<Path, String> {
    let var = call.var(at).map(|var| call.var_text(var).to_owned()).unwrap_or_default();
    let inner = var.strip_prefix("$json(").and_then(|rest| rest.strip_suffix(')'));
    let inner = inner.ok_or_else(|| format!("`{var}` is not a $json(...)"))?;
    Path::parse(&call.expand(inner.as_bytes())?)
}

fn json_link(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<State>() else { return Called::Returned(-1) };
    let linked = named(call, 0).and_then(|dest| {
        let source = named(call, 1)?;
        own(call.ctx, call.cx.slot, &state).link(&dest, &source)
    });
    match linked {
        Ok(()) => Called::Returned(1),
        Err(why) => call.complain(Level::Error, why),
    }
}

fn json_merge(call: &mut Call<'_, '_, '_>) -> Called {
    let merged = store::parse(&call.text(0)).and_then(|mut main| {
        store::merge(&mut main, store::parse(&call.text(1))?, 0)?;
        call.set_var(2, Value::str(print::text(&main, Style::Compact)))
    });
    match merged {
        Ok(()) => Called::Returned(1),
        Err(why) => call.complain(Level::Error, why),
    }
}
