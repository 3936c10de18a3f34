//! What answers an effect that is not a packet: SQLite, management over FIFO, datagrams and HTTP,
//! state files, names, notifications of events, the clock.

pub mod clock;
pub mod dns;
pub mod fifo;
mod fifo_parse;
pub mod files;
pub mod hosts;
pub mod http;
pub mod memory;
pub mod mi_datagram;
pub mod notify;
pub mod privileges;
pub mod programs;
pub mod sqlite;
mod sqlite_conn;

pub use clock::{Clock, os_seed};
pub use fifo::{Fifo, FifoError, FifoOptions, FifoReply, FifoRequest};

pub use sqlite::{Completion, Sqlite, SqliteOptions};
