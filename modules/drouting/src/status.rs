//! The state of a gateway or carrier: what the nodes of a cluster agree on.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use tandem_bin::drouting as wire;
use tandem_cluster::Stamp;

/// Bits of a gateway's state.
pub(crate) const DISABLED: u32 = wire::GATEWAY_DISABLED as u32;
pub(crate) const HELD: u32 = wire::GATEWAY_HELD as u32;
/// Bit of a carrier's state.
pub(crate) const OFF: u32 = wire::CARRIER_OFF as u32;

/// Never changed by anybody.
pub(crate) const NEVER: Stamp = Stamp { time_us: 0, node: 0 };

/// What a state belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Gateway,
    Carrier,
}

impl Kind {
    /// The bits that mean something.
    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Gateway => DISABLED | HELD,
            Self::Carrier => OFF,
        }
    }

    /// What the column `state` says.
    pub(crate) fn of_column(self, state: i64) -> u32 {
        match (self, state) {
            (Self::Gateway, 1) => DISABLED | HELD,
            (Self::Gateway, 2) => DISABLED,
            (Self::Carrier, 1) => OFF,
            _ => 0,
        }
    }

    /// The same for the other direction.
    pub(crate) fn column(self, bits: u32) -> i64 {
        match self {
            Self::Gateway if bits & DISABLED == 0 => 0,
            Self::Gateway if bits & HELD != 0 => 1,
            Self::Gateway => 2,
            Self::Carrier => i64::from(bits & OFF != 0),
        }
    }
}

/// A state and when it was set.
#[derive(Debug)]
pub(crate) struct Status {
    bits: AtomicU32,
    stamp: Mutex<Stamp>,
    /// It is not in the database yet.
    dirty: AtomicBool,
}

impl Status {
    pub(crate) fn new(bits: u32) -> Self {
        let (bits, dirty) = (AtomicU32::new(bits), AtomicBool::new(false));
        Self { bits, stamp: Mutex::new(NEVER), dirty }
    }

    pub(crate) fn bits(&self) -> u32 {
        self.bits.load(Ordering::Relaxed)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.bits() == 0
    }

    pub(crate) fn stamp(&self) -> Stamp {
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
        let changed = self.bits.swap(bits, Ordering::Relaxed) != bits;
        if changed {
            self.dirty.store(true, Ordering::Relaxed);
        }
        changed
    }

    /// Whether it is to be written to the database, which counts as done.
    pub(crate) fn take_dirty(&self) -> bool {
        self.dirty.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn set_dirty(&self) {
        self.dirty.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_say_what_bits_say() {
        for (kind, bits, column) in [
            (Kind::Gateway, 0, 0),
            (Kind::Gateway, DISABLED | HELD, 1),
            (Kind::Gateway, DISABLED, 2),
            (Kind::Carrier, OFF, 1),
            (Kind::Carrier, 0, 0),
        ] {
            assert_eq!((kind.column(bits), kind.of_column(column)), (column, bits));
        }
    }

    proptest! {
        #[test]
        fn the_order_of_changes_does_not_matter(
            changes in proptest::collection::vec((0u32..2, 1u64..5, 1u32..3), 1..8)
        ) {
            let (a, b) = (Status::new(0), Status::new(DISABLED));
            let stamp = |time_us, node| Stamp { time_us, node };
            for (bits, time, node) in &changes {
                a.set(bits * DISABLED, stamp(*time, *node));
            }
            for (bits, time, node) in changes.iter().rev() {
                b.set(bits * DISABLED, stamp(*time, *node));
            }
            prop_assert_eq!(a.bits(), b.bits());
        }
    }
}
