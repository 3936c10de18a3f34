//! Phones on a host of their own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;

use super::{SERVICE, Standby};
use crate::{ELECTION, Process};

/// The program `phones` on a host.
#[derive(Debug)]
pub struct Phones {
    process: Process,
    records: PathBuf,
    until: PathBuf,
}

impl Phones {
    /// Starts it and waits until those who are called are registered; `hold` is `None` for calls
    /// that differ, and more than `calls` are placed then until [`Phones::enough`].
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(
        standby: &Standby,
        program: &Path,
        host: u8,
        [calls, per_second]: [u32; 2],
        hold: Option<Duration>,
    ) -> Self {
        let name = if host == super::PHONES[0] { "b" } else { "c" };
        let dir = standby.site.dir();
        let records = dir.join(format!("records-{name}.json"));
        let until = dir.join(format!("enough-{name}"));
        let held = hold.map_or("mixed".into(), |hold| hold.as_millis().to_string());
        let mut words = vec![
            format!("10.77.0.{host}:5070"),
            format!("{SERVICE}:5060"),
            calls.to_string(),
            per_second.to_string(),
            held,
            records.display().to_string(),
        ];
        if hold.is_none() {
            words.extend([name.to_owned(), until.display().to_string()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let log = format!("phones-{name}.log");
        let mut process = standby.lan.start(host, program, &words, dir, &log);
        process.wait_for_output("registered", ELECTION);
        Self { process, records, until }
    }

    /// Calls placed so far.
    #[must_use]
    pub fn placed(&self) -> usize {
        self.process.output().lines().filter(|line| line.starts_with("placed ")).count() * 10
    }

    /// No more calls than wanted.
    ///
    /// # Panics
    /// If it cannot be told.
    pub fn enough(&self) {
        std::fs::write(&self.until, "").unwrap_or_else(|e| panic!("{}: {e}", self.until.display()));
    }

    /// What became of the calls.
    ///
    /// # Panics
    /// If they are not over in time.
    #[must_use]
    pub fn outcome(mut self, patience: Duration) -> Vec<Json> {
        assert!(self.process.wait(patience).success(), "the phones have failed");
        let text = std::fs::read_to_string(&self.records).unwrap_or_default();
        let record =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        text.lines().map(record).collect()
    }
}
