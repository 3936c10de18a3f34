//! `{param.*}` and `{csv.*}`

use bytes::Bytes;

use super::{Args, TransformSig, copy, int, row};
use crate::value::Value;

pub(super) const TABLE: &[TransformSig] = &[
    row("param.value", (1, 1, 0), |v, a| value(v, a).unwrap_or_default(), "value by name"),
    row("param.exist", (1, 1, 0), exist, "1 or 0"),
    row("param.valueat", (1, 1, 1), |v, a| at(v, a, 1), "value by index"),
    row("param.name", (1, 1, 1), |v, a| at(v, a, 0), "name by index"),
    row("param.count", (0, 0, 0), |v, _| int(with(v, |t| params(t, b';').count())), "count"),
    row("csv.count", (0, 0, 0), |v, _| int(with(v, |t| csv(t).len())), "entries"),
    row("csv.value", (1, 1, 1), csv_value, "entry by index"),
];

/// Entry `at` of pieces; negative counts from the end.
pub(super) fn nth<'a>(pieces: impl Iterator<Item = &'a [u8]>, at: i32) -> Value {
    let all: Vec<&[u8]> = pieces.collect();
    let at = if at < 0 { all.len() as i64 + i64::from(at) } else { i64::from(at) };
    let found = usize::try_from(at).ok().and_then(|i| all.get(i));
    found.map_or(Value::Null, |t| Value::Str(Bytes::copy_from_slice(t)))
}

fn with(value: &Value, f: impl FnOnce(&[u8]) -> usize) -> usize {
    value.text().map_or(0, |t| f(&t))
}

/// `name=value` pairs; quotes around a value are taken off.
pub(super) fn params(text: &[u8], separator: u8) -> impl Iterator<Item = (&[u8], &[u8])> {
    let parts = split_quoted(text, separator).into_iter().map(<[u8]>::trim_ascii);
    parts.filter(|p| !p.is_empty()).map(|p| match p.iter().position(|b| *b == b'=') {
        None => (p, &p[p.len()..]),
        Some(i) => (p[..i].trim_ascii(), unquoted(p[i + 1..].trim_ascii())),
    })
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).unwrap_or(text)
}

pub(super) fn split_quoted(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (i, b) in text.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b if *b == separator && !quoted => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn value(value: &Value, args: &Args<'_>) -> Option<Value> {
    let (text, name) = (value.text()?, args.word(0)?);
    let (_, found) = params(&text, b';').find(|(n, _)| n.eq_ignore_ascii_case(&name))?;
    Some(copy(found))
}

fn exist(v: &Value, args: &Args<'_>) -> Value {
    Value::Int(i32::from(value(v, args).is_some()))
}

fn at(value: &Value, args: &Args<'_>, part: usize) -> Value {
    let (Some(text), Some(at)) = (value.text(), args.int(0)) else { return Value::Null };
    nth(params(&text, b';').map(|(n, v)| if part == 0 { n } else { v }), at)
}

/// Fields (RFC 4180); the blanks around them do not count.
fn csv(text: &[u8]) -> Vec<&[u8]> {
    split_quoted(text, b',').into_iter().map(<[u8]>::trim_ascii).collect()
}

/// A field without its quotes, doubled ones inside once.
fn field(text: Bytes) -> Value {
    let inner = text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\""));
    let Some(inner) = inner else { return Value::Str(text) };
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        out.push(b);
        if b == b'"' {
            bytes.next_if_eq(&b'"');
        }
    }
    Value::str(out)
}

fn csv_value(value: &Value, args: &Args<'_>) -> Value {
    let (Some(text), Some(at)) = (value.text(), args.int(0)) else { return Value::Null };
    match nth(csv(&text).into_iter(), at) {
        Value::Str(text) => field(text),
        other => other,
    }
}
