//! Counters by source address.

use std::collections::HashMap;
use std::net::IpAddr;

use ahash::RandomState;
use tandem_clock::{HashKey, Now, SEC};

/// Addresses that are remembered; when there are more, those that sent nothing in this unit go,
/// and what still has no room passes.
const ADDRESSES_MAX: usize = 200_000;

/// What a request of an address comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Blocked,
    NewlyBlocked,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    /// The unit that `present` counts.
    unit: u64,
    present: u32,
    /// Requests of the unit before.
    last: u32,
    blocked: bool,
}

pub(crate) struct Table {
    counters: HashMap<IpAddr, Counter, RandomState>,
    unit_s: u64,
    density: u32,
    /// Units without a request after which an address is forgotten.
    idle_units: u64,
}

impl Table {
    pub(crate) fn new(key: HashKey, unit_s: u64, density: u32, latency_s: u64) -> Self {
        let idle_units = latency_s.div_ceil(unit_s).max(1);
        let counters = HashMap::with_hasher(key.state());
        Self { counters, unit_s, density, idle_units }
    }

    fn unit(&self, now: Now) -> u64 {
        now.mono_ns / (self.unit_s * SEC)
    }

    pub(crate) fn count(&mut self, now: Now, ip: IpAddr) -> Verdict {
        let unit = self.unit(now);
        if self.counters.len() >= ADDRESSES_MAX && !self.counters.contains_key(&ip) {
            self.counters.retain(|_, c| c.unit == unit || c.blocked);
            if self.counters.len() >= ADDRESSES_MAX {
                return Verdict::Pass;
            }
        }
        let density = self.density;
        let counter = self.counters.entry(ip).or_insert(Counter { unit, ..Counter::default() });
        counter.turn(unit, density);
        counter.present = counter.present.saturating_add(1);
        match (counter.blocked, counter.present > density) {
            (true, _) => Verdict::Blocked,
            (false, true) => {
                counter.blocked = true;
                Verdict::NewlyBlocked
            }
            (false, false) => Verdict::Pass,
        }
    }

    /// Forgets who sends nothing any more; gives the addresses that are free again.
    pub(crate) fn sweep(&mut self, now: Now) -> Vec<IpAddr> {
        let (unit, density, idle) = (self.unit(now), self.density, self.idle_units);
        let mut freed = Vec::new();
        self.counters.retain(|ip, counter| {
            let silent = unit.saturating_sub(counter.unit);
            let was = counter.blocked;
            if silent > 0 {
                let mut turned = *counter;
                turned.turn(unit, density);
                counter.blocked = turned.blocked;
            }
            if was && !counter.blocked {
                freed.push(*ip);
            }
            silent < idle
        });
        freed.sort_unstable();
        freed
    }

    pub(crate) fn blocked(&self) -> Vec<IpAddr> {
        let blocked = self.counters.iter().filter(|(_, c)| c.blocked).map(|(ip, _)| *ip);
        let mut blocked: Vec<IpAddr> = blocked.collect();
        blocked.sort_unstable();
        blocked
    }

    /// Sets an address free: whether it was blocked; `None`: nothing is known of it.
    pub(crate) fn free(&mut self, ip: IpAddr) -> Option<bool> {
        let counter = self.counters.get_mut(&ip)?;
        let was = counter.blocked;
        if was {
            self.counters.remove(&ip);
        }
        Some(was)
    }
}

impl Counter {
    /// Goes on to another unit. An address is free when a whole unit had no more than the density.
    fn turn(&mut self, unit: u64, density: u32) {
        if unit <= self.unit {
            return;
        }
        self.last = if unit == self.unit + 1 { self.present } else { 0 };
        self.present = 0;
        self.unit = unit;
        if self.last <= density {
            self.blocked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * SEC, unix_ms: 0 }
    }

    #[test]
    fn an_address_is_blocked_until_a_unit_passes_with_less() {
        let key = tandem_clock::Chance::from_number(1).hash_key();
        let mut table = Table::new(key, 2, 3, 10);
        let ip = IpAddr::from([10, 0, 0, 1]);
        let many = |table: &mut Table, s: u64, n: usize| {
            (0..n).map(|_| table.count(at(s), ip)).collect::<Vec<_>>()
        };
        use Verdict::{Blocked, NewlyBlocked, Pass};
        assert_eq!(many(&mut table, 0, 5), [Pass, Pass, Pass, NewlyBlocked, Blocked]);
        assert_eq!(many(&mut table, 2, 1), [Blocked]);
        assert_eq!(table.blocked(), [ip]);
        assert_eq!(many(&mut table, 4, 1), [Pass]);
        assert_eq!(table.sweep(at(6)), [] as [IpAddr; 0]);
        assert_eq!(table.free(ip), Some(false));
        table.sweep(at(20));
        assert_eq!(table.free(ip), None);
    }
}
