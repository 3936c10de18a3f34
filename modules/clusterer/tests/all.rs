//! The tests of `clusterer`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod cluster;
mod exports;
