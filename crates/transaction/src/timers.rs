//! Names, lengths and bookkeeping of timers.

use tandem_clock::{Mono, Now};

use crate::effects::{Effect, Effects};
use crate::fork::BranchIndex;

/// The timers of RFC 3261 17 and RFC 6026, by their names. B and F are [`Timer::Fr`], C is
/// [`Timer::FrInv`], as OpenSIPS calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// INVITE request retransmission.
    A(BranchIndex),
    /// Non-INVITE request retransmission.
    E(BranchIndex),
    /// No reply (INVITE) or no final reply (non-INVITE): timers B and F.
    Fr(BranchIndex),
    /// No final reply to an INVITE that got a provisional one: timer C.
    FrInv(BranchIndex),
    /// Retransmitted negative replies to INVITE are ACKed until then.
    D(BranchIndex),
    /// Retransmitted replies to a non-INVITE are absorbed until then.
    K(BranchIndex),
    /// Further 2xx to INVITE are relayed until then (RFC 6026).
    M(BranchIndex),
    /// Retransmission of our CANCEL: timer E of its own transaction.
    CancelE(BranchIndex),
    /// No reply to our CANCEL: timer F of its own transaction.
    CancelFr(BranchIndex),
    /// Retransmission of a negative final reply to INVITE.
    G,
    /// No ACK to a negative final reply.
    H,
    /// Retransmitted ACKs are absorbed until then.
    I,
    /// Retransmitted non-INVITE requests are answered until then.
    J,
    /// 2xx are passed and retransmitted INVITEs absorbed until then (RFC 6026).
    L,
    /// A released transaction absorbs retransmitted requests until then.
    Wait,
}

/// Lengths in milliseconds; the defaults are those of OpenSIPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// T1, the estimate of the round trip; the first retransmission.
    pub t1_ms: u32,
    /// T2, the longest interval between retransmissions.
    pub t2_ms: u32,
    /// `fr_timeout`: B, F and H.
    pub fr_ms: u32,
    /// `fr_inv_timeout`: C.
    pub fr_inv_ms: u32,
    /// `wt_timer`: D, I, J and K on unreliable transports.
    pub wait_ms: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self { t1_ms: 500, t2_ms: 4_000, fr_ms: 30_000, fr_inv_ms: 120_000, wait_ms: 5_000 }
    }
}

impl Timers {
    /// 64*T1: timers L and M, and how long a cancelled branch may take (RFC 3261 9.1).
    pub fn t1_x64_ms(&self) -> u64 {
        64 * u64::from(self.t1_ms)
    }

    /// The interval before the first retransmission.
    pub(crate) fn first_ms(&self) -> u32 {
        self.t1_ms.max(1)
    }

    /// The interval that follows one of `interval_ms`.
    pub(crate) fn next_ms(&self, interval_ms: u32) -> u32 {
        interval_ms.saturating_mul(2).min(self.t2_ms).max(1)
    }
}

/// A deadline that moves without leaving entries behind in the wheel: while an entry for an
/// earlier instant is outstanding, no new one is made, and when it fires it is set again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarm {
    due: Moment,
    entry: Moment,
}

/// A time or none, in the room of a time: a transaction has four alarms and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Mono);

impl Moment {
    const NEVER: Self = Self(Mono::MAX);

    fn get(self) -> Option<Mono> {
        (self != Self::NEVER).then_some(self.0)
    }
}

impl Default for Moment {
    fn default() -> Self {
        Self::NEVER
    }
}

impl From<Option<Mono>> for Moment {
    fn from(at: Option<Mono>) -> Self {
        at.map_or(Self::NEVER, Self)
    }
}

impl Alarm {
    pub(crate) fn new(due: Option<Mono>, entry: Option<Mono>) -> Self {
        Self { due: due.into(), entry: entry.into() }
    }

    /// When something has to happen.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.due.get()
    }

    /// The entry of the wheel that will come back.
    pub(crate) fn entry(&self) -> Option<Mono> {
        self.entry.get()
    }

    pub(crate) fn set(&mut self, timer: Timer, at: Mono, out: &mut Effects) {
        self.due = Moment(at);
        if self.entry > self.due {
            self.entry = self.due;
            out.push(Effect::SetTimer { timer, at });
        }
    }

    pub(crate) fn stop(&mut self) {
        self.due = Moment::NEVER;
    }

    /// The entry of `at` came back. True if the alarm is due; if it was moved to later, it is set
    /// again under the name that it has now.
    pub(crate) fn fired(&mut self, now: Now, timer: Timer, at: Mono, out: &mut Effects) -> bool {
        if self.entry() != Some(at) {
            return false;
        }
        self.entry = Moment::NEVER;
        let Some(due) = self.due() else { return false };
        if due > now.mono_ns {
            self.set(timer, due, out);
            return false;
        }
        self.stop();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono_ns: 0, unix_ms: 0 };

    #[test]
    fn intervals_double_up_to_t2() {
        let timers = Timers::default();
        let mut interval = timers.first_ms();
        let mut seen = vec![interval];
        for _ in 0..4 {
            interval = timers.next_ms(interval);
            seen.push(interval);
        }
        assert_eq!(seen, [500, 1000, 2000, 4000, 4000]);
    }

    #[test]
    fn alarm_moved_to_later_keeps_its_one_entry_and_is_set_again_when_it_fires() {
        let mut out = Effects::new();
        let mut alarm = Alarm::default();
        alarm.set(Timer::H, 10, &mut out);
        for at in 11..1000 {
            alarm.set(Timer::H, at, &mut out);
        }
        assert_eq!(out.drain().len(), 1);
        assert!(!alarm.fired(NOW.plus_ns(10), Timer::H, 10, &mut out));
        assert_eq!(out.as_slice(), [Effect::SetTimer { timer: Timer::H, at: 999 }]);
        assert!(alarm.fired(NOW.plus_ns(999), Timer::H, 999, &mut out));
    }

    #[test]
    fn alarm_moved_to_earlier_ignores_the_superseded_entry() {
        let mut out = Effects::new();
        let mut alarm = Alarm::default();
        alarm.set(Timer::H, 100, &mut out);
        alarm.set(Timer::I, 50, &mut out);
        assert!(alarm.fired(NOW.plus_ns(50), Timer::I, 50, &mut out));
        assert!(!alarm.fired(NOW.plus_ns(100), Timer::H, 100, &mut out));
    }

    #[test]
    fn stopped_alarm_does_not_fire() {
        let mut out = Effects::new();
        let mut alarm = Alarm::default();
        alarm.set(Timer::G, 10, &mut out);
        alarm.stop();
        assert!(!alarm.fired(NOW.plus_ns(10), Timer::G, 10, &mut out));
    }
}
