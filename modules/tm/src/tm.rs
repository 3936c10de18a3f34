//! The state of the module, and its side towards the engine.

use std::sync::Arc;

use tandem_clock::Now;
use tandem_engine::context::{Ctx, Fate, Source};
use tandem_engine::effect::SendError;
use tandem_engine::log::Level;
use tandem_engine::module::{Build, BuildError, Cx, Module, RouteEnd, Timer};
use tandem_engine::node::Node;
use tandem_engine::own_reply::{Leave, own_reply, reply_stateless};
use tandem_engine::replication::Replicated;
use tandem_engine::transport::{Hop, HopError};
use tandem_sip::{Message, Method};
use tandem_transaction::{BranchIndex, Kind, ServerState, Transaction};

use crate::drive;
use crate::launch::Errands;
use crate::local::CallIds;
use crate::params::Params;
use crate::plain::Plains;
use crate::record::{Busy, Event, Lines, Record, Role, Section};
use crate::soon::Soon;
use crate::stats;
use crate::table::{Inserted, Key, KeyText, Room, Table, Tx, request_key};
use crate::via_branch::TxId;

/// The transactions of a node.
pub struct Tm {
    pub(crate) params: Params,
    pub(crate) table: Table,
    pub(crate) plains: Plains,
    pub(crate) soon: Soon,
    /// What waits for names.
    pub(crate) errands: Errands,
    pub(crate) call_ids: CallIds,
}

/// What became of the wish for a transaction.
pub(crate) enum Begun {
    /// It was made now.
    New(Arc<Tx>),
    /// The script made it before.
    Existing(Arc<Tx>),
    /// The request was seen before and dealt with.
    Retransmission,
    /// The node is full; the request is answered.
    Refused,
    Failed,
}

impl Tm {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let table = Table::new(build.hash_key().state());
        let call_ids = CallIds::new(build.chance.u64());
        let (plains, soon, errands) = (Plains::default(), Soon::default(), Errands::default());
        Ok(Arc::new(Self { params, table, plains, soon, errands, call_ids }))
    }

    /// Transactions in memory.
    pub fn len(&self) -> usize {
        self.table.len() + self.plains.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The transaction of the request of `ctx`, made if it is missing.
    pub(crate) fn begin(&self, cx: &mut Cx<'_>, ctx: &mut Ctx) -> Begun {
        if let Some(tx) = &ctx.section_mut::<Section>(cx.slot).tx {
            return Begun::Existing(Arc::clone(tx));
        }
        let method = ctx.msg.method();
        // An ACK makes no transaction (RFC 3261 17).
        if method == Method::Ack {
            return Begun::Failed;
        }
        let Some(key) = self.key(&ctx.msg, method).filter(|_| ctx.msg.is_request()) else {
            return Begun::Failed;
        };
        if let Some(tx) = self.live(key) {
            self.deliver(cx, &tx, Event::Retransmission);
            return Begun::Retransmission;
        }
        if let Some(refusal) = self.refusal(cx, ctx) {
            return refusal;
        }
        if self.is_merged(ctx) {
            let reason = b"Request Merged";
            reply_stateless(cx, ctx, 482, reason, b"", Leave::Now);
            return Begun::Refused;
        }
        let record = self.new_record(cx, ctx);
        match self.table.insert(key, record, &mut cx.worker.chance) {
            Inserted::Known(tx) => {
                self.deliver(cx, &tx, Event::Retransmission);
                Begun::Retransmission
            }
            Inserted::New(tx) => {
                self.count(cx, stats::UAS_TRANSACTIONS);
                ctx.section_mut::<Section>(cx.slot).tx = Some(Arc::clone(&tx));
                if method == Method::Invite && self.params.auto_100trying {
                    let bytes = own_reply(cx.node, ctx, 100, b"Giving it a try", b"");
                    self.deliver(cx, &tx, Event::Local { code: 100, bytes });
                }
                Begun::New(tx)
            }
        }
    }

    /// Whether a request comes a second time by another way, while the first one is not answered
    /// (RFC 3261 8.2.2.2). One that has been here before and comes back is a spiral.
    fn is_merged(&self, ctx: &Ctx) -> bool {
        let first = self.table.origin_of(&ctx.msg).and_then(|origin| self.table.by_origin(origin));
        let Some(first) = first else { return false };
        let is_open = {
            let record = &first.cell.lock().record;
            let (one, two) = (&record.saved.msg, &ctx.msg);
            let is_same = one.call_id() == two.call_id() && one.from_tag() == two.from_tag();
            is_same && record.machine.last_code() < 200 && !record.machine.is_ended()
        };
        let branches = ctx.msg.vias().filter_map(|via| TxId::parse(via.ok()?.branch?));
        is_open && !branches.map(|(id, _)| id).any(|id| self.table.by_id(id).is_some())
    }

    /// Under which a request is found; see [`request_key`].
    pub(crate) fn key(&self, msg: &Message, method: Method) -> Option<Key> {
        self.key_text(msg, method).map(|text| self.table.key_of(&text))
    }

    pub(crate) fn key_text(&self, msg: &Message, method: Method) -> Option<KeyText> {
        request_key(msg, method, self.params.old_match)
    }

    /// A pending INVITE of a call, by Call-ID and CSeq number.
    pub(crate) fn by_call(&self, call_id: &[u8], number: Option<u32>) -> Option<Arc<Tx>> {
        self.table.of_call(call_id).into_iter().find(|tx| {
            let cell = tx.cell.lock();
            let msg = &cell.record.saved.msg;
            let cseq = msg.cseq().map(|c| c.number).ok();
            msg.method() == Method::Invite
                && msg.call_id() == Some(call_id)
                && number.is_none_or(|n| cseq == Some(n))
                && !cell.record.machine.is_ended()
        })
    }

    /// Whether an ACK is the caller's to a 2xx that passed here.
    pub(crate) fn is_answer_acked(&self, ack: &Message) -> bool {
        let (Some(call_id), Ok(cseq)) = (ack.call_id(), ack.cseq()) else { return false };
        self.table.of_call(call_id).into_iter().any(|tx| {
            let record = &tx.cell.lock().record;
            let invite = &record.saved.msg;
            record.machine.server_state() == ServerState::Accepted
                && invite.method() == Method::Invite
                && invite.call_id() == Some(call_id)
                && invite.from_tag() == ack.from_tag()
                && invite.cseq().is_ok_and(|sent| sent.number == cseq.number)
        })
    }

    /// The branch of our Via for a branch.
    pub(crate) fn via_branch(&self, id: TxId, branch: u8) -> Vec<u8> {
        id.via_branch(branch)
    }

    /// A hash that strangers cannot foresee.
    pub(crate) fn hash(&self, value: &impl std::hash::Hash) -> u64 {
        self.table.hash(value)
    }

    /// The transaction of a request that has not ended.
    pub(crate) fn live(&self, key: Key) -> Option<Arc<Tx>> {
        self.table.by_request(key).filter(|tx| !tx.cell.lock().record.machine.is_ended())
    }

    /// The INVITE that an ACK or a CANCEL is about.
    pub(crate) fn invite_of(&self, ctx: &Ctx) -> Option<Arc<Tx>> {
        self.live(self.key(&ctx.msg, Method::Invite)?)
    }

    /// Replies to the request of `ctx` with its transaction; `false` if that is not possible.
    pub(crate) fn reply_with(
        &self,
        cx: &mut Cx<'_>,
        ctx: &mut Ctx,
        code: u16,
        reason: &[u8],
    ) -> bool {
        let section = ctx.section_mut::<Section>(cx.slot);
        let (Some(tx), role) = (section.tx.clone(), section.role) else { return false };
        if !(100..=699).contains(&code) {
            return false;
        }
        {
            let mut cell = tx.cell.lock();
            if cell.record.machine.last_code() >= 200 {
                cx.log(Level::Error, format!("no {code} after the final reply that was sent"));
                return false;
            }
            cell.record.saved.attached.update(&ctx.attached);
        }
        let bytes = own_reply(cx.node, ctx, code, reason, b"");
        let bytes = self.show_own_reply(cx, ctx, bytes);
        match role {
            Role::Request => {
                self.deliver(cx, &tx, Event::Local { code, bytes });
                true
            }
            Role::Failure => {
                let mut cell = tx.cell.lock();
                self.send_local(cx, tx.id, &mut cell.record, code, bytes)
            }
            Role::Visitor => {
                self.deliver(cx, &tx, Event::Local { code, bytes });
                true
            }
            Role::Branch | Role::Reply | Role::Local => false,
        }
    }

    fn new_record(&self, cx: &Cx<'_>, ctx: &mut Ctx) -> Box<Record> {
        let invite = ctx.msg.method() == Method::Invite;
        let kind = if invite { Kind::Invite } else { Kind::NonInvite };
        let sockets = &cx.node.sockets;
        let reliable = sockets.is_reliable(ctx.source.socket);
        let (timers, settings) = (self.params.timers, self.params.settings);
        let mut machine = Transaction::new(kind, reliable, timers, settings);
        let section = ctx.section_mut::<Section>(cx.slot);
        machine.set_timeouts(section.fr_ms, section.fr_inv_ms);
        let armed = std::mem::take(&mut section.armed);
        let (headers, cancel_reason) = (section.headers.clone(), section.cancel_reason.clone());
        let lines = Lines { headers, cancel_reason, ..Lines::default() };
        ctx.msg = ctx.msg.detached();
        let mut record = Box::new(Record::new(machine, sockets, ctx));
        (record.armed, record.lines) = (armed, lines.kept());
        record
    }

    fn refusal(&self, cx: &mut Cx<'_>, ctx: &mut Ctx) -> Option<Begun> {
        let len = self.len();
        let new_call = ctx.msg.method() == Method::Invite && ctx.msg.to_tag().is_none();
        let memory = &cx.node.memory;
        match admission(len, Room::of(memory.total()), new_call, memory.is_short()) {
            Admission::Granted => None,
            Admission::Full => {
                cx.log(Level::Alert, format!("{len} transactions: no further one is made"));
                Some(Begun::Failed)
            }
            Admission::Busy => {
                let retry = b"Retry-After: 5\r\n";
                reply_stateless(cx, ctx, 503, b"Service Unavailable", retry, Leave::Now);
                Some(Begun::Refused)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Granted,
    /// A new call has to wait.
    Busy,
    Full,
}

/// Memory is bounded: new calls are refused first, and what ends or refreshes a call last.
fn admission(len: usize, room: Room, new_call: bool, memory_short: bool) -> Admission {
    if len >= room.all {
        Admission::Full
    } else if new_call && (len >= room.calls || memory_short) {
        Admission::Busy
    } else {
        Admission::Granted
    }
}

impl Module for Tm {
    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        match timer.kind {
            drive::SOON => self.look_after_due(cx),
            _ => self.look_after(cx, timer.id),
        }
    }

    fn send_failed(&self, cx: &mut Cx<'_>, token: u64, error: SendError) {
        // An address that is not ours now says nothing about the destination.
        if error == SendError::NotHolder {
            return;
        }
        let (index, short, branch) = TxId::of_token(token);
        if TxId::is_plain_short(short) {
            self.plain_failed(cx, token);
        }
        if let Some(tx) = self.table.by_short(index, short) {
            self.deliver(cx, &tx, Event::SendFailed { branch: BranchIndex(branch) });
        }
    }

    fn resolved(&self, cx: &mut Cx<'_>, token: u64, result: Result<Vec<Hop>, HopError>) {
        self.name_found(cx, token, result);
    }

    fn awaits_ack(&self, ack: &Message) -> bool {
        let invite = self.key(ack, Method::Invite).and_then(|key| self.live(key));
        invite
            .is_some_and(|tx| tx.cell.lock().record.machine.server_state() != ServerState::Accepted)
    }

    fn takes_cancel(&self, cx: &mut Cx<'_>, cancel: &Message, source: &Source) -> bool {
        self.cancel_anywhere(cx, cancel, source)
    }

    fn replicated(&self) -> Option<&dyn Replicated> {
        self.params.anycast.is_on().then_some(self)
    }

    fn knows_replies(&self) -> bool {
        true
    }

    fn takes_reply(&self, cx: &mut Cx<'_>, bytes: &[u8]) -> bool {
        self.takes_plain_reply(cx, bytes)
    }

    fn reply(&self, cx: &mut Cx<'_>, ctx: Box<Ctx>) -> Option<Box<Ctx>> {
        self.take_reply(cx, ctx)
    }

    fn route_ended(&self, cx: &mut Cx<'_>, token: u64, ctx: Box<Ctx>, end: RouteEnd) {
        let (index, short, _) = TxId::of_token(token);
        let Some(tx) = self.table.by_short(index, short) else { return self.abandon(cx, token) };
        if ctx.section::<Section>(cx.slot).is_some_and(|section| section.role == Role::Branch) {
            return self.after_branch(cx, &tx, ctx, end);
        }
        let busy = tx.cell.lock().busy;
        match busy {
            Some(Busy::Failure) => self.after_failure(cx, &tx, ctx),
            Some(Busy::Reply { branch, acked, next }) => {
                self.after_reply(cx, &tx, (branch, acked, next), ctx, end);
            }
            Some(Busy::Local { next }) => self.after_local(cx, &tx, ctx, next),
            Some(Busy::OwnReply { code }) => self.after_own_reply(cx, &tx, &ctx, code),
            Some(Busy::Relay) | None => {}
        }
    }

    /// A request gets its transaction; an ACK has none and waits without, as a reply does.
    fn begin_async(&self, cx: &mut Cx<'_>, ctx: &mut Ctx) -> Option<Result<bool, String>> {
        if ctx.msg.is_reply() || ctx.msg.method() == Method::Ack {
            return Some(Ok(true));
        }
        Some(match self.begin(cx, ctx) {
            Begun::New(_) | Begun::Existing(_) => Ok(true),
            Begun::Retransmission | Begun::Refused => Ok(false),
            Begun::Failed => Err("async() could not make a transaction".into()),
        })
    }

    /// A CANCEL, or the end of its time, may come before the script goes on: whom it concerns, and
    /// the routes and AVPs for it, are those of the script so far.
    fn request_waits(&self, cx: &mut Cx<'_>, ctx: &mut Ctx) {
        if ctx.section::<Section>(cx.slot).is_none_or(|section| section.role != Role::Request) {
            return;
        }
        let section = ctx.section_mut::<Section>(cx.slot);
        let Some(tx) = section.tx.clone() else { return };
        let armed = std::mem::take(&mut section.armed);
        let record = &mut tx.cell.lock().record;
        record.armed.update(armed);
        record.saved.attached.update(&ctx.attached);
        if !record.avps_used {
            record.saved.avps = ctx.avps.clone();
        }
    }

    fn request_ended(&self, cx: &mut Cx<'_>, ctx: &mut Ctx) {
        let slot = cx.slot;
        let Some(tx) = ctx.section::<Section>(slot).and_then(|section| section.tx.clone()) else {
            return;
        };
        {
            let section = ctx.section_mut::<Section>(slot);
            let armed = section.waits_with.is_some().then(|| std::mem::take(&mut section.armed));
            let record = &mut tx.cell.lock().record;
            record.armed.update(armed.unwrap_or_default());
            record.saved.attached.update(&ctx.attached);
            if !record.avps_used {
                record.saved.avps = std::mem::take(&mut ctx.avps);
            }
        }
        self.deliver(cx, &tx, Event::Release);
    }

    fn fate(&self, slot: u16, ctx: &Ctx) -> Option<Fate> {
        let cell = ctx.section::<Section>(slot)?.tx.as_ref()?.cell.lock();
        if cell.record.machine.last_code() >= 200 {
            return Some(Fate::Answered);
        }
        Some(
            cell.failed
                .as_ref()
                .map_or(Fate::Open, |failed| Fate::Failed(failed.code, failed.reason)),
        )
    }

    fn reply_stateful(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, code: u16, reason: &[u8]) -> bool {
        let section = ctx.section::<Section>(cx.slot);
        let role = section.filter(|s| s.tx.is_some()).map(|s| s.role);
        if !matches!(role, Some(Role::Request | Role::Failure)) {
            return false;
        }
        // A second final reply is swallowed: without state it would only leave as well.
        self.reply_with(cx, ctx, code, reason);
        true
    }

    fn statistic(&self, _node: &Node, _now: Now, index: usize) -> u64 {
        if index == stats::INUSE { self.len() as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_calls_are_refused_first() {
        let room = Room { calls: 10, all: 40 };
        assert_eq!(admission(9, room, true, false), Admission::Granted);
        assert_eq!(admission(9, room, true, true), Admission::Busy);
        assert_eq!(admission(10, room, true, false), Admission::Busy);
        assert_eq!(admission(10, room, false, true), Admission::Granted);
        assert_eq!(admission(40, room, false, false), Admission::Full);
    }

    #[test]
    fn there_is_more_room_where_there_is_more_memory() {
        let of = |gib: u64| Room::of(gib << 30);
        assert_eq!(of(0), Room { calls: 100_000, all: 400_000 });
        assert_eq!(of(4), Room { calls: 262_144, all: 524_288 });
        assert_eq!(of(64), Room { calls: 1_000_000, all: 2_000_000 });
    }
}
