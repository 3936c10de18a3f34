//! Which node has a call that rings, as far as it has changed its node.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tandem_clock::Mono;

use super::PATIENCE_NS;
use crate::id::DialogId;

/// Calls that have been taken over or given up, at most.
const TURNS_MAX: usize = 20_000;

/// How often calls of this node have changed theirs. What is told late of one, from before this
/// node had it, must not bring it back.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    turns: HashMap<u64, u8>,
    /// In the order in which they were first noted.
    order: VecDeque<(Mono, u64)>,
}

impl Turns {
    /// 0: this node did not take it from another one, as far as it knows.
    pub(crate) fn of(&self, id: DialogId) -> u8 {
        self.0.lock().turns.get(&id.number()).copied().unwrap_or(0)
    }

    pub(crate) fn note(&self, now: Mono, id: DialogId, turn: u8) {
        let Noted { turns, order } = &mut *self.0.lock();
        while let Some(&(at, first)) = order.front() {
            if order.len() < TURNS_MAX && now.saturating_sub(at) < PATIENCE_NS {
                break;
            }
            order.pop_front();
            turns.remove(&first);
        }
        if turns.insert(id.number(), turn).is_none() {
            order.push_back((now, id.number()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_known_for_as_long_as_drafts_and_in_bounds() {
        let turns = Turns::default();
        let id = DialogId::from_number;
        turns.note(1, id(7), 1);
        turns.note(2, id(7), 3);
        assert_eq!((turns.of(id(7)), turns.of(id(8))), (3, 0));
        turns.note(PATIENCE_NS + 1, id(8), 1);
        assert_eq!((turns.of(id(7)), turns.of(id(8))), (0, 1));
        for n in 0..2 * TURNS_MAX as u64 {
            turns.note(PATIENCE_NS + 2, id(n), 1);
        }
        let known = turns.0.lock();
        assert_eq!((known.turns.len(), known.order.len()), (TURNS_MAX, TURNS_MAX));
    }
}
