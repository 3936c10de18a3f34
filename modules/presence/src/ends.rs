//! The subscriptions of a presentity by their ends: what is over is found without a look at the
//! others, and looked through in portions.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use crate::record::SubId;

/// An index of the subscriptions of a presentity.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    all: BTreeSet<(u32, Arc<SubId>)>,
    /// The last one of those that are over that was looked at in this round.
    after: Option<(u32, Arc<SubId>)>,
    /// Somebody else has to end some of those that were looked at in this round.
    are_left: bool,
}

impl Ends {
    /// A subscription has another end; `None`: it is not there.
    pub(crate) fn change(&mut self, id: &Arc<SubId>, old_s: Option<u32>, new_s: Option<u32>) {
        if old_s == new_s {
            return;
        }
        old_s.map(|at| self.all.remove(&(at, Arc::clone(id))));
        new_s.map(|at| self.all.insert((at, Arc::clone(id))));
    }

    /// Unix seconds of the first end.
    pub(crate) fn first_s(&self) -> Option<u32> {
        self.all.first().map(|(at, _)| *at)
    }

    /// The next subscriptions of this round that are over, at most so many, and whether there may
    /// be more.
    pub(crate) fn take_over(&mut self, now_s: u64, max: usize) -> (Vec<Arc<SubId>>, bool) {
        let from = self.after.take().map_or(Unbounded, Excluded);
        let behind = self.all.range((from, Unbounded));
        let over = behind.take_while(|(at, _)| u64::from(*at) <= now_s);
        let over: Vec<_> = over.take(max).cloned().collect();
        let may_be_more = over.len() == max;
        self.after = over.last().filter(|_| may_be_more).cloned();
        (over.into_iter().map(|(_, id)| id).collect(), may_be_more)
    }

    /// One of this round cannot be ended here.
    pub(crate) fn leave(&mut self) {
        self.are_left = true;
    }

    /// Ends the round; whether something was left.
    pub(crate) fn end_round(&mut self) -> bool {
        self.after = None;
        std::mem::take(&mut self.are_left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> Arc<SubId> {
        Arc::new(SubId { call_id: n.to_string().into_bytes().into(), ..SubId::default() })
    }

    #[test]
    fn what_is_over_is_looked_through_in_portions_whoever_has_to_end_it() {
        let mut ends = Ends::default();
        (0..7).for_each(|n| ends.change(&id(n), None, Some(10 + n)));
        ends.change(&id(6), Some(16), Some(99));
        assert_eq!(ends.first_s(), Some(10));
        let mut found = Vec::new();
        loop {
            let (ids, more) = ends.take_over(50, 2);
            found.extend(ids);
            ends.leave();
            if !more {
                break;
            }
        }
        assert_eq!(found, (0..6).map(id).collect::<Vec<_>>());
        assert!(ends.end_round() && !ends.end_round());
        found.iter().zip(10..).for_each(|(id, at)| ends.change(id, Some(at), None));
        assert_eq!(ends.first_s(), Some(99));
    }
}
