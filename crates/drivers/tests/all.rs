//! The tests of `drivers`, linked once.

mod fifo;
mod management;
mod sqlite;
