//! The statistics of a node under their names: those of every table, and those that scripts and
//! configurations make.

use tandem_clock::Now;

use crate::node::Node;
use crate::stats::{StatId, StatKind};

/// Whether `wanted` (`name`, `group:`, `group:name` or `all`) means the statistic `group:name`.
pub(crate) fn selects(wanted: &str, full: &str) -> bool {
    let (group, name) = full.split_once(':').unwrap_or(("", full));
    wanted == "all"
        || wanted == full
        || wanted == name
        || wanted.strip_suffix(':').is_some_and(|g| g == group)
}

/// The name with its group: a table may name another group than the module.
fn full_name(module: &str, name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{module}:{name}") }
}

impl Node {
    /// Every statistic as `group:name`, its kind and its value.
    pub fn statistics(&self, now: Now) -> Vec<(String, StatKind, u64)> {
        let mut all = Vec::new();
        for (slot, def, module) in self.loaded() {
            for (index, stat) in def.statistics.iter().enumerate() {
                let value = match stat.kind {
                    StatKind::Counter => self.counter(slot, index),
                    StatKind::Function => module.statistic(self, now, index),
                };
                all.push((full_name(def.name, stat.name), stat.kind, value));
            }
            for (name, value) in module.dynamic_statistics(self, now) {
                all.push((full_name(def.name, &name), StatKind::Function, value));
            }
            for (name, value) in module.own_counters(now) {
                all.push((full_name(def.name, &name), StatKind::Counter, value));
            }
        }
        all
    }

    /// One statistic by `name` or `group:name`.
    pub fn statistic(&self, name: &str, now: Now) -> Option<u64> {
        let (group, short) = name.split_once(':').map_or((None, name), |(g, n)| (Some(g), n));
        for (slot, def, module) in self.loaded() {
            let means = |of: &str| match of.split_once(':') {
                Some((g, n)) => n == short && group.is_none_or(|w| w == g),
                None => of == short && group.is_none_or(|w| w == def.name),
            };
            if let Some(index) = def.statistics.iter().position(|s| means(s.name)) {
                let stat = def.statistics.get(index)?;
                return Some(match stat.kind {
                    StatKind::Counter => self.counter(slot, index),
                    StatKind::Function => module.statistic(self, now, index),
                });
            }
            let made = module.dynamic_statistics(self, now).into_iter();
            let mut made = made.chain(module.own_counters(now));
            if let Some((_, value)) = made.find(|(of, _)| means(of)) {
                return Some(value);
            }
        }
        None
    }

    /// The value of a counter of a module.
    pub fn counter(&self, slot: u16, index: usize) -> u64 {
        self.stats.read(StatId(self.stat_base(slot) + index))
    }

    /// Sets a counter to 0, by its name without group; true when there is a statistic of this
    /// name, also one that cannot be set.
    pub fn reset_statistic(&self, name: &str) -> bool {
        let mut found = false;
        for (slot, def, module) in self.loaded() {
            for (index, stat) in def.statistics.iter().enumerate() {
                let short = stat.name.rsplit(':').next().unwrap_or(stat.name);
                if short != name {
                    continue;
                }
                found = true;
                if stat.kind == StatKind::Counter && stat.resettable {
                    self.stats.reset(StatId(self.stat_base(slot) + index));
                }
            }
            found |= module.reset_own_counter(Some(name));
        }
        found
    }

    /// Sets every counter to 0 that can be set.
    pub fn reset_all_statistics(&self) {
        for (slot, def, module) in self.loaded() {
            for (index, stat) in def.statistics.iter().enumerate() {
                if stat.kind == StatKind::Counter && stat.resettable {
                    self.stats.reset(StatId(self.stat_base(slot) + index));
                }
            }
            module.reset_own_counter(None);
        }
    }
}
