//! The BIN packet codec.
