//! What is done to the nodes, and when.

use tandem_clock::{Chance, MS, Mono, SEC};

use crate::actors::gateway::{GATEWAYS, Way};
use crate::checkers::states::SWITCHED;
use crate::options::{Dice, Options};

/// Something that happens to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `kill -9`: everything in memory is gone.
    Crash(u32),
    /// Starts the node again, if it is down.
    Start(u32),
    /// Nothing passes from the first to the second; both ways unless `one_way`.
    Cut { from: u32, to: u32, one_way: bool },
    /// The two reach each other again.
    Heal { a: u32, b: u32 },
    /// The wall clock of a host jumps.
    Jump { node: u32, by_ms: i64 },
    /// The operator moves the tag to this node; if it is down, to the first that is up.
    Activate(u32),
    /// The database takes no records of calls any more, or takes them again.
    Database { is_there: bool },
    /// A gateway does otherwise from now on.
    Gateway { gateway: u32, way: Way },
    /// The operator takes a target out of service at this node, or puts it in.
    Switch { node: u32, target: usize, up: bool },
    /// A phone registers, if it has not.
    Register(u32),
    /// A phone calls another.
    Call { from: u32, to: u32 },
    /// Phones do nothing new, cuts heal, nodes that are down start.
    Rest,
    /// The checkers look for the last time.
    End,
}

/// How long the world rests at the end, in seconds: links that were given up are tried again
/// after 60 s at the latest, and a comparison of digests may follow.
pub const REST_S: u64 = 85;

/// Steps in the order of their times.
pub type Plan = Vec<(Mono, Action)>;

/// The story of a failover: a registration, a call, a crash of the active, a takeover by
/// command, a cut, a restart, a heal.
pub fn story() -> Plan {
    let steps = [
        (7_000, Action::Register(1)),
        (8_000, Action::Register(2)),
        (9_500, Action::Call { from: 1, to: 2 }),
        (20_000, Action::Crash(1)),
        (21_500, Action::Activate(2)),
        (26_000, Action::Call { from: 2, to: 1 }),
        (40_000, Action::Start(1)),
        (50_000, Action::Cut { from: 1, to: 2, one_way: false }),
        (56_000, Action::Heal { a: 1, b: 2 }),
        (60_000, Action::Rest),
        (60_000 + REST_S * 1_000, Action::End),
    ];
    steps.into_iter().map(|(ms, action)| (ms * MS, action)).collect()
}

/// A plan drawn from the options.
pub fn random(options: &Options, dice: &mut Chance) -> Plan {
    let mut plan = Plan::new();
    let end = options.seconds * SEC;
    for second in 0..options.seconds {
        let at = |dice: &mut Chance| second * SEC + dice.between(0, SEC - 1);
        if dice.happens(options.crash_per_s) {
            crash(options, at(dice), dice, &mut plan);
        }
        if dice.happens(options.partition_per_s) && options.nodes > 1 {
            partition(options, at(dice), dice, &mut plan);
        }
        if dice.happens(options.clock_jump_per_s) {
            let by = dice.between(0, 2 * u64::from(options.clock_jump_ms_max)) as i64;
            let by_ms = by - i64::from(options.clock_jump_ms_max);
            plan.push((at(dice), Action::Jump { node: any_node(options, dice), by_ms }));
        }
        if dice.happens(options.operator_per_s) {
            plan.push((at(dice), Action::Activate(any_node(options, dice))));
        }
        if dice.happens(options.database_away_per_s) {
            let from = at(dice);
            plan.push((from, Action::Database { is_there: false }));
            let until = from + dice.between(SEC / 2, 20 * SEC);
            plan.push((until, Action::Database { is_there: true }));
        }
    }
    // Behind the others, so that it does not shift what they draw.
    if options.routing {
        routing(options, dice, &mut plan);
    }
    plan.sort_by_key(|(at, _)| *at);
    plan.push((end, Action::Rest));
    plan.push((end + REST_S * SEC, Action::End));
    plan
}

fn any_node(options: &Options, dice: &mut Chance) -> u32 {
    1 + dice.below(options.nodes)
}

fn crash(options: &Options, at: Mono, dice: &mut Chance, plan: &mut Plan) {
    let node = any_node(options, dice);
    plan.push((at, Action::Crash(node)));
    let down = dice.between(SEC / 10, 15 * SEC);
    plan.push((at + down, Action::Start(node)));
    if dice.happens(0.6) {
        let other = 1 + node % options.nodes;
        plan.push((at + dice.between(SEC / 20, 3 * SEC), Action::Activate(other)));
    }
}

fn partition(options: &Options, at: Mono, dice: &mut Chance, plan: &mut Plan) {
    let from = any_node(options, dice);
    let to = 1 + (from + dice.below(options.nodes - 1)) % options.nodes;
    let one_way = dice.happens(options.partition_one_way);
    plan.push((at, Action::Cut { from, to, one_way }));
    let heal = at + dice.between(SEC / 5, 15 * SEC);
    plan.push((heal, Action::Heal { a: from, b: to }));
    if dice.happens(0.4) {
        let during = dice.between(at, heal);
        plan.push((during, Action::Activate(any_node(options, dice))));
    }
}

fn routing(options: &Options, dice: &mut Chance, plan: &mut Plan) {
    for second in 0..options.seconds {
        let at = |dice: &mut Chance| second * SEC + dice.between(0, SEC - 1);
        if dice.happens(options.gateway_per_s) {
            let gateway = 1 + dice.below(GATEWAYS);
            let ways = [Way::Answers, Way::Refuses, Way::IsSilent];
            let way = ways.get(dice.pick(ways.len())).copied().unwrap_or_default();
            plan.push((at(dice), Action::Gateway { gateway, way }));
        }
        if dice.happens(options.switch_per_s) {
            let (node, target) = (any_node(options, dice), dice.pick(SWITCHED.len()));
            let up = dice.happens(0.5);
            plan.push((at(dice), Action::Switch { node, target, up }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_plan_is_ordered_ends_at_rest_and_names_existing_nodes() {
        let options = Options { nodes: 3, ..Options::hostile() };
        for seed in 0..200 {
            let plan = random(&options, &mut Chance::from_number(seed));
            let rest = plan.iter().position(|(_, a)| *a == Action::Rest).unwrap();
            assert!(plan[..rest].windows(2).all(|w| w[0].0 <= w[1].0));
            for (_, action) in &plan {
                match action {
                    Action::Crash(n) | Action::Start(n) | Action::Activate(n) => {
                        assert!((1..=3).contains(n));
                    }
                    Action::Cut { from, to, .. } => {
                        assert!((1..=3).contains(from) && (1..=3).contains(to) && from != to);
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn a_calm_plan_only_rests_and_ends() {
        let plan = random(&Options::calm(), &mut Chance::from_number(1));
        let actions: Vec<_> = plan.into_iter().map(|(_, action)| action).collect();
        assert_eq!(actions, [Action::Rest, Action::End]);
    }
}
