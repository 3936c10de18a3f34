//! What can go wrong with a query.

use thiserror::Error;

/// A failed query: the kind decides what the caller does, the message tells the operator why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{kind}: {message}")]
pub struct DbError {
    pub kind: DbErrorKind,
    pub message: String,
}

/// The kinds a caller tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum DbErrorKind {
    /// The queue of the driver is full, or another process held the lock for the whole busy
    /// timeout. Nothing was done; asking again later may work.
    #[error("database busy")]
    Busy,
    /// The database cannot be opened or was lost; the driver opens it again by itself.
    #[error("database unavailable")]
    Unavailable,
    /// A unique key or a NOT NULL refused the change. For a row with an identity of its own a
    /// duplicate means "already written".
    #[error("constraint violated")]
    Constraint,
    /// No such table or column.
    #[error("no such table or column")]
    Missing,
    /// The query itself is wrong: a name that is not an identifier, malformed SQL.
    #[error("malformed query")]
    Malformed,
    /// The answer has more rows than the driver was told to hold.
    #[error("too many rows")]
    TooManyRows,
    /// Anything else the database said.
    #[error("database error")]
    Other,
}

impl DbError {
    pub fn new(kind: DbErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
