//! The tests of `dialog`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod calls;
mod cluster;
mod common;
mod exports;
mod hostile;
mod pair;
mod persistence;
mod ringing;
mod stored;
mod taken;
