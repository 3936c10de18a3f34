//! Many runs, and what to say about them.

use std::fmt::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::checkers::Violation;
use crate::options::Options;
use crate::scenario::{Counts, Outcome, Scenario};

/// What came of many runs.
#[derive(Debug, Default)]
pub struct Summary {
    pub runs: u64,
    pub counts: Counts,
    pub events: u64,
    /// The scenarios that broke a promise, with their findings.
    pub failures: Vec<(u64, Vec<Violation>)>,
}

/// Runs a scenario; a panic of a node is a finding like any other.
pub fn run(scenario: &Scenario, keep_lines: bool) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| scenario.run(keep_lines))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            let text = format!("panic: {}", text.unwrap_or_default());
            Outcome {
                hash: 0,
                events: 0,
                counts: Counts::default(),
                lines: Vec::new(),
                violations: vec![Violation { at: 0, checker: "world", text }],
            }
        }
    }
}

/// Runs all seeds; `progress` hears of each that failed.
pub fn run_many(
    seeds: Range<u64>,
    options: &Options,
    mut progress: impl FnMut(u64, &[Violation]),
) -> Summary {
    let mut summary = Summary::default();
    for seed in seeds {
        let outcome = run(&Scenario::new(seed, options.clone()), false);
        summary.runs += 1;
        summary.events += outcome.events;
        summary.counts.add(&outcome.counts);
        if !outcome.violations.is_empty() {
            progress(seed, &outcome.violations);
            summary.failures.push((seed, outcome.violations));
        }
    }
    summary
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.registrations += other.registrations;
        self.calls += other.calls;
        self.failures += other.failures;
        self.crashes += other.crashes;
        self.cuts += other.cuts;
        self.commands += other.commands;
        self.pings += other.pings;
        self.gated += other.gated;
        self.ungated += other.ungated;
    }

    /// Name and number, one a line.
    pub fn table(&self) -> String {
        let rows = [
            ("registrations", self.registrations),
            ("  replies a peer had acknowledged", self.gated),
            ("  replies without a peer", self.ungated),
            ("calls", self.calls),
            ("requests that failed", self.failures),
            ("crashes", self.crashes),
            ("cuts", self.cuts),
            ("commands", self.commands),
            ("pings", self.pings),
        ];
        rows.iter().fold(String::new(), |mut text, (name, n)| {
            let _ = writeln!(text, "{name:<34}{n:>9}");
            text
        })
    }
}
