//! Functions and variables.

use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef, VarCall, VariableDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::host::Called;
use tandem_script::program::Ready;
use tandem_script::sig::{ArgKind, ArgSig, Routes, VariableSig};
use tandem_script::value::Value;
use tandem_script::vm::compile_posix;

use crate::pipe::{Algorithm, Pipe};
use crate::state::{RateLimit, check_algorithm};

const OK: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);
const ROUTES: Routes = Routes(Routes::ANY.0 & !Routes::STARTUP.0);

const CHECK: &[ArgSig] = &[
    arg("name", ArgKind::Str),
    arg("limit", ArgKind::Int),
    ArgSig { check: Some(check_algorithm), ..optional("algorithm", ArgKind::Str) },
];
const NAME: &[ArgSig] = &[arg("name", ArgKind::Str)];
const VALUES: &[ArgSig] = &[arg("avp", ArgKind::Var), optional("regex", ArgKind::Regex)];

pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "rl_check",
        CHECK,
        ROUTES,
        "Counts one in a pipe (\"name\", \"name/b\" for the whole cluster, \"name/s\" for all who use \
         the store of cachedb_url): 1, or -1 over the \
         limit.",
        rl_check,
    ),
    function("rl_dec_count", NAME, ROUTES, "Takes one back.", |call| on(call, Pipe::uncount)),
    function("rl_reset_count", NAME, ROUTES, "Sets a pipe to 0.", |call| on(call, Pipe::reset)),
    function("rl_values", VALUES, Routes::ANY, "The names of the pipes, or of some.", rl_values),
];

pub(crate) const VARIABLES: &[VariableDef] = &[VariableDef {
    sig: VariableSig {
        name: "rl_count",
        writable: false,
        takes_name: true,
        takes_index: false,
        help: "What a pipe has counted, everywhere.",
    },
    get: rl_count,
    set: None,
}];

/// Who counts in a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    /// This node alone.
    No,
    /// The nodes of a cluster, which tell each other (`/b`).
    Cluster,
    /// All who use the store (`/s`).
    Store,
}

/// The name without its suffix, and what that says.
pub(crate) fn parse(name: &str) -> (&str, Shared) {
    match name.rsplit_once('/') {
        Some((name, "b")) => (name, Shared::Cluster),
        Some((name, "s")) => (name, Shared::Store),
        _ => (name, Shared::No),
    }
}

fn text(call: &Call<'_, '_, '_>, at: usize) -> String {
    String::from_utf8_lossy(&call.text(at)).into_owned()
}

fn rl_check(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<RateLimit>() else { return NO };
    let (given, limit) = (text(call, 0), call.int(1).unwrap_or(0));
    let algorithm = match call.given(2).then(|| text(call, 2)) {
        None => state.default,
        Some(text) => match Algorithm::of(&text) {
            Some(algorithm) => algorithm,
            None => return call.complain(Level::Error, format!("no algorithm `{text}`")),
        },
    };
    let (name, shared) = parse(&given);
    if name.is_empty() {
        return call.complain(Level::Error, "a pipe has a name");
    }
    let counted = match shared {
        Shared::Store => match state.count_in_store(call.cx, name) {
            Ok(count) => Some(count),
            Err(why) => return call.complain(Level::Error, why),
        },
        _ => None,
    };
    let (now, rules) = (call.cx.now, state.rules());
    let replicated = shared == Shared::Cluster && state.cluster != 0;
    let new = || Pipe::new(algorithm, limit, replicated, now);
    let passes = state.with_pipe(name, new, |pipe| {
        (pipe.limit, pipe.algorithm) = (limit, algorithm);
        pipe.replicated |= replicated;
        if let Some(count) = counted {
            pipe.take_count(count);
        }
        pipe.check(now, &rules)
    });
    match passes {
        Some(true) => OK,
        Some(false) => NO,
        None => {
            call.complain(Level::Error, "there are too many pipes: this one is not counted");
            OK
        }
    }
}

fn on(call: &mut Call<'_, '_, '_>, change: fn(&mut Pipe)) -> Called {
    let Some(state) = call.state::<RateLimit>() else { return NO };
    let given = text(call, 0);
    let (name, _) = parse(&given);
    let mut pipes = state.pipes.lock();
    match pipes.get_mut(name) {
        Some(pipe) => {
            change(pipe);
            OK
        }
        None => NO,
    }
}

fn rl_values(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<RateLimit>() else { return NO };
    let regex = match call.ready(1) {
        Some(Ready::Regex(regex)) => Some(regex.as_ref().clone()),
        _ if call.given(1) => match compile_posix(&call.text(1), true, false) {
            Ok(regex) => Some(regex),
            Err(why) => return call.complain(Level::Error, why),
        },
        _ => None,
    };
    let names: Vec<String> = state.pipes.lock().keys().cloned().collect();
    let fits = |name: &String| regex.as_ref().is_none_or(|re| re.is_match(name.as_bytes()));
    for name in names.into_iter().filter(fits) {
        if let Err(why) = call.set_var(0, Value::str(name)) {
            return call.complain(Level::Error, why);
        }
    }
    OK
}

fn rl_count(call: &mut VarCall<'_, '_>) -> Value {
    let Some(state) = call.state::<RateLimit>() else { return Value::Null };
    let given = String::from_utf8_lossy(call.access.name).into_owned();
    let (name, _) = parse(&given);
    let (now, rules) = (call.cx.now, state.rules());
    let mut pipes = state.pipes.lock();
    pipes.get_mut(name).map_or(Value::Null, |pipe| {
        Value::Int(pipe.own(now, &rules).saturating_add(pipe.others(now)))
    })
}
