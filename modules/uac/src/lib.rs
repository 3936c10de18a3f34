//! `uac`: other names in From and To, restored for the caller, and answers to challenges.
//!
//! What was written instead travels in the Record-Route (`vsf`, `vst`, and `vsc` for CSeq), so that
//! any node can restore requests of the dialog; replies get their names back from the transaction.
//!
//! # Files
//! `replace.rs` changes names and restores them, `store.rs` is the text in the Record-Route,
//! `auth.rs` answers challenges, `cseq.rs` counts CSeq up.

mod auth;
mod cseq;
mod params;
mod replace;
mod store;

use tandem_engine::module::{FunctionDef, ModuleDef};
use tandem_engine::table::{arg, function, needs, optional};
use tandem_script::sig::{ArgKind, ArgSig, Routes};

/// The table of `uac`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "uac",
    help: "Other names in From and To, and answers to challenges.",
    dependencies: &[needs("tm")],
    params: params::PARAMS,
    functions: FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: params::Uac::build,
};

const ROUTES: Routes = Routes::REQUEST.or(Routes::FAILURE).or(Routes::BRANCH);
const NAME: &[ArgSig] = &[optional("display", ArgKind::Str), arg("uri", ArgKind::Str)];
const ALGORITHMS: &[ArgSig] =
    &[ArgSig { check: Some(auth::check_algorithms), ..optional("algorithms", ArgKind::Str) }];
const NUMBER: &[ArgSig] = &[arg("n", ArgKind::Int)];

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "uac_replace_from",
        NAME,
        ROUTES,
        "Writes another display name (empty: none; left out: the old one) and another URI \
         (empty: the old one) into From.",
        replace::uac_replace_from,
    ),
    function(
        "uac_restore_from",
        &[],
        ROUTES,
        "Restores what uac_replace_from() changed, in a request of the dialog.",
        replace::uac_restore_from,
    ),
    function("uac_replace_to", NAME, ROUTES, "The same for To.", replace::uac_replace_to),
    function(
        "uac_restore_to",
        &[],
        ROUTES,
        "Restores what uac_replace_to() changed, in a request of the dialog.",
        replace::uac_restore_to,
    ),
    function(
        "uac_auth",
        ALGORITHMS,
        ROUTES,
        "Answers the challenges of the 401 or 407 that a failure route looks at, those of all \
         branches, with the credentials of uac_auth; CSeq counts up. What the caller sends later \
         follows, by the dialog or the Record-Route.",
        auth::uac_auth,
    ),
    function("uac_inc_cseq", NUMBER, ROUTES, "Counts CSeq up.", cseq::uac_inc_cseq),
];
