//! Replies: matched, shown to the onreply routes, given to the machine.

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::attached::{TxMoment, Written};
use tandem_engine::context::Ctx;
use tandem_engine::module::{Cx, RouteEnd};
use tandem_engine::node::Node;
use tandem_engine::transport::{changed_contact_uri, via_lines, written};
use tandem_script::program::RouteId;
use tandem_sip::{Edits, HeaderName, Message, Method, remove_top_via};
use tandem_transaction::{BranchIndex, Effects, Kind};

use crate::drive::{ReplyIn, send_ack};
use crate::plain::is_late;
use crate::record::{Busy, Event, Record, Role, Section};
use crate::stats;
use crate::table::{Cell, Tx};
use crate::tm::Tm;
use crate::via_branch::TxId;

impl Tm {
    /// A reply from the network. What belongs to no transaction comes back.
    pub(crate) fn take_reply(&self, cx: &mut Cx<'_>, ctx: Box<Ctx>) -> Option<Box<Ctx>> {
        self.count(cx, stats::RECEIVED_REPLIES);
        if self.hand_back(cx, &ctx) {
            return None;
        }
        let named = ctx.msg.top_via().ok().and_then(|via| TxId::parse(via.branch?));
        if let Some((id, _)) = named.filter(|(id, _)| id.is_plain())
            && self.take_plain_reply(cx, id, &ctx.msg)
        {
            return None;
        }
        let found = named.and_then(|(id, branch)| Some((self.table.by_id(id)?, branch)));
        let Some((tx, branch)) = found else {
            let is_late = named.is_some_and(|(id, _)| is_late(id, &ctx.msg));
            return (!is_late).then_some(ctx);
        };
        let branch = BranchIndex(branch);
        let ours = ctx.msg.method() == Method::Cancel && !tx.is_cancel;
        if ours {
            let code = ctx.msg.status();
            self.deliver(cx, &tx, Event::CancelReply { branch, code });
        } else {
            self.deliver(cx, &tx, Event::Reply { branch, ctx });
        }
        None
    }

    /// Runs the onreply routes that are armed for the reply, or goes on at once.
    pub(crate) fn on_reply(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        cell: &mut Cell,
        branch: BranchIndex,
        mut ctx: Box<Ctx>,
    ) {
        let record = &mut cell.record;
        let same_method = ctx.msg.method_bytes() == record.saved.msg.method_bytes();
        let Some(view) = record.machine.branch(branch).filter(|_| same_method) else { return };
        let code = ctx.msg.status();
        // A 2xx to INVITE comes again until the ACK, and needs the same changes each time.
        let again = view.outcome.is_some() && !(code / 100 == 2 && is_invite(record));
        if !again {
            cx.tell_transaction(&record.saved.attached, || TxMoment::Received {
                branch: branch.0,
                reply: ctx.msg.clone(),
            });
        }
        let own = record.leg(branch).and_then(|leg| leg.on_reply);
        let (first, next) = match (own, record.armed.reply) {
            (Some(own), shared) => (own, shared),
            (None, Some(shared)) => (shared, None),
            (None, None) => return self.feed(cx, tx, cell, branch, &ctx, Heard::default()),
        };
        if again {
            return self.feed(cx, tx, cell, branch, &ctx, Heard::default());
        }
        let acked = code >= 300 && is_invite(record);
        if acked {
            send_ack(cx, record, branch, &ctx.msg);
        }
        self.lend(cx.slot, tx, record, branch, &mut ctx);
        cell.busy = Some(Busy::Reply { branch, acked, next });
        self.run_reply_route(cx, tx, cell, first, ctx);
    }

    /// An onreply route has ended.
    pub(crate) fn after_reply(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        busy: (BranchIndex, bool, Option<RouteId>),
        mut ctx: Box<Ctx>,
        end: RouteEnd,
    ) {
        let (branch, acked, next) = busy;
        let mut cell = tx.cell.lock();
        let vetoed = end.dropped && ctx.msg.status() < 200;
        if let Some(next) = next.filter(|_| !vetoed) {
            cell.busy = Some(Busy::Reply { branch, acked, next: None });
            self.run_reply_route(cx, tx, &mut cell, next, ctx);
            return self.settle(cx, tx, cell);
        }
        cell.busy = None;
        self.take_back_reply(cx.slot, &mut cell.record, branch, &mut ctx);
        self.feed(cx, tx, &mut cell, branch, &ctx, Heard { acked, vetoed });
        self.settle(cx, tx, cell);
    }

    fn run_reply_route(
        &self,
        cx: &mut Cx<'_>,
        tx: &Tx,
        cell: &mut Cell,
        route: RouteId,
        ctx: Box<Ctx>,
    ) {
        // A reply that cannot be looked at is lost like a datagram; its sender repeats it.
        if let Some(mut ctx) = cx.run_route(route, ctx, tx.id.token(0))
            && let Some(Busy::Reply { branch, .. }) = cell.busy.take()
        {
            self.take_back_reply(cx.slot, &mut cell.record, branch, &mut ctx);
        }
    }

    /// Shows a reply route what belongs to the transaction.
    fn lend(
        &self,
        slot: u16,
        tx: &Arc<Tx>,
        record: &mut Record,
        branch: BranchIndex,
        ctx: &mut Ctx,
    ) {
        ctx.request = Some(record.saved.msg.clone());
        ctx.target.uri = record.saved.target.uri.clone();
        ctx.flags = record.saved.flags;
        ctx.target.flags = record.leg(branch).map_or(0, |leg| leg.target.flags);
        ctx.attached = record.saved.attached.clone();
        ctx.hides.clone_from(&record.hides);
        if self.shows_avps(record) {
            ctx.avps = std::mem::take(&mut record.saved.avps);
            record.avps_used = true;
        }
        let section = ctx.section_mut::<Section>(slot);
        section.tx = Some(Arc::clone(tx));
        section.role = Role::Reply;
        section.branch = Some(branch);
        section.bavps = record.leg_mut(branch).and_then(|leg| leg.bavps.take());
    }

    /// Whether onreply routes see the AVPs of the transaction.
    fn shows_avps(&self, record: &Record) -> bool {
        self.params.onreply_avps || record.owner.is_some()
    }

    fn take_back_reply(&self, slot: u16, record: &mut Record, branch: BranchIndex, ctx: &mut Ctx) {
        record.saved.flags = ctx.flags;
        record.saved.attached.update(&ctx.attached);
        if self.shows_avps(record) {
            record.saved.avps = std::mem::take(&mut ctx.avps);
        }
        if let Some(leg) = record.leg_mut(branch) {
            leg.target.flags = ctx.target.flags;
            leg.bavps = std::mem::take(&mut ctx.section_mut::<Section>(slot).bavps);
        }
    }

    /// Gives a reply to the machine.
    fn feed(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        cell: &mut Cell,
        branch: BranchIndex,
        ctx: &Ctx,
        heard: Heard,
    ) {
        let code = ctx.msg.status();
        if code / 100 == 2 && cell.record.rewritten.cseq != 0 && is_invite(&cell.record) {
            self.table.note_answer(tx, &cell.record.saved.msg, &ctx.msg);
        }
        let bytes = if code > 100 { upstream_bytes(cx, &cell.record, ctx) } else { Bytes::new() };
        let mut fx = Effects::new();
        cell.record.machine.on_reply(cx.now, branch, code, bytes.clone(), &mut fx);
        let record = &cell.record;
        let bytes = if !record.saved.attached.is_empty() && passes_unchanged(record, ctx) {
            Written::like(bytes, ctx.msg.clone())
        } else {
            let hidden = record.hides.as_ref();
            let contact = hidden.and_then(|_| changed_contact_uri(&ctx.msg, &ctx.edits));
            Written::from(bytes).with_contact(contact)
        };
        let Heard { acked, vetoed } = heard;
        let reply = ReplyIn { msg: &ctx.msg, bytes, acked, vetoed };
        self.finish_step(cx, tx, cell, fx, Some(&reply));
    }
}

/// What was done with a reply before the machine gets it.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    acked: bool,
    vetoed: bool,
}

fn is_invite(record: &Record) -> bool {
    record.machine.kind() == Kind::Invite
}

/// The reply as it goes on: without our Via, with what the script changed, and with the request's
/// own From, To and CSeq.
fn upstream_bytes(cx: &mut Cx<'_>, record: &Record, ctx: &Ctx) -> Bytes {
    if record.owner.is_some() {
        // Whoever sent the request sees the reply as it came.
        return ctx.msg.bytes().clone();
    }
    let mut edits = ctx.edits.clone();
    remove_top_via(&ctx.msg, &mut edits);
    if record.rewritten.is_any() {
        restore(&record.saved.msg, &ctx.msg, &mut edits);
    }
    if record.rewritten.plain && ctx.msg.status() < 200 {
        unreliable(&ctx.msg, &mut edits);
    }
    if let Some(hides) = &record.hides {
        let saved = &record.saved;
        restore_vias(cx.node, record, &ctx.msg, &mut edits);
        let sockets = (ctx.source.socket, saved.source.socket);
        cx.hide_reply(hides, sockets, &saved.msg, &ctx.msg, &mut edits);
    }
    written(&ctx.msg, &edits)
}

/// Whether a reply goes on as it came, but for our Via.
fn passes_unchanged(record: &Record, ctx: &Ctx) -> bool {
    ctx.edits.is_empty() && !record.rewritten.is_any() && record.hides.is_none()
}

/// RFC 3261 8.2.6.2: From and CSeq of a reply are those of the request, To as well but for its
/// tag.
fn restore(request: &Message, reply: &Message, edits: &mut Edits) {
    for name in [HeaderName::From, HeaderName::CSeq] {
        let (Some(asked), Some(got)) = (request.header(name), reply.header(name)) else { continue };
        if asked.value() != got.value() {
            edits.replace(got.value_span(), Bytes::copy_from_slice(asked.value()));
        }
    }
    let (Ok(asked), Ok(got)) = (request.to(), reply.to()) else { return };
    if asked.uri == got.uri && asked.display == got.display {
        return;
    }
    let (Some(header), Some(uri)) = (reply.header(HeaderName::To), request.header(HeaderName::To))
    else {
        return;
    };
    let mut value = uri.value().to_vec();
    if let (None, Some(tag)) = (asked.tag(), got.tag()) {
        value.extend_from_slice(&[b";tag=", tag].concat());
    }
    edits.replace(header.value_span(), value);
}

/// Takes from a provisional reply what asks for a PRACK (RFC 3262 3).
fn unreliable(reply: &Message, edits: &mut Edits) {
    for header in reply.headers_by_text(b"RSeq") {
        edits.remove(header.span());
    }
    for header in reply.headers(HeaderName::Require) {
        let all = header.values().map(|value| value.bytes);
        let kept: Vec<&[u8]> = all.filter(|v| !v.eq_ignore_ascii_case(b"100rel")).collect();
        if kept.is_empty() {
            edits.remove(header.span());
        } else if kept.len() < header.values().count() {
            edits.replace(header.value_span(), kept.join(&b", "[..]));
        }
    }
}

/// The Vias of a request that left without them.
fn restore_vias(node: &Node, record: &Record, reply: &Message, edits: &mut Edits) {
    for header in reply.headers(HeaderName::Via) {
        edits.remove(header.span());
    }
    let saved = &record.saved;
    let lines = via_lines(node, &saved.msg, &saved.source, saved.force_rport);
    edits.prepend_header(reply, lines);
}
