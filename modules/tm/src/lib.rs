//! The `tm` module: stateful processing of requests.
//!
//! A transaction is made by `t_newtran`, `t_reply` or `t_relay`. From then on retransmissions are
//! absorbed, branches are sent and sent again, replies are matched and passed on, and the script
//! is asked in branch, onreply and failure routes. The state machines are those of
//! `tandem_transaction`; this crate finds transactions, builds messages and runs routes.
//!
//! # Promises
//! - A transaction is a serial object: while one of its routes runs or waits, at most 32 further
//!   events wait; more are dropped and counted. No lock is held while a script runs.
//! - Memory is bounded: above 100,000 transactions, or when nine tenths of the limit of `-m` are in
//!   use, new calls get 503 with Retry-After.
//! - Each transaction ends, whatever the script does with it.
//! - Replies are matched by a random label in our Via branch, which nobody can guess.
//!
//! # What is not here
//! An ACK to a 2xx is known by its branch only.
//!
//! # Files
//! `table.rs` finds transactions; `record.rs` is what is kept of one; `drive.rs` feeds the
//! machine and carries its effects out; `replies.rs` and `upstream.rs` are the way back;
//! `relay.rs`, `draft.rs`, `pause.rs` and `launch.rs` the way on, `failover.rs` to the next server of a name;
//! `via_branch.rs` our Via branch; `local.rs` and `generate.rs` requests of our own, `plain.rs` those
//! that need no transaction; `inject.rs`
//! branches that come later, `later.rs` those of other modules; `snapshot.rs` takes a transaction to another node; `mi.rs` commands; `anycast.rs` messages
//! that other nodes got.

mod answers;
mod anycast;
mod bavp;
mod branches;
mod breadth;
mod draft;
mod drive;
mod failover;
mod functions;
mod generate;
mod inject;
mod later;
mod launch;
mod local;
mod mi;
mod outside;
mod own_reply;
mod params;
mod pause;
mod plain;
mod record;
mod relay;
mod replies;
mod snapshot;
mod soon;
mod stats;
mod table;
mod tm;
mod upstream;
mod variables;
mod via_branch;

use tandem_engine::module::ModuleDef;
use tandem_script::sig::Dependency;

pub use inject::{AnsweredBy, TxRef};
pub use later::{Injected, Origin, Waits};
pub use local::{LocalRequest, Owner};
pub use snapshot::{RestoreError, TxSnapshot, attached_of};
pub use tm::Tm;

/// The table of the module.
pub static MODULE: ModuleDef = ModuleDef {
    name: "tm",
    help: "Stateful processing of requests: transactions, forking, failure routes.",
    dependencies: &[Dependency { module: "clusterer", when_param: "tm_replication_cluster" }],
    params: params::PARAMS,
    functions: functions::FUNCTIONS,
    variables: variables::VARIABLES,
    mi: mi::COMMANDS,
    statistics: stats::STATISTICS,
    events: &[],
    build: Tm::build,
};
