//! Extensions of SQLite: libraries that every connection loads.

use rusqlite::{Connection, LoadExtensionGuard};
use tandem_db::{DbError, DbErrorKind};

use crate::sqlite_conn::db_error;

/// A library, and the function in it that is called first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// A file, or a name that the loader of the system finds.
    pub file: String,
    /// `None`: the one that SQLite makes of the file's name.
    pub entry: Option<String>,
}

impl Extension {
    /// Loads it into a connection; further ones cannot be loaded by SQL.
    #[expect(unsafe_code, reason = "a library does what it wants; the operator has named it")]
    pub(crate) fn load(&self, connection: &Connection) -> Result<(), DbError> {
        // SAFETY: while the guard lives, no SQL runs that could load another library.
        let guard = unsafe { LoadExtensionGuard::new(connection) };
        let _guard = guard.map_err(|e| self.unloaded(&db_error(&e).message))?;
        // SAFETY: what a library does is the responsibility of who names it in the script, as
        // with any program that the node is told to run; the entry point is one of that library.
        let loaded = unsafe { connection.load_extension(&self.file, self.entry.as_deref()) };
        loaded.map_err(|e| self.unloaded(&db_error(&e).message))
    }

    fn unloaded(&self, why: &str) -> DbError {
        let Self { file, entry } = self;
        let entry = entry.as_ref().map_or_else(String::new, |entry| format!(", entry {entry}"));
        let message = format!(
            "the extension {file}{entry} cannot be loaded: {why}; install the library, or \
             correct modparam(\"db_sqlite\", \"load_extension\", \"FILE;ENTRY\")"
        );
        DbError::new(DbErrorKind::Unavailable, message)
    }
}
