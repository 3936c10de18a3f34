//! What happens when all branches have failed: the failure route, or the winner goes upstream.

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::attached::TxMoment;
use tandem_engine::context::Ctx;
use tandem_engine::module::Cx;
use tandem_engine::own_reply::own_reply;
use tandem_engine::transport::written;
use tandem_script::sig::Routes;
use tandem_sip::{Edits, HeaderName, Message};
use tandem_transaction::Phase;

use crate::drive::Decided;
use crate::record::{Busy, Record, Role, Section};
use crate::table::{Cell, Tx};
use crate::tm::Tm;

impl Tm {
    /// All branches of the set have failed.
    pub(crate) fn decide(&self, cx: &mut Cx<'_>, tx: &Arc<Tx>, cell: &mut Cell, decided: Decided) {
        if self.fail_over(cx, tx, cell, decided) {
            return;
        }
        let Decided { branch, code } = decided;
        let record = &cell.record;
        cx.tell_transaction(&record.saved.attached, || {
            let view = branch.and_then(|branch| record.machine.branch(branch));
            let reply = view.map(|v| v.reply.clone()).unwrap_or_default();
            TxMoment::Failed { code, branch: branch.map(|b| b.0), reply: reply.into() }
        });
        let Some(route) = cell.record.armed.failure.take() else {
            return self.send_winner(cx, tx, cell, decided);
        };
        let ctx = failure_context(cx.slot, tx, &mut cell.record, decided);
        cell.busy = Some(Busy::Failure);
        if let Some(ctx) = cx.run_route(route, ctx, tx.id.token(0)) {
            cell.busy = None;
            take_back(&mut cell.record, *ctx);
            self.send_winner(cx, tx, cell, decided);
        }
    }

    /// A failure route has ended. If it neither sent the request elsewhere nor answered it, the
    /// winner is sent.
    pub(crate) fn after_failure(&self, cx: &mut Cx<'_>, tx: &Arc<Tx>, mut ctx: Box<Ctx>) {
        let section = ctx.section_mut::<Section>(cx.slot);
        let decided = Decided { branch: section.branch, code: section.code };
        let mut cell = tx.cell.lock();
        cell.busy = None;
        take_back(&mut cell.record, *ctx);
        if cell.record.machine.phase() == Phase::Decided {
            self.send_winner(cx, tx, &mut cell, decided);
        }
        self.settle(cx, tx, cell);
    }

    fn send_winner(&self, cx: &mut Cx<'_>, tx: &Arc<Tx>, cell: &mut Cell, decided: Decided) {
        let record = &mut cell.record;
        let view = decided.branch.and_then(|branch| record.machine.branch(branch));
        let received = view.map(|v| v.reply.clone()).filter(|bytes| !bytes.is_empty());
        // RFC 3261 16.7 step 6: a 503 says that this node serves nobody, which is not so. It goes
        // upstream as 500; who has sent a request from here hears the code itself.
        let hides = decided.code == 503 && !self.params.keeps_503 && record.owner.is_none();
        let code = if hides { 500 } else { decided.code };
        match received.and_then(|bytes| Message::parse(bytes).ok()) {
            Some(reply) if record.owner.is_some() => {
                self.relay(cx, tx.id, record, code, reply.bytes().clone().into());
            }
            Some(reply) => {
                let bytes = best_reply(record, &reply, decided, hides);
                self.relay(cx, tx.id, record, code, bytes.into());
            }
            None => {
                let ctx = record.saved.context(Routes::REQUEST);
                let bytes = own_reply(cx.node, &ctx, code, local_reason(code).as_bytes(), b"");
                self.send_own_winner(cx, tx, cell, code, bytes);
            }
        }
    }
}

fn failure_context(slot: u16, tx: &Arc<Tx>, record: &mut Record, decided: Decided) -> Box<Ctx> {
    let mut ctx = record.saved.context(Routes::FAILURE);
    ctx.avps = std::mem::take(&mut record.saved.avps);
    record.avps_used = true;
    ctx.rewritten = record.rewritten;
    ctx.hides.clone_from(&record.hides);
    // What was tried has failed: the script names the next target, starting from the R-URI.
    ctx.target.dst_uri = None;
    ctx.target.set_path(Bytes::new());
    ctx.target.socket = None;
    let winner = decided.branch.and_then(|branch| record.machine.branch(branch));
    if let Some(bytes) = winner.map(|v| v.reply.clone()).filter(|b| !b.is_empty()) {
        let reply = Message::parse(bytes).ok();
        ctx.reply = reply.map(|reply| with_challenges(record, reply, decided));
    }
    let leg = decided.branch.and_then(|branch| record.leg(branch));
    let bavps = leg.and_then(|leg| leg.bavps.clone());
    ctx.target.flags = leg.map_or(0, |leg| leg.target.flags);
    let started_with = ctx.target.uri.clone();
    let section = ctx.section_mut::<Section>(slot);
    section.tx = Some(Arc::clone(tx));
    section.role = Role::Failure;
    section.branch = decided.branch;
    section.code = decided.code;
    section.started_with = started_with;
    section.bavps = bavps;
    Box::new(ctx)
}

/// What a route of the transaction leaves behind.
fn take_back(record: &mut Record, ctx: Ctx) {
    record.saved.avps = ctx.avps;
    record.saved.flags = ctx.flags;
    record.saved.attached.update(&ctx.attached);
    record.saved.reply_headers = ctx.reply_headers.into();
}

/// The winner as it goes upstream: 503 as 500, challenges of all branches together.
fn best_reply(record: &Record, reply: &Message, decided: Decided, hides: bool) -> Bytes {
    let mut edits = Edits::new();
    if hides {
        edits.set_first_line(reply, &b"SIP/2.0 500 Server Internal Error"[..]);
    }
    add_others(record, reply, decided, &mut edits);
    written(reply, &edits)
}

/// The winner as a failure route sees it, with the challenges of all branches.
fn with_challenges(record: &Record, reply: Message, decided: Decided) -> Message {
    let mut edits = Edits::new();
    add_others(record, &reply, decided, &mut edits);
    if edits.is_empty() {
        return reply;
    }
    Message::parse(written(&reply, &edits)).unwrap_or(reply)
}

/// RFC 3261 16.7 step 7: the challenges of the other branches go with the winner's.
fn add_others(record: &Record, reply: &Message, decided: Decided, edits: &mut Edits) {
    if !matches!(decided.code, 401 | 407) {
        return;
    }
    for view in record.machine.current_set().filter(|v| Some(v.index) != decided.branch) {
        let challenged = view.outcome.is_some_and(|o| matches!(o.code, 401 | 407));
        if let Some(other) = Message::parse(view.reply.clone()).ok().filter(|_| challenged) {
            add_challenges(reply, edits, &other);
        }
    }
}

fn add_challenges(reply: &Message, edits: &mut Edits, other: &Message) {
    for name in [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate] {
        for header in other.headers(name) {
            edits.append_header(reply, [header.line(), b"\r\n"].concat());
        }
    }
}

/// The reason phrases of results that this node came to by itself.
fn local_reason(code: u16) -> &'static str {
    match code {
        408 => "Request Timeout",
        477 => "Send failed (477/TM)",
        487 => "Request Terminated",
        _ => "Server Internal Error",
    }
}
