//! `xcap`: the documents that users keep on an XCAP server (RFC 4825), as the server writes them
//! into a table.
//!
//! A module that needs a document asks [`Xcap::known`], and if it has to, the database with
//! [`Xcap::select`]; [`Xcap::answered`] reads the answer.

mod documents;

use std::sync::Arc;

use tandem_db::Name;
use tandem_engine::module::{Build, BuildError, Module, ModuleDef};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};

pub use documents::{Kind, Wanted, Xcap};

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "xcap",
    help: "Documents that users keep on an XCAP server: rules about their watchers, and others.",
    dependencies: &[],
    params: PARAMS,
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

const PARAMS: &[ParamSig] = &[
    param("db_url", ParamKind::Str, None, "Database of the documents; else db_default_url."),
    ParamSig {
        check: Some(check_name),
        ..param("xcap_table", ParamKind::Str, Some("xcap"), "Table of the documents.")
    },
    param(
        "integrated_xcap_server",
        ParamKind::Int,
        Some("0"),
        "1: the server that writes the table tells of its changes by presence:refresh_watchers, so \
         documents are kept in memory until then, 30 seconds at most; 0: they are read each time.",
    ),
];

fn check_name(text: &str) -> Result<(), String> {
    tandem_db::check_name(text).map_err(|e| e.to_string())
}

fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let Some(database) = build.database_param("db_url")? else {
        let error = BuildError::new("db_url", "xcap needs a database");
        return Err(error.help("set `db_url` of xcap, or the global `db_default_url`"));
    };
    let table = Name::from(build.text("xcap_table").unwrap_or("xcap").to_owned());
    let is_integrated = build.int("integrated_xcap_server").unwrap_or(0) != 0;
    Ok(Arc::new(Xcap::new(database, table, is_integrated)))
}

impl Module for Xcap {}
