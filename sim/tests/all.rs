//! The tests of `sim`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod checkers;
mod field;
mod routing;
