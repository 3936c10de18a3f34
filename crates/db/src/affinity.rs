//! How SQLite converts a value to the type of its column, and how it compares.
//!
//! The in-memory database follows these rules, so that a test that passes on it says something
//! about the real file.

use std::cmp::Ordering;

use crate::Value;
use crate::value::{format_time, parse_time};

/// The affinity of a column, from its declared type (SQLite "Datatypes", section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Affinity {
    /// The affinity of a declared type such as `CHAR(64)`.
    pub fn of_type(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        let has = |part: &str| declared.contains(part);
        if has("INT") {
            Self::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") || declared.is_empty() {
            Self::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// The value as a column of this affinity stores it. A time becomes its text first.
    pub fn apply(self, value: Value) -> Value {
        let value = match value {
            Value::Time(t) => Value::Str(format_time(t)),
            // SQLite has no NaN; it stores NULL.
            Value::Float(f) if f.is_nan() => Value::Null,
            other => other,
        };
        match (self, value) {
            (Self::Text, Value::Int(i)) => Value::Str(i.to_string()),
            (Self::Text, Value::Float(f)) => Value::Str(format_float(f)),
            (Self::Integer | Self::Numeric, Value::Float(f)) => integral(f),
            (Self::Integer | Self::Numeric, Value::Str(s)) => match parse_number(&s) {
                Some(Value::Float(f)) => integral(f),
                Some(number) => number,
                None => Value::Str(s),
            },
            (Self::Real, Value::Int(i)) => Value::Float(i as f64),
            (Self::Real, Value::Str(s)) => match parse_number(&s) {
                Some(Value::Int(i)) => Value::Float(i as f64),
                Some(number) => number,
                None => Value::Str(s),
            },
            (_, value) => value,
        }
    }
}

/// The order SQLite gives stored values: NULL, numbers, text, blobs.
pub(crate) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Int(a), Value::Float(b)) => compare_mixed(*a, *b),
        (Value::Float(a), Value::Int(b)) => compare_mixed(*b, *a).reverse(),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (Value::Str(a), Value::Str(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Blob(a), Value::Blob(b)) => a.cmp(b),
        _ => class(a).cmp(&class(b)),
    }
}

/// What a reader gets for a stored value of a column with this declared type: the text of a
/// DATETIME comes back as a time.
pub(crate) fn from_storage(declared: &str, stored: Value) -> Value {
    match stored {
        Value::Str(text) if declared.eq_ignore_ascii_case("DATETIME") => {
            parse_time(&text).map_or(Value::Str(text), Value::Time)
        }
        other => other,
    }
}

fn class(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Int(_) | Value::Float(_) => 1,
        Value::Str(_) | Value::Time(_) => 2,
        Value::Blob(_) => 3,
    }
}

/// An integer against a float, exact where a conversion to float would round.
fn compare_mixed(int: i64, float: f64) -> Ordering {
    if float >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    int.cmp(&(float as i64))
        .then_with(|| 0.0.partial_cmp(&float.fract()).unwrap_or(Ordering::Equal))
}

/// A float that is a whole number is stored as one by INTEGER and NUMERIC columns.
fn integral(f: f64) -> Value {
    let whole = f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0;
    if whole { Value::Int(f as i64) } else { Value::Float(f) }
}

/// A text that is a number and nothing else, spaces around it allowed.
fn parse_number(text: &str) -> Option<Value> {
    let text = text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    if let Ok(int) = text.parse::<i64>() {
        return Some(Value::Int(int));
    }
    // Rust also reads `inf` and `nan`, which SQLite does not.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let float = text.parse::<f64>().ok().filter(|_| numeric)?;
    Some(Value::Float(float))
}

/// SQLite's `%!.15g`: up to 15 significant digits, always with a decimal point.
fn format_float(f: f64) -> String {
    if f.is_infinite() {
        return if f > 0.0 { "Inf" } else { "-Inf" }.to_owned();
    }
    if f == 0.0 {
        return "0.0".to_owned();
    }
    let scientific = format!("{f:.14e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..15).contains(&exponent) {
        let decimals = usize::try_from(14 - exponent).unwrap_or(0);
        return with_point(&format!("{f:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", with_point(mantissa), exponent.abs())
}

/// Trailing zeros away, one digit after the point kept.
fn with_point(digits: &str) -> String {
    if !digits.contains('.') {
        return format!("{digits}.0");
    }
    let short = digits.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_affinity_follows_the_declared_type() {
        let of = Affinity::of_type;
        assert_eq!(of("INTEGER"), Affinity::Integer);
        assert_eq!(of("char(64)"), Affinity::Text);
        assert_eq!(of("FLOAT(10,2)"), Affinity::Real);
        assert_eq!(of("DATETIME"), Affinity::Numeric);
        assert_eq!(of("BLOB(4096)"), Affinity::Blob);
    }

    #[test]
    fn numbers_and_texts_are_converted_to_the_type_of_the_column() {
        let int = |v: Value| Affinity::Integer.apply(v);
        assert_eq!(int("  42 ".into()), Value::Int(42));
        assert_eq!(int("4e1".into()), Value::Int(40));
        assert_eq!(int("inf".into()), Value::from("inf"));
        assert_eq!(int(Value::Float(2.5)), Value::Float(2.5));
        assert_eq!(Affinity::Text.apply(Value::Float(1.0)), Value::from("1.0"));
        assert_eq!(Affinity::Text.apply(Value::Float(1e20)), Value::from("1.0e+20"));
        assert_eq!(Affinity::Text.apply(Value::Float(0.25)), Value::from("0.25"));
        assert_eq!(Affinity::Real.apply(Value::Int(3)), Value::Float(3.0));
    }

    #[test]
    fn an_integer_and_a_float_compare_exactly() {
        let big = Value::Int(i64::MAX);
        assert_eq!(compare(&big, &Value::Float(i64::MAX as f64)), Ordering::Less);
        assert_eq!(compare(&Value::Int(1), &Value::Float(1.5)), Ordering::Less);
        assert_eq!(compare(&Value::Float(-1.5), &Value::Int(-1)), Ordering::Less);
    }
}
