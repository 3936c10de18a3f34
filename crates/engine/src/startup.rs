//! What has to be finished before the node serves: rows to load, the state file to read.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tandem_clock::{Mono, SEC};

/// How long requests wait for tasks of which nothing is heard: the third copy of a request comes
/// 3.5 s after the first (RFC 3261 17.1.1.2).
const SILENCE_NS: u64 = 3 * SEC;
/// How long they wait at most, while rows still come: a transaction is over after 32 s.
const HOLD_NS: u64 = 30 * SEC;

/// Counts start-up tasks. The node itself holds one until every module was started.
#[derive(Debug)]
pub struct Startup {
    tasks: AtomicU32,
    begun: Mono,
    /// When a task last got an answer.
    heard: AtomicU64,
}

impl Startup {
    pub(crate) fn new(now: Mono) -> Self {
        Self { tasks: AtomicU32::new(1), begun: now, heard: AtomicU64::new(now) }
    }

    pub fn begin(&self) {
        self.tasks.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends a task; true for the last one.
    pub fn end(&self) -> bool {
        let less = |n: u32| n.checked_sub(1);
        self.tasks.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) == Ok(1)
    }

    pub fn is_over(&self) -> bool {
        self.tasks.load(Ordering::Acquire) == 0
    }

    /// An answer came, of a database for example.
    pub(crate) fn hear(&self, now: Mono) {
        if !self.is_over() {
            self.heard.fetch_max(now, Ordering::AcqRel);
        }
    }

    /// Whether requests have to wait for the tasks.
    pub(crate) fn holds(&self, now: Mono) -> bool {
        !self.is_over()
            && now < self.begun.saturating_add(HOLD_NS)
            && now < self.heard.load(Ordering::Acquire).saturating_add(SILENCE_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_wait_for_tasks_that_come_forward_and_not_for_those_that_hang() {
        let startup = Startup::new(SEC);
        startup.begin();
        assert!(!startup.end(), "one is left");
        assert!(startup.holds(SEC));
        assert!(!startup.holds(SEC + SILENCE_NS), "nothing was heard");
        startup.hear(3 * SEC);
        assert!(startup.holds(3 * SEC + SILENCE_NS - 1));
        startup.hear(SEC + HOLD_NS);
        assert!(!startup.holds(SEC + HOLD_NS), "long enough");
        assert!(startup.end() && !startup.holds(SEC), "all is there");
    }
}
