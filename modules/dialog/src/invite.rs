//! What the transaction of a request tells of its dialog.

use smallvec::SmallVec;
use tandem_engine::attached::{TxMoment, Written};
use tandem_engine::module::Cx;
use tandem_engine::sockets::SocketId;
use tandem_sip::{HeaderName, Message, Method, NameAddr, Params, Uri};

use crate::change::{Change, Origin};
use crate::create::{contact_in, contact_of};
use crate::current::{Current, Kind, SentOn};
use crate::flags::Flags;
use crate::id::DialogId;
use crate::local::Renumbered;
use crate::record::{Dialog, EndReason, Leg, Side, State, Text};
use crate::sdp::sdp_of;
use crate::state::Dialogs;

impl Dialogs {
    pub(crate) fn on_transaction(&self, cx: &mut Cx<'_>, current: &Current, moment: &TxMoment) {
        match current.kind {
            Kind::Initial => self.on_initial(cx, current, moment),
            Kind::Within(Method::Invite | Method::Update) => self.on_within(cx, current, moment),
            Kind::Within(_) | Kind::Own | Kind::Outside => {}
        }
    }

    fn on_initial(&self, cx: &mut Cx<'_>, current: &Current, moment: &TxMoment) {
        let id = current.id;
        match moment {
            TxMoment::Sent { branch, socket, request, added_routes, .. } => {
                self.initial_sent(cx, current, (*branch, *socket), request, *added_routes);
            }
            TxMoment::Received { branch, reply } => {
                self.heard(cx, current, *branch, reply);
                if reply.status() < 200 {
                    self.auto_prack(cx, current, reply);
                }
            }
            TxMoment::Replied { code: 101..=199, reply, own, .. } => {
                if !own {
                    self.sent_to_caller(cx, current, reply);
                }
                self.try_change(cx, id, Change::Ringing);
            }
            TxMoment::Replied { code: 200..=299, reply, .. } => {
                self.answer(cx, current, reply);
            }
            TxMoment::Replied { code: 300.., first: true, .. } => self.failed(cx, id),
            TxMoment::Cancelled => {
                // One that is over was cancelled by this node.
                if self.read(id, |d| d.state.is_alive()) == Some(true) {
                    let change = Change::Flags { set: Flags::CANCELLED, clear: Flags::NONE };
                    self.try_change(cx, id, change);
                }
            }
            TxMoment::Ended => {
                self.table.local(id, |_, local| local.invite = None);
                self.failed(cx, id);
            }
            TxMoment::Replied { .. } | TxMoment::Failed { .. } => {}
        }
    }

    /// A change that may come too late.
    pub(crate) fn try_change(&self, cx: &mut Cx<'_>, id: DialogId, change: Change) {
        let _ = self.change(cx, id, change);
    }

    /// Nobody answered.
    fn failed(&self, cx: &mut Cx<'_>, id: DialogId) {
        let rings = |d: &Dialog| (d.state < State::Unacked, d.flags.has(Flags::CANCELLED));
        match self.read(id, rings) {
            Some((true, true)) => self.end(cx, id, EndReason::Cancelled, None),
            Some((true, false)) => self.end(cx, id, EndReason::Failed, None),
            _ => {}
        }
    }

    /// Remembers how the INVITE left: what the callee sees and from which socket.
    fn initial_sent(
        &self,
        cx: &mut Cx<'_>,
        current: &Current,
        (branch, socket): (u8, SocketId),
        request: &Written,
        added_routes: usize,
    ) {
        let Some(sent) = request.message() else { return };
        let (from, to) = (sent.from().map(|a| a.uri).ok(), sent.to().map(|a| a.uri).ok());
        let number = sent.cseq().map_or(0, |cseq| cseq.number);
        let (shown, advertised) = contacts(cx, sent);
        let shown = shown.or(request.contact());
        let seen = self.read(current.id, |d| {
            let contact = shown.filter(|c| **c != *d.caller.contact).map(Text::from);
            let cseq = if number > d.invite_cseq { number } else { 0 };
            let other = |uri: Option<&[u8]>, own: &Text| {
                uri.filter(|uri| **uri != **own).map(Text::from).unwrap_or_default()
            };
            let sdp = sdp_of(sent);
            let sdp = if *sdp == *d.caller.sdp_in { Text::default() } else { sdp.into() };
            (other(from, &d.from_uri), other(to, &d.to_uri), sdp, contact, cseq)
        });
        let Some((from, to, sdp, contact, cseq)) = seen else { return };
        if contact.is_some() {
            let side = Side::Caller;
            self.try_change(
                cx,
                current.id,
                Change::Refreshed { side, callee: 0, contact, sdp: None },
            );
        }
        let mut work = current.work.lock();
        work.branches.retain(|b| b.branch != branch);
        let routes = sent.values(HeaderName::RecordRoute).count() + added_routes;
        let advertised = advertised.map(Text::from).unwrap_or_default();
        let socket = cx.node.sockets.get(socket).map(|s| Text::from(&s.wire()[..]));
        let socket = socket.unwrap_or_default();
        work.branches.push(SentOn { branch, socket, sdp, from, to, routes, advertised, cseq });
        drop(work);
        self.plan_draft(cx, current.id);
    }

    /// A reply names a callee.
    fn heard(&self, cx: &mut Cx<'_>, current: &Current, branch: u8, reply: &Message) {
        let Some(tag) = reply.to_tag().filter(|_| (101..300).contains(&reply.status())) else {
            return;
        };
        if self.is_settled(current.id, tag) {
            return;
        }
        let (contact, sdp) = (contact_in(reply).unwrap_or_default(), sdp_of(reply));
        current.work.lock().answer = Some(sdp.into());
        let routes = |sent: usize| {
            let own = (self.params.rr_param.as_bytes(), &current.id.text()[..]);
            routes_beyond(cx, reply, own, sent)
        };
        let known = {
            let work = current.work.lock();
            let Some(sent) = work.branches.iter().find(|b| b.branch == branch) else { return };
            sent.routes
        };
        let route_set = routes(known);
        // What says nothing new of a callee that is known costs no more.
        let is_same = |own: &Text, said: &[u8]| said.is_empty() || **own == *said;
        let is_known = self.read(current.id, |d| {
            let leg = d.callees.iter().find(|leg| *leg.tag == *tag);
            leg.is_some_and(|leg| {
                is_same(&leg.contact, contact)
                    && is_same(&leg.route_set, &route_set)
                    && is_same(&leg.sdp_in, sdp)
            })
        });
        if is_known == Some(true) {
            return;
        }
        let (socket, sdp_out, mangled, generated_cseq, advertised) = {
            let work = current.work.lock();
            let Some(sent) = work.branches.iter().find(|b| b.branch == branch) else { return };
            let mangled = (sent.from.clone(), sent.to.clone());
            let advertised = sent.advertised.clone();
            (sent.socket.clone(), sent.sdp.clone(), mangled, sent.cseq, advertised)
        };
        let Some(cseq) = self.read(current.id, |d| d.invite_cseq) else { return };
        let leg = Leg {
            tag: tag.into(),
            contact: contact.into(),
            route_set,
            socket,
            sdp_in: sdp.into(),
            sdp_out,
            advertised,
            cseq,
            generated_cseq,
        };
        self.try_change(cx, current.id, Change::Leg(Box::new(leg)));
        if generated_cseq != 0 {
            // The script has counted CSeq up: the ACK has to follow the INVITE.
            let (towards, from, to) = (Side::Callee, cseq, generated_cseq);
            self.keep_number(current.id, Renumbered { towards, invite: true, from, to });
        }
        let (from, to) = mangled;
        // The names are those that the callee knows who has answered first.
        let is_other = |d: &Dialog| {
            let answered = d.answered.and_then(|at| d.callees.get(usize::from(at)));
            answered.is_some_and(|leg| *leg.tag != *tag)
        };
        let is_late = self.read(current.id, is_other) == Some(true);
        if !is_late && (!from.is_empty() || !to.is_empty()) {
            self.try_change(cx, current.id, Change::Mangled { from, to });
        }
    }

    /// Whether the callee's answer has its ACK: that answer once more is older than what either
    /// side has told since.
    fn is_settled(&self, id: DialogId, tag: &[u8]) -> bool {
        let has_ack = |d: &Dialog| d.state == State::Confirmed && d.answered == d.callee_at(tag);
        self.read(id, has_ack) == Some(true)
    }

    /// Notes what Contact and body went to the caller, if they are others than came.
    fn sent_to_caller(&self, cx: &mut Cx<'_>, current: &Current, written: &Written) {
        let Some(reply) = written.message() else { return };
        if reply.to_tag().is_some_and(|tag| self.is_settled(current.id, tag)) {
            return;
        }
        self.callee_shown(cx, current.id, written, reply);
        let sdp = sdp_of(reply);
        let differs = current.work.lock().answer.as_deref().is_some_and(|came| *came != *sdp);
        if differs && !sdp.is_empty() {
            let change = Change::Sent { side: Side::Caller, callee: 0, sdp: sdp.into() };
            self.try_change(cx, current.id, change);
        }
    }

    /// A Contact that the script has put right counts, since it is what the caller uses.
    fn callee_shown(&self, cx: &mut Cx<'_>, id: DialogId, written: &Written, reply: &Message) {
        let (shown, own) = contacts(cx, reply);
        if let Some(contact) = own {
            let (side, callee, contact) = (Side::Caller, 0, contact.into());
            self.try_change(cx, id, Change::Advertised { side, callee, contact });
        }
        let shown = shown.or(written.contact());
        let (Some(contact), Some(tag)) = (shown, reply.to_tag()) else { return };
        let other = |d: &Dialog| {
            let callee = d.callee_at(tag)?;
            let leg = d.callees.get(usize::from(callee))?;
            (*leg.contact != *contact).then_some(callee)
        };
        let Some(callee) = self.read(id, other).flatten() else { return };
        let (side, contact) = (Side::Callee, Some(contact.into()));
        self.try_change(cx, id, Change::Refreshed { side, callee, contact, sdp: None });
    }

    /// A 2xx went to the caller.
    fn answer(&self, cx: &mut Cx<'_>, current: &Current, written: &Written) {
        let Some(reply) = written.message() else { return };
        let Some(tag) = reply.to_tag() else { return };
        let id = current.id;
        let known = self.read(id, |d| (d.callee_at(tag).is_some(), d.invite_cseq));
        let Some((known, cseq)) = known else { return };
        if !known {
            // An answer of this node itself.
            let leg = Leg { tag: tag.into(), cseq, ..Leg::default() };
            self.try_change(cx, id, Change::Leg(Box::new(leg)));
        }
        self.sent_to_caller(cx, current, written);
        // This node ended the call while it rang, and the answer crossed its CANCEL.
        let crossed = self.read(id, |d| match d.state {
            State::Deleted if !d.flags.has(Flags::CANCELLED) => d.end_reason,
            _ => None,
        });
        let crossed = crossed.flatten().filter(|reason| *reason != EndReason::Failed);
        let change = Change::Answered { tag: tag.into() };
        let done = self.change_by(cx, id, Origin::Local, change, Some(reply));
        if !done.is_ok_and(|done| done.before != done.after) {
            return;
        }
        match crossed {
            Some(reason) => {
                self.hang_up(cx, id, reason, b"");
            }
            None => self.after_answer(cx, id),
        }
    }

    /// The other side has told of itself in a 2xx: what both sides said counts now.
    fn on_within(&self, cx: &mut Cx<'_>, current: &Current, moment: &TxMoment) {
        match moment {
            TxMoment::Sent { request, .. } => {
                let shown = request.message().and_then(|sent| contacts(cx, sent).0);
                if let Some(contact) = shown.or(request.contact()) {
                    current.work.lock().contact = Some(contact.into());
                }
            }
            TxMoment::Received { reply, .. } if (200..300).contains(&reply.status()) => {
                self.refreshed(cx, current, reply);
            }
            TxMoment::Replied { code: 200..=299, own: false, reply, .. } => {
                let shown = reply.message().and_then(|reply| contacts(cx, reply).0);
                let contact = shown.or(reply.contact()).map(Text::from);
                if contact.is_some() {
                    let (side, callee) = (current.sender.other(), current.callee);
                    let change = Change::Refreshed { side, callee, contact, sdp: None };
                    self.try_change(cx, current.id, change);
                }
            }
            _ => {}
        }
    }

    fn refreshed(&self, cx: &mut Cx<'_>, current: &Current, reply: &Message) {
        let (contact, sdp) = {
            let mut work = current.work.lock();
            (work.contact.take(), work.sdp.take())
        };
        let (id, callee, side) = (current.id, current.callee, current.sender);
        if contact.is_some() || sdp.is_some() {
            self.try_change(cx, id, Change::Refreshed { side, callee, contact, sdp });
        }
        let (contact, sdp) = (contact_of(reply), sdp_of(reply));
        let sdp = (!sdp.is_empty()).then(|| Text::from(sdp));
        let side = side.other();
        self.try_change(cx, id, Change::Refreshed { side, callee, contact, sdp });
    }
}

/// The Contact of a message as the other side gets it: one of its sender, or one that is an
/// address of this node.
fn contacts<'a>(cx: &Cx<'_>, sent: &'a Message) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
    match contact_in(sent) {
        Some(contact) if is_own(cx, contact) => (None, Some(contact)),
        contact => (contact, None),
    }
}

fn is_own(cx: &Cx<'_>, contact: &[u8]) -> bool {
    Uri::parse(contact)
        .is_ok_and(|uri| cx.node.sockets.is_myself(uri.host, Some(uri.port.unwrap_or(5060))))
}

/// The routes from this node to the sender of a reply, the nearest first: what was recorded
/// behind our own Record-Route (RFC 3261 12.1.2).
/// `sent`: how many there were when the request left here.
fn routes_beyond(cx: &Cx<'_>, reply: &Message, (param, did): (&[u8], &[u8]), sent: usize) -> Text {
    let values = reply.values(HeaderName::RecordRoute).map(|v| v.bytes);
    let values: SmallVec<[&[u8]; 4]> = values.collect();
    // Ours is the only one, wherever it names us.
    let only_ours = values.len() == 1 && sent > 0;
    if values.is_empty() || only_ours {
        return Text::default();
    }
    let uris = values.iter().map(|value| NameAddr::parse(value).ok().map(|addr| addr.uri));
    let uris: SmallVec<[Option<&[u8]>; 4]> = uris.collect();
    let names_us = |uri: &Option<&[u8]>| {
        let params = uri.and_then(|uri| uri.get(uri.iter().position(|b| *b == b';')?..));
        params.is_some_and(|params| Params::new(params).value(param) == Some(did))
    };
    let is_ours = |uri: &Option<&[u8]>| uri.is_some_and(|uri| is_own(cx, uri));
    let own = uris.iter().position(names_us).or_else(|| uris.iter().position(is_ours));
    let ours = own.unwrap_or_else(|| values.len().saturating_sub(sent));
    let mut beyond: SmallVec<[&[u8]; 4]> = values.into_iter().take(ours).collect();
    beyond.reverse();
    beyond.join(&b","[..]).into()
}
