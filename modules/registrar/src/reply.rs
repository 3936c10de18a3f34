//! The answer to a REGISTER.

use std::io::Write;
use std::sync::Arc;

use tandem_engine::context::{ErrorKind, ScriptError};
use tandem_engine::effect::Send;
use tandem_engine::module::Call;
use tandem_engine::own_reply::passing_reply;
use tandem_engine::transport::reply_target;
use tandem_script::host::Called;
use tandem_sip::Uri;
use tandem_usrloc::store::{Contact, Q_UNSET};

use crate::flags::SaveFlags;
use crate::push::{Push, PushUse};
use crate::request::{Refusal, Register, unknown_extensions};
use crate::save::{count, shows_path};
use crate::state::Registrar;

/// What a 200 says.
pub(crate) struct Answer<'a, 'm> {
    pub(crate) contacts: &'a [Arc<Contact>],
    pub(crate) register: &'a Register<'m>,
}

/// Answers with 200 and the contacts.
pub(crate) fn accept(
    call: &mut Call<'_, '_, '_>,
    registrar: &Registrar,
    flags: &SaveFlags,
    answer: &Answer<'_, '_>,
) -> Called {
    count(call, true);
    if flags.no_reply {
        return Called::Returned(1);
    }
    let now_s = call.cx.now.unix_s();
    let mut headers = Vec::with_capacity(128 * answer.contacts.len() + 64);
    let to = registrar.params.gruu.as_ref().and_then(|_| call.ctx.msg.to().ok());
    let to = to.and_then(|to| Uri::parse(to.uri).ok());
    for (n, contact) in answer.contacts.iter().enumerate() {
        headers.extend_from_slice(if n == 0 { b"Contact: " } else { b", " });
        write_contact(&mut headers, contact, &registrar.params.received_param, now_s);
        if let (Some(gruu), Some(to)) = (&registrar.params.gruu, &to) {
            let by = (&call.cx.node.keys, &mut call.cx.worker.chance);
            gruu.write(&mut headers, by, to, contact);
        }
    }
    if !answer.contacts.is_empty() {
        headers.extend_from_slice(b"\r\n");
    }
    let path = &answer.register.path;
    if !path.is_empty() && shows_path(call, flags) {
        for part in [b"Path: ", &path[..], b"\r\n"] {
            headers.extend_from_slice(part);
        }
    }
    if let Some(push) = &registrar.params.push {
        write_push(&mut headers, push, answer);
    }
    // A retransmission changes nothing, and must not be answered before its original is.
    let leave = match answer.register.is_query() {
        true => Leave::Now,
        false => Leave::Saved { gated: registrar.usrloc.is_replicated() },
    };
    send(call, registrar, (200, b"OK"), &headers, leave);
    Called::Returned(1)
}

/// When a reply leaves.
#[derive(Clone, Copy)]
enum Leave {
    Now,
    /// When what the request changed is in the database, where the mode wants it, and known to
    /// a peer, where there is one.
    Saved {
        gated: bool,
    },
}

fn write_push(headers: &mut Vec<u8>, push: &Push, answer: &Answer<'_, '_>) {
    let wanted = &answer.register.contacts;
    let is_woken = |contact: &&Arc<Contact>| {
        let mut woken = wanted.iter().filter(|w| w.push == PushUse::Woken);
        woken.any(|w| w.uri == contact.uri())
    };
    let woken = answer.contacts.iter().filter(is_woken).map(|c| &**c);
    push.write_caps(headers, wanted, woken);
}

/// Answers with an error, and fails.
pub(crate) fn refuse(
    call: &mut Call<'_, '_, '_>,
    registrar: &Registrar,
    flags: &SaveFlags,
    refusal: Refusal,
) -> Called {
    count(call, false);
    if flags.no_reply {
        // For whoever answers what went wrong.
        let reason = String::from_utf8_lossy(refusal.reason()).into_owned();
        call.ctx.error = ScriptError { kind: ErrorKind::Message, code: refusal.code, reason };
        return Called::Returned(-1);
    }
    let mut headers = format!("P-Registrar-Error: {}\r\n", refusal.text).into_bytes();
    if refusal.code == 420 {
        let unknown = unknown_extensions(&call.ctx.msg, &call.ctx.edits);
        // The client does not know the one that the script insists on.
        let names = if unknown.is_empty() { "path" } else { &unknown };
        let _ = write!(headers, "Unsupported: {names}\r\n");
    }
    let retry_after_s = registrar.params.retry_after_s.max(refusal.retry_after_s());
    if refusal.code >= 500 && retry_after_s > 0 {
        let _ = write!(headers, "Retry-After: {retry_after_s}\r\n");
    }
    send(call, registrar, (refusal.code, refusal.reason()), &headers, Leave::Now);
    Called::Returned(-1)
}

/// Through the transaction if there is one (signaling's rule), else without state.
fn send(
    call: &mut Call<'_, '_, '_>,
    registrar: &Registrar,
    (code, reason): (u16, &[u8]),
    headers: &[u8],
    leave: Leave,
) {
    let node = Arc::clone(call.cx.node);
    let before = call.ctx.reply_headers.len();
    call.ctx.reply_headers.extend_from_slice(headers);
    let ctx = &mut *call.ctx;
    if !call.cx.reply_stateful(ctx, code, reason) {
        let payload = passing_reply(call.cx, ctx, code, reason, b"");
        ctx.is_answered = true;
        call.cx.tell_stateless(ctx, &payload);
        let to = reply_target(&node.sockets, &ctx.msg, &ctx.source, ctx.force_rport);
        let reply = Send { socket: ctx.source.socket, to, payload, ticket: 0 };
        match leave {
            Leave::Now => call.cx.out.send(reply),
            Leave::Saved { gated } => registrar.usrloc.send_when_saved(call.cx, reply, gated),
        }
    }
    call.ctx.reply_headers.truncate(before);
}

fn write_contact(out: &mut Vec<u8>, contact: &Contact, received_param: &str, now_s: u64) {
    out.push(b'<');
    out.extend_from_slice(contact.uri());
    out.push(b'>');
    // Writing to memory cannot fail.
    if contact.q() != Q_UNSET {
        let _ = write!(out, ";q={}", f64::from(contact.q()) / 1000.0);
    }
    let left_s = contact.remaining_s(now_s).unwrap_or(u64::from(u32::MAX));
    out.extend_from_slice(b";expires=");
    tandem_sip::push_number(out, u32::try_from(left_s).unwrap_or(u32::MAX));
    if !contact.received().is_empty() && !received_param.is_empty() {
        let _ = write!(out, ";{received_param}=\"");
        out.extend_from_slice(contact.received());
        out.push(b'"');
    }
}
