//! What happened, as lines for people and as a hash for comparing two runs.

use std::fmt;

use tandem_clock::{MS, Mono, SEC};

/// Who an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Node(u32),
    Phone(u32),
    Operator,
    Network,
    Checker,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Node(n) => format!("node {n}"),
            Self::Phone(n) => format!("phone {n}"),
            Self::Operator => "operator".to_owned(),
            Self::Network => "network".to_owned(),
            Self::Checker => "checker".to_owned(),
        };
        f.pad(&text)
    }
}

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

/// Lines that are kept; a run that has more says that it was cut.
const LINES_MAX: usize = 2_000_000;

impl Trace {
    /// `keep_lines`: whether lines are wanted, or the hash alone.
    pub fn new(keep_lines: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: keep_lines.then(Vec::new) }
    }

    /// Takes bytes into the hash, with the time at which they were seen.
    pub fn feed(&mut self, at: Mono, kind: u8, bytes: &[u8]) {
        self.events += 1;
        for byte in at.to_le_bytes().iter().chain([&kind]).chain(bytes) {
            // FNV-1a: enough to tell two runs apart, the same on every machine.
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds a line; the text is made only if lines are kept.
    pub fn line(&mut self, at: Mono, who: Who, what: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if lines.len() == LINES_MAX {
            lines.push("... more lines than are kept".to_owned());
        }
        if lines.len() < LINES_MAX {
            let (s, ms) = (at / SEC, at % SEC / MS);
            lines.push(format!("{s:>5}.{ms:03}  {who:<9}  {}", what()));
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events went into the hash.
    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_in_columns() {
        let mut trace = Trace::new(true);
        trace.line(1_234 * MS, Who::Node(2), || "up".into());
        trace.line(100 * SEC, Who::Operator, || "asks".into());
        assert_eq!(trace.lines(), ["    1.234  node 2     up", "  100.000  operator   asks"]);
    }

    #[test]
    fn the_hash_tells_order_time_and_bytes_apart() {
        let hash = |events: &[(Mono, &[u8])]| {
            let mut trace = Trace::new(false);
            events.iter().for_each(|(at, bytes)| trace.feed(*at, 1, bytes));
            trace.hash()
        };
        let all = [
            hash(&[(1, b"a"), (2, b"b")]),
            hash(&[(2, b"b"), (1, b"a")]),
            hash(&[(1, b"a"), (3, b"b")]),
            hash(&[(1, b"a")]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[..n].contains(one));
        }
    }
}
