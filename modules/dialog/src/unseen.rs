//! An answer that passed by: while two nodes serve one address, or right after a takeover, the
//! 200 may reach the caller over another node than the INVITE. The caller's ACK proves it.

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_engine::attached::{Attached, TxMoment};
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::transport::written;
use tandem_sip::{Edits, HeaderName, Message, Method, remove_top_via};
use tandem_tm::{AnsweredBy, Tm};

use crate::id::DialogId;
use crate::record::{Dialog, State};
use crate::state::Dialogs;

/// How late this node may hear of an answer.
pub(crate) const LATE_MS_MAX: u64 = 300_000;

impl Dialogs {
    /// Takes the ACK of a call that rings, as far as this node knows, for the 200 that must have
    /// gone before it: whoever keeps something with the INVITE hears of that 200. Only the
    /// caller's ACK counts (RFC 3261 13.2.2.4); a BYE may come without an answer.
    pub(crate) fn learn_answer(&self, cx: &mut Cx<'_>, ctx: &Ctx, did: Option<DialogId>) {
        let ack = &ctx.msg;
        if ack.method() != Method::Ack {
            return;
        }
        let (Some(call_id), Some(from)) = (ack.call_id(), ack.from_tag()) else { return };
        let rings = |d: &Dialog| {
            d.state < State::Unacked && d.has_call_id(call_id) && *d.caller.tag == *from
        };
        let rings = |id: DialogId| self.read(id, rings) == Some(true);
        // Mostly the dialog is named, and answered.
        let is_answered = |d: &Dialog| d.state >= State::Unacked && d.has_call_id(call_id);
        if did.and_then(|id| self.read(id, is_answered)) == Some(true) {
            return;
        }
        if !did.into_iter().chain(self.table.of_call(call_id)).any(rings) {
            return;
        }
        let Some((slot, tm)) = cx.node.find::<Tm>() else { return };
        let by = AnsweredBy::Contact(ack.request_uri());
        let Some((attached, invite, branch)) =
            cx.for_slot(slot, |cx| tm.answered_elsewhere(cx, (call_id, from), by))
        else {
            return;
        };
        if let Some(reply) = unseen(&invite, ack) {
            self.answered_elsewhere(cx, &attached, branch, &reply);
        }
    }

    /// A peer let the answer to a call of this node pass, at that time (Unix milliseconds).
    pub(crate) fn learn_passed_answer(
        &self,
        cx: &mut Cx<'_>,
        id: DialogId,
        reply: &Bytes,
        at_ms: u64,
    ) {
        let Ok(reply) = Message::parse(reply.clone()) else { return };
        let (Some(call_id), Some(from)) = (reply.call_id(), reply.from_tag()) else { return };
        let is_its = |d: &Dialog| d.has_call_id(call_id) && *d.caller.tag == *from;
        // Only the reply to the very request that was sent from here.
        let branch = reply.top_via().ok().and_then(|via| via.branch);
        let (true, Some(branch)) = (self.read(id, is_its) == Some(true), branch) else { return };
        let Some((slot, tm)) = cx.node.find::<Tm>() else { return };
        let found = cx.for_slot(slot, |cx| {
            tm.answered_elsewhere(cx, (call_id, from), AnsweredBy::Via(branch))
        });
        let Some((attached, _, branch)) = found else { return };
        // It was answered then, not now.
        let now = cx.now;
        cx.now.unix_ms = at_ms.clamp(now.unix_ms.saturating_sub(LATE_MS_MAX), now.unix_ms);
        if let Some(reply) = to_caller(&reply) {
            self.answered_elsewhere(cx, &attached, branch, &reply);
        }
        cx.now = now;
        // Its time is known, but not by the clock of this node.
        self.table.local(id, |_, local| local.answered_at_ms = 0);
    }

    /// Lets whoever keeps something with an INVITE hear of the answer that this node did not see.
    pub(crate) fn answered_elsewhere(
        &self,
        cx: &mut Cx<'_>,
        attached: &Attached,
        branch: u8,
        reply: &Message,
    ) {
        cx.log(Level::Notice, "the answer to a call has passed over another node");
        let moments = [
            TxMoment::Received { branch, reply: reply.clone() },
            TxMoment::Replied {
                code: 200,
                reply: reply.bytes().clone().into(),
                own: false,
                first: true,
            },
        ];
        for moment in moments {
            cx.tell_transaction_now(attached, &moment);
        }
    }
}

/// The answer as the caller got it: without our own Via.
pub(crate) fn to_caller(reply: &Message) -> Option<Message> {
    let mut edits = Edits::new();
    remove_top_via(reply, &mut edits).then_some(())?;
    Message::parse(written(reply, &edits)).ok()
}

/// The 200 as far as the ACK shows it: the callee's tag, where it is reached, and over what.
fn unseen(invite: &Message, ack: &Message) -> Option<Message> {
    let mut text = b"SIP/2.0 200 OK\r\n".to_vec();
    let mut add = |parts: &[&[u8]]| text.extend(parts.iter().flat_map(|p| p.iter()));
    for name in [HeaderName::Via, HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
        for header in invite.headers(name) {
            add(&[header.line(), b"\r\n"]);
        }
    }
    let routes: SmallVec<[&[u8]; 4]> = ack.values(HeaderName::Route).map(|v| v.bytes).collect();
    for route in routes.iter().rev() {
        add(&[b"Record-Route: ", route, b"\r\n"]);
    }
    add(&[b"To: ", ack.header(HeaderName::To)?.value(), b"\r\n"]);
    add(&[b"Contact: <", ack.request_uri(), b">\r\nContent-Length: 0\r\n\r\n"]);
    Message::parse(Bytes::from(text)).ok()
}
