//! SQLite: one writer and a few readers per database and process, behind a bounded queue.
//!
//! Writes that wait together are committed together, each in its own savepoint, so that one
//! fsync serves many. A lost database is opened again by the next query.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use tandem_db::schema::{Table, create_query};
use tandem_db::{DbError, DbErrorKind, Dialect, Query, Rows};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::sqlite_conn::Link;

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
            readers: 2,
            queue_max: 4096,
            rows_max: 1_000_000,
        }
    }
}

/// The answer to a submitted query.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    pub id: u64,
    pub result: Result<Rows, DbError>,
}

/// An open database. Queries go in from any thread, without waiting.
#[derive(Debug)]
pub struct Sqlite {
    writes: mpsc::Sender<Job>,
    reads: mpsc::Sender<Job>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    id: u64,
    query: Query,
}

impl Sqlite {
    /// Starts the tasks of a database on this runtime. The file is opened by the first query;
    /// ask [`check`] before, to hear at start-up that it cannot be. A consumer that does not take
    /// `completions` stops the queries.
    pub fn spawn(
        runtime: &Handle,
        options: SqliteOptions,
        completions: mpsc::Sender<Completion>,
    ) -> Self {
        let (writes, write_jobs) = mpsc::channel(options.queue_max.max(1));
        let (reads, read_jobs) = mpsc::channel(options.queue_max.max(1));
        let read_jobs = Arc::new(Mutex::new(read_jobs));
        let mut tasks = vec![runtime.spawn(write(
            Link::writer(options.clone()),
            write_jobs,
            completions.clone(),
        ))];
        for _ in 0..options.readers.max(1) {
            let link = Link::reader(options.clone());
            tasks.push(runtime.spawn(read(link, read_jobs.clone(), completions.clone())));
        }
        Self { writes, reads, tasks }
    }

    /// Asks a query; its completion carries `id`. Writes happen in the order they were
    /// submitted. A read does not wait for writes submitted before it, but sees those whose
    /// completion was sent. A full queue is [`DbErrorKind::Busy`] at once, without completion.
    pub fn submit(&self, id: u64, query: Query) -> Result<(), DbError> {
        let queue = if query.is_read() { &self.reads } else { &self.writes };
        queue.try_send(Job { id, query }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                DbError::new(DbErrorKind::Busy, "too many queries wait for the database")
            }
            mpsc::error::TrySendError::Closed(_) => {
                DbError::new(DbErrorKind::Unavailable, "the database is closed")
            }
        })
    }

    /// Answers what was submitted and closes the database. The completions must be taken
    /// meanwhile.
    pub async fn close(self) {
        drop((self.writes, self.reads));
        for task in self.tasks {
            // A task that panicked has nothing more to close.
            let _ = task.await;
        }
    }
}

/// Opens the database once and closes it: the reason why it cannot be used, for start-up.
pub async fn check(options: &SqliteOptions) -> Result<(), DbError> {
    let mut link = Link::writer(options.clone());
    let sql = "SELECT name FROM sqlite_master LIMIT 1".to_owned();
    let result = link.execute(&Query::Raw { sql }).await;
    link.close().await;
    result.map(drop)
}

/// Creates what is missing of these tables and their rows in the `version` table.
pub async fn create_schema(options: &SqliteOptions, tables: &[&Table]) -> Result<(), DbError> {
    let query = create_query(Dialect::SQLITE, tables)?;
    let mut link = Link::writer(options.clone());
    let result = link.execute(&query).await;
    link.close().await;
    result.map(drop)
}

async fn read(
    mut link: Link,
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    completions: mpsc::Sender<Completion>,
) {
    loop {
        let job = jobs.lock().await.recv().await;
        let Some(Job { id, query }) = job else { break };
        let result = link.execute(&query).await;
        if completions.send(Completion { id, result }).await.is_err() {
            break;
        }
    }
    link.close().await;
}

async fn write(
    mut link: Link,
    mut jobs: mpsc::Receiver<Job>,
    completions: mpsc::Sender<Completion>,
) {
    let mut waiting: VecDeque<Job> = VecDeque::new();
    'jobs: loop {
        if waiting.is_empty() {
            let Some(job) = jobs.recv().await else { break };
            waiting.push_back(job);
        }
        while waiting.len() < GROUP_MAX
            && let Ok(job) = jobs.try_recv()
        {
            waiting.push_back(job);
        }
        let together = waiting.iter().take_while(|job| can_share(&job.query)).count();
        let group: Vec<Job> = waiting.drain(..together.max(1)).collect();
        let results = match group.as_slice() {
            [job] => vec![link.execute(&job.query).await],
            jobs => link.execute_together(jobs.iter().map(|job| &job.query)).await,
        };
        for (job, result) in group.into_iter().zip(results) {
            if completions.send(Completion { id: job.id, result }).await.is_err() {
                break 'jobs;
            }
        }
    }
    link.close().await;
}

/// SQL text may hold a BEGIN or a COMMIT of its own, so it gets a transaction for itself.
fn can_share(query: &Query) -> bool {
    match query {
        Query::Raw { .. } => false,
        Query::Batch(parts) => parts.iter().all(can_share),
        _ => true,
    }
}

/// Writes that are committed together.
const GROUP_MAX: usize = 64;
