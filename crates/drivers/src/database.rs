//! A database behind bounded queues: one connection that writes and a few that read.
//!
//! Writes that wait together are committed together, so that one fsync serves many. A lost
//! database is opened again by the next query.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use tandem_db::{DbError, DbErrorKind, Query, Rows};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

/// The answer to a submitted query.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    pub id: u64,
    pub result: Result<Rows, DbError>,
}

/// An open database. Queries go in from any thread, without waiting.
#[derive(Debug)]
pub struct Database {
    writes: mpsc::Sender<Job>,
    reads: mpsc::Sender<Job>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    id: u64,
    query: Query,
}

/// A connection that comes back by itself.
pub(crate) trait Link: Send + 'static {
    /// Answers one query.
    fn execute(&mut self, query: Query) -> impl Future<Output = Result<Rows, DbError>> + Send;

    /// Answers several queries in one transaction: one that fails does not undo the others. When
    /// the transaction itself fails, all of them did.
    fn execute_together(
        &mut self,
        queries: Vec<Query>,
    ) -> impl Future<Output = Vec<Result<Rows, DbError>>> + Send;

    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

impl Database {
    /// Starts the tasks of a database. `queue_max` queries may wait for the writer and for the
    /// readers each. A consumer that does not take `completions` stops the queries.
    pub(crate) fn start<L: Link>(
        runtime: &Handle,
        writer: L,
        readers: impl IntoIterator<Item = L>,
        queue_max: usize,
        completions: mpsc::Sender<Completion>,
    ) -> Self {
        let (writes, write_jobs) = mpsc::channel(queue_max.max(1));
        let (reads, read_jobs) = mpsc::channel(queue_max.max(1));
        let read_jobs = Arc::new(Mutex::new(read_jobs));
        let mut tasks = vec![runtime.spawn(write(writer, write_jobs, completions.clone()))];
        for link in readers {
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

async fn read<L: Link>(
    mut link: L,
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    completions: mpsc::Sender<Completion>,
) {
    loop {
        let job = jobs.lock().await.recv().await;
        let Some(Job { id, query }) = job else { break };
        let result = link.execute(query).await;
        if completions.send(Completion { id, result }).await.is_err() {
            break;
        }
    }
    link.close().await;
}

async fn write<L: Link>(
    mut link: L,
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
        let group = waiting.drain(..together.max(1)).map(|job| (job.id, job.query));
        let (ids, mut queries): (Vec<u64>, Vec<Query>) = group.unzip();
        let results = match queries.pop() {
            Some(only) if queries.is_empty() => vec![link.execute(only).await],
            last => {
                queries.extend(last);
                link.execute_together(queries).await
            }
        };
        for (id, result) in ids.into_iter().zip(results) {
            if completions.send(Completion { id, result }).await.is_err() {
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
