//! `{s.*}`

use bytes::Bytes;

use super::{Args, TransformSig, row};
use crate::value::Value;

pub(super) const TABLE: &[TransformSig] = &[
    row("s.len", (0, 0, 0), |v, _| on(v, |t| int(t.len())), "length"),
    row("s.int", (0, 0, 0), |v, _| on(v, |t| Value::Int(leading_int(t))), "leading integer"),
    row("s.reverse", (0, 0, 0), |v, _| map(v, |t| t.iter().rev().copied().collect()), "reversed"),
    row("s.tolower", (0, 0, 0), |v, _| map(v, <[u8]>::to_ascii_lowercase), "lower case"),
    row("s.toupper", (0, 0, 0), |v, _| map(v, <[u8]>::to_ascii_uppercase), "upper case"),
    row("s.trim", (0, 0, 0), |v, _| map(v, |t| t.trim_ascii().to_vec()), "trim both"),
    row("s.triml", (0, 0, 0), |v, _| map(v, |t| t.trim_ascii_start().to_vec()), "trim left"),
    row("s.trimr", (0, 0, 0), |v, _| map(v, |t| t.trim_ascii_end().to_vec()), "trim right"),
    row("s.substr", (2, 2, 0b11), substr, "offset, length"),
    row("s.select", (2, 2, 0b01), select, "index, separator"),
    row("s.index", (1, 2, 0b10), index, "position of the first match"),
    row("s.rindex", (1, 2, 0b10), rindex, "position of the last match"),
    row("s.fill.left", (2, 2, 0b10), |v, a| fill(v, a, true), "pad left: text, length"),
    row("s.fill.right", (2, 2, 0b10), |v, a| fill(v, a, false), "pad right: text, length"),
    row("s.width", (1, 1, 0b1), width, "pad or cut on the right to a length"),
    row("s.encode.hexa", (0, 0, 0), |v, _| map(v, hex), "hexadecimal digits"),
    row("s.decode.hexa", (0, 0, 0), |v, _| on(v, unhex), "from hexadecimal digits"),
    row("s.dec2hex", (0, 0, 0), |v, _| on(v, |t| text(format!("{:x}", leading_int(t)))), "to hex"),
    row("s.hex2dec", (0, 0, 0), |v, _| on(v, hex2dec), "from hexadecimal"),
];

/// Longest text that padding builds.
const WIDTH_MAX: usize = 64 << 10;

pub(super) fn on(value: &Value, f: impl FnOnce(&[u8]) -> Value) -> Value {
    value.text().map_or(Value::Null, |t| f(&t))
}

fn map(value: &Value, f: impl FnOnce(&[u8]) -> Vec<u8>) -> Value {
    on(value, |t| Value::str(f(t)))
}

pub(super) fn int(n: usize) -> Value {
    Value::Int(i32::try_from(n).unwrap_or(i32::MAX))
}

pub(super) fn text(t: String) -> Value {
    Value::str(t.into_bytes())
}

pub(super) fn leading_int(text: &[u8]) -> i32 {
    let text = text.trim_ascii();
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix(b"+").unwrap_or(text)),
    };
    let digits = digits.iter().take_while(|b| b.is_ascii_digit());
    let n = digits.fold(0i32, |n, b| n.wrapping_mul(10).wrapping_add(i32::from(b - b'0')));
    if negative { n.wrapping_neg() } else { n }
}

/// A negative offset counts from the end; length 0 goes to the end, a negative one leaves that
/// much out at the end.
fn substr(value: &Value, args: &Args<'_>) -> Value {
    let (Some(offset), Some(length)) = (args.int(0), args.int(1)) else { return Value::Null };
    let Some(bytes) = value.clone().into_bytes() else { return Value::Null };
    let len = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let start = if offset < 0 { len + i64::from(offset) } else { i64::from(offset) };
    let end = match length {
        0 => len,
        n if n < 0 => len + i64::from(n),
        n => (start + i64::from(n)).min(len),
    };
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(a), Ok(b)) if a <= b && b <= bytes.len() => Value::Str(bytes.slice(a..b)),
        _ => Value::Null,
    }
}

fn select(value: &Value, args: &Args<'_>) -> Value {
    let (Some(at), Some(separator)) = (args.int(0), args.text(1)) else { return Value::Null };
    let Some(&separator) = separator.first() else { return Value::Null };
    let Some(bytes) = value.clone().into_bytes() else { return Value::Null };
    super::list::nth(bytes.split(|b| *b == separator), at)
}

fn index(value: &Value, args: &Args<'_>) -> Value {
    let (Some(hay), Some(needle)) = (value.text(), args.text(0)) else { return Value::Null };
    let from = usize::try_from(args.int(1).unwrap_or(0)).unwrap_or(0);
    let found = hay.get(from..).and_then(|h| find(h, &needle));
    found.map_or(Value::Null, |n| int(n + from))
}

fn rindex(value: &Value, args: &Args<'_>) -> Value {
    let (Some(hay), Some(needle)) = (value.text(), args.text(0)) else { return Value::Null };
    let last = hay.len().saturating_sub(needle.len());
    let limit = args.int(1).and_then(|n| usize::try_from(n).ok()).unwrap_or(last).min(last);
    let found = (0..=limit).rev().find(|i| hay.get(*i..).is_some_and(|h| h.starts_with(&needle)));
    found.map_or(Value::Null, int)
}

fn find(hay: &[u8], needle: &Bytes) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    hay.windows(needle.len()).position(|w| w == needle)
}

fn fill(value: &Value, args: &Args<'_>, left: bool) -> Value {
    let (Some(text), Some(token)) = (value.text(), args.text(0)) else { return Value::Null };
    let wanted = usize::try_from(args.int(1).unwrap_or(0)).unwrap_or(0).min(WIDTH_MAX);
    let missing = wanted.saturating_sub(text.len());
    let pad: Vec<u8> = token.iter().copied().cycle().take(missing).collect();
    let parts = if left { [pad.as_slice(), &text] } else { [text.as_ref(), &pad] };
    Value::str(parts.concat())
}

fn width(value: &Value, args: &Args<'_>) -> Value {
    let wanted = usize::try_from(args.int(0).unwrap_or(0)).unwrap_or(0).min(WIDTH_MAX);
    map(value, |t| {
        let mut out = t.to_vec();
        out.resize(wanted, b' ');
        out
    })
}

fn hex(text: &[u8]) -> Vec<u8> {
    text.iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect()
}

fn unhex(text: &[u8]) -> Value {
    if !text.len().is_multiple_of(2) {
        return Value::Null;
    }
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let pair = |p: &[u8]| match p {
        [h, l] => Some(digit(*h)? << 4 | digit(*l)?),
        _ => None,
    };
    text.chunks(2).map(pair).collect::<Option<Vec<u8>>>().map_or(Value::Null, Value::str)
}

fn hex2dec(text: &[u8]) -> Value {
    let digits = std::str::from_utf8(text).unwrap_or_default();
    let digits = digits.trim_start_matches("0x");
    u32::from_str_radix(digits, 16).map_or(Value::Null, |n| Value::Int(n as i32))
}
