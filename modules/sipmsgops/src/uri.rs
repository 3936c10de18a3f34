//! The Request-URI and its parameters.

use bytes::Bytes;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_sip::Uri;

use crate::{NO, YES, said};

pub(crate) fn ruri_has_param(call: &mut Call<'_, '_, '_>) -> Called {
    let (name, wanted, given) = (call.text(0), call.text(1), call.given(1));
    let Ok(uri) = Uri::parse(call.ctx.request_uri()) else { return NO };
    said(match uri.param(&name) {
        None => false,
        Some(_) if !given => true,
        Some(value) => value.unwrap_or_default().eq_ignore_ascii_case(&wanted),
    })
}

/// Adds `name` or `name=value`.
pub(crate) fn ruri_add_param(call: &mut Call<'_, '_, '_>) -> Called {
    let param = call.text(0);
    let param = param.strip_prefix(b";").unwrap_or(&param);
    let uri = call.ctx.request_uri();
    if param.is_empty() || Uri::parse(uri).is_err() {
        return NO;
    }
    let end = headers_at(uri);
    let (before, after) = uri.split_at(end);
    set(call, [before, b";", param, after].concat())
}

pub(crate) fn ruri_del_param(call: &mut Call<'_, '_, '_>) -> Called {
    let name = call.text(0);
    let uri = Bytes::copy_from_slice(call.ctx.request_uri());
    let Ok(parsed) = Uri::parse(&uri) else { return NO };
    if parsed.param(&name).is_none() {
        return NO;
    }
    let raw = parsed.params.raw();
    let start = (raw.as_ptr() as usize).saturating_sub(uri.as_ptr() as usize);
    let mut out = uri.get(..start).unwrap_or_default().to_vec();
    for param in parsed.params.into_iter().filter(|p| !p.name.eq_ignore_ascii_case(&name)) {
        out.push(b';');
        out.extend_from_slice(param.raw);
    }
    out.extend_from_slice(uri.get(start + raw.len()..).unwrap_or_default());
    set(call, out)
}

/// `tel:+1-2;x` becomes `sip:+12;x@domain of From;user=phone` (RFC 3261 19.1.6).
pub(crate) fn ruri_tel2sip(call: &mut Call<'_, '_, '_>) -> Called {
    let uri = Bytes::copy_from_slice(call.ctx.request_uri());
    let Some(rest) = uri.get(..4).filter(|s| s.eq_ignore_ascii_case(b"tel:")) else { return NO };
    let Ok(parsed) = Uri::parse(&uri) else { return NO };
    let from = call.ctx.msg.from().ok().map(|from| from.uri);
    let Some(host) = from.and_then(|uri| Some(Uri::parse(uri).ok()?.host.to_vec())) else {
        return NO;
    };
    debug_assert_eq!(rest.len(), 4);
    let mut number = parsed.user.unwrap_or_default().to_vec();
    number.retain(|b| !matches!(b, b'-' | b'.' | b'(' | b')'));
    let params = parsed.params.raw();
    set(call, [b"sip:", &number[..], params, b"@", &host, b";user=phone"].concat())
}

/// `+` and 2 to 15 digits.
pub(crate) fn is_uri_user_e164(call: &mut Call<'_, '_, '_>) -> Called {
    let uri = call.text(0);
    let user = Uri::parse(&uri).ok().and_then(|uri| uri.user);
    let digits = user.and_then(|user| user.strip_prefix(b"+")).unwrap_or_default();
    said((2..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit))
}

/// Where the headers of a URI start, with their `?`.
fn headers_at(uri: &[u8]) -> usize {
    let user_end = uri.iter().position(|b| *b == b'@').unwrap_or(0);
    let rest = uri.get(user_end..).unwrap_or_default();
    rest.iter().position(|b| *b == b'?').map_or(uri.len(), |at| user_end + at)
}

fn set(call: &mut Call<'_, '_, '_>, uri: Vec<u8>) -> Called {
    if Uri::parse(&uri).is_err() {
        return NO;
    }
    call.ctx.target.uri = Some(uri.into());
    YES
}
