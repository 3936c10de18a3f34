//! `signaling`: one way to reply, with a transaction if there is one.

use std::sync::Arc;

use bytes::Bytes;

use tandem_engine::context::Ctx;
use tandem_engine::module::{Call, Cx, Module, ModuleDef};
use tandem_engine::own_reply::{Leave, local_tag, reply_stateless};
use tandem_engine::table::{arg, function, variable};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, Routes};
use tandem_script::value::Value;
use tandem_sl::Sl;

/// The table of `signaling`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "signaling",
    help: "Replies, with a transaction if there is one.",
    dependencies: &[],
    params: &[],
    functions: &[function(
        "send_reply",
        &[arg("code", ArgKind::Int), arg("reason", ArgKind::Str)],
        Routes::REQUEST.or(Routes::FAILURE).or(Routes::ERROR),
        "Answers the request, with its transaction if it has one.",
        send_reply,
    )],
    variables: &[variable("sig_local_totag", "Tag of our own replies to this request.", |c| {
        let tag = local_tag(c.cx.node, &c.ctx.msg);
        Value::Str(Bytes::copy_from_slice(tag.as_bytes()))
    })],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(Signaling)),
};

struct Signaling;

impl Module for Signaling {}

/// Answers the request of `ctx`: through its transaction if a module keeps one, else without
/// state. `false` if the message takes no reply.
pub fn reply(cx: &mut Cx<'_>, ctx: &mut Ctx, code: u16, reason: &[u8]) -> bool {
    if cx.reply_stateful(ctx, code, reason) {
        return true;
    }
    match cx.node.find::<Sl>() {
        Some((slot, sl)) => cx.for_slot(slot, |cx| sl.reply(cx, ctx, code, reason)),
        None => reply_stateless(cx, ctx, code, reason, b"", Leave::Now),
    }
}

fn send_reply(call: &mut Call<'_, '_, '_>) -> Called {
    let code = call.int(0).and_then(|c| u16::try_from(c).ok()).filter(|c| (100..700).contains(c));
    let Some(code) = code else { return Called::Returned(-1) };
    let reason = call.text(1);
    Called::Returned(if reply(call.cx, call.ctx, code, &reason) { 1 } else { -1 })
}
