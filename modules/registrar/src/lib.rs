//! The `registrar` module.
