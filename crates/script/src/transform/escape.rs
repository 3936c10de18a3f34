//! `{s.escape.*}`, `{s.unescape.*}`, `{rest.*}`: text inside queries, URIs and URLs.

use super::text::hex_byte;
use super::{TransformSig, map, on, row};
use crate::value::Value;

pub(super) const TABLE: &[TransformSig] = &[
    row("s.escape.common", (0, 0, 0), |v, _| map(v, common), "quotes and backslashes escaped"),
    row("s.unescape.common", (0, 0, 0), |v, _| map(v, uncommon), "the reverse"),
    row("s.escape.user", (0, 0, 0), |v, _| map(v, |t| percent(t, USER)), "for the user of a URI"),
    row("s.unescape.user", (0, 0, 0), |v, _| on(v, unpercent), "the reverse"),
    row("s.escape.param", (0, 0, 0), |v, _| map(v, |t| percent(t, PARAM)), "for a URI parameter"),
    row("s.unescape.param", (0, 0, 0), |v, _| on(v, unpercent), "the reverse"),
    row("rest.escape", (0, 0, 0), |v, _| map(v, |t| percent(t, b"")), "for a URL"),
    row("rest.unescape", (0, 0, 0), |v, _| on(v, unpercent), "the reverse"),
];

/// RFC 3261 25.1: `user-unreserved`, and the marks that are unreserved everywhere.
const USER: &[u8] = b"!*'()&=+$,;?/";
/// RFC 3261 25.1: `param-unreserved`, and the marks.
const PARAM: &[u8] = b"!*'()[]/:&+$";

fn common(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 8);
    for b in text {
        match b {
            b'\'' | b'"' | b'\\' => out.extend([b'\\', *b]),
            0 => out.extend(b"\\0"),
            b => out.push(*b),
        }
    }
    out
}

fn uncommon(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        let escaped = if b == b'\\' { bytes.peek().copied() } else { None };
        match escaped {
            Some(b'0') => out.push(0),
            Some(c @ (b'\'' | b'"' | b'\\')) => out.push(c),
            _ => {
                out.push(b);
                continue;
            }
        }
        bytes.next();
    }
    out
}

fn percent(text: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 8);
    for b in text {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(b) || plain.contains(b) {
            out.push(*b);
        } else {
            out.extend(format!("%{b:02X}").into_bytes());
        }
    }
    out
}

/// `None` of it when a `%` has no two digits behind it.
fn unpercent(text: &[u8]) -> Value {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Value::str(out),
            [b'%', h, l, tail @ ..] => match hex_byte(*h, *l) {
                Some(b) => {
                    out.push(b);
                    tail
                }
                None => return Value::Null,
            },
            [b'%', ..] => return Value::Null,
            [b, tail @ ..] => {
                out.push(*b);
                tail
            }
        };
    }
}
