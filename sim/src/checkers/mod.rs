//! What must hold, whatever happens. Each checker is a file; each has a planted fault that it
//! catches (see [`crate::faults`]).

pub mod answers;
pub mod cdr;
pub mod dialogs;
pub mod duty;
pub mod equal;
pub mod holder;
pub mod lamps;
pub mod lost;
pub mod states;
pub mod watching;

use std::fmt;

use tandem_clock::{MS, Mono, SEC};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// True time, in nanoseconds from the start.
    pub at: Mono,
    /// Name of the checker.
    pub checker: &'static str,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, ms) = (self.at / SEC, self.at % SEC / MS);
        write!(f, "{s}.{ms:03} {}: {}", self.checker, self.text)
    }
}

/// All findings of a run; only the first ones are kept.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    found: Vec<Violation>,
}

/// A broken node breaks its promises all the time; the first ones tell why.
const KEPT_MAX: usize = 20;

impl Violations {
    /// Keeps a finding; false when it is not a new one.
    pub(crate) fn add(&mut self, at: Mono, checker: &'static str, text: String) -> bool {
        let is_known = self.found.iter().any(|v| v.checker == checker && v.text == text);
        let is_kept = !is_known && self.found.len() < KEPT_MAX;
        if is_kept {
            self.found.push(Violation { at, checker, text });
        }
        is_kept
    }

    pub(crate) fn into_vec(self) -> Vec<Violation> {
        self.found
    }
}
