//! `{via.*}`: the value of a Via header, split without judging the parts.

use super::list::params;
use super::{Args, TransformSig, copy, on, row};
use crate::value::Value;

pub(super) const TABLE: &[TransformSig] = &[
    row("via.name", (0, 0, 0), |v, _| part(v, |via| Some(via.name)), "protocol name"),
    row("via.version", (0, 0, 0), |v, _| part(v, |via| Some(via.version)), "version"),
    row("via.transport", (0, 0, 0), |v, _| part(v, |via| Some(via.transport)), "transport"),
    row("via.host", (0, 0, 0), |v, _| part(v, |via| Some(via.host)), "host"),
    row("via.domain", (0, 0, 0), |v, _| part(v, |via| Some(via.host)), "host"),
    row("via.port", (0, 0, 0), port, "port"),
    row("via.comment", (0, 0, 0), |v, _| part(v, |via| via.comment), "comment"),
    row("via.params", (0, 0, 0), |v, _| part(v, |via| via.params), "all parameters"),
    row("via.param", (1, 1, 0), param, "one parameter"),
    row("via.branch", (0, 0, 0), |v, _| named(v, b"branch"), "branch"),
    row("via.received", (0, 0, 0), |v, _| named(v, b"received"), "received"),
    row("via.rport", (0, 0, 0), |v, _| named(v, b"rport"), "rport"),
];

struct Via<'a> {
    name: &'a [u8],
    version: &'a [u8],
    transport: &'a [u8],
    host: &'a [u8],
    port: Option<&'a [u8]>,
    params: Option<&'a [u8]>,
    comment: Option<&'a [u8]>,
}

fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let i = text.iter().position(|b| *b == at)?;
    Some((text.get(..i)?.trim_ascii(), text.get(i + 1..)?.trim_ascii()))
}

/// `SIP / 2.0 / UDP host:port ;params (comment)` (RFC 3261 20.42).
fn split(text: &[u8]) -> Option<Via<'_>> {
    let (name, rest) = cut(text.trim_ascii(), b'/')?;
    let (version, rest) = cut(rest, b'/')?;
    let end = rest.iter().position(u8::is_ascii_whitespace)?;
    let (transport, rest) = (rest.get(..end)?, rest.get(end..)?.trim_ascii());
    let (rest, comment) = match cut(rest, b'(') {
        Some((before, inner)) => (before, cut(inner, b')').map(|(c, _)| c)),
        None => (rest, None),
    };
    // A second value of the same header is not part of this one.
    let rest = cut(rest, b',').map_or(rest, |(first, _)| first);
    let (sent_by, params) = cut(rest, b';').map_or((rest, None), |(s, p)| (s, Some(p)));
    let (host, port) = if sent_by.first() == Some(&b'[') {
        let end = sent_by.iter().position(|b| *b == b']')? + 1;
        let port = sent_by.get(end..)?.trim_ascii().strip_prefix(b":").map(<[u8]>::trim_ascii);
        (sent_by.get(..end)?, port)
    } else {
        cut(sent_by, b':').map_or((sent_by, None), |(h, p)| (h, Some(p)))
    };
    Some(Via { name, version, transport, host, port, params, comment })
}

fn part(value: &Value, pick: for<'a> fn(Via<'a>) -> Option<&'a [u8]>) -> Value {
    on(value, |t| split(t).and_then(pick).map_or(Value::Null, copy))
}

/// An integer and a text at once.
fn port(value: &Value, _: &Args<'_>) -> Value {
    on(value, |t| {
        let port = split(t).and_then(|via| via.port);
        let number = port.and_then(|p| std::str::from_utf8(p).ok()?.parse::<u16>().ok());
        number.map_or(Value::Null, |n| Value::Int(i32::from(n)))
    })
}

fn named(value: &Value, name: &[u8]) -> Value {
    on(value, |t| {
        let Some(list) = split(t).and_then(|via| via.params) else { return Value::Null };
        let found = params(list, b';').find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map_or(Value::Null, |(_, v)| copy(v))
    })
}

fn param(value: &Value, args: &Args<'_>) -> Value {
    args.word(0).map_or(Value::Null, |name| named(value, &name))
}
