//! What can be wrong with bytes of a peer, and with what we want to send.

use thiserror::Error;

/// A packet or a record that cannot be understood. It says which field, so that the log line
/// leads to the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The packet ends inside or before this field.
    #[error("the packet ends inside {0}")]
    Short(&'static str),
    /// The field has a value outside its range.
    #[error("{field} has the impossible value {value}")]
    Value { field: &'static str, value: i64 },
    /// The capability has no packet of this type.
    #[error("unknown packet type {0}")]
    Type(u32),
    /// The payload format is of a version that is not read.
    #[error("payload version {0} is not supported")]
    Version(u16),
    /// The frame itself is wrong.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// A stream that is not BIN. There is no resynchronisation: the connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("wrong packet marker")]
    Marker,
    #[error("packet length {0} is outside 17..=65535")]
    Length(u32),
}

/// A packet that would exceed the largest size a peer accepts. It must be dropped as a whole:
/// leaving a field out would shift everything behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the packet or one of its fields is too big to send")]
pub struct TooBig;
