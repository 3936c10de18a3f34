//! Log levels, with the numbers of `log_level` and `xlog`, and where lines go.

use std::sync::atomic::{AtomicBool, AtomicI8, Ordering};

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
