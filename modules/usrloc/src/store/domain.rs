//! A table of AoRs.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ahash::RandomState;
use parking_lot::Mutex;
use tandem_clock::{Chance, Now};
use tandem_sip::sip_hash;

use super::aor::{Aor, Contacts, Graves};
use super::change::{Done, Origin, Sink, Tombstone};
use super::contact::{Contact, Local};
use super::digest::Digester;
use super::edit::Edit;

/// Buckets of a digest: the low 8 bits of the wire hash.
pub const BUCKETS: usize = 256;
/// A contact that ends within this time is in no digest, since clocks differ.
const DIGEST_MARGIN_S: u64 = 10;
/// Deletes that a domain remembers, at most; beyond it the first one is forgotten first.
const GRAVES_MAX: usize = if cfg!(test) { 1 << 15 } else { 1 << 20 };

/// What a domain holds, in figures that every node computes the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    pub count: u64,
    pub buckets: [u64; BUCKETS],
}

/// A record of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Contact { aor: Arc<[u8]>, contact: Arc<Contact> },
    Tombstone { aor: Arc<[u8]>, tombstone: Tombstone },
}

/// A table such as `location`. Shared by all workers; each shard has its own lock.
#[derive(Debug)]
pub struct Domain {
    name: String,
    shards: Vec<Mutex<Shard>>,
    newest_first: bool,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) aors: HashMap<Arc<[u8]>, Aor, RandomState>,
    /// Where a contact id lives. Its size is the number of contacts.
    pub(super) ids: HashMap<u64, Arc<[u8]>, RandomState>,
    pub(super) graves: HashMap<Arc<[u8]>, Graves, RandomState>,
    /// AoRs in the order in which something was deleted from them.
    buried: VecDeque<(u64, Arc<[u8]>)>,
    pub(super) next_label: u32,
    graves_max: usize,
}

impl Domain {
    /// A table with `2^hash_size` shards (0 to 16). `newest_first` is `desc_time_order`.
    pub fn new(name: &str, hash_size: u32, newest_first: bool, chance: &mut Chance) -> Self {
        let count = 1usize << hash_size.min(16);
        let state = chance.hash_key().state();
        let mut shard = || {
            Mutex::new(Shard {
                aors: HashMap::with_hasher(state.clone()),
                ids: HashMap::with_hasher(state.clone()),
                graves: HashMap::with_hasher(state.clone()),
                buried: VecDeque::new(),
                next_label: chance.u32(),
                graves_max: (GRAVES_MAX / count).max(TOMBSTONES_A_SHARD_MIN),
            })
        };
        let shards = (0..count).map(|_| shard()).collect();
        Self { name: name.into(), shards, newest_first }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shards; management shows it as `hash_size`.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    fn shard_of(&self, aor: &[u8]) -> (usize, u32) {
        let hash = sip_hash(aor);
        (hash as usize & (self.shards.len() - 1), hash)
    }

    /// Changes one AoR: `change` reads and applies under the lock of the shard, and must not
    /// take another lock. What happened comes back for events, SQL and timers.
    pub fn edit<R>(
        &self,
        aor: &[u8],
        now: Now,
        origin: Origin,
        sink: &dyn Sink,
        change: impl FnOnce(&mut Edit<'_>) -> R,
    ) -> (R, Done) {
        let (at, hash) = self.shard_of(aor);
        let mut scope = Digester::default();
        scope.text(self.name.as_bytes());
        scope.text(aor);
        let mut shard = self.shards[at].lock();
        let key = shard.aors.get_key_value(aor).map_or_else(|| aor.into(), |(k, _)| Arc::clone(k));
        let mut edit = Edit::new(&mut shard, at, hash, key, scope, now, origin, sink);
        let result = change(&mut edit);
        (result, edit.finish())
    }

    /// The contacts of an AoR that have not expired, by q (or newest first).
    pub fn lookup(&self, aor: &[u8], now_s: u64) -> Contacts {
        let shard = self.shards[self.shard_of(aor).0].lock();
        let Some(record) = shard.aors.get(aor) else { return Contacts::new() };
        let live = record.contacts.iter().filter(|s| !s.contact.is_expired(now_s));
        let mut found: Contacts = live.map(|s| Arc::clone(&s.contact)).collect();
        drop(shard);
        sort(&mut found, self.newest_first);
        found
    }

    /// Puts contacts into the order in which they are shown and tried.
    pub fn sort(&self, contacts: &mut Contacts) {
        sort(contacts, self.newest_first);
    }

    /// The contacts of an AoR as they are, with their local state.
    pub fn all_of(&self, aor: &[u8]) -> Vec<(Arc<Contact>, Local)> {
        let shard = self.shards[self.shard_of(aor).0].lock();
        let slots = shard.aors.get(aor).map(|record| record.contacts.iter());
        let slots = slots.into_iter().flatten();
        slots.map(|s| (Arc::clone(&s.contact), s.local.clone())).collect()
    }

    /// The AoR of a contact id, if the contact is still there.
    pub fn aor_of(&self, id: u64) -> Option<Arc<[u8]>> {
        self.shards[self.shard_of_id(id)].lock().ids.get(&id).cloned()
    }

    /// Works on the local state of a contact.
    pub fn with_local<R>(
        &self,
        id: u64,
        work: impl FnOnce(&Arc<Contact>, &mut Local) -> R,
    ) -> Option<R> {
        let mut shard = self.shards[self.shard_of_id(id)].lock();
        let aor = shard.ids.get(&id).cloned()?;
        let record = shard.aors.get_mut(&aor)?;
        let at = record.position(id)?;
        let slot = record.contacts.get_mut(at)?;
        Some(work(&slot.contact, &mut slot.local))
    }

    /// An id carries the low 16 bits of the hash, and there are at most 2^16 shards.
    fn shard_of_id(&self, id: u64) -> usize {
        (id >> 46) as usize & (self.shards.len() - 1)
    }

    /// AoRs with a contact.
    pub fn aor_count(&self) -> usize {
        self.shards.iter().map(|s| s.lock().aors.len()).sum()
    }

    pub fn contact_count(&self) -> usize {
        self.shards.iter().map(|s| s.lock().ids.len()).sum()
    }

    /// Deletes that are remembered.
    pub fn tombstone_count(&self) -> usize {
        let of = |s: &Mutex<Shard>| s.lock().graves.values().map(Graves::len).sum::<usize>();
        self.shards.iter().map(of).sum()
    }

    /// The contacts of one shard, in order of AoR: the unit of walks such as pinging and
    /// flushing, which must not hold one lock for long.
    pub fn shard_contacts(&self, shard: usize) -> Vec<(Arc<[u8]>, Arc<Contact>, Local)> {
        let Some(shard) = self.shards.get(shard) else { return Vec::new() };
        let shard = shard.lock();
        let mut all: Vec<_> = shard
            .aors
            .iter()
            .flat_map(|(aor, record)| record.contacts.iter().map(move |slot| (aor, slot)))
            .map(|(aor, s)| (Arc::clone(aor), Arc::clone(&s.contact), s.local.clone()))
            .collect();
        drop(shard);
        all.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.id.cmp(&b.1.id)));
        all
    }

    /// The record label and the next contact label of an AoR.
    pub fn labels(&self, aor: &[u8]) -> Option<(u32, u16)> {
        let shard = self.shards[self.shard_of(aor).0].lock();
        shard.aors.get(aor).map(|a| (a.record_label, a.next_label))
    }

    /// Count and sums over everything that is replicated and lives at least 10 s more.
    pub fn digests(&self, now_s: u64) -> Digests {
        let mut digests = Digests { count: 0, buckets: [0; BUCKETS] };
        for shard in &self.shards {
            for slot in shard.lock().aors.values().flat_map(|a| &a.contacts) {
                let contact = &slot.contact;
                if !contact.is_expired(now_s + DIGEST_MARGIN_S) {
                    let sum = &mut digests.buckets[(contact.id >> 46) as usize % BUCKETS];
                    *sum = sum.wrapping_add(contact.digest);
                    digests.count += 1;
                }
            }
        }
        digests
    }

    /// Everything in one bucket that a Tandem peer has to know, deletes included, in a fixed
    /// order.
    pub fn snapshot(&self, bucket: u8, now_s: u64) -> Vec<Record> {
        let bucket = usize::from(bucket);
        let step = self.shards.len().min(BUCKETS);
        let mut records = Vec::new();
        for shard in self.shards.iter().skip(bucket % step).step_by(step) {
            let shard = shard.lock();
            let is_here = |aor: &&Arc<[u8]>| sip_hash(aor) as usize % BUCKETS == bucket;
            for (aor, record) in shard.aors.iter().filter(|(aor, _)| is_here(aor)) {
                let live = record.contacts.iter().filter(|s| !s.contact.is_expired(now_s));
                records.extend(live.map(|s| Record::Contact {
                    aor: Arc::clone(aor),
                    contact: Arc::clone(&s.contact),
                }));
            }
            for (aor, graves) in shard.graves.iter().filter(|(aor, _)| is_here(aor)) {
                let live = graves.iter().filter(|t| t.until_s > now_s).cloned();
                records.extend(
                    live.map(|tombstone| Record::Tombstone { aor: Arc::clone(aor), tombstone }),
                );
            }
        }
        records.sort_by(|a, b| record_order(a).cmp(&record_order(b)));
        records
    }
}

/// So that a domain of many shards still remembers a burst in one of them.
const TOMBSTONES_A_SHARD_MIN: usize = 1024;

impl Shard {
    /// Remembers a delete, bounded in number and time.
    pub(super) fn bury(&mut self, aor: &Arc<[u8]>, tombstone: Tombstone, now_s: u64) {
        self.buried.push_back((tombstone.until_s, Arc::clone(aor)));
        self.graves.entry(Arc::clone(aor)).or_default().add(tombstone);
        loop {
            let is_full = self.buried.len() > self.graves_max;
            let Some((_, aor)) =
                self.buried.pop_front_if(|(until_s, _)| is_full || *until_s <= now_s)
            else {
                break;
            };
            self.forget(&aor, now_s, is_full);
        }
    }

    fn forget(&mut self, aor: &Arc<[u8]>, now_s: u64, all: bool) {
        let Some(graves) = self.graves.get_mut(aor) else { return };
        graves.forget(if all { u64::MAX } else { now_s });
        if graves.is_empty() {
            self.graves.remove(aor);
        }
    }

    /// Forgets the delete of a contact that was written again.
    pub(super) fn exhume(&mut self, aor: &[u8], uri: &[u8], call_id: Option<&[u8]>) {
        if let Some(graves) = self.graves.get_mut(aor) {
            graves.remove(uri, call_id);
            if graves.is_empty() {
                self.graves.remove(aor);
            }
        }
    }
}

/// Higher q first, contacts of equal q in the order in which they came; or newest first.
fn sort(contacts: &mut Contacts, newest_first: bool) {
    if contacts.len() < 2 {
        return;
    }
    if newest_first {
        contacts.sort_by_key(|c| std::cmp::Reverse((c.last_modified_s, c.stamp)));
    } else {
        contacts.sort_by_key(|c| std::cmp::Reverse(c.q));
    }
}

fn record_order(record: &Record) -> (&[u8], u8, &[u8], &[u8]) {
    match record {
        Record::Contact { aor, contact } => (aor, 0, contact.uri(), contact.call_id()),
        Record::Tombstone { aor, tombstone } => (aor, 1, &tombstone.uri, &tombstone.call_id),
    }
}
