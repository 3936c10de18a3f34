//! Values as SQL literals, for servers that are asked with whole texts.
//!
//! A literal in quotes has no type of its own: the server gives it the one of the column, which is
//! what makes an integer fit a text column and a text a TIMESTAMP. Nothing here depends on a
//! setting of the server: what could be read in two ways is written as hexadecimal digits (MySQL)
//! or as an `E''` text (PostgreSQL).

use std::fmt::Write as _;

use crate::value::format_time;
use crate::{Backend, DbError, DbErrorKind, Value};

/// Appends the literal of a value.
///
/// # Errors
/// A text with a NUL byte, which PostgreSQL cannot hold.
pub(crate) fn push(out: &mut String, backend: Backend, value: &Value) -> Result<(), DbError> {
    // Writing to a String does not fail.
    match value {
        Value::Null => out.push_str("NULL"),
        Value::Int(n) if backend == Backend::MySql => drop(write!(out, "{n}")),
        Value::Int(n) => drop(write!(out, "'{n}'")),
        // No database has a NaN for everybody.
        Value::Float(f) if !f.is_finite() => out.push_str("NULL"),
        Value::Float(f) if backend == Backend::MySql => drop(write!(out, "{f:?}")),
        Value::Float(f) => drop(write!(out, "'{f:?}'")),
        Value::Time(t) => drop(write!(out, "'{}'", format_time(*t))),
        Value::Str(text) => return push_text(out, backend, text),
        Value::Blob(bytes) if backend == Backend::MySql => {
            out.push_str("x'");
            push_hex(out, bytes);
            out.push('\'');
        }
        Value::Blob(bytes) => {
            out.push_str("decode('");
            push_hex(out, bytes);
            out.push_str("','hex')");
        }
    }
    Ok(())
}

fn push_text(out: &mut String, backend: Backend, text: &str) -> Result<(), DbError> {
    let is_plain = |b: u8| (b' '..=b'~').contains(&b) && !matches!(b, b'\'' | b'\\');
    if text.bytes().all(is_plain) {
        out.push('\'');
        out.push_str(text);
        out.push('\'');
        return Ok(());
    }
    if backend == Backend::MySql {
        out.push_str("_utf8mb4 x'");
        push_hex(out, text.as_bytes());
        out.push('\'');
        return Ok(());
    }
    if text.contains('\0') {
        let message = "a text for PostgreSQL cannot hold a NUL byte";
        return Err(DbError::new(DbErrorKind::Malformed, message));
    }
    out.push_str("E'");
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            other => out.push(other),
        }
    }
    out.push('\'');
    Ok(())
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn literal(backend: Backend, value: impl Into<Value>) -> String {
        let mut out = String::new();
        push(&mut out, backend, &value.into()).unwrap();
        out
    }

    #[test]
    fn each_server_gets_what_it_reads() {
        assert_eq!(literal(Backend::MySql, 5), "5");
        assert_eq!(literal(Backend::Postgres, 5), "'5'");
        assert_eq!(literal(Backend::MySql, "sip:a@b;c=d"), "'sip:a@b;c=d'");
        assert_eq!(literal(Backend::MySql, "'"), "_utf8mb4 x'27'");
        assert_eq!(literal(Backend::Postgres, "a'\\"), "E'a''\\\\'");
        assert_eq!(literal(Backend::Postgres, Value::Blob("ab".into())), "decode('6162','hex')");
        let mut out = String::new();
        assert!(push(&mut out, Backend::Postgres, &Value::from("a\0")).is_err());
    }

    proptest! {
        #[test]
        fn no_text_ends_its_quotes(text in "[a'\\\\\"\0é%; -]{0,12}") {
            let mysql = literal(Backend::MySql, text.as_str());
            let inner = mysql.trim_start_matches("_utf8mb4 x");
            prop_assert_eq!(inner.matches('\'').count(), 2, "{}", mysql);
            prop_assert!(!mysql.contains('\\'));
            let mut out = String::new();
            if push(&mut out, Backend::Postgres, &Value::Str(text.clone())).is_ok() {
                let (escapes, quoted) = match out.strip_prefix('E') {
                    Some(quoted) => (true, quoted),
                    None => (false, out.as_str()),
                };
                prop_assert_eq!(read_back(quoted, escapes), Some(text));
            }
        }
    }

    /// What a server reads of a quoted text; `None` if it ends before its end.
    fn read_back(quoted: &str, escapes: bool) -> Option<String> {
        let mut chars = quoted.strip_prefix('\'')?.strip_suffix('\'')?.chars();
        let mut text = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\'' => text.push(chars.next().filter(|c| *c == '\'')?),
                '\\' if escapes => text.push(chars.next()?),
                other => text.push(other),
            }
        }
        Some(text)
    }
}
