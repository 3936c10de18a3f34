//! `acc`: what of transactions and calls is recorded, and where.
//!
//! `do_accounting()` marks a transaction; what becomes of it decides whether a record is written,
//! to the log, into a database, to a RADIUS server, or as an event. With the flag `cdr` a call has one record, written
//! at its end.
//!
//! # Promises
//! - A call with the flag `cdr` has exactly one row in a database, whatever fails: see
//!   `docs/cdr.md`.
//! - What a database or a RADIUS server does not take waits on disk, and never in the way of a
//!   message.
//! - What costs nothing is free: a transaction without an account knows nothing of this module,
//!   and fields are taken from a message when a record is written.
//!
//! # Files
//! `account.rs` is what contexts of a transaction share, with `marks.rs` and `fields.rs`;
//! `moments.rs` decides; `calls.rs` keeps a call until its end, with what `plan.rs` packs; `record.rs` and
//! `cdr.rs` are what is recorded; `lines.rs`, `events.rs`, `ledger/` and `aaa.rs` are the places it
//! goes to.

mod aaa;
mod account;
mod calls;
mod cdr;
mod events;
mod fields;
mod functions;
mod ledger;
mod lines;
mod marks;
mod mi;
mod moments;
mod pack;
mod params;
mod plan;
mod record;
mod state;
mod variables;

use tandem_engine::module::ModuleDef;
use tandem_engine::table::needs;
use tandem_script::sig::Dependency;

pub use state::Acc;

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "acc",
    help: "Records of transactions and calls: to the log, a database, a RADIUS server, as events.",
    dependencies: &[
        needs("tm"),
        Dependency { module: "rr", when_param: "detect_direction" },
        Dependency { module: "aaa_radius", when_param: "aaa_url" },
    ],
    params: params::PARAMS,
    functions: functions::FUNCTIONS,
    variables: variables::VARIABLES,
    mi: mi::COMMANDS,
    statistics: &[],
    events: events::EVENTS,
    build: Acc::build,
};
