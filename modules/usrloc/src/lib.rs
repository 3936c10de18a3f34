//! The `usrloc` module: where users are.

pub mod store;
