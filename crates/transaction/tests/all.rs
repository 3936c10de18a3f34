//! The tests of `transaction`, linked once.

mod common;
mod forking;
mod machines;
mod random;
mod timing;
mod waiting;
