//! Functions and commands on key-value stores.

use serde_json::json;
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_script::value::Value;

use crate::cache::KEY_BYTES_MAX;
use crate::log::Level;
use crate::mi::{MiCall, MiDef, MiOutcome};
use crate::module::{Call, FunctionDef};
use crate::table::{arg, function, mi_text, optional};

const OK: Called = Called::Returned(1);
/// There is no such key.
const NOT_FOUND: Called = Called::Returned(-2);
/// Rows of a query that go into AVPs.
const ROWS_MAX: usize = 1_000;

const ID: ArgSig = arg("storage_id", ArgKind::Str);
const KEY: ArgSig = arg("attribute", ArgKind::Str);
const STORE: &[ArgSig] = &[ID, KEY, arg("value", ArgKind::Str), optional("timeout", ArgKind::Int)];
const REMOVE: &[ArgSig] = &[ID, KEY];
const FETCH: &[ArgSig] = &[ID, KEY, arg("result", ArgKind::Var)];
const ADD: &[ArgSig] = &[
    ID,
    KEY,
    arg("increment", ArgKind::Int),
    arg("expire", ArgKind::Int),
    optional("new_val", ArgKind::Var),
];
const SUB: &[ArgSig] = &[
    ID,
    KEY,
    arg("decrement", ArgKind::Int),
    arg("expire", ArgKind::Int),
    optional("new_val", ArgKind::Var),
];
const QUERY: &[ArgSig] = &[ID, arg("query", ArgKind::Str), optional("result", ArgKind::Vars)];

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "cache_store",
        STORE,
        Routes::ANY,
        "Keeps a value in a store, for some seconds or for ever.",
        |call| {
            let (value, expire_s) = (call.text(2), seconds(call, 3));
            done(call, |cache, cx, id, key| cache.store(cx, id, key, value, expire_s))
        },
    ),
    function("cache_remove", REMOVE, Routes::ANY, "Takes a value out of a store.", |call| {
        done(call, |cache, cx, id, key| cache.remove(cx, id, key))
    }),
    function(
        "cache_fetch",
        FETCH,
        Routes::ANY,
        "Reads a value of a store: 1; -2 without one; -1 on an error.",
        |call| fetch(call, |text| Some(Value::Str(text))),
    ),
    function(
        "cache_counter_fetch",
        FETCH,
        Routes::ANY,
        "Reads a counter of a store: 1; -2 without one; -1 on an error.",
        |call| {
            fetch(call, |text| {
                Some(Value::Int(std::str::from_utf8(&text).ok()?.trim().parse().ok()?))
            })
        },
    ),
    function("cache_add", ADD, Routes::ANY, "Adds to a counter of a store.", |call| add(call, 1)),
    function("cache_sub", SUB, Routes::ANY, "Takes from a counter of a store.", |call| {
        add(call, -1)
    }),
    function(
        "cache_raw_query",
        QUERY,
        Routes::ANY,
        "Asks a store in its own language; the columns go into the AVPs.",
        raw_query,
    ),
];

pub(super) const COMMANDS: &[MiDef] = &[
    MiDef {
        name: "cache:store",
        old_names: &["cache_store"],
        param_sets: &[
            &[mi_text("system"), mi_text("attr"), mi_text("value")],
            &[mi_text("system"), mi_text("attr"), mi_text("value"), mi_text("expire")],
        ],
        help: "Keeps a value in a store.",
        run: mi_store,
    },
    MiDef {
        name: "cache:fetch",
        old_names: &["cache_fetch"],
        param_sets: &[&[mi_text("system"), mi_text("attr")]],
        help: "Reads a value of a store.",
        run: mi_fetch,
    },
    MiDef {
        name: "cache:remove",
        old_names: &["cache_remove"],
        param_sets: &[&[mi_text("system"), mi_text("attr")]],
        help: "Takes a value out of a store.",
        run: mi_remove,
    },
];

type Door<'a> = &'a dyn crate::cache::CacheStore;
type World<'a, 'b> = &'a mut crate::module::Cx<'b>;

fn seconds(call: &Call<'_, '_, '_>, at: usize) -> u32 {
    call.int(at).and_then(|s| u32::try_from(s).ok()).unwrap_or(0)
}

fn asked<R>(
    call: &mut Call<'_, '_, '_>,
    run: impl FnOnce(Door<'_>, World<'_, '_>, &str, &[u8]) -> Result<R, String>,
) -> Result<R, String> {
    let id = String::from_utf8_lossy(&call.text(0)).into_owned();
    let key = call.text(1);
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(format!("a key has 1 to {KEY_BYTES_MAX} bytes"));
    }
    call.cx.with_cache(&id, |cache, cx| run(cache, cx, &id, &key))
}

fn done(
    call: &mut Call<'_, '_, '_>,
    run: impl FnOnce(Door<'_>, World<'_, '_>, &str, &[u8]) -> Result<(), String>,
) -> Called {
    match asked(call, run) {
        Ok(()) => OK,
        Err(why) => call.complain(Level::Error, why),
    }
}

fn fetch(call: &mut Call<'_, '_, '_>, value: fn(bytes::Bytes) -> Option<Value>) -> Called {
    let found = match asked(call, |cache, cx, id, key| cache.fetch(cx, id, key)) {
        Ok(Some(found)) => found,
        Ok(None) => return NOT_FOUND,
        Err(why) => return call.complain(Level::Error, why),
    };
    let Some(value) = value(found) else {
        return call.complain(Level::Error, "the value is not a counter");
    };
    match call.set_var(2, value) {
        Ok(()) => OK,
        Err(why) => call.complain(Level::Error, why),
    }
}

fn add(call: &mut Call<'_, '_, '_>, sign: i32) -> Called {
    let by = call.int(2).unwrap_or(0).wrapping_mul(sign);
    let expire_s = seconds(call, 3);
    match asked(call, |cache, cx, id, key| cache.add(cx, id, key, by, expire_s)) {
        Ok(new) => match call.set_var(4, Value::Int(new)) {
            Ok(()) => OK,
            Err(why) => call.complain(Level::Error, why),
        },
        Err(why) => call.complain(Level::Error, why),
    }
}

fn raw_query(call: &mut Call<'_, '_, '_>) -> Called {
    let id = String::from_utf8_lossy(&call.text(0)).into_owned();
    let query = String::from_utf8_lossy(&call.text(1)).into_owned();
    let rows = match call.cx.with_cache(&id, |cache, cx| cache.raw_query(cx, &id, &query)) {
        Ok(rows) => rows,
        Err(why) => return call.complain(Level::Error, why),
    };
    let vars = call.vars(2);
    // The last first, so that the first row is on top.
    for row in rows.into_iter().take(ROWS_MAX).rev() {
        for (var, value) in vars.iter().zip(row) {
            if let Err(why) = call.write(*var, Value::Str(value)) {
                return call.complain(Level::Error, why);
            }
        }
    }
    OK
}

fn named(call: &MiCall<'_, '_>) -> (String, String) {
    (call.text("system").unwrap_or_default(), call.text("attr").unwrap_or_default())
}

fn mi_store(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (id, key) = named(call);
    let value = bytes::Bytes::from(call.text("value").unwrap_or_default());
    let expire = call.text("expire").map_or(Ok(0), |text| text.parse::<u32>());
    let Ok(expire_s) = expire else { return MiOutcome::failed(-32602, "Invalid params") };
    let stored =
        call.cx.with_cache(&id, |cache, cx| cache.store(cx, &id, key.as_bytes(), value, expire_s));
    ended(call, stored, "Cache store command failed")
}

fn mi_remove(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (id, key) = named(call);
    let removed = call.cx.with_cache(&id, |cache, cx| cache.remove(cx, &id, key.as_bytes()));
    ended(call, removed, "Cache remove command failed")
}

fn ended(call: &mut MiCall<'_, '_>, result: Result<(), String>, message: &str) -> MiOutcome {
    match result {
        Ok(()) => MiOutcome::ok(),
        Err(why) => {
            call.cx.log(Level::Error, why);
            MiOutcome::failed(500, message)
        }
    }
}

fn mi_fetch(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let (id, key) = named(call);
    match call.cx.with_cache(&id, |cache, cx| cache.fetch(cx, &id, key.as_bytes())) {
        Ok(Some(value)) => {
            MiOutcome::Done(json!({"key": key, "value": String::from_utf8_lossy(&value)}))
        }
        Ok(None) => MiOutcome::failed(400, "Value not found"),
        Err(why) => {
            call.cx.log(Level::Error, why);
            MiOutcome::failed(500, "Cache fetch command failed")
        }
    }
}
