//! The tests of `topology_hiding`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod exports;
mod kept;
mod nat;
