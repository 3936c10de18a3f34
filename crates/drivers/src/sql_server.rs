//! MySQL (MariaDB) and PostgreSQL: servers that come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tandem_db::schema::{Table, create_query};
use tandem_db::{Backend, DbError, DbUrl, Dialect, Query, Rows};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::database::{Completion, Database, Link as _};
use crate::sql_server_conn::ServerLink;

/// How a database on a server is used.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub url: DbUrl,
    /// How long a connect or a query may take.
    pub timeout_ms: u64,
    /// Attempts to connect before a query fails, 1 at least.
    pub connects_max: u32,
    /// Attempts at a query whose connection is lost, 1 at least.
    pub attempts_max: u32,
    /// A query that takes longer is reported; 0: none.
    pub slow_us: u64,
    /// Connections that read, 1 at least.
    pub readers: usize,
    /// Queries that may wait, for the writer and for the readers each.
    pub queue_max: usize,
    /// Rows that one answer may have.
    pub rows_max: usize,
}

impl ServerOptions {
    pub fn new(url: DbUrl) -> Self {
        Self {
            url,
            timeout_ms: 5_000,
            connects_max: 1,
            attempts_max: 2,
            slow_us: 0,
            readers: 4,
            queue_max: 4096,
            rows_max: 1_000_000,
        }
    }
}

/// What a server does beside answering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Connected,
    Lost { why: String },
    Slow { us: u64, sql: String },
}

/// Where news go. Called on the runtime's thread; it must not wait.
pub type Tell = Arc<dyn Fn(News) + Send + Sync>;

/// Whether a server is connected, as all connections to it see it together.
#[derive(Clone)]
pub(crate) struct Standing {
    /// How often it came and went: odd while it is there.
    turn: Arc<AtomicU64>,
    tell: Tell,
}

impl Standing {
    fn new(tell: Tell) -> Self {
        Self { turn: Arc::default(), tell }
    }

    /// A connection is open; its turn.
    pub(crate) fn connected(&self) -> u64 {
        let turn = self.turn();
        if turn.is_multiple_of(2) && self.step(turn) {
            (self.tell)(News::Connected);
        }
        self.turn()
    }

    /// A connection of this turn is gone, or none can be opened. One of an earlier turn says
    /// nothing of the server.
    pub(crate) fn lost(&self, turn: u64, why: &DbError) {
        if !turn.is_multiple_of(2) && self.step(turn) {
            (self.tell)(News::Lost { why: why.message.clone() });
        }
    }

    pub(crate) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    fn step(&self, from: u64) -> bool {
        let changed =
            self.turn.compare_exchange(from, from + 1, Ordering::Relaxed, Ordering::Relaxed);
        changed.is_ok()
    }

    pub(crate) fn slow(&self, us: u64, sql: &str) {
        let sql = sql.chars().take(SQL_SHOWN_MAX).collect();
        (self.tell)(News::Slow { us, sql });
    }
}

/// Characters of a slow query that are shown.
const SQL_SHOWN_MAX: usize = 500;

/// Opens databases on servers.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Starts the tasks of a database. The first query connects. A consumer that does not take
    /// `completions` stops the queries.
    pub fn spawn(
        runtime: &Handle,
        options: ServerOptions,
        completions: mpsc::Sender<Completion>,
        tell: Tell,
    ) -> Database {
        let standing = Standing::new(tell);
        let link = || ServerLink::new(options.clone(), standing.clone());
        let readers: Vec<ServerLink> = (0..options.readers.max(1)).map(|_| link()).collect();
        Database::start(runtime, link(), readers, options.queue_max, completions)
    }
}

/// Whether the server is there and does not want this user or has no such database.
pub fn is_refusal(error: &DbError) -> bool {
    let words = ["denied", "password", "authentication", "nknown database", "does not exist"];
    words.iter().any(|word| error.message.contains(word))
}

/// Answers one query over a connection of its own.
///
/// # Errors
/// What the server says, or why it cannot be reached.
pub async fn ask(options: &ServerOptions, query: &Query) -> Result<Rows, DbError> {
    let mut link = ServerLink::new(options.clone(), Standing::new(Arc::new(|_| {})));
    let result = link.execute(query.clone()).await;
    link.close().await;
    result
}

/// Connects once: why the database cannot be used, for start-up.
///
/// # Errors
/// As [`ask`].
pub async fn check(options: &ServerOptions) -> Result<(), DbError> {
    ask(options, &Query::Raw { sql: "SELECT 1".into() }).await.map(drop)
}

/// Creates what is missing of these tables and their rows in the `version` table, and the
/// database itself if it is missing and the user may.
///
/// # Errors
/// As [`ask`].
pub async fn create_schema(options: &ServerOptions, tables: &[&Table]) -> Result<(), DbError> {
    let dialect = dialect(options.url.backend);
    if check(options).await.is_err() {
        let mut server = options.clone();
        let name = std::mem::take(&mut server.url.database);
        let quoted = dialect.quoted(&name)?;
        let sql = match options.url.backend {
            Backend::MySql => format!("CREATE DATABASE IF NOT EXISTS {quoted} CHARSET utf8mb4"),
            _ => {
                server.url.database = "postgres".into();
                format!("CREATE DATABASE {quoted}")
            }
        };
        // What is wrong shows with the tables, in the words of the server.
        let _ = ask(&server, &Query::Raw { sql }).await;
    }
    ask(options, &create_query(dialect, tables)?).await.map(drop)
}

pub(crate) fn dialect(backend: Backend) -> Dialect {
    match backend {
        Backend::Sqlite => Dialect::SQLITE,
        Backend::MySql => Dialect::MYSQL,
        Backend::Postgres => Dialect::POSTGRES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tandem_db::DbErrorKind;

    #[test]
    fn a_server_that_comes_and_goes_is_told_once_each_time() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let news = Arc::clone(&told);
        let standing = Standing::new(Arc::new(move |of| news.lock().unwrap().push(of)));
        let why = DbError::new(DbErrorKind::Unavailable, "gone");
        standing.lost(standing.turn(), &why);
        let first = standing.connected();
        assert_eq!(standing.connected(), first);
        standing.lost(first, &why);
        standing.lost(first, &why);
        let second = standing.connected();
        standing.lost(first, &why);
        assert_eq!(standing.turn(), second, "an older connection says nothing");
        let lost = News::Lost { why: "gone".into() };
        assert_eq!(*told.lock().unwrap(), [News::Connected, lost, News::Connected]);
    }
}
