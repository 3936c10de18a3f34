//! Gateways and destinations: all nodes come to agree on their states, whatever happens.

use sim::actors::gateway::Way;
use sim::checkers::{duty, states};
use sim::faults::Fault;
use sim::options::Options;
use sim::plan::{Action, Plan, REST_S};
use sim::scenario::{Outcome, PlanKind, Scenario};
use tandem_clock::MS;

fn findings(outcome: &Outcome) -> String {
    outcome.violations.iter().map(|v| format!("{v}\n")).collect()
}

/// Steps at milliseconds, then rest and the last look.
fn plan(steps: &[(u64, Action)]) -> Plan {
    let last = steps.iter().map(|(ms, _)| *ms).max().unwrap_or(0) + 20_000;
    let ends = [(last, Action::Rest), (last + REST_S * 1_000, Action::End)];
    steps.iter().cloned().chain(ends).map(|(ms, action)| (ms * MS, action)).collect()
}

fn calm(steps: &[(u64, Action)]) -> Scenario {
    let options = Options::calm().with_routing();
    Scenario { plan: PlanKind::Given(plan(steps)), ..Scenario::new(1, options) }
}

fn notices(scenario: Scenario, fault: Fault) {
    let outcome = scenario.with_fault(fault).run(false);
    let found = outcome.violations.iter().any(|v| v.checker == states::NAME);
    assert!(found, "nobody noticed {fault:?}");
}

const DOWN: Action = Action::Switch { node: 1, target: 0, up: false };

#[test]
fn states_are_the_truth_and_what_the_operator_wanted() {
    let silent = Action::Gateway { gateway: 1, way: Way::IsSilent };
    let steps = [(10_000, DOWN), (12_000, silent), (20_000, Action::Crash(1))];
    let outcome = calm(&steps).run(false);
    assert!(outcome.violations.is_empty(), "{}", findings(&outcome));
    assert_eq!(outcome.counts.commands, 1);
}

#[test]
fn two_nodes_agree_whatever_happens() {
    for seed in 1..=20 {
        let options = Options::hostile().with_routing();
        let outcome = Scenario::new(seed, options).run(false);
        assert!(outcome.violations.is_empty(), "seed {seed}: {}", findings(&outcome));
    }
}

#[test]
fn three_nodes_of_two_workers_agree_too() {
    for seed in 1..=8 {
        let options = Options { nodes: 3, workers: 2, ..Options::hostile().with_routing() };
        let outcome = Scenario::new(seed, options).run(false);
        assert!(outcome.violations.is_empty(), "seed {seed}: {}", findings(&outcome));
    }
}

#[test]
fn a_stock_node_comes_to_the_same_states() {
    for (nodes, seeds) in [(2, 14), (3, 10)] {
        for seed in 1..=seeds {
            let options = Options { nodes, stock: 1, ..Options::hostile().with_routing() };
            let outcome = Scenario::new(seed, options).run(false);
            assert!(outcome.violations.is_empty(), "{nodes} nodes, {seed}: {}", findings(&outcome));
        }
    }
}

#[test]
fn a_node_whose_states_never_arrive_is_noticed() {
    let silent = Action::Gateway { gateway: 1, way: Way::IsSilent };
    notices(calm(&[(10_000, DOWN), (12_000, silent)]), Fault::DropTargets { node: 1 });
}

#[test]
fn a_node_that_says_something_else_of_a_gateway_is_noticed() {
    notices(calm(&[]), Fault::AlterGateway { node: 2 });
}

#[test]
fn a_change_that_all_nodes_have_forgotten_is_noticed() {
    notices(calm(&[(10_000, DOWN)]), Fault::ForgetSwitch);
}

#[test]
fn a_probe_without_duty_is_noticed() {
    let outcome = calm(&[(60_000, DOWN)]).with_fault(Fault::PingFrom { node: 2 }).run(false);
    assert!(outcome.violations.iter().any(|v| v.checker == duty::NAME));
}
