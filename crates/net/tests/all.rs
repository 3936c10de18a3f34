//! The tests of `net`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod bin;
mod udp;
