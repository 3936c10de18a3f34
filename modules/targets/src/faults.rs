//! What was wrong with rows of a table, for those who keep it.

use serde_json::{Value as Json, json};

use crate::names::one_line;

/// Faults of one loading that are remembered; more are counted.
const FAULTS_MAX: usize = 1_000;

/// A row that was left out, or something in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The whole row was left out.
    pub refused: bool,
    /// The kind of its table, as people call its rows.
    pub table: &'static str,
    /// The row and the reason, in plain words.
    pub why: String,
}

/// The faults of one loading.
#[derive(Debug, Default)]
pub struct Faults {
    pub all: Vec<Fault>,
    /// Rows that were left out.
    pub refused: usize,
    /// Rows that were taken without a part of them.
    pub in_part: usize,
}

impl Fault {
    /// For the log.
    pub fn text(&self) -> String {
        let verdict = if self.refused { "left out" } else { "taken in part" };
        format!("{verdict}: {}", self.why)
    }
}

impl Faults {
    pub fn refuse(&mut self, table: &'static str, why: String) {
        self.refused += 1;
        self.add(Fault { refused: true, table, why });
    }

    /// Something in a row is left out; see [`Faults::count_row`].
    pub fn note(&mut self, table: &'static str, why: String) {
        self.add(Fault { refused: false, table, why });
    }

    /// A row was taken in part.
    pub fn count_row(&mut self) {
        self.in_part += 1;
    }

    /// A row was taken, all of it if there are no `notes`.
    pub fn take_row(&mut self, table: &'static str, notes: Vec<String>) {
        if !notes.is_empty() {
            self.count_row();
        }
        notes.into_iter().for_each(|why| self.note(table, why));
    }

    /// Each is one line, whatever stands in its row.
    fn add(&mut self, mut fault: Fault) {
        if self.all.len() < FAULTS_MAX {
            fault.why = one_line(&fault.why);
            self.all.push(fault);
        }
    }

    /// `3 rows refused, 1 taken in part`.
    pub fn summary(&self) -> String {
        format!("{} rows refused, {} taken in part", self.refused, self.in_part)
    }

    /// For the answer of a command.
    pub fn rows(&self) -> Vec<Json> {
        let row = |fault: &Fault| {
            let verdict = if fault.refused { "refused" } else { "taken in part" };
            json!({"Table": fault.table, "Verdict": verdict, "Why": fault.why})
        };
        self.all.iter().map(row).collect()
    }
}
