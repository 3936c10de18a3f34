//! The instant a step happens at.

/// Monotonic nanoseconds since an arbitrary start; timers run on it.
pub type Mono = u64;

/// The time a step is given. A jump of the wall clock changes `unix_ms` only, so it moves no
/// timer; the wall clock appears on the wire, in databases and in MI answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Monotonic nanoseconds.
    pub mono_ns: Mono,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Now {
    /// Unix seconds, the unit of `expires` on the wire and in SQL.
    pub fn unix_s(self) -> u64 {
        self.unix_ms / 1000
    }

    /// The monotonic instant `ms` milliseconds from now.
    pub fn after_ms(self, ms: u64) -> Mono {
        self.mono_ns.saturating_add(ms.saturating_mul(crate::MS))
    }

    /// The monotonic instant `s` seconds from now.
    pub fn after_s(self, s: u64) -> Mono {
        self.mono_ns.saturating_add(s.saturating_mul(crate::SEC))
    }

    /// This instant, `ns` nanoseconds later on both clocks.
    #[must_use]
    pub fn plus_ns(self, ns: u64) -> Self {
        Self { mono_ns: self.mono_ns + ns, unix_ms: self.unix_ms + ns / crate::MS }
    }
}
