//! A sharing tag as a register: who holds it, under which claim. Pure rules; what a verdict
//! means on the wire is the business of `tags`.
//!
//! The holder of the greatest claim never steps down except for a greater claim that its owner
//! holds. So while links are up there is one holder in the end, and never none.

use crate::effects::Reason;
use crate::wire::{ClaimEntry, Standing};
use std::collections::BTreeMap;
use tandem_bin::NodeId;
use tandem_clock::Mono;

/// A claim to a tag, compared in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Claim {
    pub(crate) epoch: u64,
    pub(crate) at_ms: u64,
    pub(crate) node: NodeId,
}

/// How this node stands to the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Backup,
    /// Boot has not settled: peers may still have a better claim.
    Awaiting(Claim),
    Held(Claim),
}

/// Who wins by the service address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Winner {
    Me,
    Peer,
    Nobody,
}

/// What has to be done about a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Nothing,
    /// Forget an awaiting claim; nobody has seen it act.
    Yield,
    StepDown,
    /// Take or keep the tag under a fresh epoch.
    Raise(&'static str),
    /// Repeat the claim we hold.
    Announce,
    /// Look again at this time: the owner of a higher claim is reachable and has not spoken.
    Doubt,
}

#[derive(Clone, Debug)]
struct Meeting {
    until: Mono,
    /// The greatest claim of the peer that we have answered with a fresh epoch.
    answered: Claim,
    /// We have taken a fresh epoch although nothing but the claims decides. Two nodes that do so
    /// again and again, at the same pace, would never come to an end.
    has_raised: bool,
}

impl Meeting {
    fn new(until: Mono) -> Self {
        Self { until, answered: Claim::default(), has_raised: false }
    }
}

/// No cluster gets so far. A peer that claims more is not believed: nobody could rise above it.
pub(crate) const EPOCH_MAX: u64 = 1 << 48;

/// The epoch above one; at the end, the time of the claim decides.
fn next(epoch: u64) -> u64 {
    epoch.saturating_add(1).min(EPOCH_MAX)
}

/// What this node knows of a tag.
#[derive(Clone, Debug)]
pub(crate) struct Register {
    pub(crate) hold: Hold,
    /// The greatest claim heard of, our own included.
    pub(crate) top: Option<Claim>,
    pub(crate) epoch_seen: u64,
    pub(crate) since_unix_ms: u64,
    pub(crate) reason: Reason,
    meetings: BTreeMap<NodeId, Meeting>,
}

impl Default for Register {
    fn default() -> Self {
        Self {
            hold: Hold::Backup,
            top: None,
            epoch_seen: 0,
            since_unix_ms: 0,
            reason: Reason::default(),
            meetings: BTreeMap::new(),
        }
    }
}

impl Register {
    pub(crate) fn held(&self) -> Option<Claim> {
        match self.hold {
            Hold::Held(claim) => Some(claim),
            _ => None,
        }
    }

    pub(crate) fn is_awaiting(&self) -> bool {
        matches!(self.hold, Hold::Awaiting(_))
    }

    /// A claim from the state file. The last holder will resume it.
    pub(crate) fn restore(&mut self, claim: Claim, held: bool, me: NodeId) {
        self.see(claim);
        if held && claim.node == me {
            self.hold = Hold::Awaiting(claim);
        }
    }

    /// `=active` in the file: the least of all claims, and none if a saved one is known.
    pub(crate) fn claim_from_file(&mut self, me: NodeId) {
        if self.top.is_none() {
            let claim = Claim { epoch: 0, at_ms: 0, node: me };
            self.hold = Hold::Awaiting(claim);
        }
    }

    /// Boot is over: an awaiting claim becomes a held one. True if it did.
    pub(crate) fn settle(&mut self, now_ms: u64) -> bool {
        let Hold::Awaiting(mut claim) = self.hold else { return false };
        if claim.epoch == 0 && claim.at_ms == 0 {
            claim.at_ms = now_ms;
        }
        if self.top.is_some_and(|top| top > claim) {
            claim = Claim { epoch: next(self.epoch_seen), at_ms: now_ms, ..claim };
        }
        self.hold(claim, now_ms);
        true
    }

    /// A fresh claim above every epoch seen.
    pub(crate) fn raise(&mut self, now_ms: u64, me: NodeId) -> Claim {
        let epoch = next(self.epoch_seen);
        let claim = Claim { epoch, at_ms: now_ms, node: me };
        self.hold(claim, now_ms);
        claim
    }

    pub(crate) fn step_down(&mut self, now_ms: u64) {
        self.hold = Hold::Backup;
        self.since_unix_ms = now_ms;
    }

    /// A stock node says that it has taken the tag.
    pub(crate) fn stock_activation(&mut self, node: NodeId, now_ms: u64) {
        let epoch = next(self.epoch_seen);
        self.see(Claim { epoch, at_ms: now_ms, node });
    }

    /// A Tandem peer speaks about the tag.
    pub(crate) fn hear(
        &mut self,
        now: Mono,
        from: NodeId,
        entry: &ClaimEntry,
        winner: Winner,
        me: NodeId,
        owner_reachable: bool,
    ) -> Verdict {
        let claim = Claim { epoch: entry.epoch, at_ms: entry.at_ms, node: entry.node };
        let own = claim.node == from;
        if !(own && entry.standing == Standing::Awaiting) {
            self.see(claim);
        }
        match (self.hold, entry.standing) {
            (Hold::Held(mine), Standing::Held) if own => self.meet(now, from, mine, claim, winner),
            (Hold::Held(mine), Standing::HeardOf) if claim > mine => {
                if claim.node == me || !owner_reachable {
                    Verdict::Raise("a higher claim has no living holder")
                } else {
                    Verdict::Doubt
                }
            }
            (Hold::Awaiting(mine), Standing::Held) if own => {
                let loses = mine.epoch == 0 || claim > mine;
                if loses { Verdict::Yield } else { Verdict::Nothing }
            }
            (Hold::Awaiting(mine), _) if claim > mine && claim.node != me => Verdict::Yield,
            _ => Verdict::Nothing,
        }
    }

    /// The greatest claim is not ours although we hold the tag.
    pub(crate) fn is_overtopped(&self) -> Option<Claim> {
        let mine = self.held()?;
        self.top.filter(|&top| top > mine)
    }

    /// Addresses moved while a meeting is fresh: the holder of the service address wins it.
    pub(crate) fn readdress(&self, now: Mono, peer: NodeId, winner: Winner) -> Verdict {
        let fresh = self.meetings.get(&peer).is_some_and(|meeting| now < meeting.until);
        match (self.hold, winner) {
            (Hold::Backup, Winner::Me) if fresh => Verdict::Raise("holds the service address"),
            _ => Verdict::Nothing,
        }
    }

    fn meet(
        &mut self,
        now: Mono,
        from: NodeId,
        mine: Claim,
        theirs: Claim,
        winner: Winner,
    ) -> Verdict {
        let until = now.saturating_add(SETTLE_NS);
        let meeting = self.meetings.entry(from).or_insert(Meeting::new(until));
        if now >= meeting.until {
            *meeting = Meeting::new(until);
        }
        let is_new = theirs > meeting.answered;
        let verdict = match winner {
            Winner::Me => is_new.then_some(Verdict::Raise("holds the service address")),
            // The peer takes a fresh epoch when it hears of ours; stepping down before it holds
            // a greater claim could leave nobody.
            _ if theirs > mine => Some(Verdict::StepDown),
            Winner::Peer => Some(Verdict::Announce),
            Winner::Nobody if meeting.has_raised => is_new.then_some(Verdict::Announce),
            Winner::Nobody => is_new.then_some(Verdict::Raise("met a lower claim")),
        };
        match verdict {
            Some(Verdict::Raise(_)) => {
                meeting.answered = theirs;
                meeting.has_raised |= winner == Winner::Nobody;
            }
            Some(Verdict::Announce) if winner == Winner::Nobody => meeting.answered = theirs,
            // Addresses have their time from here on, however long ago the two first met.
            Some(Verdict::StepDown) => meeting.until = until,
            _ => {}
        }
        verdict.unwrap_or(Verdict::Nothing)
    }

    fn hold(&mut self, claim: Claim, now_ms: u64) {
        if self.held().is_none() {
            self.since_unix_ms = now_ms;
        }
        self.hold = Hold::Held(claim);
        self.see(claim);
    }

    fn see(&mut self, claim: Claim) {
        self.epoch_seen = self.epoch_seen.max(claim.epoch);
        self.top = self.top.max(Some(claim));
    }
}

/// How long after a meeting addresses may still move it: a virtual address needs a moment to
/// follow a heal.
const SETTLE_NS: u64 = 10 * tandem_clock::SEC;

#[cfg(test)]
mod tests {
    use super::*;

    fn held(epoch: u64, at_ms: u64, node: NodeId) -> ClaimEntry {
        ClaimEntry { epoch, at_ms, node, standing: Standing::Held, ..ClaimEntry::default() }
    }

    fn holder(me: NodeId, epoch: u64) -> Register {
        let mut r = Register { epoch_seen: epoch - 1, ..Register::default() };
        r.raise(100, me);
        r
    }

    #[test]
    fn of_two_holders_the_greater_claim_raises_and_the_other_steps_down() {
        let (mut a, mut b) = (holder(1, 5), holder(2, 6));
        assert_eq!(a.hear(0, 2, &held(6, 100, 2), Winner::Nobody, 1, true), Verdict::StepDown);
        let verdict = b.hear(0, 1, &held(5, 100, 1), Winner::Nobody, 2, true);
        assert!(matches!(verdict, Verdict::Raise(_)));
        let again = b.hear(0, 1, &held(5, 100, 1), Winner::Nobody, 2, true);
        assert_eq!(again, Verdict::Nothing);
    }

    #[test]
    fn the_holder_of_the_address_wins_against_a_greater_claim() {
        let (mut a, mut b) = (holder(1, 5), holder(2, 6));
        assert_eq!(
            a.hear(0, 2, &held(6, 100, 2), Winner::Me, 1, true),
            Verdict::Raise("holds the service address")
        );
        assert_eq!(b.hear(0, 1, &held(5, 100, 1), Winner::Peer, 2, true), Verdict::Announce);
        let fresh = a.raise(200, 1);
        assert_eq!(fresh.epoch, 7);
        let entry = held(7, 200, 1);
        assert_eq!(b.hear(0, 1, &entry, Winner::Peer, 2, true), Verdict::StepDown);
    }

    #[test]
    fn a_claim_from_the_file_loses_against_a_live_and_a_saved_one() {
        let mut r = Register::default();
        r.claim_from_file(1);
        assert!(r.is_awaiting());
        assert_eq!(r.hear(0, 2, &held(0, 50, 2), Winner::Me, 1, true), Verdict::Yield);
        let mut r = Register::default();
        r.restore(Claim { epoch: 3, at_ms: 1, node: 2 }, false, 1);
        r.claim_from_file(1);
        assert_eq!(r.hold, Hold::Backup);
    }

    #[test]
    fn a_higher_claim_without_a_living_holder_is_raised_above() {
        let mut r = holder(1, 5);
        let entry = ClaimEntry { standing: Standing::HeardOf, ..held(9, 1, 3) };
        assert!(matches!(r.hear(0, 2, &entry, Winner::Nobody, 1, false), Verdict::Raise(_)));
        assert_eq!(r.raise(7, 1).epoch, 10);
        let entry = ClaimEntry { standing: Standing::HeardOf, ..held(12, 1, 3) };
        assert_eq!(r.hear(0, 2, &entry, Winner::Nobody, 1, true), Verdict::Doubt);
        assert_eq!(r.is_overtopped().map(|c| c.epoch), Some(12));
    }

    #[test]
    fn addresses_that_settle_late_still_decide_for_ten_seconds() {
        let mut r = holder(1, 5);
        assert_eq!(r.hear(0, 2, &held(6, 1, 2), Winner::Nobody, 1, true), Verdict::StepDown);
        r.step_down(5);
        assert!(matches!(r.readdress(SETTLE_NS - 1, 2, Winner::Me), Verdict::Raise(_)));
        assert_eq!(r.readdress(SETTLE_NS, 2, Winner::Me), Verdict::Nothing);
    }

    #[test]
    fn above_the_last_epoch_the_time_decides() {
        let mut r = Register::default();
        r.see(Claim { epoch: EPOCH_MAX, at_ms: 5, node: 2 });
        let claim = r.raise(6, 1);
        assert_eq!((claim.epoch, r.is_overtopped()), (EPOCH_MAX, None));
    }
}
