//! A state and when it was set.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use tandem_cluster::Stamp;

/// Never changed by anybody.
pub const NEVER: Stamp = Stamp { time_us: 0, node: 0 };

/// What a state counts for among others: first by the last wish (of an operator or a script) that was
/// known when it was set, then by time. So what a probe finds does not undo a wish that it did
/// not know of, on whatever node and whenever it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    pub wish: Stamp,
    pub at: Stamp,
}

impl Order {
    /// Before every change.
    pub const FIRST: Self = Self { wish: NEVER, at: NEVER };
}

/// The state of a target. 0 means that it can be used; what the bits mean is its owner's. It
/// outlives the tables, which share it.
#[derive(Debug)]
pub struct Status {
    bits: AtomicU32,
    order: Mutex<Order>,
}

impl Status {
    /// A state as a table has it; every change is later than it.
    pub fn new(bits: u32) -> Self {
        Self { bits: AtomicU32::new(bits), order: Mutex::new(Order::FIRST) }
    }

    pub fn bits(&self) -> u32 {
        self.bits.load(Ordering::Relaxed)
    }

    pub fn is_up(&self) -> bool {
        self.bits() == 0
    }

    /// When it was set.
    pub fn stamp(&self) -> Stamp {
        self.order().at
    }

    pub fn order(&self) -> Order {
        *self.order.lock()
    }

    /// Takes a state that is later than the present one, or as old and more restrictive, so that
    /// all nodes come to the same. Tells whether the state is another one now; `None`: it was not
    /// taken.
    pub(crate) fn set(&self, bits: u32, order: Order) -> Option<bool> {
        let mut present = self.order.lock();
        if (order, bits) < (*present, self.bits()) {
            return None;
        }
        *present = order;
        Some(self.bits.swap(bits, Ordering::Relaxed) != bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_of_changes_does_not_matter(
            changes in proptest::collection::vec((0u32..3, 0u64..3, 1u64..5, 1u32..3), 1..8)
        ) {
            let (a, b) = (Status::new(0), Status::new(4));
            let order = |wish, time, node| Order {
                wish: Stamp { time_us: wish, node: 1 },
                at: Stamp { time_us: time, node },
            };
            for (bits, wish, time, node) in &changes {
                a.set(bits * 4, order(*wish, *time, *node));
            }
            for (bits, wish, time, node) in changes.iter().rev() {
                b.set(bits * 4, order(*wish, *time, *node));
            }
            prop_assert_eq!((a.bits(), a.order()), (b.bits(), b.order()));
        }
    }
}
