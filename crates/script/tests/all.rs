//! The tests of `script`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod common;
mod golden;
mod hostile;
mod language;
mod machine;
mod transformations;
