//! The `rr` module.
