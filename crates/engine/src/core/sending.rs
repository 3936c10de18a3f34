//! `forward()` and `send()`: what leaves without a transaction. A name in the way is looked up
//! first, and the script waits for that.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_script::host::Called;
use tandem_script::sig::Routes;
use tandem_sip::{Edits, Method};

use super::{Core, stat};
use crate::blacklist::Site;
use crate::context::{Branch, Ctx};
use crate::dns::Resolved;
use crate::effect::Send;
use crate::log::Level;
use crate::module::{Call, Cx};
use crate::transport::{self, Hop, HopError, next_uri, stateless_branch, uri_hop, written};

/// Messages that wait for an address, and the runs that wait with them.
#[derive(Default)]
pub(super) struct Waiting {
    held: Mutex<BTreeMap<u64, Held>>,
    next: AtomicU64,
}

/// A message on its way out.
struct Held {
    run: u64,
    ctx: Ctx,
    what: What,
}

/// How it leaves.
enum What {
    Forward,
    /// As it is, with these header lines.
    Send(Bytes),
}

/// `[proto:]host[:port]` as a URI.
fn as_uri(destination: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(destination).ok()?.trim();
    if text.starts_with("sip:") || text.starts_with("sips:") {
        return Some(Bytes::copy_from_slice(text.as_bytes()));
    }
    let (proto, rest) = match text.split_once(':') {
        Some((proto, rest)) if ["udp", "tcp", "tls", "ws", "wss", "sctp"].contains(&proto) => {
            (Some(proto), rest)
        }
        _ => (None, text),
    };
    let transport = proto.filter(|p| *p != "udp").map(|p| format!(";transport={p}"));
    Some(Bytes::from(format!("sip:{rest}{}", transport.unwrap_or_default())))
}

pub(super) fn forward(call: &mut Call<'_, '_, '_>) -> Called {
    if !call.ctx.msg.is_request() {
        return call.complain(Level::Error, "forward() is for requests");
    }
    let mut target = call.ctx.target.clone();
    if call.given(0) {
        target.dst_uri = as_uri(&call.text(0));
    }
    leave(call, target, What::Forward)
}

pub(super) fn send(call: &mut Call<'_, '_, '_>) -> Called {
    let headers = call.text(1);
    if !headers.is_empty() && !headers.ends_with(b"\r\n") {
        return call.complain(Level::Error, "the headers for send() end with \\r\\n");
    }
    let target = Branch { dst_uri: as_uri(&call.text(0)), ..call.ctx.target.clone() };
    if target.dst_uri.is_none() {
        return Called::Returned(-1);
    }
    leave(call, target, What::Send(headers))
}

/// Sends at once to an address; a name is looked up first.
fn leave(call: &mut Call<'_, '_, '_>, target: Branch, what: What) -> Called {
    let ctx = call.ctx.for_target(target, Routes::REQUEST);
    let uri = match next_uri(&ctx, &ctx.target) {
        Ok(uri) => Bytes::copy_from_slice(uri),
        Err(error) => return failed(call, error),
    };
    let core = call.state::<Core>();
    let (Some(core), Err(HopError::Unresolvable)) = (core, uri_hop(&uri)) else {
        let hops = uri_hop(&uri).map(|hop| vec![hop]);
        return match hops.and_then(|hops| leave_to(call.cx, &ctx, &what, &hops)) {
            Ok(()) => Called::Returned(1),
            Err(error) => failed(call, error),
        };
    };
    let token = core.waiting.next.fetch_add(1, Ordering::Relaxed) + 1;
    let run = call.suspend();
    core.waiting.held.lock().insert(token, Held { run, ctx, what });
    match call.cx.resolve(&uri, token) {
        Resolved::Later => Called::Suspended,
        Resolved::Now(result) => {
            let held = core.waiting.held.lock().remove(&token);
            let sent = result.and_then(|hops| match held {
                Some(Held { ctx, what, .. }) => leave_to(call.cx, &ctx, &what, &hops),
                None => Err(HopError::Unresolvable),
            });
            match sent {
                Ok(()) => Called::Returned(1),
                Err(error) => failed(call, error),
            }
        }
    }
}

/// The addresses of a name that a message waited for.
pub(super) fn resolved(
    core: &Core,
    cx: &mut Cx<'_>,
    token: u64,
    result: Result<Vec<Hop>, HopError>,
) {
    let Some(held) = core.waiting.held.lock().remove(&token) else { return };
    let Held { run, ctx, what } = held;
    let sent = result.and_then(|hops| leave_to(cx, &ctx, &what, &hops));
    if let Err(error) = sent {
        cx.count_core(stat::ERR_REQUESTS, 1);
        cx.log(Level::Error, format!("the message cannot be sent: {error}"));
        cx.with_suspended(run, note_error);
    }
    cx.resume(run, if sent.is_ok() { 1 } else { -1 });
}

fn failed(call: &mut Call<'_, '_, '_>, error: HopError) -> Called {
    call.cx.count_core(stat::ERR_REQUESTS, 1);
    note_error(call.ctx);
    call.complain(Level::Error, format!("the message cannot be sent: {error}"))
}

/// What `sl_reply_error` answers.
fn note_error(ctx: &mut Ctx) {
    if ctx.msg.is_request() && ctx.msg.method() != Method::Ack {
        ctx.error.code = 478;
        ctx.error.reason = "Unresolvable destination".to_owned();
    }
}

/// Sends to the first address that no blacklist forbids.
fn leave_to(cx: &mut Cx<'_>, ctx: &Ctx, what: &What, hops: &[Hop]) -> Result<(), HopError> {
    let hop = *hops
        .get(first_allowed(cx, ctx, hops).ok_or(HopError::Blacklisted)?)
        .ok_or(HopError::Unresolvable)?;
    let node = cx.node;
    let (socket, to, payload) = match what {
        What::Forward => {
            let via = stateless_branch(node, &ctx.msg);
            let via = via.as_bytes();
            let ready = transport::prepare_request_to(node, ctx, &ctx.target, via, hop)?;
            cx.count_core(stat::FWD_REQUESTS, 1);
            (ready.socket, ready.to, ready.bytes)
        }
        What::Send(headers) => {
            let came = || node.sockets.leaving(ctx.source.socket, hop.addr);
            let preferred = ctx.target.socket.unwrap_or_else(came);
            let socket = node.sockets.toward_by(hop.proto, hop.addr, Some(preferred));
            let mut edits = Edits::default();
            if !headers.is_empty() {
                edits.append_header(&ctx.msg, headers.clone());
            }
            let payload = written(&ctx.msg, &edits);
            (socket.ok_or(HopError::NoSocket)?, hop.addr, payload)
        }
    };
    cx.out.send(Send { socket, to, payload, ticket: 0 });
    Ok(())
}

/// Whether no blacklist forbids to send a request to where it goes.
pub fn is_allowed(cx: &Cx<'_>, hop: Hop, request: &[u8]) -> bool {
    !cx.node.blacklists.forbids(cx.now, None, &Site::new(hop.proto, hop.addr, request))
}

/// The place of the first destination that no blacklist of the message forbids.
pub fn first_allowed(cx: &Cx<'_>, ctx: &Ctx, hops: &[Hop]) -> Option<usize> {
    let choice = ctx.blacklists.as_deref();
    hops.iter().position(|hop| {
        let site = Site::new(hop.proto, hop.addr, ctx.msg.as_bytes());
        !cx.node.blacklists.forbids(cx.now, choice, &site)
    })
}
