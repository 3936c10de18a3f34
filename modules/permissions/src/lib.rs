//! `permissions`: who may send what, by addresses in a table and by rules in files.
//!
//! # Files
//! `address.rs` is the table in memory, `rules.rs` a file of rules, `files.rs` the pairs of files
//! and what waits for them, `check.rs` the functions on addresses, `allow.rs` those on rules.

mod address;
mod allow;
mod check;
mod files;
mod mi;
mod params;
mod rules;
mod state;

use tandem_engine::module::{FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, optional};
use tandem_script::sig::{ArgKind, ArgSig, Routes};

/// The table of `permissions`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "permissions",
    help: "Who may send what, by addresses in a table and by rules in files.",
    dependencies: &[],
    params: params::PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: mi::COMMANDS,
    statistics: &[],
    events: &[],
    build: state::Permissions::build,
};

const SOURCE: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH).or(Routes::LOCAL);
const WIDE: Routes = SOURCE.or(Routes::STARTUP).or(Routes::TIMER).or(Routes::EVENT);
const RULES: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::LOCAL);

const CHECK: &[ArgSig] = &[
    arg("group_id", ArgKind::Int),
    arg("ip", ArgKind::Str),
    arg("port", ArgKind::Int),
    arg("proto", ArgKind::Str),
    optional("context_info", ArgKind::Var),
    optional("pattern", ArgKind::Str),
    optional("partition", ArgKind::Str),
];
const CHECK_SOURCE: &[ArgSig] = &[
    arg("group_id", ArgKind::Int),
    optional("context_info", ArgKind::Var),
    optional("pattern", ArgKind::Str),
    optional("partition", ArgKind::Str),
];
const GROUP: &[ArgSig] = &[arg("group_var", ArgKind::Var), optional("partition", ArgKind::Str)];
const MAYBE_BASENAME: &[ArgSig] = &[optional("basename", ArgKind::Str)];
const BASENAME: &[ArgSig] = &[arg("basename", ArgKind::Str)];
const BASENAME_URI: &[ArgSig] = &[arg("basename", ArgKind::Str), arg("uri", ArgKind::Str)];

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "check_address",
        CHECK,
        WIDE,
        "Whether an address is in a group of the table: 1, -1, or -2 for an unknown group. \
         Group 0, port 0 and protocol any match everything.",
        check::check_address,
    ),
    function(
        "check_source_address",
        CHECK_SOURCE,
        SOURCE,
        "The same for the source of the message.",
        check::check_source_address,
    ),
    function(
        "get_source_group",
        GROUP,
        SOURCE,
        "The group of the source of the message.",
        check::get_source_group,
    ),
    function(
        "allow_routing",
        MAYBE_BASENAME,
        RULES,
        "Whether the files let From call the R-URI (and, with check_all_branches, the branches).",
        allow::allow_routing,
    ),
    function(
        "allow_register",
        BASENAME,
        RULES,
        "Whether the files let To register every Contact.",
        allow::allow_register,
    ),
    function(
        "allow_uri",
        BASENAME_URI,
        WIDE,
        "Whether the files let From use a URI.",
        allow::allow_uri,
    ),
];
