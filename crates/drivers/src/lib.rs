//! What answers an effect that is not a packet: databases, management over FIFO, datagrams and HTTP,
//! state files, names, notifications of events, the clock.

pub mod client;
pub mod clock;
pub mod database;
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
pub mod spool;
pub mod sql_server;
mod sql_server_conn;
mod sql_values;
pub mod sqlite;
mod sqlite_conn;
pub mod sqlite_extensions;
mod sqlite_link;
pub mod tls;

pub use clock::{Clock, os_seed, zone_name};
pub use fifo::{Fifo, FifoError, FifoOptions, FifoReply, FifoRequest};

pub use database::{Completion, Database};
pub use sqlite::{Sqlite, SqliteOptions};
