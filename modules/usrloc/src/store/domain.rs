//! A table of AoRs.

use std::cmp::Ordering as Compared;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tandem_clock::{Chance, Now};
use tandem_cluster::Digester;
use tandem_sip::sip_hash;

use super::aor::{Contacts, Graveyard};
use super::change::{Done, Origin, Sink, Tombstone};
use super::contact::Contact;
use super::edit::{At, Edit};
use super::empty::Empties;
use super::local::Local;
use super::shared::Pool;
use super::slots::{Clock, Due, Slots};
use super::turns::{PingPlan, Place, Turns};

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
    Contact(Arc<Contact>),
    Tombstone { aor: Arc<[u8]>, tombstone: Tombstone },
}

/// A table such as `location`. Shared by all workers; each shard has its own lock.
#[derive(Debug)]
pub struct Domain {
    name: String,
    shards: Vec<Mutex<Shard>>,
    pool: Pool,
    newest_first: bool,
    wake_before_s: AtomicU32,
    /// Where contacts are pinged, if they are.
    turns: OnceLock<Turns>,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) slots: Slots,
    pub(super) empty: Empties,
    pub(super) graves: Graveyard,
    pub(super) next_label: u32,
}

impl Domain {
    /// A table with `2^hash_size` shards (0 to 16). `newest_first` is `desc_time_order`.
    pub fn new(name: &str, hash_size: u32, newest_first: bool, chance: &mut Chance) -> Self {
        let count = 1usize << hash_size.min(16);
        let state = chance.hash_key().state();
        let graves_max = (GRAVES_MAX / count).max(TOMBSTONES_A_SHARD_MIN);
        let mut shard = || {
            Mutex::new(Shard {
                slots: Slots::new(state.clone(), count),
                empty: Empties::new(state.clone()),
                graves: Graveyard::new(state.clone(), graves_max),
                next_label: chance.u32(),
            })
        };
        let shards = (0..count).map(|_| shard()).collect();
        let pool = Pool::new(state.clone());
        let (wake_before_s, turns) = (AtomicU32::new(0), OnceLock::new());
        Self { name: name.into(), shards, pool, newest_first, wake_before_s, turns }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has push contacts come due this long before they end; 0: never. For contacts that are
    /// written from now on.
    pub fn wake_before(&self, seconds: u32) {
        self.wake_before_s.store(seconds, Ordering::Relaxed);
    }

    fn clock(&self, now_s: u64) -> Clock {
        Clock { now_s, wake_before_s: self.wake_before_s.load(Ordering::Relaxed) }
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
        let (shard_at, hash) = self.shard_of(aor);
        let mut scope = Digester::default();
        scope.text(self.name.as_bytes());
        scope.text(aor);
        let clock = self.clock(now.unix_s());
        let turns = self.turns.get();
        let at = At { aor, hash, shard_at, scope, clock, pool: &self.pool, turns };
        let mut shard = self.shards[shard_at].lock();
        let mut edit = Edit::new(&mut shard, at, origin, sink);
        let result = change(&mut edit);
        (result, edit.finish())
    }

    /// The contacts of an AoR that have not expired, by q (or newest first).
    pub fn lookup(&self, aor: &[u8], now_s: u64) -> Contacts {
        let shard = self.shards[self.shard_of(aor).0].lock();
        let live = shard.slots.of(aor).filter(|(_, s)| !s.contact.is_expired(now_s));
        let mut found: Contacts = live.map(|(_, s)| Arc::clone(&s.contact)).collect();
        drop(shard);
        self.sort(&mut found);
        found
    }

    /// Puts contacts into the order in which they are shown and tried.
    pub fn sort(&self, contacts: &mut Contacts) {
        if contacts.len() > 1 {
            contacts.sort_by(|a, b| self.order(a, b));
        }
    }

    /// Higher q first, contacts of equal q in the order in which they came; or newest first.
    fn order(&self, a: &Contact, b: &Contact) -> Compared {
        if self.newest_first {
            let age = |c: &Contact| (c.last_modified_s(), c.stamp());
            age(b).cmp(&age(a))
        } else {
            b.q().cmp(&a.q())
        }
    }

    /// The contacts of an AoR as they are, with their local state, in their order.
    pub fn all_of(&self, aor: &[u8]) -> Vec<(Arc<Contact>, Local)> {
        let shard = self.shards[self.shard_of(aor).0].lock();
        let slots = shard.slots.of(aor);
        let mut all: Vec<_> =
            slots.map(|(_, s)| (Arc::clone(&s.contact), s.local.clone())).collect();
        drop(shard);
        all.sort_by(|(a, _), (b, _)| self.order(a, b));
        all
    }

    /// The contact with an id, if it is still there.
    pub fn by_id(&self, id: u64) -> Option<Arc<Contact>> {
        self.with_local(id, |contact, _| Arc::clone(contact))
    }

    /// Works on the local state of a contact.
    pub fn with_local<R>(
        &self,
        id: u64,
        work: impl FnOnce(&Arc<Contact>, &mut Local) -> R,
    ) -> Option<R> {
        let mut shard = self.shards[self.shard_of_id(id)].lock();
        let at = shard.slots.place_of(id)?;
        let slot = shard.slots.slot_mut(at)?;
        Some(work(&slot.contact, &mut slot.local))
    }

    /// As [`Domain::with_local`], of a contact that is probably at `near`.
    pub fn with_local_near<R>(
        &self,
        near: Place,
        id: u64,
        work: impl FnOnce(&Arc<Contact>, &mut Local) -> R,
    ) -> Option<R> {
        let shard_at = self.shard_of_id(id);
        let mut shard = self.shards[shard_at].lock();
        let is_it = |at: &u32| shard.slots.slot(*at).is_some_and(|s| s.contact.id == id);
        let guess = Some(near.at()).filter(|at| near.shard() == shard_at && is_it(at));
        let at = guess.or_else(|| shard.slots.place_of(id))?;
        let slot = shard.slots.slot_mut(at)?;
        Some(work(&slot.contact, &mut slot.local))
    }

    /// Where the contact with an id is now.
    pub fn place_of(&self, id: u64) -> Option<Place> {
        let shard_at = self.shard_of_id(id);
        let at = self.shards[shard_at].lock().slots.place_of(id)?;
        Some(Place::new(shard_at, at))
    }

    /// Gives contacts that come from now on their turns to be pinged; once in a table's life.
    pub fn plan_pings(&self, plan: PingPlan) {
        self.turns.get_or_init(|| Turns::new(plan));
    }

    /// Contacts that have turns to be pinged.
    pub fn pinged_count(&self) -> usize {
        self.turns.get().map_or(0, Turns::len)
    }

    /// Whether a slot of the round has nobody to ping.
    pub fn has_no_turn(&self, slot: usize) -> bool {
        self.turns.get().is_none_or(|turns| turns.is_empty(slot))
    }

    /// Adds the places of the contacts whose turn a slot of the round is.
    pub fn turn(&self, slot: usize, places: &mut Vec<Place>) {
        if let Some(turns) = self.turns.get() {
            turns.members(slot, places);
        }
    }

    /// The contact at a place that was found in a slot; `None`: it has gone meanwhile.
    pub fn in_turn(&self, slot: usize, place: Place) -> Option<Arc<Contact>> {
        let shard = self.shards.get(place.shard())?.lock();
        let found = shard.slots.slot(place.at()).filter(|s| s.local.turn() == Some(slot));
        if let Some(found) = found {
            return Some(Arc::clone(&found.contact));
        }
        if let Some(turns) = self.turns.get() {
            turns.forget(slot, place);
        }
        None
    }

    /// A slot has had its turn, and these of its contacts were pinged.
    pub fn turn_ended(&self, slot: usize, pinged: &[Place]) {
        let Some(turns) = self.turns.get() else { return };
        for place in pinged.iter().take(turns.surplus(slot, pinged.len())) {
            let Some(shard) = self.shards.get(place.shard()) else { continue };
            if let Some(found) = shard.lock().slots.slot_mut(place.at()) {
                turns.shift(slot, *place, &mut found.local);
            }
        }
    }

    /// An id carries the low 16 bits of the hash, and there are at most 2^16 shards.
    fn shard_of_id(&self, id: u64) -> usize {
        (id >> 46) as usize & (self.shards.len() - 1)
    }

    pub fn aor_count(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.slots.aor_count() + shard.empty.len()
        };
        self.shards.iter().map(count).sum()
    }

    /// The AoRs of one shard that have no contact yet, in order.
    pub fn empty_aors(&self, shard: usize) -> Vec<Arc<[u8]>> {
        let Some(shard) = self.shards.get(shard) else { return Vec::new() };
        let mut all: Vec<_> = shard.lock().empty.aors().cloned().collect();
        all.sort();
        all
    }

    pub fn contact_count(&self) -> usize {
        self.shards.iter().map(|s| s.lock().slots.len()).sum()
    }

    /// Deletes that are remembered.
    pub fn tombstone_count(&self) -> usize {
        self.shards.iter().map(|s| s.lock().graves.len()).sum()
    }

    /// The contacts of one shard, in order of AoR: the unit of walks such as pinging and
    /// listing, which must not hold one lock for long.
    pub fn shard_contacts(&self, shard: usize) -> Vec<(Arc<Contact>, Local)> {
        let Some(shard) = self.shards.get(shard) else { return Vec::new() };
        let shard = shard.lock();
        let slots = shard.slots.iter();
        let mut all: Vec<_> = slots.map(|s| (Arc::clone(&s.contact), s.local.clone())).collect();
        drop(shard);
        all.sort_by(|(a, _), (b, _)| {
            a.aor().cmp(b.aor()).then_with(|| self.order(a, b)).then(a.id.cmp(&b.id))
        });
        all
    }

    /// Takes up to `max` contacts of a shard that have come due into `due`. True: there are more.
    pub fn pop_due(&self, shard: usize, now_s: u64, max: usize, due: &mut Due) -> bool {
        let Some(shard) = self.shards.get(shard) else { return false };
        let mut shard = shard.lock();
        shard.graves.forget(now_s);
        due.empty.append(&mut shard.empty.over(now_s));
        shard.slots.pop_due(self.clock(now_s), max, due)
    }

    /// The record label and the next contact label of an AoR.
    pub fn labels(&self, aor: &[u8]) -> Option<(u32, u16)> {
        let shard = self.shards[self.shard_of(aor).0].lock();
        shard.slots.next_label(shard.slots.first(aor)).map(|(id, next)| ((id >> 14) as u32, next))
    }

    /// Count and sums over everything that is replicated and lives at least 10 s more. The sums
    /// are kept up to date by each change, so this costs a look at each shard, and at what is
    /// about to end.
    pub fn digests(&self, now_s: u64) -> Digests {
        let mut digests = Digests { count: 0, buckets: [0; BUCKETS] };
        for (at, shard) in self.shards.iter().enumerate() {
            let shard = shard.lock();
            digests.count += shard.slots.len() as u64;
            for (bucket, sum) in shard.slots.sums(at) {
                let total = &mut digests.buckets[bucket % BUCKETS];
                *total = total.wrapping_add(sum);
            }
            for contact in shard.slots.ending(now_s + DIGEST_MARGIN_S) {
                let total = &mut digests.buckets[(contact.id >> 46) as usize % BUCKETS];
                *total = total.wrapping_sub(contact.digest);
                digests.count -= 1;
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
            let is_here = |id: u64| (id >> 46) as usize % BUCKETS == bucket;
            let contacts = shard.slots.iter().map(|s| &s.contact);
            let live = contacts.filter(|c| is_here(c.id) && !c.is_expired(now_s));
            records.extend(live.map(|c| Record::Contact(Arc::clone(c))));
            let is_here = |aor: &&Arc<[u8]>| sip_hash(aor) as usize % BUCKETS == bucket;
            for (aor, graves) in shard.graves.graves.iter().filter(|(aor, _)| is_here(aor)) {
                let live = graves.iter().filter(|t| u64::from(t.until_s) > now_s).cloned();
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

fn record_order(record: &Record) -> (&[u8], u8, &[u8], &[u8]) {
    match record {
        Record::Contact(contact) => (contact.aor(), 0, contact.uri(), contact.call_id()),
        Record::Tombstone { aor, tombstone } => (aor, 1, tombstone.uri(), tombstone.call_id()),
    }
}
