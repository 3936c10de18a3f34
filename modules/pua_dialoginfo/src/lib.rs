//! `pua_dialoginfo`: who is on the phone, published as dialog information (RFC 4235).
//!
//! `dialoginfo_set()` in the route of an INVITE makes the call known to a presence server: with
//! each of its states a PUBLISH goes out for the caller, the callee, or both, through `pua`. Lamps
//! of phones that watch them (BLF) follow.
//!
//! # Promises
//! - What the end of a call needs is in its dialog (`plan.rs`, and values that scripts see), so
//!   that the lamp goes out wherever the call ends.
//! - A call that nobody was told of costs nothing at its end.
//!
//! # Files
//! `plan.rs` is what a dialog keeps, `watch.rs` what a transaction shares; `moments.rs` says when
//! something is published, `document.rs` what; `functions.rs` are the doors.

mod document;
mod functions;
mod moments;
mod params;
mod plan;
mod state;
mod watch;

use tandem_engine::module::ModuleDef;
use tandem_engine::table::needs;

pub use state::DialogInfo;

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "pua_dialoginfo",
    help: "Publishes who is on the phone, for the lamps of those who watch them.",
    dependencies: &[needs("pua"), needs("dialog"), needs("tm")],
    params: params::PARAMS,
    functions: functions::FUNCTIONS,
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: DialogInfo::build,
};
