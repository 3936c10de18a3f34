//! Reading and writing variables, and texts with variables in them.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Frame, L_ERR, RunState, TEXT_BYTES_MAX};
use crate::host::{Assign, Host, Index, VarAccess};
use crate::program::{Arg, IndexRef, Name, Part, Program, VarId, VarRef, VarTarget};
use crate::sig::Routes;
use crate::transform::{self, Run, TransformArg, TransformCall};
use crate::value::Value;

/// The value of a variable, transformations applied.
pub fn eval_var<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    var: VarId,
    host: &mut H,
) -> Value {
    let Some(var) = program.vars.get(var.0 as usize) else { return Value::Null };
    let value = raw(program, run, var, None, host);
    transformed(program, run, var, value, host)
}

/// Entry `at` of a list variable, whatever its own index is.
pub(super) fn eval_at<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    var: VarId,
    at: i32,
    host: &mut H,
) -> Value {
    let Some(var) = program.vars.get(var.0 as usize) else { return Value::Null };
    let value = raw(program, run, var, Some(at), host);
    transformed(program, run, var, value, host)
}

/// The value of a reference that stands in no program.
pub(super) fn value_of<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    var: &VarRef,
    host: &mut H,
) -> Value {
    let value = raw(program, run, var, None, host);
    transformed(program, run, var, value, host)
}

fn transformed<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    var: &VarRef,
    mut value: Value,
    host: &mut H,
) -> Value {
    for call in &var.transforms {
        if value.is_null() {
            break;
        }
        value = match transform::row_of(call).map(|sig| sig.run) {
            Some(Run::Subst) => substituted(program, run, call, &value, host),
            Some(Run::Eval) => evaluated(program, run, &value, host),
            Some(Run::Resolve) => resolved(&value, host),
            _ => {
                let mut args: SmallVec<[Value; 2]> = SmallVec::new();
                for arg in &call.args {
                    args.push(match arg {
                        TransformArg::Int(i) => Value::Int(*i),
                        TransformArg::Text(t) => Value::Str(t.clone()),
                        TransformArg::Var(v) => eval_var(program, run, *v, host),
                        TransformArg::Subst(_) => Value::Null,
                    });
                }
                transform::apply(call, value, &args)
            }
        };
    }
    value
}

fn substituted<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    call: &TransformCall,
    value: &Value,
    host: &mut H,
) -> Value {
    let subst = match call.args.first() {
        Some(TransformArg::Subst(subst)) => Ok(Arc::clone(subst)),
        Some(TransformArg::Var(var)) => {
            let text = eval_var(program, run, *var, host).into_bytes().unwrap_or_default();
            run.vars.subst(&text)
        }
        _ => return Value::Null,
    };
    match (subst, value.text()) {
        (Ok(subst), Some(text)) => Value::str(subst.apply(&text, |var| {
            eval_var(program, run, var, host).into_bytes().unwrap_or_default()
        })),
        (Err(why), _) => {
            host.log(L_ERR, format!("{{re.subst}}: {why}").as_bytes(), run.place(program));
            Value::Null
        }
        _ => Value::Null,
    }
}

fn evaluated<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    value: &Value,
    host: &mut H,
) -> Value {
    let text = value.text().unwrap_or_default();
    match super::expand(program, run, &text, host) {
        Ok(text) => Value::Str(text),
        Err(why) => {
            host.log(L_ERR, format!("{{s.eval}}: {why}").as_bytes(), run.place(program));
            Value::Null
        }
    }
}

fn resolved<H: Host + ?Sized>(value: &Value, host: &mut H) -> Value {
    let text = value.text().unwrap_or_default();
    let bare = text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]")).unwrap_or(&text);
    let Ok(name) = std::str::from_utf8(bare) else { return Value::Null };
    if name.parse::<std::net::IpAddr>().is_ok() {
        return value.clone();
    }
    host.resolve(name).map_or(Value::Null, |ip| Value::str(ip.to_string()))
}

/// Assigns a variable. The error is in plain words, without the place.
pub fn assign_var<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    var: VarId,
    how: Assign,
    value: Value,
    host: &mut H,
) -> Result<(), String> {
    let Some(var) = program.vars.get(var.0 as usize) else {
        return Err("no such variable".to_owned());
    };
    let (name, index) = inner(program, run, var, host);
    match var.target {
        VarTarget::Slot(slot) => run.vars.set_slot(slot, value),
        VarTarget::DynamicVar => {
            if !run.vars.set_named(&name, value) {
                return Err("too many computed $var names".to_owned());
            }
        }
        VarTarget::Module(module, variable) => {
            let access = VarAccess { module, variable, name: &name, index, context: var.context };
            return host.set(access, how, value);
        }
        _ => return Err(format!("{} cannot be written", var.text)),
    }
    Ok(())
}

/// Writes an output argument of the function that a run waits for. The block behind `async()`
/// sees these `$var`s of the run and no others.
///
/// # Errors
/// As [`assign_var`].
pub fn assign_output<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    var: VarId,
    value: Value,
    host: &mut H,
) -> Result<(), String> {
    let named = program.vars.get(var.0 as usize);
    let name = match named.map(|v| (v, v.target)) {
        Some((_, VarTarget::Slot(slot))) => program.var_names.get(slot as usize).cloned(),
        Some((var, VarTarget::DynamicVar)) => Some(inner(program, run, var, host).0),
        _ => None,
    };
    assign_var(program, run, var, Assign::Set, value, host)?;
    run.outputs.extend(name);
    Ok(())
}

fn inner<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    var: &VarRef,
    host: &mut H,
) -> (Bytes, Index) {
    let name = match &var.name {
        Name::None => Bytes::new(),
        Name::Text(text) => text.clone(),
        Name::Format(format) => format_text(program, run, *format, host),
    };
    let index = match var.index {
        IndexRef::None => Index::None,
        IndexRef::At(i) => Index::At(i),
        IndexRef::All => Index::All,
        IndexRef::Append => Index::Append,
        // An index that is no integer selects nothing that exists.
        IndexRef::Var(v) => Index::At(eval_var(program, run, v, host).int().unwrap_or(i32::MAX)),
    };
    (name, index)
}

fn raw<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    var: &VarRef,
    at: Option<i32>,
    host: &mut H,
) -> Value {
    match var.target {
        VarTarget::Slot(slot) => return run.vars.slot(slot),
        VarTarget::Rc => return Value::Int(run.rc),
        VarTarget::CfgLine => {
            return Value::Int(i32::try_from(run.place(program).line).unwrap_or(i32::MAX));
        }
        VarTarget::CfgFile => {
            let name = program.file_name(run.place(program)).to_owned();
            return Value::str(name.into_bytes());
        }
        _ => {}
    }
    let (name, index) = inner(program, run, var, host);
    let index = at.map_or(index, Index::At);
    match var.target {
        VarTarget::Module(module, variable) => {
            host.get(VarAccess { module, variable, name: &name, index, context: var.context })
        }
        VarTarget::DynamicVar => run.vars.get_named(&name),
        VarTarget::Param => param(run, &name),
        VarTarget::Return => {
            number(&name).and_then(|n| run.returned.get(n).cloned()).unwrap_or_default()
        }
        target => stack_text(program, &run.frames, target, index),
    }
}

fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn param(run: &RunState, name: &[u8]) -> Value {
    let Some(frame) = run.frames.last() else { return Value::Null };
    let by_number = number(name).and_then(|n| n.checked_sub(1)).and_then(|n| frame.params.get(n));
    let by_name = || run.named.iter().find(|(n, _)| n == name).map(|(_, v)| v);
    by_number.or_else(by_name).cloned().unwrap_or_default()
}

fn stack_text(program: &Program, frames: &[Frame], target: VarTarget, index: Index) -> Value {
    let one = |frame: &Frame| -> Option<String> {
        let route = program.route(frame.route)?;
        Some(match target {
            VarTarget::RouteName => route.name.clone(),
            VarTarget::RouteType => kind_name(route.kind).to_owned(),
            _ if route.name.is_empty() => kind_name(route.kind).to_owned(),
            _ => format!("{}[{}]", kind_name(route.kind), route.name),
        })
    };
    let text = match index {
        Index::All => {
            let all = frames.iter().rev().filter_map(one).collect::<Vec<_>>();
            Some(all.join(" > "))
        }
        Index::At(i) if i < 0 => {
            usize::try_from(-(i64::from(i)) - 1).ok().and_then(|n| frames.get(n)).and_then(one)
        }
        Index::At(i) => {
            usize::try_from(i).ok().and_then(|n| frames.iter().rev().nth(n)).and_then(one)
        }
        Index::None | Index::Append => frames.last().and_then(one),
    };
    text.map_or(Value::Null, |t| Value::str(t.into_bytes()))
}

/// The word that opens a block of this kind.
/// The word that a kind of block begins with.
pub fn kind_name(kind: Routes) -> &'static str {
    match kind {
        Routes::FAILURE => "failure_route",
        Routes::ONREPLY => "onreply_route",
        Routes::BRANCH => "branch_route",
        Routes::ERROR => "error_route",
        Routes::LOCAL => "local_route",
        Routes::STARTUP => "startup_route",
        Routes::TIMER => "timer_route",
        Routes::EVENT => "event_route",
        _ => "route",
    }
}

/// A text with its variables expanded; null prints as `<null>`.
pub(super) fn format_text<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    format: u32,
    host: &mut H,
) -> Bytes {
    let Some(format) = program.formats.get(format as usize) else { return Bytes::new() };
    let mut out = Vec::new();
    for part in &format.parts {
        match part {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Var(var) => match eval_var(program, run, *var, host).text() {
                Some(text) => out.extend_from_slice(&text),
                None => out.extend_from_slice(b"<null>"),
            },
        }
        if out.len() > TEXT_BYTES_MAX {
            out.truncate(TEXT_BYTES_MAX);
            host.log(L_ERR, b"a formatted text was cut at its limit", run.place(program));
            break;
        }
    }
    Bytes::from(out)
}

/// The value of an argument that is no function argument: of `route()`, `launch()`.
pub(super) fn arg_value<H: Host + ?Sized>(
    program: &Program,
    run: &mut RunState,
    arg: &Arg,
    host: &mut H,
) -> Value {
    match arg {
        Arg::Int(i) => Value::Int(*i),
        Arg::Str(s) => Value::Str(s.clone()),
        Arg::Format(f) => Value::Str(format_text(program, run, *f, host)),
        Arg::Var(v) | Arg::Ref(v) | Arg::IntVar(v) | Arg::StrVar(v) => {
            eval_var(program, run, *v, host)
        }
        Arg::None | Arg::Ready(_) => Value::Null,
    }
}
