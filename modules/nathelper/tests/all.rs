//! The tests of `nathelper`, linked once.

mod exports;
mod spread;
mod takeover;
