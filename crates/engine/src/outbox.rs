//! Changes on their way to the peers.
//!
//! A module appends a change while it holds the lock of the record's shard, so the order of a
//! shard's changes is the order in which they happened. Nothing is sent here: a worker drains
//! the outbox when its batch ends, with the cluster's lock held, so two drains never overtake
//! each other (decisions: "Order of replication").

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::Now;
use tandem_cluster::{Change, Stamp};

const STRIPES: usize = 64;

/// One replicated change, encoded once for all peers.
#[derive(Clone, Debug)]
pub struct Record {
    /// The module whose capability it belongs to.
    pub slot: u16,
    /// Which of the module's capabilities: 0 is [`crate::module::Module::replicated`], 1 is
    /// [`crate::module::Module::replicated_too`].
    pub part: u8,
    pub change: Change,
}

impl Record {
    /// A change of a module with one capability, of which all peers are told the same.
    pub fn same(slot: u16, kind: u32, version: u16, payload: Bytes, stamp: Stamp) -> Self {
        Self { slot, part: 0, change: Change::same(kind, version, payload, stamp) }
    }
}

/// Changes that no peer has been told yet.
#[derive(Debug)]
pub struct Outbox {
    stripes: Vec<Mutex<Vec<Record>>>,
    dirty: AtomicBool,
    /// A peer can be reached that is none of ours, or may be none.
    has_stock: AtomicBool,
    /// The last stamp given out, in microseconds.
    clock: AtomicU64,
    node: u32,
}

impl Outbox {
    pub fn new(node: u32) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            dirty: AtomicBool::new(false),
            has_stock: AtomicBool::new(true),
            clock: AtomicU64::new(0),
            node,
        }
    }

    /// A stamp later than every stamp this node gave out or heard of: wall time in microseconds,
    /// pushed forward where the clock stands still or runs back.
    pub fn stamp(&self, now: Now) -> Stamp {
        let wall = now.unix_ms.saturating_mul(1000);
        let last = self
            .clock
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(wall.max(last + 1)))
            .unwrap_or_default();
        Stamp { time_us: wall.max(last + 1), node: self.node }
    }

    /// Keeps later stamps above one that a peer gave (at most an hour ahead of our own clock,
    /// so that one broken clock cannot take the whole cluster with it).
    pub fn hear(&self, now: Now, stamp: Stamp) {
        let limit = (now.unix_ms + 3_600_000).saturating_mul(1000);
        self.clock.fetch_max(stamp.time_us.min(limit), Ordering::Relaxed);
    }

    /// Appends a change; to be called with the lock of `shard` held.
    pub fn append(&self, shard: usize, record: Record) {
        if let Some(stripe) = self.stripes.get(shard % STRIPES) {
            stripe.lock().push(record);
            self.dirty.store(true, Ordering::Release);
        }
    }

    /// Whether somebody would read what is written for stock peers. One that comes up later is told
    /// what it missed from the records themselves.
    pub fn has_stock(&self) -> bool {
        self.has_stock.load(Ordering::Relaxed)
    }

    pub(crate) fn set_stock(&self, has_stock: bool) {
        self.has_stock.store(has_stock, Ordering::Relaxed);
    }

    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    /// Takes everything; to be called with the cluster's lock held.
    pub(crate) fn drain(&self, mut take: impl FnMut(Record)) {
        if self.dirty.swap(false, Ordering::AcqRel) {
            for stripe in &self.stripes {
                let records = std::mem::take(&mut *stripe.lock());
                records.into_iter().for_each(&mut take);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_although_the_clock_stands_still_or_runs_back() {
        let outbox = Outbox::new(1);
        let at = |unix_ms| Now { mono_ns: 0, unix_ms };
        let a = outbox.stamp(at(1000));
        let b = outbox.stamp(at(1000));
        let c = outbox.stamp(at(10));
        assert!(a < b && b < c);
        outbox.hear(at(1000), Stamp { time_us: 5_000_000, node: 2 });
        assert!(outbox.stamp(at(1000)).time_us > 5_000_000);
    }
}
