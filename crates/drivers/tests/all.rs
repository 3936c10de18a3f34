//! The tests of `drivers`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod fifo;
mod management;
mod sqlite;
mod sqlite_extensions;
