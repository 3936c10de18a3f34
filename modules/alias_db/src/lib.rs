//! `alias_db`: other names of users, by a table.

mod lookup;
mod state;

use tandem_engine::module::{FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, optional, param};
use tandem_script::sig::{ArgKind, ArgSig, ParamKind, ParamSig, Routes};

/// The table of `alias_db`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "alias_db",
    help: "Other names of users, by a table.",
    dependencies: &[],
    params: PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: state::AliasDb::build,
};

const fn column(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_name), ..param(name, ParamKind::Str, Some(default), help) }
}

const PARAMS: &[ParamSig] = &[
    param("db_url", ParamKind::Str, None, "Database of the aliases; else db_default_url."),
    column("user_column", "username", "Column with the user."),
    column("domain_column", "domain", "Column with the domain of the user."),
    column("alias_user_column", "alias_username", "Column with the user part of the alias."),
    column("alias_domain_column", "alias_domain", "Column with the domain of the alias."),
    param(
        "domain_prefix",
        ParamKind::Str,
        None,
        "What is taken off the front of a domain before it is looked up.",
    ),
    param(
        "append_branches",
        ParamKind::Int,
        Some("0"),
        "1: further rows become branches; 0: the first row alone counts.",
    ),
];

const LOOKUP: &[ArgSig] = &[
    arg("table", ArgKind::Str),
    ArgSig { check: Some(lookup::check_flags), ..optional("flags", ArgKind::Str) },
];
const FIND: &[ArgSig] = &[
    arg("table", ArgKind::Str),
    arg("input", ArgKind::Str),
    arg("output", ArgKind::Var),
    ArgSig { check: Some(lookup::check_flags), ..optional("flags", ArgKind::Str) },
];
const LOOKUP_ROUTES: Routes = Routes::REQUEST.or(Routes::FAILURE);
const FIND_ROUTES: Routes =
    LOOKUP_ROUTES.or(Routes::ONREPLY).or(Routes::BRANCH).or(Routes::LOCAL).or(Routes::STARTUP);

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "alias_db_lookup",
        LOOKUP,
        LOOKUP_ROUTES,
        "Puts the user whose alias the R-URI is in its place. Flags: `d` any domain, `r` the \
         other way round.",
        lookup::alias_db_lookup,
    ),
    function(
        "alias_db_find",
        FIND,
        FIND_ROUTES,
        "The same from one URI into a variable.",
        lookup::alias_db_find,
    ),
];

fn check_name(text: &str) -> Result<(), String> {
    tandem_db::check_name(text).map_err(|e| e.to_string())
}
