//! The tests of `usrloc`, linked once.

mod exports;
mod nodes;
mod persistence;
mod sql_only;
mod together;
