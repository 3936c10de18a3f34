//! `dialog`: calls as this node knows them, from the INVITE to the BYE.
//!
//! A script makes a dialog with `create_dialog()`. From then on the record follows the call by
//! what the transactions tell and by the requests that pass, and its values, flags and profiles
//! are there in every route of the call.
//!
//! # Promises
//! - A record is plain data that means the same on every node; everything that changes one goes
//!   through [`table::Table::apply`], with the indexes and what peers are told.
//! - Counts (statistics, profiles) are sizes of indexes and cannot drift.
//! - What a node does of itself (end, ping, BYE) takes a duty.
//! - Memory is bounded: so many dialogs, so much in each of them.
//!
//! # Files
//! `record.rs` is what is kept, `change.rs` what can happen to it, `table.rs` where it is found,
//! `index.rs` by what else, `local.rs` what is one node's alone; `state.rs` the module and what
//! follows from a change. `create.rs`, `invite.rs` and `matching.rs` follow the messages,
//! `drafts.rs` and `ringing.rs` calls that ring on other nodes, `sweep.rs` the time; `functions.rs`,
//! `variables.rs`, `mi.rs` with `listing.rs` are the doors.

mod admin;
#[cfg(test)]
mod behaviour;
mod change;
mod commands;
mod create;
mod current;
mod debts;
mod drafts;
mod duty;
mod early;
mod ending;
mod events;
mod flags;
mod functions;
mod graves;
mod id;
mod index;
mod invite;
mod listing;
mod local;
mod matching;
mod mi;
mod params;
mod passed;
mod pending;
mod ping;
mod prack;
mod profiles;
mod query;
pub mod record;
mod renumber;
mod replication;
mod replies;
mod ringing;
mod sdp;
mod send;
mod sequential;
mod shared;
mod sql;
mod state;
mod stats;
mod sweep;
pub mod table;
mod terms;
mod twins;
mod unseen;
mod validate;
mod value_stamps;
mod values;
mod variables;

use tandem_engine::module::ModuleDef;
use tandem_engine::table::needs;
use tandem_script::sig::Dependency;

pub use change::{Change, On, Origin, Refused};
pub use create::Created;
pub use current::{Current, Kind};
pub use ending::HungUp;
pub use flags::Flags;
pub use id::DialogId;
pub use index::{KEPT_PREFIX, Profile, Profiles};
pub use local::Local;
pub use params::{MatchMode, Params};
pub use record::{Dialog, EndReason, Leg, Marker, Membership, Side, State};
pub use state::Dialogs;
pub use table::SHARDS;

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "dialog",
    help: "Calls from the INVITE to the BYE: their state, values, profiles and ends.",
    dependencies: &[
        needs("tm"),
        Dependency { module: "clusterer", when_param: "dialog_replication_cluster" },
        Dependency { module: "clusterer", when_param: "profile_replication_cluster" },
    ],
    params: params::PARAMS,
    functions: functions::FUNCTIONS,
    variables: variables::VARIABLES,
    mi: mi::COMMANDS,
    statistics: stats::STATISTICS,
    events: events::EVENTS,
    build: Dialogs::build,
};
