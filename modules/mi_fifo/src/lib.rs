//! The `mi_fifo` module.
