//! How the two ends of a call behave: a slow caller, a second offer, a slow end.

use std::time::Duration;

use super::Plan;

/// What a call does beside being there. Calls of a plan with a `hold` have none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// From the 180 to the 200.
    pub(super) rings: Duration,
    /// From the 200 to the BYE.
    pub(super) hold: Duration,
    /// From the 200 to the ACK.
    pub(super) ack_after: Duration,
    /// In the middle of the call the caller offers the session anew.
    pub(super) asks_again: bool,
    /// How long an end thinks before it answers a request within the call.
    pub(super) thinks: Duration,
}

/// Less than T1: nobody has repeated anything by then.
const SLOW: Duration = Duration::from_millis(450);

const RINGS_MS: [u64; 4] = [0, 200, 2_500, 7_000];
const HOLDS_MS: [u64; 6] = [0, 300, 1_000, 4_000, 10_000, 25_000];

impl Manner {
    pub(super) fn of(plan: &Plan, n: u32) -> Self {
        if let Some(hold) = plan.hold {
            let none = Duration::ZERO;
            return Self { rings: none, hold, ack_after: none, asks_again: false, thinks: none };
        }
        // Neighbours differ, and each manner meets callers and callees that hang up.
        let hold = HOLDS_MS[(n / 2) as usize % HOLDS_MS.len()];
        let slow = |is: bool| if is { SLOW } else { Duration::ZERO };
        Self {
            rings: Duration::from_millis(RINGS_MS[(n / 12) as usize % RINGS_MS.len()]),
            hold: Duration::from_millis(hold),
            ack_after: slow(n % 5 == 1),
            asks_again: n % 5 == 3 && hold >= 1_000,
            thinks: slow(matches!(n % 5, 3 | 4)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ring_and_hold_meet_every_manner_and_both_ends() {
        let plan = Plan {
            name: "b".into(),
            at: ([10, 0, 0, 1], 5070).into(),
            service: ([10, 0, 0, 2], 5060).into(),
            calls: 1,
            per_second: 1,
            hold: None,
            until: None,
        };
        let all = RINGS_MS.into_iter().flat_map(|rings| HOLDS_MS.map(|hold| (rings, hold)));
        for (rings, hold) in all {
            for (rest, end) in (0..5).flat_map(|rest| [(rest, 0), (rest, 1)]) {
                let found = (0..240).any(|n| {
                    let manner = Manner::of(&plan, n);
                    let held =
                        [manner.rings, manner.hold] == [rings, hold].map(Duration::from_millis);
                    held && n % 5 == rest && n % 2 == end
                });
                assert!(found, "{rings} and {hold} ms, n % 5 = {rest}, n % 2 = {end}");
            }
        }
    }
}
