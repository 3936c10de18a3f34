//! The tests of `cluster`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod bad_network;
mod bridge;
mod lives;
mod scene;
mod stage;
mod stand;
mod starting;
mod stock_peer;
mod sync_rules;
mod tandem_nodes;
mod topology;
mod world;
