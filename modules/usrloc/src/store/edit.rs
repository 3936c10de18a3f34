//! The one way in: an edit of an AoR under the lock of its shard.

use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;
use tandem_clock::{Mono, Now};

use super::aor::{Aor, CONTACTS_MAX, LABELS, compare};
use super::change::{
    Change, Done, Event, NotStored, Origin, Outcome, Replica, Sink, Stamp, Tombstone, Why, stamp_at,
};
use super::contact::{Contact, DbState, Local, NewContact, Slot};
use super::digest::Digester;
use super::domain::Shard;
use super::matching::Matching;

/// How long a delete is remembered when nobody can say how long the contact would have lived.
const TOMBSTONE_S: u64 = 24 * 3600;

/// One AoR, locked.
pub struct Edit<'a> {
    shard: &'a mut Shard,
    shard_at: usize,
    hash: u32,
    scope: Digester,
    now: Now,
    now_s: u64,
    sink: &'a dyn Sink,
    done: Done,
}

impl<'a> Edit<'a> {
    #[expect(clippy::too_many_arguments, reason = "called in one place")]
    pub(super) fn new(
        shard: &'a mut Shard,
        shard_at: usize,
        hash: u32,
        aor: Arc<[u8]>,
        scope: Digester,
        now: Now,
        origin: Origin,
        sink: &'a dyn Sink,
    ) -> Self {
        let done = Done { aor, origin, events: SmallVec::new(), arm: SmallVec::new() };
        Self { shard, shard_at, hash, scope, now, now_s: now.unix_s(), sink, done }
    }

    /// The contacts as they are, expired ones that were not dropped yet included; oldest first.
    pub fn contacts(&self) -> impl DoubleEndedIterator<Item = &Arc<Contact>> {
        let slots = self.shard.aors.get(&self.done.aor).map(|a| a.contacts.iter());
        slots.into_iter().flatten().map(|s| &s.contact)
    }

    /// The contact that a request means: an exact match before a loose one, and one that lives
    /// before one that does not.
    pub fn find(&self, matching: &Matching, uri: &[u8], call_id: &[u8]) -> Option<&Arc<Contact>> {
        let fits = self.contacts().filter(|c| matching.matches(c, uri, call_id));
        fits.min_by_key(|c| (c.is_expired(self.now_s), c.uri() != uri))
    }

    /// Carries out one change. Every write of the store comes through here.
    pub fn apply(&mut self, change: Change<'_>) -> Outcome {
        match (change, self.done.origin) {
            (Change::Put { contact, matching }, Origin::Local) => self.put(&contact, matching),
            (
                Change::Put { contact, matching } | Change::Update { contact, matching },
                Origin::Tandem { stamp },
            ) => self.merge(&contact, matching.is_keyed_by_call_id(), stamp, matching),
            (Change::Put { contact, matching }, Origin::Database) => {
                let stamp = stamp_at(contact.last_modified_s.saturating_mul(1_000_000), 0);
                self.merge(&contact, matching.is_keyed_by_call_id(), stamp, matching)
            }
            (Change::Put { contact, matching }, Origin::Stock { node }) => {
                self.put_stock(&contact, matching, node, false)
            }
            (Change::Update { contact, matching }, Origin::Stock { node }) => {
                self.put_stock(&contact, matching, node, true)
            }
            (Change::Update { contact, matching }, _) => self.put(&contact, matching),
            (Change::Delete { id }, _) => self.delete(id),
            (Change::DeleteNamed { uri, call_id, cseq, matching }, Origin::Tandem { stamp }) => {
                let keyed_by_call_id = matching.is_keyed_by_call_id();
                let until_s = self.now_s + TOMBSTONE_S;
                let (uri, call_id) = (uri.into(), call_id.into());
                self.bury(Tombstone { uri, call_id, keyed_by_call_id, cseq, stamp, until_s }, true)
            }
            (Change::DeleteNamed { uri, call_id, cseq, matching }, _) => {
                self.delete_stock(uri, call_id, cseq, matching)
            }
            (Change::Bury { tombstone }, _) => self.bury(tombstone, false),
            (Change::DeleteAor, Origin::Tandem { .. }) => Outcome::Ignored(Why::Known),
            (Change::DeleteAor, _) => self.delete_all(),
            (Change::Expire { id }, _) => self.expire(id),
        }
    }

    pub(super) fn finish(mut self) -> Done {
        let Some(record) = self.shard.aors.get(&self.done.aor) else { return self.done };
        if !record.contacts.is_empty() {
            return self.done;
        }
        self.shard.aors.remove(&self.done.aor);
        if self.done.origin == Origin::Local && !self.is_expiry_only() {
            let stamp = self.sink.stamp();
            let aor = &*self.done.aor;
            self.sink.replicate(self.shard_at, Replica::AorDelete { aor, stamp });
        }
        self.done.events.push(Event::AorDeleted);
        self.done
    }

    fn is_expiry_only(&self) -> bool {
        self.done.events.iter().all(|e| matches!(e, Event::ContactDeleted { is_expiry: true, .. }))
    }

    /// A client's or operator's contact. It always wins: CSeq rules towards clients are the
    /// registrar's, except that a lower CSeq never replaces a higher one.
    fn put(&mut self, new: &NewContact<'_>, matching: &Matching) -> Outcome {
        let found = self.find(matching, new.uri, new.call_id).cloned();
        let rival = found.as_ref().filter(|old| !old.is_expired(self.now_s));
        if rival.is_some_and(|old| old.call_id() == new.call_id && old.cseq > new.cseq) {
            return Outcome::Ignored(Why::OldCseq);
        }
        let keyed = matching.is_keyed_by_call_id();
        self.delete_other_matches(matching, new, found.as_ref().map(|c| c.id));
        if let Some(old) = &found
            && (old.uri() != new.uri || old.keyed_by_call_id != keyed)
        {
            self.tell_renamed(old);
        }
        let stamp = self.sink.stamp();
        let made = match Contact::new(new, keyed, stamp, self.scope) {
            Ok(made) => made,
            Err(error) => return Outcome::Ignored(Why::NotStored(error)),
        };
        self.store(made, found.map(|c| c.id), new.id, matching)
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
        let aor = &*self.done.aor;
        let replica = Replica::ContactDelete { aor, tombstone: &tombstone };
        self.sink.replicate(self.shard_at, replica);
        self.shard.bury(&self.done.aor, tombstone, self.now_s);
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
        let graves = self.shard.graves.get(&self.done.aor);
        if graves.and_then(|g| g.stamp_of(new.uri, call_id)).is_some_and(|dead| dead >= stamp) {
            return Outcome::Ignored(Why::Older);
        }
        let made = match Contact::new(new, keyed, stamp, self.scope) {
            Ok(made) => made,
            Err(error) => return Outcome::Ignored(Why::NotStored(error)),
        };
        let record = self.shard.aors.get(&self.done.aor);
        let found = record.and_then(|r| r.contacts.get(r.named(new.uri, call_id)?));
        let found = found.map(|slot| Arc::clone(&slot.contact));
        // What has expired is as good as gone, although nobody dropped it yet.
        let rival = found.as_ref().filter(|old| !old.is_expired(self.now_s));
        match rival.map(|old| compare(&made, old)) {
            Some(Ordering::Equal) => return Outcome::Ignored(Why::Known),
            Some(Ordering::Less) => return Outcome::Ignored(Why::Older),
            Some(Ordering::Greater) => {}
            None if made.is_expired(self.now_s) => return Outcome::Ignored(Why::Expired),
            None => {}
        }
        self.store(made, found.map(|c| c.id), new.id, matching)
    }

    /// The receiver rules of a stock node, with stamps that both ends of a Tandem pair compute
    /// alike: last-modified has whole seconds, so a write within the second of the stored one
    /// counts as later, and takes the next stamp.
    fn put_stock(
        &mut self,
        new: &NewContact<'_>,
        matching: &Matching,
        node: u32,
        equal_cseq: bool,
    ) -> Outcome {
        let found = self.find(matching, new.uri, new.call_id).cloned();
        let mut stamp = stamp_at(new.last_modified_s.saturating_mul(1_000_000), node);
        let call_id = matching.is_keyed_by_call_id().then_some(new.call_id);
        let graves = self.shard.graves.get(&self.done.aor);
        let dead = graves.and_then(|g| g.stamp_of(new.uri, call_id));
        if let Some(old) = found.as_ref().filter(|old| !old.is_expired(self.now_s)) {
            let is_ordered = call_id.is_some() || old.call_id() == new.call_id;
            if is_ordered && (new.cseq < old.cseq || (new.cseq == old.cseq && !equal_cseq)) {
                return Outcome::Ignored(Why::OldCseq);
            }
        }
        for earlier in dead.into_iter().chain(found.as_ref().map(|c| c.stamp)) {
            if earlier.time_us / 1_000_000 > new.last_modified_s {
                return Outcome::Ignored(Why::Older);
            }
            if earlier >= stamp {
                stamp = stamp_at(earlier.time_us.saturating_add(1), node);
            }
        }
        let made = match Contact::new(new, call_id.is_some(), stamp, self.scope) {
            Ok(made) => made,
            Err(error) => return Outcome::Ignored(Why::NotStored(error)),
        };
        if found.is_none() && made.is_expired(self.now_s) {
            return Outcome::Ignored(Why::Expired);
        }
        self.store(made, found.map(|c| c.id), new.id, matching)
    }

    /// Puts a contact that has won into the place of `old`, or beside the others.
    fn store(
        &mut self,
        mut made: Contact,
        old: Option<u64>,
        given: Option<u64>,
        matching: &Matching,
    ) -> Outcome {
        let call_id = made.keyed_by_call_id.then(|| made.call_id());
        self.shard.exhume(&self.done.aor, made.uri(), call_id);
        match old {
            Some(old) => self.replace(made, old, given, matching),
            None => {
                let full = self.contacts().count() >= CONTACTS_MAX;
                if full {
                    return Outcome::Ignored(Why::NotStored(NotStored::TooMany));
                }
                made.id = self.new_id(given);
                self.insert(made, matching)
            }
        }
    }

    fn insert(&mut self, made: Contact, matching: &Matching) -> Outcome {
        let is_local = self.done.origin == Origin::Local;
        let (id, aor) = (made.id, Arc::clone(&self.done.aor));
        let Some(record) = self.shard.aors.get_mut(&aor) else {
            return Outcome::Ignored(Why::NotFound);
        };
        let contact = Arc::new(made);
        if record.contacts.is_empty() {
            self.done.events.push(Event::AorInserted);
        }
        if is_local {
            let (record_label, next_label) = (record.record_label, record.next_label);
            if record.contacts.is_empty() {
                let replica = Replica::AorInsert { aor: &aor, record_label, next_label };
                self.sink.replicate(self.shard_at, replica);
            }
            let replica = Replica::ContactInsert { aor: &aor, contact: &contact, matching };
            self.sink.replicate(self.shard_at, replica);
        }
        let mut local = Local::default();
        if self.done.origin == Origin::Database {
            local.db = DbState::Sync;
        }
        record.contacts.push(Slot { contact: Arc::clone(&contact), local });
        self.shard.ids.insert(id, aor);
        self.done.events.push(Event::ContactInserted(contact));
        self.arm(id);
        Outcome::Inserted(id)
    }

    fn replace(
        &mut self,
        mut made: Contact,
        old_id: u64,
        given: Option<u64>,
        matching: &Matching,
    ) -> Outcome {
        let adopted = self.adopted_id(given).filter(|id| !self.shard.ids.contains_key(id));
        let id = adopted.unwrap_or(old_id);
        made.id = id;
        let aor = Arc::clone(&self.done.aor);
        let Some(record) = self.shard.aors.get_mut(&aor) else {
            return Outcome::Ignored(Why::NotFound);
        };
        let Some(slot) = record.position(old_id).and_then(|at| record.contacts.get_mut(at)) else {
            return Outcome::Ignored(Why::NotFound);
        };
        let contact = Arc::new(made);
        let old = std::mem::replace(&mut slot.contact, Arc::clone(&contact));
        slot.local.db = match slot.local.db {
            DbState::Sync if self.done.origin != Origin::Database => DbState::Dirty,
            other => other,
        };
        if id != old_id {
            // Timers carry the id: the new one needs its own.
            slot.local.armed = None;
            self.shard.ids.remove(&old_id);
            self.shard.ids.insert(id, Arc::clone(&aor));
        }
        if self.done.origin == Origin::Local {
            let replica = Replica::ContactUpdate { aor: &aor, contact: &contact, matching };
            self.sink.replicate(self.shard_at, replica);
        }
        let refreshes = contact.only_refreshes(&old);
        self.done.events.push(Event::ContactUpdated { contact, old });
        self.arm(id);
        if refreshes { Outcome::Refreshed(id) } else { Outcome::Updated(id) }
    }

    /// One timer a contact: a new one only if none is armed, or the armed one comes too late.
    fn arm(&mut self, id: u64) {
        let Some(record) = self.shard.aors.get_mut(&self.done.aor) else { return };
        let Some(slot) = record.position(id).and_then(|at| record.contacts.get_mut(at)) else {
            return;
        };
        let Some(due) = due(&slot.contact, self.now) else { return };
        if slot.local.armed.is_none_or(|armed| due < armed) {
            slot.local.armed = Some(due);
            self.done.arm.push((id, due));
        }
    }

    /// A delete of a client, an operator, or a lost ping.
    fn delete(&mut self, id: u64) -> Outcome {
        let Some(contact) = self.take(id) else { return Outcome::Ignored(Why::NotFound) };
        let stamp = match self.done.origin {
            Origin::Tandem { stamp } => stamp,
            _ => self.sink.stamp(),
        };
        let tombstone = self.tombstone_of(&contact, stamp);
        if self.done.origin == Origin::Local {
            let aor = &*self.done.aor;
            let replica = Replica::ContactDelete { aor, tombstone: &tombstone };
            self.sink.replicate(self.shard_at, replica);
        }
        self.shard.bury(&self.done.aor, tombstone, self.now_s);
        self.done.events.push(Event::ContactDeleted { contact, is_expiry: false });
        Outcome::Deleted
    }

    fn delete_all(&mut self) -> Outcome {
        let ids: SmallVec<[u64; 4]> = self.contacts().map(|c| c.id).collect();
        for id in &ids {
            self.delete(*id);
        }
        if ids.is_empty() { Outcome::Ignored(Why::NotFound) } else { Outcome::Deleted }
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
        let call_id = tombstone.keyed_by_call_id.then_some(&*tombstone.call_id);
        let graves = self.shard.graves.get(&self.done.aor);
        let dead = graves.and_then(|g| g.stamp_of(&tombstone.uri, call_id));
        let record = self.shard.aors.get(&self.done.aor);
        let found = record.and_then(|r| r.contacts.get(r.named(&tombstone.uri, call_id)?));
        let found = found.map(|slot| Arc::clone(&slot.contact));
        if found.as_ref().is_some_and(|c| c.stamp > tombstone.stamp) {
            return Outcome::Ignored(Why::Older);
        }
        if dead.is_some_and(|dead| dead > tombstone.stamp) {
            return Outcome::Ignored(Why::Older);
        }
        if let Some(contact) = found.as_ref().filter(|_| until_is_guess) {
            tombstone.until_s = tombstone_until_s(contact, self.now_s);
        }
        let is_known = dead == Some(tombstone.stamp);
        if tombstone.until_s > self.now_s && !(is_known && until_is_guess) {
            self.shard.bury(&self.done.aor, tombstone, self.now_s);
        }
        let Some(contact) = found.and_then(|c| self.take(c.id)) else {
            return Outcome::Ignored(if is_known { Why::Known } else { Why::NotFound });
        };
        self.done.events.push(Event::ContactDeleted { contact, is_expiry: false });
        Outcome::Deleted
    }

    fn expire(&mut self, id: u64) -> Outcome {
        let now_s = self.now_s;
        let Some(record) = self.shard.aors.get_mut(&self.done.aor) else {
            return Outcome::Ignored(Why::NotFound);
        };
        let Some(slot) = record.position(id).and_then(|at| record.contacts.get_mut(at)) else {
            return Outcome::Ignored(Why::NotFound);
        };
        if !slot.contact.is_expired(now_s) {
            // An earlier timer than the one that is armed last: that one is still to come.
            if slot.local.armed.is_some_and(|armed| armed > self.now.mono_ns) {
                return Outcome::Ignored(Why::Known);
            }
            slot.local.armed = due(&slot.contact, self.now);
            return slot.local.armed.map_or(Outcome::Ignored(Why::Known), Outcome::Rearm);
        }
        let Some(contact) = self.take(id) else { return Outcome::Ignored(Why::NotFound) };
        self.done.events.push(Event::ContactDeleted { contact, is_expiry: true });
        Outcome::Deleted
    }

    fn take(&mut self, id: u64) -> Option<Arc<Contact>> {
        let record = self.shard.aors.get_mut(&self.done.aor)?;
        let at = record.position(id)?;
        self.shard.ids.remove(&id);
        // The order of the others is the order in which they came.
        Some(record.contacts.remove(at).contact)
    }

    fn tombstone_of(&self, contact: &Contact, stamp: Stamp) -> Tombstone {
        Tombstone {
            uri: contact.uri().into(),
            call_id: contact.call_id().into(),
            keyed_by_call_id: contact.keyed_by_call_id,
            cseq: contact.cseq,
            stamp,
            until_s: tombstone_until_s(contact, self.now_s),
        }
    }

    /// The id of a new contact: the labels a peer gave, if they are free here, else fresh ones.
    fn new_id(&mut self, given: Option<u64>) -> u64 {
        let given = self.adopted_id(given).filter(|id| !self.shard.ids.contains_key(id));
        if !self.shard.aors.contains_key(&self.done.aor) {
            let label = given.map_or(self.shard.next_label, |id| (id >> 14) as u32);
            if given.is_none() {
                self.shard.next_label = self.shard.next_label.wrapping_add(1);
            }
            // As a stock node does: contact labels begin anywhere.
            let first = (label ^ self.hash).wrapping_mul(0x9e37_79b1) >> 18;
            let aor = Aor { record_label: label, next_label: first as u16, ..Aor::default() };
            self.shard.aors.insert(Arc::clone(&self.done.aor), aor);
        }
        given.unwrap_or_else(|| self.fresh_id())
    }

    fn fresh_id(&mut self) -> u64 {
        let hash = self.hash;
        let ids = &self.shard.ids;
        let Some(record) = self.shard.aors.get_mut(&self.done.aor) else { return 0 };
        // Far fewer contacts than labels: one is always free.
        loop {
            let label = record.next_label;
            record.next_label = (label + 1) % LABELS;
            let id = contact_id(hash, record.record_label, label);
            if !ids.contains_key(&id) {
                return id;
            }
            if label == LABELS - 1 {
                record.record_label = record.record_label.wrapping_add(1);
            }
        }
    }

    /// A peer's id with our own computation of the hash part.
    fn adopted_id(&self, given: Option<u64>) -> Option<u64> {
        given.map(|id| contact_id(self.hash, (id >> 14) as u32, id as u16 % LABELS))
    }
}

/// Bits 0-13 contact label, 14-45 record label, 46-61 low 16 bits of the hash.
fn contact_id(hash: u32, record_label: u32, label: u16) -> u64 {
    u64::from(hash & 0xffff) << 46 | u64::from(record_label) << 14 | u64::from(label)
}

/// When a contact ends, on the monotonic clock; `None`: never.
fn due(contact: &Contact, now: Now) -> Option<Mono> {
    let due_ms = contact.expires_s.checked_mul(1000).filter(|ms| *ms != 0)?;
    Some(now.after_ms(due_ms.saturating_sub(now.unix_ms).max(1)))
}

fn tombstone_until_s(contact: &Contact, now_s: u64) -> u64 {
    match contact.expires_s {
        0 => now_s + TOMBSTONE_S,
        expires_s => expires_s,
    }
}
