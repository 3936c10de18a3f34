//! The tests of `script`, linked once.

mod common;
mod golden;
mod hostile;
mod language;
mod machine;
mod transformations;
