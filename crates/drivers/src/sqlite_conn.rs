//! One connection to a SQLite file: opened when needed, thrown away when broken.

use bytes::Bytes;
use futures_util::TryStreamExt;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow,
    SqliteValueRef,
};
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Connection, Decode, Either, Executor, Row, SqlSafeStr,
    Statement as _, TypeInfo, ValueRef,
};
use tandem_db::{DbError, DbErrorKind, Dialect, Query, Rows, Statement, Value, read_back};

use crate::database::Link;
use crate::sqlite::SqliteOptions;

/// A connection that comes back by itself.
#[derive(Debug)]
pub(crate) struct SqliteLink {
    options: SqliteOptions,
    reader: bool,
    connection: Option<SqliteConnection>,
}

impl Link for SqliteLink {
    async fn execute(&mut self, query: &Query) -> Result<Rows, DbError> {
        let result = match query {
            Query::Batch(parts) => self.transaction(parts).await,
            query => self.single(query).await,
        };
        self.after(result).await
    }

    /// Each in a savepoint.
    async fn execute_together(&mut self, queries: &[&Query]) -> Vec<Result<Rows, DbError>> {
        let mut results = Vec::with_capacity(queries.len());
        let outcome = self.in_savepoints(queries, &mut results).await;
        match self.after(outcome).await {
            Ok(()) => results,
            Err(error) => vec![Err(error); queries.len()],
        }
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // A file that cannot be closed in order is closed by the drop.
            let _ = connection.close().await;
        }
    }
}

impl SqliteLink {
    pub(crate) fn writer(options: SqliteOptions) -> Self {
        Self { options, reader: false, connection: None }
    }

    /// A connection that refuses to write.
    pub(crate) fn reader(options: SqliteOptions) -> Self {
        Self { options, reader: true, connection: None }
    }

    async fn in_savepoints(
        &mut self,
        queries: &[&Query],
        results: &mut Vec<Result<Rows, DbError>>,
    ) -> Result<(), DbError> {
        self.command("BEGIN IMMEDIATE").await?;
        for &query in queries {
            self.command("SAVEPOINT one").await?;
            let result = match query {
                Query::Batch(parts) => self.sequence(parts).await,
                query => self.single(query).await,
            };
            if let Err(error) = &result {
                if error.kind == DbErrorKind::Unavailable {
                    return Err(error.clone());
                }
                self.command("ROLLBACK TO one").await?;
            }
            self.command("RELEASE one").await?;
            results.push(result);
        }
        self.command("COMMIT").await
    }

    async fn transaction(&mut self, parts: &[Query]) -> Result<Rows, DbError> {
        self.command("BEGIN IMMEDIATE").await?;
        let rows = self.sequence(parts).await?;
        self.command("COMMIT").await?;
        Ok(rows)
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

    async fn single(&mut self, query: &Query) -> Result<Rows, DbError> {
        let statement = Dialect::SQLITE.statement(query)?;
        let inserts = matches!(query, Query::Insert { .. });
        let (rows_max, reader) = (self.options.rows_max, self.reader);
        let connection = self.connection().await?;
        let done = run(connection, statement, rows_max).await;
        let (mut rows, last_insert_id) =
            done.map_err(|error| writes_while_reading(error, reader))?;
        rows.last_insert_id = last_insert_id.filter(|_| inserts);
        if query.is_read() {
            // SQLite still reports the change before.
            rows.affected = 0;
        }
        Ok(rows)
    }

    async fn command(&mut self, sql: &'static str) -> Result<(), DbError> {
        let connection = self.connection().await?;
        connection.execute(sql).await.map(drop).map_err(|error| db_error(&error))
    }

    /// After a failure nothing of a transaction may stay open, and a connection that is broken
    /// is not used again.
    async fn after<T>(&mut self, result: Result<T, DbError>) -> Result<T, DbError> {
        if let Err(error) = &result {
            if let Some(connection) = &mut self.connection {
                // Outside of a transaction it fails, which is just as well.
                let _ = connection.execute("ROLLBACK").await;
            }
            if error.kind == DbErrorKind::Unavailable {
                self.close().await;
            }
        }
        result
    }

    async fn connection(&mut self) -> Result<&mut SqliteConnection, DbError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn open(&self) -> Result<SqliteConnection, DbError> {
        let options = &self.options;
        let mut connect = SqliteConnectOptions::new()
            .filename(&options.path)
            .create_if_missing(options.create && !self.reader)
            .busy_timeout(std::time::Duration::from_millis(options.busy_timeout_ms))
            .foreign_keys(false);
        if self.reader {
            connect = connect.pragma("query_only", "ON");
        } else {
            connect = connect.journal_mode(SqliteJournalMode::Wal);
        }
        for extension in &options.extensions {
            connect = extension.add_to(connect);
        }
        for (name, value) in &options.pragmas {
            tandem_db::check_name(name)?;
            connect = connect.pragma(name.clone(), value.clone());
        }
        connect.disable_statement_logging().connect().await.map_err(|error| {
            let error = db_error(&error);
            let message = format!("{}: {}", options.path.display(), error.message);
            let busy = error.kind == DbErrorKind::Busy;
            let kind = if busy { DbErrorKind::Busy } else { DbErrorKind::Unavailable };
            DbError::new(kind, message)
        })
    }
}

async fn run(
    connection: &mut SqliteConnection,
    statement: Statement,
    rows_max: usize,
) -> Result<(Rows, Option<i64>), DbError> {
    let Statement { sql, binds } = statement;
    let mut rows = Rows::default();
    let mut last_insert_id = None;
    {
        let query = sqlx::query_with(AssertSqlSafe(sql.as_str()), arguments(binds)?);
        let mut stream = connection.fetch_many(query);
        while let Some(item) = stream.try_next().await.map_err(|error| db_error(&error))? {
            match item {
                Either::Left(done) => {
                    rows.affected += done.rows_affected();
                    last_insert_id = Some(done.last_insert_rowid());
                }
                Either::Right(row) => {
                    if rows.rows.len() >= rows_max {
                        let message = format!("the answer has more than {rows_max} rows");
                        return Err(DbError::new(DbErrorKind::TooManyRows, message));
                    }
                    if rows.columns.is_empty() {
                        rows.columns = names(row.columns());
                    }
                    rows.rows.push(values(&row)?);
                }
            }
        }
    }
    if rows.rows.is_empty() && sql.starts_with("SELECT ") {
        let prepared = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await;
        rows.columns = names(prepared.map_err(|error| db_error(&error))?.columns());
    }
    Ok((rows, last_insert_id))
}

fn names(columns: &[sqlx::sqlite::SqliteColumn]) -> Vec<String> {
    columns.iter().map(|column| column.name().to_owned()).collect()
}

fn arguments(binds: Vec<Value>) -> Result<SqliteArguments, DbError> {
    use sqlx::Arguments;
    let mut arguments = SqliteArguments::default();
    for value in binds {
        let added = match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Int(i) | Value::Time(i) => arguments.add(i),
            Value::Float(f) => arguments.add(f),
            Value::Str(s) => arguments.add(s),
            Value::Blob(b) => arguments.add(Vec::from(b)),
        };
        added.map_err(|error| DbError::new(DbErrorKind::Malformed, error.to_string()))?;
    }
    Ok(arguments)
}

fn values(row: &SqliteRow) -> Result<Vec<Value>, DbError> {
    let mut values = Vec::with_capacity(row.len());
    for (i, column) in row.columns().iter().enumerate() {
        let raw = row.try_get_raw(i).map_err(|error| db_error(&error))?;
        let stored =
            value(raw).map_err(|error| DbError::new(DbErrorKind::Other, error.to_string()))?;
        values.push(read_back(column.type_info().name(), stored));
    }
    Ok(values)
}

/// A value by what is stored, not by what the column says.
fn value(raw: SqliteValueRef<'_>) -> Result<Value, sqlx::error::BoxDynError> {
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let stored = raw.type_info().name().to_owned();
    Ok(match stored.as_str() {
        "INTEGER" => Value::Int(<i64 as Decode<'_, sqlx::Sqlite>>::decode(raw)?),
        "REAL" => Value::Float(<f64 as Decode<'_, sqlx::Sqlite>>::decode(raw)?),
        "TEXT" => {
            let bytes = <Vec<u8> as Decode<'_, sqlx::Sqlite>>::decode(raw)?;
            // Another program may have stored text that is not UTF-8; its bytes are kept.
            String::from_utf8(bytes)
                .map_or_else(|error| Value::Blob(error.into_bytes().into()), Value::Str)
        }
        _ => Value::Blob(Bytes::from(<Vec<u8> as Decode<'_, sqlx::Sqlite>>::decode(raw)?)),
    })
}

fn db_error(error: &sqlx::Error) -> DbError {
    let sqlx::Error::Database(database) = error else {
        return DbError::new(DbErrorKind::Unavailable, error.to_string());
    };
    let code: i32 = database.code().and_then(|code| code.parse().ok()).unwrap_or(0);
    let message = database.message();
    // Primary result codes of SQLite: the low byte of the extended ones.
    let kind = match code & 0xff {
        5 | 6 => DbErrorKind::Busy,
        // No memory, no room on the disk, a lock that the file system does not give: these pass.
        7 | 13 | 15 => DbErrorKind::Busy,
        19 | 20 => DbErrorKind::Constraint,
        10 | 11 | 14 | 26 => DbErrorKind::Unavailable,
        8 if code == READONLY_DBMOVED => DbErrorKind::Unavailable,
        // A disk that was mounted read-only after an error, or a copy that is not the first one.
        8 => DbErrorKind::Busy,
        1 if message.contains("no such") || message.contains("has no column") => {
            DbErrorKind::Missing
        }
        1 => DbErrorKind::Malformed,
        _ => DbErrorKind::Other,
    };
    DbError::new(kind, message)
}

/// A connection that only reads refuses to write for good: that is the query's mistake, and no
/// state of the disk that may pass.
fn writes_while_reading(error: DbError, reader: bool) -> DbError {
    let refused = reader && error.message.contains("readonly");
    if refused { DbError::new(DbErrorKind::Malformed, error.message) } else { error }
}

/// The file was renamed or removed under an open connection.
const READONLY_DBMOVED: i32 = 1032;
