//! Functions and variables.

use std::collections::BTreeMap;

use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef, VarCall, VariableDef};
use tandem_engine::table::{arg, function};
use tandem_script::host::{Assign, Called};
use tandem_script::sig::{ArgKind, ArgSig, Routes, VariableSig};
use tandem_script::value::Value;

use crate::Statistics;

/// Iterations at once.
const ITERATIONS_MAX: usize = 1_000;

/// Places within groups, by the name that the script gave them.
#[derive(Default)]
pub(crate) struct Iterations(BTreeMap<String, std::vec::IntoIter<String>>);

const OK: Called = Called::Returned(1);
const FAILED: Called = Called::Returned(-1);

const UPDATE: &[ArgSig] = &[arg("variable", ArgKind::Str), arg("value", ArgKind::Int)];
const VARIABLE: &[ArgSig] = &[arg("variable", ArgKind::Str)];
const INIT: &[ArgSig] = &[arg("group", ArgKind::Str), arg("iter", ArgKind::Str)];
const NEXT: &[ArgSig] =
    &[arg("name", ArgKind::Var), arg("val", ArgKind::Var), arg("iter", ArgKind::Str)];
const SERIES: &[ArgSig] =
    &[arg("profile", ArgKind::Str), arg("variable", ArgKind::Str), arg("value", ArgKind::Int)];

/// Every block but error_route.
const ROUTES: Routes = Routes(Routes::ANY.0 & !Routes::ERROR.0);

pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "update_stat",
        UPDATE,
        ROUTES,
        "Adds to a counter, which is made if need be; the number may be negative.",
        |call| {
            let (name, n) = (text(call, 0), i64::from(call.int(1).unwrap_or(0)));
            let Some(state) = call.state::<Statistics>() else { return FAILED };
            match state.counters.add(&name, n) {
                Ok(()) => OK,
                Err(why) => call.complain(Level::Error, format!("statistic {name}: {why}")),
            }
        },
    ),
    function("reset_stat", VARIABLE, ROUTES, "Sets a statistic to 0.", |call| {
        let name = text(call, 0);
        let Some(state) = call.state::<Statistics>() else { return FAILED };
        if reset(&state, call.cx.node, &name) { OK } else { FAILED }
    }),
    function("stat_iter_init", INIT, ROUTES, "Begins to go through a group.", iter_init),
    function(
        "stat_iter_next",
        NEXT,
        ROUTES,
        "Name and value of the next statistic of the group; fails at the end.",
        iter_next,
    ),
    function(
        "update_stat_series",
        SERIES,
        Routes::ANY,
        "Feeds a value to a series of a profile.",
        |call| {
            let (profile, name) = (text(call, 0), text(call, 1));
            let (n, now) = (i64::from(call.int(2).unwrap_or(0)), call.cx.now);
            let Some(state) = call.state::<Statistics>() else { return FAILED };
            match state.series.add(now, &profile, &name, n) {
                Ok(()) => OK,
                Err(why) => call.complain(Level::Error, why),
            }
        },
    ),
];

pub(crate) const VARIABLES: &[VariableDef] = &[VariableDef {
    sig: VariableSig {
        name: "stat",
        writable: true,
        takes_name: true,
        takes_index: false,
        help: "A statistic by name or group:name; writing 0 resets it.",
    },
    get,
    set: Some(set),
}];

fn text(call: &Call<'_, '_, '_>, index: usize) -> String {
    String::from_utf8_lossy(&call.text(index)).into_owned()
}

/// Resets a counter of a script, or of a module by its name with or without group.
fn reset(state: &Statistics, node: &tandem_engine::node::Node, name: &str) -> bool {
    let short = name.rsplit(':').next().unwrap_or(name);
    state.counters.reset(name) || node.reset_statistic(short)
}

fn iter_init(call: &mut Call<'_, '_, '_>) -> Called {
    let (group, name) = (text(call, 0), text(call, 1));
    let Some(state) = call.state::<Statistics>() else { return FAILED };
    let all = call.cx.node.statistics(call.cx.now).into_iter().map(|(full, ..)| full);
    let of_group = |full: &String| full.split_once(':').is_some_and(|(g, _)| g == group);
    let names: Vec<String> = all.filter(of_group).collect();
    if names.is_empty() {
        return call.complain(Level::Error, format!("there are no statistics in `{group}`"));
    }
    let mut iterations = state.iterations.lock();
    if iterations.0.len() >= ITERATIONS_MAX && !iterations.0.contains_key(&name) {
        return FAILED;
    }
    iterations.0.insert(name, names.into_iter());
    OK
}

fn iter_next(call: &mut Call<'_, '_, '_>) -> Called {
    let name = text(call, 2);
    let Some(state) = call.state::<Statistics>() else { return FAILED };
    let mut iterations = state.iterations.lock();
    let Some(at) = iterations.0.get_mut(&name) else {
        drop(iterations);
        return call.complain(Level::Error, format!("stat_iter_init() did not begin `{name}`"));
    };
    let Some(found) = at.next() else {
        iterations.0.remove(&name);
        return FAILED;
    };
    drop(iterations);
    let value = call.cx.node.statistic(&found, call.cx.now).map_or(Value::Null, value);
    let written = call.set_var(0, Value::str(found.into_bytes()));
    match written.and_then(|()| call.set_var(1, value)) {
        Ok(()) => OK,
        Err(why) => call.complain(Level::Error, why),
    }
}

/// A value that went below 0 is negative in a script.
fn value(n: u64) -> Value {
    let signed = n as i64;
    Value::Int(i32::try_from(signed).unwrap_or(if signed < 0 { i32::MIN } else { i32::MAX }))
}

fn get(call: &mut VarCall<'_, '_>) -> Value {
    let name = String::from_utf8_lossy(call.access.name).into_owned();
    let own = call.state::<Statistics>().and_then(|state| {
        state.counters.get(&name).or_else(|| state.series.get(call.cx.now, &name))
    });
    let found = own.map(|n| n as u64).or_else(|| call.cx.node.statistic(&name, call.cx.now));
    found.map_or(Value::Null, value)
}

fn set(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    if value.int() != Some(0) {
        return Err("a statistic can only be set to 0".to_owned());
    }
    let name = String::from_utf8_lossy(call.access.name).into_owned();
    let state = call.state::<Statistics>().ok_or("the module is not there")?;
    let found = reset(&state, call.cx.node, &name);
    found.then_some(()).ok_or_else(|| format!("there is no statistic {name}"))
}
