//! `textops`: search and change a message as text.
//!
//! Expressions are POSIX extended and ignore case; `.`, `^` and `$` stop at line ends, except in
//! `replace_body_atonce()`. What is searched is the message as it came, and a change is an edit
//! of it like all others: it goes together with header functions, and the length of the body
//! follows. Only a body that was set anew is searched as it is now.

mod expressions;
mod replace;
mod search;
mod subst;
mod text;

use std::sync::Arc;

use tandem_engine::module::{Call, FunctionDef, Module, ModuleDef};
use tandem_engine::table::{arg, function, literal};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ArgSig, Routes};

use crate::expressions::Expressions;

/// The table of `textops`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "textops",
    help: "Searches and changes a message as text.",
    dependencies: &[],
    params: &[],
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(TextOps::default())),
};

const URI_ROUTES: Routes =
    Routes::REQUEST.or(Routes::FAILURE).or(Routes::ONREPLY).or(Routes::BRANCH);
const ALL: Routes = URI_ROUTES.or(Routes::LOCAL);
const RE: &[ArgSig] = &[arg("re", ArgKind::Regex)];
const RE_TEXT: &[ArgSig] = &[arg("re", ArgKind::Regex), arg("txt", ArgKind::Str)];
const EXPR: &[ArgSig] = &[literal("expr", ArgKind::Subst)];

const FUNCTIONS: &[FunctionDef] = &[
    function("search", RE, ALL, "Whether the message has a match.", search::search),
    function("search_body", RE, ALL, "Whether the body has a match.", search::search_body),
    function(
        "search_append",
        RE_TEXT,
        ALL,
        "Puts text behind the first match in the message.",
        search::search_append,
    ),
    function(
        "search_append_body",
        RE_TEXT,
        ALL,
        "Puts text behind the first match in the body.",
        search::search_append_body,
    ),
    function(
        "replace",
        RE_TEXT,
        ALL,
        "Replaces the first match behind the first line.",
        replace::replace,
    ),
    function("replace_body", RE_TEXT, ALL, "Replaces the first match in the body.", |call| {
        replace::replace_body(call)
    }),
    function(
        "replace_all",
        RE_TEXT,
        ALL,
        "Replaces every match behind the first line.",
        replace::replace_all,
    ),
    function(
        "replace_body_all",
        RE_TEXT,
        ALL,
        "Replaces every match in the body, line by line.",
        replace::replace_body_all,
    ),
    function(
        "replace_body_atonce",
        RE_TEXT,
        ALL,
        "Replaces every match in the body, taken as one text.",
        replace::replace_body_atonce,
    ),
    function("subst", EXPR, ALL, "Applies /re/repl/flags behind the first line.", subst::subst),
    function("subst_uri", EXPR, URI_ROUTES, "Applies /re/repl/flags to the R-URI.", |call| {
        subst::subst_uri(call)
    }),
    function(
        "subst_user",
        EXPR,
        URI_ROUTES,
        "Applies /re/repl/flags to the user of the R-URI.",
        subst::subst_user,
    ),
    function("subst_body", EXPR, ALL, "Applies /re/repl/flags to the body.", subst::subst_body),
];

/// The state of the module: expressions that were compiled.
#[derive(Default)]
pub(crate) struct TextOps {
    pub(crate) expressions: Expressions,
}

impl Module for TextOps {}

pub(crate) const YES: Called = Called::Returned(1);
pub(crate) const NO: Called = Called::Returned(-1);

/// The expression of an argument, or why there is none (logged).
pub(crate) fn expression(
    call: &mut Call<'_, '_, '_>,
    by_line: bool,
) -> Option<Arc<regex::bytes::Regex>> {
    let state = call.state::<TextOps>()?;
    match state.expressions.of(call, 0, by_line) {
        Ok(expression) => Some(expression),
        Err(why) => {
            call.complain(tandem_engine::log::Level::Error, format!("no expression: {why}"));
            None
        }
    }
}
