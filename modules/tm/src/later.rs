//! What other modules do with a request that waits for branches: one that wakes phones adds them
//! as they register.

use bytes::Bytes;
use tandem_engine::avp::Avps;
use tandem_engine::context::{Branch, Ctx, Source};
use tandem_engine::module::Cx;
use tandem_transaction::Effects;

use crate::draft::Drafting;
use crate::inject::{TxRef, begin};
use crate::record::{Event, Leg, Role, Section};
use crate::tm::{Begun, Tm};

/// What became of the wish to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// The transaction is open until the branches are there.
    For(TxRef),
    /// The request was dealt with: the script ends.
    Handled,
    /// There is no transaction that could wait.
    Failed,
}

/// What became of branches that were added later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    Added,
    /// A route of the transaction runs: try again soon.
    Busy,
    /// It has ended, or was cancelled.
    Gone,
}

/// A request as its transaction keeps it.
#[derive(Clone, Debug)]
pub struct Origin {
    pub source: Source,
    /// Message flags.
    pub flags: u32,
    /// Flags of the Request-URI's branch.
    pub branch_flags: u32,
    pub avps: Avps,
}

impl Tm {
    /// Has the transaction of a request wait for branches, made if it is missing; `wanted` is
    /// their number, without it they come until [`Tm::expect_fewer`] or `fr_inv_timeout`.
    pub fn wait_for_branches(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, wanted: Option<u16>) -> Waits {
        let tx = match self.begin(cx, ctx) {
            Begun::New(tx) | Begun::Existing(tx) => tx,
            Begun::Retransmission | Begun::Refused => return Waits::Handled,
            Begun::Failed => return Waits::Failed,
        };
        let mut cell = tx.cell.lock();
        if cell.busy.is_some() {
            return Waits::Failed;
        }
        cell.record.save(&cx.node.sockets, ctx);
        let mut fx = Effects::new();
        let added = cell.record.machine.wait_for_branches(cx.now, &mut fx);
        if added.is_ok() {
            cell.record.legs.push(Leg::phony(ctx));
            cell.record.waits = wanted;
        }
        self.finish_step(cx, &tx, &mut cell, fx, None);
        self.settle(cx, &tx, cell);
        if added.is_ok() { Waits::For(TxRef(tx.id)) } else { Waits::Failed }
    }

    /// The request has no target but those that come later: `t_relay` with the target as it is
    /// now sends nothing.
    pub fn only_waits(&self, slot: u16, ctx: &mut Ctx) {
        let target = ctx.target.uri.clone();
        ctx.section_mut::<Section>(slot).waits_with = Some(target);
    }

    /// Adds branches to a transaction that waits. `slot` of `cx` is that of this module.
    pub fn inject(&self, cx: &mut Cx<'_>, tx: TxRef, targets: Vec<Branch>) -> Injected {
        let Some(tx) = self.table.by_id(tx.0) else { return Injected::Gone };
        {
            let mut cell = tx.cell.lock();
            if cell.record.machine.is_ended() || cell.record.machine.last_code() >= 200 {
                return Injected::Gone;
            }
            if !begin(&mut cell, Role::Visitor) {
                return Injected::Busy;
            }
        }
        let base = Box::new(tx.cell.lock().record.next_context());
        self.inject_from(cx, Drafting::of(&tx, targets, None), base);
        Injected::Added
    }

    /// So many branches will not come after all; without any left the waiting ends.
    pub fn expect_fewer(&self, cx: &mut Cx<'_>, tx: TxRef, count: u16) {
        let Some(tx) = self.table.by_id(tx.0) else { return };
        let left = {
            let record = &mut tx.cell.lock().record;
            record.waits = record.waits.map(|n| n.saturating_sub(count));
            record.waits
        };
        if left == Some(0) {
            self.deliver(cx, &tx, Event::NoMore);
        }
    }

    /// How the request of a context's transaction came, and what the script made of it.
    pub fn origin(&self, slot: u16, ctx: &Ctx) -> Option<Origin> {
        let tx = ctx.section::<Section>(slot)?.tx.as_ref()?;
        let cell = tx.cell.lock();
        let saved = &cell.record.saved;
        let (flags, branch_flags) = (saved.flags, saved.target.flags);
        Some(Origin { source: saved.source, flags, branch_flags, avps: saved.avps.clone() })
    }
}

/// The script relays a request whose only branches come later, and has not changed its target.
pub(crate) fn sends_nothing(section: &Section, target: Option<&Bytes>, branches: usize) -> bool {
    let then = section.waits_with.as_ref();
    then.is_some_and(|then| then.as_ref() == target) && branches == 0
}
