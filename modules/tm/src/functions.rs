//! Script functions.

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::log::Level;
use tandem_engine::module::{Call, FunctionDef};
use tandem_engine::table::{arg, function, literal, optional};
use tandem_script::host::Called;
use tandem_script::program::{Ready, RouteId};
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_sip::Method;
use tandem_transaction::{BranchView, ServerState};

use crate::answers::{t_reply, t_reply_by_callid, t_reply_with_body};
use crate::anycast::t_anycast_replicate;
use crate::branches::{t_cancel_branch, t_get_branch_idx_by_attr};
use crate::generate::{t_new_request, t_replicate};
use crate::inject::{
    FLAGS as INJECT_FLAGS, t_inject_branches, t_wait_for_new_branches, t_wait_no_more_branches,
};
use crate::outside::{t_write_req, t_write_unix};
use crate::record::{Armed, Event, Role, Section};
use crate::relay::{FLAGS, absorb_ack, t_relay};
use crate::table::Tx;
use crate::tm::{Begun, Tm};

const REPLY: &[ArgSig] = &[arg("code", ArgKind::Int), arg("reason", ArgKind::Str)];
const RELAY: &[ArgSig] =
    &[optional("flags", ArgKind::Flags(FLAGS)), optional("outbound_proxy", ArgKind::Str)];
const ON_FAILURE: &[ArgSig] = &[literal("route", ArgKind::Route(Routes::FAILURE))];
const ON_REPLY: &[ArgSig] = &[literal("route", ArgKind::Route(Routes::ONREPLY))];
const ON_BRANCH: &[ArgSig] = &[literal("route", ArgKind::Route(Routes::BRANCH))];
const STATUS: &[ArgSig] = &[literal("re", ArgKind::Regex)];
const WHICH: &[ArgSig] = &[ArgSig {
    name: "which",
    kind: ArgKind::Str,
    optional: false,
    is_static: true,
    check: Some(check_which),
}];

const BODY: &[ArgSig] =
    &[arg("code", ArgKind::Int), arg("reason", ArgKind::Str), arg("body", ArgKind::Str)];
const BY_CALL: &[ArgSig] = &[
    arg("code", ArgKind::Int),
    arg("reason", ArgKind::Str),
    optional("callid", ArgKind::Str),
    optional("cseq", ArgKind::Str),
];
const REPLICATE: &[ArgSig] = &[arg("uri", ArgKind::Str), optional("flags", ArgKind::Flags(FLAGS))];
const NEW_REQUEST: &[ArgSig] = &[
    arg("method", ArgKind::Str),
    arg("ruri", ArgKind::Str),
    arg("from", ArgKind::Str),
    arg("to", ArgKind::Str),
    optional("body", ArgKind::Str),
    optional("ctx", ArgKind::Str),
];
const INJECT: &[ArgSig] =
    &[arg("source", ArgKind::Str), optional("flags", ArgKind::Flags(INJECT_FLAGS))];
const ATTR: &[ArgSig] = &[
    arg("attr", ArgKind::Str),
    optional("val_str", ArgKind::Str),
    optional("val_int", ArgKind::Int),
    optional("result", ArgKind::Var),
    optional("offset", ArgKind::Int),
];
const WRITE_REQ: &[ArgSig] = &[arg("info", ArgKind::Str), arg("fifo", ArgKind::Str)];
const WRITE_UNIX: &[ArgSig] = &[arg("info", ArgKind::Str), arg("sock", ArgKind::Str)];
const COUNT: &[ArgSig] = &[optional("branches", ArgKind::Int)];
const WHO: &[ArgSig] = &[optional("flags", ArgKind::Str)];
const HEADERS: &[ArgSig] = &[arg("hdrs", ArgKind::Str)];
const REASON: &[ArgSig] = &[arg("hdr", ArgKind::Str)];

const SENDING: Routes = Routes::REQUEST.or(Routes::FAILURE);
const ASKING: Routes = SENDING.or(Routes::ONREPLY).or(Routes::BRANCH);

const ARMING: Routes = ASKING.or(Routes::LOCAL);

const OK: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);
/// `t_check_trans()` for the ACK to a 2xx.
const END_TO_END: Called = Called::Returned(-2);

pub(crate) const FUNCTIONS: &[FunctionDef] = &[
    function(
        "t_newtran",
        &[],
        Routes::REQUEST,
        "Makes the transaction; the script ends if the request is a retransmission.",
        t_newtran,
    ),
    function(
        "t_reply",
        REPLY,
        SENDING,
        "Answers with the transaction, which is made if it is missing.",
        t_reply,
    ),
    function("t_relay", RELAY, SENDING, "Sends the request on with a transaction.", t_relay),
    function(
        "t_on_failure",
        ON_FAILURE,
        ARMING,
        "Names the route that runs when all branches have failed.",
        |call| arm(call, |armed, route| armed.failure = Some(route)),
    ),
    function(
        "t_on_reply",
        ON_REPLY,
        ARMING,
        "Names the route that sees replies; in a branch route, those of the branch.",
        |call| arm(call, |armed, route| armed.reply = Some(route)),
    ),
    function(
        "t_on_branch",
        ON_BRANCH,
        ASKING,
        "Names the route that runs for each branch before it is sent.",
        |call| arm(call, |armed, route| armed.branch = Some(route)),
    ),
    function(
        "t_check_status",
        STATUS,
        ASKING,
        "Tests the last code sent, this reply's, or the winner's.",
        t_check_status,
    ),
    function(
        "t_check_trans",
        &[],
        Routes::REQUEST.or(Routes::BRANCH),
        "Tests whether a CANCEL or ACK has its INVITE; ends the script for a retransmission.",
        t_check_trans,
    ),
    function("t_was_cancelled", &[], ASKING, "Tests whether the caller sent CANCEL.", |call| {
        truth(read(call, |tx| tx.cell.lock().record.machine.was_cancelled()) == Some(true))
    }),
    function(
        "t_local_replied",
        WHICH,
        ASKING,
        "Tests whether nobody has answered \"all\" branches or this \"branch\", or whether the \
         \"last\" reply, in a failure route the winner, was made here.",
        t_local_replied,
    ),
    function(
        "t_flush_flags",
        &[],
        Routes::REQUEST.or(Routes::BRANCH),
        "Copies the message flags into the transaction.",
        |call| {
            let flags = call.ctx.flags;
            truth(read(call, |tx| tx.cell.lock().record.saved.flags = flags).is_some())
        },
    ),
    function(
        "t_reply_with_body",
        BODY,
        SENDING,
        "As t_reply, with a body; append_to_reply names its type.",
        t_reply_with_body,
    ),
    function(
        "t_reply_by_callid",
        BY_CALL,
        Routes::REQUEST,
        "Answers another INVITE, by Call-ID and CSeq; default: those of this request.",
        t_reply_by_callid,
    ),
    function(
        "t_replicate",
        REPLICATE,
        SENDING,
        "Sends a copy to another destination and forgets about it.",
        t_replicate,
    ),
    function(
        "t_new_request",
        NEW_REQUEST,
        Routes::ANY,
        "Sends a request of its own, with a transaction.",
        t_new_request,
    ),
    function(
        "t_add_hdrs",
        HEADERS,
        Routes::REQUEST,
        "Header lines for every request that the transaction sends.",
        |call| {
            keep_lines(
                call,
                |section| &mut section.headers,
                |tx, lines| {
                    tx.cell.lock().record.lines_mut().headers = lines;
                },
            )
        },
    ),
    function(
        "t_add_cancel_reason",
        REASON,
        Routes::REQUEST,
        "The Reason header of the CANCELs that the transaction sends.",
        |call| {
            keep_lines(
                call,
                |section| &mut section.cancel_reason,
                |tx, lines| {
                    tx.cell.lock().record.lines_mut().cancel_reason = lines;
                },
            )
        },
    ),
    function(
        "t_cancel_branch",
        WHO,
        Routes::ONREPLY,
        "Cancels this branch, all pending ones (a), or all but this (o).",
        t_cancel_branch,
    ),
    function(
        "t_get_branch_idx_by_attr",
        ATTR,
        Routes::FAILURE.or(Routes::ONREPLY).or(Routes::BRANCH),
        "Finds a branch by an attribute.",
        t_get_branch_idx_by_attr,
    ),
    function(
        "t_wait_for_new_branches",
        COUNT,
        Routes::REQUEST,
        "Keeps the transaction open for so many branches that come later.",
        t_wait_for_new_branches,
    ),
    function(
        "t_wait_no_more_branches",
        &[],
        ASKING,
        "Waits for no further branches.",
        t_wait_no_more_branches,
    ),
    function(
        "t_inject_branches",
        INJECT,
        Routes::REQUEST.or(Routes::ONREPLY),
        "Adds branches from an \"event\" or this \"msg\" to a transaction that waits.",
        t_inject_branches,
    ),
    function(
        "t_anycast_replicate",
        &[],
        Routes::REQUEST,
        "Hands a CANCEL or ACK without a transaction here to all nodes of the anycast cluster.",
        t_anycast_replicate,
    ),
    function(
        "t_write_req",
        WRITE_REQ,
        SENDING.or(Routes::BRANCH),
        "Describes the request to the reader of a FIFO, who answers with tm:reply.",
        t_write_req,
    ),
    function(
        "t_write_unix",
        WRITE_UNIX,
        SENDING.or(Routes::BRANCH),
        "The same to a unix socket.",
        t_write_unix,
    ),
];

/// Keeps whole header lines with the transaction, or until there is one.
fn keep_lines(
    call: &mut Call<'_, '_, '_>,
    early: fn(&mut Section) -> &mut Bytes,
    late: fn(&Tx, Bytes),
) -> Called {
    let text = call.text(0);
    let text = text.trim_ascii();
    if !text.contains(&b':') {
        return call.complain(Level::Error, "this is no header line");
    }
    let lines = Bytes::from([text, b"\r\n"].concat());
    let section = call.ctx.section_mut::<Section>(call.cx.slot);
    match &section.tx {
        Some(tx) => late(tx, lines),
        None => *early(section) = lines,
    }
    OK
}

fn truth(value: bool) -> Called {
    if value { OK } else { NO }
}

/// The code that the script sees, by the block it is in.
pub(crate) fn status(section: Option<&Section>, reply_status: u16) -> u16 {
    let Some(section) = section else { return reply_status };
    match section.role {
        Role::Reply => reply_status,
        Role::Failure => section.code,
        Role::Request | Role::Branch | Role::Local | Role::Visitor => {
            section.tx.as_ref().map_or(0, |tx| tx.cell.lock().record.machine.last_code())
        }
    }
}

fn read<T>(call: &Call<'_, '_, '_>, look: impl FnOnce(&Arc<Tx>) -> T) -> Option<T> {
    call.ctx.section::<Section>(call.cx.slot)?.tx.as_ref().map(look)
}

fn t_newtran(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    match tm.begin(call.cx, call.ctx) {
        Begun::New(_) => OK,
        Begun::Retransmission | Begun::Refused => Called::Returned(0),
        Begun::Existing(_) | Begun::Failed => NO,
    }
}

fn arm(call: &mut Call<'_, '_, '_>, set: fn(&mut Armed, RouteId)) -> Called {
    let Some(Ready::Route(route)) = call.ready(0) else { return NO };
    let route = *route;
    let mut armed = Armed::default();
    set(&mut armed, route);
    let section = call.ctx.section_mut::<Section>(call.cx.slot);
    // In a branch route an onreply route is for the branch; without a transaction all wait.
    let own = section.role == Role::Branch && armed.reply.is_some();
    match &section.tx {
        Some(tx) if !own => tx.cell.lock().record.armed.update(armed),
        _ => section.armed.update(armed),
    }
    OK
}

fn t_check_status(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(Ready::Regex(regex)) = call.ready(0) else { return NO };
    let section = call.ctx.section::<Section>(call.cx.slot);
    let code = status(section, call.ctx.msg.status());
    truth(regex.is_match(code.to_string().as_bytes()))
}

fn t_check_trans(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    if read(call, |_| ()).is_some() {
        return OK;
    }
    match call.ctx.msg.method() {
        Method::Cancel => truth(tm.invite_of(call.ctx).is_some()),
        Method::Ack => {
            let tx = tm.invite_of(call.ctx);
            let state = tx.map(|tx| tx.cell.lock().record.machine.server_state());
            match state {
                Some(ServerState::Accepted) => return END_TO_END,
                Some(_) => {}
                // The ACK to a 2xx has a branch of its own (RFC 3261 13.2.2.4).
                None if tm.is_answer_acked(&call.ctx.msg) => return END_TO_END,
                None => return NO,
            }
            absorb_ack(&tm, call);
            OK
        }
        method => {
            let known = tm.key(&call.ctx.msg, method).and_then(|key| tm.live(key));
            let Some(tx) = known else { return NO };
            tm.deliver(call.cx, &tx, Event::Retransmission);
            Called::Returned(0)
        }
    }
}

fn check_which(text: &str) -> Result<(), String> {
    match text {
        "all" | "branch" | "last" => Ok(()),
        _ => Err("it is \"all\", \"branch\" or \"last\"".into()),
    }
}

/// "all": nobody has answered any branch of this attempt; "branch": nobody this one; "last": the
/// last reply was made here, whatever came before it. In a failure route that is the winner.
fn t_local_replied(call: &mut Call<'_, '_, '_>) -> Called {
    let which = call.text(0);
    let section = call.ctx.section::<Section>(call.cx.slot);
    let (branch, role) =
        section.map_or((None, Role::Request), |section| (section.branch, section.role));
    let local = read(call, |tx| {
        let cell = tx.cell.lock();
        let record = &cell.record;
        let view = branch.and_then(|branch| record.machine.branch(branch));
        let unheard = |view: &BranchView<'_>| view.outcome.is_some() && view.last_code == 0;
        match &which[..] {
            b"all" => record.machine.current_set().all(|view| unheard(&view)),
            b"branch" => view.is_some_and(|view| unheard(&view)),
            _ => match role {
                Role::Reply => false,
                Role::Failure => view.and_then(|view| view.outcome).is_none_or(|o| o.local),
                _ => record.last_local,
            },
        }
    });
    truth(local == Some(true))
}
