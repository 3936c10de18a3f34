//! Functions on the branches of a request: adding, removing, moving, and taking them group by
//! group in the order of their q.

use bytes::Bytes;
use tandem_script::host::{Assign, Called, Index};
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_script::value::Value;
use tandem_sip::Uri;

use super::target::parse_q;
use crate::context::{BRANCHES_MAX, Branch, Ctx};
use crate::module::{Call, FunctionDef};
use crate::table::{arg, function, optional};

const OK: Called = Called::Returned(1);
const FAILED: Called = Called::Returned(-1);

const NEW: &[ArgSig] =
    &[arg("uri", ArgKind::Str), optional("qvalue", ArgKind::Str), optional("flags", ArgKind::Str)];
const OLD: &[ArgSig] = &[optional("uri", ArgKind::Str), optional("qvalue", ArgKind::Str)];
const ONE: &[ArgSig] = &[arg("branch_idx", ArgKind::Int)];
const MOVE: &[ArgSig] = &[
    optional("src_idx", ArgKind::Int),
    optional("dst_idx", ArgKind::Int),
    optional("keep", ArgKind::Str),
];
const SWAP: &[ArgSig] = &[optional("idx1", ArgKind::Int), optional("idx2", ArgKind::Int)];
const SERIALIZE: &[ArgSig] = &[arg("clear", ArgKind::Int), optional("keep_order", ArgKind::Int)];

/// The list that `serialize_branches()` fills.
const SERIAL: &[u8] = b"serial_branch";

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "append_msg_branch",
        NEW,
        Routes::ANY,
        "Adds a branch; flag \"inherite\" copies $du, q, path, socket and flags from the R-URI's.",
        |call| {
            let uri = call.text(0);
            let inherit = call.text(2).as_ref() == b"inherite";
            let branch = if inherit { call.ctx.target.clone() } else { Branch::default() };
            append(call, Branch { uri: Some(uri), ..branch })
        },
    ),
    function(
        "append_branch_old",
        OLD,
        Routes::ANY,
        "Adds a branch with a URI, or a copy of the R-URI branch.",
        |call| {
            let copy = call.ctx.target.clone();
            let branch = match call.given(0) {
                true => Branch { uri: Some(call.text(0)), ..Branch::default() },
                false => {
                    let uri = Bytes::copy_from_slice(call.ctx.request_uri());
                    Branch { uri: Some(uri), ..copy }
                }
            };
            append(call, branch)
        },
    ),
    function(
        "remove_msg_branch",
        ONE,
        Routes::ANY,
        "Removes an added branch.",
        |call| match place(call, 0) {
            Some(Place::Added(n)) => {
                call.ctx.branches.remove(n);
                OK
            }
            _ => FAILED,
        },
    ),
    function(
        "move_msg_branch",
        MOVE,
        Routes::ANY,
        "Moves a branch over another one; \"keep\" copies. Without an index: the R-URI branch.",
        move_branch,
    ),
    function("swap_msg_branches", SWAP, Routes::ANY, "Exchanges two branches.", |call| {
        let (Some(one), Some(two)) = (place(call, 0), place(call, 1)) else { return FAILED };
        let first = get(call.ctx, one);
        let second = std::mem::replace(slot(call.ctx, two), first);
        *slot(call.ctx, one) = second;
        OK
    }),
    function(
        "serialize_branches",
        SERIALIZE,
        Routes::ANY,
        "Puts the branches aside, to be tried group by group in the order of their q.",
        serialize,
    ),
    function(
        "next_branches",
        &[],
        Routes::ANY,
        "Takes the next group: 1, or 2 if it is the last; fails when there is none.",
        next,
    ),
];

/// Where a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ruri,
    Added(usize),
}

/// The branch that an argument means: an added one from 0; missing or negative: the R-URI's.
fn place(call: &Call<'_, '_, '_>, arg: usize) -> Option<Place> {
    match usize::try_from(call.int(arg).unwrap_or(-1)) {
        Err(_) => Some(Place::Ruri),
        Ok(n) => (n < call.ctx.branches.len()).then_some(Place::Added(n)),
    }
}

fn get(ctx: &Ctx, place: Place) -> Branch {
    let found = match place {
        Place::Ruri => Some(&ctx.target),
        Place::Added(n) => ctx.branches.get(n),
    };
    let mut branch = found.cloned().unwrap_or_default();
    // The R-URI branch may have none of its own: then it is what was received.
    if branch.uri.is_none() {
        branch.uri = Some(Bytes::copy_from_slice(ctx.request_uri()));
    }
    branch
}

fn slot(ctx: &mut Ctx, place: Place) -> &mut Branch {
    match place {
        Place::Added(n) if n < ctx.branches.len() => &mut ctx.branches[n],
        _ => &mut ctx.target,
    }
}

fn append(call: &mut Call<'_, '_, '_>, mut branch: Branch) -> Called {
    let readable = branch.uri.as_deref().is_some_and(|u| Uri::parse(u).is_ok());
    if !readable || call.ctx.branches.len() >= BRANCHES_MAX - 1 {
        return FAILED;
    }
    if call.given(1) {
        let Some(q) = parse_q(&call.text(1)) else { return FAILED };
        branch.q = Some(q);
    }
    call.ctx.branches.push(branch);
    OK
}

fn move_branch(call: &mut Call<'_, '_, '_>) -> Called {
    let (Some(from), Some(to)) = (place(call, 0), place(call, 1)) else { return FAILED };
    let keep = call.text(2).as_ref() == b"keep";
    if from == to {
        return if keep { OK } else { FAILED };
    }
    *slot(call.ctx, to) = get(call.ctx, from);
    match from {
        // The R-URI branch cannot go away: what was received takes its place.
        Place::Ruri if !keep => call.ctx.target = Branch::default(),
        Place::Added(n) if !keep => {
            call.ctx.branches.remove(n);
        }
        _ => {}
    }
    OK
}

fn serialize(call: &mut Call<'_, '_, '_>) -> Called {
    let clear = call.int(0).unwrap_or(0) != 0;
    let keep_order = call.int(1).unwrap_or(0) != 0;
    let added = (0..call.ctx.branches.len()).map(Place::Added);
    let places = std::iter::once(Place::Ruri).chain(added);
    let mut all: Vec<Branch> = places.map(|p| get(call.ctx, p)).collect();
    if !keep_order {
        // The sort is stable: branches of one q stay in their order.
        all.sort_by_key(|b| std::cmp::Reverse(b.q.unwrap_or(1000)));
    }
    if clear {
        let _ = call.ctx.avps.set(SERIAL, Index::None, Assign::Replace, Value::Null);
    }
    // The newest value is taken first.
    for branch in all.iter().rev() {
        if call.ctx.avps.insert(SERIAL, Value::str(packed(branch)), false).is_err() {
            return FAILED;
        }
    }
    call.ctx.branches.clear();
    OK
}

fn next(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(first) = take(call.ctx) else { return FAILED };
    let q = first.q;
    call.ctx.target = first;
    call.ctx.branches.clear();
    while call.ctx.branches.len() < BRANCHES_MAX - 1 {
        match peek(call.ctx) {
            Some(branch) if branch.q == q => {
                let taken = take(call.ctx);
                call.ctx.branches.extend(taken);
            }
            _ => break,
        }
    }
    Called::Returned(if peek(call.ctx).is_some() { 1 } else { 2 })
}

fn peek(ctx: &Ctx) -> Option<Branch> {
    unpacked(&ctx.avps.first(SERIAL).into_bytes()?)
}

fn take(ctx: &mut Ctx) -> Option<Branch> {
    let branch = peek(ctx)?;
    let _ = ctx.avps.set(SERIAL, Index::None, Assign::Set, Value::Null);
    Some(branch)
}

/// A branch as one value: its fields on lines of their own, which no URI contains.
fn packed(branch: &Branch) -> Vec<u8> {
    let mut out = Vec::new();
    let number = |n: Option<u64>| n.map(|n| n.to_string().into_bytes()).unwrap_or_default();
    for field in [
        branch.uri.as_deref().unwrap_or_default(),
        branch.dst_uri.as_deref().unwrap_or_default(),
        branch.path(),
        &number(branch.q.map(u64::from)),
        &number(branch.socket.map(|s| u64::from(s.0))),
        &number(Some(u64::from(branch.flags))),
    ] {
        let line = field.iter().copied().filter(|b| *b != b'\n');
        out.extend(line.chain(*b"\n"));
    }
    out
}

fn unpacked(text: &[u8]) -> Option<Branch> {
    let mut lines = text.split(|b| *b == b'\n').map(Bytes::copy_from_slice);
    let mut line = || lines.next();
    let number = |text: &Bytes| std::str::from_utf8(text).ok().and_then(|t| t.parse::<u32>().ok());
    let uri = line().filter(|u| !u.is_empty())?;
    let dst_uri = line().filter(|u| !u.is_empty());
    let path = line().unwrap_or_default();
    let q = line().and_then(|t| number(&t)).and_then(|q| u16::try_from(q).ok());
    let socket = line().and_then(|t| number(&t)).and_then(|s| u16::try_from(s).ok());
    let flags = line().and_then(|t| number(&t)).unwrap_or(0);
    let socket = socket.map(crate::sockets::SocketId);
    let branch = Branch { uri: Some(uri), dst_uri, q, socket, flags, ..Branch::default() };
    Some(branch.with_path(path))
}
