//! The tests of `clusterer`, linked once.

mod cluster;
mod exports;
