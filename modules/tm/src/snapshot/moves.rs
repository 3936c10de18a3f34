//! Transactions on their way from one node to another.

use bytes::Bytes;
use tandem_engine::module::Cx;
use tandem_transaction::Effects;

use super::{RestoreError, TxSnapshot, sections};
use crate::inject::TxRef;
use crate::record::Record;
use crate::table::Tx;
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
        let can_move = cell.busy.is_none() && cell.waiting() == 0;
        let record = can_move.then(|| cell.record.snapshot(cx))?;
        let Tx { id, key: _, call_hash: _, origin: _, is_cancel: _, answers: _, cell: _ } = &*tx;
        let msg = &cell.record.saved.msg;
        let is_local = cell.record.owner.is_some();
        let key = (!is_local).then(|| self.key_text(msg, msg.method())).flatten();
        Some(TxSnapshot { id: *id, key: Bytes::copy_from_slice(&key.unwrap_or_default()), record })
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
