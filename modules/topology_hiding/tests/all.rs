//! The tests of `topology_hiding`, linked once.

mod exports;
mod kept;
