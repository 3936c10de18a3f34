//! The one way in: an edit of an AoR under the lock of its shard.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;
use tandem_cluster::Digester;

use super::aor::{CONTACTS_MAX, compare};
use super::change::{
    Change, Done, Event, NotStored, Origin, Outcome, Replica, Sink, Stamp, Tombstone, Why, stamp_at,
};
use super::contact::{Contact, NewContact};
use super::domain::Shard;
use super::ids::Labels;
use super::keys;
use super::local::{DbState, Local};
use super::matching::Matching;
use super::shared::Pool;
use super::slots::{Clock, NONE, Slot};
use super::turns::{Place, Turns};

/// How long a delete is remembered when nobody can say how long the contact would have lived.
const TOMBSTONE_S: u64 = 24 * 3600;
/// How much the clock of a stock peer may be behind: beyond that, people are warned.
const SKEW_S: u64 = 2;
/// A peer that missed the last refresh has the contact for longer than we knew it: a phone that
/// shortens its registration before it ends it must not come back from there.
const TOMBSTONE_S_MIN: u64 = 3600;

/// Where and when an edit happens.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) aor: &'a [u8],
    /// The wire's hash of the AoR.
    pub(super) hash: u32,
    pub(super) shard_at: usize,
    /// Table and AoR, at the start of every digest.
    pub(super) scope: Digester,
    pub(super) clock: Clock,
    pub(super) pool: &'a Pool,
    /// Where contacts are pinged.
    pub(super) turns: Option<&'a Turns>,
}

/// One AoR, locked.
pub struct Edit<'a> {
    pub(super) shard: &'a mut Shard,
    pub(super) at: At<'a>,
    /// What the index of AoRs knows the AoR by.
    index_hash: u64,
    now_s: u64,
    sink: &'a dyn Sink,
    /// The AoR was there before.
    existed: bool,
    pub(super) labels: Option<Labels>,
    done: Done,
}

impl<'a> Edit<'a> {
    pub(super) fn new(
        shard: &'a mut Shard,
        at: At<'a>,
        origin: Origin,
        sink: &'a dyn Sink,
    ) -> Self {
        let index_hash = shard.slots.hash_of(at.aor);
        let labels = Labels::of(&shard.slots, shard.slots.first_hashed(index_hash, at.aor));
        let labels = labels.or_else(|| shard.empty.labels(at.aor));
        let done = Done { origin, events: SmallVec::new() };
        let (existed, now_s) = (labels.is_some(), at.clock.now_s);
        Self { shard, at, index_hash, now_s, sink, existed, labels, done }
    }

    /// The place of the oldest contact.
    fn first(&self) -> u32 {
        self.shard.slots.first_hashed(self.index_hash, self.at.aor)
    }

    fn slots(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.shard.slots.from(self.first())
    }

    /// The contacts as they are, expired ones that were not dropped yet included; oldest first.
    pub fn contacts(&self) -> impl Iterator<Item = &Arc<Contact>> {
        self.slots().map(|(_, s)| &s.contact)
    }

    /// The contact that a request means: an exact match before a loose one, and one that lives
    /// before one that does not.
    pub fn find(&self, matching: &Matching, uri: &[u8], call_id: &[u8]) -> Option<&Arc<Contact>> {
        self.found(matching, uri, call_id).map(|(_, slot)| &slot.contact)
    }

    fn found(&self, matching: &Matching, uri: &[u8], call_id: &[u8]) -> Option<(u32, &Slot)> {
        let all = self.slots();
        let fits = all.filter(|(_, s)| matching.matches(&s.contact, uri, call_id));
        fits.min_by_key(|(_, s)| (s.contact.is_expired(self.now_s), s.contact.uri() != uri))
    }

    /// The contact with this name, as Tandem nodes name contacts between them: exactly.
    fn named(&self, uri: &[u8], call_id: Option<&[u8]>) -> Option<(u32, Arc<Contact>)> {
        let mut all = self.slots();
        let found = all.find(|(_, s)| {
            s.contact.uri() == uri
                && s.contact.keyed_by_call_id() == call_id.is_some()
                && call_id.is_none_or(|c| c == s.contact.call_id())
        });
        found.map(|(at, s)| (at, Arc::clone(&s.contact)))
    }

    /// Carries out one change. Every write of the store comes through here.
    pub fn apply(&mut self, change: Change<'_>) -> Outcome {
        match (change, self.done.origin) {
            (Change::Put { contact, matching }, Origin::Local) => {
                self.put_client(contact, matching)
            }
            (
                Change::Put { contact, matching } | Change::Update { contact, matching },
                Origin::Tandem { stamp },
            ) => self.merge(&contact, matching.is_keyed_by_call_id(), stamp, matching),
            (Change::Put { contact, matching }, Origin::Database) => {
                let stamp = stamp_at(contact.last_modified_s.saturating_mul(1_000_000), 0);
                self.merge(&contact, matching.is_keyed_by_call_id(), stamp, matching)
            }
            (Change::Put { contact, matching }, Origin::Stock { node }) => {
                self.put_stock(&contact, matching, node, (false, SKEW_S))
            }
            (Change::Update { contact, matching }, Origin::Stock { node }) => {
                self.put_stock(&contact, matching, node, (true, SKEW_S))
            }
            (Change::Learn { contact, matching }, Origin::Stock { node }) => {
                self.put_stock(&contact, matching, node, (false, 0))
            }
            (Change::Learn { contact, matching }, _) => self.put(&contact, matching),
            (Change::Update { contact, matching }, _) => self.put(&contact, matching),
            (Change::Delete { id }, _) => self.delete(id),
            (Change::DeleteNamed { uri, call_id, cseq, matching }, Origin::Tandem { stamp }) => {
                let keyed = matching.is_keyed_by_call_id();
                let until_s = self.now_s + TOMBSTONE_S;
                self.bury(Tombstone::new(uri, call_id, keyed, cseq, stamp, until_s), true)
            }
            (Change::DeleteNamed { uri, call_id, cseq, matching }, _) => {
                self.delete_stock(uri, call_id, cseq, matching)
            }
            (Change::Bury { tombstone }, _) => self.bury(tombstone, false),
            (Change::InsertAor { record_label, next_label, until_s }, Origin::Stock { .. }) => {
                self.expect(record_label, next_label, until_s)
            }
            // It comes with its first contact.
            (Change::InsertAor { .. }, _) => Outcome::Ignored(Why::Known),
            (Change::DeleteAor, Origin::Tandem { .. }) => Outcome::Ignored(Why::Known),
            (Change::DeleteAor, _) => self.delete_all(),
            (Change::Expire { id }, _) => self.expire(id),
            (Change::ExpireAor, _) => match self.shard.empty.remove(self.at.aor) {
                true => Outcome::Deleted,
                false => Outcome::Ignored(Why::NotFound),
            },
        }
    }

    /// Drops contacts without a trace: they are rows of a table that this node shares, and
    /// somebody else's matter.
    pub fn forget(&mut self, mut is_gone: impl FnMut(&Contact, &Local) -> bool) {
        let gone = self.slots().filter(|(_, s)| is_gone(&s.contact, &s.local));
        let ids: SmallVec<[u64; 4]> = gone.map(|(_, s)| s.contact.id).collect();
        for id in ids {
            if let Some(contact) = self.take(id) {
                self.done.events.push(Event::ContactDeleted { contact, is_expiry: true });
            }
        }
    }

    pub(super) fn finish(mut self) -> Done {
        let had_one = self.existed || !self.done.events.is_empty();
        let is_there = self.first() != NONE || self.shard.empty.labels(self.at.aor).is_some();
        if !had_one || is_there {
            return self.done;
        }
        if self.done.origin == Origin::Local && !self.is_expiry_only() {
            let stamp = self.sink.stamp();
            self.replicate(Replica::AorDelete { aor: self.at.aor, stamp });
        }
        self.done.events.push(Event::AorDeleted);
        self.done
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.done.events.push(event);
    }

    fn is_expiry_only(&self) -> bool {
        self.done.events.iter().all(|e| matches!(e, Event::ContactDeleted { is_expiry: true, .. }))
    }

    fn replicate(&self, change: Replica<'_>) {
        self.sink.replicate(self.at.shard_at, change);
    }

    fn make(
        &self,
        new: &NewContact<'_>,
        keyed: bool,
        stamp: Stamp,
        old: Option<&Contact>,
    ) -> Result<Arc<Contact>, Outcome> {
        let made = Contact::new(self.at.aor, new, keyed, stamp, self.at.scope, self.at.pool, old);
        made.map_err(|error| Outcome::Ignored(Why::NotStored(error)))
    }

    /// A client's contact: what others stored with the contact or the AoR stays.
    fn put_client(&mut self, new: NewContact<'_>, matching: &Matching) -> Outcome {
        let found = self.found(matching, new.uri, new.call_id).map(|(_, s)| &s.contact);
        let of_aor = || self.contacts().find_map(|c| aor_keys(c));
        let kept = match found {
            Some(old) => keys::kept(old.text(super::Text::KeyValues), new.key_values),
            None => of_aor().map(|json| keys::with(new.key_values, keys::OF_AOR, Some(&json))),
        };
        let key_values = kept.map_or(Cow::Borrowed(new.key_values), Cow::Owned);
        self.put(&NewContact { key_values: &key_values, ..new }, matching)
    }

    /// A client's or operator's contact. It always wins: CSeq rules towards clients are the
    /// registrar's, except that a lower CSeq never replaces a higher one.
    fn put(&mut self, new: &NewContact<'_>, matching: &Matching) -> Outcome {
        let found = self.found(matching, new.uri, new.call_id);
        let found = found.map(|(at, slot)| (at, Arc::clone(&slot.contact)));
        let old = found.as_ref().map(|(_, old)| old);
        let rival = old.filter(|old| !old.is_expired(self.now_s));
        if rival.is_some_and(|old| old.call_id() == new.call_id && old.cseq > new.cseq) {
            return Outcome::Ignored(Why::OldCseq);
        }
        let keyed = matching.is_keyed_by_call_id();
        let made = match self.make(new, keyed, self.sink.stamp(), old.map(|c| &**c)) {
            Ok(made) => made,
            Err(outcome) => return outcome,
        };
        self.delete_other_matches(matching, new, old.map(|c| c.id));
        if let Some(old) = old
            && (old.uri() != new.uri || old.keyed_by_call_id() != keyed)
        {
            self.tell_renamed(old);
        }
        self.store(made, found.map(|(at, _)| at), new.id, matching)
    }

    /// A loose matching mode may mean several contacts: the new one replaces them all.
    fn delete_other_matches(
        &mut self,
        matching: &Matching,
        new: &NewContact<'_>,
        kept: Option<u64>,
    ) {
        let others = self.contacts().filter(|c| Some(c.id) != kept);
        let others = others.filter(|c| matching.matches(c, new.uri, new.call_id));
        let ids: SmallVec<[u64; 4]> = others.map(|c| c.id).collect();
        for id in ids {
            self.delete(id);
        }
    }

    /// Peers are told that the old name is gone; here the contact goes on under the new one.
    fn tell_renamed(&mut self, old: &Arc<Contact>) {
        let tombstone = self.tombstone_of(old, self.sink.stamp());
        self.replicate(Replica::ContactDelete { aor: self.at.aor, tombstone: &tombstone });
        self.shard.graves.bury(self.at.aor, tombstone, self.now_s);
    }

    fn grave(&self, uri: &[u8], call_id: Option<&[u8]>) -> Option<&Tombstone> {
        self.shard.graves.of(self.at.aor).and_then(|g| g.find(uri, call_id))
    }

    fn dead(&self, uri: &[u8], call_id: Option<&[u8]>) -> Option<Stamp> {
        self.grave(uri, call_id).map(|tombstone| tombstone.stamp)
    }

    /// A stamped contact from a Tandem peer or from SQL: the later state wins, in any order.
    fn merge(
        &mut self,
        new: &NewContact<'_>,
        keyed: bool,
        stamp: Stamp,
        matching: &Matching,
    ) -> Outcome {
        let call_id = keyed.then_some(new.call_id);
        if self.dead(new.uri, call_id).is_some_and(|dead| dead >= stamp) {
            return Outcome::Ignored(Why::Older);
        }
        let found = self.named(new.uri, call_id);
        let old = found.as_ref().map(|(_, old)| old);
        let made = match self.make(new, keyed, stamp, old.map(|c| &**c)) {
            Ok(made) => made,
            Err(outcome) => return outcome,
        };
        // What has expired is as good as gone, although nobody dropped it yet.
        let rival = old.filter(|old| !old.is_expired(self.now_s));
        match rival.map(|old| compare(&made, old)) {
            Some(Ordering::Equal) => return Outcome::Ignored(Why::Known),
            Some(Ordering::Less) => return Outcome::Ignored(Why::Older),
            Some(Ordering::Greater) => {}
            None if made.is_expired(self.now_s) => return Outcome::Ignored(Why::Expired),
            None => {}
        }
        self.store(made, found.map(|(at, _)| at), new.id, matching)
    }

    /// The receiver rules of a stock node, with stamps that both ends of a Tandem pair compute
    /// alike: last-modified has whole seconds, so a write within the second of the stored one
    /// counts as later, and takes the next stamp. Its clock may be behind by `skew_s`. What the
    /// client itself has ordered, by the CSeq of one Call-ID, no clock puts into another order.
    fn put_stock(
        &mut self,
        new: &NewContact<'_>,
        matching: &Matching,
        node: u32,
        (equal_cseq, skew_s): (bool, u64),
    ) -> Outcome {
        let found = self.found(matching, new.uri, new.call_id);
        let found = found.map(|(at, slot)| (at, Arc::clone(&slot.contact)));
        let old = found.as_ref().map(|(_, old)| old);
        let mut stamp = stamp_at(new.last_modified_s.saturating_mul(1_000_000), node);
        let call_id = matching.is_keyed_by_call_id().then_some(new.call_id);
        if let Some(old) = old.filter(|old| !old.is_expired(self.now_s)) {
            let is_ordered = call_id.is_some() || old.call_id() == new.call_id;
            if is_ordered && (new.cseq < old.cseq || (new.cseq == old.cseq && !equal_cseq)) {
                return Outcome::Ignored(Why::OldCseq);
            }
        }
        let is_next = |call_id: &[u8], cseq| call_id == new.call_id && cseq < new.cseq;
        let grave = self.grave(new.uri, call_id);
        let grave = grave.map(|t| (t.stamp, is_next(t.call_id(), t.cseq)));
        let stored = old.map(|c| (c.stamp(), is_next(c.call_id(), c.cseq)));
        for (earlier, is_next) in grave.into_iter().chain(stored) {
            let ahead_s = (earlier.time_us / 1_000_000).saturating_sub(new.last_modified_s);
            if ahead_s > skew_s && !is_next {
                return Outcome::Ignored(Why::Older);
            }
            if earlier >= stamp {
                stamp = stamp_at(earlier.time_us.saturating_add(1), node);
            }
        }
        let made = match self.make(new, call_id.is_some(), stamp, old.map(|c| &**c)) {
            Ok(made) => made,
            Err(outcome) => return outcome,
        };
        if found.is_none() && made.is_expired(self.now_s) {
            return Outcome::Ignored(Why::Expired);
        }
        self.store(made, found.map(|(at, _)| at), new.id, matching)
    }

    /// Puts a contact that has won into the place of `old`, or beside the others.
    fn store(
        &mut self,
        mut made: Arc<Contact>,
        old: Option<u32>,
        given: Option<u64>,
        matching: &Matching,
    ) -> Outcome {
        let call_id = made.keyed_by_call_id().then(|| made.call_id());
        self.shard.graves.exhume(self.at.aor, made.uri(), call_id);
        if old.is_none() && self.contacts().count() >= CONTACTS_MAX {
            return Outcome::Ignored(Why::NotStored(NotStored::TooMany));
        }
        let old_id = old.and_then(|at| self.shard.slots.slot(at)).map(|s| s.contact.id);
        let id = match old_id {
            Some(old_id) => self.free_id(given).unwrap_or(old_id),
            None => self.new_id(given),
        };
        // It has not been given to anybody yet.
        if let Some(made) = Arc::get_mut(&mut made) {
            made.id = id;
        }
        match old {
            Some(old) => self.replace(made, old, matching),
            None => self.insert(made, matching),
        }
    }

    fn insert(&mut self, contact: Arc<Contact>, matching: &Matching) -> Outcome {
        let (id, aor) = (contact.id, self.at.aor);
        let is_first = self.first() == NONE;
        if is_first && !self.existed {
            self.done.events.push(Event::AorInserted);
        }
        let labels = self.labels.unwrap_or_default();
        if self.done.origin == Origin::Local {
            if is_first && !self.existed {
                let Labels { record: record_label, next: next_label } = labels;
                self.replicate(Replica::AorInsert { aor, record_label, next_label });
            }
            self.replicate(Replica::ContactInsert { aor, contact: &contact, matching });
        }
        let mut local = Local::default();
        if self.done.origin == Origin::Database {
            local.db = DbState::Sync;
        }
        let at = self.shard.slots.insert(Arc::clone(&contact), local, self.at.clock);
        self.shard.empty.remove(aor);
        if let (Some(turns), Some(slot)) = (self.at.turns, self.shard.slots.slot_mut(at)) {
            turns.come(Place::new(self.at.shard_at, at), &contact, &mut slot.local);
        }
        self.shard.slots.set_next_label(aor, labels.next);
        self.done.events.push(Event::ContactInserted(contact));
        Outcome::Inserted(id)
    }

    fn replace(&mut self, contact: Arc<Contact>, at: u32, matching: &Matching) -> Outcome {
        let id = contact.id;
        let Some(old) = self.shard.slots.replace(at, Arc::clone(&contact), self.at.clock) else {
            return Outcome::Ignored(Why::NotFound);
        };
        if let Some(slot) = self.shard.slots.slot_mut(at)
            && slot.local.db == DbState::Sync
            && self.done.origin != Origin::Database
        {
            slot.local.db = DbState::Dirty;
        }
        if self.done.origin == Origin::Local {
            let aor = self.at.aor;
            self.replicate(Replica::ContactUpdate { aor, contact: &contact, matching });
        }
        let refreshes = contact.only_refreshes(&old);
        if let (Some(turns), Some(slot)) = (self.at.turns, self.shard.slots.slot_mut(at))
            && !refreshes
        {
            turns.changed(Place::new(self.at.shard_at, at), &contact, &mut slot.local);
        }
        self.done.events.push(Event::ContactUpdated { contact, old });
        if refreshes { Outcome::Refreshed(id) } else { Outcome::Updated(id) }
    }

    /// A delete of a client, an operator, or a lost ping.
    fn delete(&mut self, id: u64) -> Outcome {
        let Some(contact) = self.take(id) else { return Outcome::Ignored(Why::NotFound) };
        let stamp = match self.done.origin {
            Origin::Tandem { stamp } => stamp,
            // Whose delete it was: that one need not be told.
            Origin::Stock { node } => stamp_at(self.sink.stamp().time_us, node),
            _ => self.sink.stamp(),
        };
        let tombstone = self.tombstone_of(&contact, stamp);
        if self.done.origin == Origin::Local {
            self.replicate(Replica::ContactDelete { aor: self.at.aor, tombstone: &tombstone });
        }
        self.shard.graves.bury(self.at.aor, tombstone, self.now_s);
        self.done.events.push(Event::ContactDeleted { contact, is_expiry: false });
        Outcome::Deleted
    }

    fn delete_all(&mut self) -> Outcome {
        let was_empty = self.shard.empty.remove(self.at.aor);
        let ids: SmallVec<[u64; 4]> = self.contacts().map(|c| c.id).collect();
        for id in &ids {
            self.delete(*id);
        }
        if ids.is_empty() && !was_empty {
            Outcome::Ignored(Why::NotFound)
        } else {
            Outcome::Deleted
        }
    }

    fn delete_stock(
        &mut self,
        uri: &[u8],
        call_id: &[u8],
        cseq: u32,
        matching: &Matching,
    ) -> Outcome {
        let Some(found) = self.find(matching, uri, call_id) else {
            return Outcome::Ignored(Why::NotFound);
        };
        let is_ordered = matching.is_keyed_by_call_id() || found.call_id() == call_id;
        if is_ordered && found.cseq > cseq {
            return Outcome::Ignored(Why::OldCseq);
        }
        let id = found.id;
        self.delete(id)
    }

    /// A stamped delete from a Tandem peer. It is kept although the contact is not here: the
    /// contact may still come.
    fn bury(&mut self, mut tombstone: Tombstone, until_is_guess: bool) -> Outcome {
        let call_id = tombstone.keyed_by_call_id.then_some(tombstone.call_id());
        let dead = self.dead(tombstone.uri(), call_id);
        let found = self.named(tombstone.uri(), call_id).map(|(_, contact)| contact);
        if found.as_ref().is_some_and(|c| c.stamp() > tombstone.stamp) {
            return Outcome::Ignored(Why::Older);
        }
        if dead.is_some_and(|dead| dead > tombstone.stamp) {
            return Outcome::Ignored(Why::Older);
        }
        if let Some(contact) = found.as_ref().filter(|_| until_is_guess) {
            let until_s = tombstone_until_s(contact, self.now_s);
            tombstone.until_s = u32::try_from(until_s).unwrap_or(u32::MAX);
        }
        let is_known = dead == Some(tombstone.stamp);
        let is_due = u64::from(tombstone.until_s) > self.now_s;
        if is_due && !(is_known && until_is_guess) {
            self.shard.graves.bury(self.at.aor, tombstone, self.now_s);
        }
        let Some(contact) = found.and_then(|c| self.take(c.id)) else {
            return Outcome::Ignored(if is_known { Why::Known } else { Why::NotFound });
        };
        self.done.events.push(Event::ContactDeleted { contact, is_expiry: false });
        Outcome::Deleted
    }

    fn expire(&mut self, id: u64) -> Outcome {
        let now_s = self.now_s;
        let found = self.contacts().find(|c| c.id == id);
        match found.map(|c| c.is_expired(now_s)) {
            None => return Outcome::Ignored(Why::NotFound),
            Some(false) => return Outcome::Ignored(Why::Known),
            Some(true) => {}
        }
        let Some(contact) = self.take(id) else { return Outcome::Ignored(Why::NotFound) };
        self.done.events.push(Event::ContactDeleted { contact, is_expiry: true });
        Outcome::Deleted
    }

    fn take(&mut self, id: u64) -> Option<Arc<Contact>> {
        let at = self.shard.slots.place_of(id)?;
        let mut slot = self.shard.slots.remove(at)?;
        if let Some(turns) = self.at.turns {
            turns.gone(Place::new(self.at.shard_at, at), &mut slot.local);
        }
        Some(slot.contact)
    }

    fn tombstone_of(&self, c: &Contact, stamp: Stamp) -> Tombstone {
        let until_s = tombstone_until_s(c, self.now_s);
        Tombstone::new(c.uri(), c.call_id(), c.keyed_by_call_id(), c.cseq, stamp, until_s)
    }
}

/// The key/values of the AoR as a contact carries them.
fn aor_keys(contact: &Contact) -> Option<String> {
    let json = contact.text(super::Text::KeyValues);
    // Most contacts have a tag at the most, and need no parsing.
    let needle = keys::OF_AOR.as_bytes();
    json.windows(needle.len()).any(|w| w == needle).then(|| keys::get(json, keys::OF_AOR))?
}

fn tombstone_until_s(contact: &Contact, now_s: u64) -> u64 {
    match contact.expires_s() {
        0 => now_s + TOMBSTONE_S,
        expires_s => expires_s.max(now_s + TOMBSTONE_S_MIN),
    }
}
