//! From events to the state machine, and from its effects to what is sent.

use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::Mono;
use tandem_engine::attached::{TxMoment, Written};
use tandem_engine::context::Ctx;
use tandem_engine::effect::Send;
use tandem_engine::module::{Cx, Timer as WheelTimer};
use tandem_engine::sockets::SocketId;
use tandem_sip::{Message, Method, build_ack, build_cancel};
use tandem_transaction::{BranchIndex, CancelReason, Dest, Effect, Effects, Kind, Timer};

use crate::local::{ack_success, tell_owner};
use crate::record::{Event, INBOX_MAX, Record, Visit};
use crate::stats;
use crate::table::{Cell, Tx};
use crate::tm::Tm;
use crate::via_branch::TxId;

/// The timer of those that are visited soon; that of a single transaction is 0.
pub(crate) const SOON: u32 = 1;

/// The reply that a step is about.
pub(crate) struct ReplyIn<'a> {
    pub(crate) msg: &'a Message,
    /// As it goes upstream.
    pub(crate) bytes: Written,
    /// Its ACK has been sent.
    pub(crate) acked: bool,
    /// The script vetoed it.
    pub(crate) vetoed: bool,
}

/// All branches have failed; the best result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decided {
    pub(crate) branch: Option<BranchIndex>,
    pub(crate) code: u16,
}

impl Tm {
    /// Gives an event to a transaction, now or when its route has ended.
    pub(crate) fn deliver(&self, cx: &mut Cx<'_>, tx: &Arc<Tx>, event: Event) {
        let mut cell = tx.cell.lock();
        // A retransmitted request gets the last reply again and changes nothing.
        if cell.busy.is_some() && !matches!(event, Event::Retransmission) {
            if cell.waiting() < INBOX_MAX {
                cell.wait(event);
            } else {
                self.count(cx, stats::DROPPED_EVENTS);
            }
            return;
        }
        self.handle(cx, tx, &mut cell, event);
        self.settle(cx, tx, cell);
    }

    /// Handles what waited, until a route runs again, and drops the transaction at its end.
    pub(crate) fn settle(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        mut cell: parking_lot::MutexGuard<'_, Cell>,
    ) {
        while cell.busy.is_none()
            && let Some(event) = cell.next_waiting()
        {
            self.handle(cx, tx, &mut cell, event);
        }
        // Timers that came while a route ran.
        if cell.busy.is_none() {
            self.fire_due(cx, tx, &mut cell);
        }
        let ended = cell.record.machine.is_ended();
        self.plan_visit(cx, tx.id, &mut cell.record);
        let attached = ended.then(|| std::mem::take(&mut cell.record.saved.attached));
        drop(cell);
        if let Some(attached) = attached {
            self.table.remove(tx);
            cx.tell_transaction(&attached, || TxMoment::Ended);
        }
    }

    /// Looks after a transaction whose timers are due.
    pub(crate) fn look_after(&self, cx: &mut Cx<'_>, token: u64) {
        let (index, short, _) = TxId::of_token(token);
        if TxId::is_plain_short(short) {
            self.look_after_plain(cx, (index, short));
        }
        let Some(tx) = self.table.by_short(index, short) else { return };
        let mut cell = tx.cell.lock();
        if cell.record.visit.is_some_and(|visit| visit.at <= cx.now.mono_ns) {
            cell.record.visit = None;
        }
        if cell.busy.is_none() {
            self.settle(cx, &tx, cell);
        }
    }

    /// The same for those that were to be looked at soon.
    pub(crate) fn look_after_due(&self, cx: &mut Cx<'_>) {
        let (due, next) = self.soon.take_due(cx.now.mono_ns);
        if let Some(at) = next {
            cx.set_timer(at, WheelTimer { kind: SOON, id: 0 });
        }
        due.into_iter().for_each(|token| self.look_after(cx, token));
    }

    /// When a step has ended: somebody comes back when the machine wants it, and not before if all
    /// is said.
    fn plan_visit(&self, cx: &mut Cx<'_>, id: TxId, record: &mut Record) {
        let machine = &record.machine;
        let next = machine.next_deadline().filter(|_| !machine.is_ended());
        let is_answered = machine.last_code() >= 200 || machine.is_ended();
        if let Some(Visit { at, place: Some(place) }) = record.visit
            && is_answered
            && next.is_none_or(|next| next > at)
        {
            self.soon.leave(place);
            record.visit = None;
        }
        if let Some(at) = next {
            self.come_back(cx, id, record, at);
        }
    }

    /// Has somebody come back to a transaction, unless one does so before.
    fn come_back(&self, cx: &mut Cx<'_>, id: TxId, record: &mut Record, at: Mono) {
        if record.visit.is_some_and(|visit| visit.at <= at) {
            return;
        }
        if let Some(place) = record.visit.and_then(|visit| visit.place) {
            self.soon.leave(place);
        }
        let token = id.token(0);
        let is_soon = at == cx.now.after_ms(self.params.timers.t1_ms.into());
        if let Some(place) = is_soon.then(|| self.soon.join(at, token)).flatten() {
            record.visit = Some(Visit { at: place.at, place: Some(place.number) });
            if place.is_first {
                cx.set_timer(place.at, WheelTimer { kind: SOON, id: 0 });
            }
            return;
        }
        record.visit = Some(Visit { at, place: None });
        cx.set_timer(at, WheelTimer { kind: 0, id: token });
    }

    fn handle(&self, cx: &mut Cx<'_>, tx: &Arc<Tx>, cell: &mut Cell, event: Event) {
        let now = cx.now;
        let record = &mut cell.record;
        let mut fx = Effects::new();
        match event {
            Event::Reply { branch, ctx } => return self.on_reply(cx, tx, cell, branch, ctx),
            Event::CancelReply { branch, code } => {
                record.machine.on_cancel_reply(now, branch, code, &mut fx);
            }
            Event::Cancel { reason } => {
                if record.pass_reason {
                    record.lines_mut().reason = reason;
                }
                if record.machine.last_code() < 200 {
                    cx.tell_transaction(&record.saved.attached, || TxMoment::Cancelled);
                }
                record.machine.on_cancel(now, &mut fx);
            }
            Event::Retransmission => record.machine.on_request_retransmission(&mut fx),
            Event::Ack => record.machine.on_ack(now, &mut fx),
            Event::Local { code, bytes } => {
                self.send_local(cx, tx.id, record, code, bytes);
                return;
            }
            Event::SendFailed { branch } => {
                self.note_failed(cx, &cell.record, branch);
                if self.redirect(cx, tx, cell, branch) {
                    return;
                }
                cell.record.machine.on_send_error(now, branch, 477, &mut fx);
            }
            Event::NoMore => record.machine.stop_waiting(now, &mut fx),
            Event::Release => record.machine.release(now, &mut fx),
        }
        self.finish_step(cx, tx, cell, fx, None);
    }

    fn fire_due(&self, cx: &mut Cx<'_>, tx: &Arc<Tx>, cell: &mut Cell) {
        let now = cx.now;
        // Each round takes one entry out; what is armed in between lies in the future.
        while cell.busy.is_none() {
            let timers = &cell.record.timers;
            let due = timers.iter().enumerate().filter(|(_, (_, at))| *at <= now.mono_ns);
            let Some((place, _)) = due.min_by_key(|(_, (_, at))| *at) else { return };
            let (timer, at) = cell.record.timers.swap_remove(place);
            let mut fx = Effects::new();
            cell.record.machine.on_timer(now, timer, at, &mut fx);
            if timer == Timer::G
                && fx.as_slice().iter().any(|e| matches!(e, Effect::SendReply { .. }))
            {
                self.count(cx, stats::RETRANSMITTED_REPLIES);
            }
            self.finish_step(cx, tx, cell, fx, None);
        }
    }

    /// Carries the effects of a step out, and what follows when all branches have failed.
    pub(crate) fn finish_step(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        cell: &mut Cell,
        mut fx: Effects,
        reply: Option<&ReplyIn<'_>>,
    ) {
        let decided = self.perform(cx, tx.id, &mut cell.record, &mut fx, reply);
        if let Some(decided) = decided {
            self.decide(cx, tx, cell, decided);
        }
    }

    /// Carries effects out. What has to be decided about failed branches is left to the caller.
    pub(crate) fn perform(
        &self,
        cx: &mut Cx<'_>,
        id: TxId,
        record: &mut Record,
        fx: &mut Effects,
        reply: Option<&ReplyIn<'_>>,
    ) -> Option<Decided> {
        let mut decided = None;
        for effect in fx.drain() {
            match effect {
                Effect::SendReply { bytes } => send_reply(cx, record, bytes),
                Effect::SendBranch { branch, dest, bytes } => {
                    self.send_branch(cx, id, record, branch, dest, bytes);
                }
                Effect::SendAck { branch } => {
                    if let Some(reply) = reply.filter(|r| !r.acked) {
                        send_ack(cx, record, branch, reply.msg);
                    }
                }
                Effect::SendCancel { branch, reason } => send_cancel(cx, record, branch, reason),
                Effect::SetTimer { timer, at } => {
                    record.timers.push((timer, at));
                    self.come_back(cx, id, record, at);
                }
                Effect::Relay { branch, code } => {
                    self.acknowledge(cx, record, branch, code, reply);
                    if let Some(reply) = reply.filter(|r| !(r.vetoed && code < 200)) {
                        self.relay(cx, id, record, code, reply.bytes.clone());
                    }
                }
                Effect::BranchEnded { branch, code, local } => {
                    self.count_timeout(cx, record, branch, code, local);
                }
                Effect::Final { branch, code, .. } => decided = Some(Decided { branch, code }),
                Effect::Ended => {}
            }
        }
        decided
    }

    /// Passes a reply of a branch on.
    pub(crate) fn relay(
        &self,
        cx: &mut Cx<'_>,
        id: TxId,
        record: &mut Record,
        code: u16,
        reply: Written,
    ) {
        if self.answer(cx, id, record, (code, false), reply) {
            record.last_local = false;
            self.count(cx, stats::RELAYED_REPLIES);
        }
    }

    /// Sends a reply of our own; `false` if a final one was sent before.
    pub(crate) fn send_local(
        &self,
        cx: &mut Cx<'_>,
        id: TxId,
        record: &mut Record,
        code: u16,
        bytes: Bytes,
    ) -> bool {
        let sent = self.answer(cx, id, record, (code, true), bytes.into());
        if sent {
            record.last_local = true;
            self.count(cx, stats::LOCAL_REPLIES);
        }
        sent
    }

    fn answer(
        &self,
        cx: &mut Cx<'_>,
        id: TxId,
        record: &mut Record,
        (code, own): (u16, bool),
        reply: Written,
    ) -> bool {
        let before = record.machine.last_code();
        let mut fx = Effects::new();
        let bytes = reply.bytes().clone();
        let told = record.owner.is_some().then(|| bytes.clone());
        if record.machine.reply(cx.now, code, bytes, &mut fx).is_err() {
            return false;
        }
        if let Some(bytes) = told {
            tell_owner(cx, record, code, &bytes, own);
        }
        let first = before < 200;
        let moment = || TxMoment::Replied { code, reply, own, first };
        cx.tell_transaction(&record.saved.attached, moment);
        // A reply never makes a winner: there is nothing to decide.
        self.perform(cx, id, record, &mut fx, None);
        if before < 200 && code >= 200 {
            self.count(cx, stats::CLASSES + usize::from(code / 100).clamp(2, 6) - 2);
        }
        true
    }

    /// A 2xx to an INVITE of our own has no caller who would acknowledge it.
    fn acknowledge(
        &self,
        cx: &mut Cx<'_>,
        record: &Record,
        branch: BranchIndex,
        code: u16,
        reply: Option<&ReplyIn<'_>>,
    ) {
        let local = record.owner.is_some() && record.machine.kind() == Kind::Invite;
        let (true, Some(reply)) = (local && code >= 200, reply) else { return };
        let Some(view) = record.machine.branch(branch) else { return };
        if let Some(ack) = ack_success(cx, view.request, reply.msg) {
            send_to(cx, view.dest, ack.to_vec());
        }
    }

    fn send_branch(
        &self,
        cx: &mut Cx<'_>,
        id: TxId,
        record: &mut Record,
        branch: BranchIndex,
        dest: Dest,
        bytes: Bytes,
    ) {
        let Some(leg) = record.leg_mut(branch) else { return };
        let again = leg.sends;
        leg.sends = again.saturating_add(1);
        let passed_on = leg.passed_on;
        if again == 0 {
            let contact = leg.contact.take().map(|contact| *contact);
            let (branch, socket) = (branch.0, SocketId(dest.socket as u16));
            cx.tell_transaction(&record.saved.attached, || {
                let request = match passed_on {
                    Some(_) => Written::like(bytes.clone(), record.saved.msg.clone()),
                    None => Written::from(bytes.clone()).with_contact(contact),
                };
                let added_routes = passed_on.unwrap_or_default();
                TxMoment::Sent { branch, socket, to: dest.addr, request, added_routes }
            });
        } else {
            self.count(cx, stats::RETRANSMITTED_REQUESTS + (again as usize - 1).min(3));
        }
        let send =
            Send { socket: SocketId(dest.socket as u16), to: dest.addr, payload: bytes, ticket: 0 };
        cx.send(send, id.token(branch.0));
    }

    fn count_timeout(
        &self,
        cx: &mut Cx<'_>,
        record: &Record,
        branch: BranchIndex,
        code: u16,
        local: bool,
    ) {
        if code != 408 || !local {
            return;
        }
        let rang = record.machine.branch(branch).is_some_and(|view| view.last_code > 0);
        let invite = record.machine.kind() == Kind::Invite;
        self.count(cx, if rang && invite { stats::TIMEOUT_INVITE } else { stats::TIMEOUT });
    }

    pub(crate) fn count(&self, cx: &Cx<'_>, index: usize) {
        if self.params.stats {
            cx.count(index, 1);
        }
    }
}

/// A 2xx tells a phone that its contact is kept, or its call, so a peer has to know it first
/// (decisions: "Gates").
fn send_reply(cx: &mut Cx<'_>, record: &Record, payload: Bytes) {
    let socket = record.saved.source.socket;
    // The answer passed over another node.
    if payload.is_empty() {
        return;
    }
    if !cx.node.streams.may_reply(record.saved.flags, socket, record.reply_to) {
        return;
    }
    let send = Send { socket, to: record.reply_to, payload, ticket: 0 };
    // Whoever registers, publishes, watches, calls or hangs up is told what the peer knows.
    let waits = match record.saved.msg.method() {
        Method::Register | Method::Publish | Method::Subscribe => true,
        Method::Invite | Method::Bye => cx.is_replicated(&record.saved.attached),
        _ => false,
    };
    if waits && (200..300).contains(&record.machine.last_code()) {
        cx.out.send_gated(send);
    } else {
        cx.out.send(send);
    }
}

pub(crate) fn send_ack(cx: &mut Cx<'_>, record: &Record, branch: BranchIndex, reply: &Message) {
    let Some(view) = record.machine.branch(branch) else { return };
    let Ok(sent) = Message::parse(view.request.clone()) else { return };
    // A reply without To cannot be acknowledged; its sender gives up by timer H.
    let Ok(ack) = build_ack(&sent, reply, b"") else { return };
    send_to(cx, view.dest, ack);
}

fn send_cancel(cx: &mut Cx<'_>, record: &Record, branch: BranchIndex, reason: CancelReason) {
    let Some(view) = record.machine.branch(branch) else { return };
    let Ok(sent) = Message::parse(view.request.clone()) else { return };
    let lines = cancel_headers(record, reason);
    if let Ok(cancel) = build_cancel(&sent, &lines) {
        send_to(cx, view.dest, cancel);
    }
}

fn send_to(cx: &mut Cx<'_>, dest: &Dest, payload: Vec<u8>) {
    let socket = SocketId(dest.socket as u16);
    cx.out.send(Send { socket, to: dest.addr, payload: payload.into(), ticket: 0 });
}

/// The Reason of a CANCEL (RFC 3326), in the words of the field.
fn cancel_headers(record: &Record, reason: CancelReason) -> Bytes {
    let lines = record.lines();
    if !lines.cancel_reason.is_empty() {
        return lines.cancel_reason.clone();
    }
    let fixed: &'static [u8] = match reason {
        CancelReason::Originator if !lines.reason.is_empty() => return lines.reason.clone(),
        CancelReason::Originator => b"Reason: SIP;cause=487;text=\"ORIGINATOR_CANCEL\"\r\n",
        CancelReason::CompletedElsewhere => {
            b"Reason: SIP ;cause=200 ;text=\"Call completed elsewhere\"\r\n"
        }
        CancelReason::Script => b"",
        CancelReason::NoAnswer => b"Reason: SIP;cause=480;text=\"NO_ANSWER\"\r\n",
        CancelReason::Answered(code) => {
            return Bytes::from(format!("Reason: SIP;cause={code}\r\n"));
        }
    };
    Bytes::from_static(fixed)
}

/// The Reason lines of a request.
pub(crate) fn reason_lines(ctx: &Ctx) -> Bytes {
    let mut lines = Vec::new();
    for header in ctx.msg.headers_by_text(b"Reason") {
        lines.extend_from_slice(header.line());
        lines.extend_from_slice(b"\r\n");
    }
    Bytes::from(lines)
}
