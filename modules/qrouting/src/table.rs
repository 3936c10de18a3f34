//! The histories of all rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::history::{History, Span, Tally};

/// Rules that are remembered.
const RULES_MAX: usize = 100_000;
/// Gateways of one rule.
const GATEWAYS_MAX: usize = 1_000;

/// A rule: partition and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RuleKey {
    pub(crate) partition: Arc<str>,
    pub(crate) id: i64,
}

/// What is known of one rule.
#[derive(Debug, Default)]
pub(crate) struct RuleStats {
    gateways: BTreeMap<Arc<str>, History>,
    /// Gateways and carriers that are not to be used in it.
    pub(crate) disabled: BTreeSet<String>,
    /// Destinations whose score is below the threshold.
    pub(crate) bad: BTreeSet<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Table(RwLock<BTreeMap<RuleKey, Arc<Mutex<RuleStats>>>>);

impl RuleStats {
    pub(crate) fn add(
        &mut self,
        (span, now_s, stats): (Span, u64, usize),
        gateway: &str,
        at: usize,
        tally: Tally,
    ) {
        if let Some(history) = self.gateways.get_mut(gateway) {
            return history.add(span, now_s, stats, at, tally);
        }
        if self.gateways.len() < GATEWAYS_MAX {
            let mut history = History::default();
            history.add(span, now_s, stats, at, tally);
            self.gateways.insert(gateway.into(), history);
        }
    }

    /// The samples of some gateways together.
    pub(crate) fn total(&mut self, span: Span, now_s: u64, of: &[&str], at: usize) -> Tally {
        let mut all = Tally::default();
        for gateway in of {
            if let Some(history) = self.gateways.get_mut(*gateway) {
                all.add(history.total(span, now_s, at));
            }
        }
        all
    }
}

impl Table {
    pub(crate) fn find(&self, key: &RuleKey) -> Option<Arc<Mutex<RuleStats>>> {
        self.0.read().get(key).cloned()
    }

    /// The same, made if it is missing; `None`: there are too many.
    pub(crate) fn of(&self, key: &RuleKey) -> Option<Arc<Mutex<RuleStats>>> {
        if let Some(found) = self.find(key) {
            return Some(found);
        }
        let mut all = self.0.write();
        if all.len() >= RULES_MAX && !all.contains_key(key) {
            return None;
        }
        Some(Arc::clone(all.entry(key.clone()).or_default()))
    }

    /// Forgets the rules of a partition that are not there any more.
    pub(crate) fn keep(&self, partition: &str, is_there: impl Fn(i64) -> bool) {
        self.0.write().retain(|key, _| *key.partition != *partition || is_there(key.id));
    }
}
