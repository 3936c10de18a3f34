//! The tests of `cluster`, linked once.

mod bridge;
mod scene;
mod stage;
mod stock_peer;
mod sync_rules;
mod tandem_nodes;
mod topology;
mod world;
