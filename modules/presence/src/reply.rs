//! Answers to PUBLISH and SUBSCRIBE.

use tandem_engine::module::Call;
use tandem_engine::own_reply::{self, reply_stateless};
use tandem_script::host::Called;

use crate::package::Refusal;
use crate::request::Beyond;
use crate::state::Presence;

/// When an answer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Now,
    /// When a peer knows what the request has changed.
    Gated,
}

impl Leave {
    pub(crate) fn of(presence: &Presence) -> Self {
        if presence.is_replicated() { Self::Gated } else { Self::Now }
    }
}

/// Answers, through the transaction if there is one.
pub(crate) fn reply(
    call: &mut Call<'_, '_, '_>,
    code: u16,
    reason: &[u8],
    headers: &[u8],
    leave: Leave,
) {
    let before = call.ctx.reply_headers.len();
    call.ctx.reply_headers.extend_from_slice(headers);
    if !call.cx.reply_stateful(call.ctx, code, reason) {
        let leave = match leave {
            Leave::Now => own_reply::Leave::Now,
            Leave::Gated => own_reply::Leave::Gated,
        };
        reply_stateless(call.cx, call.ctx, code, reason, b"", leave);
    }
    call.ctx.reply_headers.truncate(before);
}

/// Refuses, and fails.
pub(crate) fn refuse(call: &mut Call<'_, '_, '_>, refusal: &Refusal) -> Called {
    let more = match refusal.code {
        503 => "Retry-After: 30\r\n".to_owned(),
        // RFC 3903 6, step 4.
        _ if !refusal.accept.is_empty() => format!("Accept: {}\r\n", refusal.accept),
        _ => String::new(),
    };
    reply(call, refusal.code, refusal.reason.as_bytes(), more.as_bytes(), Leave::Now);
    Called::Returned(-1)
}

/// Refuses a request that asks for more than this server does.
pub(crate) fn refuse_beyond(call: &mut Call<'_, '_, '_>, beyond: &Beyond) -> Called {
    let (code, reason, header) = match beyond {
        Beyond::Extension(names) => {
            (420, &b"Bad Extension"[..], format!("Unsupported: {names}\r\n"))
        }
        Beyond::Encoding => {
            (415, &b"Unsupported Media Type"[..], "Accept-Encoding: identity\r\n".to_owned())
        }
    };
    reply(call, code, reason, header.as_bytes(), Leave::Now);
    Called::Returned(-1)
}

/// Refuses an event that nobody knows (RFC 6665 8.3.2).
pub(crate) fn refuse_event(call: &mut Call<'_, '_, '_>, presence: &Presence) -> Called {
    let headers = format!("Allow-Events: {}\r\n", presence.events());
    reply(call, 489, b"Bad Event", headers.as_bytes(), Leave::Now);
    Called::Returned(-1)
}
