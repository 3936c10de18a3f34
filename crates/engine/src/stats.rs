//! Statistics: one registry answers `get_statistics`, `$stat()` and the status page.
//!
//! A counter is an array of cells, one a worker, so that workers never write to the same cache
//! line. A counter only grows; what is a size of something is a function that asks the owner.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a value comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatKind {
    /// Counted by workers, reset by command.
    Counter,
    /// Asked of the module at the time of the question.
    Function,
}

/// An entry of a module's statistics table.
#[derive(Clone, Copy, Debug)]
pub struct StatDef {
    /// Without the group: `accepted_regs`.
    pub name: &'static str,
    pub kind: StatKind,
    pub resettable: bool,
    pub help: &'static str,
}

/// A counter of the node: the base of its module plus the index in the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatId(pub usize);

/// The cells of all counters, a row a worker.
#[derive(Debug)]
pub struct Stats {
    rows: Vec<Vec<AtomicU64>>,
    /// What a reset has to subtract, so that a reset never races with a count.
    base: Vec<AtomicU64>,
}

impl Stats {
    pub fn new(workers: usize, counters: usize) -> Self {
        let row = || (0..counters).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        Self { rows: (0..workers.max(1)).map(|_| row()).collect(), base: row() }
    }

    pub fn add(&self, worker: usize, id: StatId, n: u64) {
        if let Some(cell) = self.rows.get(worker).and_then(|row| row.get(id.0)) {
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub fn read(&self, id: StatId) -> u64 {
        let base = self.base.get(id.0).map_or(0, |b| b.load(Ordering::Relaxed));
        self.total(id).saturating_sub(base)
    }

    pub fn reset(&self, id: StatId) {
        if let Some(base) = self.base.get(id.0) {
            base.store(self.total(id), Ordering::Relaxed);
        }
    }

    fn total(&self, id: StatId) -> u64 {
        self.rows.iter().filter_map(|row| row.get(id.0)).map(|c| c.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_the_sum_over_workers_since_the_last_reset() {
        let stats = Stats::new(2, 3);
        stats.add(0, StatId(1), 2);
        stats.add(1, StatId(1), 3);
        assert_eq!(stats.read(StatId(1)), 5);
        stats.reset(StatId(1));
        stats.add(1, StatId(1), 1);
        assert_eq!((stats.read(StatId(1)), stats.read(StatId(0))), (1, 0));
    }
}
