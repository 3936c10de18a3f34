//! Log levels, with the numbers of `log_level` and `xlog`.

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
