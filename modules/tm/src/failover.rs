//! The next destination of a name, when one has failed (RFC 3263 4.3).

use std::sync::Arc;

use tandem_engine::context::Ctx;
use tandem_engine::module::Cx;
use tandem_engine::sockets::SocketId;
use tandem_engine::transport::{Hop, Prepared, first_allowed, prepare_request_to};
use tandem_transaction::{BranchIndex, Effects};

use crate::drive::Decided;
use crate::launch::dest_of;
use crate::record::{Leg, Record};
use crate::table::{Cell, Tx};
use crate::tm::Tm;

/// What is left of a branch's destinations, and what its request is written from.
pub(crate) struct Spare {
    pub(crate) ctx: Box<Ctx>,
    pub(crate) hops: Vec<Hop>,
}

impl Spare {
    /// The next destination that no blacklist forbids, with the request for it.
    fn next(&mut self, cx: &Cx<'_>, via_branch: &[u8]) -> Option<Prepared> {
        while let Some(first) = first_allowed(cx, &self.ctx, &self.hops) {
            let hop = *self.hops.get(first)?;
            self.hops.drain(..=first);
            let ctx = &self.ctx;
            if let Ok(ready) = prepare_request_to(cx.node, ctx, &ctx.target, via_branch, hop) {
                return Some(ready);
            }
        }
        None
    }
}

impl Tm {
    /// A destination has failed: it may be left alone for a while.
    pub(crate) fn note_failed(&self, cx: &Cx<'_>, record: &Record, branch: BranchIndex) {
        let Some(view) = record.machine.branch(branch) else { return };
        let socket = cx.node.sockets.get(SocketId(view.dest.socket as u16));
        if let Some(socket) = socket {
            cx.node.blacklists.failed(cx.now, socket.proto, view.dest.addr);
        }
    }

    /// The request of a branch could not be sent: it goes to the next destination, in its place.
    pub(crate) fn redirect(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        cell: &mut Cell,
        branch: BranchIndex,
    ) -> bool {
        let via_branch = self.via_branch(tx.id, branch.0);
        let Some(leg) = cell.record.leg_mut(branch) else { return false };
        let ready = leg.spare.as_mut().and_then(|spare| spare.next(cx, &via_branch));
        let Some(ready) = ready else { return false };
        leg.sends = 0;
        leg.socket = ready.socket;
        let dest = dest_of(cx, &ready);
        let mut fx = Effects::new();
        let machine = &mut cell.record.machine;
        let moved = machine.redirect_branch(cx.now, branch, (ready.bytes, dest), &mut fx);
        self.finish_step(cx, tx, cell, fx, None);
        moved
    }

    /// All branches have failed: when the winner's destination was silent or overloaded, the next
    /// one is tried in a branch of its own.
    pub(crate) fn fail_over(
        &self,
        cx: &mut Cx<'_>,
        tx: &Arc<Tx>,
        cell: &mut Cell,
        decided: Decided,
    ) -> bool {
        let Some(index) = decided.branch else { return false };
        let Some(view) = cell.record.machine.branch(index) else { return false };
        let silent = decided.code == 408 && view.last_code == 0;
        let overloaded = decided.code == 503 && view.last_code == 503;
        if !silent && !overloaded {
            return false;
        }
        self.note_failed(cx, &cell.record, index);
        let number = cell.record.legs.len();
        let Ok(number) = u8::try_from(number) else { return false };
        let via_branch = self.via_branch(tx.id, number);
        let Some(leg) = cell.record.leg_mut(index) else { return false };
        let Some(mut spare) = leg.spare.take() else { return false };
        let Some(ready) = spare.next(cx, &via_branch) else { return false };
        let mut next = Leg::of(&spare.ctx, ready.socket, leg.on_reply, leg.bavps.clone());
        next.target.flags = leg.target.flags;
        next.spare = Some(spare);
        self.add_prepared(cx, tx, cell, ready, next).is_ok()
    }
}
