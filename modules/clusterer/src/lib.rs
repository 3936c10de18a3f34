//! The `clusterer` module.
