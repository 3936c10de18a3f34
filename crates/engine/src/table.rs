//! Short forms for the rows of export tables.

use tandem_script::host::Called;
use tandem_script::sig::{
    ArgKind, ArgSig, AsyncUse, Dependency, FunctionSig, ParamKind, ParamSig, Routes, VariableSig,
};
use tandem_script::value::Value;

use crate::mi::{MiCall, MiDef, MiKind, MiOutcome, MiParam};
use crate::module::{Call, FunctionDef, VarCall, VariableDef};
use crate::stats::{StatDef, StatKind};

/// A mandatory argument.
pub const fn arg(name: &'static str, kind: ArgKind) -> ArgSig {
    ArgSig { name, kind, optional: false, is_static: false, check: None }
}

/// An argument that may be left out.
pub const fn optional(name: &'static str, kind: ArgKind) -> ArgSig {
    ArgSig { name, kind, optional: true, is_static: false, check: None }
}

/// An argument that takes literals only.
pub const fn literal(name: &'static str, kind: ArgKind) -> ArgSig {
    ArgSig { name, kind, optional: false, is_static: true, check: None }
}

/// A function that is not for `async()`.
pub const fn function(
    name: &'static str,
    args: &'static [ArgSig],
    routes: Routes,
    help: &'static str,
    run: fn(&mut Call<'_, '_, '_>) -> Called,
) -> FunctionDef {
    FunctionDef { sig: FunctionSig { name, args, routes, async_use: AsyncUse::No, help }, run }
}

/// A variable without name and index that can only be read.
pub const fn variable(
    name: &'static str,
    help: &'static str,
    get: fn(&mut VarCall<'_, '_>) -> Value,
) -> VariableDef {
    let sig = VariableSig { name, writable: false, takes_name: false, takes_index: false, help };
    VariableDef { sig, get, set: None }
}

/// A parameter that may be given once.
pub const fn param(
    name: &'static str,
    kind: ParamKind,
    default: Option<&'static str>,
    help: &'static str,
) -> ParamSig {
    ParamSig { name, kind, default, multiple: false, old_names: &[], check: None, moot: None, help }
}

/// A parameter that is accepted for the sake of existing scripts and does nothing here. The
/// checker says `why` in a note under it: "workers never wait: there is nothing to tune".
pub const fn moot(name: &'static str, kind: ParamKind, why: &'static str) -> ParamSig {
    let moot = Some(why);
    let help = "Accepted, without a meaning here.";
    ParamSig { name, kind, default: None, multiple: true, old_names: &[], check: None, moot, help }
}

/// A counter.
pub const fn counter(name: &'static str, help: &'static str) -> StatDef {
    StatDef { name, kind: StatKind::Counter, resettable: true, help }
}

/// A statistic that is asked of the module.
pub const fn gauge(name: &'static str, help: &'static str) -> StatDef {
    StatDef { name, kind: StatKind::Function, resettable: false, help }
}

/// A module that has to be loaded as well.
pub const fn needs(module: &'static str) -> Dependency {
    Dependency { module, when_param: "" }
}

/// A management command.
pub const fn command(
    name: &'static str,
    old_names: &'static [&'static str],
    param_sets: &'static [&'static [MiParam]],
    help: &'static str,
    run: fn(&mut MiCall<'_, '_>) -> MiOutcome,
) -> MiDef {
    MiDef { name, old_names, param_sets, help, run }
}

/// A text parameter of a command.
pub const fn mi_text(name: &'static str) -> MiParam {
    MiParam { name, kind: MiKind::Str }
}

/// A number parameter of a command.
pub const fn mi_int(name: &'static str) -> MiParam {
    MiParam { name, kind: MiKind::Int }
}

/// How many rows the parts of a table have together.
pub const fn count<T>(parts: &[&[T]]) -> usize {
    let (mut n, mut at) = (0, 0);
    while at < parts.len() {
        n += parts[at].len();
        at += 1;
    }
    n
}

/// Joins the parts of a table; the first part must not be empty.
pub const fn join<T: Copy, const N: usize>(parts: &[&[T]]) -> [T; N] {
    let mut all = [parts[0][0]; N];
    let (mut n, mut part) = (0, 0);
    while part < parts.len() {
        let mut row = 0;
        while row < parts[part].len() {
            all[n] = parts[part][row];
            n += 1;
            row += 1;
        }
        part += 1;
    }
    all
}
