//! The rules by which changes of one AoR win or lose, and the deletes that are remembered.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ahash::RandomState;
use smallvec::SmallVec;

use super::change::{Stamp, Tombstone};
use super::contact::Contact;

/// Contacts of one AoR, at most.
pub const CONTACTS_MAX: usize = 512;
/// Deletes of one AoR that are remembered, at most; the oldest is forgotten.
pub const TOMBSTONES_MAX: usize = 64;
/// Contact labels have 14 bits.
pub(crate) const LABELS: u16 = 1 << 14;

/// Which of two states of one contact is the later one (decisions: "Contacts that conflict").
/// Equal stamps with different contents are parted by their digest, so that every node keeps
/// the same one.
pub(super) fn compare(a: &Contact, b: &Contact) -> Ordering {
    let by_cseq = if a.call_id() == b.call_id() { a.cseq.cmp(&b.cseq) } else { Ordering::Equal };
    by_cseq.then(a.stamp().cmp(&b.stamp())).then(a.digest.cmp(&b.digest))
}

/// The deletes of one AoR that are remembered.
#[derive(Debug, Default)]
pub(super) struct Graves(SmallVec<[Tombstone; 1]>);

impl Graves {
    /// The delete of the contact with this name.
    pub(super) fn find(&self, uri: &[u8], call_id: Option<&[u8]>) -> Option<&Tombstone> {
        self.0.iter().find(|t| is_named(t, uri, call_id))
    }

    /// Remembers a delete; the later one of the same name stays.
    fn add(&mut self, tombstone: Tombstone) {
        let call_id = tombstone.keyed_by_call_id.then_some(tombstone.call_id());
        if let Some(old) = self.0.iter_mut().find(|t| is_named(t, tombstone.uri(), call_id)) {
            if order(old) < order(&tombstone) {
                *old = tombstone;
            }
            return;
        }
        if self.0.len() >= TOMBSTONES_MAX {
            let oldest = self.0.iter().enumerate().min_by_key(|(_, t)| t.stamp).map(|(n, _)| n);
            oldest.map(|n| self.0.swap_remove(n));
        }
        self.0.push(tombstone);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tombstone> {
        self.0.iter()
    }
}

fn is_named(t: &Tombstone, uri: &[u8], call_id: Option<&[u8]>) -> bool {
    t.uri() == uri
        && t.keyed_by_call_id == call_id.is_some()
        && call_id.is_none_or(|c| c == t.call_id())
}

fn order(t: &Tombstone) -> (Stamp, u32, u32, &[u8]) {
    (t.stamp, t.until_s, t.cseq, t.call_id())
}

/// The deletes of one shard that are remembered, bounded in number and time.
#[derive(Debug)]
pub(super) struct Graveyard {
    pub(super) graves: HashMap<Arc<[u8]>, Graves, RandomState>,
    /// AoRs in the order in which something was deleted from them.
    buried: VecDeque<(u32, Arc<[u8]>)>,
    max: usize,
}

impl Graveyard {
    pub(super) fn new(hasher: RandomState, max: usize) -> Self {
        Self { graves: HashMap::with_hasher(hasher), buried: VecDeque::new(), max }
    }

    pub(super) fn of(&self, aor: &[u8]) -> Option<&Graves> {
        // Most tables remember nothing most of the time.
        if self.graves.is_empty() { None } else { self.graves.get(aor) }
    }

    pub(super) fn len(&self) -> usize {
        self.graves.values().map(|g| g.0.len()).sum()
    }

    /// Remembers a delete.
    pub(super) fn bury(&mut self, aor: &[u8], tombstone: Tombstone, now_s: u64) {
        let key = self.graves.get_key_value(aor).map(|(key, _)| Arc::clone(key));
        let key = key.unwrap_or_else(|| aor.into());
        self.buried.push_back((tombstone.until_s, Arc::clone(&key)));
        self.graves.entry(key).or_default().add(tombstone);
        self.forget(now_s);
    }

    /// Forgets what is over, or too much; the first one buried first.
    pub(super) fn forget(&mut self, now_s: u64) {
        loop {
            let is_full = self.buried.len() > self.max;
            let is_over = |(until_s, _): &mut (u32, _)| is_full || u64::from(*until_s) <= now_s;
            let Some((_, aor)) = self.buried.pop_front_if(is_over) else { break };
            let Some(graves) = self.graves.get_mut(&aor) else { continue };
            graves.0.retain(|t| !is_full && u64::from(t.until_s) > now_s);
            if graves.0.is_empty() {
                self.graves.remove(&aor);
            }
        }
    }

    /// Forgets the delete of a contact that was written again.
    pub(super) fn exhume(&mut self, aor: &[u8], uri: &[u8], call_id: Option<&[u8]>) {
        if self.graves.is_empty() {
            return;
        }
        if let Some(graves) = self.graves.get_mut(aor) {
            graves.0.retain(|t| !is_named(t, uri, call_id));
            if graves.0.is_empty() {
                self.graves.remove(aor);
            }
        }
    }
}

/// A contact as an AoR gives it out.
pub type Contacts = SmallVec<[Arc<Contact>; 2]>;
