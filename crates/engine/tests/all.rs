//! The tests of `engine`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod exports;
mod management;
