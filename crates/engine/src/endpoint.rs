//! What a module wants the binary to open for it.

use std::path::PathBuf;

/// An outside connection of a node. The binary opens it and exchanges bytes with the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A named pipe for management commands.
    Fifo(FifoOptions),
    /// How files of `sqlite://` urls are opened.
    Sqlite(SqliteOptions),
}

/// A named pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FifoOptions {
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    pub user: Option<Owner>,
    pub group: Option<Owner>,
    /// Where the pipes for answers are.
    pub reply_dir: PathBuf,
    /// Indent answers.
    pub pretty: bool,
}

/// A user or group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Id(u32),
    Name(String),
}

/// Options of every SQLite connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteOptions {
    pub busy_timeout_ms: u32,
    /// Name and value.
    pub pragmas: Vec<(String, String)>,
}
