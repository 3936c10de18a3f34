//! Transactions that are looked at again after T1, the first repetition of what they sent.
//!
//! Nearly all of them are over by then but for what may be repeated to them, and have to be looked
//! at much later or not at all. They take themselves out of the line as soon as that is so: a wheel
//! would come back to each of them, and find its memory cold.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tandem_clock::Mono;

/// Transactions in the line, at most; others get an entry of the wheel.
const LINE_MAX: usize = 1 << 20;

/// The line; one timer of a wheel serves all of it.
#[derive(Debug, Default)]
pub(crate) struct Soon(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    /// Number of the first place.
    first: u32,
    /// In the order in which they are due, with tokens of transactions; 0: it has left.
    places: VecDeque<(Mono, u64)>,
    /// A timer will come back.
    is_awaited: bool,
}

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) number: u32,
    /// When its turn is: that of the place before it, if workers disagree about the time.
    pub(crate) at: Mono,
    /// Nobody comes back for the line yet: a timer has to.
    pub(crate) is_first: bool,
}

impl Soon {
    /// Puts a transaction behind the others.
    pub(crate) fn join(&self, at: Mono, token: u64) -> Option<Place> {
        let line = &mut *self.0.lock();
        if line.places.len() >= LINE_MAX {
            return None;
        }
        let at = line.places.back().map_or(at, |(last, _)| at.max(*last));
        let number = line.first.wrapping_add(line.places.len() as u32);
        line.places.push_back((at, token));
        let is_first = !std::mem::replace(&mut line.is_awaited, true);
        Some(Place { number, at, is_first })
    }

    /// A transaction of the line needs no look any more.
    pub(crate) fn leave(&self, number: u32) {
        let line = &mut *self.0.lock();
        if let Some(place) = line.places.get_mut(number.wrapping_sub(line.first) as usize) {
            place.1 = 0;
        }
        line.drop_left(|_| false);
    }

    /// Takes those whose turn it is; gives when a timer has to come back.
    pub(crate) fn take_due(&self, now: Mono) -> (Vec<u64>, Option<Mono>) {
        let line = &mut *self.0.lock();
        let mut due = Vec::new();
        line.drop_left(|(at, token)| {
            let is_due = at <= now;
            due.extend(is_due.then_some(token));
            is_due
        });
        let next = line.places.front().map(|(at, _)| *at);
        line.is_awaited = next.is_some();
        (due, next)
    }
}

impl Line {
    /// Lets those at the front go that have left, or that `is_taken`.
    fn drop_left(&mut self, mut is_taken: impl FnMut((Mono, u64)) -> bool) {
        while let Some(place) = self.places.front().copied() {
            if place.1 != 0 && !is_taken(place) {
                return;
            }
            self.places.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_left_is_not_looked_at_and_one_timer_serves_all() {
        let soon = Soon::default();
        let places = [10, 20, 30, 40].map(|at| soon.join(at, at).unwrap());
        assert_eq!(places.map(|place| place.is_first), [true, false, false, false]);
        soon.leave(places[0].number);
        soon.leave(places[2].number);
        assert_eq!(soon.take_due(10), (vec![], Some(20)), "the timer of the first one");
        assert_eq!(soon.take_due(30), (vec![20], Some(40)));
        soon.leave(places[2].number);
        soon.leave(places[1].number);
        assert_eq!(soon.take_due(40), (vec![40], None), "places that are gone mean nobody");
        assert!(soon.join(50, 50).unwrap().is_first, "nobody comes back for it");
    }

    #[test]
    fn a_worker_that_is_behind_joins_behind_the_others() {
        let soon = Soon::default();
        soon.join(20, 1);
        let place = soon.join(19, 2).unwrap();
        assert_eq!(place.at, 20);
        assert_eq!(soon.take_due(20), (vec![1, 2], None));
    }

    #[test]
    fn numbers_go_round() {
        let soon = Soon::default();
        soon.0.lock().first = u32::MAX;
        let places = [1, 2, 3].map(|token| soon.join(10, token).unwrap());
        soon.leave(places[0].number);
        soon.leave(places[1].number);
        assert_eq!(soon.take_due(10), (vec![3], None));
    }
}
