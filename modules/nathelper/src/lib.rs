//! The `nathelper` module.
