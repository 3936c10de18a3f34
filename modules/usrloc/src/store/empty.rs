//! AoRs that a stock peer has told of before any of their contacts.
//!
//! An AoR is the chain of its contacts (`slots.rs`), so one without any needs a place of its own.
//! It is not there for long: its first contact takes its labels over, and if none comes, it is
//! cleaned away.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ahash::RandomState;

use super::change::{Event, Outcome, Why};
use super::edit::Edit;
use super::ids::Labels;

/// AoRs without contacts in a shard; further ones come with their first contact.
const EMPTY_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Empties {
    by_aor: HashMap<Arc<[u8]>, Labels, RandomState>,
    /// In the order in which they are cleaned away. One that is gone meanwhile means nothing.
    until_s: VecDeque<(u64, Arc<[u8]>)>,
}

impl Empties {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { by_aor: HashMap::with_hasher(hasher), until_s: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.by_aor.len()
    }

    pub(super) fn aors(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.by_aor.keys()
    }

    pub(super) fn labels(&self, aor: &[u8]) -> Option<Labels> {
        if self.by_aor.is_empty() { None } else { self.by_aor.get(aor).copied() }
    }

    fn add(&mut self, aor: &[u8], labels: Labels, until_s: u64) -> bool {
        let has_room = self.until_s.len() < EMPTY_MAX;
        if has_room {
            let aor: Arc<[u8]> = aor.into();
            self.until_s.push_back((until_s, Arc::clone(&aor)));
            self.by_aor.insert(aor, labels);
        }
        has_room
    }

    pub(super) fn remove(&mut self, aor: &[u8]) -> bool {
        !self.by_aor.is_empty() && self.by_aor.remove(aor).is_some()
    }

    /// Those whose time is over; they are still there.
    pub(super) fn over(&mut self, now_s: u64) -> Vec<Arc<[u8]>> {
        let mut over = Vec::new();
        while let Some((_, aor)) = self.until_s.pop_front_if(|(until_s, _)| *until_s <= now_s) {
            if self.by_aor.contains_key(&aor) {
                over.push(aor);
            }
        }
        over
    }
}

impl Edit<'_> {
    /// A stock peer has an AoR whose contacts will come, with these labels.
    pub(super) fn expect(&mut self, record: u32, next: u16, until_s: u64) -> Outcome {
        if self.labels.is_some() {
            return Outcome::Ignored(Why::Known);
        }
        let labels = Labels { record, next };
        if !self.shard.empty.add(self.at.aor, labels, until_s) {
            return Outcome::Ignored(Why::NotFound);
        }
        // What this node gives out itself comes behind.
        if record.wrapping_sub(self.shard.next_label) < u32::MAX / 2 {
            self.shard.next_label = record.wrapping_add(1);
        }
        self.labels = Some(labels);
        self.tell(Event::AorInserted);
        Outcome::AorInserted
    }
}
