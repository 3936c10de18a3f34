//! SQLite: files, each with one writer and a few readers per process.

use std::path::PathBuf;

use tandem_db::schema::{Table, create_query};
use tandem_db::{DbError, DbErrorKind, Dialect, Query, Rows};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::database::{Completion, Database, Link as _};
use crate::sqlite_conn::SqliteConn;
use crate::sqlite_extensions::Extension;
use crate::sqlite_link::SqliteLink;

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    pub path: PathBuf,
    /// Creates the file when it does not exist.
    pub create: bool,
    /// How long a query waits for another process that writes, in milliseconds.
    pub busy_timeout_ms: u64,
    /// `PRAGMA name = value` for each new connection, after Tandem's own.
    pub pragmas: Vec<(String, String)>,
    /// Libraries that each new connection loads first.
    pub extensions: Vec<Extension>,
    /// Connections that read, 1 at least.
    pub readers: usize,
    /// Queries that may wait, for the writer and for the readers each.
    pub queue_max: usize,
    /// Rows that one answer may have.
    pub rows_max: usize,
}

impl SqliteOptions {
    /// The defaults for a file that exists.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            create: false,
            busy_timeout_ms: 500,
            pragmas: Vec::new(),
            extensions: Vec::new(),
            readers: 2,
            queue_max: 4096,
            rows_max: 1_000_000,
        }
    }
}

/// Opens databases of SQLite.
#[derive(Debug)]
pub struct Sqlite;

impl Sqlite {
    /// Starts the tasks of a database on this runtime. The file is opened by the first query;
    /// ask [`check`] before, to hear at start-up that it cannot be. A consumer that does not take
    /// `completions` stops the queries.
    pub fn spawn(
        runtime: &Handle,
        options: SqliteOptions,
        completions: mpsc::Sender<Completion>,
    ) -> Database {
        let readers: Vec<SqliteLink> =
            (0..options.readers.max(1)).map(|_| SqliteLink::reader(options.clone())).collect();
        let queue_max = options.queue_max;
        Database::start(runtime, SqliteLink::writer(options), readers, queue_max, completions)
    }
}

/// Opens the database once and closes it, for start-up: why it can only be read, if that is so.
///
/// # Errors
/// The reason why it cannot be used.
pub async fn check(options: &SqliteOptions) -> Result<Option<DbError>, DbError> {
    let connection = SqliteConn::new(options.clone(), false);
    let checked = tokio::task::spawn_blocking(|| connection.check()).await;
    checked.unwrap_or_else(|e| Err(DbError::new(DbErrorKind::Unavailable, e.to_string())))
}

/// Answers one query over a connection of its own.
///
/// # Errors
/// What SQLite says, or why the file cannot be opened.
pub async fn ask(options: &SqliteOptions, query: &Query) -> Result<Rows, DbError> {
    let mut link = SqliteLink::writer(options.clone());
    let result = link.execute(query.clone()).await;
    link.close().await;
    result
}

/// Creates what is missing of these tables and their rows in the `version` table.
pub async fn create_schema(options: &SqliteOptions, tables: &[&Table]) -> Result<(), DbError> {
    ask(options, &create_query(Dialect::SQLITE, tables)?).await.map(drop)
}
