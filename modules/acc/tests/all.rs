//! The tests of `acc`, linked once.

mod calls;
mod common;
mod exports;
