//! The `signaling` module.
