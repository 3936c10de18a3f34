//! The order of a list: what a profile thinks of what is remembered.

use std::cmp::Reverse;

use tandem_drouting::{Candidate, Quality, RuleName};
use tandem_engine::context::Ctx;
use tandem_engine::module::Cx;
use tandem_script::value::Value;

use crate::history::Tally;
use crate::params::Algorithm;
use crate::state::Qrouting;
use crate::table::{RuleKey, RuleStats};

/// Raised when a score has fallen below the threshold.
pub(crate) const EVENT: &str = "E_QROUTING_BAD_DST";

pub(crate) fn key(rule: &RuleName<'_>) -> RuleKey {
    RuleKey { partition: rule.partition.into(), id: rule.id }
}

pub(crate) fn now_s(cx: &Cx<'_>) -> u64 {
    cx.now.mono_ns / 1_000_000_000
}

impl Qrouting {
    /// The samples of each statistic.
    pub(crate) fn tallies(&self, stats: &mut RuleStats, now_s: u64, of: &[&str]) -> Vec<Tally> {
        let span = self.params.span;
        (0..self.params.stats.len()).map(|at| stats.total(span, now_s, of, at)).collect()
    }

    /// What is left of the weight of a destination: 1 is perfect.
    fn score(&self, profile: u32, tallies: &[Tally]) -> f64 {
        let profiles = self.profiles();
        let Some(profile) = profiles.get(&profile) else { return 1.0 };
        let stats = self.params.stats.iter().zip(tallies).enumerate();
        stats.map(|(at, (stat, tally))| profile.factor(at, stat, *tally)).product()
    }

    /// The scores of a list; `None`: it is disabled. Tells which have become bad.
    fn scores(
        &self,
        cx: &Cx<'_>,
        rule: &RuleName<'_>,
        list: &[Candidate<'_>],
    ) -> (Vec<Option<f64>>, Vec<String>) {
        let Some(stats) = self.table.find(&key(rule)) else {
            return (vec![Some(1.0); list.len()], Vec::new());
        };
        let (mut stats, mut bad) = (stats.lock(), Vec::new());
        let scores = list.iter().map(|candidate| {
            if stats.disabled.contains(candidate.id) {
                return None;
            }
            let tallies = self.tallies(&mut stats, now_s(cx), &candidate.gateways);
            let score = self.score(rule.profile, &tallies);
            let is_bad = self.params.bad_score.is_some_and(|limit| score < limit);
            if !is_bad {
                stats.bad.remove(candidate.id);
            } else if stats.bad.insert(candidate.id.to_owned()) {
                bad.push(candidate.id.to_owned());
            }
            Some(score)
        });
        (scores.collect(), bad)
    }
}

impl Quality for Qrouting {
    fn order(&self, cx: &mut Cx<'_>, rule: &RuleName<'_>, list: &[Candidate<'_>]) -> Vec<usize> {
        let (scores, bad) = self.scores(cx, rule, list);
        for id in bad {
            let params = vec![
                ("partition", Value::str(rule.partition.as_bytes().to_vec())),
                ("rule_id", Value::Int(i32::try_from(rule.id).unwrap_or(i32::MAX))),
                ("dst_name", Value::str(id.into_bytes())),
            ];
            cx.raise(EVENT, params);
        }
        let scores = scores.iter().zip(list).enumerate();
        let left = scores.filter_map(|(at, (score, c))| Some((at, (*score)?, c.weight)));
        let left: Vec<(usize, f64, u32)> = left.collect();
        match self.params.algorithm {
            Algorithm::BestFirst => best_first(left),
            Algorithm::DynamicWeights => {
                let chance = &mut cx.worker.chance;
                by_weight(left, || (chance.u64() >> 11) as f64 / (1u64 << 53) as f64)
            }
        }
    }

    fn tried(&self, cx: &mut Cx<'_>, ctx: &mut Ctx, to: Option<(&RuleName<'_>, &str)>) {
        self.begin(cx, ctx, to.map(|(rule, gateway)| (key(rule), gateway)));
    }

    fn tried_next(&self, _: &mut Cx<'_>, ctx: &mut Ctx, gateway: &str) {
        self.go_on(ctx, gateway);
    }

    fn reloaded(&self, partition: &str) {
        self.forget_rules(partition);
    }

    fn opinion(&self, cx: &Cx<'_>, rule: &RuleName<'_>, of: &Candidate<'_>) -> String {
        let Some(stats) = self.table.find(&key(rule)) else {
            return "by quality: no calls yet".into();
        };
        let tallies = self.tallies(&mut stats.lock(), now_s(cx), &of.gateways);
        let mut text = format!("by quality: score {:.2}", self.score(rule.profile, &tallies));
        for (stat, tally) in self.params.stats.iter().zip(&tallies) {
            if let Some(mean) = tally.mean() {
                text += &format!(", {} {mean:.2} of {:.0}", stat.name, tally.samples);
            }
        }
        text
    }
}

/// By score, then weight, then place.
fn best_first(mut left: Vec<(usize, f64, u32)>) -> Vec<usize> {
    left.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| Reverse(a.2).cmp(&Reverse(b.2))));
    left.into_iter().map(|(at, ..)| at).collect()
}

/// Each place is drawn with the chance that weight and score give; without weights all have the
/// same. `draw` gives numbers from 0 to below 1.
fn by_weight(mut left: Vec<(usize, f64, u32)>, mut draw: impl FnMut() -> f64) -> Vec<usize> {
    let even = left.iter().all(|(.., weight)| *weight == 0);
    let share = |(_, score, weight): &(usize, f64, u32)| {
        score * if even { 1.0 } else { f64::from(*weight) }
    };
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let sum: f64 = left.iter().map(share).sum();
        if sum <= 0.0 {
            order.extend(left.drain(..).map(|(at, ..)| at));
            return order;
        }
        let mut drawn = draw() * sum;
        let at = left.iter().position(|one| {
            let share = share(one);
            let hit = drawn < share;
            drawn -= share;
            hit
        });
        let last = left.len() - 1;
        order.push(left.remove(at.unwrap_or(last).min(last)).0);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_change_shares_and_places() {
        let list = vec![(0, 0.5, 10), (1, 1.0, 10), (2, 1.0, 20), (3, 0.0, 50)];
        assert_eq!(best_first(list.clone()), [2, 1, 0, 3]);
        let mut chance = tandem_clock::Chance::from_number(5);
        let mut first = [0u32; 4];
        for _ in 0..7_000 {
            let draw = || (chance.u64() >> 11) as f64 / (1u64 << 53) as f64;
            let order = by_weight(list.clone(), draw);
            assert_eq!((order.len(), order[3]), (4, 3), "a score of 0: last");
            first[order[0]] += 1;
        }
        assert!((900..1_100).contains(&first[0]), "5 of 35: {first:?}");
        assert!((3_850..4_150).contains(&first[2]), "20 of 35: {first:?}");
        let even = vec![(0, 1.0, 0), (1, 1.0, 0)];
        assert_eq!(by_weight(even, || 0.7), [1, 0]);
    }
}
