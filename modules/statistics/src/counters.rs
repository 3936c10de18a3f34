//! The counters of scripts, by group and name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::RwLock;

use crate::DYNAMIC;

/// Counters in total; a script that makes names from what strangers send must not eat memory.
const COUNTERS_MAX: usize = 100_000;

struct Counter {
    value: AtomicI64,
    resettable: bool,
}

/// All counters of a node.
pub(crate) struct Counters {
    groups: Vec<String>,
    /// By `group:name`.
    all: RwLock<BTreeMap<String, Counter>>,
}

impl Counters {
    pub(crate) fn new(groups: Vec<String>) -> Self {
        Self { groups, all: RwLock::default() }
    }

    /// `group:name`, if the group may be used.
    fn full(&self, name: &str) -> Result<String, String> {
        match name.split_once(':') {
            _ if name.is_empty() => Err("a statistic needs a name".to_owned()),
            None => Ok(format!("{DYNAMIC}:{name}")),
            Some((group, _)) if group == DYNAMIC || self.groups.iter().any(|g| g == group) => {
                Ok(name.to_owned())
            }
            Some((group, _)) => Err(format!("the group `{group}` is not declared")),
        }
    }

    /// Makes a counter; nothing happens to one that is there.
    pub(crate) fn define(&self, name: &str, resettable: bool) -> Result<(), String> {
        let full = self.full(name)?;
        let mut all = self.all.write();
        if all.len() >= COUNTERS_MAX {
            return Err(format!("there are {COUNTERS_MAX} statistics already"));
        }
        all.entry(full).or_insert_with(|| Counter { value: AtomicI64::new(0), resettable });
        Ok(())
    }

    /// Adds to a counter, which is made if need be.
    pub(crate) fn add(&self, name: &str, n: i64) -> Result<(), String> {
        let full = self.full(name)?;
        if let Some(counter) = self.all.read().get(&full) {
            counter.value.fetch_add(n, Ordering::Relaxed);
            return Ok(());
        }
        self.define(name, true)?;
        if let Some(counter) = self.all.read().get(&full) {
            counter.value.fetch_add(n, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The value of a counter, by `name` in the group `dynamic` or by `group:name`.
    pub(crate) fn get(&self, name: &str) -> Option<i64> {
        let full = self.full(name).ok()?;
        self.all.read().get(&full).map(|c| c.value.load(Ordering::Relaxed))
    }

    /// Sets one counter to 0; false when there is none. One that may not be reset stays.
    pub(crate) fn reset(&self, name: &str) -> bool {
        let Ok(full) = self.full(name) else { return false };
        let all = self.all.read();
        let found = all.get(&full);
        if let Some(counter) = found.filter(|c| c.resettable) {
            counter.value.store(0, Ordering::Relaxed);
        }
        found.is_some()
    }

    /// Sets the counters of a name to 0, in whatever group, or all counters.
    pub(crate) fn reset_short(&self, name: Option<&str>) -> bool {
        let mut found = false;
        for (full, counter) in self.all.read().iter() {
            if name.is_none_or(|n| full.split_once(':').is_some_and(|(_, short)| short == n)) {
                found = true;
                if counter.resettable {
                    counter.value.store(0, Ordering::Relaxed);
                }
            }
        }
        found
    }

    /// Every counter. One that went below 0 shows as a large number, as in the field.
    pub(crate) fn all(&self) -> Vec<(String, u64)> {
        let all = self.all.read();
        all.iter().map(|(n, c)| (n.clone(), c.value.load(Ordering::Relaxed) as u64)).collect()
    }
}
