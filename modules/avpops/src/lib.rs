//! `avpops`: operations on AVPs, and preferences in a database under the names of older scripts.
//!
//! The database functions are those of `sqlops`; here are the ones that work on the message.

mod ops;
mod text;

use tandem_engine::module::{FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, literal, optional, param};
use tandem_script::sig::{ArgKind, ArgSig, ParamKind, ParamSig, Routes};
use tandem_sqlops::{
    LOAD, Names, PREFERENCE, Sql, avp_load, avp_store, check_url, sql_query, waiting,
};

/// The table of `avpops`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "avpops",
    help: "Operations on AVPs, and preferences in a database.",
    dependencies: &[],
    params: PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |build| Sql::build(build, &NAMES),
};

const NAMES: Names = Names {
    table: "avp_table",
    use_domain: "use_domain",
    uuid: "uuid_column",
    attribute: "attribute_column",
    value: "value_column",
    kind: "type_column",
    username: "username_column",
    domain: "domain_column",
    scheme: "db_scheme",
};

const fn name(name: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(check_name), ..param(name, ParamKind::Str, None, help) }
}

const PARAMS: &[ParamSig] = &[
    ParamSig {
        check: Some(check_url),
        multiple: true,
        ..param(
            "db_url",
            ParamKind::Str,
            None,
            "A database, with the number that db_id means in front; else db_default_url.",
        )
    },
    name("avp_table", "Table of the preferences; default: usr_preferences."),
    param("use_domain", ParamKind::Int, Some("0"), "1: the domain is part of a user's key."),
    name("uuid_column", "Column with the id of a user; default: uuid."),
    name("attribute_column", "Column with the name of the AVP; default: attribute."),
    name("value_column", "Column with its value; default: value."),
    name("type_column", "Column with its type, 2 for a number; default: type."),
    name("username_column", "Column with the user name; default: username."),
    name("domain_column", "Column with the domain; default: domain."),
    ParamSig {
        check: Some(tandem_sqlops::check_scheme),
        multiple: true,
        ..param(
            "db_scheme",
            ParamKind::Str,
            None,
            "Another layout of preferences: \"name:table=t;uuid_col=c;value_col=c\".",
        )
    },
];

/// Everywhere but in error_route.
const ROUTES: Routes = Routes(Routes::ANY.0 & !Routes::ERROR.0);
const QUERY: &[ArgSig] =
    &[arg("query", ArgKind::Str), optional("dest", ArgKind::Vars), optional("db_id", ArgKind::Int)];

const fn named(name: &'static str, check: fn(&str) -> Result<(), String>) -> ArgSig {
    ArgSig { check: Some(check), ..literal(name, ArgKind::Str) }
}

const NAME: ArgSig = named("name", text::check_avp);
const DELETE: &[ArgSig] = &[named("name", text::check_avp_or_all)];
const COPY: &[ArgSig] = &[named("old", text::check_avp), named("new", text::check_copy)];
const ONE: &[ArgSig] = &[NAME];
const PUSH: &[ArgSig] = &[named("dest", text::check_destination), NAME];
const CHECK: &[ArgSig] = &[named("name", text::check_source), named("op", text::check_test)];
const OP: &[ArgSig] = &[named("name", text::check_pair), named("op", text::check_operation)];
const SUBST: &[ArgSig] = &[named("avps", text::check_pair), literal("subst", ArgKind::Subst)];
const SET: &[ArgSig] = &[named("name", text::check_kind)];

const FUNCTIONS: &[FunctionDef] = &[
    waiting(
        "avp_db_query",
        QUERY,
        "Runs SQL; the columns go into the AVPs, or into $avp(1), $avp(2), ...",
        sql_query,
    ),
    function("avp_db_load", LOAD, ROUTES, "Loads preferences of a user into AVPs.", avp_load),
    function(
        "avp_db_delete",
        PREFERENCE,
        ROUTES,
        "Deletes preferences.",
        tandem_sqlops::avp_delete,
    ),
    function("avp_db_store", PREFERENCE, ROUTES, "Stores the values of an AVP.", avp_store),
    function("avp_print", &[], ROUTES, "Writes every AVP to the log.", ops::avp_print),
    function(
        "avp_delete",
        DELETE,
        ROUTES,
        "Deletes the newest value of an AVP (\"$avp(x)\"), all of them (\"$avp(x)/g\"), or those \
         of every AVP (\"a/g\").",
        ops::avp_delete,
    ),
    function(
        "avp_copy",
        COPY,
        ROUTES,
        "Copies into another AVP: \"$avp(y)/flags\" with g all values, d delete the old ones, n \
         as numbers, s as texts.",
        ops::avp_copy,
    ),
    function("avp_shuffle", ONE, ROUTES, "Shuffles the values of an AVP.", ops::avp_shuffle),
    function(
        "avp_pushto",
        PUSH,
        ROUTES,
        "Puts a value into \"$ru\", \"$ru/username\", \"$ru/domain\", \"$du\" or, as branches, \
         \"$br\"; with /g behind the AVP each value.",
        ops::avp_pushto,
    ),
    function(
        "avp_check",
        CHECK,
        ROUTES,
        "Tests values: \"op/value/flags\" with op one of eq ne lt le gt ge re fm and or xor, \
         flags g any value, i in any case.",
        ops::avp_check,
    ),
    function(
        "avp_op",
        OP,
        ROUTES,
        "Calculates: \"op/value/flags\" with op one of add sub mul div mod and or xor not, flags \
         g every value, d delete the old ones; into the AVP behind a slash, else in place.",
        ops::avp_op,
    ),
    function(
        "avp_subst",
        SUBST,
        ROUTES,
        "Substitutes in values; into the AVP behind a slash, else in place; flags g, d.",
        ops::avp_subst,
    ),
    function(
        "is_avp_set",
        SET,
        ROUTES,
        "Whether an AVP has a value; flags e an empty one, s a text, n a number.",
        ops::is_avp_set,
    ),
];

fn check_name(text: &str) -> Result<(), String> {
    tandem_db::check_name(text).map_err(|e| e.to_string())
}
