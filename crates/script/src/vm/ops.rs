//! Comparison and arithmetic (script-language, sections 2 and 3).

use std::cmp::Ordering;
use std::net::IpAddr;

use bytes::Bytes;
use regex::bytes::{Regex, RegexBuilder};

use super::{Item, TEXT_BYTES_MAX};
use crate::program::{ArithOp, CompareOp, IpNet};
use crate::value::Value;

/// Compiled size of one expression.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Compiles a POSIX extended expression, ignoring case, as `=~` uses it.
pub(crate) fn compile_regex(pattern: &[u8]) -> Result<Regex, String> {
    compile_posix(pattern, true, false)
}

/// Compiles a POSIX extended expression. `by_line`: a line end bounds `.`, `^` and `$`.
///
/// # Errors
/// What is wrong with the expression, in plain words.
pub fn compile_posix(pattern: &[u8], ignore_case: bool, by_line: bool) -> Result<Regex, String> {
    let text = std::str::from_utf8(pattern).map_err(|_| "not UTF-8".to_owned())?;
    let built = RegexBuilder::new(&from_posix(text))
        .case_insensitive(ignore_case)
        .unicode(false)
        .dot_matches_new_line(!by_line)
        .multi_line(by_line)
        .size_limit(REGEX_BYTES_MAX)
        .build();
    built.map_err(|e| {
        let text = e.to_string();
        let last = text.lines().last().unwrap_or_default();
        last.trim_start_matches("error: ").to_owned()
    })
}

/// In a POSIX bracket expression a backslash and the set operators are plain characters; a brace
/// that opens no repetition is one, too.
fn from_posix(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '{' && !repeats(chars.clone()) {
            out.push('\\');
        }
        out.push(c);
        if c == '\\' {
            out.extend(chars.next());
        } else if c == '[' {
            bracket(&mut chars, &mut out);
        }
    }
    out
}

/// Whether `{` is followed by `3}`, `3,}`, `,5}` or `3,5}`.
fn repeats(rest: impl Iterator<Item = char>) -> bool {
    let mut digits = false;
    for c in rest {
        match c {
            '0'..='9' => digits = true,
            ',' => {}
            c => return c == '}' && digits,
        }
    }
    false
}

fn bracket(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    if chars.peek() == Some(&'^') {
        out.extend(chars.next());
    }
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            ']' if !first => {
                out.push(']');
                return;
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                while let Some(inner) = chars.next() {
                    out.push(inner);
                    if inner == ':' && chars.peek() == Some(&']') {
                        out.extend(chars.next());
                        break;
                    }
                }
            }
            '\\' | '[' | ']' | '&' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
        first = false;
    }
}

/// 1 true, 0 false. `None` on either side follows the rules for null.
fn null_rule(op: CompareOp, both: bool) -> i8 {
    i8::from(match op {
        CompareOp::Eq | CompareOp::Match => both,
        CompareOp::Ne | CompareOp::NoMatch => !both,
        _ => false,
    })
}

fn ordered(op: CompareOp, order: Ordering) -> i8 {
    i8::from(match op {
        CompareOp::Eq | CompareOp::Match => order.is_eq(),
        CompareOp::Ne | CompareOp::NoMatch => order.is_ne(),
        CompareOp::Lt => order.is_lt(),
        CompareOp::Le => order.is_le(),
        CompareOp::Gt => order.is_gt(),
        CompareOp::Ge => order.is_ge(),
    })
}

pub(super) fn compare_null(op: CompareOp, left: &Value) -> i8 {
    null_rule(op, left.is_null())
}

/// -1: a text cannot be compared with an integer literal.
pub(super) fn compare_int(op: CompareOp, left: &Value, right: i32) -> i8 {
    match left {
        Value::Null => null_rule(op, false),
        Value::Int(i) | Value::Both(i, _) => ordered(op, i.cmp(&right)),
        Value::Str(_) => -1,
    }
}

pub(super) fn compare_text(op: CompareOp, left: &Value, right: &[u8]) -> i8 {
    left.text().map_or_else(|| null_rule(op, false), |l| ordered(op, fold(&l, right)))
}

pub(super) fn compare_values(op: CompareOp, left: &Value, right: &Value) -> i8 {
    if left.is_null() || right.is_null() {
        return null_rule(op, left.is_null() && right.is_null());
    }
    if let (Some(l), Some(r)) = (left.int(), right.int()) {
        return ordered(op, l.cmp(&r));
    }
    let right = right.text().unwrap_or_default();
    compare_text(op, left, &right)
}

pub(super) fn matches(op: CompareOp, left: &Value, regex: &Regex) -> i8 {
    let Some(text) = left.text() else { return null_rule(op, false) };
    i8::from(regex.is_match(&text) == (op == CompareOp::Match))
}

pub(super) fn compare_net(op: CompareOp, left: &Value, net: IpNet) -> i8 {
    let Some(text) = left.text() else { return null_rule(op, false) };
    let bare = text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]")).unwrap_or(&text);
    let address = std::str::from_utf8(bare).ok().and_then(|t| t.parse::<IpAddr>().ok());
    let inside = address.is_some_and(|a| net.contains(a));
    i8::from(inside == (op == CompareOp::Eq))
}

fn fold(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase))
}

impl IpNet {
    pub(crate) fn contains(self, other: IpAddr) -> bool {
        match (self.addr, other) {
            (IpAddr::V4(n), IpAddr::V4(a)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits.min(32))).unwrap_or(0);
                n.to_bits() & mask == a.to_bits() & mask
            }
            (IpAddr::V6(n), IpAddr::V6(a)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits.min(128))).unwrap_or(0);
                n.to_bits() & mask == a.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// The type follows the left operand. `Err` is what went wrong; division by zero gives 0 and
/// an error text.
pub(super) fn arith(op: ArithOp, left: Item, right: Item) -> (Item, Option<String>) {
    let literal = matches!((&left, &right), (Item::Literal(_), Item::Literal(_)));
    let right_is_literal = matches!(right, Item::Literal(_));
    let (Some(l), Some(r)) = (left.value(), right.value()) else { return (Item::Failed, None) };
    let wrap = |v| if literal { Item::Literal(v) } else { Item::Value(v) };
    if matches!(l, Value::Str(_)) || matches!((&l, &r), (Value::Null, Value::Str(_))) {
        return match text_arith(op, &l, &r, right_is_literal) {
            Ok(text) => (wrap(Value::Str(text)), None),
            Err(e) => (Item::Failed, Some(e)),
        };
    }
    match (l.int(), r.int()) {
        (None, None) if !matches!(r, Value::Str(_)) => (wrap(Value::Null), None),
        (_, None) if matches!(r, Value::Str(_)) => {
            (Item::Failed, Some("an integer and a text do not go together".to_owned()))
        }
        (l, r) => match int_arith(op, l.unwrap_or(0), r.unwrap_or(0)) {
            Some(i) => (wrap(Value::Int(i)), None),
            None => (wrap(Value::Int(0)), Some("division by zero".to_owned())),
        },
    }
}

fn int_arith(op: ArithOp, l: i32, r: i32) -> Option<i32> {
    Some(match op {
        ArithOp::Add => l.wrapping_add(r),
        ArithOp::Sub => l.wrapping_sub(r),
        ArithOp::Mul => l.wrapping_mul(r),
        ArithOp::Div if r == 0 => return None,
        ArithOp::Div => l.wrapping_div(r),
        ArithOp::Mod if r == 0 => return None,
        ArithOp::Mod => l.wrapping_rem(r),
        ArithOp::And => l & r,
        ArithOp::Or => l | r,
        ArithOp::Xor => l ^ r,
        ArithOp::Shl => u32::try_from(r).ok().and_then(|n| l.checked_shl(n)).unwrap_or(0),
        ArithOp::Shr => u32::try_from(r).ok().and_then(|n| l.checked_shr(n)).unwrap_or(0),
    })
}

fn text_arith(op: ArithOp, l: &Value, r: &Value, right_is_literal: bool) -> Result<Bytes, String> {
    if right_is_literal && matches!(r, Value::Int(_)) {
        return Err("a text and an integer do not go together".to_owned());
    }
    let (left, right) = (l.text().unwrap_or_default(), r.text().unwrap_or_default());
    let bits = |f: fn(u8, u8) -> u8| -> Result<Bytes, String> {
        if left.len() != right.len() {
            return Err("bit operations on texts need equal lengths".to_owned());
        }
        Ok(left.iter().zip(right.iter()).map(|(a, b)| f(*a, *b)).collect())
    };
    match op {
        ArithOp::Add if left.len() + right.len() > TEXT_BYTES_MAX => {
            Err(format!("the text would be longer than {TEXT_BYTES_MAX} bytes"))
        }
        ArithOp::Add => Ok([left.as_ref(), right.as_ref()].concat().into()),
        ArithOp::And => bits(|a, b| a & b),
        ArithOp::Or => bits(|a, b| a | b),
        ArithOp::Xor => bits(|a, b| a ^ b),
        _ => Err("this operator does not work on texts".to_owned()),
    }
}

impl Item {
    pub(super) fn value(self) -> Option<Value> {
        match self {
            Self::Literal(v) | Self::Value(v) => Some(v),
            Self::Failed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_posix_and_ignore_case() {
        for (pattern, text, wanted) in [
            ("^\\+?[0-9]{4,18}$", "+40123", true),
            ("[\\d]", "d", true),
            ("[\\d]", "5", false),
            ("[]x]", "]", true),
            ("[^[:alpha:]&&~]", "a", false),
            ("[[]", "[", true),
            ("ABC", "xabcx", true),
            ("a.b", "a\nb", true),
            ("(408)|([56][0-9][0-9])", "503", true),
            ("a{2}b", "aab", true),
            ("a{b", "xa{by", true),
            ("\\,x", ",x", true),
        ] {
            let regex = compile_regex(pattern.as_bytes()).expect(pattern);
            assert_eq!(regex.is_match(text.as_bytes()), wanted, "{pattern} on {text}");
        }
        assert!(compile_regex(b"(").is_err());
        assert!(compile_regex(b"\xff").is_err());
        assert!(compile_regex(b"(a{1000}){1000}").is_err());
    }

    #[test]
    fn networks_contain_by_prefix() {
        let net = |addr: &str, bits| IpNet { addr: addr.parse().expect("address"), bits };
        let ip = |text: &str| text.parse::<IpAddr>().expect("address");
        assert!(net("0.0.0.0", 0).contains(ip("255.1.1.1")));
        assert!(net("10.0.0.0", 8).contains(ip("10.255.0.1")));
        assert!(!net("10.0.0.0", 8).contains(ip("11.0.0.1")));
        assert!(net("2001:db8::", 32).contains(ip("2001:db8:1::1")));
        assert!(!net("2001:db8::", 128).contains(ip("10.0.0.1")));
    }
}
