//! The dialogs of a node, in shards by Call-ID. [`Table::apply`] is the one way to change one.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tandem_clock::{Chance, Now, SEC};
use tandem_sip::sip_hash;

use crate::change::{Change, Origin, Refused, apply};
use crate::graves::Graves;
use crate::id::DialogId;
use crate::index::{Facts, Profile, Profiles};
use crate::local::Local;
use crate::record::{Dialog, Membership, Side, State};

/// Dialogs in memory, at most.
pub const DIALOGS_MAX: usize = 1_000_000;
/// Shards, and buckets of digests: the low 8 bits of the wire's hash.
pub const SHARDS: usize = 256;

/// A dialog with what only this node keeps of it.
#[derive(Debug)]
pub struct Entry {
    pub dialog: Dialog,
    pub local: Local,
    /// What the index of deadlines knows it under; 0: nothing.
    due_s: u64,
    /// Its part of the digest of the shard.
    digest: u64,
}

/// Where changes go. Called with the shard locked, so it must only append.
pub trait Sink {
    /// `change` has been carried out on `dialog`; `None`: the dialog is new. What is to reach the
    /// peers gets its stamp here. Gives what it adds to the digest that peers compare; 0: nothing.
    fn changed(
        &self,
        shard: usize,
        dialog: &mut Dialog,
        change: Option<&Told>,
        origin: Origin,
    ) -> u64;
}

/// What a [`Sink`] has to know of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The state, from this one on.
    State { before: State },
    /// One value, by its name.
    Value { name: Box<[u8]> },
    /// The number that this node made up towards a side.
    Generated { towards: Side, callee: u8 },
    /// What is owed, or paid.
    Debt,
    /// Something that only concerns this node's bookkeeping.
    Local,
    /// Anything else.
    Data,
}

/// What a change came to.
#[derive(Debug)]
pub struct Done {
    /// The state before and after.
    pub before: State,
    pub after: State,
    /// False: it was so before.
    pub changed: bool,
    /// The record as it is now, if it was asked for.
    pub record: Option<Box<Dialog>>,
    /// Places in profiles that are counted in a key-value store: into (1) and out of (-1) them.
    pub shared: Vec<(Membership, i32)>,
}

/// The dialogs.
#[derive(Debug)]
pub struct Table {
    pub(crate) shards: Vec<Mutex<Shard>>,
    /// Slots of the wire (`hash_size`), a power of 2.
    size: u32,
    len: AtomicUsize,
    pub profiles: Profiles,
}

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) entries: HashMap<u64, Box<Entry>, RandomState>,
    by_call: HashMap<Box<[u8]>, SmallVec<[u64; 1]>, RandomState>,
    /// Seconds of the monotonic clock and number.
    pub(crate) due: BTreeSet<(u64, u64)>,
    /// How many are in each state; see [`Facts`].
    states: [usize; 6],
    /// Count and sum of the digests of its dialogs.
    pub(crate) compared: (u64, u64),
    /// Ends that are remembered.
    pub(crate) graves: Graves,
}

impl Table {
    pub(crate) fn new(size: u32, profiles: Vec<Profile>, hash: RandomState) -> Self {
        let shard = |_| {
            Mutex::new(Shard {
                entries: HashMap::with_hasher(hash.clone()),
                by_call: HashMap::with_hasher(hash.clone()),
                due: BTreeSet::new(),
                states: [0; 6],
                compared: (0, 0),
                graves: Graves::default(),
            })
        };
        let shards = (0..SHARDS).map(shard).collect();
        let profiles = Profiles::new(profiles, hash.clone());
        Self { shards, size: size.next_power_of_two(), len: AtomicUsize::new(0), profiles }
    }

    /// The slot of a Call-ID on the wire.
    pub fn entry_of(&self, call_id: &[u8]) -> u32 {
        sip_hash(call_id) & (self.size - 1)
    }

    /// The shard of a dialog, which is also its bucket in digests.
    pub fn shard_of(id: DialogId) -> usize {
        id.entry as usize % SHARDS
    }

    pub(crate) fn shard(&self, id: DialogId) -> &Mutex<Shard> {
        &self.shards[Self::shard_of(id)]
    }

    /// A name for a new dialog. Nobody can guess the next one.
    pub fn new_id(&self, call_id: &[u8], chance: &mut Chance) -> DialogId {
        let entry = self.entry_of(call_id);
        let mut id = DialogId { entry, id: chance.u32() };
        let shard = self.shard(id).lock();
        while id.id == 0 || shard.entries.contains_key(&id.number()) {
            id.id = chance.u32();
        }
        id
    }

    /// Adds a dialog; one of the same name stays.
    ///
    /// # Errors
    /// When there are too many.
    pub fn insert(
        &self,
        now: Now,
        dialog: Dialog,
        local: Local,
        origin: Origin,
        sink: &dyn Sink,
    ) -> Result<bool, Refused> {
        if self.len.load(Ordering::Relaxed) >= DIALOGS_MAX {
            return Err(Refused::Full);
        }
        let number = dialog.id.number();
        let at = Self::shard_of(dialog.id);
        let mut shard = self.shards[at].lock();
        if shard.entries.contains_key(&number) {
            return Ok(false);
        }
        let mut entry = Box::new(Entry { dialog, local, due_s: 0, digest: 0 });
        entry.local.take_over(&entry.dialog, now);
        entry.digest = sink.changed(at, &mut entry.dialog, None, origin);
        shard.weigh(0, entry.digest);
        let facts = Facts::of(&entry.dialog);
        facts.enter(number, &self.profiles);
        shard.states[facts.state as usize] += 1;
        let call_id = entry.dialog.call_id.clone();
        shard.by_call.entry(call_id).or_default().push(number);
        shard.entries.insert(number, entry);
        shard.file_due(number);
        self.len.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Carries out one change: record, indexes and what the peers are told, under one lock.
    ///
    /// # Errors
    /// Why it was not made; nothing has changed then.
    pub fn apply(
        &self,
        now: Now,
        id: DialogId,
        origin: Origin,
        sink: &dyn Sink,
        change: Change,
    ) -> Result<Done, Refused> {
        self.apply_with(now, id, origin, sink, change, |_, moved| moved)
    }

    /// The same; `wants` says whether the record is wanted, by what it is now and whether the
    /// state has changed.
    pub fn apply_with(
        &self,
        now: Now,
        id: DialogId,
        origin: Origin,
        sink: &dyn Sink,
        change: Change,
        wants: impl FnOnce(&Dialog, bool) -> bool,
    ) -> Result<Done, Refused> {
        let (number, at) = (id.number(), Self::shard_of(id));
        let mut shard = self.shards[at].lock();
        let entry = shard.entries.get_mut(&number).ok_or(Refused::Unknown)?;
        let before = Facts::of(&entry.dialog);
        let told = told(&change, before.state);
        let now_s = u32::try_from(now.unix_s()).unwrap_or(u32::MAX);
        let changed = apply(&mut entry.dialog, change, now_s)?;
        let after = Facts::of(&entry.dialog);
        let weighed = entry.digest;
        if changed {
            entry.local.take_over(&entry.dialog, now);
            let told = if before.state == after.state {
                told
            } else {
                Told::State { before: before.state }
            };
            entry.digest = sink.changed(at, &mut entry.dialog, Some(&told), origin);
        }
        let weighs = entry.digest;
        let moved = before.state != after.state;
        let record = wants(&entry.dialog, moved).then(|| Box::new(entry.dialog.clone()));
        Facts::refile(&before, &after, number, &self.profiles);
        let due_s = entry.local.next_due_s(&entry.dialog);
        let was_due_s = std::mem::replace(&mut entry.due_s, due_s);
        shard.states[before.state as usize] -= 1;
        shard.states[after.state as usize] += 1;
        shard.weigh(weighed, weighs);
        shard.refile_due(number, was_due_s, due_s);
        let shared = Facts::shared_moves(&before, &after);
        Ok(Done { before: before.state, after: after.state, changed, record, shared })
    }

    /// Takes a dialog out. Peers are not told: they hear of its end.
    pub fn remove(&self, id: DialogId) -> Option<Box<Entry>> {
        let number = id.number();
        let mut shard = self.shard(id).lock();
        let entry = shard.entries.remove(&number)?;
        let facts = Facts::of(&entry.dialog);
        facts.leave(number, &self.profiles);
        shard.weigh(entry.digest, 0);
        shard.states[facts.state as usize] -= 1;
        shard.due.remove(&(entry.due_s, number));
        if let Some(all) = shard.by_call.get_mut(&entry.dialog.call_id) {
            all.retain(|n| *n != number);
            if all.is_empty() {
                shard.by_call.remove(&entry.dialog.call_id);
            }
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(entry)
    }

    /// Reads a dialog.
    pub fn read<R>(&self, id: DialogId, look: impl FnOnce(&Entry) -> R) -> Option<R> {
        self.shard(id).lock().entries.get(&id.number()).map(|entry| look(entry))
    }

    /// Works on what only this node keeps.
    pub fn local<R>(&self, id: DialogId, work: impl FnOnce(&Dialog, &mut Local) -> R) -> Option<R> {
        let mut shard = self.shard(id).lock();
        let entry = shard.entries.get_mut(&id.number())?;
        let result = work(&entry.dialog, &mut entry.local);
        shard.file_due(id.number());
        Some(result)
    }

    /// The dialogs of a Call-ID, in the order in which they were made.
    pub fn of_call(&self, call_id: &[u8]) -> SmallVec<[DialogId; 1]> {
        let at = DialogId { entry: self.entry_of(call_id), id: 0 };
        let shard = self.shard(at).lock();
        let all = shard.by_call.get(call_id).into_iter().flatten();
        all.map(|number| DialogId::from_number(*number)).collect()
    }

    /// The dialog that a request with this Call-ID and these tags belongs to, which side sent it,
    /// and the place of the callee. One that lives comes before one that has ended.
    pub fn find(&self, call_id: &[u8], from: &[u8], to: &[u8]) -> Option<(DialogId, Side, u8)> {
        let at = DialogId { entry: self.entry_of(call_id), id: 0 };
        let shard = self.shard(at).lock();
        let all = shard.by_call.get(call_id).into_iter().flatten();
        let entries = all.filter_map(|number| shard.entries.get(number));
        let fitting = entries.filter_map(|e| {
            let (side, callee) = e.dialog.sender(from, to)?;
            Some((e.dialog.state, e.dialog.id, side, callee))
        });
        let best = fitting.min_by_key(|(state, ..)| *state == State::Deleted);
        best.map(|(_, id, side, callee)| (id, side, callee))
    }

    /// The names of all dialogs, in order.
    pub fn ids(&self) -> Vec<DialogId> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(shard.lock().entries.keys().map(|n| DialogId::from_number(*n)));
        }
        all.sort_unstable();
        all
    }

    /// The names of the dialogs of one shard, in order.
    pub fn shard_ids(&self, shard: usize) -> Vec<DialogId> {
        let Some(shard) = self.shards.get(shard) else { return Vec::new() };
        let mut all: Vec<_> =
            shard.lock().entries.keys().map(|n| DialogId::from_number(*n)).collect();
        all.sort_unstable();
        all
    }

    /// Those of one shard that ring, in order.
    pub(crate) fn ringing(&self, shard: usize) -> Vec<DialogId> {
        let Some(shard) = self.shards.get(shard).map(|shard| shard.lock()) else {
            return Vec::new();
        };
        let rings = |state: State| state < State::Unacked;
        if shard.states.iter().take(State::Unacked as usize).all(|count| *count == 0) {
            return Vec::new();
        }
        let found = shard.entries.iter().filter(|(_, entry)| rings(entry.dialog.state));
        let mut all: Vec<_> = found.map(|(n, _)| DialogId::from_number(*n)).collect();
        all.sort_unstable();
        all
    }

    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many are in a state.
    pub fn in_state(&self, state: State) -> usize {
        self.shards.iter().map(|shard| shard.lock().states[state as usize]).sum()
    }

    /// Dialogs of a shard that have come due, so many at most; they come again until what is due
    /// of them is dealt with. The second part: there may be more.
    pub(crate) fn due(&self, shard: usize, now: Now, max: usize) -> (Vec<DialogId>, bool) {
        let Some(shard) = self.shards.get(shard) else { return (Vec::new(), false) };
        let shard = shard.lock();
        let now_s = now.mono_ns / SEC;
        let due = shard.due.iter().take_while(|(at, _)| *at <= now_s).take(max);
        let all: Vec<_> = due.map(|(_, number)| DialogId::from_number(*number)).collect();
        let more = all.len() >= max;
        (all, more)
    }

    /// What the indexes should hold, counted from the records: for tests.
    pub fn recount(&self) -> ([usize; 6], usize) {
        let (mut states, mut memberships) = ([0; 6], 0);
        for shard in &self.shards {
            for entry in shard.lock().entries.values() {
                states[entry.dialog.state as usize] += 1;
                if entry.dialog.state.is_alive() {
                    memberships += entry.dialog.profiles.len();
                }
            }
        }
        (states, memberships)
    }
}

impl Shard {
    /// Brings the index of deadlines up to date for one dialog.
    fn file_due(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let due_s = entry.local.next_due_s(&entry.dialog);
        let before_s = std::mem::replace(&mut entry.due_s, due_s);
        self.refile_due(number, before_s, due_s);
    }

    fn refile_due(&mut self, number: u64, before_s: u64, due_s: u64) {
        if before_s != due_s {
            self.due.remove(&(before_s, number));
            if due_s != 0 {
                self.due.insert((due_s, number));
            }
        }
    }
}

fn told(change: &Change, before: State) -> Told {
    match change {
        Change::Value { name, .. } => Told::Value { name: name.clone() },
        Change::Generated { towards, callee, .. } => {
            Told::Generated { towards: *towards, callee: *callee }
        }
        Change::Ringing | Change::Answered { .. } | Change::Acked => Told::State { before },
        Change::Ended { .. } | Change::EndedBefore { .. } => Told::State { before },
        Change::Debt(_) => Told::Debt,
        Change::DeleteDelay { .. } | Change::Seen { last: true, .. } => Told::Local,
        _ => Told::Data,
    }
}
