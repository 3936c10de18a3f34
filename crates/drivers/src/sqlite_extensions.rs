//! Extensions of SQLite: libraries that every connection loads.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tandem_db::{DbError, DbErrorKind};

/// A library, and the function in it that is called first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// A file, or a name that the loader of the system finds.
    pub file: String,
    /// `None`: the one that SQLite makes of the file's name.
    pub entry: Option<String>,
}

impl Extension {
    #[expect(unsafe_code, reason = "a library does what it wants; the operator has named it")]
    pub(crate) fn add_to(&self, options: SqliteConnectOptions) -> SqliteConnectOptions {
        let file = self.file.clone();
        match self.entry.clone() {
            // SAFETY: what a library does is the responsibility of who names it in the script, as
            // with any program that the node is told to run.
            None => unsafe { options.extension(file) },
            // SAFETY: the same; the entry point is one of that library.
            Some(entry) => unsafe { options.extension_with_entrypoint(file, entry) },
        }
    }
}

/// Loads each for itself, into a database that is not kept: which one cannot be, and why.
pub(crate) async fn check(extensions: &[Extension]) -> Result<(), DbError> {
    for extension in extensions {
        let options = SqliteConnectOptions::new().in_memory(true);
        let options = extension.add_to(options).disable_statement_logging();
        let loaded = match options.connect().await {
            Ok(connection) => connection.close().await,
            Err(error) => Err(error),
        };
        loaded.map_err(|error| unloaded(extension, &error))?;
    }
    Ok(())
}

fn unloaded(extension: &Extension, error: &sqlx::Error) -> DbError {
    let Extension { file, entry } = extension;
    let why = error.as_database_error().map_or_else(|| error.to_string(), |e| e.message().into());
    let entry = entry.as_ref().map_or_else(String::new, |entry| format!(", entry {entry}"));
    let message = format!(
        "the extension {file}{entry} cannot be loaded: {why}; install the library, or correct \
         modparam(\"db_sqlite\", \"load_extension\", \"FILE;ENTRY\")"
    );
    DbError::new(DbErrorKind::Unavailable, message)
}
