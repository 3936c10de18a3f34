//! `proto_udp`: SIP over UDP.
//!
//! The sockets themselves belong to the node; this module says that the script wants the
//! transport, and what port a socket without one gets.

use std::sync::Arc;

use tandem_engine::module::{Module, ModuleDef};
use tandem_engine::table::param;
use tandem_script::sig::ParamKind;

/// The table of `proto_udp`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "proto_udp",
    help: "SIP over UDP.",
    dependencies: &[],
    params: &[param("udp_port", ParamKind::Int, Some("5060"), "Port of sockets without one.")],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(ProtoUdp)),
};

struct ProtoUdp;

impl Module for ProtoUdp {}
