//! A node that has just started and is being told what its peers know.
//!
//! Until it knows, it would answer phones as if nobody were registered and no call were up. So
//! requests wait (see `held`), for a few seconds at most. A node does not wait for peers that are
//! not there, or that know nothing themselves.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tandem_clock::{MS, Mono, SEC};
use tandem_cluster::CapId;

/// How long requests wait at most; the third copy of one comes 3.5 s after the first.
const WAIT_NS: u64 = 3 * SEC;
/// A sync that begins later is not that of a start: the node knows enough to serve.
const START_NS: u64 = 30 * SEC;
/// How long requests wait for the first word of peers; one that is not there refuses the
/// connection, but a host that is off does not even do that.
const MEET_NS: u64 = 500 * MS;

/// What is still being told.
#[derive(Debug)]
pub(crate) struct CatchingUp<K = (u32, CapId)> {
    /// Clusters and capabilities whose sync is under way.
    open: Mutex<BTreeSet<K>>,
    /// Until then requests wait; 0: they do not.
    until: AtomicU64,
    /// The same for the time before: peers are called, and have not said yet what they know.
    meets_until: AtomicU64,
}

impl<K> Default for CatchingUp<K> {
    fn default() -> Self {
        Self { open: Mutex::default(), until: AtomicU64::new(0), meets_until: AtomicU64::new(0) }
    }
}

impl<K: Ord> CatchingUp<K> {
    /// The sync of a capability has begun, or is over.
    pub(crate) fn note(&self, now: Mono, started: Mono, what: K, under_way: bool) {
        let mut open = self.open.lock();
        if under_way && now < started.saturating_add(START_NS) {
            if open.insert(what) && open.len() == 1 {
                self.until.store(now.saturating_add(WAIT_NS), Ordering::Release);
            }
        } else if open.remove(&what) && open.is_empty() {
            self.until.store(0, Ordering::Release);
        }
    }

    /// The node has begun to call its peers.
    pub(crate) fn meet(&self, now: Mono) {
        self.meets_until.store(now.saturating_add(MEET_NS), Ordering::Release);
    }

    /// Whether it has not heard of all of them, as far as is known here.
    pub(crate) fn meets(&self) -> bool {
        self.meets_until.load(Ordering::Relaxed) != 0
    }

    /// It has.
    pub(crate) fn met(&self) {
        self.meets_until.store(0, Ordering::Release);
    }

    /// Whether requests have to wait.
    pub(crate) fn holds(&self, now: Mono) -> bool {
        now < self.until.load(Ordering::Acquire) || now < self.meets_until.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_wait_while_a_sync_of_the_start_is_under_way_and_not_for_ever() {
        let it = CatchingUp::default();
        assert!(!it.holds(0));
        it.note(SEC, 0, (1, 1), true);
        it.note(SEC, 0, (1, 2), true);
        it.note(2 * SEC, 0, (1, 1), false);
        assert!(it.holds(2 * SEC), "the other one is not over");
        assert!(!it.holds(4 * SEC), "long enough");
        it.note(3 * SEC, 0, (1, 2), false);
        assert!(!it.holds(3 * SEC));
        it.note(START_NS, 0, (1, 1), true);
        assert!(!it.holds(START_NS), "not at the start");
        it.meet(START_NS);
        assert!(it.holds(START_NS) && !it.holds(START_NS + MEET_NS));
        it.met();
        assert!(!it.holds(START_NS));
    }
}
