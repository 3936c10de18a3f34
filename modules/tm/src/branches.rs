//! Functions about single branches, and the variables that show them.

use std::sync::Arc;

use tandem_engine::context::Branch as Target;
use tandem_engine::module::{Call, VarCall};
use tandem_script::host::{Assign, Called, Index};
use tandem_script::value::Value;
use tandem_transaction::{BranchIndex, BranchView, Role as BranchRole};

use crate::inject::cancel;
use crate::record::{Leg, Role, Section};
use crate::table::Tx;
use crate::tm::Tm;

const OK: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

/// `t_cancel_branch("a")`: all that are pending; "o": all but this one; "": this one.
pub(crate) fn t_cancel_branch(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    let section = call.ctx.section::<Section>(call.cx.slot);
    let Some((tx, here)) = section.and_then(|s| Some((s.tx.clone()?, s.branch?))) else {
        return NO;
    };
    let flags = call.text(0);
    let (all, others) = (flags.contains(&b'a'), flags.contains(&b'o'));
    cancel(&tm, call, &tx, |branch| all || (branch == here) != others);
    OK
}

/// The first branch from `offset` on whose attribute has this value (or any, without one).
pub(crate) fn t_get_branch_idx_by_attr(call: &mut Call<'_, '_, '_>) -> Called {
    let section = call.ctx.section::<Section>(call.cx.slot);
    let Some(tx) = section.and_then(|s| s.tx.clone()) else { return NO };
    let attr = call.text(0);
    let text = call.given(1).then(|| call.text(1));
    let number = call.int(2).filter(|_| call.given(2));
    let from = call.int(4).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let found = {
        let cell = tx.cell.lock();
        let fits = |leg: &Leg| {
            leg.target.attr(&attr).is_some_and(|value| {
                number.is_none_or(|n| value.int() == Some(n))
                    && text.as_ref().is_none_or(|t| value.text().is_some_and(|v| v[..] == t[..]))
            })
        };
        cell.record.legs.iter().enumerate().skip(from).find(|(_, leg)| fits(leg)).map(|(n, _)| n)
    };
    let Some(index) = found else { return NO };
    let _ = call.set_var(3, Value::Int(index as i32));
    OK
}

/// The branch that a variable means: the one of its index, else that of the route.
fn place(call: &VarCall<'_, '_>) -> Option<(Arc<Tx>, BranchIndex)> {
    let section = call.ctx.section::<Section>(call.cx.slot)?;
    let tx = section.tx.clone()?;
    let branch = match call.access.index {
        Index::At(n) => {
            let count = tx.cell.lock().record.legs.len() as i32;
            let n = if n < 0 { n.checked_add(count)? } else { n };
            BranchIndex(u8::try_from(n).ok()?)
        }
        _ => section.branch?,
    };
    Some((tx, branch))
}

/// What `look` finds at the branch that a variable means; with `[*]`, at all of them.
fn look_at(call: &VarCall<'_, '_>, look: impl Fn(&Tx, BranchIndex) -> Value) -> Value {
    if call.access.index != Index::All {
        return place(call).map_or(Value::Null, |(tx, branch)| look(&tx, branch));
    }
    let section = call.ctx.section::<Section>(call.cx.slot);
    let Some(tx) = section.and_then(|s| s.tx.as_ref()) else { return Value::Null };
    let count = tx.cell.lock().record.legs.len();
    let all = (0..count).filter_map(|n| u8::try_from(n).ok()).map(BranchIndex);
    let texts: Vec<bytes::Bytes> = all.filter_map(|n| look(tx, n).into_bytes()).collect();
    if texts.is_empty() { Value::Null } else { Value::str(texts.join(&b", "[..])) }
}

/// Looks at the target of a branch. That of a branch route's own branch is the message's.
fn of_target(call: &VarCall<'_, '_>, look: impl Fn(&Target) -> Value) -> Value {
    let own = own_branch(call);
    look_at(call, |tx, branch| {
        if own == Some(branch) {
            return look(&call.ctx.target);
        }
        let cell = tx.cell.lock();
        cell.record.leg(branch).map_or(Value::Null, |leg| look(&leg.target))
    })
}

/// The branch that is only being made, in its branch route.
fn own_branch(call: &VarCall<'_, '_>) -> Option<BranchIndex> {
    let section = call.ctx.section::<Section>(call.cx.slot)?;
    section.branch.filter(|_| section.role == Role::Branch)
}

/// The same at its machine.
fn of_view(call: &VarCall<'_, '_>, look: fn(BranchView<'_>) -> Value) -> Value {
    look_at(call, |tx, branch| {
        let cell = tx.cell.lock();
        cell.record.machine.branch(branch).map_or(Value::Null, look)
    })
}

fn text(value: &[u8]) -> Value {
    if value.is_empty() { Value::Null } else { Value::str(value.to_vec()) }
}

pub(crate) fn uri(call: &mut VarCall<'_, '_>) -> Value {
    let received = call.ctx.request_uri();
    of_target(call, |target| text(target.uri.as_deref().unwrap_or(received)))
}

pub(crate) fn dst_uri(call: &mut VarCall<'_, '_>) -> Value {
    of_target(call, |target| text(target.dst_uri.as_deref().unwrap_or_default()))
}

pub(crate) fn path(call: &mut VarCall<'_, '_>) -> Value {
    of_target(call, |target| text(target.path()))
}

pub(crate) fn q(call: &mut VarCall<'_, '_>) -> Value {
    of_target(call, |target| target.q.map_or(Value::Null, |q| Value::Int(i32::from(q))))
}

pub(crate) fn flags(call: &mut VarCall<'_, '_>) -> Value {
    let script = call.cx.node.script();
    of_target(call, |target| {
        let all = script.program.branch_flags.iter().enumerate();
        let is_set = |n: usize| target.flags & 1u32.checked_shl(n as u32).unwrap_or(0) != 0;
        let set: Vec<&str> = all.filter(|(n, _)| is_set(*n)).map(|(_, n)| n.as_str()).collect();
        Value::str(set.join(" "))
    })
}

pub(crate) fn socket(call: &mut VarCall<'_, '_>) -> Value {
    let own = own_branch(call);
    let name = |id| call.cx.node.sockets.get(id).map_or(Value::Null, |s| text(s.text().as_bytes()));
    look_at(call, |tx, branch| {
        if own == Some(branch) {
            return call.ctx.target.socket.map_or(Value::Null, name);
        }
        let socket = tx.cell.lock().record.leg(branch).filter(|l| !l.phony).map(|l| l.socket);
        socket.map_or(Value::Null, name)
    })
}

/// The mask of the branch flag that the name in brackets means.
fn mask(call: &VarCall<'_, '_>) -> Option<u32> {
    let script = call.cx.node.script();
    let mut all = script.program.branch_flags.iter();
    let at = all.position(|name| name.as_bytes() == call.access.name)?;
    1u32.checked_shl(at as u32)
}

pub(crate) fn flag(call: &mut VarCall<'_, '_>) -> Value {
    let mask = mask(call).unwrap_or(0);
    of_target(call, |target| Value::Int(i32::from(target.flags & mask != 0)))
}

pub(crate) fn set_flag(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let mask = mask(call).ok_or("no function and no flag parameter names this branch flag")?;
    let on = value.int().is_some_and(|n| n != 0);
    change(call, |target| {
        target.flags = if on { target.flags | mask } else { target.flags & !mask };
        Ok(())
    })
}

pub(crate) fn attr(call: &mut VarCall<'_, '_>) -> Value {
    let name = call.access.name;
    of_target(call, |target| target.attr(name).cloned().unwrap_or_default())
}

pub(crate) fn set_attr(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let name = bytes::Bytes::copy_from_slice(call.access.name);
    change(call, |target| target.set_attr(name, value))
}

/// Changes the target of the branch that a variable means.
fn change(
    call: &mut VarCall<'_, '_>,
    how: impl FnOnce(&mut Target) -> Result<(), String>,
) -> Result<(), String> {
    let (tx, branch) = place(call).ok_or("there is no such branch")?;
    if own_branch(call) == Some(branch) {
        return how(&mut call.ctx.target);
    }
    let mut cell = tx.cell.lock();
    let leg = cell.record.leg_mut(branch).ok_or("there is no such branch")?;
    how(&mut leg.target)
}

/// The last code of the network; null while there is none.
pub(crate) fn last_received(call: &mut VarCall<'_, '_>) -> Value {
    of_view(call, |view| match view.last_code {
        0 => Value::Null,
        code => Value::Int(i32::from(code)),
    })
}

/// The last code, our own results included.
pub(crate) fn last_code(call: &mut VarCall<'_, '_>) -> Value {
    of_view(call, |view| {
        let code = view.outcome.map_or(view.last_code, |outcome| outcome.code);
        Value::Int(i32::from(code))
    })
}

pub(crate) fn kind(call: &mut VarCall<'_, '_>) -> Value {
    of_view(call, |view| {
        Value::str(match view.role {
            BranchRole::Phony => "phony",
            BranchRole::Normal | BranchRole::Minor => "normal",
        })
    })
}

/// `$bavp(name)`: that of the route's branch.
pub(crate) fn bavp(call: &mut VarCall<'_, '_>) -> Value {
    let (name, index) = (call.access.name, call.access.index);
    let section = call.ctx.section::<Section>(call.cx.slot);
    let bavps = section.filter(|s| s.branch.is_some()).and_then(|s| s.bavps.as_ref());
    bavps.map_or(Value::Null, |bavps| bavps.get(name, index))
}

pub(crate) fn set_bavp(
    call: &mut VarCall<'_, '_>,
    how: Assign,
    value: Value,
) -> Result<(), String> {
    let (name, index) = (call.access.name, call.access.index);
    let section = call.ctx.section_mut::<Section>(call.cx.slot);
    if section.branch.is_none() {
        return Err("a $bavp belongs to a branch, and there is none here".to_owned());
    }
    section.bavps.get_or_insert_default().set(name, index, how, value)
}
