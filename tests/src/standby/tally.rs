//! What became of the calls, by what happened to the machines while they were up.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value as Json;

use super::Blow;

/// Something that was done to the machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// The row of the table.
    pub what: String,
    pub blow: Blow,
    /// When it began and when it was done, by [`crate::uptime_ms`].
    pub from_ms: u64,
    pub to_ms: u64,
}

impl Deed {
    /// Both machines lived on, and did not see each other.
    fn is_cut(&self) -> bool {
        matches!(self.blow, Blow::Split | Blow::Unplugged)
    }

    /// Whether it fell between two times.
    fn is_within(&self, from_ms: u64, to_ms: u64) -> bool {
        self.from_ms <= to_ms + SLACK_MS && self.to_ms + SLACK_MS >= from_ms
    }
}

/// One row of the table.
#[derive(Debug, Default)]
struct Row {
    deeds: usize,
    /// Calls at each step when it happened: answered, up, asked again, hung up.
    steps: [usize; 4],
    lost: usize,
    missing: usize,
    repeated: usize,
    wrong: usize,
    /// Calls that were being set up then: answered and not billed, and not answered.
    fresh: usize,
    failed: usize,
    /// From the deed until a phone heard of its call again.
    silent_ms: Vec<u64>,
}

/// The count.
#[derive(Debug, Default)]
pub struct Tally {
    /// Calls placed and answered.
    pub placed: usize,
    pub answered: usize,
    /// Calls with one row, whatever else.
    pub billed: usize,
    apart: bool,
    rows: BTreeMap<String, Row>,
    /// What should not be, a line for each.
    pub findings: Vec<String>,
    /// Calls that were being set up when something happened, and were answered and not billed.
    pub unbilled: Vec<String>,
}

/// The row of the calls that nothing happened to.
const NOTHING: &str = "(between them)";
/// What the clocks of two processes may differ by here.
const SLACK_MS: u64 = 60;
/// A duration is right within a second.
const RIGHT_MS: u64 = 1_000;

impl Tally {
    /// Counts. With `apart` each machine has a database of its own.
    #[must_use]
    pub fn of(
        records: &[Json],
        deeds: &[Deed],
        billed: &BTreeMap<String, Vec<u64>>,
        apart: bool,
    ) -> Self {
        let mut tally = Self { placed: records.len(), apart, ..Self::default() };
        for deed in deeds {
            let heard = silence(records, deed);
            let row = tally.rows.entry(deed.what.clone()).or_default();
            row.deeds += 1;
            row.silent_ms.extend(heard);
        }
        for record in records {
            tally.call(record, deeds, billed);
        }
        let known = |call: &String| {
            records.iter().any(|r| r["call"] == **call && !r["answered_ms"].is_null())
        };
        for call in billed.keys().filter(|call| !known(call)) {
            tally.findings.push(format!("{call} is billed and was not answered"));
        }
        tally
    }

    fn call(&mut self, record: &Json, deeds: &[Deed], billed: &BTreeMap<String, Vec<u64>>) {
        let time = |name: &str| record[name].as_u64();
        let ended = time("ended_ms").unwrap_or(u64::MAX);
        let Some(answered) = time("answered_ms") else {
            let placed = time("placed_ms").unwrap_or(ended);
            let deed = deeds.iter().find(|deed| deed.is_within(placed, ended));
            self.row(deed.map_or(NOTHING, |d| d.what.as_str())).failed += 1;
            return;
        };
        self.answered += 1;
        let met = |d: &&Deed| d.to_ms + SLACK_MS >= answered && d.from_ms <= ended + SLACK_MS;
        for deed in deeds.iter().filter(|d| (answered..=ended).contains(&d.from_ms)) {
            self.row(&deed.what).steps[step(record, deed.from_ms)] += 1;
        }
        let deed = deeds.iter().rfind(met);
        let what = deed.map_or(NOTHING, |d| d.what.as_str()).to_owned();
        let call = record["call"].as_str().unwrap_or_default();
        if record["ended"] != 200 {
            self.row(&what).lost += 1;
            self.findings.push(format!("lost, {what}: {record}"));
        }
        let placed = time("placed_ms").unwrap_or(answered);
        let in_setup = deeds.iter().find(|deed| deed.is_within(placed, answered));
        let durations = billed.get(call).map_or(&[][..], Vec::as_slice);
        self.billed += usize::from(durations.len() == 1);
        match durations {
            [] if in_setup.is_some() => {
                let what = in_setup.map(|deed| deed.what.clone()).unwrap_or_default();
                self.row(&what).fresh += 1;
                self.unbilled.push(format!("{what}: {record}"));
            }
            [] => {
                self.row(&what).missing += 1;
                self.findings.push(format!("not billed, {what}: {record}"));
            }
            [ms] if !is_right(record, *ms) => {
                self.row(&what).wrong += 1;
                self.findings.push(format!("billed for {ms} ms, {what}: {record}"));
            }
            [_] => {}
            // The BYE came to one machine, and its copy to the other: with a network and a database
            // each, neither can know.
            [_, _] if self.apart && deed.is_some_and(Deed::is_cut) => {
                self.row(&what).repeated += 1;
            }
            more => {
                self.row(&what).repeated += 1;
                self.findings.push(format!("billed {} times, {what}: {record}", more.len()));
            }
        }
    }

    fn row(&mut self, what: &str) -> &mut Row {
        self.rows.entry(what.to_owned()).or_default()
    }

    /// Whether nothing should be different.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// The table, in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| What happened | times | calls then: answered / up / re-INVITE / BYE | lost | \
             not billed | billed twice | wrong duration | being set up then: answered and not \
             billed / not answered | phones heard again after, median / most |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for (what, row) in &self.rows {
            let [answered, up, again, bye] = row.steps;
            let mut silent = row.silent_ms.clone();
            silent.sort_unstable();
            let heard = match (silent.get(silent.len() / 2), silent.last()) {
                (Some(median), Some(most)) => format!("{median} / {most} ms"),
                _ => String::new(),
            };
            let (lost, missing, repeated) = (row.lost, row.missing, row.repeated);
            let _ = writeln!(
                text,
                "| {what} | {} | {answered} / {up} / {again} / {bye} | {lost} | {missing} | \
                 {repeated} | {} | {} / {} | {heard} |",
                row.deeds, row.wrong, row.fresh, row.failed
            );
        }
        text
    }
}

/// Where a call stood at a time after its 200.
fn step(record: &Json, at_ms: u64) -> usize {
    let time = |name: &str| record[name].as_u64().unwrap_or(u64::MAX);
    if at_ms >= time("bye_ms") {
        3
    } else if at_ms >= time("asked_again_ms") && at_ms < time("agreed_ms") {
        2
    } else {
        usize::from(at_ms >= time("confirmed_ms"))
    }
}

/// Whether the duration is that of the call: from its 200, which may have had to be repeated until
/// the caller had it, to its BYE, which may have had to be repeated until it was answered.
fn is_right(record: &Json, ms: u64) -> bool {
    let time = |name: &str| record[name].as_u64().unwrap_or(0);
    let least = time("bye_ms").saturating_sub(time("answered_ms") + RIGHT_MS);
    let most = time("ended_ms").saturating_sub(time("picked_up_ms")) + RIGHT_MS;
    (least..=most).contains(&ms)
}

/// From the deed until a phone heard anything of its call.
fn silence(records: &[Json], deed: &Deed) -> Option<u64> {
    // What was under way then still arrives.
    let after = deed.from_ms + SLACK_MS;
    let heard = ["answered_ms", "confirmed_ms", "agreed_ms", "ended_ms"];
    let times = records.iter().flat_map(|r| heard.map(|name| r[name].as_u64()));
    let first = times.flatten().filter(|at| *at >= after).min()?;
    Some(first - deed.from_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deed(from_ms: u64, to_ms: u64) -> Deed {
        Deed { what: "death".into(), blow: Blow::Death, from_ms, to_ms }
    }

    fn call(answered: u64, bye: u64, ended: u64, code: u16) -> Json {
        json!({ "call": "c", "placed_ms": answered, "picked_up_ms": answered, "answered_ms": answered,
                "confirmed_ms": answered, "bye_ms": bye, "ended_ms": ended, "ended": code })
    }

    fn count(record: Json, rows: &[u64]) -> Tally {
        let billed = [("c".to_owned(), rows.to_vec())].into_iter().filter(|(_, r)| !r.is_empty());
        Tally::of(&[record], &[deed(5_000, 5_100)], &billed.collect(), true)
    }

    #[test]
    fn a_call_that_ends_and_has_its_row_is_fine() {
        let tally = count(call(1_000, 9_000, 12_000, 200), &[8_500]);
        assert!(tally.is_clean(), "{:?}", tally.findings);
        assert_eq!((tally.answered, tally.billed), (1, 1));
        assert!(tally.table().contains("| death | 1 | 0 / 1 / 0 / 0 | 0 |"), "{}", tally.table());
    }

    #[test]
    fn what_is_wrong_is_found() {
        for (code, rows) in
            [(408, &[8_500][..]), (200, &[]), (200, &[8_500, 8_500]), (200, &[20_000])]
        {
            let tally = count(call(1_000, 9_000, 12_000, code), rows);
            assert_eq!(tally.findings.len(), 1, "{code} {rows:?}: {:?}", tally.findings);
        }
    }

    #[test]
    fn a_call_answered_in_the_moment_of_death_is_told_apart() {
        let tally = count(call(5_050, 9_000, 12_000, 200), &[]);
        assert!(tally.is_clean(), "{:?}", tally.findings);
        assert!(tally.table().contains("| 0 | 0 | 0 | 0 | 1 / 0 |"), "{}", tally.table());
    }
}
