//! `qrouting`: lists of drouting in the order of what calls by them were like.
//!
//! For every rule with the algorithm Q, and every gateway in it, the module keeps how many calls
//! were answered, how long they rang and lasted, over the last minutes. A profile says which
//! values are bad; what is bad makes a gateway's weight, or its place, worse.
//!
//! # Promises
//! - Only calls of rules that are sorted by quality cost anything.
//! - Memory is bounded: so many rules, gateways and windows; what has no calls takes nothing.
//!
//! # Files
//! `history.rs` is what is remembered of a gateway, `profiles.rs` what is thought of it,
//! `table.rs` both for all rules; `order.rs` sorts. `calls.rs` hears what calls are like,
//! `tries.rs` keeps those of one request; `functions.rs` and `mi.rs` are the doors, `params.rs` the
//! parameters.

mod calls;
mod functions;
mod history;
mod mi;
mod order;
mod params;
mod profiles;
mod state;
mod table;
mod tries;

use tandem_engine::module::{EventDef, ModuleDef};
use tandem_engine::table::needs;

pub use state::Qrouting;

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "qrouting",
    help: "Sorts lists of drouting by the quality of calls: answers, delays, durations.",
    dependencies: &[needs("tm"), needs("dialog"), needs("drouting")],
    params: params::PARAMS,
    functions: functions::FUNCTIONS,
    variables: &[],
    mi: mi::COMMANDS,
    statistics: &[],
    events: &[EventDef {
        name: order::EVENT,
        params: &["partition", "rule_id", "dst_name"],
        help: "The score of a destination has fallen below event_bad_dst_threshold.",
    }],
    build: Qrouting::build,
};
