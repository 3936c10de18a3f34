//! `proto_tcp`: SIP over TCP.
//!
//! Connections belong to the node (`tandem_engine::stream`); this module says that the script
//! wants the transport, what port a socket without one gets, and how keepalives are answered.

use std::sync::Arc;

use tandem_engine::module::{Build, BuildError, Module, ModuleDef};
use tandem_engine::stream::StreamOptions;
use tandem_engine::table::{moot, param};
use tandem_script::sig::ParamKind;

const NEVER_BLOCKS: &str = "connecting and writing never block here";

/// The table of `proto_tcp`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "proto_tcp",
    help: "SIP over TCP.",
    dependencies: &[],
    params: &[
        param("tcp_port", ParamKind::Int, Some("5060"), "Port of sockets without one."),
        param("tcp_crlf_pingpong", ParamKind::Int, Some("1"), "Answers CRLF CRLF with CRLF."),
        param("tcp_crlf_drop", ParamKind::Int, Some("0"), "Drops CRLF CRLF without an answer."),
        param(
            "tcp_max_msg_chunks",
            ParamKind::Int,
            Some("0"),
            "Reads a message may come in; 0: any, within tcp_max_msg_time.",
        ),
        param(
            "tcp_async_max_postponed_chunks",
            ParamKind::Int,
            Some("0"),
            "Writes that may wait for one connection; 0: only their bytes are limited.",
        ),
        moot("tcp_send_timeout", ParamKind::Int, NEVER_BLOCKS),
        moot("tcp_async", ParamKind::Int, NEVER_BLOCKS),
        moot("tcp_async_local_write_timeout", ParamKind::Int, NEVER_BLOCKS),
        moot("trace_destination", ParamKind::Str, "there is no tracing of transports"),
        moot("trace_on", ParamKind::Int, "there is no tracing of transports"),
        moot("trace_filter_route", ParamKind::Str, "there is no tracing of transports"),
    ],
    functions: &[],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

struct ProtoTcp(StreamOptions);

impl Module for ProtoTcp {
    fn stream_options(&self) -> Option<StreamOptions> {
        Some(self.0)
    }
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let number = |name: &'static str| {
        let n = from.int(name).unwrap_or(0);
        u32::try_from(n).map_err(|_| BuildError::new(name, "0 or more is wanted"))
    };
    let answers = number("tcp_crlf_pingpong")? != 0 && number("tcp_crlf_drop")? == 0;
    Ok(Arc::new(ProtoTcp(StreamOptions {
        ping_pong: answers,
        pieces_max: number("tcp_max_msg_chunks")?,
        writes_max: number("tcp_async_max_postponed_chunks")?,
    })))
}
