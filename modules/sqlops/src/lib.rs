//! `sqlops`: queries of a script, and preferences of users as AVPs.
//!
//! `avpops`, the older name of a part of it, uses the same state and functions.
//!
//! # Files
//! `query.rs` is SQL text, `structured.rs` queries in JSON, `preferences.rs` AVPs in a table,
//! `answer.rs` what the database says.

mod answer;
mod params;
mod preferences;
mod query;
mod structured;

use tandem_engine::module::{Call, FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, literal, optional};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, AsyncUse, FunctionSig, Routes};

pub use params::{Names, Sql, check_scheme, check_url};
pub use preferences::{avp_delete, avp_load, avp_store, check_name, check_source};
pub use query::sql_query;

/// The table of `sqlops`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "sqlops",
    help: "Queries of a script, and preferences of users as AVPs.",
    dependencies: &[],
    params: params::PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |build| Sql::build(build, &NAMES),
};

const NAMES: Names = Names {
    table: "usr_table",
    use_domain: "use_domain",
    uuid: "uuid_column",
    attribute: "attribute_column",
    value: "value_column",
    kind: "type_column",
    username: "username_column",
    domain: "domain_column",
    scheme: "db_scheme",
};

const ANY: Routes = Routes::ANY;
const DB_ID: ArgSig = optional("db_id", ArgKind::Int);
const RAW: &[ArgSig] = &[arg("query", ArgKind::Str), optional("res_avps", ArgKind::Vars), DB_ID];
const RAW_ONE: &[ArgSig] =
    &[arg("query", ArgKind::Str), optional("res_vars", ArgKind::Vars), DB_ID];
const SOURCE: ArgSig = ArgSig { check: Some(check_source), ..literal("source", ArgKind::Str) };
const NAME: ArgSig = ArgSig { check: Some(check_name), ..literal("name", ArgKind::Str) };
/// Arguments of the functions on one preference.
pub const PREFERENCE: &[ArgSig] = &[SOURCE, NAME, DB_ID];
/// Arguments of the function that loads preferences.
pub const LOAD: &[ArgSig] = &[SOURCE, NAME, DB_ID, optional("prefix", ArgKind::Str)];
const SELECT: &[ArgSig] = &[
    optional("columns", ArgKind::Str),
    arg("table", ArgKind::Str),
    optional("filter", ArgKind::Str),
    optional("order", ArgKind::Str),
    optional("res_avps", ArgKind::Vars),
    DB_ID,
];
const SELECT_ONE: &[ArgSig] = &[
    optional("columns", ArgKind::Str),
    arg("table", ArgKind::Str),
    optional("filter", ArgKind::Str),
    optional("order", ArgKind::Str),
    arg("res_vars", ArgKind::Vars),
    DB_ID,
];
const UPDATE: &[ArgSig] = &[
    arg("columns", ArgKind::Str),
    arg("table", ArgKind::Str),
    optional("filter", ArgKind::Str),
    DB_ID,
];
const INSERT: &[ArgSig] = &[arg("table", ArgKind::Str), arg("columns", ArgKind::Str), DB_ID];
const DELETE: &[ArgSig] = &[arg("table", ArgKind::Str), optional("filter", ArgKind::Str), DB_ID];

/// A function that `async()` takes as well.
pub const fn waiting(
    name: &'static str,
    args: &'static [ArgSig],
    help: &'static str,
    run: fn(&mut Call<'_, '_, '_>) -> Called,
) -> FunctionDef {
    let async_use = AsyncUse::Both;
    FunctionDef { sig: FunctionSig { name, args, routes: ANY, async_use, help }, run }
}

const FUNCTIONS: &[FunctionDef] = &[
    waiting(
        "sql_query",
        RAW,
        "Runs SQL; the columns go into the variables, or into $avp(1), $avp(2), ... An AVP gets a \
         value for each row, that of the first row on top. 1; -2 without rows; -1 on an error.",
        sql_query,
    ),
    waiting(
        "sql_query_one",
        RAW_ONE,
        "The same for the first row alone; NULL is null.",
        query::sql_query_one,
    ),
    function(
        "sql_avp_load",
        LOAD,
        ANY,
        "Loads preferences of a user (\"$ru\", \"$fu/username\", \"$avp(id)/uuid\") into AVPs: \
         one (\"$avp(x)\") or all (\"a\"), from a table or scheme behind a slash.",
        avp_load,
    ),
    function("sql_avp_delete", PREFERENCE, ANY, "Deletes preferences.", avp_delete),
    function("sql_avp_store", PREFERENCE, ANY, "Stores the values of an AVP.", avp_store),
    function(
        "sql_select",
        SELECT,
        ANY,
        "Selects columns (a JSON array) of the rows that fit a filter: \
         [{\"a\":\"x\"},{\"n\":{\">\":5}}].",
        structured::sql_select,
    ),
    function(
        "sql_select_one",
        SELECT_ONE,
        ANY,
        "The same for the first row alone; NULL is null.",
        structured::sql_select_one,
    ),
    function(
        "sql_update",
        UPDATE,
        ANY,
        "Changes columns ([{\"a\":\"x\"}]) of the rows that fit a filter.",
        structured::sql_update,
    ),
    function("sql_insert", INSERT, ANY, "Inserts a row: [{\"a\":\"x\"}].", structured::sql_insert),
    function("sql_delete", DELETE, ANY, "Deletes the rows that fit.", structured::sql_delete),
    function(
        "sql_replace",
        INSERT,
        ANY,
        "Inserts a row over the one with the same unique key (of a standard table; else the \
         first column).",
        structured::sql_replace,
    ),
];
