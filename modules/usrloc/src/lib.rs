//! The `usrloc` module.
