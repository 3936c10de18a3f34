//! The tests of `registrar`, linked once.

mod common;
mod exports;
mod lookup;
mod save;
