//! A run that can be repeated: seed, options, plan, and what came of it.

use tandem_clock::Chance;

use crate::checkers::Violation;
use crate::faults::Fault;
use crate::options::Options;
use crate::plan::{self, Plan};
use crate::world::{Blueprint, World};

/// What is done to the nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum PlanKind {
    /// The story of a failover; phones do only what the story says.
    Story,
    /// Drawn from the seed and the options.
    Random,
    /// As given.
    Given(Plan),
}

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub seed: u64,
    pub options: Options,
    pub plan: PlanKind,
    /// For tests of the checkers.
    pub fault: Option<Fault>,
}

/// What happened how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// REGISTER requests that were answered with 200.
    pub registrations: u64,
    /// Calls that were set up and hung up in order.
    pub calls: u64,
    /// Requests of phones that failed or were not answered.
    pub failures: u64,
    pub crashes: u64,
    pub cuts: u64,
    /// Commands of the operator that were answered with success.
    pub commands: u64,
    /// What nodes have sent of their own accord.
    pub pings: u64,
    /// Replies to REGISTER that a peer had acknowledged before, and others.
    pub gated: u64,
    pub ungated: u64,
}

/// The end of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Equal for equal runs.
    pub hash: u64,
    pub events: u64,
    pub counts: Counts,
    /// Empty unless lines were wanted.
    pub lines: Vec<String>,
    pub violations: Vec<Violation>,
}

impl Scenario {
    pub fn new(seed: u64, options: Options) -> Self {
        Self { seed, options, plan: PlanKind::Random, fault: None }
    }

    /// The story of a failover in a network without faults.
    pub fn story(seed: u64) -> Self {
        let options = Options { phones: 2, ..Options::calm() };
        Self { seed, options, plan: PlanKind::Story, fault: None }
    }

    /// The same run with a planted fault.
    #[must_use]
    pub fn with_fault(self, fault: Fault) -> Self {
        Self { fault: Some(fault), ..self }
    }

    /// Runs to the end. The same scenario gives the same outcome.
    pub fn run(&self, keep_lines: bool) -> Outcome {
        let plan = match &self.plan {
            PlanKind::Story => plan::story(),
            // Not the stream of the world: a plan that is given leaves the rest as it was.
            PlanKind::Random => plan::random(&self.options, &mut Chance::from_number(!self.seed)),
            PlanKind::Given(plan) => plan.clone(),
        };
        let blueprint = Blueprint {
            seed: self.seed,
            options: &self.options,
            plan: &plan,
            phones_live: self.plan != PlanKind::Story,
            fault: self.fault,
            keep_lines,
        };
        World::new(&blueprint, tandem::modules()).run()
    }
}
