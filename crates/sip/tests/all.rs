//! The tests of `sip`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod build;
mod edits;
mod message;
mod torture;
mod torture_each;
