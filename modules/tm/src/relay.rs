//! `t_relay`: branches, their routes, and what is answered when none can be sent.

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::attached::{TxMoment, Written};
use tandem_engine::context::{BRANCHES_MAX, Branch, Ctx};
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_engine::own_reply::{Leave, reply_stateless};
use tandem_engine::transport::{HopError, next_hop};
use tandem_script::flags::{FlagSet, parse};
use tandem_script::host::Called;
use tandem_script::program::Ready;
use tandem_script::sig::{FlagSig, Routes};
use tandem_sip::{HeaderName, Method};
use tandem_transaction::{ServerState, Settings};

use crate::draft::Drafting;
use crate::drive::reason_lines;
use crate::later::sends_nothing;
use crate::launch::{Errand, send_stateless};
use crate::pause::Then;
use crate::record::{Busy, Event, Role, Section};
use crate::stats;
use crate::table::Tx;
use crate::tm::{Begun, Tm};

const fn flag(name: &'static str, old: &'static str, help: &'static str) -> FlagSig {
    FlagSig { name, takes_value: false, old, help }
}

/// The flags of `t_relay`; the old spellings are the bits of its former number.
pub(crate) const FLAGS: &[FlagSig] = &[
    flag("no-auto-477", "2", "Nothing is answered when the request cannot be sent anywhere."),
    flag("no-dns-failover", "4", "Only the first destination of a name is tried."),
    flag("pass-reason-hdr", "8", "The Reason of the caller's CANCEL goes to the branches."),
    flag("allow-no-cancel", "16", "A caller may ask that branches are not cancelled (RFC 3841)."),
];

/// What the script asks of `t_relay`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    no_auto_477: bool,
    pub(crate) no_dns_failover: bool,
    allow_no_cancel: bool,
    pass_reason: bool,
    /// Where to send without `$du`.
    pub(crate) proxy: Option<Bytes>,
}

/// Why nothing was relayed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// Return code of the function.
    pub(crate) result: i32,
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

pub(crate) const NO_BRANCH: Failure =
    Failure { result: -3, code: 500, reason: "Server Internal Error (500/TM)" };
pub(crate) const INTERNAL: Failure = Failure { result: -1, ..NO_BRANCH };

impl From<HopError> for Failure {
    fn from(error: HopError) -> Self {
        match error {
            HopError::BadUri => Self { result: -2, code: 475, reason: "Bad URI (475/TM)" },
            HopError::UnknownScheme => {
                Self { result: -2, code: 416, reason: "Unsupported URI Scheme" }
            }
            HopError::Unresolvable => {
                Self { result: -4, code: 476, reason: "Unresolvable destination (476/TM)" }
            }
            HopError::Blacklisted => {
                Self { result: -5, code: 473, reason: "Filtered destination (473/TM)" }
            }
            HopError::Unfit => Self { code: 400, reason: "Bad Request", ..INTERNAL },
            HopError::NoSocket => Self { result: -6, code: 477, reason: "Send failed (477/TM)" },
        }
    }
}

pub(crate) fn t_relay(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return Called::Returned(-1) };
    let options = options(call, 0, Some(1));
    match call.ctx.msg.method() {
        Method::Ack => return relay_ack(&tm, call),
        Method::Cancel => {
            if let Some(tx) = tm.invite_of(call.ctx) {
                return cancel(&tm, call, &tx);
            }
            if call.ctx.section::<Section>(call.cx.slot).is_none_or(|s| s.tx.is_none()) {
                return relay_cancel(&tm, call);
            }
        }
        _ => {}
    }
    let (tx, created) = match tm.begin(call.cx, call.ctx) {
        Begun::New(tx) => (tx, true),
        Begun::Existing(tx) => (tx, false),
        Begun::Retransmission | Begun::Refused => return Called::Returned(0),
        Begun::Failed => return Called::Returned(-1),
    };
    if !hold(call, &tx, &options, created) {
        return call.complain(Level::Error, "t_relay: a route of the transaction runs elsewhere");
    }
    let section = call.ctx.section::<Section>(call.cx.slot);
    if section
        .is_some_and(|s| sends_nothing(s, call.ctx.target.uri.as_ref(), call.ctx.branches.len()))
    {
        let mut cell = tx.cell.lock();
        cell.busy = None;
        tm.settle(call.cx, &tx, cell);
        return Called::Returned(1);
    }
    let drafting = Drafting::of(&tx, targets(call), options.proxy);
    let answers = created && !options.no_auto_477;
    let then = Then::Relay { answers, failover: !options.no_dns_failover };
    tm.draft(call, drafting, then, None)
}

/// The options of a call: flags are argument `at`, an outbound proxy argument `proxy`.
pub(crate) fn options(call: &mut Call<'_, '_, '_>, at: usize, proxy: Option<usize>) -> Options {
    let given = flags(call, at, FLAGS);
    let proxy = proxy.map(|at| call.text(at)).filter(|proxy| !proxy.is_empty());
    Options {
        no_auto_477: given.has(0),
        no_dns_failover: given.has(1),
        pass_reason: given.has(2),
        allow_no_cancel: given.has(3),
        proxy: proxy.map(|proxy| proxy_uri(&proxy)),
    }
}

/// The flags of an argument. One that is no literal may be wrong: that is complained about and
/// counts for nothing.
pub(crate) fn flags(call: &mut Call<'_, '_, '_>, at: usize, known: &[FlagSig]) -> FlagSet {
    if let Some(Ready::Flags(flags)) = call.ready(at) {
        return FlagSet::clone(flags);
    }
    let text = call.text(at);
    match parse(known, &String::from_utf8_lossy(&text)) {
        Ok(parsed) => parsed.flags,
        Err(error) => {
            call.complain(Level::Error, error);
            FlagSet::default()
        }
    }
}

/// `[proto:]host[:port]` as a URI.
fn proxy_uri(proxy: &[u8]) -> Bytes {
    let colon = proxy.iter().position(|b| *b == b':').unwrap_or(0);
    let (proto, rest) = proxy.split_at(colon);
    let known = [&b"udp"[..], b"tcp", b"tls", b"ws", b"wss", b"sctp"];
    match known.iter().find(|p| p.eq_ignore_ascii_case(proto)) {
        Some(proto) => {
            let host = rest.strip_prefix(b":").unwrap_or(rest);
            Bytes::from([b"sip:", host, b";transport=", proto].concat())
        }
        None => Bytes::from([b"sip:", proxy].concat()),
    }
}

/// The ACK to a 2xx goes on without state; the one to a negative reply ends here.
fn relay_ack(tm: &Tm, call: &mut Call<'_, '_, '_>) -> Called {
    if absorb_ack(tm, call) {
        return Called::Returned(0);
    }
    number_ack(tm, call.ctx);
    let via_branch = stateless_branch(tm, call.ctx);
    relay_stateless(tm, call, via_branch)
}

/// The number of an ACK is that of the INVITE as its receiver got it (RFC 3261 13.2.2.4): where the
/// script counted that up on its way, and no dialog has done the same for the ACK, this does.
fn number_ack(tm: &Tm, ctx: &mut Ctx) {
    if ctx.rewritten.cseq != 0 {
        return;
    }
    if let Some(number) = tm.table.answered_number(&ctx.msg)
        && let Some(header) = ctx.msg.header(HeaderName::CSeq)
    {
        ctx.edits.replace(header.value_span(), format!("{number} ACK"));
    }
}

/// Sends at once what goes to an address; a name is looked up first.
fn relay_stateless(tm: &Tm, call: &mut Call<'_, '_, '_>, via_branch: Vec<u8>) -> Called {
    if let Ok(hop) = next_hop(call.ctx, &call.ctx.target) {
        return Called::Returned(send_stateless(call.cx, call.ctx, &via_branch, Some(hop)));
    }
    let ctx = call.ctx.for_target(call.ctx.target.clone(), Routes::REQUEST);
    tm.launch(call, Errand::Stateless(Box::new(ctx), via_branch))
}

/// A CANCEL whose INVITE is not known goes on without state, under the branch that the INVITE had
/// if it went without, too (RFC 3261 16.10).
fn relay_cancel(tm: &Tm, call: &mut Call<'_, '_, '_>) -> Called {
    let via_branch = tandem_engine::transport::stateless_branch(call.cx.node, &call.ctx.msg);
    relay_stateless(tm, call, via_branch.into_bytes())
}

/// Gives an ACK to the INVITE transaction with its branch, if that waits for one.
pub(crate) fn absorb_ack(tm: &Tm, call: &mut Call<'_, '_, '_>) -> bool {
    let Some(tx) = tm.invite_of(call.ctx) else { return false };
    // Phones that keep the branch for the ACK to a 2xx are known.
    if tx.cell.lock().record.machine.server_state() == ServerState::Accepted {
        return false;
    }
    tm.deliver(call.cx, &tx, Event::Ack);
    true
}

/// The same for every copy of a message, and not the form of a transaction's (RFC 3261 16.11).
fn stateless_branch(tm: &Tm, ctx: &Ctx) -> Vec<u8> {
    let via = ctx.msg.top_via().map(|v| v.raw).unwrap_or_default();
    let cseq = ctx.msg.cseq().map(|c| c.number).unwrap_or_default();
    let hash = tm.hash(&(via, ctx.msg.call_id(), ctx.msg.from_tag(), cseq));
    format!("z9hG4bKs{hash:016x}").into_bytes()
}

fn cancel(tm: &Tm, call: &mut Call<'_, '_, '_>, tx: &Arc<Tx>) -> Called {
    reply_stateless(call.cx, call.ctx, 200, b"canceling", b"", Leave::Now);
    tm.count(call.cx, stats::LOCAL_REPLIES);
    // The CANCEL is a transaction of its own (RFC 3261 9.2), which ends with this.
    call.cx.tell_transaction(&call.ctx.attached, || TxMoment::Replied {
        code: 200,
        reply: Written::default(),
        own: true,
        first: true,
    });
    let reason = reason_lines(call.ctx);
    tm.deliver(call.cx, tx, Event::Cancel { reason });
    Called::Returned(1)
}

/// Keeps other events of the transaction waiting while branch routes run, and saves what the
/// script has changed so far. `false` if one of its routes runs already.
fn hold(call: &mut Call<'_, '_, '_>, tx: &Tx, options: &Options, created: bool) -> bool {
    let section = call.ctx.section_mut::<Section>(call.cx.slot);
    let (role, armed) = (section.role, std::mem::take(&mut section.armed));
    let mut cell = tx.cell.lock();
    if role == Role::Request {
        if cell.busy.is_some() {
            return false;
        }
        cell.busy = Some(Busy::Relay);
        // What was made just now knows all that yet.
        if !created {
            cell.record.save(&call.cx.node.sockets, call.ctx);
        }
    }
    cell.record.saved.attached.update(&call.ctx.attached);
    cell.record.armed.update(armed);
    cell.record.pass_reason |= options.pass_reason;
    if options.allow_no_cancel && wants_no_cancel(call.ctx) {
        let settings = cell.record.machine.settings();
        cell.record.machine.set_settings(Settings { auto_cancel: false, ..settings });
    }
    true
}

/// RFC 3841 9.1: the caller does not want branches to be cancelled.
fn wants_no_cancel(ctx: &Ctx) -> bool {
    ctx.msg
        .headers_by_text(b"Request-Disposition")
        .flat_map(|header| header.values())
        .any(|value| value.bytes.eq_ignore_ascii_case(b"no-cancel"))
}

/// The targets of this call; message branches are consumed.
pub(crate) fn targets(call: &mut Call<'_, '_, '_>) -> Vec<Branch> {
    let branches = std::mem::take(&mut call.ctx.branches);
    let target = call.ctx.target.clone();
    let section = call.ctx.section_mut::<Section>(call.cx.slot);
    // A failure route that only appended branches does not want the old R-URI again.
    let untouched = section.role == Role::Failure
        && target.uri == section.started_with
        && target.dst_uri.is_none();
    let with_target = !untouched || branches.is_empty();
    with_target.then_some(target).into_iter().chain(branches).take(BRANCHES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbound_proxy_becomes_a_uri() {
        let uri = |text: &str| String::from_utf8(proxy_uri(text.as_bytes()).to_vec()).unwrap();
        assert_eq!(uri("10.0.0.1"), "sip:10.0.0.1");
        assert_eq!(uri("10.0.0.1:5070"), "sip:10.0.0.1:5070");
        assert_eq!(uri("udp:10.0.0.1:5070"), "sip:10.0.0.1:5070;transport=udp");
        assert_eq!(uri("TCP:10.0.0.1"), "sip:10.0.0.1;transport=tcp");
        assert_eq!(uri("[::1]:5070"), "sip:[::1]:5070");
    }
}
