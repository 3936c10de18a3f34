//! An answer that passed by: while two nodes serve one address, or right after a takeover, the
//! 200 may reach the caller over another node than the INVITE. The caller's ACK proves it.

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_engine::attached::TxMoment;
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_sip::{HeaderName, Message, Method};
use tandem_tm::Tm;

use crate::id::DialogId;
use crate::record::{Dialog, State};
use crate::state::Dialogs;

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
        let Some((attached, invite)) =
            cx.for_slot(slot, |cx| tm.answered_elsewhere(cx, (call_id, from), ack.request_uri()))
        else {
            return;
        };
        let Some(reply) = unseen(&invite, ack) else { return };
        cx.log(Level::Notice, "the answer to a call has passed over another node");
        let moments = [
            TxMoment::Received { branch: 0, reply: reply.clone() },
            TxMoment::Replied {
                code: 200,
                reply: reply.bytes().clone().into(),
                own: false,
                first: true,
            },
        ];
        for moment in moments {
            cx.tell_transaction_now(&attached, &moment);
        }
    }
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
