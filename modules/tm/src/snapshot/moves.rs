//! Transactions on their way from one node to another.

use bytes::Bytes;
use tandem_engine::attached::TxMoment;
use tandem_engine::module::Cx;
use tandem_transaction::Effects;

use super::{RestoreError, TxSnapshot, sections};
use crate::inject::TxRef;
use crate::record::Record;
use crate::table::{Cell, Tx};
use crate::tm::Tm;
use crate::via_branch::SHARDS;

impl Tm {
    /// What modules attached to a transaction, for another node: their names and what they made
    /// of it; among them this module, with the transaction itself, unless one of its routes runs or
    /// waits. Empty when it is gone. See [`attached_of`] and [`Self::take_over`].
    pub fn sections_of(&self, cx: &Cx<'_>, tx: TxRef) -> Vec<(&'static str, Bytes)> {
        let Some(found) = self.table.by_id(tx.0) else { return Vec::new() };
        let attached = found.cell.lock().record.saved.attached.clone();
        let mut all = sections(cx, &attached);
        all.extend(self.snapshot(cx, tx).map(|tx| (crate::MODULE.name, tx.to_bytes())));
        all
    }

    /// All transactions.
    pub fn all(&self) -> Vec<TxRef> {
        self.table.ids().into_iter().map(TxRef).collect()
    }

    /// A transaction as plain data; `None` if it has ended, or one of its routes runs or waits.
    pub fn snapshot(&self, cx: &Cx<'_>, tx: TxRef) -> Option<TxSnapshot> {
        let tx = self.table.by_id(tx.0)?;
        let cell = tx.cell.lock();
        self.snapshot_in(cx, &tx, &cell)
    }

    fn snapshot_in(&self, cx: &Cx<'_>, tx: &Tx, cell: &Cell) -> Option<TxSnapshot> {
        let can_move = cell.busy.is_none() && cell.waiting() == 0;
        let record = can_move.then(|| cell.record.snapshot(cx))?;
        let Tx { id, key: _, call_hash: _, origin: _, is_cancel: _, answers: _, cell: _ } = tx;
        let msg = &cell.record.saved.msg;
        let is_local = cell.record.owner.is_some();
        let key = (!is_local).then(|| self.key_text(msg, msg.method())).flatten();
        Some(TxSnapshot { id: *id, key: Bytes::copy_from_slice(&key.unwrap_or_default()), record })
    }

    /// Whether this host has an address that a transaction needs: that to which its request came,
    /// or one by which it left to somebody who has not answered.
    pub fn is_held_here(&self, cx: &Cx<'_>, tx: TxRef) -> bool {
        let Some(tx) = self.table.by_id(tx.0) else { return false };
        let record = &tx.cell.lock().record;
        let is_held = |id| cx.node.sockets.get(id).is_none_or(|socket| socket.is_held());
        let mut legs = record.legs.iter().zip(record.machine.branches());
        is_held(record.saved.source.socket)
            || legs.any(|(leg, branch)| branch.outcome.is_none() && is_held(leg.socket))
    }

    /// Takes a transaction out of this node for another one: `told` gets what
    /// [`Self::sections_of`] gives, and nothing happens to the transaction in between. `false`,
    /// without a word: it is answered or gone, or one of its routes runs or waits.
    pub fn give_away(
        &self,
        cx: &mut Cx<'_>,
        tx: TxRef,
        told: impl FnOnce(&mut Cx<'_>, Vec<(&'static str, Bytes)>),
    ) -> bool {
        let Some(tx) = self.table.by_id(tx.0) else { return false };
        let (attached, all) = {
            let mut cell = tx.cell.lock();
            if cell.record.machine.last_code() >= 200 || cell.record.machine.is_ended() {
                return false;
            }
            let Some(snapshot) = self.snapshot_in(cx, &tx, &cell) else { return false };
            let mut all = sections(cx, &cell.record.saved.attached);
            all.push((crate::MODULE.name, snapshot.to_bytes()));
            cell.record.machine.abandon();
            (std::mem::take(&mut cell.record.saved.attached), all)
        };
        self.table.remove(&tx);
        told(cx, all);
        cx.tell_transaction(&attached, || TxMoment::Ended);
        true
    }

    /// Keeps a transaction of another node up.
    ///
    /// # Errors
    /// See [`RestoreError`]; nothing has happened then.
    pub fn restore(&self, cx: &mut Cx<'_>, snapshot: TxSnapshot) -> Result<TxRef, RestoreError> {
        self.restore_with(cx, snapshot, |_, _| {})
    }

    /// Keeps up a transaction of a node that is gone, of [`Self::sections_of`], which were told so
    /// long ago. What was asked without a word in answer is asked again: who is asked absorbs it
    /// and says once more what the node that is gone may have heard (RFC 3261 17.2.1).
    ///
    /// # Errors
    /// See [`RestoreError`]; nothing has happened then.
    pub fn take_over(
        &self,
        cx: &mut Cx<'_>,
        bytes: &[u8],
        age_ns: u64,
    ) -> Result<TxRef, RestoreError> {
        let mut snapshot = TxSnapshot::parse(bytes).ok_or(RestoreError::Bytes)?;
        snapshot.record.machine.grow_older(age_ns);
        self.restore_with(cx, snapshot, |record, fx| record.machine.ask_again(fx))
    }

    fn restore_with(
        &self,
        cx: &mut Cx<'_>,
        snapshot: TxSnapshot,
        then: impl FnOnce(&mut Record, &mut Effects),
    ) -> Result<TxRef, RestoreError> {
        let TxSnapshot { id, key, record } = snapshot;
        if usize::from(id.index) >= SHARDS {
            return Err(RestoreError::Known);
        }
        let mut fx = Effects::new();
        let mut record = record.restore(cx, &mut fx)?;
        then(&mut record, &mut fx);
        let key = self.table.key_of(&key);
        let tx =
            self.table.insert_restored(id, key, Box::new(record)).ok_or(RestoreError::Known)?;
        let mut cell = tx.cell.lock();
        self.finish_step(cx, &tx, &mut cell, fx, None);
        self.settle(cx, &tx, cell);
        Ok(TxRef(id))
    }
}
