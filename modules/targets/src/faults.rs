//! What was wrong with rows of the tables, for those who keep them.

/// Faults of one loading that are remembered; more are counted.
const FAULTS_MAX: usize = 1_000;

/// A row that was left out, or something in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The whole row was left out.
    pub(crate) refused: bool,
    /// The kind of its table: gateways, carriers or rules.
    pub(crate) table: &'static str,
    /// The row and the reason, in plain words.
    pub(crate) why: String,
}

/// The faults of one loading.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) all: Vec<Fault>,
    /// Rows that were left out.
    pub(crate) refused: usize,
    /// Rows that were taken without a part of them.
    pub(crate) in_part: usize,
}

impl Faults {
    pub(crate) fn refuse(&mut self, table: &'static str, why: String) {
        self.refused += 1;
        self.add(Fault { refused: true, table, why });
    }

    /// Something in a row is left out; see [`Faults::count_row`].
    pub(crate) fn note(&mut self, table: &'static str, why: String) {
        self.add(Fault { refused: false, table, why });
    }

    /// A row was taken in part.
    pub(crate) fn count_row(&mut self) {
        self.in_part += 1;
    }

    /// Each is one line, whatever stands in its row.
    fn add(&mut self, mut fault: Fault) {
        if self.all.len() < FAULTS_MAX {
            fault.why = tandem_targets::one_line(&fault.why);
            self.all.push(fault);
        }
    }
}
