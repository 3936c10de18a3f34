//! `{uri.*}` and `{nameaddr.*}`: a plain split, without judging the parts.

use bytes::Bytes;

use super::list::{params, split_quoted};
use super::{Args, TransformSig, copy, int, row};
use crate::value::Value;

pub(super) const TABLE: &[TransformSig] = &[
    row("uri.user", (0, 0, 0), |v, _| part(v, |u| u.user), "user"),
    row("uri.passwd", (0, 0, 0), |v, _| part(v, |u| u.password), "password"),
    row("uri.host", (0, 0, 0), |v, _| part(v, host), "host"),
    row("uri.domain", (0, 0, 0), |v, _| part(v, host), "host"),
    row("uri.port", (0, 0, 0), port, "port"),
    row("uri.params", (0, 0, 0), |v, _| part(v, |u| u.params), "all parameters"),
    row("uri.headers", (0, 0, 0), |v, _| part(v, |u| u.headers), "headers"),
    row("uri.schema", (0, 0, 0), |v, _| part(v, |u| Some(u.scheme)), "scheme"),
    row("uri.param", (1, 1, 0), param, "one parameter"),
    row("uri.transport", (0, 0, 0), |v, _| named(v, b"transport"), "transport"),
    row("uri.ttl", (0, 0, 0), |v, _| named(v, b"ttl"), "ttl"),
    row("uri.uparam", (0, 0, 0), |v, _| named(v, b"user"), "user parameter"),
    row("uri.maddr", (0, 0, 0), |v, _| named(v, b"maddr"), "maddr"),
    row("uri.method", (0, 0, 0), |v, _| named(v, b"method"), "method"),
    row("uri.lr", (0, 0, 0), |v, _| named(v, b"lr"), "lr"),
    row("uri.r2", (0, 0, 0), |v, _| named(v, b"r2"), "r2"),
    row("nameaddr.name", (0, 0, 0), |v, a| address(v, a, |n| n.display), "display name"),
    row("nameaddr.uri", (0, 0, 0), |v, a| address(v, a, |n| n.uri), "URI"),
    row("nameaddr.params", (0, 0, 0), |v, a| address(v, a, |n| n.params), "parameters"),
    row("nameaddr.len", (0, 0, 0), len, "length"),
    row("nameaddr.param", (1, 1, 0), address_param, "one parameter"),
];

struct Uri<'a> {
    scheme: &'a [u8],
    user: Option<&'a [u8]>,
    password: Option<&'a [u8]>,
    host: &'a [u8],
    port: Option<&'a [u8]>,
    params: Option<&'a [u8]>,
    headers: Option<&'a [u8]>,
}

fn cut(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|b| *b == at) {
        Some(i) => (&text[..i], Some(&text[i + 1..])),
        None => (text, None),
    }
}

fn split(text: &[u8]) -> Option<Uri<'_>> {
    let (scheme, rest) = cut(text, b':');
    let rest = rest?;
    if scheme.eq_ignore_ascii_case(b"tel") {
        let (number, params) = cut(rest, b';');
        let (password, host, port, headers) = (None, &[][..], None, None);
        return Some(Uri { scheme, user: Some(number), password, host, port, params, headers });
    }
    // `;` and `?` may stand in the user part.
    let (userinfo, rest) = match rest.iter().position(|b| *b == b'@') {
        Some(i) => (Some(&rest[..i]), &rest[i + 1..]),
        None => (None, rest),
    };
    let (rest, headers) = cut(rest, b'?');
    let (host_port, params) = cut(rest, b';');
    let (user, password) = match userinfo {
        Some(u) => {
            let (user, password) = cut(u, b':');
            (Some(user), password)
        }
        None => (None, None),
    };
    let (host, port) = if host_port.first() == Some(&b'[') {
        let end = host_port.iter().position(|b| *b == b']')? + 1;
        (&host_port[..end], host_port[end..].strip_prefix(b":"))
    } else {
        cut(host_port, b':')
    };
    Some(Uri { scheme, user, password, host, port, params, headers })
}

fn host(uri: Uri<'_>) -> Option<&[u8]> {
    Some(uri.host).filter(|h| !h.is_empty())
}

/// A text and an integer at once.
fn port(value: &Value, _: &Args<'_>) -> Value {
    let Some(text) = value.text() else { return Value::Null };
    let Some(port) = split(&text).and_then(|u| u.port) else { return Value::Null };
    match std::str::from_utf8(port).ok().and_then(|p| p.parse::<u16>().ok()) {
        Some(n) => Value::Both(i32::from(n), Bytes::copy_from_slice(port)),
        None => copy(port),
    }
}

fn part(value: &Value, pick: for<'a> fn(Uri<'a>) -> Option<&'a [u8]>) -> Value {
    let Some(text) = value.text() else { return Value::Null };
    split(&text).and_then(pick).map_or(Value::Null, copy)
}

fn named(value: &Value, name: &[u8]) -> Value {
    let Some(text) = value.text() else { return Value::Null };
    let Some(list) = split(&text).and_then(|u| u.params) else { return Value::Null };
    let found = params(list, b';').find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map_or(Value::Null, |(_, v)| copy(v))
}

fn param(value: &Value, args: &Args<'_>) -> Value {
    args.word(0).map_or(Value::Null, |name| named(value, &name))
}

struct NameAddr<'a> {
    whole: &'a [u8],
    display: Option<&'a [u8]>,
    uri: Option<&'a [u8]>,
    params: Option<&'a [u8]>,
}

fn name_addr(text: &[u8], selector: i32) -> Option<NameAddr<'_>> {
    let all = split_quoted(text, b',');
    let last = all.len() as i64;
    let at = if selector < 0 { last + i64::from(selector) } else { i64::from(selector) };
    let whole = all.get(usize::try_from(at).ok()?)?.trim_ascii();
    let open = split_quoted(whole, b'<').first().map_or(whole.len(), |p| p.len());
    if open >= whole.len() {
        let (uri, params) = cut(whole, b';');
        return Some(NameAddr { whole, display: None, uri: Some(uri), params });
    }
    let display = Some(whole[..open].trim_ascii()).filter(|d| !d.is_empty());
    let (uri, rest) = cut(&whole[open + 1..], b'>');
    let params = rest.and_then(|r| r.trim_ascii().strip_prefix(b";"));
    Some(NameAddr { whole, display, uri: Some(uri), params })
}

fn address(
    value: &Value,
    args: &Args<'_>,
    pick: for<'a> fn(NameAddr<'a>) -> Option<&'a [u8]>,
) -> Value {
    let Some(text) = value.text() else { return Value::Null };
    name_addr(&text, args.selector).and_then(pick).map_or(Value::Null, copy)
}

fn len(value: &Value, args: &Args<'_>) -> Value {
    let Some(text) = value.text() else { return Value::Null };
    name_addr(&text, args.selector).map_or(Value::Null, |n| int(n.whole.len()))
}

fn address_param(value: &Value, args: &Args<'_>) -> Value {
    let (Some(text), Some(name)) = (value.text(), args.word(0)) else { return Value::Null };
    let list = name_addr(&text, args.selector).and_then(|n| n.params).unwrap_or_default();
    let found = params(list, b';').find(|(n, _)| n.eq_ignore_ascii_case(&name));
    found.map_or(Value::Null, |(_, v)| copy(v))
}
