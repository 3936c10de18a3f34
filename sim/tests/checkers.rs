//! The simulator watches over itself: the same seed gives the same trace, healthy code gives no
//! finding, and every checker notices the fault that is planted for it.

use sim::checkers::lamps::NAME as LAMPS;
use sim::checkers::{answers, dialogs, duty, equal, holder, lost, watching};
use sim::faults::Fault;
use sim::options::Options;
use sim::scenario::{Outcome, Scenario};

fn findings(outcome: &Outcome) -> String {
    outcome.violations.iter().map(|v| format!("{v}\n")).collect()
}

/// Whether a fault is noticed by its checker in one of a few seeds.
fn notices(fault: Fault, checker: &str) {
    let seeds = 1..=5;
    let found = seeds.clone().any(|seed| {
        let outcome = Scenario::story(seed).with_fault(fault).run(false);
        outcome.violations.iter().any(|v| v.to_string().contains(checker))
    });
    assert!(found, "{checker} did not notice {fault:?} in seeds {seeds:?}");
}

/// The same among calls that nobody hangs up.
fn notices_in_calls(fault: Fault) {
    let options = Options { endless: 1.0, ..Options::calm() };
    let found = (1..=3).any(|seed| {
        let outcome = Scenario::new(seed, options.clone()).with_fault(fault).run(false);
        outcome.violations.iter().any(|v| v.to_string().contains(dialogs::NAME))
    });
    assert!(found, "{fault:?} was not noticed");
}

#[test]
fn calls_that_nobody_hangs_up_are_the_same_everywhere() {
    for seed in 1..=3 {
        let options = Options { endless: 1.0, ..Options::calm() };
        let outcome = Scenario::new(seed, options).run(false);
        assert!(outcome.violations.is_empty(), "seed {seed}: {}", findings(&outcome));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 7] {
        let run = || Scenario::new(seed, Options::hostile()).run(false).hash;
        assert_eq!(run(), run(), "seed {seed}");
    }
    let other = Scenario::new(2, Options::hostile()).run(false).hash;
    assert_ne!(Scenario::new(1, Options::hostile()).run(false).hash, other);
}

#[test]
fn the_story_of_a_failover_has_no_finding() {
    for seed in 1..=5 {
        let outcome = Scenario::story(seed).run(false);
        assert!(outcome.violations.is_empty(), "seed {seed}: {}", findings(&outcome));
    }
}

#[test]
fn two_nodes_keep_their_promises_whatever_happens() {
    for seed in 1..=40 {
        let outcome = Scenario::new(seed, Options::hostile()).run(false);
        assert!(outcome.violations.is_empty(), "seed {seed}: {}", findings(&outcome));
    }
}

#[test]
fn three_nodes_of_three_workers_keep_their_promises_too() {
    for seed in 1..=12 {
        let options = Options { nodes: 3, workers: 3, ..Options::hostile() };
        let outcome = Scenario::new(seed, options).run(false);
        assert!(outcome.violations.is_empty(), "seed {seed}: {}", findings(&outcome));
    }
}

#[test]
fn a_node_among_stock_nodes_keeps_its_promises_too() {
    for (nodes, stock, seeds) in [(2, 1, 20), (3, 1, 20), (3, 2, 6)] {
        for seed in 1..=seeds {
            let options = Options { nodes, stock, ..Options::hostile() };
            let outcome = Scenario::new(seed, options).run(false);
            let who = format!("{nodes} nodes, {stock} of them stock, seed {seed}");
            assert!(outcome.violations.is_empty(), "{who}: {}", findings(&outcome));
        }
    }
}

#[test]
fn a_node_whose_registrations_never_arrive_is_noticed() {
    notices(Fault::DropRecords { node: 1 }, equal::NAME);
}

#[test]
fn a_node_that_says_something_else_is_noticed() {
    notices(Fault::AlterDump { node: 2 }, equal::NAME);
}

#[test]
fn a_registration_that_no_node_has_is_noticed() {
    notices(Fault::ForgeReply { phone: 1 }, lost::NAME);
}

#[test]
fn a_node_whose_calls_never_arrive_is_noticed() {
    notices_in_calls(Fault::DropCalls { node: 1 });
}

#[test]
fn a_node_that_says_something_else_of_its_calls_is_noticed() {
    notices_in_calls(Fault::AlterCalls { node: 2 });
}

#[test]
fn a_call_that_is_left_over_is_noticed() {
    notices(Fault::Linger { node: 1 }, dialogs::NAME);
}

#[test]
fn a_profile_that_counts_wrong_is_noticed() {
    notices(Fault::Miscount { node: 2 }, dialogs::NAME);
}

#[test]
fn two_answers_to_one_request_are_noticed() {
    notices(Fault::Contradict { node: 1 }, answers::NAME);
}

#[test]
fn two_holders_are_noticed() {
    notices(Fault::HideClaims, holder::NAME);
}

#[test]
fn a_ping_without_duty_is_noticed() {
    // Nothing happens to the nodes, so node 2 is the backup all the time.
    let scenario = Scenario::new(1, Options::calm()).with_fault(Fault::PingFrom { node: 2 });
    let found = scenario.run(false).violations;
    assert!(found.iter().any(|v| v.to_string().contains(duty::NAME)));
}

#[test]
fn watchers_hold_the_current_state_also_when_the_active_dies() {
    let calm = Options { publish_per_s: 0.1, call_per_s: 0.0, ..Options::calm() };
    let failing = Options { crash_per_s: 0.04, operator_per_s: 0.02, ..calm.clone() };
    let lossy = Options { udp_loss: 0.05, udp_duplicate: 0.05, ..calm.clone() };
    let parted = Options { partition_per_s: 0.04, partition_one_way: 0.3, ..failing.clone() };
    let all = [("calm", calm), ("lossy", lossy), ("failing", failing), ("parted", parted)];
    for (name, options) in all {
        for seed in 1..=3 {
            let outcome = Scenario::new(seed, options.clone()).run(false);
            assert!(outcome.violations.is_empty(), "{name} {seed}: {}", findings(&outcome));
        }
    }
}

#[test]
fn a_state_that_only_one_node_knows_is_noticed() {
    let options = Options { publish_per_s: 0.1, call_per_s: 0.0, ..Options::calm() };
    let found = (1..=3).any(|seed| {
        let scenario = Scenario::new(seed, options.clone());
        let outcome = scenario.with_fault(Fault::DropStates { node: 2 }).run(false);
        outcome.violations.iter().any(|v| v.checker == watching::NAME)
    });
    assert!(found, "nobody misses the states of node 2");
}

fn lamps() -> Options {
    Options { lamps: true, call_per_s: 0.05, endless: 0.3, ..Options::calm() }
}

#[test]
fn lamps_are_on_where_calls_are_up_also_when_the_active_dies() {
    let calm = lamps();
    let failing = Options { crash_per_s: 0.04, operator_per_s: 0.02, ..calm.clone() };
    let lossy = Options { udp_loss: 0.05, udp_duplicate: 0.05, ..calm.clone() };
    let parted = Options { partition_per_s: 0.04, partition_one_way: 0.3, ..calm.clone() };
    let all = [("calm", calm), ("lossy", lossy), ("parted", parted), ("failing", failing)];
    for (name, options) in all {
        for seed in 1..=2 {
            let outcome = Scenario::new(seed, options.clone()).run(false);
            assert!(outcome.violations.is_empty(), "{name} {seed}: {}", findings(&outcome));
        }
    }
}

#[test]
fn a_lamp_that_stays_on_is_noticed() {
    let found = (1..=3).any(|seed| {
        let scenario = Scenario::new(seed, Options { endless: 0.0, ..lamps() });
        let outcome = scenario.with_fault(Fault::LeaveOn { node: 1 }).run(false);
        outcome.violations.iter().any(|v| v.checker == LAMPS)
    });
    assert!(found, "nobody sees the lamps that node 1 leaves on");
}
