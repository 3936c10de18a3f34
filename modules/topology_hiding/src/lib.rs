//! `topology_hiding`: what each side of a call sees of the other.
//!
//! There is no state: where the hidden side is reached stands, encoded, in the Contact that the
//! other side gets, and comes back in the Request-URI of the dialog's requests. Replies get their
//! Vias back from the transaction.
//!
//! # What is not here
//! Keeping the state in a dialog (flag `D`, `force_dialog`, the user name variables) and
//! `th_callid_loop_protection`.
//!
//! # Files
//! `hide.rs` rewrites messages, `matching.rs` finds the hidden side again, `info.rs` is what the
//! Contact holds, `code.rs` how that is encoded.

mod code;
mod hide;
mod info;
mod matching;
mod params;

use tandem_engine::module::{FunctionDef, ModuleDef, VariableDef};
use tandem_engine::table::{function, needs, optional, variable};
use tandem_script::sig::{ArgKind, ArgSig, Routes};
use tandem_script::value::Value;

/// The table of `topology_hiding`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "topology_hiding",
    help: "What each side of a call sees of the other.",
    dependencies: &[needs("tm")],
    params: params::PARAMS,
    functions: FUNCTIONS,
    variables: VARIABLES,
    mi: &[],
    statistics: &[],
    events: &[],
    build: params::Hiding::build,
};

const HIDE: &[ArgSig] = &[
    ArgSig { check: Some(params::check_flags), ..optional("flags", ArgKind::Str) },
    optional("contact_users", ArgKind::Str),
];
const MATCH: &[ArgSig] = &[optional("mode", ArgKind::Str)];

const FUNCTIONS: &[FunctionDef] = &[
    function(
        "topology_hiding",
        HIDE,
        Routes::REQUEST,
        "Hides Via, Record-Route and Contact of both sides. Flags: U shows the user of Contact, C \
         encodes the Call-ID; a and A mean nothing here, where the advertised address is always \
         shown. Users of Contact are \"caller/callee\": what each side is shown.",
        hide::topology_hiding,
    ),
    function(
        "topology_hiding_match",
        MATCH,
        Routes::REQUEST,
        "Finds the hidden side for a request of a dialog and hides again; false for others.",
        matching::topology_hiding_match,
    ),
];

const VARIABLES: &[VariableDef] =
    &[variable("TH_callee_callid", "The Call-ID that the callee sees.", |call| {
        match hide::callee_call_id(call) {
            Some(text) => Value::str(text),
            None => Value::Null,
        }
    })];
