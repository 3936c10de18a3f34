//! How busy the workers are, and how much memory the process uses: figures that only the binary
//! can measure and that it hands to the node.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use tandem_clock::{Mono, Now, SEC};

/// Seconds that are remembered: the longest window, and the second at hand.
const SECONDS: usize = 601;
/// Seconds for which what waits is measured after it was asked for.
const WANTED_S: u32 = 60;

/// Busy time of every worker, by second.
#[derive(Debug)]
pub struct Load {
    started: Mono,
    waiting_udp: AtomicU64,
    waiting_tcp: AtomicU64,
    wanted_s: AtomicU32,
    host_clock_ahead_ms: AtomicI64,
    workers: Vec<Vec<Second>>,
}

/// One second of one worker. Only that worker writes.
#[derive(Debug, Default)]
struct Second {
    number: AtomicU64,
    busy_ns: AtomicU64,
}

impl Load {
    pub(crate) fn new(workers: usize, started: Mono) -> Self {
        let row = || (0..SECONDS).map(|_| Second::default()).collect();
        Self {
            started,
            waiting_udp: AtomicU64::new(0),
            waiting_tcp: AtomicU64::new(0),
            wanted_s: AtomicU32::new(0),
            host_clock_ahead_ms: AtomicI64::new(0),
            workers: (0..workers.max(1)).map(|_| row()).collect(),
        }
    }

    /// Notes how many bytes wait in the UDP sockets.
    pub fn set_waiting_udp(&self, bytes: u64) {
        self.waiting_udp.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn waiting_udp(&self) -> u64 {
        self.wanted_s.store(WANTED_S, Ordering::Relaxed);
        self.waiting_udp.load(Ordering::Relaxed)
    }

    /// Notes how many bytes wait in the connections that carry SIP.
    pub fn set_waiting_tcp(&self, bytes: u64) {
        self.waiting_tcp.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn waiting_tcp(&self) -> u64 {
        self.wanted_s.store(WANTED_S, Ordering::Relaxed);
        self.waiting_tcp.load(Ordering::Relaxed)
    }

    /// Whether what waits is to be measured in this second: somebody asked not long ago. The
    /// kernel goes through all its tables for it, which costs a node that listens on TCP a
    /// hundredth of a processor.
    pub fn is_waiting_wanted(&self) -> bool {
        let left = self.wanted_s.load(Ordering::Relaxed);
        self.wanted_s.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    /// Notes by how much the host's clock is ahead of the time that the node goes by.
    pub fn set_host_clock_ahead(&self, ms: i64) {
        self.host_clock_ahead_ms.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn host_clock_ahead_ms(&self) -> i64 {
        self.host_clock_ahead_ms.load(Ordering::Relaxed)
    }

    /// Workers, worker 0 included.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Notes that a worker was busy for some time, which ends now.
    pub fn busy(&self, worker: usize, now: Mono, ns: u64) {
        let number = now / SEC;
        let slot = (number % SECONDS as u64) as usize;
        let Some(second) = self.workers.get(worker).and_then(|row| row.get(slot)) else { return };
        if second.number.swap(number, Ordering::Relaxed) != number {
            second.busy_ns.store(0, Ordering::Relaxed);
        }
        second.busy_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Percent of the last whole seconds that the workers from `first` on were busy.
    pub fn percent(&self, now: Now, first: usize, window_s: u64) -> u64 {
        let each = (first..self.workers.len()).map(|id| self.permille(now, id, window_s));
        let (sum, n) = each.fold((0, 0), |(sum, n), one| (sum + one, n + 1));
        sum.checked_div(n).unwrap_or(0) / 10
    }

    /// The same for one worker.
    pub fn percent_of(&self, now: Now, worker: usize, window_s: u64) -> u64 {
        self.permille(now, worker, window_s) / 10
    }

    fn permille(&self, now: Now, worker: usize, window_s: u64) -> u64 {
        let Some(row) = self.workers.get(worker) else { return 0 };
        let present = now.mono_ns / SEC;
        let lived = (present.saturating_sub(self.started / SEC)).max(1);
        let window = window_s.min(lived).min(SECONDS as u64 - 1).max(1);
        let within = |s: &&Second| {
            let number = s.number.load(Ordering::Relaxed);
            number < present && number + window >= present
        };
        let busy: u64 = row.iter().filter(within).map(|s| s.busy_ns.load(Ordering::Relaxed)).sum();
        (busy / (window * SEC / 1000)).min(1000)
    }
}

/// Memory of the process.
#[derive(Debug, Default)]
pub struct Memory {
    total: AtomicU64,
    used: AtomicU64,
    peak: AtomicU64,
    /// Whether `total` is a limit that somebody has set.
    limited: AtomicBool,
}

impl Memory {
    /// Says how many bytes the node may use.
    pub fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    /// Sets the soft limit (`-m`).
    pub fn set_limit(&self, bytes: u64) {
        self.set_total(bytes);
        self.limited.store(true, Ordering::Relaxed);
    }

    /// Whether nine tenths of the limit are in use: what is new is refused then, what exists
    /// goes on.
    pub fn is_short(&self) -> bool {
        self.limited.load(Ordering::Relaxed) && self.used() > self.total() / 10 * 9
    }

    /// Says how many bytes it uses.
    pub fn set_used(&self, bytes: u64) {
        self.used.store(bytes, Ordering::Relaxed);
        self.peak.fetch_max(bytes, Ordering::Relaxed);
    }

    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Now {
        Now { mono_ns: s * SEC, unix_ms: 0 }
    }

    #[test]
    fn load_is_the_busy_share_of_whole_seconds() {
        let load = Load::new(3, 0);
        load.busy(1, 1000 * SEC + SEC / 2, SEC / 2);
        load.busy(1, 1000 * SEC + SEC * 3 / 4, SEC / 4);
        assert_eq!(load.percent_of(at(1000), 1, 1), 0, "the second at hand is not over");
        assert_eq!(load.percent_of(at(1001), 1, 1), 75);
        assert_eq!(load.percent(at(1001), 1, 1), 37);
        assert_eq!(load.percent(at(1001), 0, 1), 25);
        assert_eq!(load.percent_of(at(1002), 1, 1), 0);
        assert_eq!(load.percent_of(at(1015), 1, 60), 1);
        load.busy(1, 1601 * SEC, SEC / 10);
        assert_eq!(load.percent_of(at(1602), 1, 1), 10, "the slot was used before");
    }

    #[test]
    fn what_waits_is_measured_for_a_minute_after_it_was_asked_for() {
        let load = Load::new(1, 0);
        assert!(!load.is_waiting_wanted());
        load.waiting_tcp();
        assert_eq!((0..100).filter(|_| load.is_waiting_wanted()).count(), 60);
        load.waiting_udp();
        assert!(load.is_waiting_wanted());
    }
}
