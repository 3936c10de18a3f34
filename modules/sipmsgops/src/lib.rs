//! The `sipmsgops` module.
