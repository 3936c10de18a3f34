//! One connection to a server: opened when needed, thrown away when broken or silent.
//!
//! Queries go as texts with their values in them, and answers come as texts: one round trip each,
//! and the server gives every literal the type of its column.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Either, Row};
use tandem_db::{Backend, DbError, DbErrorKind, Query, Rows, TlsVerify};
use tokio::time::{Instant, timeout};

use crate::database::Link;
use crate::sql_server::{ServerOptions, Standing, dialect};
use crate::sql_values::{FromServer as _, db_error};

/// A connection that comes back by itself.
pub(crate) struct ServerLink {
    options: ServerOptions,
    standing: Standing,
    /// The turn of the server in which the connection was opened.
    turn: u64,
    connection: Option<Wire>,
    /// After a connect that failed nothing is tried for a while: queries fail at once.
    rest: Option<Instant>,
}

enum Wire {
    MySql(Box<MySqlConnection>),
    Postgres(Box<PgConnection>),
}

/// How long a server that cannot be reached is left alone.
const REST: Duration = Duration::from_millis(500);
/// Where the server of this machine listens for those that name no other.
const MYSQL_SOCKET: &str = "/run/mysqld/mysqld.sock";

impl ServerLink {
    pub(crate) fn new(options: ServerOptions, standing: Standing) -> Self {
        Self { options, standing, turn: 0, connection: None, rest: None }
    }

    async fn connected(&mut self) -> Result<&mut Wire, DbError> {
        if self.connection.is_none() {
            if self.rest.is_some_and(|until| Instant::now() < until) {
                let text = format!("{} could not be reached a moment ago", self.options.url);
                return Err(DbError::new(DbErrorKind::Unavailable, text));
            }
            self.rest = None;
            let opened = self.open().await.inspect_err(|error| {
                self.standing.lost(self.standing.turn(), error);
                self.rest = Some(Instant::now() + REST);
            })?;
            self.turn = self.standing.connected();
            self.connection = Some(opened);
        }
        let gone = || DbError::new(DbErrorKind::Unavailable, "the connection is gone");
        self.connection.as_mut().ok_or_else(gone)
    }

    async fn open(&self) -> Result<Wire, DbError> {
        let mut last = DbError::new(DbErrorKind::Unavailable, "it was not tried");
        for _ in 0..self.options.connects_max.max(1) {
            match self.in_time(Wire::open(&self.options)).await {
                Ok(wire) => return Ok(wire),
                Err(error) => last = error,
            }
        }
        let message = format!("{}: {}", self.options.url, last.message);
        Err(DbError::new(last.kind, message))
    }

    async fn in_time<T>(
        &self,
        what: impl Future<Output = Result<T, DbError>>,
    ) -> Result<T, DbError> {
        let limit = Duration::from_millis(self.options.timeout_ms.max(1));
        match timeout(limit, what).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("no answer within {} ms", self.options.timeout_ms);
                Err(DbError::new(DbErrorKind::Unavailable, text))
            }
        }
    }

    /// Runs a text, within the time a query may take.
    async fn run(&mut self, sql: String) -> Result<Rows, DbError> {
        let (rows_max, slow_us) = (self.options.rows_max, self.options.slow_us);
        let limit = Duration::from_millis(self.options.timeout_ms.max(1));
        let shown = if slow_us > 0 { sql.clone() } else { String::new() };
        let begun = Instant::now();
        let wire = self.connected().await?;
        let result = match timeout(limit, wire.run(sql, rows_max)).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("no answer within {} ms", limit.as_millis());
                Err(DbError::new(DbErrorKind::Unavailable, text))
            }
        };
        let us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        if slow_us > 0 && us > slow_us {
            self.standing.slow(us, &shown);
        }
        // After an answer that was cut short, what is left of it would be the next one.
        let cut = |e: &DbError| e.kind == DbErrorKind::TooManyRows;
        if let Err(error) = &result
            && (error.kind == DbErrorKind::Unavailable || cut(error))
        {
            self.connection = None;
            if !cut(error) {
                self.standing.lost(self.turn, error);
            }
        }
        result
    }

    async fn single(&mut self, query: &Query) -> Result<Rows, DbError> {
        let sql = dialect(self.options.url.backend).text(query)?;
        let mut rows = self.run(sql).await?;
        if query.is_read() {
            rows.affected = 0;
        }
        if let Query::Select(select) = query
            && rows.columns.is_empty()
        {
            rows.columns = select.columns.iter().map(ToString::to_string).collect();
        }
        Ok(rows)
    }

    async fn command(&mut self, sql: &str) -> Result<(), DbError> {
        self.run(sql.to_owned()).await.map(drop)
    }

    async fn sequence(&mut self, parts: &[Query]) -> Result<Rows, DbError> {
        let (mut answer, mut affected) = (Rows::default(), 0);
        for part in parts {
            answer = self.single(part).await?;
            affected += answer.affected;
        }
        answer.affected = affected;
        Ok(answer)
    }

    async fn transaction(&mut self, parts: &[Query]) -> Result<Rows, DbError> {
        self.command("BEGIN").await?;
        let rows = match self.sequence(parts).await {
            Ok(rows) => rows,
            Err(error) => {
                self.roll_back().await;
                return Err(error);
            }
        };
        self.command("COMMIT").await?;
        Ok(rows)
    }

    async fn once(&mut self, query: &Query) -> Result<Rows, DbError> {
        match query {
            Query::Batch(parts) => self.transaction(parts).await,
            query => self.single(query).await,
        }
    }

    /// Without a connection there is nothing to undo: the server has.
    async fn roll_back(&mut self) {
        if self.connection.is_some() && self.command("ROLLBACK").await.is_err() {
            self.connection = None;
        }
    }

    /// Each in a savepoint. A statement that fails undoes itself in MySQL; in PostgreSQL it ends
    /// everything since the savepoint.
    async fn in_savepoints(
        &mut self,
        queries: &[Query],
        results: &mut Vec<Result<Rows, DbError>>,
    ) -> Result<(), DbError> {
        let always = self.options.url.backend == Backend::Postgres;
        self.command("BEGIN").await?;
        for query in queries {
            let savepoint = always || matches!(query, Query::Batch(_));
            if savepoint {
                self.command("SAVEPOINT one").await?;
            }
            let result = match query {
                Query::Batch(parts) => self.sequence(parts).await,
                query => self.single(query).await,
            };
            match &result {
                // A deadlock undoes the whole transaction.
                Err(e) if matches!(e.kind, DbErrorKind::Unavailable | DbErrorKind::Busy) => {
                    return Err(e.clone());
                }
                Err(_) if savepoint => self.command("ROLLBACK TO SAVEPOINT one").await?,
                _ => {}
            }
            if savepoint {
                self.command("RELEASE SAVEPOINT one").await?;
            }
            results.push(result);
        }
        self.command("COMMIT").await
    }

    /// Whether a query that failed may be tried again: the connection was lost, and it may have
    /// been lost long before.
    fn may_repeat(&self, error: &DbError, attempt: u32) -> bool {
        error.kind == DbErrorKind::Unavailable
            && self.rest.is_none()
            && attempt < self.options.attempts_max.max(1)
    }
}

impl Link for ServerLink {
    async fn execute(&mut self, query: Query) -> Result<Rows, DbError> {
        let mut attempt = 1;
        loop {
            match self.once(&query).await {
                Err(error) if self.may_repeat(&error, attempt) => attempt += 1,
                result => return result,
            }
        }
    }

    async fn execute_together(&mut self, queries: Vec<Query>) -> Vec<Result<Rows, DbError>> {
        let mut attempt = 1;
        loop {
            let mut results = Vec::with_capacity(queries.len());
            match self.in_savepoints(&queries, &mut results).await {
                Ok(()) => return results,
                Err(error) if self.may_repeat(&error, attempt) => attempt += 1,
                Err(error) => {
                    self.roll_back().await;
                    return vec![Err(error); queries.len()];
                }
            }
        }
    }

    async fn close(&mut self) {
        let limit = Duration::from_millis(self.options.timeout_ms.max(1));
        if let Some(wire) = self.connection.take() {
            let _ = timeout(limit, wire.close()).await;
        }
    }
}

impl Wire {
    async fn open(options: &ServerOptions) -> Result<Self, DbError> {
        match options.url.backend {
            Backend::MySql => {
                let connect = mysql(options).disable_statement_logging();
                let connection = connect.connect().await.map_err(|e| db_error(&e))?;
                Ok(Self::MySql(Box::new(connection)))
            }
            Backend::Postgres => {
                let connect = postgres(options).disable_statement_logging();
                let connection = connect.connect().await.map_err(|e| db_error(&e))?;
                Ok(Self::Postgres(Box::new(connection)))
            }
            Backend::Sqlite => Err(DbError::new(DbErrorKind::Malformed, "a file is on no server")),
        }
    }

    async fn run(&mut self, sql: String, rows_max: usize) -> Result<Rows, DbError> {
        let mut rows = Rows::default();
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        macro_rules! answers {
            ($connection:expr) => {{
                let mut stream = query.fetch_many(&mut **$connection);
                while let Some(item) = stream.try_next().await.map_err(|e| db_error(&e))? {
                    match item {
                        Either::Left(done) => rows.affected += done.rows_affected(),
                        Either::Right(row) => {
                            if rows.rows.len() >= rows_max {
                                return Err(too_many(rows_max));
                            }
                            if rows.columns.is_empty() {
                                let names = row.columns().iter().map(|c| c.name().to_owned());
                                rows.columns = names.collect();
                            }
                            rows.rows.push(row.values()?);
                        }
                    }
                }
            }};
        }
        match self {
            Self::MySql(connection) => answers!(connection),
            Self::Postgres(connection) => answers!(connection),
        }
        Ok(rows)
    }

    async fn close(self) {
        // A connection that cannot be closed in order is closed by the drop.
        let _ = match self {
            Self::MySql(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
        };
    }
}

fn too_many(rows_max: usize) -> DbError {
    let message = format!("the answer has more than {rows_max} rows");
    DbError::new(DbErrorKind::TooManyRows, message)
}

fn mysql(options: &ServerOptions) -> MySqlConnectOptions {
    let url = &options.url;
    let host = url.host.as_deref().unwrap_or("localhost");
    let mut connect = MySqlConnectOptions::new()
        .username(url.user.as_deref().unwrap_or("root"))
        .ssl_mode(match url.tls.as_ref().map(|tls| tls.verify) {
            None => MySqlSslMode::Disabled,
            Some(TlsVerify::Nothing) => MySqlSslMode::Required,
            Some(TlsVerify::Signer) => MySqlSslMode::VerifyCa,
            Some(TlsVerify::Host) => MySqlSslMode::VerifyIdentity,
        });
    if let Some(tls) = &url.tls {
        connect = tls.ca.iter().fold(connect, |c, ca| c.ssl_ca(ca));
        if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
            connect = connect.ssl_client_cert(cert).ssl_client_key(key);
        }
    }
    if !url.database.is_empty() {
        connect = connect.database(&url.database);
    }
    if let Some(password) = &url.password {
        connect = connect.password(password);
    }
    // The socket of this machine needs no protection.
    let is_plain = url.tls.is_none();
    if host == "localhost" && is_plain && url.port.is_none() && Path::new(MYSQL_SOCKET).exists() {
        return connect.socket(MYSQL_SOCKET);
    }
    connect.host(bare(host)).port(url.port.unwrap_or(3306))
}

fn postgres(options: &ServerOptions) -> PgConnectOptions {
    let url = &options.url;
    let mut connect = PgConnectOptions::new_without_pgpass()
        .host(bare(url.host.as_deref().unwrap_or("localhost")))
        .port(url.port.unwrap_or(5432))
        .username(url.user.as_deref().unwrap_or("postgres"))
        .database(&url.database)
        .application_name("tandem")
        .ssl_mode(match url.tls.as_ref().map(|tls| tls.verify) {
            None => PgSslMode::Disable,
            Some(TlsVerify::Nothing) => PgSslMode::Require,
            Some(TlsVerify::Signer) => PgSslMode::VerifyCa,
            Some(TlsVerify::Host) => PgSslMode::VerifyFull,
        });
    if let Some(tls) = &url.tls {
        connect = tls.ca.iter().fold(connect, |c, ca| c.ssl_root_cert(ca));
        if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
            connect = connect.ssl_client_cert(cert).ssl_client_key(key);
        }
    }
    if let Some(password) = &url.password {
        connect = connect.password(password);
    }
    connect
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}
