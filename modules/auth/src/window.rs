//! Which nonces were used: a bounded window for each issuer.

use parking_lot::Mutex;

/// Nonces of one issuer that are remembered, newest first: 512 KiB of bits, which is more than
/// 100,000 challenges a second for 30 seconds. Older ones cannot be judged.
const NUMBERS: u32 = 1 << 22;
const WORDS: usize = (NUMBERS / 64) as usize;
/// Issuers that are remembered at once; an issuer is one life of one node.
const ISSUERS_MAX: usize = 16;

/// The windows of all issuers whose nonces were used here.
#[derive(Debug, Default)]
pub(crate) struct Windows(Mutex<Vec<Window>>);

#[derive(Debug)]
struct Window {
    issuer: u32,
    /// The highest number seen.
    newest: u32,
    /// When a nonce of it was used last, unix ms.
    used_ms: u64,
    bits: Vec<u64>,
}

impl Windows {
    /// Takes a number of an issuer; `false` if it was taken before, or nobody can tell. A window
    /// that nobody used for `idle_ms` holds no nonce that could be used still.
    pub(crate) fn take(&self, issuer: u32, number: u32, now_ms: u64, idle_ms: u64) -> bool {
        let mut windows = self.0.lock();
        if let Some(window) = windows.iter_mut().find(|w| w.issuer == issuer) {
            window.used_ms = now_ms;
            return window.take(number);
        }
        if windows.len() >= ISSUERS_MAX {
            let idle = windows.iter().position(|w| w.used_ms.saturating_add(idle_ms) < now_ms);
            let Some(idle) = idle else { return false };
            windows.swap_remove(idle);
        }
        let bits = vec![0; WORDS];
        windows.push(Window { issuer, newest: number, used_ms: now_ms, bits });
        windows.last_mut().is_some_and(|window| window.take(number))
    }
}

impl Window {
    fn take(&mut self, number: u32) -> bool {
        // Numbers go round, so the distance says which is newer.
        let ahead = number.wrapping_sub(self.newest);
        if ahead != 0 && ahead < u32::MAX / 2 {
            self.forget(ahead);
            self.newest = number;
        } else if self.newest.wrapping_sub(number) >= NUMBERS {
            return false;
        }
        let Some(word) = self.bits.get_mut(word_of(number)) else { return false };
        let bit = 1 << (number % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Makes room for the `count` numbers behind the newest.
    fn forget(&mut self, count: u32) {
        if count >= NUMBERS {
            return self.bits.fill(0);
        }
        let mut at = self.newest.wrapping_add(1);
        let mut left = count;
        while left > 0 {
            let from = at % 64;
            let here = left.min(64 - from);
            let mask = (u64::MAX >> (64 - here)) << from;
            if let Some(word) = self.bits.get_mut(word_of(at)) {
                *word &= !mask;
            }
            at = at.wrapping_add(here);
            left -= here;
        }
    }
}

const fn word_of(number: u32) -> usize {
    (number % NUMBERS) as usize / 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_number_of_each_issuer_is_taken_once() {
        let windows = Windows::default();
        let take = |issuer, number| windows.take(issuer, number, 0, 1);
        assert!(take(1, 5) && take(1, 4) && take(1, 9) && take(2, 5));
        assert!(!take(1, 5) && !take(1, 4) && !take(1, 9) && !take(2, 5));
    }

    #[test]
    fn what_left_the_window_cannot_be_taken_and_its_place_is_free() {
        let windows = Windows::default();
        let take = |number| windows.take(1, number, 0, 1);
        assert!(take(10));
        assert!(take(10 + NUMBERS), "the same place, a new number");
        assert!(!take(10) && !take(10 + NUMBERS));
        assert!(take(11 + NUMBERS / 2) && !take(11 + NUMBERS / 2));
        assert!(
            take(u32::MAX / 3) && take(u32::MAX / 3 * 2) && take(u32::MAX) && take(3),
            "numbers go round"
        );
        assert!(!take(u32::MAX) && !take(3));
    }

    #[test]
    fn issuers_are_bounded_and_idle_ones_make_room() {
        let windows = Windows::default();
        for issuer in 0..ISSUERS_MAX as u32 {
            assert!(windows.take(issuer, 1, 1_000, 30_000));
        }
        assert!(!windows.take(99, 1, 1_000, 30_000), "no room, so it cannot be judged");
        assert!(windows.take(99, 1, 40_000, 30_000));
    }

    #[test]
    fn a_random_walk_agrees_with_a_set() {
        let mut chance = tandem_clock::Chance::from_number(7);
        let (windows, mut known) = (Windows::default(), HashSet::new());
        let mut base = u32::MAX - 5_000;
        for _ in 0..20_000 {
            base = base.wrapping_add(chance.below(3));
            let number = base.wrapping_add(chance.below(200));
            assert_eq!(windows.take(1, number, 0, 1), known.insert(number), "{number}");
        }
    }
}
