//! `topology_hiding`: what each side of a call sees of the other.
//!
//! Without a dialog there is no state: where the hidden side is reached stands, encoded, in the
//! Contact that the other side gets, and comes back in the Request-URI of the dialog's requests.
//! A call with a dialog keeps it there, and its Contacts name the dialog. Replies get their Vias
//! back from the transaction.
//!
//! # Files
//! `hide.rs` rewrites messages, `matching.rs` finds the hidden side again, `info.rs` is what the
//! Contact holds, `code.rs` how that is encoded, `kept.rs` what a dialog keeps.

mod code;
mod hide;
mod info;
mod kept;
mod matching;
mod params;

use tandem_engine::module::{FunctionDef, ModuleDef, VariableDef};
use tandem_engine::table::{function, needs, optional, variable};
use tandem_script::sig::{ArgKind, ArgSig, Dependency, Routes};
use tandem_script::value::Value;

/// The table of `topology_hiding`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "topology_hiding",
    help: "What each side of a call sees of the other.",
    dependencies: &[needs("tm"), Dependency { module: "dialog", when_param: "force_dialog" }],
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
         encodes the Call-ID, D makes a dialog; a and A mean nothing here, where the advertised \
         address is always shown. Users of Contact are \"caller/callee\": what each side is shown.",
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
