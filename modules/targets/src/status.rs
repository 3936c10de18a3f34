//! A state and when it was set.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use tandem_cluster::Stamp;

/// Never changed by anybody.
pub const NEVER: Stamp = Stamp { time_us: 0, node: 0 };

/// The state of a target. 0 means that it can be used; what the bits mean is its owner's. It
/// outlives the tables, which share it.
#[derive(Debug)]
pub struct Status {
    bits: AtomicU32,
    stamp: Mutex<Stamp>,
}

impl Status {
    /// A state as a table has it; every change is later than it.
    pub fn new(bits: u32) -> Self {
        Self { bits: AtomicU32::new(bits), stamp: Mutex::new(NEVER) }
    }

    pub fn bits(&self) -> u32 {
        self.bits.load(Ordering::Relaxed)
    }

    pub fn is_up(&self) -> bool {
        self.bits() == 0
    }

    pub fn stamp(&self) -> Stamp {
        *self.stamp.lock()
    }

    /// Takes a state that is later than the present one, or as old and more restrictive, so that
    /// all nodes come to the same. Tells whether the state is another one now.
    pub(crate) fn set(&self, bits: u32, stamp: Stamp) -> bool {
        let mut present = self.stamp.lock();
        if (stamp, bits) < (*present, self.bits()) {
            return false;
        }
        *present = stamp;
        self.bits.swap(bits, Ordering::Relaxed) != bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_of_changes_does_not_matter(
            changes in proptest::collection::vec((0u32..3, 1u64..5, 1u32..3), 1..8)
        ) {
            let (a, b) = (Status::new(0), Status::new(4));
            let stamp = |time_us, node| Stamp { time_us, node };
            for (bits, time, node) in &changes {
                a.set(bits * 4, stamp(*time, *node));
            }
            for (bits, time, node) in changes.iter().rev() {
                b.set(bits * 4, stamp(*time, *node));
            }
            prop_assert_eq!((a.bits(), a.stamp()), (b.bits(), b.stamp()));
        }
    }
}
