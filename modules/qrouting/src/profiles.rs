//! Profiles: from which values on a statistic is bad, and how bad.

use std::collections::BTreeMap;

use tandem_db::{Name, Row, Rows, Value};

use crate::history::{Stat, Tally};
use crate::params::Params;

/// The columns of a statistic, before its name.
const OF_STAT: [&str; 4] = ["warn_threshold_", "crit_threshold_", "warn_penalty_", "crit_penalty_"];

/// What a profile says of one statistic.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Limits {
    /// Negative: there is none.
    warn: f64,
    crit: f64,
    /// What the score is multiplied with.
    warn_penalty: f64,
    crit_penalty: f64,
}

/// A row of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Profile {
    pub(crate) name: String,
    /// In the order of the statistics.
    limits: Vec<Limits>,
}

/// Profiles by their number.
pub(crate) type Profiles = BTreeMap<u32, Profile>;

/// The columns that are read.
pub(crate) fn columns(params: &Params) -> Vec<Name> {
    let names = params.stats.iter().map(|stat| stat.name.as_str());
    let of = |name: &str| OF_STAT.map(|head| Name::from(format!("{head}{name}")));
    let first = ["id", "profile_name"].map(Name::from);
    first.into_iter().chain(names.flat_map(of)).collect()
}

/// The profiles of rows, and what is wrong with some of them.
pub(crate) fn read(rows: &Rows, params: &Params) -> (Profiles, Vec<String>) {
    let (mut profiles, mut faults) = (Profiles::new(), Vec::new());
    for row in &rows.rows {
        match profile(row, params.stats.len()) {
            Ok((id, profile)) => {
                profiles.insert(id, profile);
            }
            Err(why) => faults.push(why),
        }
    }
    (profiles, faults)
}

fn profile(row: &Row, stats: usize) -> Result<(u32, Profile), String> {
    let [id, name, values @ ..] = row.as_slice() else {
        return Err("a row of profiles has too few columns".into());
    };
    let id = id.as_int().and_then(|id| u32::try_from(id).ok());
    let id = id.ok_or_else(|| format!("profile {name:?} has no number"))?;
    let mut limits = Vec::with_capacity(stats);
    for of in values.chunks_exact(OF_STAT.len()) {
        let [warn, crit, warn_penalty, crit_penalty] = of else { continue };
        let sane = |penalty: f64| (0.0..=1.0).contains(&penalty);
        let read = Limits {
            warn: number(warn, -1.0),
            crit: number(crit, -1.0),
            warn_penalty: number(warn_penalty, 0.5),
            crit_penalty: number(crit_penalty, 0.05),
        };
        if !sane(read.warn_penalty) || !sane(read.crit_penalty) {
            return Err(format!("profile {id}: a penalty is none of 0 to 1"));
        }
        limits.push(read);
    }
    if limits.len() < stats {
        return Err(format!("profile {id} has too few columns"));
    }
    Ok((id, Profile { name: name.as_str().unwrap_or_default().to_owned(), limits }))
}

fn number(value: &Value, default: f64) -> f64 {
    let read = match value {
        Value::Float(f) => Some(*f),
        Value::Int(n) => Some(*n as f64),
        Value::Str(text) => text.trim().parse().ok(),
        _ => None,
    };
    read.filter(|f| f.is_finite()).unwrap_or(default)
}

/// A statistic that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// As in columns: `asr`.
    pub(crate) name: String,
    /// More of it is better.
    pub(crate) is_good: bool,
    /// Samples from which on it counts.
    pub(crate) min_samples: u32,
}

impl Kept {
    pub(crate) fn of(stat: Stat, min_samples: u32) -> Self {
        Self { name: stat.name().to_owned(), is_good: stat.is_good(), min_samples }
    }
}

impl Profile {
    /// What a statistic makes of the score.
    pub(crate) fn factor(&self, at: usize, stat: &Kept, tally: Tally) -> f64 {
        let (Some(limits), Some(mean)) = (self.limits.get(at), tally.mean()) else { return 1.0 };
        if tally.samples < f64::from(stat.min_samples) {
            return 1.0;
        }
        let is_bad =
            |limit: f64| limit >= 0.0 && if stat.is_good { mean < limit } else { mean > limit };
        match (is_bad(limits.crit), is_bad(limits.warn)) {
            (true, _) => limits.crit_penalty,
            (_, true) => limits.warn_penalty,
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_follow_the_limits() {
        let limits = Limits { warn: 0.5, crit: 0.2, warn_penalty: 0.5, crit_penalty: 0.05 };
        let delays = Limits { warn: 500.0, crit: -1.0, warn_penalty: 0.3, crit_penalty: 0.0 };
        let profile = Profile { name: String::new(), limits: vec![limits, delays] };
        let (asr, pdd) = (Kept::of(Stat::Asr, 10), Kept::of(Stat::Pdd, 2));
        let tally = |sum: f64, samples: f64| Tally { sum, samples };
        for (sum, samples, factor) in
            [(9.0, 10.0, 1.0), (4.0, 10.0, 0.5), (1.0, 10.0, 0.05), (0.0, 9.0, 1.0)]
        {
            assert_eq!(profile.factor(0, &asr, tally(sum, samples)), factor, "{sum} of {samples}");
        }
        assert_eq!(profile.factor(1, &pdd, tally(2_000.0, 2.0)), 0.3);
        assert_eq!(profile.factor(1, &pdd, tally(800.0, 2.0)), 1.0);
        assert_eq!(profile.factor(2, &pdd, tally(800.0, 2.0)), 1.0, "no limits");
    }
}
