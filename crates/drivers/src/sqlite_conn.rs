//! One connection to a SQLite file: opened when needed, thrown away when broken. Its calls wait
//! for the disk and for other programs, so it lives on a thread of its own (`sqlite_link.rs`).

use bytes::Bytes;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Batch, Connection, MAIN_DB, OpenFlags};
use tandem_db::{DbError, DbErrorKind, Dialect, Query, Rows, Statement, Value, read_back};

use crate::sqlite::SqliteOptions;

/// A connection that comes back by itself.
#[derive(Debug)]
pub(crate) struct SqliteConn {
    options: SqliteOptions,
    reader: bool,
    connection: Option<Connection>,
    /// Why the file was opened only to read it.
    reads_only: Option<DbError>,
}

impl SqliteConn {
    /// `reader`: it refuses to write.
    pub(crate) fn new(options: SqliteOptions, reader: bool) -> Self {
        Self { options, reader, connection: None, reads_only: None }
    }

    /// Opens the file and reads it; why it can only be read, if that is so.
    pub(crate) fn check(mut self) -> Result<Option<DbError>, DbError> {
        let sql = "SELECT name FROM sqlite_master LIMIT 1".to_owned();
        self.execute(&Query::Raw { sql })?;
        Ok(self.reads_only)
    }

    pub(crate) fn execute(&mut self, query: &Query) -> Result<Rows, DbError> {
        let result = match query {
            Query::Batch(parts) => self.transaction(parts),
            query => self.single(query),
        };
        self.after(result)
    }

    /// Each in a savepoint.
    pub(crate) fn execute_together(&mut self, queries: &[Query]) -> Vec<Result<Rows, DbError>> {
        let mut results = Vec::with_capacity(queries.len());
        let outcome = self.in_savepoints(queries, &mut results);
        match self.after(outcome) {
            Ok(()) => results,
            Err(error) => vec![Err(error); queries.len()],
        }
    }

    fn in_savepoints(
        &mut self,
        queries: &[Query],
        results: &mut Vec<Result<Rows, DbError>>,
    ) -> Result<(), DbError> {
        self.command("BEGIN IMMEDIATE")?;
        for query in queries {
            self.command("SAVEPOINT one")?;
            let result = match query {
                Query::Batch(parts) => self.sequence(parts),
                query => self.single(query),
            };
            if let Err(error) = &result {
                let of_all = error.kind == DbErrorKind::Unavailable || is_readonly(error);
                if of_all || self.has_rolled_back() {
                    return Err(error.clone());
                }
                self.command("ROLLBACK TO one")?;
            }
            self.command("RELEASE one")?;
            results.push(result);
        }
        self.command("COMMIT")
    }

    /// Some errors end the whole transaction: without memory, or room on the disk, SQLite may have
    /// no other way.
    fn has_rolled_back(&self) -> bool {
        self.connection.as_ref().is_none_or(Connection::is_autocommit)
    }

    fn transaction(&mut self, parts: &[Query]) -> Result<Rows, DbError> {
        self.command("BEGIN IMMEDIATE")?;
        let rows = self.sequence(parts)?;
        self.command("COMMIT")?;
        Ok(rows)
    }

    fn sequence(&mut self, parts: &[Query]) -> Result<Rows, DbError> {
        let (mut answer, mut affected) = (Rows::default(), 0);
        for part in parts {
            answer = self.single(part)?;
            affected += answer.affected;
        }
        answer.affected = affected;
        Ok(answer)
    }

    fn single(&mut self, query: &Query) -> Result<Rows, DbError> {
        let Statement { sql, binds } = Dialect::SQLITE.statement(query)?;
        let (rows_max, reader) = (self.options.rows_max, self.reader);
        let connection = self.connection()?;
        let mut rows = Rows::default();
        // What the script wrote may be several statements, and is rarely asked twice.
        let done = match query {
            Query::Raw { .. } => statements(connection, &sql, rows_max, &mut rows),
            _ => prepared(connection, &sql, &binds, rows_max, &mut rows),
        };
        done.map_err(|error| writes_while_reading(error, reader))?;
        if matches!(query, Query::Insert { .. }) {
            rows.last_insert_id = Some(connection.last_insert_rowid());
        }
        Ok(rows)
    }

    fn command(&mut self, sql: &'static str) -> Result<(), DbError> {
        prepared(self.connection()?, sql, &[], 1, &mut Rows::default())
    }

    /// After a failure nothing of a transaction may stay open, and a connection that is broken
    /// is not used again.
    fn after<T>(&mut self, mut result: Result<T, DbError>) -> Result<T, DbError> {
        if let Err(error) = &mut result {
            if let Some(connection) = self.connection.as_ref().filter(|c| !c.is_autocommit()) {
                let _ = connection.execute_batch("ROLLBACK");
            }
            // Whether the file can be written by now, only one that is opened again finds out.
            let reads_only = !self.reader && is_readonly(error);
            if error.kind == DbErrorKind::Unavailable || reads_only {
                self.connection = None;
            }
            self.name_file(error);
        }
        result
    }

    fn connection(&mut self) -> Result<&Connection, DbError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open().map_err(|error| self.unopened(error))?,
        };
        Ok(self.connection.insert(connection))
    }

    fn open(&mut self) -> Result<Connection, DbError> {
        self.reads_only = None;
        let options = &self.options;
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, options.create && !self.reader);
        let connection =
            Connection::open_with_flags(&options.path, flags).map_err(|e| db_error(&e))?;
        let wait = std::time::Duration::from_millis(options.busy_timeout_ms.min(WAIT_MS_MAX));
        connection.busy_timeout(wait).map_err(|e| db_error(&e))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        for extension in &options.extensions {
            extension.load(&connection)?;
        }
        let mut reads_only = None;
        let mode = if self.reader { ("query_only", "ON") } else { ("journal_mode", "WAL") };
        let own = [mode, ("foreign_keys", "OFF")];
        let theirs = options.pragmas.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let is_theirs = |name: &str| {
            options.pragmas.iter().any(|(theirs, _)| theirs.eq_ignore_ascii_case(name))
        };
        let own = own.into_iter().filter(|(name, _)| !is_theirs(name));
        for (name, value) in own.chain(theirs) {
            tandem_db::check_name(name)?;
            let sql = format!("PRAGMA {name} = {value}");
            match statements(&connection, &sql, usize::MAX, &mut Rows::default()) {
                // What cannot be written can be read all the same.
                Err(error) if is_readonly(&error) => reads_only = Some(error),
                done => done?,
            }
        }
        if reads_only.is_none() && connection.is_readonly(MAIN_DB).map_err(|e| db_error(&e))? {
            reads_only =
                Some(DbError::new(DbErrorKind::Busy, format!("it is read-only: {WRITABLE}")));
        }
        self.reads_only = reads_only.map(|error| self.unopened(error));
        Ok(connection)
    }

    fn unopened(&self, error: DbError) -> DbError {
        let path = self.options.path.display().to_string();
        let why = error.message.strip_suffix(&format!(": {path}")).unwrap_or(&error.message);
        let busy = error.kind == DbErrorKind::Busy;
        let kind = if busy { DbErrorKind::Busy } else { DbErrorKind::Unavailable };
        let mut error = DbError::new(kind, why);
        if error.message == UNOPENED && self.options.path.exists() {
            error.message.push_str(": the user of the process has to be able to read it");
        }
        self.name_file(&mut error);
        error
    }

    /// Says which file it is that has no room, or cannot be written.
    fn name_file(&self, error: &mut DbError) {
        let path = self.options.path.display().to_string();
        let of_file = matches!(error.kind, DbErrorKind::Busy | DbErrorKind::Unavailable);
        if of_file && !error.message.starts_with(&path) {
            error.message = format!("{path}: {}", error.message);
        }
    }
}

/// Runs one statement, which stays prepared for the next time.
fn prepared(
    connection: &Connection,
    sql: &str,
    binds: &[Value],
    rows_max: usize,
    rows: &mut Rows,
) -> Result<(), DbError> {
    let mut statement = connection.prepare_cached(sql).map_err(|e| db_error(&e))?;
    for (at, value) in (1..).zip(binds) {
        statement.raw_bind_parameter(at, bound(value)).map_err(|e| db_error(&e))?;
    }
    run(connection, &mut statement, rows_max, rows)
}

/// Runs the statements of a text, one after the other.
fn statements(
    connection: &Connection,
    sql: &str,
    rows_max: usize,
    rows: &mut Rows,
) -> Result<(), DbError> {
    let mut all = Batch::new(connection, sql);
    while let Some(mut statement) = all.next().map_err(|e| db_error(&e))? {
        run(connection, &mut statement, rows_max, rows)?;
    }
    Ok(())
}

fn run(
    connection: &Connection,
    statement: &mut rusqlite::Statement<'_>,
    rows_max: usize,
    rows: &mut Rows,
) -> Result<(), DbError> {
    let reads = statement.readonly();
    let mut types = Vec::new();
    let mut stream = statement.raw_query();
    while let Some(row) = stream.next().map_err(|e| db_error(&e))? {
        if rows.rows.len() >= rows_max {
            let message = format!("the answer has more than {rows_max} rows");
            return Err(DbError::new(DbErrorKind::TooManyRows, message));
        }
        // Asked here: the first step may have prepared the statement again, with other columns.
        if types.is_empty() {
            types = declared(row.as_ref());
            name_columns(rows, row.as_ref());
        }
        let mut values = Vec::with_capacity(types.len());
        for (at, declared) in types.iter().enumerate() {
            let stored = value(row.get_ref(at).map_err(|e| db_error(&e))?);
            values.push(if declared.is_empty() { stored } else { read_back(declared, stored) });
        }
        rows.rows.push(values);
    }
    drop(stream);
    name_columns(rows, statement);
    if !reads {
        rows.affected += connection.changes();
    }
    Ok(())
}

fn name_columns(rows: &mut Rows, statement: &rusqlite::Statement<'_>) {
    if rows.columns.is_empty() {
        rows.columns = statement.column_names().map(str::to_owned).collect();
    }
}

/// For each column the type as which its texts are read, if they are not taken as they are.
fn declared(statement: &rusqlite::Statement<'_>) -> Vec<&'static str> {
    let is_time = |declared: &str| TIMES.iter().any(|time| declared.eq_ignore_ascii_case(time));
    let columns = statement.columns();
    columns.map(|c| if c.decl_type().is_some_and(is_time) { "DATETIME" } else { "" }).collect()
}

fn bound(value: &Value) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match value {
        Value::Null => ValueRef::Null,
        Value::Int(i) | Value::Time(i) => ValueRef::Integer(*i),
        Value::Float(f) => ValueRef::Real(*f),
        Value::Str(s) => ValueRef::Text(s.as_bytes()),
        Value::Blob(b) => ValueRef::Blob(b),
    })
}

/// A value by what is stored, not by what the column says.
fn value(stored: ValueRef<'_>) -> Value {
    match stored {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) => Value::Int(i),
        ValueRef::Real(f) => Value::Float(f),
        // Another program may have stored text that is not UTF-8; its bytes are kept.
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).map_or_else(
            |_| Value::Blob(Bytes::copy_from_slice(bytes)),
            |text| Value::Str(text.to_owned()),
        ),
        ValueRef::Blob(bytes) => Value::Blob(Bytes::copy_from_slice(bytes)),
    }
}

pub(crate) fn db_error(error: &rusqlite::Error) -> DbError {
    let (code, message) = match error {
        rusqlite::Error::SqliteFailure(of, message) => (of, message.clone()),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error, Some(msg.clone())),
        other => return DbError::new(DbErrorKind::Malformed, other.to_string()),
    };
    let (code, mut message) = (code.extended_code, message.unwrap_or_else(|| code.to_string()));
    if let Some(advice) = advice(code) {
        message = format!("{message}: {advice}");
    }
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

/// What an operator can do about an error of the file or the machine.
fn advice(code: i32) -> Option<&'static str> {
    Some(match code & 0xff {
        5 => "another program has locked it",
        7 => "the machine has none left now",
        8 if code == 8 => WRITABLE,
        8 if code == READONLY_DIRECTORY => WRITABLE_FOLDER,
        8 if code != READONLY_DBMOVED => "its files -wal and -shm have to be writable",
        13 => "make room on its disk",
        15 => "too many programs open it at once",
        _ => return None,
    })
}

/// A connection that only reads refuses to write for good: that is the query's mistake, and no
/// state of the disk that may pass.
fn writes_while_reading(error: DbError, reader: bool) -> DbError {
    match reader && error.message.ends_with(WRITABLE) {
        true => DbError::new(DbErrorKind::Malformed, "it writes, where only reading is expected"),
        false => error,
    }
}

/// The file cannot be written, or the connection may not.
fn is_readonly(error: &DbError) -> bool {
    let ends = [WRITABLE, WRITABLE_FOLDER].iter().any(|end| error.message.ends_with(end));
    error.kind == DbErrorKind::Busy && ends
}

/// The file was renamed or removed under an open connection.
const READONLY_DBMOVED: i32 = 1032;
/// No journal can be made beside the file.
const READONLY_DIRECTORY: i32 = 1544;
const WRITABLE: &str = "make the file, those beside it (-wal, -shm) and its directory writable for \
                        the user of the process";
const WRITABLE_FOLDER: &str = "make its directory writable for the user of the process (to read \
                               it, `PRAGMA journal_mode = DELETE` is enough)";
/// What SQLite says when it has no file.
const UNOPENED: &str = "unable to open database file";
/// The longest wait for a lock that SQLite knows.
const WAIT_MS_MAX: u64 = i32::MAX as u64;
/// Statements that stay prepared.
const STATEMENTS_KEPT: usize = 100;
/// Declared types of columns whose texts are times.
const TIMES: [&str; 2] = ["DATETIME", "TIMESTAMP"];
