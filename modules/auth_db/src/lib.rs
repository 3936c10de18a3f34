//! `auth_db`: users in a database. Asks for their secrets and lets `auth` judge; answers
//! questions about who may use which URI.
//!
//! Every question suspends the run: no worker waits for a database.

mod authorize;
mod params;
mod state;
mod uri;

use tandem_engine::module::{FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, needs};
use tandem_script::sig::{ArgKind, ArgSig, Routes};

/// The table of `auth_db`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "auth_db",
    help: "Authentication against a table of users.",
    dependencies: &[needs("auth")],
    params: params::PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: state::AuthDb::build,
};

const AUTHORIZE: &[ArgSig] = &[arg("realm", ArgKind::Str), arg("table", ArgKind::Str)];
const URI: &[ArgSig] = &[arg("uri", ArgKind::Str), arg("table", ArgKind::Str)];
const TABLE: &[ArgSig] = &[arg("table", ArgKind::Str)];
const AUTH_ID: &[ArgSig] = &[
    arg("table", ArgKind::Str),
    arg("uri", ArgKind::Str),
    arg("auth", ArgKind::Var),
    arg("realm", ArgKind::Var),
];
const ANYWHERE: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::LOCAL);

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "www_authorize",
        AUTHORIZE,
        Routes::REQUEST,
        "Checks Authorization against a table of users.",
        authorize::www_authorize,
    ),
    function(
        "proxy_authorize",
        AUTHORIZE,
        Routes::REQUEST,
        "Checks Proxy-Authorization against a table of users.",
        authorize::proxy_authorize,
    ),
    function(
        "db_does_uri_exist",
        URI,
        ANYWHERE,
        "Whether a table of users has the user of a URI.",
        uri::db_does_uri_exist,
    ),
    function(
        "db_is_to_authorized",
        TABLE,
        Routes::REQUEST,
        "Whether who authenticated may use the user of To, by a table of URIs.",
        uri::db_is_to_authorized,
    ),
    function(
        "db_is_from_authorized",
        TABLE,
        Routes::REQUEST,
        "Whether who authenticated may use the user of From, by a table of URIs.",
        uri::db_is_from_authorized,
    ),
    function(
        "db_get_auth_id",
        AUTH_ID,
        ANYWHERE,
        "Who authenticates for a URI, by a table of URIs.",
        uri::db_get_auth_id,
    ),
];
