//! What servers answer, as values and as kinds of errors.

use bytes::Bytes;
use sqlx::error::ErrorKind;
use sqlx::mysql::{MySqlDatabaseError, MySqlRow, MySqlValueRef};
use sqlx::postgres::{PgRow, PgValueRef};
use sqlx::{Decode, Row, TypeInfo, ValueRef};
use tandem_db::{DbError, DbErrorKind, Value, read_back};

/// A row of a server whose values came as texts.
pub(crate) trait FromServer {
    fn values(&self) -> Result<Vec<Value>, DbError>;
}

impl FromServer for MySqlRow {
    fn values(&self) -> Result<Vec<Value>, DbError> {
        let one = |i| mysql(self.try_get_raw(i).map_err(|e| db_error(&e))?);
        (0..self.len()).map(one).collect()
    }
}

impl FromServer for PgRow {
    fn values(&self) -> Result<Vec<Value>, DbError> {
        let one = |i| postgres(self.try_get_raw(i).map_err(|e| db_error(&e))?);
        (0..self.len()).map(one).collect()
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Integer,
    Float,
    Bool,
    Time,
    Bytes,
    /// A text that is padded to its length.
    Padded,
    Text,
}

impl Held {
    fn by_mysql(name: &str) -> Self {
        match name {
            n if n.contains("INT") || matches!(n, "BOOLEAN" | "YEAR") => Self::Integer,
            "FLOAT" | "DOUBLE" | "DECIMAL" => Self::Float,
            "DATETIME" | "TIMESTAMP" => Self::Time,
            n if n.contains("BLOB") || n.contains("BINARY") => Self::Bytes,
            _ => Self::Text,
        }
    }

    fn by_postgres(name: &str) -> Self {
        match name {
            "INT2" | "INT4" | "INT8" | "OID" => Self::Integer,
            "FLOAT4" | "FLOAT8" | "NUMERIC" => Self::Float,
            "BOOL" => Self::Bool,
            "TIMESTAMP" | "TIMESTAMPTZ" => Self::Time,
            "BYTEA" => Self::Bytes,
            "CHAR" | "BPCHAR" => Self::Padded,
            _ => Self::Text,
        }
    }
}

fn mysql(raw: MySqlValueRef<'_>) -> Result<Value, DbError> {
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let held = Held::by_mysql(raw.type_info().name());
    let bytes = <&[u8] as Decode<'_, sqlx::MySql>>::decode(raw).map_err(unreadable)?;
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Ok(Value::Blob(Bytes::copy_from_slice(bytes)));
    };
    Ok(match held {
        Held::Integer | Held::Bool => integer(text),
        Held::Float => float(text),
        Held::Time => time(text),
        Held::Bytes => Value::Blob(Bytes::copy_from_slice(bytes)),
        Held::Padded | Held::Text => Value::Str(text.to_owned()),
    })
}

fn postgres(raw: PgValueRef<'_>) -> Result<Value, DbError> {
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let held = Held::by_postgres(raw.type_info().name());
    let text = raw.as_str().map_err(unreadable)?;
    Ok(match held {
        Held::Integer => integer(text),
        Held::Float => float(text),
        Held::Bool => Value::Int(i64::from(text == "t")),
        Held::Time => time(text),
        Held::Bytes => hex(text).map_or_else(|| Value::Str(text.to_owned()), Value::Blob),
        Held::Padded => Value::Str(text.trim_end_matches(' ').to_owned()),
        Held::Text => Value::Str(text.to_owned()),
    })
}

fn integer(text: &str) -> Value {
    text.parse().map_or_else(|_| Value::Str(text.to_owned()), Value::Int)
}

fn float(text: &str) -> Value {
    text.parse().map_or_else(|_| Value::Str(text.to_owned()), Value::Float)
}

/// `YYYY-MM-DD HH:MM:SS`, with what may follow: a fraction, a zone.
fn time(text: &str) -> Value {
    let seconds = text.get(..19).unwrap_or(text);
    read_back("DATETIME", Value::Str(seconds.to_owned()))
}

/// `\x` and digits.
fn hex(text: &str) -> Option<Bytes> {
    let digits = text.strip_prefix("\\x")?;
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn unreadable(error: sqlx::error::BoxDynError) -> DbError {
    DbError::new(DbErrorKind::Other, error.to_string())
}

/// What went wrong, by the numbers of the servers.
pub(crate) fn db_error(error: &sqlx::Error) -> DbError {
    let sqlx::Error::Database(database) = error else {
        return DbError::new(DbErrorKind::Unavailable, error.to_string());
    };
    let state = database.code().unwrap_or_default().into_owned();
    let number = database.try_downcast_ref::<MySqlDatabaseError>().map(|e| e.number());
    let kind = match (database.kind(), number) {
        (
            ErrorKind::UniqueViolation
            | ErrorKind::NotNullViolation
            | ErrorKind::CheckViolation
            | ErrorKind::ForeignKeyViolation,
            _,
        ) => DbErrorKind::Constraint,
        (_, Some(number)) => mysql_kind(number, &state),
        (_, None) => postgres_kind(&state),
    };
    DbError::new(kind, database.message())
}

fn mysql_kind(number: u16, state: &str) -> DbErrorKind {
    match number {
        // Lock wait, deadlock.
        1205 | 1213 => DbErrorKind::Busy,
        // The disk is full, or takes no more: files, tables, the storage engine. Or the server is
        // read-only, as one is that waits for its turn.
        1021 | 1026 | 1030 | 1037 | 1038 | 1114 | 1290 | 1792 | 1836 => DbErrorKind::Busy,
        // Too many connections, shutdown, killed, out of resources, access, no such database.
        1040 | 1041 | 1044 | 1045 | 1049 | 1053 | 1129 | 1130 | 1203 | 1317 | 1927 => {
            DbErrorKind::Unavailable
        }
        // Not null without a default.
        1364 => DbErrorKind::Constraint,
        1054 | 1051 | 1146 => DbErrorKind::Missing,
        _ if state.starts_with("42") => DbErrorKind::Malformed,
        _ if state.starts_with("08") => DbErrorKind::Unavailable,
        _ => DbErrorKind::Other,
    }
}

fn postgres_kind(state: &str) -> DbErrorKind {
    match state {
        "42P01" | "42703" => DbErrorKind::Missing,
        // The last: read-only, as a server is that waits for its turn.
        "40001" | "40P01" | "55P03" | "25006" => DbErrorKind::Busy,
        s if s.starts_with("42") => DbErrorKind::Malformed,
        // Connections, resources (a full disk), the operator, the system, authorization, no such
        // database.
        s if ["08", "53", "57", "58", "28", "3D"].iter().any(|class| s.starts_with(class)) => {
            DbErrorKind::Unavailable
        }
        _ => DbErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_what_their_column_holds() {
        assert_eq!(integer("-5"), Value::Int(-5));
        assert_eq!(time("1970-01-01 00:00:05.25+00"), Value::Time(5));
        assert_eq!(hex("\\x6162"), Some(Bytes::from_static(b"ab")));
        assert_eq!((hex("6162"), hex("\\x616")), (None, None));
    }
}
