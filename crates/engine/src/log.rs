//! Log levels, with the numbers of `log_level` and `xlog`, and where lines go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI8, Ordering};

use tandem_clock::{Mono, SEC};

use crate::module::Cx;

/// Severity of a line. The numbers are those of a script: `L_ALERT` -3 to `L_DBG` 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum Level {
    Alert = -3,
    Critical = -2,
    Error = -1,
    Warning = 1,
    Notice = 2,
    Info = 3,
    Debug = 4,
}

impl Level {
    /// The level of a number in a script; what lies outside is clamped.
    pub fn from_number(number: i32) -> Self {
        match number {
            i32::MIN..=-3 => Self::Alert,
            -2 => Self::Critical,
            -1 | 0 => Self::Error,
            1 => Self::Warning,
            2 => Self::Notice,
            3 => Self::Info,
            _ => Self::Debug,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Alert => "ALERT",
            Self::Critical => "CRITICAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Info => "INFO",
            Self::Debug => "DBG",
        }
    }
}

/// One of the places that log lines go to.
#[derive(Debug)]
pub struct LogOutput {
    muted: AtomicBool,
    /// Lines above this level do not go there.
    up_to: AtomicI8,
}

impl LogOutput {
    pub(crate) fn new(up_to: Option<i8>) -> Self {
        Self { muted: AtomicBool::new(false), up_to: AtomicI8::new(up_to.unwrap_or(i8::MAX)) }
    }

    /// Whether a line of this level goes there.
    pub fn takes(&self, level: Level) -> bool {
        !self.is_muted() && level as i8 <= self.up_to.load(Ordering::Relaxed)
    }

    pub fn is_muted(&self) -> bool {
        self.muted.load(Ordering::Relaxed)
    }

    pub(crate) fn mute(&self, muted: bool) {
        self.muted.store(muted, Ordering::Relaxed);
    }

    /// The level as management shows it; 0: there is none.
    pub(crate) fn filter(&self) -> i8 {
        match self.up_to.load(Ordering::Relaxed) {
            i8::MAX => 0,
            level => level,
        }
    }

    pub(crate) fn set_filter(&self, level: i8) {
        let level = if level == 0 { i8::MAX } else { level };
        self.up_to.store(level, Ordering::Relaxed);
    }
}

/// Where log lines go.
#[derive(Debug)]
pub struct LogOutputs {
    pub stderr: LogOutput,
    pub syslog: LogOutput,
    /// E_CORE_LOG.
    pub(crate) event: LogOutput,
}

impl LogOutputs {
    /// By the name that management has for it.
    pub(crate) fn named(&self, name: &str) -> Option<&LogOutput> {
        match name {
            "stderror" => Some(&self.stderr),
            "syslog" => Some(&self.syslog),
            "event" => Some(&self.event),
            _ => None,
        }
    }
}

/// Lines of one kind that a worker writes in a second, and of all kinds together. Messages of
/// strangers and packets of peers cause most lines, as many as they like.
const LINES_PER_S: u32 = 20;
const LINES_OF_ALL_PER_S: u32 = 400;
/// Bytes of a line that say of which kind it is.
const KIND_BYTES: usize = 48;

/// What a worker has said in this second. Lines are of one kind that begin alike but for their
/// digits.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    second: u64,
    kinds: BTreeMap<u64, u32>,
    lines: u32,
    unsaid: u64,
}

impl Flood {
    /// Whether a line may be written; and how many were not in an earlier second, to be said now.
    fn take(&mut self, now_ns: Mono, level: Level, text: &str) -> (bool, Option<u64>) {
        let second = now_ns / SEC;
        let mut unsaid = None;
        if second != self.second {
            unsaid = (self.unsaid > 0).then_some(self.unsaid);
            self.kinds.clear();
            (self.second, self.lines, self.unsaid) = (second, 0, 0);
        }
        let lines = self.kinds.entry(kind(level, text)).or_default();
        let fits = *lines < LINES_PER_S && self.lines < LINES_OF_ALL_PER_S;
        if fits {
            *lines += 1;
            self.lines += 1;
        } else {
            self.unsaid += 1;
        }
        // What is new is not remembered when there is no room for a line of it anyway.
        if self.kinds.len() > LINES_OF_ALL_PER_S as usize {
            self.kinds.clear();
        }
        (fits, unsaid)
    }
}

/// A hash (FNV-1a) of the level and the beginning of a line.
fn kind(level: Level, text: &str) -> u64 {
    let letters = text.bytes().take(KIND_BYTES).filter(|b| !b.is_ascii_digit());
    let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    letters.fold(step(0xcbf2_9ce4_8422_2325, level as i8 as u8), step)
}

impl Cx<'_> {
    /// Whether lines of this level are written: by `$log_level` of the worker, else by the node's.
    pub fn logs(&self, level: Level) -> bool {
        match self.worker.log_level {
            Some(most) => level <= most,
            None => self.node.logs(level),
        }
    }

    /// The same for lines of `xlog()`.
    pub fn xlogs(&self, level: Level) -> bool {
        match self.worker.xlog_level {
            Some(most) => level <= most,
            None => self.node.xlogs(level),
        }
    }

    /// Writes a line, unless too many like it were written in this second: then they are counted.
    pub fn log(&mut self, level: Level, text: impl Into<String>) {
        if !self.logs(level) {
            return;
        }
        let text = text.into();
        if level == Level::Debug {
            return self.out.log(level, text);
        }
        let (fits, unsaid) = self.worker.flood.take(self.now.mono_ns, level, &text);
        if let Some(n) = unsaid {
            let more = format!("{n} more lines like those of a moment ago were not written");
            self.out.log(Level::Warning, more);
        }
        if fits {
            self.out.log(level, text);
        }
    }

    /// Writes a line that is a record: all of them, however many.
    pub fn log_record(&mut self, level: Level, text: impl Into<String>) {
        if self.logs(level) {
            self.out.log(level, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_in_digits_are_of_one_kind_and_few_of_it_are_written() {
        let mut flood = Flood::default();
        let written = |flood: &mut Flood, at_s: u64, n: usize| {
            let line = |i| format!("unreadable message from 10.0.0.{}:{i}: no colon", i % 256);
            let mut fits = |i| flood.take(at_s * SEC, Level::Info, &line(i)).0;
            (0..n).filter(|i| fits(*i)).count()
        };
        assert_eq!(written(&mut flood, 1, 1_000), LINES_PER_S as usize);
        assert!(flood.take(SEC, Level::Info, "something else").0);
        let (fits, unsaid) = flood.take(2 * SEC, Level::Info, "something else");
        assert_eq!((fits, unsaid), (true, Some(980)));
        assert_eq!(written(&mut flood, 2, 5), 5);
    }

    #[test]
    fn many_kinds_have_a_limit_together_and_take_no_room() {
        let mut flood = Flood::default();
        let name = |i: usize| format!("{}x", "ab".repeat(i % 20) + &"c".repeat(i / 20));
        let fits = (0..5_000).filter(|i| flood.take(SEC, Level::Error, &name(*i)).0).count();
        assert!(fits <= LINES_OF_ALL_PER_S as usize, "{fits}");
        assert!(flood.kinds.len() <= LINES_OF_ALL_PER_S as usize + 1);
    }
}
