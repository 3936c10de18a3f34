//! Variables of the message, the source, the target and the node.
//!
//! Where to look: `request` has the first line and the whole message; `headers` any header by
//! name; `addresses` From, To and the identities; `contacts` Contact; `credentials` digest; `bodies` the body and its
//! parts; `sdp` its lines; `target` where the request goes; `branches` its branches; `source` the sockets and the
//! sender; `node` the time, the process and errors.

mod addresses;
mod bodies;
mod branches;
mod contacts;
mod credentials;
mod headers;
mod node;
mod request;
mod sdp;
mod source;
mod target;

use bytes::Bytes;
use tandem_script::host::{Assign, Context, Index};
use tandem_script::sig::VariableSig;
use tandem_script::value::Value;
use tandem_sip::{Message, Uri};

use crate::module::{VarCall, VariableDef};
use crate::table::{count, join};

type Get = fn(&mut VarCall<'_, '_>) -> Value;
type Set = fn(&mut VarCall<'_, '_>, Assign, Value) -> Result<(), String>;

const PARTS: &[&[VariableDef]] = &[
    request::VARIABLES,
    headers::VARIABLES,
    addresses::VARIABLES,
    contacts::VARIABLES,
    credentials::VARIABLES,
    bodies::VARIABLES,
    sdp::VARIABLES,
    target::VARIABLES,
    branches::VARIABLES,
    source::VARIABLES,
    node::VARIABLES,
];

pub(super) static VARIABLES: [VariableDef; count(PARTS)] = join(PARTS);

const fn read(name: &'static str, help: &'static str, get: Get) -> VariableDef {
    let sig = VariableSig { name, writable: false, takes_name: false, takes_index: false, help };
    VariableDef { sig, get, set: None }
}

const fn write(name: &'static str, help: &'static str, get: Get, set: Set) -> VariableDef {
    let sig = VariableSig { name, writable: true, takes_name: false, takes_index: false, help };
    VariableDef { sig, get, set: Some(set) }
}

/// With a name in parentheses.
const fn named(mut def: VariableDef) -> VariableDef {
    def.sig.takes_name = true;
    def
}

/// With an index in brackets.
const fn indexed(mut def: VariableDef) -> VariableDef {
    def.sig.takes_index = true;
    def
}

/// The message meant by `$(<request>v)` and `$(<reply>v)`.
fn message<'a>(call: &'a VarCall<'_, '_>) -> Option<&'a Message> {
    let ctx = &*call.ctx;
    match call.access.context {
        Context::Current => Some(&ctx.msg),
        Context::Request if ctx.msg.is_request() => Some(&ctx.msg),
        Context::Request => ctx.request.as_ref(),
        Context::Reply if ctx.msg.is_reply() => Some(&ctx.msg),
        Context::Reply => ctx.reply.as_ref(),
    }
}

fn view<T>(call: &VarCall<'_, '_>, get: impl FnOnce(&Message) -> Option<T>) -> Option<T> {
    message(call).and_then(get)
}

/// A slice of the message as a value that shares its buffer.
fn of_msg(call: &VarCall<'_, '_>, get: impl FnOnce(&Message) -> Option<&[u8]>) -> Value {
    let Some(msg) = message(call) else { return Value::Null };
    let Some(part) = get(msg) else { return Value::Null };
    match msg.span_of(part) {
        Some(span) => Value::Str(msg.bytes().slice(span.range())),
        None => Value::Str(Bytes::copy_from_slice(part)),
    }
}

fn bytes(part: Option<&[u8]>) -> Value {
    part.map_or(Value::Null, |p| Value::Str(Bytes::copy_from_slice(p)))
}

fn text(text: impl Into<String>) -> Value {
    Value::Str(Bytes::from(text.into()))
}

fn number(n: Option<u32>) -> Value {
    n.map_or(Value::Null, |n| Value::Int(n as i32))
}

fn some(part: &[u8]) -> Option<&[u8]> {
    (!part.is_empty()).then_some(part)
}

fn uri_user(uri: &[u8]) -> Option<&[u8]> {
    Uri::parse(uri).ok()?.user
}

fn uri_host(uri: &[u8]) -> Option<&[u8]> {
    some(Uri::parse(uri).ok()?.host)
}

/// The port of a URI, or the default one of its scheme.
fn uri_port(uri: &[u8]) -> Value {
    let Ok(uri) = Uri::parse(uri) else { return Value::Null };
    let default = if uri.is_sips() { 5061 } else { 5060 };
    Value::Int(i32::from(uri.port.unwrap_or(default)))
}

/// The transport that a URI asks for, or the one its scheme implies.
fn uri_transport(uri: &[u8]) -> Value {
    let Ok(uri) = Uri::parse(uri) else { return Value::Null };
    match uri.param(b"transport").flatten() {
        Some(named) => Value::str(named.to_ascii_lowercase()),
        None if uri.is_sips() => text("tls"),
        None => text("udp"),
    }
}

/// Picks from a list by an index; negative ones count from the end, `[*]` joins all with `, `.
fn pick(list: &[impl AsRef<[u8]>], index: Index) -> Value {
    let found = match index {
        Index::None | Index::Append => list.first(),
        Index::At(n) => match usize::try_from(n) {
            Ok(n) => list.get(n),
            Err(_) => list.len().checked_sub(n.unsigned_abs() as usize).and_then(|n| list.get(n)),
        },
        Index::All if list.is_empty() => None,
        Index::All => {
            let all: Vec<&[u8]> = list.iter().map(AsRef::as_ref).collect();
            return Value::str(all.join(&b", "[..]));
        }
    };
    bytes(found.map(AsRef::as_ref))
}

/// The names of the flags that are set, separated by blanks.
fn flag_names(names: &[String], flags: u32) -> String {
    let set = names.iter().enumerate().filter(|(bit, _)| {
        u32::try_from(*bit).ok().and_then(|b| 1u32.checked_shl(b)).is_some_and(|m| flags & m != 0)
    });
    set.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(" ")
}

/// The mask of a flag by its name; a flag that the script never names has none.
fn flag_mask(names: &[String], name: &[u8]) -> Option<u32> {
    let bit = names.iter().position(|n| n.as_bytes() == name)?;
    1u32.checked_shl(u32::try_from(bit).ok()?)
}
