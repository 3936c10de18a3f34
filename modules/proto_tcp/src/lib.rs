//! `proto_tcp`: SIP over TCP.
//!
//! Connections belong to the node (`tandem_engine::stream`); this module says that the script
//! wants the transport, what port a socket without one gets, and how keepalives are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tandem_engine::log::Level;
use tandem_engine::mi::{MiCall, MiDef, MiOutcome, RpcError};
use tandem_engine::module::{Build, BuildError, Module, ModuleDef};
use tandem_engine::stream::StreamOptions;
use tandem_engine::table::{mi_text, moot, param};
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
    mi: &[MiDef {
        name: "proto_tcp:trace",
        old_names: &["tcp_trace"],
        param_sets: &[&[], &[mi_text("trace_mode")]],
        help: "Reads or sets whether transports are traced. Nothing is, without a module that \
               takes traces: the switch says so when it is turned on.",
        run: trace,
    }],
    statistics: &[],
    events: &[],
    build,
};

struct ProtoTcp {
    options: StreamOptions,
    /// What `proto_tcp:trace` was told.
    traces: AtomicBool,
}

impl Module for ProtoTcp {
    fn stream_options(&self) -> Option<StreamOptions> {
        Some(self.options)
    }
}

fn trace(call: &mut MiCall<'_, '_>) -> MiOutcome {
    let Some(tcp) = call.cx.node.module::<ProtoTcp>(call.cx.slot) else {
        return MiOutcome::failed(500, "Internal error");
    };
    let Some(mode) = call.text("trace_mode") else {
        let mode = if tcp.traces.load(Ordering::Relaxed) { "on" } else { "off" };
        return MiOutcome::Done(json!({"TCP tracing": mode}));
    };
    let on = match mode.to_ascii_lowercase().as_str() {
        "on" => true,
        "off" => false,
        _ => return MiOutcome::Failed(RpcError::invalid_params("Invalid params")),
    };
    tcp.traces.store(on, Ordering::Relaxed);
    if on {
        let text = "tracing of TCP is on, and nothing is traced: no module takes traces";
        call.cx.log(Level::Warning, text);
    }
    MiOutcome::ok()
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let number = |name: &'static str| {
        let n = from.int(name).unwrap_or(0);
        u32::try_from(n).map_err(|_| BuildError::new(name, "0 or more is wanted"))
    };
    let answers = number("tcp_crlf_pingpong")? != 0 && number("tcp_crlf_drop")? == 0;
    let options = StreamOptions {
        ping_pong: answers,
        pieces_max: number("tcp_max_msg_chunks")?,
        writes_max: number("tcp_async_max_postponed_chunks")?,
    };
    Ok(Arc::new(ProtoTcp { options, traces: AtomicBool::new(false) }))
}
