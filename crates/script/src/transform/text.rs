//! `{s.*}`: parts, places, padding, case and numbers of a text.

use bytes::Bytes;

use super::{Args, Run, TransformSig, int, map, number, on, row, special, text};
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
    special("s.select", (2, 2, 0b01), Run::Greedy(select), "index, separator"),
    row("s.index", (1, 2, 0b10), index, "position of the first match: text, offset"),
    row("s.rindex", (1, 2, 0b10), rindex, "position of the last match: text, offset"),
    row("s.fill.left", (2, 2, 0b10), |v, a| fill(v, a, true), "pad left: text, length"),
    row("s.fill.right", (2, 2, 0b10), |v, a| fill(v, a, false), "pad right: text, length"),
    row("s.width", (1, 1, 0b1), width, "pad or cut on the right to a length"),
    row("s.encode.hexa", (0, 0, 0), |v, _| map(v, hex), "hexadecimal digits"),
    row("s.decode.hexa", (0, 0, 0), |v, _| on(v, unhex), "from hexadecimal digits"),
    row("s.dec2hex", (0, 0, 0), |v, _| on(v, dec2hex), "to hexadecimal"),
    row("s.hex2dec", (0, 0, 0), |v, _| on(v, hex2dec), "from hexadecimal"),
    row("s.date2unix", (0, 0, 0), |v, _| on(v, date2unix), "seconds of a SIP date"),
    special("s.eval", (0, 0, 0), Run::Eval, "the text with its variables expanded"),
];

/// Longest text that padding builds.
const WIDTH_MAX: usize = 64 << 10;

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

/// An offset in a text; negative ones count from the end and wrap around.
fn offset(offset: i32, len: usize) -> usize {
    match usize::try_from(offset) {
        Ok(n) => n,
        Err(_) if len == 0 => 0,
        Err(_) => i64::from(offset).rem_euclid(len as i64) as usize,
    }
}

fn index(value: &Value, args: &Args<'_>) -> Value {
    let (Some(hay), Some(needle)) = (value.text(), args.word(0)) else { return Value::Null };
    let from = offset(args.int(1).unwrap_or(0), hay.len());
    let found = hay.get(from..).and_then(|h| find(h, &needle));
    found.map_or(Value::Null, |n| int(n + from))
}

fn rindex(value: &Value, args: &Args<'_>) -> Value {
    let (Some(hay), Some(needle)) = (value.text(), args.word(0)) else { return Value::Null };
    let last = hay.len().saturating_sub(needle.len());
    let limit = args.int(1).map_or(last, |n| offset(n, hay.len())).min(last);
    let found = (0..=limit).rev().find(|i| hay.get(*i..).is_some_and(|h| h.starts_with(&needle)));
    found.map_or(Value::Null, int)
}

fn find(hay: &[u8], needle: &Bytes) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    hay.windows(needle.len()).position(|w| w == needle)
}

/// What is missing is the token again and again; on the left its end stands at the text.
fn fill(value: &Value, args: &Args<'_>, left: bool) -> Value {
    let (Some(text), Some(token)) = (value.text(), args.word(0)) else { return Value::Null };
    let wanted = usize::try_from(args.int(1).unwrap_or(0)).unwrap_or(0).min(WIDTH_MAX);
    let missing = wanted.saturating_sub(text.len());
    if missing == 0 || token.is_empty() {
        return value.clone();
    }
    let skip = if left { (token.len() - missing % token.len()) % token.len() } else { 0 };
    let pad: Vec<u8> = token.iter().copied().cycle().skip(skip).take(missing).collect();
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

pub(super) fn hex(text: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |d: u8| DIGITS.get(usize::from(d)).copied().unwrap_or(b'0');
    text.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// The byte of two hexadecimal digits.
pub(super) fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    Some(digit(high)? << 4 | digit(low)?)
}

fn unhex(text: &[u8]) -> Value {
    if !text.len().is_multiple_of(2) {
        return Value::Null;
    }
    let pair = |p: &[u8]| match p {
        [h, l] => hex_byte(*h, *l),
        _ => None,
    };
    text.chunks(2).map(pair).collect::<Option<Vec<u8>>>().map_or(Value::Null, Value::str)
}

fn dec2hex(digits: &[u8]) -> Value {
    let digits = std::str::from_utf8(digits).unwrap_or_default().trim();
    digits.parse::<i64>().map_or(Value::Null, |n| text(format!("{n:x}")))
}

fn hex2dec(digits: &[u8]) -> Value {
    let digits = std::str::from_utf8(digits).unwrap_or_default().trim();
    let digits = digits.strip_prefix("0x").or(digits.strip_prefix("0X")).unwrap_or(digits);
    i64::from_str_radix(digits, 16).map_or(Value::Null, number)
}

/// `Sat, 13 Nov 2010 23:29:00 GMT` (RFC 3261 20.17).
fn date2unix(date: &[u8]) -> Value {
    std::str::from_utf8(date).ok().and_then(unix_of_date).map_or(Value::Null, number)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn unix_of_date(date: &str) -> Option<i64> {
    let (_, date) = date.split_once(',')?;
    let mut words = date.split_ascii_whitespace();
    let day: i64 = words.next()?.parse().ok().filter(|d| (1..=31).contains(d))?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(month))? as i64 + 1;
    let year: i64 = words.next()?.parse().ok().filter(|y| (1900..=9999).contains(y))?;
    let mut clock = words.next()?.split(':').map(|p| p.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let fits = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    if !fits || !words.next()?.eq_ignore_ascii_case("GMT") {
        return None;
    }
    Some(days_of_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days since 1970 in the Gregorian calendar; years begin in March, so that leap days come last.
fn days_of_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
