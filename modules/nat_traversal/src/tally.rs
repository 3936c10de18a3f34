//! How many of something have not ended yet, known without a look at all of them.

use std::collections::BTreeMap;

/// Ends, each of so many.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    ends: BTreeMap<u64, u64>,
    len: u64,
}

impl Tally {
    /// One that ended (or will) at `old_s` ends at `new_s`; 0: it is not counted.
    pub(crate) fn moves(&mut self, old_s: u64, new_s: u64) {
        if old_s == new_s {
            return;
        }
        if let Some(n) = self.ends.get_mut(&old_s) {
            *n -= 1;
            self.len -= 1;
            if *n == 0 {
                self.ends.remove(&old_s);
            }
        }
        if new_s != 0 {
            *self.ends.entry(new_s).or_default() += 1;
            self.len += 1;
        }
    }

    /// Those that end after `now_s`. The others are not counted again.
    pub(crate) fn len(&mut self, now_s: u64) -> u64 {
        while let Some(entry) = self.ends.first_entry().filter(|entry| *entry.key() <= now_s) {
            self.len -= entry.remove();
        }
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_not_counted() {
        let mut tally = Tally::default();
        for end_s in [10, 10, 20, u64::MAX] {
            tally.moves(0, end_s);
        }
        assert_eq!(tally.len(9), 4);
        tally.moves(10, 30);
        assert_eq!(tally.len(10), 3);
        tally.moves(10, 0);
        assert_eq!(tally.len(20), 2, "what had ended goes");
        tally.moves(30, 0);
        tally.moves(u64::MAX, 0);
        assert_eq!((tally.len(20), tally.ends.len()), (0, 0));
    }
}
