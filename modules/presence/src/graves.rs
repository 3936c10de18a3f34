//! Ends that are remembered after a record is forgotten, so that a peer that missed one does not
//! bring it back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ahash::RandomState;

use crate::change::Name;
use crate::record::{Key, Stamp};

/// Ends that one shard remembers.
const GRAVES_MAX: usize = 1024;

/// The name of a record with its key.
pub(crate) type FullName = (Arc<Key>, Name);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grave {
    pub(crate) stamp: Stamp,
    /// Unix seconds.
    pub(crate) until_s: u32,
}

/// The ends of a shard.
#[derive(Debug)]
pub(crate) struct Graves {
    all: HashMap<FullName, Grave, RandomState>,
    /// In the order in which they came.
    order: VecDeque<FullName>,
}

impl Graves {
    pub(crate) fn new(hash: RandomState) -> Self {
        Self { all: HashMap::with_hasher(hash), order: VecDeque::new() }
    }

    pub(crate) fn add(&mut self, name: FullName, grave: Grave, now_s: u64) {
        if let Some(known) = self.all.get_mut(&name) {
            known.stamp = known.stamp.max(grave.stamp);
            known.until_s = known.until_s.max(grave.until_s);
            return;
        }
        while let Some(first) = self.order.front() {
            let over = self.all.get(first).is_none_or(|g| u64::from(g.until_s) <= now_s);
            if !over && self.order.len() < GRAVES_MAX {
                break;
            }
            self.all.remove(first);
            self.order.pop_front();
        }
        self.order.push_back(name.clone());
        self.all.insert(name, grave);
    }

    /// Whether something that was written then is over.
    pub(crate) fn has(&self, name: &FullName, stamp: Stamp) -> bool {
        self.all.get(name).is_some_and(|grave| grave.stamp >= stamp)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&FullName, &Grave)> {
        self.order.iter().filter_map(|name| self.all.get(name).map(|grave| (name, grave)))
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}
