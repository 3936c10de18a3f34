//! A hierarchical timing wheel.
//!
//! Insertion is O(1) and firing is O(1) amortised, whatever the number of entries. There is no
//! cancel: who set a timer checks, when it fires, whether it still means something. That keeps
//! an entry free of back references and lets one worker's timer outlive a change made by
//! another worker.

use crate::{MS, Mono};

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 7;
/// Entries of a slot whose memory is kept for the next ones.
const KEPT_MAX: usize = 64;
/// Deadlines further away than this (139 years) are treated as this far away.
const SPAN_TICKS: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;

/// Entries of type `T`, due at a [`Mono`] instant, with a resolution of one millisecond.
#[derive(Debug)]
pub struct Wheel<T> {
    /// The tick up to which everything has fired.
    tick: u64,
    levels: Vec<Level<T>>,
    len: usize,
}

#[derive(Debug)]
struct Level<T> {
    /// A bit for each slot that is not empty.
    used: u64,
    slots: Vec<Vec<(u64, T)>>,
}

impl<T> Wheel<T> {
    pub fn new(now: Mono) -> Self {
        let level = || Level { used: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect() };
        Self { tick: now / MS, levels: (0..LEVELS).map(|_| level()).collect(), len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Arms an entry. It fires in the first [`Wheel::pop_due`] at or after `deadline` (rounded
    /// up to a millisecond), never before.
    pub fn insert(&mut self, deadline: Mono, item: T) {
        self.len += 1;
        let due = deadline.div_ceil(MS).clamp(self.tick + 1, self.tick + SPAN_TICKS);
        self.place(due, item);
    }

    /// Moves everything that is due at `now` to `fired`, in order of deadline; entries of the
    /// same millisecond in order of insertion.
    pub fn pop_due(&mut self, now: Mono, fired: &mut Vec<T>) {
        let until = now / MS;
        while let Some(next) = self.next_tick().filter(|&next| next <= until) {
            self.tick = next;
            self.cascade();
            self.fire(fired);
        }
        self.tick = self.tick.max(until);
    }

    /// The earliest instant at which [`Wheel::pop_due`] has something to do. It may move entries
    /// between levels only and fire nothing.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.next_tick().map(|tick| tick.saturating_mul(MS))
    }

    fn place(&mut self, due: u64, item: T) {
        let distance = due ^ self.tick;
        let level =
            if distance == 0 { 0 } else { ((63 - distance.leading_zeros()) / SLOT_BITS) as usize };
        let level = level.min(LEVELS - 1);
        let slot = slot_of(due, level);
        let Some(target) = self.levels.get_mut(level) else { return };
        target.used |= 1 << slot;
        if let Some(entries) = target.slots.get_mut(slot) {
            entries.push((due, item));
        }
    }

    /// The next tick at which a slot of some level is entered that holds entries.
    fn next_tick(&self) -> Option<u64> {
        self.levels.iter().enumerate().filter_map(|(level, l)| self.next_in_level(level, l)).min()
    }

    fn next_in_level(&self, level: usize, l: &Level<T>) -> Option<u64> {
        if l.used == 0 {
            return None;
        }
        let shift = SLOT_BITS * level as u32;
        let position = self.tick >> shift;
        let current = (position as usize) % SLOTS;
        // Slots after the current one in this turn, then those of the next turn (top level only).
        let ahead = l.used.rotate_right(current as u32 + 1);
        let steps = u64::from(ahead.trailing_zeros()) + 1;
        Some((position + steps) << shift)
    }

    /// Moves the entries of every slot that the current tick has just entered one level down.
    fn cascade(&mut self) {
        for level in (1..LEVELS).rev() {
            let low = (1u64 << (SLOT_BITS * level as u32)) - 1;
            if self.tick & low != 0 {
                continue;
            }
            let slot = slot_of(self.tick, level);
            for (due, item) in self.take(level, slot) {
                self.place(due.max(self.tick), item);
            }
        }
    }

    fn fire(&mut self, fired: &mut Vec<T>) {
        let slot = slot_of(self.tick, 0);
        let mut entries = self.take(0, slot);
        self.len -= entries.len();
        fired.extend(entries.drain(..).map(|(_, item)| item));
        // The slot is used again within a turn of the level. Large ones are rare, and let go.
        if entries.capacity() <= KEPT_MAX
            && let Some(place) = self.levels.get_mut(0).and_then(|l| l.slots.get_mut(slot))
        {
            *place = entries;
        }
    }

    fn take(&mut self, level: usize, slot: usize) -> Vec<(u64, T)> {
        let Some(l) = self.levels.get_mut(level) else { return Vec::new() };
        l.used &= !(1 << slot);
        l.slots.get_mut(slot).map(std::mem::take).unwrap_or_default()
    }
}

fn slot_of(tick: u64, level: usize) -> usize {
    (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn nothing_fires_before_its_deadline() {
        let mut wheel = Wheel::new(0);
        wheel.insert(500 * MS + 1, "late");
        let mut fired = Vec::new();
        wheel.pop_due(500 * MS, &mut fired);
        assert!(fired.is_empty());
        wheel.pop_due(501 * MS, &mut fired);
        assert_eq!(fired, ["late"]);
        assert!(wheel.is_empty());
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(
            ops in prop::collection::vec((0u64..5_000_000, 0u64..200_000), 1..120),
        ) {
            let mut wheel = Wheel::new(0);
            let mut model: BTreeMap<(u64, usize), usize> = BTreeMap::new();
            let mut now = 0u64;
            for (n, (delay, advance)) in ops.into_iter().enumerate() {
                wheel.insert(now + delay * MS, n);
                let due_at = (now / MS + delay).max(now / MS + 1);
                model.insert((due_at, n), n);
                now += advance * MS;
                let mut fired = Vec::new();
                wheel.pop_due(now, &mut fired);
                let later = model.split_off(&(now / MS + 1, 0));
                let due = std::mem::replace(&mut model, later);
                let expected: Vec<usize> = due.into_values().collect();
                let mut sorted = fired.clone();
                sorted.sort_unstable();
                let mut expected_sorted = expected.clone();
                expected_sorted.sort_unstable();
                prop_assert_eq!(sorted, expected_sorted);
                prop_assert_eq!(wheel.len(), model.len());
                prop_assert_eq!(wheel.next_deadline().is_none(), model.is_empty());
                if let Some(((first, _), _)) = model.first_key_value() {
                    prop_assert!(wheel.next_deadline().unwrap() <= first * MS);
                }
            }
        }
    }
}
