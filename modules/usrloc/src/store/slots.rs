//! The contacts of one shard, in slabs with small indexes.
//!
//! A contact costs one slot, a place in two hash tables of numbers (by AoR, by id), and a place
//! in the list of those that end at about the same time. An AoR has no record of its own: it is
//! the chain of its contacts, oldest first.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashTable;

use super::contact::Contact;
use super::domain::BUCKETS;
use super::local::Local;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;
/// Slots that are allocated together.
const CHUNK: usize = 32;
/// Ends are gathered to at most this many seconds.
const GRAIN_MAX_S: u32 = 32;

/// A contact in its place.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) contact: Arc<Contact>,
    pub(super) local: Local,
    /// Next contact of the AoR.
    next: u32,
    /// Key in the list of ends; 0: it is in none.
    due: u32,
    due_next: u32,
    due_prev: u32,
}

/// What has come due.
#[derive(Debug, Default)]
pub struct Due {
    /// Contacts that have ended.
    pub ended: Vec<Arc<Contact>>,
    /// Push contacts that want to be woken.
    pub to_wake: Vec<Arc<Contact>>,
    /// AoRs that no contact came for.
    pub empty: Vec<Arc<[u8]>>,
}

#[derive(Debug)]
pub(super) struct Slots {
    chunks: Vec<Box<[Option<Slot>]>>,
    free: Vec<u32>,
    by_aor: HashTable<u32>,
    by_id: HashTable<u32>,
    hasher: RandomState,
    due: BTreeMap<u32, u32>,
    /// The sum of the digests of each bucket of this shard.
    sums: Box<[u64]>,
    /// Shards of the table, at most [`BUCKETS`]: how far its buckets lie apart.
    stride: usize,
}

impl Slots {
    pub(super) fn new(hasher: RandomState, shards: usize) -> Self {
        let stride = shards.clamp(1, BUCKETS);
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            by_aor: HashTable::new(),
            by_id: HashTable::new(),
            hasher,
            due: BTreeMap::new(),
            sums: vec![0; BUCKETS / stride].into_boxed_slice(),
            stride,
        }
    }

    pub(super) fn aor_count(&self) -> usize {
        self.by_aor.len()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Place of the first contact of an AoR, or [`NONE`].
    pub(super) fn first(&self, aor: &[u8]) -> u32 {
        self.first_hashed(self.hash_of(aor), aor)
    }

    /// What the index of AoRs knows an AoR by.
    pub(super) fn hash_of(&self, aor: &[u8]) -> u64 {
        self.hasher.hash_one(aor)
    }

    /// As [`Slots::first`], with the hash of the AoR at hand.
    pub(super) fn first_hashed(&self, hash: u64, aor: &[u8]) -> u32 {
        let is_it = |at: &u32| self.slot(*at).is_some_and(|s| s.contact.aor() == aor);
        self.by_aor.find(hash, is_it).copied().unwrap_or(NONE)
    }

    /// The contacts of an AoR with their places, oldest first.
    pub(super) fn of(&self, aor: &[u8]) -> impl Iterator<Item = (u32, &Slot)> {
        self.chain(self.first(aor))
    }

    /// As [`Slots::of`], from the place of the first on.
    pub(super) fn from(&self, first: u32) -> impl Iterator<Item = (u32, &Slot)> {
        self.chain(first)
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = (u32, &Slot)> {
        let mut at = first;
        std::iter::from_fn(move || {
            let (found, slot) = (at, self.slot(at)?);
            at = slot.next;
            Some((found, slot))
        })
    }

    pub(super) fn place_of(&self, id: u64) -> Option<u32> {
        let is_it = |at: &u32| self.slot(*at).is_some_and(|s| s.contact.id == id);
        self.by_id.find(self.hasher.hash_one(id), is_it).copied()
    }

    /// All contacts, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.chunks.iter().flatten().flatten()
    }

    pub(super) fn slot(&self, at: u32) -> Option<&Slot> {
        self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)?.as_ref()
    }

    pub(super) fn slot_mut(&mut self, at: u32) -> Option<&mut Slot> {
        self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)?.as_mut()
    }

    /// The id of the contact at `first` and the label that its AoR gives out next.
    pub(super) fn next_label(&self, first: u32) -> Option<(u64, u16)> {
        self.slot(first).map(|s| (s.contact.id, s.local.next_label))
    }

    pub(super) fn set_next_label(&mut self, aor: &[u8], label: u16) {
        let first = self.first(aor);
        if let Some(slot) = self.slot_mut(first) {
            slot.local.next_label = label;
        }
    }

    /// Adds a contact whose id is not there yet, as the last of its AoR; gives its place.
    pub(super) fn insert(&mut self, contact: Arc<Contact>, local: Local, clock: Clock) -> u32 {
        let (id, digest) = (contact.id, contact.digest);
        let last = self.chain(self.first(contact.aor())).last().map(|(at, _)| at);
        let aor_hash = self.hasher.hash_one(contact.aor());
        let at = self.take_place(Slot {
            contact,
            local,
            next: NONE,
            due: 0,
            due_next: NONE,
            due_prev: NONE,
        });
        match last.and_then(|last| self.slot_mut(last)) {
            Some(last) => last.next = at,
            None => {
                let Self { by_aor, chunks, hasher, .. } = self;
                by_aor.insert_unique(aor_hash, at, |at| hash_of_aor(chunks, hasher, *at));
            }
        }
        self.index_id(id, at);
        self.add_to_sum(id, digest);
        self.link(at, clock);
        at
    }

    fn index_id(&mut self, id: u64, at: u32) {
        let hash = self.hasher.hash_one(id);
        let Self { by_id, chunks, hasher, .. } = self;
        by_id.insert_unique(hash, at, |at| hash_of_id(chunks, hasher, *at));
    }

    fn unindex_id(&mut self, id: u64) {
        let hash = self.hasher.hash_one(id);
        let Self { by_id, chunks, .. } = self;
        let is_it = |at: &u32| slot_in(chunks, *at).is_some_and(|s| s.contact.id == id);
        if let Ok(entry) = by_id.find_entry(hash, is_it) {
            entry.remove();
        }
    }

    fn take_place(&mut self, slot: Slot) -> u32 {
        if self.free.is_empty() {
            let start = (self.chunks.len() * CHUNK) as u32;
            self.chunks.push((0..CHUNK).map(|_| None).collect());
            self.free.extend((start..start + CHUNK as u32).rev());
        }
        let at = self.free.pop().unwrap_or(NONE);
        let place = self.chunks.get_mut(at as usize / CHUNK);
        if let Some(place) = place.and_then(|chunk| chunk.get_mut(at as usize % CHUNK)) {
            *place = Some(slot);
        }
        at
    }

    /// Puts another state of a contact into its place, and gives the old one.
    pub(super) fn replace(
        &mut self,
        at: u32,
        contact: Arc<Contact>,
        clock: Clock,
    ) -> Option<Arc<Contact>> {
        let (id, digest) = (contact.id, contact.digest);
        let old_id = self.slot(at)?.contact.id;
        if id != old_id {
            self.unindex_id(old_id);
        }
        let slot = self.slot_mut(at)?;
        slot.local.is_woken = false;
        let old = std::mem::replace(&mut slot.contact, contact);
        if id != old_id {
            self.index_id(id, at);
        }
        self.add_to_sum(old_id, 0u64.wrapping_sub(old.digest));
        self.add_to_sum(id, digest);
        self.link(at, clock);
        Some(old)
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<Slot> {
        self.unlink(at);
        let slot = self.slot(at)?;
        let (id, next, next_label) = (slot.contact.id, slot.next, slot.local.next_label);
        let contact = Arc::clone(&slot.contact);
        let first = self.first(contact.aor());
        if first == at {
            self.set_first(contact.aor(), next);
            if let Some(next) = self.slot_mut(next) {
                next.local.next_label = next_label;
            }
        } else {
            let before = self.chain(first).find(|(_, s)| s.next == at).map(|(at, _)| at);
            if let Some(before) = before.and_then(|before| self.slot_mut(before)) {
                before.next = next;
            }
        }
        self.unindex_id(id);
        self.add_to_sum(id, 0u64.wrapping_sub(contact.digest));
        self.free.push(at);
        self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)?.take()
    }

    fn set_first(&mut self, aor: &[u8], first: u32) {
        let hash = self.hasher.hash_one(aor);
        let Self { by_aor, chunks, .. } = self;
        let is_it = |at: &u32| slot_in(chunks, *at).is_some_and(|s| s.contact.aor() == aor);
        if let Ok(mut entry) = by_aor.find_entry(hash, is_it) {
            if first == NONE {
                entry.remove();
            } else {
                *entry.get_mut() = first;
            }
        }
    }

    fn add_to_sum(&mut self, id: u64, digest: u64) {
        let at = (id >> 46) as usize % BUCKETS / self.stride;
        if let Some(sum) = self.sums.get_mut(at) {
            *sum = sum.wrapping_add(digest);
        }
    }

    /// The sums of the buckets of this shard, which is the `shard`th: (bucket, sum).
    pub(super) fn sums(&self, shard: usize) -> impl Iterator<Item = (usize, u64)> {
        let first = shard % self.stride;
        self.sums.iter().enumerate().map(move |(n, sum)| (first + n * self.stride, *sum))
    }

    /// Contacts that end at `until_s` or before.
    pub(super) fn ending(&self, until_s: u64) -> impl Iterator<Item = &Contact> {
        let last = u32::try_from(until_s).unwrap_or(u32::MAX).saturating_add(GRAIN_MAX_S);
        let lists = self.due.range(..=last).map(|(_, first)| *first);
        let all = lists.flat_map(move |first| self.due_list(first));
        all.map(|slot| &*slot.contact).filter(move |c| c.is_expired(until_s))
    }

    fn due_list(&self, first: u32) -> impl Iterator<Item = &Slot> {
        let mut at = first;
        std::iter::from_fn(move || {
            let slot = self.slot(at)?;
            at = slot.due_next;
            Some(slot)
        })
    }

    /// Takes up to `max` contacts out that have come due. What has ended stays until it is
    /// removed, and comes due again if it is not.
    pub(super) fn pop_due(&mut self, clock: Clock, max: usize, due: &mut Due) -> bool {
        let mut ended = Vec::new();
        for _ in 0..max {
            let Some((_, &at)) = self.due.first_key_value().filter(|(key, _)| **key <= clock.now())
            else {
                break;
            };
            self.unlink(at);
            let Some(slot) = self.slot_mut(at) else { continue };
            if slot.contact.is_expired(clock.now_s) {
                due.ended.push(Arc::clone(&slot.contact));
                ended.push(at);
                continue;
            }
            if clock.wakes_at(slot).is_some_and(|wake_s| wake_s <= clock.now()) {
                slot.local.is_woken = true;
                due.to_wake.push(Arc::clone(&slot.contact));
            }
            self.link(at, clock);
        }
        for at in ended {
            self.link_at(at, clock.now().max(1));
        }
        self.due.first_key_value().is_some_and(|(key, _)| *key < clock.now())
    }

    /// Has a contact come due in time. One that is to come earlier than needed stays: when it
    /// does, it is put where it belongs then.
    fn link(&mut self, at: u32, clock: Clock) {
        let Some(slot) = self.slot(at) else { return };
        let ends = slot.contact.expires_s();
        if ends == 0 {
            return;
        }
        let ends = u32::try_from(ends).unwrap_or(u32::MAX);
        let due = clock.wakes_at(slot).map_or(ends, |wake_s| wake_s.min(ends));
        let key = gathered(due, clock.now());
        if slot.due != 0 && slot.due <= key {
            return;
        }
        self.unlink(at);
        self.link_at(at, key);
    }

    fn link_at(&mut self, at: u32, key: u32) {
        let first = self.due.insert(key, at).unwrap_or(NONE);
        if let Some(first) = self.slot_mut(first) {
            first.due_prev = at;
        }
        if let Some(slot) = self.slot_mut(at) {
            (slot.due, slot.due_next, slot.due_prev) = (key, first, NONE);
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some(slot) = self.slot_mut(at).filter(|s| s.due != 0) else { return };
        let (key, next, prev) = (slot.due, slot.due_next, slot.due_prev);
        (slot.due, slot.due_next, slot.due_prev) = (0, NONE, NONE);
        if let Some(next) = self.slot_mut(next) {
            next.due_prev = prev;
        }
        if let Some(prev) = self.slot_mut(prev) {
            prev.due_next = next;
        } else if next == NONE {
            self.due.remove(&key);
        } else {
            self.due.insert(key, next);
        }
    }
}

/// What the lists of ends need to know of time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    pub(super) now_s: u64,
    /// Push contacts are woken this long before they end; 0: never.
    pub(super) wake_before_s: u32,
}

impl Clock {
    fn now(self) -> u32 {
        u32::try_from(self.now_s).unwrap_or(u32::MAX)
    }

    fn wakes_at(self, slot: &Slot) -> Option<u32> {
        let is_to_wake = self.wake_before_s > 0 && slot.contact.is_push() && !slot.local.is_woken;
        let ends =
            u32::try_from(slot.contact.expires_s()).ok().filter(|s| *s != 0 && is_to_wake)?;
        Some(ends.saturating_sub(self.wake_before_s).max(1))
    }
}

/// An end together with others of about that time: what lives long may be dropped a little
/// later, since `lookup` never sees what has ended.
fn gathered(due_s: u32, now_s: u32) -> u32 {
    let left = due_s.saturating_sub(now_s) / 64;
    let grain = left.checked_ilog2().map_or(1, |bits| 1 << bits).min(GRAIN_MAX_S);
    due_s.checked_next_multiple_of(grain).unwrap_or(due_s).max(1)
}

fn slot_in(chunks: &[Box<[Option<Slot>]>], at: u32) -> Option<&Slot> {
    chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)?.as_ref()
}

fn hash_of_aor(chunks: &[Box<[Option<Slot>]>], hasher: &RandomState, at: u32) -> u64 {
    slot_in(chunks, at).map_or(0, |s| hasher.hash_one(s.contact.aor()))
}

fn hash_of_id(chunks: &[Box<[Option<Slot>]>], hasher: &RandomState, at: u32) -> u64 {
    slot_in(chunks, at).map_or(0, |s| hasher.hash_one(s.contact.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Option<Slot>>() <= 48, "{}", size_of::<Option<Slot>>());
    }

    #[test]
    fn ends_are_gathered_by_how_far_away_they_are() {
        assert_eq!(gathered(1060, 1000), 1060);
        assert_eq!(gathered(1301, 1000), 1304);
        assert_eq!(gathered(4601, 1000), 4608);
        assert_eq!(gathered(900, 1000), 900);
        assert_eq!(gathered(u32::MAX, 0), u32::MAX);
    }
}
