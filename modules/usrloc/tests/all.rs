//! The tests of `usrloc`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod exports;
mod nodes;
mod persistence;
mod sql_only;
mod together;
