//! The tests of `sqlops`, linked once.

mod exports;
mod waiting;
