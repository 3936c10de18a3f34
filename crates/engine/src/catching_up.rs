//! A node that has just started and is being told what its peers know.
//!
//! Until it knows, it would answer phones as if nobody were registered and no call were up. So it
//! lets datagrams with requests lie, for a few seconds at most: their senders repeat them (RFC
//! 3261 17.1), and are answered right then.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tandem_clock::{Mono, SEC};
use tandem_cluster::CapId;

/// How long requests wait at most; the third copy of one comes 3.5 s after the first.
const WAIT_NS: u64 = 3 * SEC;
/// How long they wait for a peer that may know something.
const DONOR_NS: u64 = SEC;
/// A sync that begins later is not that of a start: the node knows enough to serve.
const START_NS: u64 = 30 * SEC;

/// How far the sync of a capability is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nobody has been found yet that could tell.
    Wanted,
    UnderWay,
    Over,
}

/// What is still being told.
#[derive(Debug)]
pub(crate) struct CatchingUp<K = (u32, CapId)> {
    /// Clusters and capabilities whose sync is under way.
    open: Mutex<BTreeSet<K>>,
    /// Until then requests wait; 0: they do not.
    until: AtomicU64,
}

impl<K> Default for CatchingUp<K> {
    fn default() -> Self {
        Self { open: Mutex::default(), until: AtomicU64::new(0) }
    }
}

impl<K: Ord> CatchingUp<K> {
    /// The sync of a capability is so far now.
    pub(crate) fn note(&self, now: Mono, started: Mono, what: K, step: Step) {
        let mut open = self.open.lock();
        let wait_ns = if step == Step::Wanted { DONOR_NS } else { WAIT_NS };
        if step != Step::Over && now < started.saturating_add(START_NS) {
            open.insert(what);
            self.until.fetch_max(now.saturating_add(wait_ns), Ordering::AcqRel);
        } else if open.remove(&what) && open.is_empty() {
            self.until.store(0, Ordering::Release);
        }
    }

    /// Whether a request has to be repeated.
    pub(crate) fn holds(&self, now: Mono) -> bool {
        now < self.until.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_wait_while_a_sync_of_the_start_is_under_way_and_not_for_ever() {
        let it = CatchingUp::default();
        assert!(!it.holds(0));
        it.note(SEC, 0, (1, 1), Step::UnderWay);
        it.note(SEC, 0, (1, 2), Step::UnderWay);
        it.note(2 * SEC, 0, (1, 1), Step::Over);
        assert!(it.holds(2 * SEC), "the other one is not over");
        assert!(!it.holds(4 * SEC), "long enough");
        it.note(3 * SEC, 0, (1, 2), Step::Over);
        assert!(!it.holds(3 * SEC));
        it.note(START_NS, 0, (1, 1), Step::UnderWay);
        assert!(!it.holds(START_NS), "not at the start");
    }

    #[test]
    fn requests_wait_for_a_peer_that_may_know_something_and_not_long() {
        let it = CatchingUp::default();
        it.note(0, 0, (1, 1), Step::Wanted);
        assert!(it.holds(SEC / 2));
        assert!(!it.holds(SEC), "nobody is there");
        it.note(SEC, 0, (1, 1), Step::UnderWay);
        assert!(it.holds(3 * SEC));
    }
}
