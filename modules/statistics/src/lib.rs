//! `statistics`: counters that a script makes, changes and reads.
//!
//! Where to look: `counters` keeps the counters, `series` values over a window of time,
//! `functions` is what a script calls.

mod counters;
mod functions;
mod series;

use std::sync::Arc;

use parking_lot::Mutex;
use tandem_clock::Now;
use tandem_engine::module::{Build, BuildError, Module, ModuleDef, ParamValue};
use tandem_engine::node::Node;
use tandem_script::sig::{ParamKind, ParamSig};

use counters::Counters;
use functions::Iterations;
use series::{AllSeries, Profile};

/// The group of counters whose name has none.
const DYNAMIC: &str = "dynamic";

const fn param(name: &'static str, help: &'static str) -> ParamSig {
    let kind = ParamKind::Str;
    ParamSig {
        name,
        kind,
        default: None,
        multiple: true,
        old_names: &[],
        check: None,
        moot: None,
        help,
    }
}

/// The table of `statistics`.
pub static MODULE: ModuleDef = ModuleDef {
    name: "statistics",
    help: "Counters that a script makes, changes and reads.",
    dependencies: &[],
    params: &[
        param("variable", "A counter to begin with: `[group:]name[/no_reset]`."),
        param("stat_groups", "Groups that the script uses, separated by commas."),
        param(
            "stat_series_profile",
            "Values over a window: `name: algorithm=accumulate|average|percentage window=60`.",
        ),
    ],
    functions: functions::FUNCTIONS,
    variables: functions::VARIABLES,
    mi: &[],
    statistics: &[],
    events: &[],
    build,
};

/// What the scripts of a node count.
pub struct Statistics {
    counters: Counters,
    series: AllSeries,
    iterations: Mutex<Iterations>,
}

impl Module for Statistics {
    fn own_counters(&self, _now: Now) -> Vec<(String, u64)> {
        self.counters.all()
    }

    fn reset_own_counter(&self, name: Option<&str>) -> bool {
        self.counters.reset_short(name)
    }

    fn dynamic_statistics(&self, _node: &Node, now: Now) -> Vec<(String, u64)> {
        self.series.all(now)
    }
}

fn build(from: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
    let texts = |name| {
        from.all(name).iter().filter_map(|v| match v {
            ParamValue::Str(text) => Some(text.as_str()),
            ParamValue::Int(_) => None,
        })
    };
    let groups = texts("stat_groups").flat_map(|t| t.split(',')).map(|g| g.trim().to_owned());
    let groups: Vec<String> = groups.filter(|g| !g.is_empty()).collect();
    let counters = Counters::new(groups.clone());
    for text in texts("variable") {
        let (name, resettable) = match text.rsplit_once('/') {
            None => (text, true),
            Some((name, "no_reset")) => (name, false),
            Some((_, flag)) => {
                let message = format!("`{flag}` is no flag of a statistic");
                return Err(BuildError::new("variable", message).help("the one flag is no_reset"));
            }
        };
        counters
            .define(name.trim(), resettable)
            .map_err(|why| BuildError::new("variable", why).help("declare it in stat_groups"))?;
    }
    let profiles = texts("stat_series_profile").map(|text| Profile::parse(text, &groups));
    let profiles: Result<Vec<_>, _> = profiles.collect();
    let series = AllSeries::new(profiles.map_err(|e| BuildError::new("stat_series_profile", e))?);
    Ok(Arc::new(Statistics { counters, series, iterations: Mutex::default() }))
}
