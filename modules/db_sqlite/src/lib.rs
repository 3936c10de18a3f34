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
    Ok(Arc::new(DbSqlite(SqliteOptions { busy_timeout_ms, pragmas: pragmas.collect() })))
}

fn check_pragma(text: &str) -> Result<(), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => Ok(()),
        _ => Err("a pragma is written \"name=value\"".into()),
    }
}
