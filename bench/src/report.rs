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
    /// Processor time of the server in that time, in ns.
    pub(crate) cpu_ns: u64,
}

impl Sample {
    /// Processor time per answered request, in µs.
    pub(crate) fn cpu_us(&self) -> f64 {
        ratio(self.cpu_ns as f64 / 1000.0, self.answered as f64)
    }

    /// Answered requests per second.
    pub(crate) fn rate(&self) -> f64 {
        ratio(self.answered as f64 * 1e9, self.elapsed_ns as f64)
    }
}

/// All rounds of one server doing one thing.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) work: &'static str,
    pub(crate) server: String,
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

/// The Markdown table. The ratio compares with the row of `reference` that does the same work.
pub(crate) fn table(rows: &[Row], reference: &str) -> String {
    let mut text = String::from(
        "| work | server | CPU µs per request | lowest | highest | ratio | requests/s | answered | refused | lost |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for row in rows {
        let cpu = row.median(Sample::cpu_us);
        let all = || row.samples.iter().map(Sample::cpu_us);
        let base = rows.iter().find(|r| r.work == row.work && r.server == reference);
        let relative = base.map_or(0.0, |b| ratio(cpu, b.median(Sample::cpu_us)));
        let relative = if relative > 0.0 { format!("{relative:.2}") } else { "-".into() };
        let _ = writeln!(
            text,
            "| {} | {} | {cpu:.2} | {:.2} | {:.2} | {relative} | {:.0} | {} | {} | {} |",
            row.work,
            row.server,
            all().fold(f64::INFINITY, f64::min),
            all().fold(0.0, f64::max),
            row.median(Sample::rate),
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
        Sample { answered, cpu_ns, elapsed_ns: 500_000_000, ..Sample::default() }
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
    fn the_table_compares_medians_of_the_same_work() {
        let row = |work, server: &str, cpu: [u64; 3]| Row {
            work,
            server: server.into(),
            samples: cpu.map(|c| sample(100, c)).into(),
        };
        let rows = [
            row("OPTIONS", "Kamailio", [2_000_000, 2_000_000, 9_000_000]),
            row("OPTIONS", "Tandem", [1_000_000, 1_000_000, 1_500_000]),
            row("REGISTER", "Tandem", [1_000_000; 3]),
        ];
        let text = table(&rows, "Kamailio");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2],
            "| OPTIONS | Kamailio | 20.00 | 20.00 | 90.00 | 1.00 | 200 | 300 | 0 | 0 |"
        );
        assert_eq!(
            lines[3],
            "| OPTIONS | Tandem | 10.00 | 10.00 | 15.00 | 0.50 | 200 | 300 | 0 | 0 |"
        );
        assert!(lines[4].contains("| - |"));
    }
}
