//! The real time and the real chance of a node: the only place that asks for either.
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tandem_clock::{MS, Now};

/// Reads the clocks of the host. The monotonic part (CLOCK_MONOTONIC) counts from the creation
/// of the clock, so one clock serves a whole process; its copies are the same clock.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    wall: Arc<Wall>,
}

impl Clock {
    pub fn new() -> Self {
        Self { start: Instant::now(), wall: Arc::new(Wall::new(host())) }
    }

    /// The present. Its monotonic part never goes back; its wall part follows the host's clock,
    /// but in steps only after the host slept, or while it has just been switched on and learns the
    /// time: see [`Clock::host_is_ahead_ms`].
    pub fn now(&self) -> Now {
        let mono = self.start.elapsed().as_nanos();
        let mono_ns = u64::try_from(mono).unwrap_or(u64::MAX);
        Now { mono_ns, unix_ms: self.wall.at(mono_ns / MS, host) }
    }

    /// By how much the host's clock is ahead of ours: about 0, or what is left of a step that
    /// somebody made with it. Contacts, publications and nonces end at a time of day; if ours
    /// stepped with the host's, an hour forward would end them all at once, on this node alone.
    pub fn host_is_ahead_ms(&self) -> i64 {
        self.wall.ahead_ms.load(Ordering::Relaxed)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// The clocks of the host.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// Milliseconds since 1970; before 1970 it reads as 1970.
    unix_ms: u64,
    /// Since it was switched on, with the time that it slept.
    on_ms: u64,
}

fn host() -> Host {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let on = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let on_ms = on.tv_sec.saturating_mul(1000).saturating_add(on.tv_nsec / 1_000_000);
    let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
    Host { unix_ms, on_ms: u64::try_from(on_ms).unwrap_or(0) }
}

/// The time of day that the node goes by.
#[derive(Debug)]
struct Wall {
    /// Ours, less the monotonic clock.
    offset_ms: AtomicI64,
    ahead_ms: AtomicI64,
    /// The monotonic time of the last look at the host's clock.
    looked_ms: AtomicU64,
    /// How long the host was on then.
    on_ms: AtomicU64,
}

/// Between two looks at the host's clock.
const LOOK_MS: u64 = 20;
/// Ours goes faster or slower by one part in so many until it has caught up.
const FOLLOW: u64 = 20;
/// A host that is on for less learns the time from others still.
const YOUNG_MS: u64 = 300_000;
/// What is less is no sleep.
const SLEEP_MS: i64 = 1_000;
/// 1 January 2026. A clock that shows less has not been set since its machine was switched on;
/// nothing that was dated by it is worth keeping.
const EARLIEST_MS: i64 = 1_767_225_600_000;

impl Wall {
    fn new(host: Host) -> Self {
        Self {
            offset_ms: AtomicI64::new(signed(host.unix_ms)),
            ahead_ms: AtomicI64::new(0),
            looked_ms: AtomicU64::new(0),
            on_ms: AtomicU64::new(host.on_ms),
        }
    }

    fn at(&self, mono_ms: u64, host: impl Fn() -> Host) -> u64 {
        let last = self.looked_ms.load(Ordering::Relaxed);
        if mono_ms >= last.saturating_add(LOOK_MS) {
            let won = self.looked_ms.compare_exchange(
                last,
                mono_ms,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if won.is_ok() {
                self.follow(mono_ms, mono_ms - last, host());
            }
        }
        let ours = signed(mono_ms).saturating_add(self.offset_ms.load(Ordering::Relaxed));
        u64::try_from(ours).unwrap_or(0)
    }

    /// Goes towards the host's clock, as far as is allowed after `passed_ms`.
    fn follow(&self, mono_ms: u64, passed_ms: u64, host: Host) {
        let host_ms = signed(host.unix_ms);
        let on_before = self.on_ms.swap(host.on_ms, Ordering::Relaxed);
        // The monotonic clock stands still while the host sleeps.
        let slept = signed(host.on_ms.saturating_sub(on_before)).saturating_sub(signed(passed_ms));
        let slept = if slept >= SLEEP_MS { slept } else { 0 };
        let ours = signed(mono_ms).saturating_add(self.offset_ms.load(Ordering::Relaxed));
        let ahead = host_ms.saturating_sub(ours);
        let most = signed(passed_ms / FOLLOW);
        let step = match ahead {
            // The two parts of a time are rounded apart.
            -1..=1 => 0,
            _ if ours < EARLIEST_MS && host_ms >= EARLIEST_MS => ahead,
            _ if host.on_ms < YOUNG_MS => ahead,
            _ => ahead.clamp(-most, most.saturating_add(slept)),
        };
        self.offset_ms.fetch_add(step, Ordering::Relaxed);
        self.ahead_ms.store(ahead - step, Ordering::Relaxed);
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// The time zone of the host, by its name or its rule: that of $TZ, else where /etc/localtime
/// points to, else what /etc/timezone says.
pub fn zone_name() -> Option<String> {
    if let Ok(name) = std::env::var("TZ") {
        return (!name.is_empty()).then_some(name);
    }
    let link = std::fs::read_link("/etc/localtime").ok();
    let link = link.as_deref().and_then(|path| path.to_str());
    let linked =
        link.and_then(|path| path.split_once("zoneinfo/")).map(|(_, name)| name.to_owned());
    let written = || std::fs::read_to_string("/etc/timezone").ok();
    linked.or_else(written).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// A seed for [`tandem_clock::Chance`] from the operating system.
pub fn os_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_part_never_goes_back_and_the_wall_part_is_today() {
        let clock = Clock::new();
        let (a, b) = (clock.now(), clock.now());
        assert!(a.mono_ns <= b.mono_ns);
        assert!(b.unix_s() > 1_700_000_000);
    }

    const TODAY: u64 = 1_795_000_000_000;
    const HOUR: i64 = 3_600_000;

    /// Looks at the time every 20 ms until `until_ms`, on a host whose clock is set by this much,
    /// and gives back ours.
    fn go(wall: &Wall, from_ms: u64, until_ms: u64, set_by: i64, begun: u64) -> u64 {
        let host = |mono: u64| (begun + mono).saturating_add_signed(set_by);
        (from_ms..=until_ms)
            .step_by(20)
            .map(|ms| wall.at(ms, || old(host(ms), ms)))
            .last()
            .expect("times")
    }

    /// The clocks of a host that has been on for long.
    fn old(unix_ms: u64, mono_ms: u64) -> Host {
        Host { unix_ms, on_ms: 1_000_000_000 + mono_ms }
    }

    #[test]
    fn what_the_host_slept_is_taken_at_once_and_no_more() {
        let wall = Wall::new(old(TODAY, 0));
        assert_eq!(wall.at(1_000, || old(TODAY + 1_000, 1_000)), TODAY + 1_000);
        let hour = HOUR as u64;
        let woke = Host { unix_ms: TODAY + 2_000 + hour, on_ms: 1_000_002_000 + hour };
        assert_eq!(wall.at(2_000, || woke), TODAY + 2_000 + hour);
        let far = Host { unix_ms: woke.unix_ms + 9 * hour, on_ms: woke.on_ms + hour + 20 };
        assert_eq!(wall.at(2_020, || far), woke.unix_ms + hour + 21);
    }

    #[test]
    fn a_host_that_was_just_switched_on_may_set_its_clock() {
        let at = |unix_ms, on_ms| Host { unix_ms, on_ms };
        let wall = Wall::new(at(TODAY, 20_000));
        assert_eq!(wall.at(9_000, || at(TODAY + 7_200_000, 29_000)), TODAY + 7_200_000);
        assert_eq!(wall.at(9_100, || at(TODAY, 29_100)), TODAY);
    }

    #[test]
    fn a_step_of_the_hosts_clock_is_followed_and_not_made() {
        for set_by in [HOUR, -HOUR, 24 * HOUR, -24 * HOUR] {
            let wall = Wall::new(old(TODAY, 0));
            let minute = go(&wall, 0, 60_000, set_by, TODAY);
            let moved = minute as i64 - (TODAY + 60_000) as i64;
            assert_eq!(moved, 3_000 * set_by.signum(), "three seconds in a minute");
            assert_eq!(wall.ahead_ms.load(Ordering::Relaxed), set_by - moved);
            // It is put right, and ours comes back.
            let later = go(&wall, 60_020, 125_020, 0, TODAY);
            assert!(later.abs_diff(TODAY + 125_020) <= 1, "{later}");
            assert!(wall.ahead_ms.load(Ordering::Relaxed).abs() <= 1);
        }
    }

    #[test]
    fn ours_never_goes_back_and_catches_up() {
        let (wall, mut last) = (Wall::new(old(TODAY, 0)), 0);
        for ms in (0..42_000).step_by(20) {
            let ours = wall.at(ms, || old(TODAY + ms - 2_000.min(ms), ms));
            assert!(ours >= last);
            last = ours;
        }
        assert!(last.abs_diff(TODAY + 41_980 - 2_000) <= 1, "{last}");
    }

    #[test]
    fn a_machine_without_a_battery_takes_the_time_that_it_is_told() {
        let wall = Wall::new(old(0, 0));
        assert_eq!(wall.at(1_000, || old(1_000, 1_000)), 1_000);
        assert_eq!(wall.at(2_000, || old(TODAY, 2_000)), TODAY);
        assert_eq!(go(&wall, 2_020, 4_000, 0, TODAY - 2_000), TODAY + 2_000);
    }

    #[test]
    fn two_seeds_differ() {
        assert_ne!(os_seed().expect("seed"), os_seed().expect("seed"));
    }
}
