//! `sl`: replies without state.

use std::sync::Arc;

use tandem_engine::context::Ctx;
use tandem_engine::module::{Call, Cx, Module, ModuleDef};
use tandem_engine::own_reply::{ErrorReply, Leave, local_tag, reply_error, reply_stateless};
use tandem_engine::table::{arg, counter, function, param};
use tandem_script::host::Called;
use tandem_script::sig::{ArgKind, ParamKind, Routes};
use tandem_sip::{Message, Method};

/// The table of `sl`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "sl",
    help: "Replies without state.",
    dependencies: &[],
    params: &[param("enable_stats", ParamKind::Int, Some("1"), "Keep statistics of replies.")],
    functions: &[
        function(
            "sl_send_reply",
            &[arg("code", ArgKind::Int), arg("reason", ArgKind::Str)],
            Routes::REQUEST.or(Routes::ERROR),
            "Answers the request without state.",
            sl_send_reply,
        ),
        function(
            "sl_reply_error",
            &[],
            Routes::REQUEST,
            "Answers the request with the last error.",
            sl_reply_error,
        ),
    ],
    variables: &[],
    mi: &[],
    statistics: &[
        counter("1xx_replies", "Provisional replies sent."),
        counter("2xx_replies", "2xx replies sent."),
        counter("3xx_replies", "3xx replies sent."),
        counter("4xx_replies", "4xx replies sent."),
        counter("5xx_replies", "5xx replies sent."),
        counter("6xx_replies", "6xx replies sent."),
        counter("sent_replies", "Replies sent."),
        counter("sent_err_replies", "Replies sent by sl_reply_error()."),
        counter("received_ACKs", "ACKs to replies of ours, absorbed."),
    ],
    events: &[],
    build: |from| Ok(Arc::new(Sl { stats: from.int("enable_stats") != Some(0) })),
};

const SENT: usize = 6;
const SENT_ERR: usize = 7;
const ACKS: usize = 8;

/// The state of `sl`: whether it counts.
#[derive(Debug)]
pub struct Sl {
    stats: bool,
}

impl Sl {
    /// Sends a reply without state and counts it; `false` if the message takes none.
    pub fn reply(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, code: u16, reason: &[u8]) -> bool {
        let sent = reply_stateless(cx, ctx, code, reason, b"", Leave::Now);
        if sent {
            self.count(cx, code);
        }
        sent
    }

    fn count(&self, cx: &Cx<'_>, code: u16) {
        if self.stats {
            let class = usize::from(code / 100).clamp(1, 6) - 1;
            cx.count(class, 1);
            cx.count(SENT, 1);
        }
    }
}

impl Module for Sl {
    /// An ACK whose To carries a tag of ours ends here, unless a transaction wants it.
    fn absorbs(&self, cx: &mut Cx<'_>, msg: &Message) -> bool {
        let ours = msg.method() == Method::Ack
            && msg.to_tag().is_some_and(|tag| tag == local_tag(cx.node, msg).as_bytes())
            && !cx.awaits_ack(msg);
        if ours && self.stats {
            cx.count(ACKS, 1);
        }
        ours
    }
}

fn sl_send_reply(call: &mut Call<'_, '_, '_>) -> Called {
    let code = call.int(0).and_then(|c| u16::try_from(c).ok()).filter(|c| (100..700).contains(c));
    let (Some(code), Some(sl)) = (code, call.state::<Sl>()) else { return Called::Returned(-1) };
    let reason = call.text(1);
    Called::Returned(if sl.reply(call.cx, call.ctx, code, &reason) { 1 } else { -1 })
}

fn sl_reply_error(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(sl) = call.state::<Sl>() else { return Called::Returned(-1) };
    match reply_error(call.cx, call.ctx) {
        ErrorReply::None => return Called::Returned(-1),
        ErrorReply::Before => return Called::Returned(1),
        ErrorReply::Stateful => {}
        ErrorReply::Stateless => sl.count(call.cx, call.ctx.error.code),
    }
    if sl.stats {
        call.cx.count(SENT_ERR, 1);
    }
    Called::Returned(1)
}
