//! The tests of `dialog`, linked once.

mod calls;
mod cluster;
mod common;
mod exports;
mod hostile;
mod pair;
mod persistence;
mod stored;
