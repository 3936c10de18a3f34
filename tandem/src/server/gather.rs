//! How long the reader lets messages gather before it reads.
//!
//! Waking up costs several times what a message costs. Under load the reader therefore sleeps a
//! fixed fraction of a millisecond instead of waking for every single message, and reads what has
//! come meanwhile in one batch. When little comes, or nothing came in a pause, it waits for the
//! socket and answers at once.

const MS: u64 = 1_000_000;

/// The longest pause. Measured against 0.7 ms it costs a tenth less for each message at 4,000 to
/// 8,000 a second; a longer one saves little more, and peers hear of changes later.
const PAUSE_NS_MAX: u64 = 1_000_000;
/// No shorter sleep is worth its wake-up.
const PAUSE_NS_MIN: u64 = 50_000;
/// Messages wanted in a batch: what comes faster does not have to gather for longer.
const WANTED: u64 = 12;
/// Messages per second above which they gather, and below which they no longer do: three to a
/// pause, and one and a half.
const START_PER_S: u64 = 2_500;
const STOP_PER_S: u64 = 1_200;
/// The rate is that of a window of this length.
const WINDOW_NS: u64 = 5 * MS;
/// Every so many windows one has another longest pause, to see what that changes.
const TRY_EVERY: u32 = 16;

/// Whether a load sends only after an answer shows when it is answered sooner: then more comes. To
/// let that gather brings nothing, each pause only keeps it waiting.
#[derive(Debug)]
struct Longest {
    ns: u64,
    /// What one window has instead.
    tried_ns: Option<u64>,
    /// Windows until the next one is tried, and whether that is a shorter pause.
    left: u32,
    shorter: bool,
    /// The rate with `ns`, smoothed.
    usual_per_s: u64,
}

impl Default for Longest {
    fn default() -> Self {
        let (ns, left) = (PAUSE_NS_MAX, TRY_EVERY);
        Self { ns, tried_ns: None, left, shorter: true, usual_per_s: 0 }
    }
}

impl Longest {
    fn now_ns(&self) -> u64 {
        self.tried_ns.unwrap_or(self.ns)
    }

    /// A window has ended.
    fn saw(&mut self, per_s: u64) {
        let Some(tried_ns) = self.tried_ns.take() else {
            self.usual_per_s = (3 * self.usual_per_s + per_s) / 4;
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                let other_ns = if self.shorter { self.ns / 2 } else { self.ns * 2 };
                let other_ns = other_ns.clamp(PAUSE_NS_MIN, PAUSE_NS_MAX);
                self.tried_ns = Some(other_ns).filter(|ns| *ns != self.ns);
                self.left = TRY_EVERY;
                self.shorter = !self.shorter;
            }
            return;
        };
        let is_better = match tried_ns < self.ns {
            // Half the pause for many more: they wait for us.
            true => 3 * per_s >= 4 * self.usual_per_s,
            // They come anyhow.
            false => 4 * per_s >= 3 * self.usual_per_s,
        };
        if is_better {
            self.shorter = tried_ns < self.ns;
            (self.ns, self.usual_per_s, self.left) = (tried_ns, per_s, TRY_EVERY / 4);
        }
    }
}

/// The rate of messages, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Gather {
    window_from_ns: u64,
    in_window: u64,
    per_s: u64,
    gathers: bool,
    longest: Longest,
    /// The last turn took nothing: what comes next, comes in a burst of its own.
    is_idle: bool,
}

impl Gather {
    /// Notes that a turn took so many messages.
    pub(super) fn took(&mut self, now_ns: u64, messages: usize) {
        self.in_window += messages as u64;
        self.is_idle = messages == 0;
        let took_ns = now_ns.saturating_sub(self.window_from_ns);
        if took_ns < WINDOW_NS {
            // A burst that is too much for the whole window already: answers to a batch of pings.
            if !self.gathers && self.in_window > START_PER_S * WINDOW_NS / (1000 * MS) {
                self.gathers = true;
                self.per_s = self.in_window.saturating_mul(1000 * MS) / took_ns.max(MS);
            }
            return;
        }
        self.per_s = self.in_window.saturating_mul(1000 * MS) / took_ns;
        self.gathers = self.per_s > if self.gathers { STOP_PER_S } else { START_PER_S };
        if self.gathers {
            self.longest.saw(self.per_s);
        } else {
            self.longest = Longest::default();
        }
        (self.window_from_ns, self.in_window) = (now_ns, 0);
    }

    /// How long to sleep before the next look at the sockets; `None`: wait for them.
    pub(super) fn pause_ns(&self) -> Option<u64> {
        let wanted_ns = || WANTED * 1000 * MS / self.per_s.max(1);
        let longest_ns = self.longest.now_ns();
        (self.gathers && !self.is_idle).then(|| wanted_ns().clamp(PAUSE_NS_MIN, longest_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the pause is after a second of this rate.
    fn after(gather: &mut Gather, from_ns: u64, per_s: u64) -> Option<u64> {
        for ms in 1..=1000 {
            let due = |ms: u64| ms * per_s / 1000;
            gather.took(from_ns + ms * MS, (due(ms) - due(ms - 1)) as usize);
        }
        gather.is_idle = false;
        gather.pause_ns()
    }

    #[test]
    fn an_idle_server_answers_at_once() {
        assert_eq!(Gather::default().pause_ns(), None);
        assert_eq!(after(&mut Gather::default(), 0, 1_000), None);
    }

    #[test]
    fn messages_gather_for_a_moment_under_load_and_shorter_when_they_come_faster() {
        let mut gather = Gather::default();
        assert_eq!(after(&mut gather, 0, 8_000), Some(PAUSE_NS_MAX));
        assert_eq!(after(&mut gather, 1000 * MS, 120_000), Some(100_000));
        assert_eq!(after(&mut gather, 2000 * MS, 4_000_000), Some(PAUSE_NS_MIN));
        assert_eq!(after(&mut gather, 3000 * MS, 1_000), None);
    }

    /// A load of so many at a time, each followed by the next once it is answered, 10 us of work
    /// each: messages per second in the last of three seconds.
    fn closed(at_a_time: u64) -> u64 {
        let mut gather = Gather::default();
        let (mut now_ns, mut last) = (0, 0);
        while now_ns < 3_000 * MS {
            now_ns += gather.pause_ns().unwrap_or(0) + 20_000 + at_a_time * 10_000;
            gather.took(now_ns, at_a_time as usize);
            last += if now_ns > 2_000 * MS { at_a_time } else { 0 };
        }
        last
    }

    #[test]
    fn who_waits_for_answers_is_not_kept_waiting() {
        for at_a_time in [4, 8, 12, 13, 32, 64] {
            let with_shortest = 1000 * MS * at_a_time / (70_000 + at_a_time * 10_000);
            let per_s = closed(at_a_time);
            assert!(per_s * 10 > with_shortest * 6, "{at_a_time}: {per_s} of {with_shortest}");
        }
    }

    #[test]
    fn who_comes_anyhow_gathers_again_after_others_have_waited_for_answers() {
        let mut gather = Gather::default();
        for _ in 0..20_000 {
            let pause_ns = gather.pause_ns().unwrap_or(0);
            let now_ns = gather.window_from_ns + WINDOW_NS;
            gather.took(now_ns, (8 * WINDOW_NS / (pause_ns + 100_000)) as usize);
        }
        assert!(gather.pause_ns().unwrap() < PAUSE_NS_MAX / 4);
        let from_ns = gather.window_from_ns;
        let mut full = 0;
        for ms in 1..=4_000 {
            gather.took(from_ns + ms * MS, 6 + (ms % 3) as usize);
            full += u64::from(ms > 3_000 && gather.pause_ns() == Some(PAUSE_NS_MAX));
        }
        assert!(full > 800, "{full}");
    }

    #[test]
    fn a_pause_that_brought_nothing_is_the_last_one_until_something_comes() {
        let mut gather = Gather::default();
        after(&mut gather, 0, 8_000);
        gather.took(1000 * MS + 1, 0);
        assert_eq!(gather.pause_ns(), None);
        gather.took(1000 * MS + 2, 1);
        assert_eq!(gather.pause_ns(), Some(PAUSE_NS_MAX));
    }

    #[test]
    fn a_burst_gathers_from_its_thirteenth_message_on() {
        let mut gather = Gather::default();
        gather.took(1000 * MS, 1);
        gather.took(1000 * MS + 1, 12);
        assert_eq!(gather.pause_ns(), None);
        gather.took(1001 * MS, 1);
        assert!(gather.pause_ns().is_some());
        gather.took(1002 * MS, 0);
        gather.took(1036 * MS, 1);
        assert_eq!(gather.pause_ns(), None, "few came in that window after all");
    }

    #[test]
    fn a_rate_between_the_limits_changes_nothing() {
        let mut gather = Gather::default();
        assert_eq!(after(&mut gather, 0, 2_000), None);
        after(&mut gather, 1000 * MS, 8_000);
        assert_eq!(after(&mut gather, 2000 * MS, 2_000), Some(PAUSE_NS_MAX));
    }
}
