//! How long the reader lets messages gather before it reads.
//!
//! Waking up costs several times what a message costs. Under load the reader therefore sleeps a
//! fixed fraction of a millisecond instead of waking for every single message, and reads what has
//! come meanwhile in one batch. When little comes, or nothing came in a pause, it waits for the
//! socket and answers at once.

const MS: u64 = 1_000_000;

/// The longest pause. Measured against 0.7 ms it costs a tenth to a quarter less for each message
/// at 4,000 to 8,000 a second; twice as long saves nothing more that could be measured.
const PAUSE_NS_MAX: u64 = 1_200_000;
/// No shorter sleep is worth its wake-up.
const PAUSE_NS_MIN: u64 = 50_000;
/// Messages wanted in a batch: what comes faster does not have to gather for longer. It is fewer
/// than those that wait for us in a load that sends only after an answer (32 calls at a time): each
/// pause is then shorter than the one before, until there are none. With as many as wait, such a
/// load would see the pause that it happens to have for ever, at half the calls per second.
const WANTED: u64 = 12;
/// Messages per second above which they gather, and below which they no longer do: three to a
/// pause, and one and a half.
const START_PER_S: u64 = 2_500;
const STOP_PER_S: u64 = 1_200;
/// The rate is that of a window of this length.
const WINDOW_NS: u64 = 5 * MS;

/// The rate of messages, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Gather {
    window_from_ns: u64,
    in_window: u64,
    per_s: u64,
    gathers: bool,
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
        (self.window_from_ns, self.in_window) = (now_ns, 0);
    }

    /// How long to sleep before the next look at the sockets; `None`: wait for them.
    pub(super) fn pause_ns(&self) -> Option<u64> {
        let wanted_ns = || WANTED * 1000 * MS / self.per_s.max(1);
        (self.gathers && !self.is_idle).then(|| wanted_ns().clamp(PAUSE_NS_MIN, PAUSE_NS_MAX))
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

    #[test]
    fn who_waits_for_answers_is_not_kept_waiting() {
        // 32 messages are under way; each is followed by the next one once it is answered.
        let mut gather = Gather::default();
        let (mut now_ns, mut turns) = (0, 0);
        while gather.pause_ns() != Some(PAUSE_NS_MIN) {
            now_ns += gather.pause_ns().unwrap_or(MS) + 20_000;
            gather.took(now_ns, 32);
            turns += 1;
            assert!(turns < 200, "{:?}", gather.pause_ns());
        }
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
