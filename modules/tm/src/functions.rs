//! Script functions.

use std::sync::Arc;

use tandem_engine::module::{Call, FunctionDef};
use tandem_engine::table::{arg, function, literal, optional};
use tandem_script::host::Called;
use tandem_script::program::{Ready, RouteId};
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_sip::Method;
use tandem_transaction::ServerState;

use crate::record::{Armed, Event, Role, Section};
use crate::relay::{FLAGS, absorb_ack, t_relay};
use crate::table::{Tx, request_key};
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

const SENDING: Routes = Routes::REQUEST.or(Routes::FAILURE);
const ASKING: Routes = SENDING.or(Routes::ONREPLY).or(Routes::BRANCH);

const OK: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

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
        ASKING,
        "Names the route that runs when all branches have failed.",
        |call| arm(call, |armed, route| armed.failure = Some(route)),
    ),
    function(
        "t_on_reply",
        ON_REPLY,
        ASKING,
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
        "Tests whether \"all\" results, that of the \"branch\", or the \"last\" reply are ours.",
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
];

fn truth(value: bool) -> Called {
    if value { OK } else { NO }
}

/// The code that the script sees, by the block it is in.
pub(crate) fn status(section: Option<&Section>, reply_status: u16) -> u16 {
    let Some(section) = section else { return reply_status };
    match section.role {
        Role::Reply => reply_status,
        Role::Failure => section.code,
        Role::Request | Role::Branch => {
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

fn t_reply(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    let Some(code) = call.int(0).and_then(|c| u16::try_from(c).ok()) else { return NO };
    if call.ctx.msg.method() == Method::Ack {
        return NO;
    }
    match tm.begin(call.cx, call.ctx) {
        Begun::New(_) | Begun::Existing(_) => {}
        // The reply that was sent then is sent again.
        Begun::Retransmission | Begun::Refused => return OK,
        Begun::Failed => return NO,
    }
    let reason = call.text(1);
    truth(tm.reply_with(call.cx, call.ctx, code, &reason))
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
            let Some(tx) = tm.invite_of(call.ctx) else { return NO };
            let state = tx.cell.lock().record.machine.server_state();
            if state == ServerState::Accepted {
                return Called::Returned(-2);
            }
            absorb_ack(&tm, call);
            OK
        }
        method => {
            let known = request_key(&call.ctx.msg, method).and_then(|key| tm.live(&key));
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

fn t_local_replied(call: &mut Call<'_, '_, '_>) -> Called {
    let which = call.text(0);
    let branch = call.ctx.section::<Section>(call.cx.slot).and_then(|section| section.branch);
    let local = read(call, |tx| {
        let cell = tx.cell.lock();
        let record = &cell.record;
        let is_local =
            |outcome: Option<tandem_transaction::Outcome>| outcome.is_some_and(|o| o.local);
        match &which[..] {
            b"all" => record.machine.current_set().all(|view| is_local(view.outcome)),
            b"branch" => branch
                .and_then(|branch| record.machine.branch(branch))
                .is_some_and(|view| is_local(view.outcome)),
            _ => record.last_local,
        }
    });
    truth(local == Some(true))
}
