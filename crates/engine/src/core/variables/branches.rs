//! The branches of the request: `$msg.branch` counts from the R-URI branch, the older `$branch`
//! from the first one that was added.

use bytes::Bytes;
use tandem_script::host::{Assign, Index};
use tandem_script::value::Value;
use tandem_sip::Uri;

use super::{flag_mask, flag_names, indexed, named, read, text, write};
use crate::context::{BRANCHES_MAX, Branch};
use crate::core::target::assigned_q;
use crate::module::{VarCall, VariableDef};

pub(super) const VARIABLES: &[VariableDef] = &[
    read("bf", "Names of the flags of the R-URI branch that are set.", |c| {
        text(flag_names(&c.cx.worker.script.program.branch_flags, c.ctx.target.flags))
    }),
    write("branch", "Writing adds a branch; reading gives the last one.", last, add),
    named(indexed(write(
        "branch",
        "uri, duri, q, path, flags, socket or attrs of an added branch.",
        |c| field_at(c, Base::Added, c.access.name),
        |c, _, value| {
            let name = c.access.name;
            set_field(c, Base::Added, name, value)
        },
    ))),
    named(indexed(write(
        "branch.flag",
        "A flag of a branch by name, 0 or 1; index 0 is the R-URI branch.",
        flag,
        set_flag,
    ))),
    write("msg.branch", "Writing adds a branch; reading gives the last one.", last, add),
    indexed(write(
        "msg.branch.uri",
        "URI of a branch.",
        |c| all(c, b"uri"),
        |c, _, v| set_field(c, Base::Ruri, b"uri", v),
    )),
    indexed(write(
        "msg.branch.duri",
        "Next hop of a branch.",
        |c| all(c, b"duri"),
        |c, _, v| set_field(c, Base::Ruri, b"duri", v),
    )),
    indexed(write(
        "msg.branch.path",
        "Path of a branch.",
        |c| all(c, b"path"),
        |c, _, v| set_field(c, Base::Ruri, b"path", v),
    )),
    indexed(write(
        "msg.branch.q",
        "q of a branch, times 1000.",
        |c| all(c, b"q"),
        |c, _, v| set_field(c, Base::Ruri, b"q", v),
    )),
    indexed(write(
        "msg.branch.flags",
        "Flags of a branch.",
        |c| all(c, b"flags"),
        |c, _, v| set_field(c, Base::Ruri, b"flags", v),
    )),
    indexed(write(
        "msg.branch.socket",
        "Socket of a branch.",
        |c| all(c, b"socket"),
        |c, _, v| set_field(c, Base::Ruri, b"socket", v),
    )),
    named(indexed(write("msg.branch.flag", "A flag of a branch by name, 0 or 1.", flag, set_flag))),
    named(indexed(write(
        "msg.branch.attr",
        "A value that the script keeps with a branch.",
        |c| {
            let found = branch(c, Base::Ruri).and_then(|b| b.attr(c.access.name).cloned());
            found.unwrap_or_default()
        },
        |c, _, value| {
            let name = Bytes::copy_from_slice(c.access.name);
            branch_mut(c, Base::Ruri)?.set_attr(name, value)
        },
    ))),
    read("msg.branch.last_idx", "Index of the last branch.", |c| {
        Value::Int(c.ctx.branches.len() as i32)
    }),
];

/// What index 0 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// The R-URI branch.
    Ruri,
    /// The first added branch.
    Added,
}

fn last(call: &mut VarCall<'_, '_>) -> Value {
    let uri = match call.ctx.branches.last() {
        Some(branch) => branch.uri.clone(),
        None => return Value::Null,
    };
    uri.map_or(Value::Null, Value::Str)
}

fn add(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let uri = value.into_bytes().ok_or("a branch needs a URI")?;
    Uri::parse(&uri).map_err(|e| format!("not a URI: {e}"))?;
    if call.ctx.branches.len() + 1 >= BRANCHES_MAX {
        return Err(format!("a request has at most {BRANCHES_MAX} branches"));
    }
    call.ctx.branches.push(Branch { uri: Some(uri), ..Branch::default() });
    Ok(())
}

/// The place that the index means: 0 is the R-URI branch, the added ones follow.
fn place(call: &VarCall<'_, '_>, base: Base) -> Option<usize> {
    let added = call.ctx.branches.len() as i64;
    let (first, end) = if base == Base::Ruri { (0, added + 1) } else { (1, added + 1) };
    let at = match call.access.index {
        Index::None => first,
        Index::At(n) if n >= 0 => first + i64::from(n),
        Index::At(n) => end + i64::from(n),
        Index::All | Index::Append => return None,
    };
    (first..end).contains(&at).then_some(at as usize)
}

fn branch<'a>(call: &'a VarCall<'_, '_>, base: Base) -> Option<&'a Branch> {
    match place(call, base)? {
        0 => Some(&call.ctx.target),
        n => call.ctx.branches.get(n - 1),
    }
}

fn branch_mut<'a>(call: &'a mut VarCall<'_, '_>, base: Base) -> Result<&'a mut Branch, String> {
    let found = match place(call, base) {
        Some(0) => Some(&mut call.ctx.target),
        Some(n) => call.ctx.branches.get_mut(n - 1),
        None => None,
    };
    found.ok_or_else(|| "there is no branch with this index".to_owned())
}

/// A field of one branch, or of all of them.
fn all(call: &VarCall<'_, '_>, name: &[u8]) -> Value {
    field_at(call, Base::Ruri, name)
}

fn field_at(call: &VarCall<'_, '_>, base: Base, name: &[u8]) -> Value {
    if call.access.index != Index::All {
        return branch(call, base).map_or(Value::Null, |b| field(call, b, name));
    }
    let ruri = (base == Base::Ruri).then_some(&call.ctx.target);
    let each = ruri.into_iter().chain(&call.ctx.branches);
    let texts: Vec<Bytes> = each.filter_map(|b| field(call, b, name).into_bytes()).collect();
    if texts.is_empty() { Value::Null } else { Value::str(texts.join(&b", "[..])) }
}

fn field(call: &VarCall<'_, '_>, branch: &Branch, name: &[u8]) -> Value {
    let shared = |b: &Option<Bytes>| b.clone().map_or(Value::Null, Value::Str);
    match name {
        b"uri" if branch.uri.is_none() => Value::str(call.ctx.request_uri().to_vec()),
        b"uri" => shared(&branch.uri),
        b"duri" => shared(&branch.dst_uri),
        b"path" if branch.path().is_empty() => Value::Null,
        b"path" => Value::Str(branch.path().clone()),
        b"q" => branch.q.map_or(Value::Null, |q| Value::Int(i32::from(q))),
        b"flags" => text(flag_names(&call.cx.worker.script.program.branch_flags, branch.flags)),
        b"socket" => {
            let socket = branch.socket.and_then(|id| call.cx.node.sockets.get(id));
            socket.map_or(Value::Null, |s| text(s.text()))
        }
        b"attrs" => branch.attr(b"attrs").cloned().unwrap_or_default(),
        _ => Value::Null,
    }
}

fn set_field(
    call: &mut VarCall<'_, '_>,
    base: Base,
    name: &[u8],
    value: Value,
) -> Result<(), String> {
    let uri = |value: Value| -> Result<Option<Bytes>, String> {
        let uri = value.into_bytes().filter(|u| !u.is_empty());
        if let Some(uri) = &uri {
            Uri::parse(uri).map_err(|e| format!("not a URI: {e}"))?;
        }
        Ok(uri)
    };
    match name {
        b"uri" => {
            let uri = uri(value)?.ok_or("a branch needs a URI")?;
            branch_mut(call, base)?.uri = Some(uri);
        }
        b"duri" => branch_mut(call, base)?.dst_uri = uri(value)?,
        b"path" => branch_mut(call, base)?.set_path(value.into_bytes().unwrap_or_default()),
        b"q" => branch_mut(call, base)?.q = assigned_q(&value)?,
        b"flags" => {
            let names = value.into_bytes().unwrap_or_default();
            let known = &call.cx.worker.script.program.branch_flags;
            let set = names.split(|b| *b == b' ' || *b == b',').filter(|n| !n.is_empty());
            let mut flags = 0;
            for name in set {
                flags |= flag_mask(known, name).ok_or_else(|| {
                    let name = String::from_utf8_lossy(name);
                    format!("the script has no branch flag `{name}`: name it in setbflag()")
                })?;
            }
            branch_mut(call, base)?.flags = flags;
        }
        b"socket" => {
            let name = value.into_bytes();
            let found = match &name {
                None => None,
                Some(name) => {
                    let found = std::str::from_utf8(name).ok();
                    let found = found.and_then(|n| call.cx.node.sockets.named(n));
                    Some(found.ok_or("this is no socket of this node")?)
                }
            };
            branch_mut(call, base)?.socket = found;
        }
        b"attrs" => branch_mut(call, base)?.set_attr(Bytes::from_static(b"attrs"), value)?,
        _ => return Err("a branch has uri, duri, q, path, flags, socket and attrs".to_owned()),
    }
    Ok(())
}

fn flag(call: &mut VarCall<'_, '_>) -> Value {
    let mask =
        flag_mask(&call.cx.worker.script.program.branch_flags, call.access.name).unwrap_or(0);
    branch(call, Base::Ruri).map_or(Value::Null, |b| Value::Int(i32::from(b.flags & mask != 0)))
}

fn set_flag(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let mask = flag_mask(&call.cx.worker.script.program.branch_flags, call.access.name);
    let mask =
        mask.ok_or("a name that is put together at run time must be that of a flag of the script")?;
    let branch = branch_mut(call, Base::Ruri)?;
    if value.is_true() {
        branch.flags |= mask;
    } else {
        branch.flags &= !mask;
    }
    Ok(())
}
