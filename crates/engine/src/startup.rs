//! What has to be finished before the node serves: rows to load, the state file to read.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counts start-up tasks. The node itself holds one until every module was started.
#[derive(Debug)]
pub struct Startup(AtomicU32);

impl Default for Startup {
    fn default() -> Self {
        Self(AtomicU32::new(1))
    }
}

impl Startup {
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends a task; true for the last one.
    pub fn end(&self) -> bool {
        let ended = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        ended == Ok(1)
    }

    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}
