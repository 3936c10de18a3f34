//! The `proto_udp` module.
