//! Messages rewritten for the other side.

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::context::{Ctx, Hides};
use tandem_engine::log::Level;
use tandem_engine::module::{Call, VarCall};
use tandem_engine::node::Node;
use tandem_engine::sockets::SocketId;
use tandem_engine::transport::changed_contact;
use tandem_script::host::Called;
use tandem_sip::{Edits, HeaderName, Message, NameAddr, Uri};

use crate::code::{self, Scheme};
use crate::info::{CALL_ID, Info, USER};
use crate::kept::{self, Begun};
use crate::params::Hiding;

pub(crate) fn topology_hiding(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(state) = call.state::<Hiding>() else { return Called::Returned(-1) };
    if call.ctx.msg.to_tag().is_some() {
        let why = "a request of a dialog is for topology_hiding_match()";
        return call.complain(Level::Error, why);
    }
    if call.ctx.hides.is_some() {
        return call.complain(Level::Error, "it was called for this message before");
    }
    let text = call.text(0);
    let flag = |letter: u8, flag: u8| if text.contains(&letter) { flag } else { 0 };
    let flags = flag(b'C', CALL_ID) | flag(b'U', USER);
    let forced = text.contains(&b'D') || state.forces_dialog;
    let users = call.text(1);
    let (caller, callee) = match users.iter().position(|b| *b == b'/') {
        Some(at) => (users.slice(..at), users.slice(at + 1..)),
        None => (users.clone(), Bytes::new()),
    };
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.!~*'()+&=$,%".contains(b);
    if !caller.iter().chain(&callee).all(plain) {
        return call.complain(Level::Error, "a user has letters and digits");
    }
    let place = match kept::begin(&state, call, forced, flags, (&caller, &callee)) {
        Ok(Begun::Place(place)) => place,
        Ok(Begun::DealtWith) => return Called::Returned(0),
        Err(why) => return call.complain(Level::Error, format!("topology_hiding: {why}")),
    };
    let slot = call.cx.slot;
    let (shown_user, sent_user) = (caller, callee);
    let hides = Hides { slot, flags, shown_user, sent_user, own_routes: Vec::new(), place };
    request(call.ctx, hides);
    if flags & CALL_ID != 0 {
        encode_call_id(&state, call.ctx);
    }
    Called::Returned(1)
}

/// Hides the way that a request came. Its Contact follows when the script is through with it, and
/// the socket is known ([`sender`]).
pub(crate) fn request(ctx: &mut Ctx, hides: Hides) {
    for name in [HeaderName::Via, HeaderName::RecordRoute] {
        for header in ctx.msg.headers(name) {
            ctx.edits.remove(header.span());
        }
    }
    ctx.record_route = None;
    ctx.hides = Some(Arc::new(hides));
}

/// Hides the sender of a request that came to one socket and leaves from another.
pub(crate) fn sender(
    state: &Hiding,
    node: &Node,
    hides: &Hides,
    sockets: (SocketId, SocketId),
    msg: &Message,
    edits: &mut Edits,
) {
    let mut routes = values(msg, HeaderName::RecordRoute);
    if routes.is_empty() {
        routes.clone_from(&hides.own_routes);
    }
    let info = Info { flags: hides.flags, routes, ..Info::default() };
    contact(state, node, msg, edits, (sockets, &hides.sent_user, &hides.place), info);
}

/// Hides the sender of a reply, and gives the Vias and the Call-ID of the request back.
pub(crate) fn reply(
    state: &Hiding,
    node: &Node,
    hides: &Hides,
    sockets: (SocketId, SocketId),
    request: &Message,
    reply: &Message,
    edits: &mut Edits,
) {
    for header in reply.headers(HeaderName::RecordRoute) {
        edits.remove(header.span());
    }
    let call_id = (request.header(HeaderName::CallId), reply.header(HeaderName::CallId));
    if let (Some(asked), Some(got)) = call_id
        && asked.value() != got.value()
    {
        edits.replace(got.value_span(), Bytes::copy_from_slice(asked.value()));
    }
    // Where a redirection leads is what it is for.
    if reply.status() >= 300 {
        return;
    }
    // The side that asked goes through its routes from the far end (RFC 3261 12.1.2).
    let mut routes = values(reply, HeaderName::RecordRoute);
    routes.reverse();
    let own_routes = values(request, HeaderName::RecordRoute);
    let info = Info { flags: hides.flags, routes, own_routes, ..Info::default() };
    contact(state, node, reply, edits, (sockets, &hides.shown_user, &hides.place), info);
}

fn values(msg: &Message, name: HeaderName) -> Vec<Vec<u8>> {
    msg.values(name).map(|value| value.bytes.to_vec()).collect()
}

/// Puts this node's address in place of the Contacts, with what leads to the first of them.
fn contact(
    state: &Hiding,
    node: &Node,
    msg: &Message,
    edits: &mut Edits,
    ((from, socket), shown_user, place): ((SocketId, SocketId), &[u8], &[u8]),
    info: Info,
) {
    let mut headers = msg.headers(HeaderName::Contact);
    let Some(header) = headers.next() else { return };
    let Some(value) = header.values().next() else { return };
    // What the script has put right is where the sender is reached.
    let changed = changed_contact(msg, edits);
    let Ok(addr) = NameAddr::parse(changed.as_deref().unwrap_or(value.bytes)) else { return };
    let Ok(uri) = Uri::parse(addr.uri) else { return };
    let user = match shown_user {
        b"" if info.flags & USER != 0 => uri.user.unwrap_or_default(),
        user => user,
    };
    // Who is on another side of this node is reached from there.
    let name = |id: SocketId| node.sockets.get(id).map(|socket| socket.text().as_bytes().to_vec());
    let socket_of = if from == socket { None } else { name(from) };
    let info = Info { contact: addr.uri.to_vec(), socket: socket_of.unwrap_or_default(), ..info };
    let mut out = b"<sip:".to_vec();
    if !user.is_empty() {
        out.extend_from_slice(&[user, b"@"].concat());
    }
    let sent_by = node.sockets.get(socket).map_or("", |socket| socket.sent_by());
    out.extend_from_slice(sent_by.as_bytes());
    if node.sockets.is_reliable(socket) {
        out.extend_from_slice(b";transport=tcp");
    }
    if place.is_empty() {
        let text = state.seal(&node.keys, &info.to_bytes());
        out.extend_from_slice(&[b";", &state.contact_param[..], b"=", text.as_bytes()].concat());
    } else {
        out.extend_from_slice(place);
    }
    for name in &state.uri_params {
        passed(&mut out, name, uri.params.get(name));
    }
    out.push(b'>');
    for name in &state.contact_params {
        passed(&mut out, name, addr.params.get(name));
    }
    out.extend_from_slice(b"\r\n");
    edits.replace(header.span(), [b"Contact: ", &out[..]].concat());
    for other in headers {
        edits.remove(other.span());
    }
}

fn passed(out: &mut Vec<u8>, name: &[u8], found: Option<Option<&[u8]>>) {
    let Some(value) = found else { return };
    out.extend_from_slice(&[b";", name].concat());
    if let Some(value) = value {
        out.extend_from_slice(&[b"=", value].concat());
    }
}

/// What Call-IDs are mixed with; the caller's tag makes each call its own, so that a request
/// which comes back to this node is not taken for one of the callee.
fn call_id_key(state: &Hiding, caller_tag: &[u8]) -> Vec<u8> {
    if !state.protects_loops || caller_tag.is_empty() {
        return state.call_id_key.clone();
    }
    let tag = caller_tag.iter().cycle();
    state.call_id_key.iter().zip(tag).map(|(key, tag)| key ^ tag).collect()
}

/// The Call-ID for the callee.
pub(crate) fn encoded(state: &Hiding, call_id: &[u8], caller_tag: &[u8]) -> Vec<u8> {
    let text = code::encode(call_id, &call_id_key(state, caller_tag), Scheme::Base64);
    [&state.call_id_prefix, text.as_bytes()].concat()
}

pub(crate) fn encode_call_id(state: &Hiding, ctx: &mut Ctx) {
    if let Some(header) = ctx.msg.header(HeaderName::CallId) {
        let text = encoded(state, header.value(), ctx.msg.from_tag().unwrap_or_default());
        ctx.edits.replace(header.value_span(), text);
    }
}

/// The Call-ID of the caller behind the one that the callee has; false if it is not one.
pub(crate) fn decode_call_id(state: &Hiding, ctx: &mut Ctx) -> bool {
    let Some(header) = ctx.msg.header(HeaderName::CallId) else { return false };
    let key = call_id_key(state, ctx.msg.to_tag().unwrap_or_default());
    let text = header.value().strip_prefix(state.call_id_prefix.as_slice());
    let plain = text.and_then(|text| code::decode(text, &key, Scheme::Base64));
    let Some(plain) = plain.filter(|p| p.iter().all(|b| *b > b' ' && *b < 0x7f)) else {
        return false;
    };
    ctx.edits.replace(header.value_span(), plain);
    true
}

/// `$TH_callee_callid`
pub(crate) fn callee_call_id(call: &mut VarCall<'_, '_>) -> Option<Vec<u8>> {
    let state = call.state::<Hiding>()?;
    let hides = call.ctx.hides.clone()?;
    let call_id = call.ctx.msg.header(HeaderName::CallId)?.value();
    let is_callees = call_id.starts_with(&state.call_id_prefix);
    let tag = call.ctx.msg.from_tag().unwrap_or_default();
    Some(match hides.flags & CALL_ID != 0 && !is_callees {
        true => encoded(&state, call_id, tag),
        false => call_id.to_vec(),
    })
}
