//! MySQL (MariaDB) and PostgreSQL: servers that come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    is_up: Arc<AtomicBool>,
    tell: Tell,
}

impl Standing {
    fn new(tell: Tell) -> Self {
        Self { is_up: Arc::default(), tell }
    }

    pub(crate) fn connected(&self) {
        if !self.is_up.swap(true, Ordering::Relaxed) {
            (self.tell)(News::Connected);
        }
    }

    pub(crate) fn lost(&self, why: &DbError) {
        if self.is_up.swap(false, Ordering::Relaxed) {
            (self.tell)(News::Lost { why: why.message.clone() });
        }
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
    let result = link.execute(query).await;
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
