//! One pipe.

use std::collections::BTreeMap;

use tandem_clock::{MS, Mono, Now};

/// How a pipe judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    TailDrop,
    Red,
    Feedback,
    /// By the bytes that wait in the UDP sockets.
    Network,
    Sbt,
}

impl Algorithm {
    pub(crate) fn of(text: &str) -> Option<Self> {
        Some(match text.to_ascii_uppercase().as_str() {
            "TAILDROP" => Self::TailDrop,
            "RED" => Self::Red,
            "FEEDBACK" => Self::Feedback,
            "NETWORK" => Self::Network,
            "SBT" | "HISTORY" => Self::Sbt,
            _ => return None,
        })
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::TailDrop => "TAILDROP",
            Self::Red => "RED",
            Self::Feedback => "FEEDBACK",
            Self::Network => "NETWORK",
            Self::Sbt => "SBT",
        }
    }

    /// As peers name it.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::TailDrop => 1,
            Self::Red => 2,
            Self::Feedback => 3,
            Self::Network => 4,
            Self::Sbt => 5,
        }
    }

    pub(crate) fn of_number(number: i32) -> Option<Self> {
        [Self::TailDrop, Self::Red, Self::Feedback, Self::Network, Self::Sbt]
            .into_iter()
            .find(|a| a.number() == number)
    }
}

/// What all pipes have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) interval_s: u32,
    /// The limit is one of a whole interval.
    pub(crate) per_interval: bool,
    pub(crate) slot_ms: u64,
    pub(crate) slots: usize,
    /// Of a hundred, how many FEEDBACK refuses.
    pub(crate) drop_rate: u32,
    /// Bytes that waited in the UDP sockets when the interval began, for NETWORK.
    pub(crate) waiting: u64,
}

/// The sum of counts that are believed still.
fn believed(counts: &BTreeMap<u32, (i32, Mono)>, now: Now) -> i32 {
    let valid = counts.values().filter(|(_, until)| *until > now.mono_ns);
    valid.fold(0, |sum: i32, (count, _)| sum.saturating_add(*count))
}

/// A counter with its limit.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) algorithm: Algorithm,
    pub(crate) limit: i32,
    pub(crate) replicated: bool,
    /// Of this interval, at this node.
    pub(crate) counter: i32,
    /// Of the interval before, everywhere.
    last: i32,
    pub(crate) used: Mono,
    /// Counts of slots, by the number of the slot in time.
    window: BTreeMap<u64, i32>,
    /// What other nodes count, until when that is believed.
    pub(crate) remote: BTreeMap<u32, (i32, Mono)>,
    /// What other clusters count, as their bridges tell it.
    pub(crate) bridged: BTreeMap<u32, (i32, Mono)>,
    /// How often a count of 0 was sent.
    pub(crate) quiet: u32,
}

impl Pipe {
    pub(crate) fn new(algorithm: Algorithm, limit: i32, replicated: bool, now: Now) -> Self {
        Self {
            algorithm,
            limit,
            replicated,
            counter: 0,
            last: 0,
            used: now.mono_ns,
            window: BTreeMap::new(),
            remote: BTreeMap::new(),
            bridged: BTreeMap::new(),
            quiet: 0,
        }
    }

    /// Counts one; whether it may pass.
    pub(crate) fn check(&mut self, now: Now, rules: &Rules) -> bool {
        self.used = now.mono_ns;
        let others = self.others(now);
        if self.algorithm == Algorithm::Sbt {
            self.slide(now, rules);
            let total: i32 = self.window.values().sum();
            if total.saturating_add(others) >= self.limit {
                return false;
            }
            *self.window.entry(now.mono_ns / (rules.slot_ms * MS)).or_insert(0) += 1;
            return true;
        }
        self.counter = self.counter.saturating_add(1);
        let interval = i32::try_from(rules.interval_s).unwrap_or(i32::MAX);
        let per = if rules.per_interval { 1 } else { interval };
        match self.algorithm {
            Algorithm::TailDrop => {
                self.counter.saturating_add(others) <= self.limit.saturating_mul(per)
            }
            // So many as were too many in the last interval are refused evenly in this one.
            Algorithm::Red => {
                let allowed = self.limit.saturating_mul(per).max(1);
                let every = self.last / allowed;
                every <= 1 || self.counter % every == 0
            }
            Algorithm::Network => rules.waiting <= u64::try_from(self.limit).unwrap_or(0),
            _ => self.counter % 100 >= i32::try_from(rules.drop_rate).unwrap_or(100),
        }
    }

    /// Takes the count that a store keeps for all who use it, the request at hand left out.
    pub(crate) fn take_count(&mut self, count: i32) {
        self.counter = count.saturating_sub(1);
    }

    /// What other nodes and other clusters count now.
    pub(crate) fn others(&self, now: Now) -> i32 {
        believed(&self.remote, now).saturating_add(believed(&self.bridged, now))
    }

    /// What the other nodes of this cluster count now.
    pub(crate) fn neighbours(&self, now: Now) -> i32 {
        believed(&self.remote, now)
    }

    /// The count of this node: of the interval, or of the window.
    pub(crate) fn own(&mut self, now: Now, rules: &Rules) -> i32 {
        if self.algorithm == Algorithm::Sbt {
            self.slide(now, rules);
            return self.window.values().sum();
        }
        self.counter
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = i32> {
        self.window.values().copied()
    }

    pub(crate) fn uncount(&mut self) {
        self.counter = (self.counter - 1).max(0);
        if let Some(mut slot) = self.window.last_entry() {
            *slot.get_mut() = (*slot.get() - 1).max(0);
        }
    }

    pub(crate) fn reset(&mut self) {
        self.counter = 0;
        self.window.clear();
    }

    /// The interval is over.
    pub(crate) fn turn(&mut self, now: Now) {
        self.last = self.counter.saturating_add(self.others(now));
        self.counter = 0;
        self.remote.retain(|_, (_, until)| *until > now.mono_ns);
        self.bridged.retain(|_, (_, until)| *until > now.mono_ns);
    }

    fn slide(&mut self, now: Now, rules: &Rules) {
        let present = now.mono_ns / (rules.slot_ms * MS);
        let oldest = (present + 1).saturating_sub(rules.slots as u64);
        self.window = self.window.split_off(&oldest);
    }
}
