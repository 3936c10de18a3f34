//! The real time and the real chance of a node: the only place that asks for either.
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::io::{self, Read};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tandem_clock::Now;

/// Reads the clocks of the host. The monotonic part (CLOCK_MONOTONIC) counts from the creation
/// of the clock, so one clock serves a whole process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The present. Its monotonic part never goes back; its wall part follows the host's clock.
    pub fn now(&self) -> Now {
        let mono = self.start.elapsed().as_nanos();
        // A host clock before 1970 reads as 1970.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono_ns: u64::try_from(mono).unwrap_or(u64::MAX),
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
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

    #[test]
    fn two_seeds_differ() {
        assert_ne!(os_seed().expect("seed"), os_seed().expect("seed"));
    }
}
