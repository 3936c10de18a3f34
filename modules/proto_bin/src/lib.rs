//! `proto_bin`: the binary protocol between nodes, over TCP.
//!
//! The packets are those of `tandem-bin`; the links belong to the cluster. This module says that
//! the script wants the transport, and what port a socket without one gets.

use std::sync::Arc;

use tandem_engine::module::{Module, ModuleDef};
use tandem_engine::table::{moot, param};
use tandem_script::sig::ParamKind;

const NEVER_BLOCKS: &str = "connecting and writing never block here";

/// The table of `proto_bin`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "proto_bin",
    help: "The binary protocol between the nodes of a cluster.",
    dependencies: &[],
    params: &[
        param("bin_port", ParamKind::Int, Some("5555"), "Port of sockets without one."),
        moot("bin_send_timeout", ParamKind::Int, NEVER_BLOCKS),
        moot("bin_async", ParamKind::Int, NEVER_BLOCKS),
        moot("bin_async_local_write_timeout", ParamKind::Int, NEVER_BLOCKS),
        moot(
            "bin_async_max_postponed_chunks",
            ParamKind::Int,
            "what waits for a peer is limited in bytes, and what it missed is repaired",
        ),
        moot(
            "bin_max_msg_chunks",
            ParamKind::Int,
            "a packet may come in any number of reads; its size is limited",
        ),
    ],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(ProtoBin)),
};

struct ProtoBin;

impl Module for ProtoBin {}
