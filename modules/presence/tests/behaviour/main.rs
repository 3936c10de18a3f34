//! What phones see of presence.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

#[path = "../common/mod.rs"]
mod common;

mod answering;
mod cluster;
mod donor;
mod federation;
mod hostile;
mod pair;
mod persistence;
mod publishing;
mod watching;
