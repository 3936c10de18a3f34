//! The `proto_bin` module.
