//! Where the request goes: the R-URI, the next hop, the set of destinations.

use tandem_script::host::{Assign, Context};
use tandem_script::value::Value;
use tandem_sip::Uri;

use super::{Get, Set, bytes, read, some, uri_host, uri_port, uri_transport, uri_user, write};
use crate::core::target::assigned_q;
use crate::module::{VarCall, VariableDef};
use crate::uri_edit::{Part, with_part};

const RURI: Get = |c| bytes(some(request_uri(c)));
const RURI_USER: Get = |c| bytes(uri_user(request_uri(c)));
const RURI_HOST: Get = |c| bytes(uri_host(request_uri(c)));
const SET_RURI_USER: Set = |c, _, value| set_part(c, Part::User, &value);
const SET_RURI_HOST: Set = |c, _, value| set_part(c, Part::Host, &value);
const DST_URI: Get = |c| c.ctx.target.dst_uri.clone().map_or(Value::Null, Value::Str);

pub(super) const VARIABLES: &[VariableDef] = &[
    write("ru", "R-URI.", RURI, set_ru),
    write("ruri", "R-URI.", RURI, set_ru),
    write("rU", "User of the R-URI.", RURI_USER, SET_RURI_USER),
    write("ruri.user", "User of the R-URI.", RURI_USER, SET_RURI_USER),
    write("rd", "Domain of the R-URI.", RURI_HOST, SET_RURI_HOST),
    write("ruri.domain", "Domain of the R-URI.", RURI_HOST, SET_RURI_HOST),
    write(
        "rp",
        "Port of the R-URI, or the default one.",
        |c| uri_port(request_uri(c)),
        |c, _, value| set_part(c, Part::Port, &value),
    ),
    read("rP", "Transport of the R-URI.", |c| uri_transport(request_uri(c))),
    write("ru_q", "q of the R-URI branch, times 1000.", ruri_q, set_ruri_q),
    write("du", "Where the request goes instead of to its R-URI.", DST_URI, set_dst_uri),
    write("duri", "Where the request goes instead of to its R-URI.", DST_URI, set_dst_uri),
    write(
        "dd",
        "Domain of $du.",
        |c| bytes(c.ctx.target.dst_uri.as_deref().and_then(uri_host)),
        |c, _, value| set_dst_part(c, Part::Host, &value),
    ),
    write(
        "dp",
        "Port of $du, or the default one.",
        |c| c.ctx.target.dst_uri.as_deref().map_or(Value::Null, uri_port),
        |c, _, value| set_dst_part(c, Part::Port, &value),
    ),
    read("dP", "Transport of $du.", |c| {
        c.ctx.target.dst_uri.as_deref().map_or(Value::Null, uri_transport)
    }),
    read("ds", "The destinations of the request, as a Contact header has them.", destinations),
];

/// The R-URI as it stands now; in a reply route that of the transaction's request, if it is asked
/// for by `$(<request>ru)`.
fn request_uri<'a>(call: &'a VarCall<'_, '_>) -> &'a [u8] {
    let ctx = &*call.ctx;
    match (ctx.msg.is_request(), &ctx.request) {
        (true, _) => ctx.request_uri(),
        (false, Some(request)) if call.access.context == Context::Request => {
            ctx.target.uri.as_deref().unwrap_or_else(|| request.request_uri())
        }
        (false, _) => &[],
    }
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

fn ruri_q(call: &mut VarCall<'_, '_>) -> Value {
    call.ctx.target.q.map_or(Value::Null, |q| Value::Int(i32::from(q)))
}

fn set_ruri_q(call: &mut VarCall<'_, '_>, _: Assign, value: Value) -> Result<(), String> {
    call.ctx.target.q = assigned_q(&value)?;
    Ok(())
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

/// Changes a part of `$du`; without one it becomes a URI of the value alone.
fn set_dst_part(call: &mut VarCall<'_, '_>, part: Part, value: &Value) -> Result<(), String> {
    let value = value.text().unwrap_or_default();
    let uri = match (&call.ctx.target.dst_uri, part) {
        (Some(uri), _) => with_part(uri, part, &value),
        (None, Part::Host) => with_part(b"sip:host", part, &value),
        (None, _) => return Err("$du has no host yet".to_owned()),
    };
    call.ctx.target.dst_uri = Some(uri.ok_or("$du cannot be changed this way")?);
    Ok(())
}

fn destinations(call: &mut VarCall<'_, '_>) -> Value {
    let is_request = call.ctx.msg.is_request();
    if is_request { Value::str(call.ctx.destinations()) } else { Value::Null }
}
