//! Parameters.

use tandem_db::check_name;
use tandem_engine::effect::DatabaseId;
use tandem_engine::module::{Build, BuildError};
use tandem_engine::table::param;
use tandem_script::sig::{ParamKind, ParamSig};

use crate::history::{Span, Stat};
use crate::profiles::Kept;

/// Extra statistics.
const EXTRA_MAX: usize = 32;
/// Windows that are remembered of one gateway.
const WINDOWS_MAX: u64 = 100_000;
/// Samples from which on an extra statistic counts, if it does not say.
const EXTRA_MIN_SAMPLES: u32 = 30;

const fn int(name: &'static str, default: &'static str, help: &'static str) -> ParamSig {
    param(name, ParamKind::Int, Some(default), help)
}

const fn checked(
    name: &'static str,
    default: Option<&'static str>,
    check: fn(&str) -> Result<(), String>,
    help: &'static str,
) -> ParamSig {
    ParamSig { check: Some(check), ..param(name, ParamKind::Str, default, help) }
}

/// The parameter table.
pub(crate) const PARAMS: &[ParamSig] = &[
    param("db_url", ParamKind::Str, None, "Database of the profiles; else db_default_url."),
    checked(
        "table_name",
        Some("qr_profiles"),
        |text| check_name(text).map_err(|e| e.to_string()),
        "Table of the profiles.",
    ),
    checked(
        "algorithm",
        Some("dynamic-weights"),
        |text| algorithm(text).map(|_| ()),
        "dynamic-weights: by chance, with weights that the score makes smaller; best-dest-first: \
         the best score first.",
    ),
    int("history_span", "30", "Minutes that samples count."),
    int("sampling_interval", "5", "Seconds of one window of samples, which is forgotten at once."),
    checked(
        "extra_stats",
        None,
        |text| extra(text).map(|_| ()),
        "Further statistics, which the script feeds: \"mos;-loss/20\"; - less is better; behind the \
         slash the samples from which on it counts, or avg.",
    ),
    int("min_samples_asr", "30", "Calls from which on the rate of answers counts."),
    int("min_samples_ccr", "30", "Calls from which on the rate of completion counts."),
    int("min_samples_pdd", "10", "Calls from which on the delay until it rings counts."),
    int("min_samples_ast", "10", "Calls from which on the delay until the answer counts."),
    int("min_samples_acd", "20", "Calls from which on their duration counts."),
    checked(
        "event_bad_dst_threshold",
        None,
        |text| score(text).map(|_| ()),
        "Score, 0 to 1, below which E_QROUTING_BAD_DST is raised; unset: never.",
    ),
    int("decimal_digits", "2", "Digits behind the point in what commands tell."),
];

/// How a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    DynamicWeights,
    BestFirst,
}

/// The parameters of the module.
#[derive(Debug)]
pub(crate) struct Params {
    pub(crate) database: DatabaseId,
    pub(crate) table: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) span: Span,
    /// The five statistics, then the extra ones.
    pub(crate) stats: Vec<Kept>,
    pub(crate) bad_score: Option<f64>,
    pub(crate) digits: usize,
}

impl Params {
    pub(crate) fn read(build: &mut Build<'_>) -> Result<Self, BuildError> {
        let database = build.database_param("db_url")?.ok_or_else(|| {
            BuildError::new("db_url", "qrouting needs a database")
                .help("set `db_url` of qrouting, or the global `db_default_url`")
        })?;
        let text = |name: &str| build.text(name).unwrap_or_default().to_owned();
        let number = |name: &'static str, from: i64, to: i64| {
            let n = build.int(name).unwrap_or(0);
            let wrong = || BuildError::new(name, format!("{from} to {to} is possible"));
            if (from..=to).contains(&n) { Ok(n as u64) } else { Err(wrong()) }
        };
        let minutes = number("history_span", 1, 1_000_000)?;
        let window_s = number("sampling_interval", 1, 60_000_000)?;
        let span = Span { window_s, windows: (minutes * 60).div_ceil(window_s) };
        if span.windows > WINDOWS_MAX {
            let why = format!("history_span has more than {WINDOWS_MAX} of such windows");
            return Err(BuildError::new("sampling_interval", why));
        }
        let mut stats = Vec::new();
        for (stat, name) in Stat::ALL.into_iter().zip(MIN_SAMPLES) {
            stats.push(Kept::of(stat, number(name, 0, i64::from(u32::MAX))? as u32));
        }
        stats.extend(extra(&text("extra_stats")).map_err(|e| BuildError::new("extra_stats", e))?);
        let bad_score = Some(text("event_bad_dst_threshold")).filter(|t| !t.is_empty());
        let bad_score = bad_score.and_then(|text| score(&text).ok());
        let algorithm =
            algorithm(&text("algorithm")).map_err(|e| BuildError::new("algorithm", e))?;
        let digits = number("decimal_digits", 0, 15)? as usize;
        Ok(Self { database, table: text("table_name"), algorithm, span, stats, bad_score, digits })
    }
}

const MIN_SAMPLES: [&str; 5] =
    ["min_samples_asr", "min_samples_ccr", "min_samples_pdd", "min_samples_ast", "min_samples_acd"];

fn algorithm(text: &str) -> Result<Algorithm, String> {
    match text {
        "dynamic-weights" => Ok(Algorithm::DynamicWeights),
        "best-dest-first" => Ok(Algorithm::BestFirst),
        _ => Err("the algorithms are dynamic-weights and best-dest-first".into()),
    }
}

fn score(text: &str) -> Result<f64, String> {
    let score = text.trim().parse().ok().filter(|score| (0.0..=1.0).contains(score));
    score.ok_or_else(|| format!("`{text}` is no score from 0 to 1"))
}

/// `[+|-]name[/samples|/avg]`, separated by `;`.
fn extra(text: &str) -> Result<Vec<Kept>, String> {
    let mut all: Vec<Kept> = Vec::new();
    for item in text.split(';').map(str::trim).filter(|item| !item.is_empty()) {
        let (name, rest) = item.split_once('/').unwrap_or((item, ""));
        let is_good = !name.starts_with('-');
        let name = name.trim_start_matches(['+', '-']).trim();
        // It becomes part of the names of columns.
        check_name(name).map_err(|e| e.to_string())?;
        let known = Stat::ALL.iter().map(|stat| stat.name()).any(|known| known == name);
        if known || all.iter().any(|stat| stat.name == name) {
            return Err(format!("`{name}` is there twice"));
        }
        let min_samples = match rest.trim() {
            "" | "avg" => EXTRA_MIN_SAMPLES,
            digits => digits.parse().map_err(|_| format!("`{item}`: {digits:?} is no number"))?,
        };
        all.push(Kept { name: name.to_owned(), is_good, min_samples });
    }
    if all.len() > EXTRA_MAX {
        return Err(format!("at most {EXTRA_MAX} extra statistics are kept"));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extra_statistics_say_which_way_is_good() {
        let kept =
            |name: &str, is_good, min_samples| Kept { name: name.to_owned(), is_good, min_samples };
        assert_eq!(
            extra("mos; +r_factor/avg ;-loss/20;").unwrap(),
            [kept("mos", true, 30), kept("r_factor", true, 30), kept("loss", false, 20)]
        );
        for wrong in ["a;a", "asr", "a b", "a/x", "-"] {
            assert!(extra(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c;/+ -]{0,20}") {
            let _ = extra(&text);
        }
    }
}
