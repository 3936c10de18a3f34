//! What clusters of the field get wrong, each as a story of its own.

use sim::options::Options;
use sim::plan::{Action, Plan, REST_S};
use sim::scenario::{Outcome, PlanKind, Scenario};
use tandem_clock::MS;

/// Steps at milliseconds, then rest and the last look.
fn plan(steps: &[(u64, Action)]) -> Plan {
    let last = steps.iter().map(|(ms, _)| *ms).max().unwrap_or(0) + 20_000;
    let ends = [(last, Action::Rest), (last + REST_S * 1_000, Action::End)];
    steps.iter().cloned().chain(ends).map(|(ms, action)| (ms * MS, action)).collect()
}

/// Among Tandem nodes, and with stock nodes.
const CLUSTERS: [(u32, u32); 4] = [(2, 0), (3, 0), (2, 1), (3, 1)];

fn keeps_its_promises(steps: &[(u64, Action)]) {
    for (nodes, stock) in CLUSTERS {
        for seed in 1..=2 {
            let options = Options { nodes, stock, ..Options::calm() };
            let plan = PlanKind::Given(plan(steps));
            let outcome = Scenario { plan, ..Scenario::new(seed, options) }.run(false);
            let found = findings(&outcome);
            assert!(found.is_empty(), "{nodes} nodes, {stock} stock, seed {seed}: {found}");
        }
    }
}

fn findings(outcome: &Outcome) -> String {
    outcome.violations.iter().map(|v| format!("{v}\n")).collect()
}

fn cut(a: u32, b: u32) -> Action {
    Action::Cut { from: a, to: b, one_way: false }
}

#[test]
fn both_activated_during_a_cut_leave_exactly_one_holder_when_it_heals() {
    for heal_ms in [21_500, 40_000, 95_000] {
        keeps_its_promises(&[
            (10_000, Action::Activate(1)),
            (15_000, cut(1, 2)),
            (18_000, Action::Activate(2)),
            (20_000, Action::Activate(1)),
            (heal_ms, Action::Heal { a: 1, b: 2 }),
        ]);
    }
}

#[test]
fn a_restarted_node_does_not_take_the_role_back_because_its_file_says_active() {
    keeps_its_promises(&[
        (12_000, Action::Crash(1)),
        (14_000, Action::Activate(2)),
        (30_000, Action::Start(1)),
    ]);
}

#[test]
fn what_happens_during_a_cut_of_one_direction_is_repaired() {
    for (from, to) in [(1, 2), (2, 1)] {
        keeps_its_promises(&[
            (10_000, Action::Cut { from, to, one_way: true }),
            (30_000, Action::Heal { a: 1, b: 2 }),
        ]);
    }
}

#[test]
fn a_backup_that_was_away_has_everything_again() {
    keeps_its_promises(&[
        (15_000, Action::Crash(2)),
        (25_000, Action::Start(2)),
        (26_000, Action::Crash(2)),
        (50_000, Action::Start(2)),
    ]);
}

/// Nodes, stock nodes, workers, seed.
const HAVE_FOUND: [(u32, u32, usize, u64); 7] = [
    // A PONG to an older PING was taken for the answer to the one behind an announcement.
    (3, 1, 1, 3004),
    // What a stock node had announced before came over a stream, or another node, that was late.
    (2, 1, 1, 6033),
    (3, 1, 1, 6146),
    // A call was repeated to a stock node that had heard of its end from somebody else.
    (3, 1, 1, 5016),
    // A BYE passed two seconds before its nodes met, and the call was billed for these.
    (2, 0, 2, 5230),
    // The values of a dialog in another order were taken for a difference.
    (2, 0, 2, 5197),
    // A killed node's last words came late, and what its next life said was acknowledged by them.
    (3, 1, 3, 8103),
];

#[test]
fn seeds_that_have_found_something_find_nothing_more() {
    for (nodes, stock, workers, seed) in HAVE_FOUND {
        let options = Options { nodes, stock, workers, ..Options::hostile() };
        let found = findings(&Scenario::new(seed, options).run(false));
        assert!(found.is_empty(), "{nodes} nodes, {stock} stock, seed {seed}: {found}");
    }
}
