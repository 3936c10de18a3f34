//! Branches that come later: a phone that has to be woken up registers, and gets the call.

use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::Mono;
use tandem_engine::attached::{Attached, TxMoment};
use tandem_engine::context::{Branch, Ctx};
use tandem_engine::log::Level;
use tandem_engine::module::Call;
use tandem_script::host::Called;
use tandem_script::sig::FlagSig;
use tandem_script::value::Value;
use tandem_sip::{Message, Method};
use tandem_transaction::{BranchIndex, Effects, Role as BranchRole};

use crate::draft::Drafting;
use crate::later::Waits;
use crate::pause::Then;
use crate::record::{Busy, Leg, Role, Section};
use crate::table::{Cell, Tx};
use crate::tm::Tm;
use crate::via_branch::TxId;

const OK: Called = Called::Returned(1);
const NO: Called = Called::Returned(-1);

pub(crate) const FLAGS: &[FlagSig] = &[
    FlagSig {
        name: "cancel",
        takes_value: false,
        old: "c",
        help: "The branches that are there are cancelled first.",
    },
    FlagSig {
        name: "last",
        takes_value: false,
        old: "l",
        help: "No further branches are waited for.",
    },
];

/// A transaction, for modules that come back to it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TxRef(pub(crate) TxId);

impl TxRef {
    /// What begins the branch of every Via of this transaction, behind the cookie.
    #[must_use]
    pub fn text(self) -> Vec<u8> {
        self.0.text()
    }

    /// The number of the branch that a Via names, if it is one of the transaction of this text.
    #[must_use]
    pub fn branch_in(text: &[u8], via_branch: &[u8]) -> Option<u8> {
        let (id, branch) = TxId::parse(via_branch)?;
        (id.text() == text).then_some(branch)
    }
}

/// Which branch a call was answered on, as far as another node or an ACK tells.
#[derive(Clone, Copy, Debug)]
pub enum AnsweredBy<'a> {
    /// The branch of the topmost Via of the answer.
    Via(&'a [u8]),
    /// Where the ACK goes to.
    Contact(&'a [u8]),
}

impl Tm {
    /// The transaction of the message of a context. `slot` is that of this module.
    pub fn transaction_of(&self, slot: u16, ctx: &Ctx) -> Option<TxRef> {
        ctx.section::<Section>(slot)?.tx.as_ref().map(|tx| TxRef(tx.id))
    }

    /// The transaction of a request, whoever holds the message.
    pub fn transaction_of_request(&self, request: &Message) -> Option<TxRef> {
        let key = self.key(request, request.method())?;
        self.live(key).map(|tx| TxRef(tx.id))
    }

    /// The branch that a branch route is about, from 0. `slot` is that of this module.
    pub fn branch_of(&self, slot: u16, ctx: &Ctx) -> Option<u8> {
        ctx.section::<Section>(slot)?.branch.map(|branch| branch.0)
    }

    /// Cancels the branches of a transaction that wait for an answer, as the caller's CANCEL does.
    pub fn cancel(&self, cx: &mut tandem_engine::module::Cx<'_>, tx: TxRef) {
        if let Some(tx) = self.table.by_id(tx.0) {
            self.deliver(cx, &tx, crate::record::Event::Cancel { reason: Bytes::new() });
        }
    }

    /// A call that rings here was answered over another node: what was attached to its
    /// transaction, its INVITE, and the branch, 0 where that is not known. The transaction is
    /// forgotten, since what still comes for it goes on by the Vias; unless other phones ring,
    /// which hear of the answer.
    pub fn answered_elsewhere(
        &self,
        cx: &mut tandem_engine::module::Cx<'_>,
        (call_id, from_tag): (&[u8], &[u8]),
        by: AnsweredBy<'_>,
    ) -> Option<(Attached, Message, u8)> {
        let named = match by {
            AnsweredBy::Via(branch) => Some(TxId::parse(branch)?),
            AnsweredBy::Contact(_) => None,
        };
        let waits = |tx: &Arc<Tx>| {
            if named.is_some_and(|(id, _)| id != tx.id) {
                return false;
            }
            let cell = tx.cell.lock();
            let msg = &cell.record.saved.msg;
            msg.method() == Method::Invite
                && msg.call_id() == Some(call_id)
                && msg.from_tag() == Some(from_tag)
                && msg.to_tag().is_none()
                && cell.record.machine.last_code() < 200
        };
        let tx = self.table.of_call(call_id).into_iter().find(waits)?;
        let mut cell = tx.cell.lock();
        let attached = std::mem::take(&mut cell.record.saved.attached);
        let invite = cell.record.saved.msg.clone();
        let rings = cell.record.machine.branches().filter(|b| b.outcome.is_none()).count();
        if rings > 1 {
            self.leave_to(cx, &tx, &mut cell, by);
            self.settle(cx, &tx, cell);
        } else {
            drop(cell);
            self.table.remove(&tx);
        }
        cx.tell_transaction(&attached, || TxMoment::Ended);
        Some((attached, invite, named.map_or(0, |(_, branch)| branch)))
    }

    /// The number of the request of a transaction.
    pub fn cseq_of(&self, tx: TxRef) -> Option<u32> {
        let tx = self.table.by_id(tx.0)?;
        let cell = tx.cell.lock();
        cell.record.saved.msg.cseq().ok().map(|cseq| cseq.number)
    }

    /// When the first target of a transaction is no longer waited for (`fr_timeout`,
    /// `fr_inv_timeout`); `None`: it waits for none.
    pub fn gives_up_at(&self, tx: TxRef) -> Option<Mono> {
        self.table.by_id(tx.0)?.cell.lock().record.machine.gives_up_at()
    }

    /// Drops a transaction that another node goes on with; nothing more is sent or waited for.
    /// `false` if it has been answered, or is gone.
    pub fn forget(&self, cx: &mut tandem_engine::module::Cx<'_>, tx: TxRef) -> bool {
        let Some(tx) = self.table.by_id(tx.0) else { return false };
        let attached = {
            let mut cell = tx.cell.lock();
            if cell.record.machine.last_code() >= 200 {
                return false;
            }
            cell.record.machine.abandon();
            std::mem::take(&mut cell.record.saved.attached)
        };
        self.table.remove(&tx);
        cx.tell_transaction(&attached, || TxMoment::Ended);
        true
    }

    /// Ends a fork as its answer does, and sends the caller nothing. Whoever has answered takes no
    /// notice of a CANCEL (RFC 3261 9.2), so it does no harm if he is not known.
    fn leave_to(
        &self,
        cx: &mut tandem_engine::module::Cx<'_>,
        tx: &Arc<Tx>,
        cell: &mut Cell,
        by: AnsweredBy<'_>,
    ) {
        let record = &mut cell.record;
        let his = match by {
            AnsweredBy::Via(branch) => TxId::parse(branch).map(|(_, branch)| branch),
            AnsweredBy::Contact(contact) => {
                let is_his = |leg: &Leg| leg.target.uri.as_deref() == Some(contact);
                record.legs.iter().position(is_his).and_then(|at| u8::try_from(at).ok())
            }
        };
        let mut fx = Effects::new();
        if let Some(branch) = his.map(BranchIndex) {
            record.machine.on_reply(cx.now, branch, 200, Bytes::new(), &mut fx);
        }
        // Without a reply at hand nothing is relayed, and of no bytes nothing is sent.
        let _ = record.machine.reply(cx.now, 200, Bytes::new(), &mut fx);
        self.finish_step(cx, tx, cell, fx, None);
    }

    /// Lets a run work on a transaction that waits: its functions and variables mean that one.
    /// `false` if it has ended.
    pub fn visit(&self, slot: u16, ctx: &mut Ctx, tx: TxRef) -> bool {
        let Some(tx) = self.table.by_id(tx.0) else { return false };
        let (saved, ended) = {
            let cell = tx.cell.lock();
            let saved = &cell.record.saved;
            ((saved.msg.clone(), saved.source), cell.record.machine.is_ended())
        };
        if ended {
            return false;
        }
        (ctx.msg, ctx.source) = saved;
        let section = ctx.section_mut::<Section>(slot);
        section.tx = Some(tx);
        section.role = Role::Visitor;
        true
    }
}

pub(crate) fn t_wait_for_new_branches(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    let wanted = call.int(0).and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    match tm.wait_for_branches(call.cx, call.ctx, wanted) {
        Waits::For(_) => OK,
        Waits::Handled => Called::Returned(0),
        Waits::Failed => NO,
    }
}

pub(crate) fn t_wait_no_more_branches(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    let section = call.ctx.section::<Section>(call.cx.slot);
    let Some(tx) = section.and_then(|s| s.tx.clone()) else { return NO };
    let cell = tx.cell.lock();
    let waits = cell
        .record
        .machine
        .current_set()
        .any(|b| b.role == BranchRole::Phony && b.outcome.is_none());
    drop(cell);
    if !waits {
        return NO;
    }
    tm.stop_waiting(call.cx, &tx);
    OK
}

impl Tm {
    /// No further branches are waited for. A route of the transaction ends first.
    pub(crate) fn stop_waiting(&self, cx: &mut tandem_engine::module::Cx<'_>, tx: &Arc<Tx>) {
        self.deliver(cx, tx, crate::record::Event::NoMore);
    }
}

pub(crate) fn t_inject_branches(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return NO };
    let section = call.ctx.section::<Section>(call.cx.slot);
    let Some((tx, role)) = section.and_then(|s| Some((s.tx.clone()?, s.role))) else {
        return call.complain(Level::Error, "t_inject_branches: there is no transaction here");
    };
    let source = call.text(0);
    let targets = match &source[..] {
        b"event" => event_target(&call.ctx.params).into_iter().collect(),
        b"msg" => message_targets(call.ctx),
        _ => {
            let text = "t_inject_branches: the source is \"event\" or \"msg\"";
            return call.complain(Level::Error, text);
        }
    };
    if targets.is_empty() {
        return call.complain(Level::Error, "t_inject_branches: there is no branch to add");
    }
    let flags = crate::relay::flags(call, 1, FLAGS);
    if !begin(&mut tx.cell.lock(), role) {
        return call.complain(Level::Error, "t_inject_branches: a route of it runs elsewhere");
    }
    if flags.has(0) {
        cancel(&tm, call, &tx, |_| true);
    }
    let base = Box::new(tx.cell.lock().record.next_context());
    tx.cell.lock().record.last_injection = flags.has(1);
    tm.draft(call, Drafting::of(&tx, targets, None), Then::Inject, Some(base))
}

/// Takes an idle transaction; within a route of its own it is taken already.
pub(crate) fn begin(cell: &mut Cell, role: Role) -> bool {
    match (role, cell.busy) {
        (Role::Reply | Role::Failure, _) => true,
        (_, None) => {
            cell.busy = Some(Busy::Relay);
            true
        }
        _ => false,
    }
}

/// Cancels the branches that are pending and wanted.
pub(crate) fn cancel(
    tm: &Tm,
    call: &mut Call<'_, '_, '_>,
    tx: &Arc<Tx>,
    wanted: impl Fn(BranchIndex) -> bool,
) {
    let mut cell = tx.cell.lock();
    let pending: Vec<BranchIndex> = cell
        .record
        .machine
        .branches()
        .filter(|b| b.outcome.is_none() && b.role != BranchRole::Phony && wanted(b.index))
        .map(|b| b.index)
        .collect();
    for branch in pending {
        let mut fx = Effects::new();
        cell.record.machine.cancel_branch(call.cx.now, branch, &mut fx);
        tm.finish_step(call.cx, tx, &mut cell, fx, None);
    }
}

/// The contact of `E_UL_CONTACT_INSERT` and its like.
fn event_target(params: &[(Bytes, Value)]) -> Option<Branch> {
    let find = |name: &[u8]| params.iter().find(|(n, _)| n == name).map(|(_, value)| value);
    let text = |name: &[u8]| find(name)?.text().map(|t| Bytes::copy_from_slice(&t));
    let filled = |name: &[u8]| text(name).filter(|t| !t.is_empty());
    let uri = filled(b"address").or_else(|| filled(b"uri"))?;
    let number = |name: &[u8]| find(name).and_then(Value::int);
    let branch = Branch {
        uri: Some(uri),
        dst_uri: filled(b"received"),
        q: number(b"qval").and_then(|q| u16::try_from(q.checked_mul(10)?).ok()),
        flags: number(b"bflags").map_or(0, i32::cast_unsigned),
        ..Branch::default()
    };
    Some(branch.with_path(filled(b"path").unwrap_or_default()))
}

/// The R-URI of the message as it stands, and its further branches.
fn message_targets(ctx: &mut Ctx) -> Vec<Branch> {
    let mut first = ctx.target.clone();
    first.uri.get_or_insert_with(|| Bytes::copy_from_slice(ctx.msg.request_uri()));
    std::iter::once(first).chain(std::mem::take(&mut ctx.branches)).collect()
}
