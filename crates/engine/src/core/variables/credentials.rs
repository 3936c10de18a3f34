//! Variables of the digest credentials of a request: those that were found right, else the first
//! ones it has.

use bytes::Bytes;
use tandem_script::value::Value;
use tandem_sip::{AuthRole, Credentials, HeaderName, Message};

use super::{of_msg, uri_user};
use crate::context::Ctx;
use crate::module::{VarCall, VariableDef};
use crate::table::variable;

type Part = for<'a> fn(&Credentials<'a>) -> &'a [u8];

pub(super) const VARIABLES: &[VariableDef] = &[
    variable("au", "User of the credentials, without a domain.", |c| part(c, |a| a.user())),
    variable("aU", "User name of the credentials, as it is.", |c| part(c, |a| a.username)),
    variable("ad", "Domain in the user name of the credentials.", |c| part(c, |a| a.domain())),
    variable("ar", "Realm of the credentials.", |c| part(c, |a| a.realm)),
    variable("adu", "URI in the credentials.", |c| part(c, |a| a.uri)),
    variable("an", "Nonce of the credentials.", |c| part(c, |a| a.nonce)),
    variable("auth.nonce", "Nonce of the credentials.", |c| part(c, |a| a.nonce)),
    variable("auth.resp", "Response of the credentials.", |c| part(c, |a| a.response)),
    variable("auth.cnonce", "The client's nonce in the credentials.", |c| part(c, |a| a.cnonce)),
    variable("auth.opaque", "Opaque of the credentials.", |c| part(c, |a| a.opaque)),
    variable("auth.alg", "Algorithm of the credentials.", |c| part(c, |a| a.algorithm)),
    variable("auth.qop", "Quality of protection of the credentials.", |c| part(c, |a| a.qop)),
    variable("auth.nc", "Nonce count of the credentials.", |c| part(c, |a| a.nc)),
    variable("challenge.realm", "Realm of the challenge in a reply.", |c| asked(c, |a| a.realm)),
    variable("challenge.nonce", "Nonce of the challenge in a reply.", |c| asked(c, |a| a.nonce)),
    variable("challenge.opaque", "Opaque of the challenge in a reply.", |c| asked(c, |a| a.opaque)),
    variable("challenge.qop", "Qualities of protection that a challenge offers.", |c| {
        asked(c, |a| a.qop)
    }),
    variable("challenge.algorithm", "Algorithm of the challenge in a reply.", |c| {
        asked(c, |a| a.algorithm)
    }),
    variable("challenge.ik", "Integrity key (AKA) that a challenge brings.", |c| {
        asked(c, |a| a.other(b"ik").unwrap_or_default())
    }),
    variable("challenge.ck", "Cipher key (AKA) that a challenge brings.", |c| {
        asked(c, |a| a.other(b"ck").unwrap_or_default())
    }),
    variable("Au", "User of the credentials, or else of From.", |c| match part(c, |a| a.user()) {
        Value::Null => of_msg(c, |m| uri_user(m.from().ok()?.uri)),
        user => user,
    }),
];

fn part(call: &VarCall<'_, '_>, get: Part) -> Value {
    let Some(msg) = request(call.ctx) else { return Value::Null };
    let Some(found) = credentials(call.ctx, msg) else { return Value::Null };
    match get(&found) {
        [] => Value::Null,
        text => msg.span_of(text).map_or(Value::Null, |s| Value::Str(msg.bytes().slice(s.range()))),
    }
}

/// Of the first challenge of a reply: that of a server, or else of a proxy.
fn asked(call: &VarCall<'_, '_>, get: Part) -> Value {
    let ctx = &*call.ctx;
    let Some(msg) = Some(&ctx.msg).filter(|m| m.is_reply()).or(ctx.reply.as_ref()) else {
        return Value::Null;
    };
    let headers = [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate];
    let value = headers.iter().find_map(|name| msg.header(*name));
    let Some(found) = value.and_then(|h| Credentials::parse(h.value()).ok()) else {
        return Value::Null;
    };
    match get(&found) {
        [] => Value::Null,
        text => Value::Str(Bytes::copy_from_slice(text)),
    }
}

fn request(ctx: &Ctx) -> Option<&Message> {
    Some(&ctx.msg).filter(|m| m.is_request()).or(ctx.request.as_ref())
}

fn credentials<'a>(ctx: &Ctx, msg: &'a Message) -> Option<Credentials<'a>> {
    if let Some(value) = ctx.authorized.filter(|_| ctx.msg.is_request()) {
        return Credentials::parse(msg.slice(value)).ok();
    }
    let of = |role| msg.credentials(role).find_map(Result::ok);
    of(AuthRole::Server).or_else(|| of(AuthRole::Proxy))
}
