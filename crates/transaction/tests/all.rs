//! The tests of `transaction`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod common;
mod forking;
mod machines;
mod random;
mod timing;
mod waiting;
