//! The thread of a connection to a SQLite file, and the end of it that tasks have: a query goes
//! there whole, and its answer comes back whole.

use tandem_db::{DbError, DbErrorKind, Query, Rows};
use tokio::sync::{mpsc, oneshot};

use crate::database::Link;
use crate::sqlite::SqliteOptions;
use crate::sqlite_conn::SqliteConn;

type Answers = Vec<Result<Rows, DbError>>;

/// A connection on its thread, which starts with the first query.
#[derive(Debug)]
pub(crate) struct SqliteLink {
    options: SqliteOptions,
    reader: bool,
    thread: Option<mpsc::Sender<Job>>,
}

#[derive(Debug)]
struct Job {
    work: Work,
    answer: oneshot::Sender<Answers>,
}

#[derive(Debug)]
enum Work {
    One(Query),
    /// In one transaction.
    Together(Vec<Query>),
    Close,
}

impl Link for SqliteLink {
    async fn execute(&mut self, query: Query) -> Result<Rows, DbError> {
        self.ask(Work::One(query)).await?.pop().unwrap_or_else(|| Err(gone()))
    }

    async fn execute_together(&mut self, queries: Vec<Query>) -> Answers {
        let asked = queries.len();
        self.ask(Work::Together(queries)).await.unwrap_or_else(|e| vec![Err(e); asked])
    }

    async fn close(&mut self) {
        if self.thread.is_some() {
            // A thread that has ended has closed its connection.
            let _ = self.ask(Work::Close).await;
            self.thread = None;
        }
    }
}

impl SqliteLink {
    pub(crate) fn writer(options: SqliteOptions) -> Self {
        Self { options, reader: false, thread: None }
    }

    /// A connection that refuses to write.
    pub(crate) fn reader(options: SqliteOptions) -> Self {
        Self { options, reader: true, thread: None }
    }

    async fn ask(&mut self, work: Work) -> Result<Answers, DbError> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => self.start()?,
        };
        let (answer, answered) = oneshot::channel();
        thread.send(Job { work, answer }).await.map_err(|_| gone())?;
        let answers = answered.await.map_err(|_| gone())?;
        self.thread = Some(thread);
        Ok(answers)
    }

    fn start(&self) -> Result<mpsc::Sender<Job>, DbError> {
        let connection = SqliteConn::new(self.options.clone(), self.reader);
        // One at a time: who asks waits for the answer.
        let (thread, jobs) = mpsc::channel(1);
        let started = std::thread::Builder::new()
            .name("sqlite".into())
            .spawn(move || serve(connection, jobs));
        let failed = |e| format!("{}: its thread does not start: {e}", self.options.path.display());
        started.map_err(|e| DbError::new(DbErrorKind::Unavailable, failed(e)))?;
        Ok(thread)
    }
}

fn serve(mut connection: SqliteConn, mut jobs: mpsc::Receiver<Job>) {
    while let Some(Job { work, answer }) = jobs.blocking_recv() {
        let answers = match work {
            Work::One(query) => vec![connection.execute(&query)],
            Work::Together(queries) => connection.execute_together(&queries),
            Work::Close => {
                drop(connection);
                // Nobody needs to hear of it.
                let _ = answer.send(Vec::new());
                return;
            }
        };
        // Who does not wait any more has lost interest, not the connection.
        let _ = answer.send(answers);
    }
}

/// The thread is not there any more; the next query starts another one.
fn gone() -> DbError {
    DbError::new(DbErrorKind::Unavailable, "the thread of the database has ended")
}
