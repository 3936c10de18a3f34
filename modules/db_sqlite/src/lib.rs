//! `db_sqlite`: databases in a file, for `sqlite://` urls.
//!
//! The queries are carried out by the binary's driver; this module says how it opens the files.

use std::sync::Arc;

use tandem_engine::endpoint::{Endpoint, SqliteOptions};
use tandem_engine::module::{Build, BuildError, Module, ModuleDef, ParamValue};
use tandem_engine::table::{moot, param};
use tandem_script::sig::{ParamKind, ParamSig};

/// The table of `db_sqlite`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "db_sqlite",
    help: "Databases in a file.",
    dependencies: &[],
    params: &[
        moot("alloc_limit", ParamKind::Int, "the rows of an answer take the room they need"),
        param("busy_timeout", ParamKind::Int, Some("500"), "Milliseconds to wait for a lock."),
        ParamSig {
            multiple: true,
            check: Some(check_extension),
            ..param(
                "load_extension",
                ParamKind::Str,
                None,
                "\"FILE;ENTRY\": a library that every connection loads, and its entry point; without \
                 one it is what SQLite makes of the file's name.",
            )
        },
        ParamSig {
            multiple: true,
            check: Some(check_pragma),
            ..param("exec_pragma", ParamKind::Str, None, "A PRAGMA run on every connection.")
        },
    ],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct DbSqlite(SqliteOptions);

impl Module for DbSqlite {
    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::Sqlite(self.0.clone())]
    }
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let busy_timeout_ms = from
        .int("busy_timeout")
        .and_then(|ms| u32::try_from(ms).ok())
        .ok_or_else(|| BuildError::new("busy_timeout", "not a number of milliseconds"))?;
    let pragmas = from.all("exec_pragma").iter().filter_map(|p| match p {
        ParamValue::Str(s) => s.split_once('=').map(|(n, v)| (n.trim().into(), v.trim().into())),
        ParamValue::Int(_) => None,
    });
    let extensions = from.all("load_extension").iter().filter_map(|p| match p {
        ParamValue::Str(text) => Some(extension(text)),
        ParamValue::Int(_) => None,
    });
    let (pragmas, extensions) = (pragmas.collect(), extensions.collect());
    Ok(Arc::new(DbSqlite(SqliteOptions { busy_timeout_ms, pragmas, extensions })))
}

/// The file and the entry point.
fn extension(text: &str) -> (String, Option<String>) {
    match text.split_once(';') {
        Some((file, entry)) => (file.trim().to_owned(), Some(entry.trim().to_owned())),
        None => (text.trim().to_owned(), None),
    }
}

fn check_extension(text: &str) -> Result<(), String> {
    let (file, entry) = extension(text);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_entry = |entry: &String| !entry.is_empty() && entry.chars().all(is_name);
    match !file.is_empty() && !text.contains('\0') && entry.as_ref().is_none_or(is_entry) {
        true => Ok(()),
        false => Err("an extension is written \"FILE;ENTRY\" or \"FILE\"".into()),
    }
}

fn check_pragma(text: &str) -> Result<(), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => Ok(()),
        _ => Err("a pragma is written \"name=value\"".into()),
    }
}
