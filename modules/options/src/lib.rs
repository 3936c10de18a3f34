//! `options`: answers OPTIONS that ask about the server itself (RFC 3261 11.2).

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::module::{Build, BuildError, Call, Module, ModuleDef};
use tandem_engine::table::{function, needs, param};
use tandem_script::host::Called;
use tandem_script::sig::{ParamKind, ParamSig, Routes};
use tandem_sip::{Method, Uri};

/// The table of `options`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "options",
    help: "Answers OPTIONS about the server itself (RFC 3261 11.2).",
    dependencies: &[needs("signaling")],
    params: PARAMS,
    functions: &[function(
        "options_reply",
        &[],
        Routes::REQUEST,
        "Answers an OPTIONS whose R-URI has no user with 200 and what the server can do.",
        options_reply,
    )],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

const PARAMS: &[ParamSig] = &[
    text("accept", "*/*", "Accept of the reply; empty: none."),
    text("accept_encoding", "", "Accept-Encoding of the reply; empty: none."),
    text("accept_language", "en", "Accept-Language of the reply; empty: none."),
    text("support", "", "Supported of the reply; empty: none."),
];

const fn text(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    ParamSig { check: Some(one_line), ..param(name, ParamKind::Str, Some(default), help) }
}

fn one_line(text: &str) -> Result<(), String> {
    match text.contains(['\r', '\n']) {
        true => Err("the value of a header is one line".into()),
        false => Ok(()),
    }
}

struct Options {
    /// The header lines of every reply.
    lines: Bytes,
}

impl Module for Options {}

fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let headers = [
        ("Accept", "accept"),
        ("Accept-Encoding", "accept_encoding"),
        ("Accept-Language", "accept_language"),
        ("Supported", "support"),
    ];
    let lines = headers.iter().filter_map(|(header, param)| {
        let value = build.text(param).filter(|v| !v.is_empty())?;
        Some(format!("{header}: {value}\r\n"))
    });
    let lines: String = lines.collect();
    Ok(Arc::new(Options { lines: lines.into() }))
}

fn options_reply(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(options) = call.state::<Options>() else { return Called::Returned(-1) };
    // One for a user is for that user's phone to answer.
    let is_ours = call.ctx.msg.method() == Method::Options
        && Uri::parse(call.ctx.request_uri()).is_ok_and(|uri| uri.is_sip() && uri.user.is_none());
    if !is_ours {
        return Called::Returned(-1);
    }
    let before = call.ctx.reply_headers.len();
    call.ctx.reply_headers.extend_from_slice(&options.lines);
    let sent = tandem_signaling::reply(call.cx, call.ctx, 200, b"OK");
    call.ctx.reply_headers.truncate(before);
    Called::Returned(if sent { 1 } else { -1 })
}
