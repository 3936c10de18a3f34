//! The tests of `acc`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod apart;
mod calls;
mod common;
mod exports;
mod pair;
mod radius;
