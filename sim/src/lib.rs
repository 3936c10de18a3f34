//! The deterministic simulator.
//!
//! Two or three nodes of the production code load the scripts of `examples/hot-standby` through
//! the real compiler and exchange serialised SIP and BIN bytes over a network that loses, delays,
//! duplicates and reorders, while nodes crash, disks fail, clocks jump and links are cut. Phones
//! and an operator use the service; checkers watch what the service promises.
//!
//! The last nodes of a cluster may be stock nodes (`stock/`), written from the description of the
//! wire alone.
//!
//! A [`scenario::Scenario`] is a seed, options and a plan; running it twice gives the same trace,
//! byte for byte. Nothing here asks the operating system for time or chance.

pub mod actors;
pub mod checkers;
pub mod faults;
pub mod options;
pub mod plan;
pub mod report;
pub mod scenario;
mod stock;
pub mod trace;
pub mod world;
