//! What answers an effect that is not a packet: SQLite, the MI FIFO, state files, notifications of
//! events, the clock.

pub mod clock;
pub mod fifo;
mod fifo_parse;
pub mod files;
pub mod notify;
pub mod sqlite;
mod sqlite_conn;

pub use clock::{Clock, os_seed};
pub use fifo::{Fifo, FifoError, FifoOptions, FifoReply, FifoRequest};

pub use sqlite::{Completion, Sqlite, SqliteOptions};
