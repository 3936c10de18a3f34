//! How two states of one dialog become one, in whatever order and how often they meet
//! (decisions: "Dialogs that conflict").
//!
//! The later write wins, except where something cannot go back: an end beats an answer, an answer
//! what came before it; the numbers of requests only rise; what was paid stays paid. Lifetime and
//! flags are those of the higher claim to the tag.

use std::cmp::Ordering;

use crate::flags::Flags;
use crate::record::{DEBTS_MAX, Debt, Dialog, EndReason, LEGS_MAX, Leg, State};
use crate::value_stamps::merge_values;

/// What becomes of `ours` when `theirs` is heard of; `None`: nothing.
pub(crate) fn merged(ours: &Dialog, theirs: &Dialog) -> Option<Dialog> {
    let later = theirs.stamp > ours.stamp;
    let (new, old) = if later { (theirs, ours) } else { (ours, theirs) };
    let mut both = new.clone();
    both.state = ours.state.max(theirs.state);
    both.answered_s = ours.answered_s.max(theirs.answered_s);
    (both.ended_s, both.end_reason) = end_of(ours, theirs);
    merge_legs(&mut both, old);
    merge_values(&mut both, new, old);
    both.debt = merge_debts(new.debt.as_ref(), old.debt.as_ref());
    if both.creator == 0 {
        both.creator = old.creator;
    }
    // What is of one node stays as it is here.
    both.module_flags = ours.module_flags;
    match theirs.terms.cmp(&ours.terms) {
        Ordering::Greater => both.take_terms(theirs.terms, theirs.written_terms()),
        Ordering::Less => both.take_terms(ours.terms, ours.written_terms()),
        Ordering::Equal => {}
    }
    let local = Flags(Flags::LOCAL.0 | Flags::UNSTORED.0);
    both.flags = both.flags.without(local).with(Flags(ours.flags.0 & local.0));
    (both != *ours).then_some(both)
}

/// When and why it ended: a reason that is known comes before one that is not, then the first end.
fn end_of(a: &Dialog, b: &Dialog) -> (u32, Option<EndReason>) {
    let order = |d: &&Dialog| {
        let unknown = matches!(d.end_reason, None | Some(EndReason::Peer));
        (unknown, d.ended_s, d.end_reason.map_or(0, |reason| reason as u8))
    };
    let ended = [a, b].into_iter().filter(|d| d.state == State::Deleted);
    ended.min_by_key(order).map_or((0, None), |d| (d.ended_s, d.end_reason))
}

fn merge_legs(both: &mut Dialog, old: &Dialog) {
    raise(&mut both.caller, &old.caller);
    for leg in &old.callees {
        let room = both.callees.len() < LEGS_MAX;
        match both.callees.iter_mut().find(|known| known.tag == leg.tag) {
            Some(known) => raise(known, leg),
            None if room => both.callees.push(leg.clone()),
            None => {}
        }
    }
    if both.answered.is_none()
        && let Some(leg) = old.answered.and_then(|at| old.callees.get(usize::from(at)))
    {
        both.answered = both.callee_at(&leg.tag);
    }
}

fn raise(leg: &mut Leg, other: &Leg) {
    leg.cseq = leg.cseq.max(other.cseq);
    leg.generated_cseq = leg.generated_cseq.max(other.generated_cseq);
}

fn merge_debts(new: Option<&Debt>, old: Option<&Debt>) -> Option<Debt> {
    let (Some(new), Some(old)) = (new, old) else { return new.or(old).cloned() };
    let mut ids = [&new.ids[..], &old.ids].concat();
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(DEBTS_MAX);
    let ends = [new.ended_ms, old.ended_ms].into_iter().filter(|ms| *ms != 0);
    let (ended_ms, paid) = (ends.min().unwrap_or(0), new.paid || old.paid);
    Some(Debt { ids, node: new.node, place: new.place, paid, ended_ms })
}

#[cfg(test)]
mod tests {
    use super::super::fields::{self, tests::any_dialog};
    use super::*;
    use crate::change::{Change, apply};
    use crate::id::DialogId;
    use crate::record::{Stamp, Terms, Val};
    use proptest::prelude::*;

    fn join(a: &Dialog, b: &Dialog) -> Dialog {
        merged(a, b).unwrap_or_else(|| a.clone())
    }

    /// What two nodes compare: lists in an order of their own, and nothing of one node alone.
    fn canonical(mut d: Dialog) -> Dialog {
        d.callees.sort_by(|a, b| a.tag.cmp(&b.tag));
        d.values.sort_by(|a, b| a.0.cmp(&b.0));
        d.answered = None;
        d
    }

    /// Two dialogs of one stamp are one write, so what a write decides is the same in them.
    fn written_apart(mut all: Vec<Dialog>) -> Vec<Dialog> {
        for (n, d) in (1..).zip(&mut all) {
            d.stamp.node = n;
            d.value_stamps.of_node(n);
            d.terms.stamp.node = n;
            // Every state of an answered call has the leg that answered.
            let leg = d.callees.pop().unwrap_or_default();
            d.callees = [Leg { tag: b"t"[..].into(), ..leg }].into_iter().collect();
            d.answered = Some(0);
            d.creator = 1;
            if let Some(debt) = &mut d.debt {
                (debt.node, debt.place) = (1, 1);
            }
            if d.state != State::Deleted {
                (d.ended_s, d.end_reason) = (0, None);
            }
        }
        all
    }

    #[test]
    fn a_patch_that_overtakes_a_record_does_not_hide_it() {
        let stamp = |time_us| Stamp { time_us, node: 1 };
        let mut first = Dialog::empty(DialogId { entry: 1, id: 2 });
        first.call_id = b"c"[..].into();
        (first.state, first.stamp) = (State::Unacked, stamp(10));
        let mut whole = first.clone();
        whole.stamp = stamp(20);
        whole.values.push((b"v"[..].into(), Val::Int(7)));
        let mut acked = whole.clone();
        (acked.state, acked.stamp) = (State::Confirmed, stamp(30));
        let record = fields::encode_patch(&acked, whole.stamp, fields::Part::State);
        let mut there = first;
        apply(&mut there, Change::Patch { record, names: Vec::new().into() }, 0).unwrap();
        assert_eq!((there.state, there.values.len()), (State::Confirmed, 0));
        apply(&mut there, Change::Merge(Box::new(whole)), 0).unwrap();
        assert_eq!((there.state, &there.values), (State::Confirmed, &acked.values));
    }

    #[test]
    fn lifetime_and_flags_are_those_of_the_higher_claim() {
        let written = |epoch, time_us, lifetime_s| {
            let mut d = Dialog::empty(DialogId { entry: 1, id: 2 });
            d.state = State::Confirmed;
            d.stamp = Stamp { time_us, node: 1 };
            d.terms = Terms { epoch, stamp: d.stamp };
            (d.lifetime_s, d.expires_s) = (lifetime_s, lifetime_s + 100);
            d
        };
        let mut high = written(6, 10, 600);
        (high.flags, high.user_flags) = (Flags::BYE_ON_TIMEOUT, 4);
        let mut low = written(5, 20, 30);
        low.flags = Flags::OPTIONS_PING_CALLER.with(Flags::CANCELLED);
        let both = join(&low, &high);
        assert_eq!((both.lifetime_s, both.expires_s, both.user_flags), (600, 700, 4));
        // What happened is no matter of claims.
        assert_eq!(both.flags, Flags::BYE_ON_TIMEOUT.with(Flags::CANCELLED));
        assert_eq!(canonical(join(&high, &low)), canonical(both));
        // Of one claim the later write stands.
        assert_eq!(join(&written(6, 30, 7), &high).lifetime_s, 7);
    }

    proptest! {
        #[test]
        fn the_order_and_the_number_of_meetings_do_not_matter(
            all in prop::collection::vec(any_dialog(), 3)
        ) {
            let all = written_apart(all);
            let (a, b, c) = (&all[0], &all[1], &all[2]);
            prop_assert_eq!(merged(a, a), None);
            prop_assert_eq!(canonical(join(a, b)), canonical(join(b, a)));
            let left = canonical(join(&join(a, b), c));
            prop_assert_eq!(&left, &canonical(join(a, &join(b, c))));
            prop_assert_eq!(&left, &canonical(join(&join(c, a), b)));
        }
    }
}
