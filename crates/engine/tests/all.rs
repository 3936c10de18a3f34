//! The tests of `engine`, linked once.

mod exports;
mod management;
