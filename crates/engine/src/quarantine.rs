//! Calls in which a bug came to light: their messages are dropped for a while, so that the same
//! message, sent again, does not fail again, and whatever state is half done is left to end by its
//! timers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tandem_clock::{Mono, Now};

/// Calls in quarantine; beyond it the first one comes out first.
const CALLS_MAX: usize = 1_024;
/// Longer than any retransmission (64 T1).
const SECONDS: u64 = 64;

/// Hashes of Call-IDs, and until when they stay.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    calls: Mutex<BTreeMap<u64, Mono>>,
    /// Looked at before the lock is taken.
    count: AtomicUsize,
}

impl Quarantine {
    pub(crate) fn add(&self, now: Now, call: u64) {
        let mut calls = self.calls.lock();
        calls.retain(|_, until| *until > now.mono_ns);
        if calls.len() >= CALLS_MAX
            && let Some(first) = calls.iter().min_by_key(|(call, at)| (**at, **call)).map(|e| *e.0)
        {
            calls.remove(&first);
        }
        calls.insert(call, now.after_s(SECONDS));
        self.count.store(calls.len(), Ordering::Release);
    }

    pub(crate) fn holds(&self, now: Now, call: u64) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut calls = self.calls.lock();
        calls.retain(|_, until| *until > now.mono_ns);
        self.count.store(calls.len(), Ordering::Release);
        calls.contains_key(&call)
    }
}
