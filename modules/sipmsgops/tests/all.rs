//! The tests of `sipmsgops`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod exports;
mod hostile;
