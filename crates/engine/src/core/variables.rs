//! Variables of the message, the source, the target and the node.

use bytes::Bytes;
use tandem_script::host::{Assign, Context, Index};
use tandem_script::sig::VariableSig;
use tandem_script::value::Value;
use tandem_sip::{HeaderName, Message, NameAddr, Uri};

use super::auth_vars;
use crate::module::{VarCall, VariableDef};
use crate::uri_edit::{Part, with_part};

type Get = fn(&mut VarCall<'_, '_>) -> Value;
type Set = fn(&mut VarCall<'_, '_>, Assign, Value) -> Result<(), String>;

const fn read(name: &'static str, help: &'static str, get: Get) -> VariableDef {
    let sig = VariableSig { name, writable: false, takes_name: false, takes_index: false, help };
    VariableDef { sig, get, set: None }
}

const fn write(name: &'static str, help: &'static str, get: Get, set: Set) -> VariableDef {
    let sig = VariableSig { name, writable: true, takes_name: false, takes_index: false, help };
    VariableDef { sig, get, set: Some(set) }
}

const fn named(mut def: VariableDef) -> VariableDef {
    def.sig.takes_name = true;
    def.sig.takes_index = true;
    def
}

pub(super) const VARIABLES: &[VariableDef] = &[
    named(write("avp", "Attribute-value list of the message.", avp, set_avp)),
    named(read("hdr", "Value of a header.", header)),
    named(read("hdrcnt", "How many headers of a name there are.", header_count)),
    read("ci", "Call-ID.", |c| of_msg(c, Message::call_id)),
    read("cs", "CSeq number.", |c| number(view(c, |m| m.cseq().ok().map(|s| s.number)))),
    read("ct", "The whole Contact header.", |c| joined(c, HeaderName::Contact)),
    read("cl", "Content-Length.", |c| number(view(c, |m| m.content_length().ok().flatten()))),
    read("cT", "Content-Type.", |c| of_msg(c, Message::content_type)),
    read("rb", "Body.", |c| of_msg(c, |m| Some(m.body()).filter(|b| !b.is_empty()))),
    read("mb", "The whole message.", |c| of_msg(c, |m| Some(m.as_bytes()))),
    read("ml", "Length of the message.", |c| number(view(c, |m| Some(m.as_bytes().len() as u32)))),
    read("mf", "Message flags, as a number.", |c| Value::Int(c.ctx.flags as i32)),
    read("ua", "User-Agent.", |c| of_msg(c, Message::user_agent)),
    read("rm", "Method.", |c| of_msg(c, |m| Some(m.method_bytes()))),
    read("rs", "Status code of the reply.", |c| number(view(c, status))),
    read("rr", "Reason phrase of the reply.", |c| of_msg(c, |m| m.is_reply().then(|| m.reason()))),
    read("fu", "From URI.", |c| of_msg(c, |m| Some(m.from().ok()?.uri))),
    read("fU", "User of the From URI.", |c| of_msg(c, |m| addr_user(m.from().ok()?))),
    read("fd", "Domain of the From URI.", |c| of_msg(c, |m| addr_host(m.from().ok()?))),
    read("fn", "Display name of From.", |c| of_msg(c, |m| display(m.from().ok()?))),
    read("ft", "Tag of From.", |c| of_msg(c, Message::from_tag)),
    read("tu", "To URI.", |c| of_msg(c, |m| Some(m.to().ok()?.uri))),
    read("tU", "User of the To URI.", |c| of_msg(c, |m| addr_user(m.to().ok()?))),
    read("td", "Domain of the To URI.", |c| of_msg(c, |m| addr_host(m.to().ok()?))),
    read("tn", "Display name of To.", |c| of_msg(c, |m| display(m.to().ok()?))),
    read("tt", "Tag of To.", |c| of_msg(c, Message::to_tag)),
    read("si", "Source address.", |c| text(c.ctx.source.addr.ip().to_string())),
    read("sp", "Source port.", |c| Value::Int(i32::from(c.ctx.source.addr.port()))),
    auth_vars::AU,
    auth_vars::AU_WHOLE,
    auth_vars::AD,
    auth_vars::AR,
    auth_vars::ADU,
    auth_vars::AN,
    auth_vars::NONCE,
    auth_vars::RESP,
    auth_vars::CNONCE,
    auth_vars::OPAQUE,
    auth_vars::ALG,
    auth_vars::QOP,
    auth_vars::NC,
    read("Ts", "Unix seconds.", |c| Value::Int(c.cx.now.unix_s() as i32)),
    read("ou", "R-URI as received.", |c| of_msg(c, |m| some(m.request_uri()))),
    read("oU", "User of the R-URI as received.", |c| of_msg(c, |m| uri_user(m.request_uri()))),
    read("od", "Domain of the R-URI as received.", |c| of_msg(c, |m| uri_host(m.request_uri()))),
    write("ru", "R-URI.", |c| bytes(some(c.ctx.request_uri())), set_ru),
    write("rU", "User of the R-URI.", |c| bytes(uri_user(c.ctx.request_uri())), set_user),
    write("rd", "Domain of the R-URI.", |c| bytes(uri_host(c.ctx.request_uri())), set_host),
    write("rp", "Port of the R-URI, or the default one.", ruri_port, set_port),
    write("ru_q", "q of the R-URI branch, times 1000.", ruri_q, set_ruri_q),
    write("du", "Where the request goes instead of to its R-URI.", dst_uri, set_dst_uri),
    read("dd", "Domain of $du.", |c| bytes(c.ctx.target.dst_uri.as_deref().and_then(uri_host))),
    read("bf", "Branch flags of the R-URI branch.", |c| Value::Int(c.ctx.target.flags as i32)),
    named(read("socket_in", "The receiving socket: (ip), (port), (proto), (tag).", socket_in)),
    read("err.rcode", "Reply code for the last error.", |c| err_code(c)),
    read("err.rreason", "Reply reason for the last error.", |c| text(c.ctx.error.reason.clone())),
    read("err.info", "What is wrong with the message.", |c| text(c.ctx.error.reason.clone())),
];

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

fn text(text: String) -> Value {
    Value::Str(Bytes::from(text))
}

fn number(n: Option<u32>) -> Value {
    n.map_or(Value::Null, |n| Value::Int(n as i32))
}

fn some(part: &[u8]) -> Option<&[u8]> {
    (!part.is_empty()).then_some(part)
}

fn status(msg: &Message) -> Option<u32> {
    msg.is_reply().then(|| u32::from(msg.status()))
}

fn uri_user(uri: &[u8]) -> Option<&[u8]> {
    Uri::parse(uri).ok()?.user
}

fn uri_host(uri: &[u8]) -> Option<&[u8]> {
    some(Uri::parse(uri).ok()?.host)
}

fn addr_user(addr: NameAddr<'_>) -> Option<&[u8]> {
    uri_user(addr.uri)
}

fn addr_host(addr: NameAddr<'_>) -> Option<&[u8]> {
    uri_host(addr.uri)
}

fn display(addr: NameAddr<'_>) -> Option<&[u8]> {
    some(addr.display)
}

fn err_code(call: &VarCall<'_, '_>) -> Value {
    match call.ctx.error.code {
        0 => Value::Null,
        code => Value::Int(i32::from(code)),
    }
}

fn avp(call: &mut VarCall<'_, '_>) -> Value {
    call.ctx.avps.get(call.access.name, call.access.index)
}

fn set_avp(call: &mut VarCall<'_, '_>, how: Assign, value: Value) -> Result<(), String> {
    call.ctx.avps.set(call.access.name, call.access.index, how, value)
}

fn header(call: &mut VarCall<'_, '_>) -> Value {
    let Some(msg) = message(call) else { return Value::Null };
    let name = call.access.name;
    let mut values = msg.headers_by_text(name).map(|h| h.unfolded().into_owned());
    let found = match call.access.index {
        Index::None | Index::Append => values.next(),
        Index::At(n) if n >= 0 => values.nth(n as usize),
        Index::At(n) => {
            let all: Vec<_> = values.collect();
            let back = n.unsigned_abs() as usize;
            all.len().checked_sub(back).and_then(|at| all.get(at).cloned())
        }
        Index::All => {
            let all: Vec<_> = values.collect();
            (!all.is_empty()).then(|| all.join(&b", "[..]))
        }
    };
    found.map_or(Value::Null, |v| Value::Str(Bytes::from(v)))
}

fn header_count(call: &mut VarCall<'_, '_>) -> Value {
    let name = call.access.name;
    number(view(call, |m| Some(m.headers_by_text(name).count() as u32)))
}

fn joined(call: &mut VarCall<'_, '_>, name: HeaderName) -> Value {
    let Some(msg) = message(call) else { return Value::Null };
    let all: Vec<_> = msg.headers(name).map(|h| h.unfolded().into_owned()).collect();
    if all.is_empty() { Value::Null } else { Value::Str(Bytes::from(all.join(&b", "[..]))) }
}

fn set_ru(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let uri = value.into_bytes().ok_or("the R-URI cannot be removed")?;
    // The field takes any text here; what cannot be read gives null when it is looked at.
    call.ctx.target.uri = Some(uri);
    Ok(())
}

fn set_part(call: &mut VarCall<'_, '_>, part: Part, value: &Value) -> Result<(), String> {
    let value = value.text().unwrap_or_default();
    let uri = with_part(call.ctx.request_uri(), part, &value)
        .ok_or("the R-URI cannot be changed this way")?;
    call.ctx.target.uri = Some(uri);
    Ok(())
}

fn set_user(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    set_part(call, Part::User, &value)
}

fn set_host(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    set_part(call, Part::Host, &value)
}

fn set_port(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    set_part(call, Part::Port, &value)
}

fn ruri_port(call: &mut VarCall<'_, '_>) -> Value {
    let Ok(uri) = Uri::parse(call.ctx.request_uri()) else { return Value::Null };
    let default = if uri.is_sips() { 5061 } else { 5060 };
    Value::Int(i32::from(uri.port.unwrap_or(default)))
}

fn ruri_q(call: &mut VarCall<'_, '_>) -> Value {
    call.ctx.target.q.map_or(Value::Null, |q| Value::Int(i32::from(q)))
}

fn set_ruri_q(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    let q = value.int().and_then(|q| u16::try_from(q).ok()).filter(|q| *q <= 1000);
    call.ctx.target.q = Some(q.ok_or("q goes from 0 to 1000")?);
    Ok(())
}

fn dst_uri(call: &mut VarCall<'_, '_>) -> Value {
    call.ctx.target.dst_uri.clone().map_or(Value::Null, Value::Str)
}

fn set_dst_uri(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    match value.into_bytes().filter(|t| !t.is_empty()) {
        None => call.ctx.target.dst_uri = None,
        Some(uri) => {
            Uri::parse(&uri).map_err(|e| format!("not a URI: {e}"))?;
            call.ctx.target.dst_uri = Some(uri);
        }
    }
    Ok(())
}

fn socket_in(call: &mut VarCall<'_, '_>) -> Value {
    let Some(socket) = call.cx.node.sockets.get(call.ctx.source.socket) else {
        return Value::Null;
    };
    match call.access.name {
        b"" => text(socket.text().to_owned()),
        b"ip" => text(socket.addr.ip().to_string()),
        b"port" => Value::Int(i32::from(socket.addr.port())),
        b"proto" => text(socket.proto.text().to_owned()),
        b"tag" => socket.tag.clone().map_or(Value::Null, text),
        b"advertised_ip" => socket.advertised.as_ref().map_or(Value::Null, |a| text(a.0.clone())),
        b"advertised_port" => {
            socket.advertised.as_ref().map_or(Value::Null, |a| Value::Int(i32::from(a.1)))
        }
        _ => Value::Null,
    }
}
