//! `proto_bin`: the binary protocol between nodes, over TCP.
//!
//! The packets are those of `tandem-bin`; the links belong to the cluster. This module says that
//! the script wants the transport, and what port a socket without one gets.

use std::sync::Arc;

use tandem_engine::module::{Module, ModuleDef};
use tandem_engine::table::param;
use tandem_script::sig::ParamKind;

/// The table of `proto_bin`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "proto_bin",
    help: "The binary protocol between the nodes of a cluster.",
    dependencies: &[],
    params: &[param("bin_port", ParamKind::Int, Some("5555"), "Port of sockets without one.")],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(ProtoBin)),
};

struct ProtoBin;

impl Module for ProtoBin {}
