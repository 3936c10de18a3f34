//! An answer that passed by: while two nodes serve one address, or right after a takeover, the
//! 200 may reach the caller over another node than the INVITE. The caller's ACK proves it. Of a
//! call that rang on a node which is gone, a later request proves it as well: it was answered
//! about when that node was last heard, since later its answer would have come over this one.

use bytes::Bytes;
use smallvec::SmallVec;
use tandem_engine::attached::{Attached, TxMoment};
use tandem_engine::context::Ctx;
use tandem_engine::log::Level;
use tandem_engine::module::{Cx, Timer};
use tandem_engine::transport::written;
use tandem_sip::{Edits, HeaderName, Message, Method, remove_top_via};
use tandem_tm::{AnsweredBy, Tm, TxRef};

use crate::change::{Change, Origin};
use crate::id::DialogId;
use crate::passed::{Bye, FOLLOW};
use crate::record::{Dialog, State};
use crate::state::Dialogs;

/// How late this node may hear of an answer.
pub(crate) const LATE_MS_MAX: u64 = 300_000;
/// The node of a call is given so long to tell when it was answered, if it is there.
const TOLD_WITHIN_MS: u64 = 5_000;
/// A node is missed within about so long.
const MISSED_WITHIN_MS: u64 = 30_000;
/// A node that the answer to a call of this one may have passed over is waited for as long.
const BACK_WITHIN_MS: u64 = 60_000;
/// What a request shows is left open for so long.
const SHOWN_AFTER_MS: u64 = 1_000;

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
        let ringing = did.into_iter().chain(self.table.of_call(call_id)).find(|id| rings(*id));
        let Some(id) = ringing else { return };
        let invite = self.table.local(id, |_, local| local.invite).flatten();
        // When it was answered, another node may know that is not heard now.
        if let Some(invite) = invite.filter(|_| self.is_replicated())
            && !is_of(cx, ack, invite)
        {
            return self.ack_shows(cx, id, ack);
        }
        self.answered_before(cx, ack);
    }

    /// An ACK shows that a call was answered which rings, as far as this node knows. It came then
    /// (Unix milliseconds).
    pub(crate) fn learn_shown(&self, cx: &mut Cx<'_>, id: DialogId, ack: &Bytes, at_ms: u64) {
        let local = self.table.local(id, |_, local| local.invite.map(|tx| (local.rang_at, tx)));
        let (Some(Some((rang_at, invite))), Ok(ack)) = (local, Message::parse(ack.clone())) else {
            return;
        };
        let answered_ms = match rang_at {
            _ if is_of(cx, &ack, invite) => at_ms,
            _ if self.waits_for(cx, id, rang_at.map(|(node, _)| node), at_ms, invite) => return,
            Some((_, answered_ms)) => answered_ms,
            None => at_ms,
        };
        self.at_earlier(cx, id, answered_ms, |this, cx| this.answered_before(cx, &ack));
        let _ = self.change_by(cx, id, Origin::Local, Change::Acked, None);
    }

    /// A BYE shows the same.
    pub(crate) fn learn_ended(&self, cx: &mut Cx<'_>, id: DialogId, bye: &Bye) {
        let local = self.table.local(id, |_, local| local.rang_at.zip(local.invite));
        let Some(Some(((node, answered_ms), invite))) = local else { return };
        let Some(call_id) = self.read(id, |d| d.call_id.clone()) else { return };
        if self.waits_for(cx, id, Some(node), bye.at_ms, invite) {
            return;
        }
        let Some((slot, tm)) = cx.node.find::<Tm>() else { return };
        let sides = [(&bye.from, &bye.to), (&bye.to, &bye.from)];
        let found = sides.into_iter().find_map(|(caller, callee)| {
            let by = AnsweredBy::Contact(b"");
            let found = cx.for_slot(slot, |cx| tm.answered_elsewhere(cx, (&call_id, caller), by));
            found.map(|found| (found, callee))
        });
        let Some(((attached, invite, branch), callee)) = found else { return };
        let Some(to) = invite.header(HeaderName::To) else { return };
        let to = [to.value(), b";tag=", &callee[..]].concat();
        if let Some(reply) = unseen(&invite, &to, &[], b"") {
            self.at_earlier(cx, id, answered_ms, |this, cx| {
                this.answered_elsewhere(cx, &attached, branch, &reply);
            });
        }
    }

    /// Whether what a request showed then is left open for now. The node that the call rang on, or
    /// that its answer passed over, knows better if it is there, or comes back. And a call that rings
    /// may be ended by BYE as well (RFC 3261 15), which the callee says then. Not for longer than
    /// the INVITE is kept.
    fn waits_for(
        &self,
        cx: &mut Cx<'_>,
        id: DialogId,
        node: Option<u32>,
        at_ms: u64,
        invite: TxRef,
    ) -> bool {
        let tags = cx.node.membership().tags();
        let is_here = |node| tags.is_some_and(|t| t.is_reachable(self.params.cluster, node));
        let most_ms = match node {
            Some(node) if is_here(node) => TOLD_WITHIN_MS,
            // It may not be missed yet.
            None if !self.misses_a_node(cx) => MISSED_WITHIN_MS,
            // It may live, and know the very time.
            _ => BACK_WITHIN_MS,
        };
        let gives_up = cx.node.find::<Tm>().and_then(|(_, tm)| tm.gives_up_at(invite));
        let is_last = gives_up.is_some_and(|at| at <= cx.now.after_ms(2 * SHOWN_AFTER_MS));
        let waits = !is_last && cx.now.unix_ms.saturating_sub(at_ms) < most_ms;
        if waits {
            let again = Timer { kind: FOLLOW, id: id.number() };
            cx.set_timer(cx.now.after_ms(SHOWN_AFTER_MS), again);
        }
        waits
    }

    fn misses_a_node(&self, cx: &Cx<'_>) -> bool {
        let tags = cx.node.membership().tags();
        tags.is_some_and(|tags| tags.misses_a_node(self.params.cluster))
    }

    /// Has something happen when it did (Unix milliseconds). Its time is known then, but not by the
    /// clock of this node.
    fn at_earlier(
        &self,
        cx: &mut Cx<'_>,
        id: DialogId,
        at_ms: u64,
        happens: impl FnOnce(&Self, &mut Cx<'_>),
    ) {
        let now = cx.now;
        cx.now.unix_ms = at_ms.clamp(now.unix_ms.saturating_sub(LATE_MS_MAX), now.unix_ms);
        happens(self, cx);
        cx.now = now;
        self.table.local(id, |_, local| local.answered_at_ms = 0);
    }

    /// A call that rings here has been answered, as this ACK shows.
    fn answered_before(&self, cx: &mut Cx<'_>, ack: &Message) {
        let (Some(call_id), Some(from)) = (ack.call_id(), ack.from_tag()) else { return };
        let Some((slot, tm)) = cx.node.find::<Tm>() else { return };
        let by = AnsweredBy::Contact(ack.request_uri());
        let Some((attached, invite, branch)) =
            cx.for_slot(slot, |cx| tm.answered_elsewhere(cx, (call_id, from), by))
        else {
            return;
        };
        let mut routes: SmallVec<[&[u8]; 4]> =
            ack.values(HeaderName::Route).map(|v| v.bytes).collect();
        routes.reverse();
        let Some(to) = ack.header(HeaderName::To) else { return };
        if let Some(reply) = unseen(&invite, to.value(), &routes, ack.request_uri()) {
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
        self.at_earlier(cx, id, at_ms, |this, cx| {
            if let Some(reply) = to_caller(&reply) {
                this.answered_elsewhere(cx, &attached, branch, &reply);
            }
        });
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

/// Whether it is the ACK of the answer to this INVITE, not to a later one.
fn is_of(cx: &Cx<'_>, request: &Message, invite: TxRef) -> bool {
    let asked = cx.node.find::<Tm>().and_then(|(_, tm)| tm.cseq_of(invite));
    let acked = request.cseq().ok().map(|cseq| cseq.number);
    request.method() == Method::Ack && (asked.is_none() || acked == asked)
}

/// The 200 as far as a request within the call shows it: the callee with his tag, over what he is
/// reached (in the order of the 200), and where; empty: that is not known.
fn unseen(invite: &Message, to: &[u8], routes: &[&[u8]], contact: &[u8]) -> Option<Message> {
    let mut text = b"SIP/2.0 200 OK\r\n".to_vec();
    let mut add = |parts: &[&[u8]]| text.extend(parts.iter().flat_map(|p| p.iter()));
    for name in [HeaderName::Via, HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
        for header in invite.headers(name) {
            add(&[header.line(), b"\r\n"]);
        }
    }
    for route in routes {
        add(&[b"Record-Route: ", route, b"\r\n"]);
    }
    add(&[b"To: ", to, b"\r\n"]);
    if !contact.is_empty() {
        add(&[b"Contact: <", contact, b">\r\n"]);
    }
    add(&[b"Content-Length: 0\r\n\r\n"]);
    Message::parse(Bytes::from(text)).ok()
}
