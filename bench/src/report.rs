//! The arithmetic of the rounds, and the table.

use std::fmt::Write;

/// One measurement of one server.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sample {
    /// Requests answered with 200.
    pub(crate) answered: u64,
    /// Requests answered with something else.
    pub(crate) refused: u64,
    /// Requests without an answer after the limit.
    pub(crate) lost: u64,
    /// How long it took, in ns.
    pub(crate) elapsed_ns: u64,
    /// Processor time of each node in that time, in ns; a single server is the first.
    pub(crate) cpu_ns: [u64; 2],
    /// How long a reply took, in µs.
    pub(crate) p50_us: u32,
    pub(crate) p99_us: u32,
    /// The same until the other node showed the change.
    pub(crate) lag_p50_us: u32,
    pub(crate) lag_p99_us: u32,
}

impl Sample {
    /// Processor time per answered request, in µs.
    pub(crate) fn cpu_us(&self) -> f64 {
        ratio(self.cpu_ns.iter().sum::<u64>() as f64 / 1000.0, self.answered as f64)
    }

    fn node_us(&self, node: usize) -> f64 {
        ratio(self.cpu_ns.get(node).map_or(0.0, |ns| *ns as f64 / 1000.0), self.answered as f64)
    }

    /// Answered requests per second.
    pub(crate) fn rate(&self) -> f64 {
        ratio(self.answered as f64 * 1e9, self.elapsed_ns as f64)
    }

    /// Notes how long the replies took.
    pub(crate) fn latencies(&mut self, all_us: &mut [u32]) {
        (self.p50_us, self.p99_us) = percentiles(all_us);
    }

    /// Notes how long changes took to the other node.
    pub(crate) fn lags(&mut self, all_us: &mut [u32]) {
        (self.lag_p50_us, self.lag_p99_us) = percentiles(all_us);
    }
}

/// The median and the value that 99 % do not exceed.
fn percentiles(all: &mut [u32]) -> (u32, u32) {
    all.sort_unstable();
    let at = |percent: usize| all.get(all.len() * percent / 100).copied().unwrap_or_default();
    (at(50), at(99))
}

/// All rounds of one server doing one thing.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) server: String,
    /// The row that others with this work are compared with.
    pub(crate) is_reference: bool,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of).collect())
    }

    fn sum(&self, of: impl Fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(of).sum()
    }
}

/// The middle value; between two, their mean; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let at = |n: usize| values.get(n).copied().unwrap_or_default();
    if values.len() % 2 == 1 {
        at(half)
    } else {
        f64::midpoint(at(half.saturating_sub(1)), at(half))
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// The Markdown table. The ratio compares with the reference row that does the same work.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| work | server | CPU µs per request | lowest | highest | ratio | requests/s | reply ms p50/p99 | lag ms p50/p99 | answered | refused | lost |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for row in rows {
        let cpu = row.median(Sample::cpu_us);
        let all = || row.samples.iter().map(Sample::cpu_us);
        let base = rows.iter().find(|r| r.work == row.work && r.is_reference);
        let relative = base.map_or(0.0, |b| ratio(cpu, b.median(Sample::cpu_us)));
        let relative = if relative > 0.0 { format!("{relative:.2}") } else { "-".into() };
        let second = row.median(|s| s.node_us(1));
        let cpu = match second > 0.0 {
            true => format!("{cpu:.2} ({:.2} + {second:.2})", row.median(|s| s.node_us(0))),
            false => format!("{cpu:.2}"),
        };
        let ms = |of: fn(&Sample) -> u32| row.median(|s| f64::from(of(s))) / 1000.0;
        let lag = match ms(|s| s.lag_p50_us) {
            0.0 => "-".into(),
            p50 => format!("{p50:.2} / {:.2}", ms(|s| s.lag_p99_us)),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {cpu} | {:.2} | {:.2} | {relative} | {:.0} | {:.2} / {:.2} | {lag} | {} | {} | {} |",
            row.work,
            row.server,
            all().fold(f64::INFINITY, f64::min),
            all().fold(0.0, f64::max),
            row.median(Sample::rate),
            ms(|s| s.p50_us),
            ms(|s| s.p99_us),
            row.sum(|s| s.answered),
            row.sum(|s| s.refused),
            row.sum(|s| s.lost),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(answered: u64, cpu_ns: u64) -> Sample {
        Sample { answered, cpu_ns: [cpu_ns, 0], elapsed_ns: 500_000_000, ..Sample::default() }
    }

    #[test]
    fn a_median_is_the_middle_and_not_the_mean() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), 3.0);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn a_sample_is_measured_per_answer_and_nothing_is_divided_by_nothing() {
        assert_eq!(sample(100, 1_000_000).cpu_us(), 10.0);
        assert_eq!(sample(100, 1_000_000).rate(), 200.0);
        assert_eq!(sample(0, 5).cpu_us(), 0.0);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut all: Vec<u32> = (0..200).rev().collect();
        assert_eq!(percentiles(&mut all), (100, 198));
        assert_eq!(percentiles(&mut []), (0, 0));
    }

    #[test]
    fn the_table_compares_medians_of_the_same_work() {
        let row = |work: &str, server: &str, cpu: [u64; 3]| Row {
            work: work.into(),
            server: server.into(),
            is_reference: server == "Kamailio",
            samples: cpu.map(|c| sample(100, c)).into(),
        };
        let rows = [
            row("OPTIONS", "Kamailio", [2_000_000, 2_000_000, 9_000_000]),
            row("OPTIONS", "Tandem", [1_000_000, 1_000_000, 1_500_000]),
            row("REGISTER", "Tandem", [1_000_000; 3]),
        ];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2],
            "| OPTIONS | Kamailio | 20.00 | 20.00 | 90.00 | 1.00 | 200 | 0.00 / 0.00 | - | 300 | 0 | 0 |"
        );
        assert_eq!(
            lines[3],
            "| OPTIONS | Tandem | 10.00 | 10.00 | 15.00 | 0.50 | 200 | 0.00 / 0.00 | - | 300 | 0 | 0 |"
        );
        assert!(lines[4].contains("| - |"));
    }
}
