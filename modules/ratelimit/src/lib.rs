//! `ratelimit`: how often something may happen, over all nodes of a cluster if wanted.
//!
//! A pipe is a counter with a limit, made when it is first checked; `/b` behind its name
//! replicates it, `/s` keeps its count in a store.
//!
//! # Files
//! `pipe.rs` is one pipe, `state.rs` all of them, `functions.rs` and `mi.rs` the doors,
//! `replication.rs` the peers.

mod functions;
mod mi;
mod pipe;
mod replication;
mod state;

use tandem_engine::module::ModuleDef;

/// The table of `ratelimit`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "ratelimit",
    help: "How often something may happen, over all nodes of a cluster if wanted.",
    dependencies: state::DEPENDENCIES,
    params: state::PARAMS,
    functions: functions::FUNCTIONS,
    variables: functions::VARIABLES,
    mi: mi::COMMANDS,
    statistics: &[],
    events: &[],
    build: state::RateLimit::build,
};
