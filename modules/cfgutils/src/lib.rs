//! `cfgutils`: chance, waiting, locks, shared variables and time recurrences for scripts.
//!
//! Where to look: `chance` has probabilities and random choices; `wait` sleeping and locks;
//! `shared` the variables that all workers share; `recurrence` reads recurrences, `times` what
//! joins them, and `clock` tells the time; `digest` looks whether a file has changed; `mi` the commands.

mod chance;
mod clock;
mod digest;
mod mi;
mod recurrence;
mod shared;
mod times;
mod wait;

use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_engine::context::Ctx;
use tandem_engine::module::{
    Build, BuildError, Cx, FunctionDef, Module, ModuleDef, ParamValue, Timer, VariableDef,
};
use tandem_engine::table::{count, join, moot, param};
use tandem_script::host::Called;
use tandem_script::sig::{ParamKind, ParamSig, Routes};
use tandem_script::value::Value;

pub use crate::recurrence::Recurrence;
pub use crate::times::Times;

const OK: Called = Called::Returned(1);
const FAILED: Called = Called::Returned(-1);
/// Every block but error_route.
const ROUTES: Routes = Routes(Routes::ANY.0 & !Routes::ERROR.0);

const fn many(mut row: ParamSig) -> ParamSig {
    row.multiple = true;
    row
}

const PARAMS: &[ParamSig] = &[
    param(
        "initial_probability",
        ParamKind::Int,
        Some("10"),
        "Percent with which rand_event() is true at first.",
    ),
    param("hash_file", ParamKind::Str, None, "A file whose changes check_config_hash notices."),
    moot("shv_hash_size", ParamKind::Int, "the table of $shv grows by itself"),
    many(param("shvset", ParamKind::Str, None, "Presets a $shv: `name=s:text`, `name=i:number`.")),
    many(param("varset", ParamKind::Str, None, "Presets a $var: `name=s:text`, `name=i:number`.")),
    param("lock_pool_size", ParamKind::Int, Some("32"), "Locks that dynamic keys share."),
];

const FUNCTIONS: &[&[FunctionDef]] =
    &[chance::FUNCTIONS, wait::FUNCTIONS, clock::FUNCTIONS, recurrence::FUNCTIONS];
static ALL_FUNCTIONS: [FunctionDef; count(FUNCTIONS)] = join(FUNCTIONS);

const VARIABLES: &[&[VariableDef]] = &[chance::VARIABLES, shared::VARIABLES, clock::VARIABLES];
static ALL_VARIABLES: [VariableDef; count(VARIABLES)] = join(VARIABLES);

/// The table of `cfgutils`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "cfgutils",
    help: "Chance, waiting, locks, shared variables and time recurrences for scripts.",
    dependencies: &[],
    params: PARAMS,
    functions: &ALL_FUNCTIONS,
    variables: &ALL_VARIABLES,
    mi: mi::COMMANDS,
    statistics: &[],
    events: &[],
    build,
};

/// What scripts share.
pub struct CfgUtils {
    slot: u16,
    initial_percent: i32,
    percent: AtomicI32,
    shared: shared::Shared,
    vars: Vec<(Bytes, Value)>,
    locks: wait::Locks,
    digest: Option<Mutex<digest::Watched>>,
}

impl Module for CfgUtils {
    fn start(&self, cx: &mut Cx<'_>) {
        if let Some(watched) = &self.digest {
            let path = watched.lock().path.clone();
            cx.read_file(&path, digest::AT_START);
        }
    }

    fn file_read(&self, cx: &mut Cx<'_>, token: u64, result: Result<Option<Bytes>, String>) {
        digest::read(self, cx, token, result);
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        cx.resume(timer.id, 1);
    }

    /// A lock that a run forgot would hold up every other run for ever.
    fn request_ended(&self, cx: &mut Cx<'_>, ctx: &mut Ctx) {
        self.locks.release_all(cx, ctx, self.slot);
    }

    fn preset_vars(&self) -> Vec<(Bytes, Value)> {
        self.vars.clone()
    }
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let percent = from.int("initial_probability").unwrap_or(10);
    let percent = i32::try_from(percent).ok().filter(|p| (0..=100).contains(p));
    let percent =
        percent.ok_or_else(|| BuildError::new("initial_probability", "it goes from 0 to 100"))?;
    let pool = from.int("lock_pool_size").unwrap_or(32);
    let pool = usize::try_from(pool).ok().filter(|n| (1..=65_536).contains(n));
    let pool = pool.ok_or_else(|| BuildError::new("lock_pool_size", "it goes from 1 to 65536"))?;
    let digest = from.text("hash_file").map(|path| Mutex::new(digest::Watched::new(path)));
    let shared = presets(from, "shvset")?;
    let vars = presets(from, "varset")?;
    let key = from.hash_key();
    Ok(Arc::new(CfgUtils {
        slot: from.slot,
        initial_percent: percent,
        percent: AtomicI32::new(percent),
        shared: shared::Shared::new(shared),
        vars,
        locks: wait::Locks::new(pool, key),
        digest,
    }))
}

/// `name=s:text` and `name=i:number`.
fn presets(from: &Build<'_>, name: &'static str) -> Result<Vec<(Bytes, Value)>, BuildError> {
    let read = |value: &ParamValue| {
        let ParamValue::Str(text) = value else { return None };
        let (var, rest) = text.split_once('=')?;
        let value = match rest.split_once(':')? {
            ("s", text) => Value::str(text.to_owned()),
            ("i", number) => Value::Int(number.trim().parse().ok()?),
            _ => return None,
        };
        let var = var.trim();
        (!var.is_empty()).then(|| (Bytes::copy_from_slice(var.as_bytes()), value))
    };
    let wrong = || BuildError::new(name, "it is written `name=s:text` or `name=i:number`");
    from.all(name).iter().map(|v| read(v).ok_or_else(wrong)).collect()
}
