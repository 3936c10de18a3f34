//! `cachedb_local`: values in memory for scripts, replicated if wanted.
//!
//! The functions are those of the core (`cache_store("local", ...)`); here are the collections.
//! A counter is replicated like any other value, so that the node that takes over counts on.
//!
//! # Files
//! `params.rs` parameters, `persist.rs` what survives a restart, `store.rs` a collection, `state.rs` the module, `replication.rs` what
//! goes to peers and comes from them, `wire.rs` records between Tandem nodes, `chunk.rs` keys by
//! pattern.

mod chunk;
mod params;
mod persist;
mod replication;
mod state;
mod store;
mod wire;

use tandem_engine::module::ModuleDef;

/// The table of `cachedb_local`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "cachedb_local",
    help: "Values in memory for scripts, replicated if wanted.",
    dependencies: params::DEPENDENCIES,
    params: params::PARAMS,
    functions: chunk::FUNCTIONS,
    variables: &[],
    mi: chunk::COMMANDS,
    statistics: &[],
    events: &[],
    build: state::Local::build,
};
