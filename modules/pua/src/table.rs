//! The records of a node, and when each is due. Everything that changes one goes through
//! [`Table::update`] or, for what others tell, [`Table::apply`]; with the lock held from what is
//! read to what is written, and with the digests and what peers are told.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tandem_clock::Now;
use tandem_cluster::{BUCKETS, Digests};

use crate::codec::{bucket, digest};
use crate::record::{Key, Record, Stamp, Stand};

/// Records of a node that have not ended, at most.
pub(crate) const RECORDS_MAX: usize = 200_000;
/// Ends that are remembered, at most; the oldest is forgotten first.
pub(crate) const ENDS_MAX: usize = 100_000;

/// What this node alone keeps of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Local {
    /// The request that is on its way.
    pub(crate) sent: Option<Sent>,
    /// How often somebody has wanted something else of it.
    pub(crate) wish: u32,
    /// Requests without success, in a row.
    pub(crate) tries: u8,
    /// The database is to be told.
    pub(crate) is_dirty: bool,
    /// It has a row.
    pub(crate) is_stored: bool,
    /// The least seconds that the server takes.
    pub(crate) min_expires_s: u32,
}

/// A request that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// What was wanted then.
    pub(crate) wish: u32,
    pub(crate) token: u64,
    pub(crate) what: What,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The whole body.
    Body,
    /// Only more time.
    Refresh,
    /// The end.
    End,
    /// The end is told as a new publication that ends soon, since the server has lost the old one.
    Farewell,
}

/// A record, with what is this node's alone.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    pub(crate) local: Local,
    due_s: u64,
    digest: u64,
}

/// Is told of every change, with the table locked.
pub(crate) trait Sink {
    /// A stamp for a change of this node.
    fn stamp(&self) -> Stamp;
    fn changed(&self, record: &Record);
}

/// There are as many records as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The records.
#[derive(Debug, Default)]
pub(crate) struct Table {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    all: BTreeMap<Key, Entry>,
    /// Records that live.
    due: BTreeSet<(u64, Key)>,
    /// Records that have ended.
    ends: BTreeSet<(u64, Key)>,
    /// Records whose replies are to come, by the token of the request.
    open: BTreeMap<u64, Key>,
    dirty: BTreeSet<Key>,
    digests: Digests,
    /// Subscriptions by their Call-ID.
    calls: BTreeMap<Vec<u8>, Key>,
    token: u64,
    early_s: u64,
}

impl Table {
    /// `early_s`: seconds before its end that a record is due.
    pub(crate) fn new(early_s: u64) -> Self {
        Self { inner: Mutex::new(Inner { early_s, ..Inner::default() }) }
    }

    /// Records that live.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().due.len()
    }

    /// Ends that are remembered.
    pub(crate) fn ends(&self) -> usize {
        self.inner.lock().ends.len()
    }

    /// Looks at a record.
    pub(crate) fn read<R>(&self, key: &Key, look: impl FnOnce(&Record, &Local) -> R) -> Option<R> {
        self.inner.lock().all.get(key).map(|entry| look(&entry.record, &entry.local))
    }

    /// Changes a record here, or makes one. `change` is given the record as it is, if it is known
    /// and has not ended, and what is this node's alone; it gives the record as it is to be, or
    /// `None` to leave it, and what to answer.
    ///
    /// # Errors
    /// It would be a new one, and there is no room.
    pub(crate) fn update<R>(
        &self,
        now: Now,
        key: &Key,
        sink: &dyn Sink,
        change: impl FnOnce(Option<Record>, &mut Local) -> (Option<Record>, R),
    ) -> Result<R, Full> {
        let mut inner = self.inner.lock();
        let known = inner.all.get(key);
        let record = known.map(|e| &e.record).filter(|r| r.stand != Stand::Gone).cloned();
        let lives = record.is_some();
        let before = known.map(|entry| entry.local.clone()).unwrap_or_default();
        let mut local = before.clone();
        let (new, answer) = change(record, &mut local);
        let Some(mut new) = new else {
            if let Some(entry) = inner.all.get_mut(key) {
                entry.local = local.clone();
                inner.reopen(key, before.sent, local.sent);
            }
            return Ok(answer);
        };
        if !lives && inner.due.len() >= RECORDS_MAX {
            return Err(Full);
        }
        new.stamp = sink.stamp();
        new.changed_s = now.unix_s();
        sink.changed(&new);
        local.is_dirty = true;
        inner.put(new, local);
        Ok(answer)
    }

    /// Takes a record of another node or the database, with its stamp; `false`: what is here is
    /// newer, or there is no room.
    pub(crate) fn apply(&self, new: Record) -> bool {
        let mut inner = self.inner.lock();
        let known = inner.all.get(&new.key);
        if known.is_some_and(|entry| entry.record.stamp >= new.stamp) {
            return false;
        }
        let lived = known.is_some_and(|entry| entry.record.stand != Stand::Gone);
        let mut local = known.map(|entry| entry.local.clone()).unwrap_or_default();
        if !lived && new.stand != Stand::Gone && inner.due.len() >= RECORDS_MAX {
            return false;
        }
        // What another node has changed, that node writes.
        local.is_stored = true;
        inner.put(new, local);
        true
    }

    /// The record whose request has this token.
    pub(crate) fn of_token(&self, token: u64) -> Option<Key> {
        self.inner.lock().open.get(&token).cloned()
    }

    /// A token for a request.
    pub(crate) fn token(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.token += 1;
        inner.token
    }

    /// Looks at a record again after so many seconds.
    pub(crate) fn later(&self, key: &Key, due_s: u64) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.all.get_mut(key) else { return };
        let before = std::mem::replace(&mut entry.due_s, due_s);
        let stand = entry.record.stand;
        let due = inner.due_of(stand);
        due.remove(&(before, key.clone()));
        due.insert((due_s, key.clone()));
    }

    /// Records that are due, at most so many.
    pub(crate) fn due(&self, now_s: u64, most: usize) -> Vec<Key> {
        let inner = self.inner.lock();
        let due = |all: &BTreeSet<(u64, Key)>| {
            let due = all.iter().take_while(|(due_s, _)| *due_s <= now_s);
            due.take(most).map(|(_, key)| key.clone()).collect::<Vec<_>>()
        };
        let mut keys = due(&inner.due);
        keys.extend(due(&inner.ends));
        keys
    }

    /// Forgets a record.
    pub(crate) fn forget(&self, key: &Key) {
        self.inner.lock().take(key);
    }

    /// Takes the records that the database is to be told of, at most so many.
    pub(crate) fn take_dirty(&self, most: usize) -> Vec<(Record, bool)> {
        let mut inner = self.inner.lock();
        let keys: Vec<Key> = inner.dirty.iter().take(most).cloned().collect();
        let mut records = Vec::with_capacity(keys.len());
        for key in keys {
            inner.dirty.remove(&key);
            let Some(entry) = inner.all.get_mut(&key) else { continue };
            entry.local.is_dirty = false;
            let was_stored = entry.local.is_stored;
            entry.local.is_stored = entry.record.stand != Stand::Gone;
            records.push((entry.record.clone(), was_stored));
        }
        records
    }

    /// The database could not be told of a record.
    pub(crate) fn set_dirty(&self, key: &Key) {
        let mut inner = self.inner.lock();
        if let Some(entry) = inner.all.get_mut(key) {
            // Whether its row was deleted is not known.
            (entry.local.is_dirty, entry.local.is_stored) = (true, true);
            inner.dirty.insert(key.clone());
        }
    }

    pub(crate) fn dirty_count(&self) -> usize {
        self.inner.lock().dirty.len()
    }

    /// The subscription with this Call-ID.
    pub(crate) fn of_call(&self, call_id: &[u8]) -> Option<Key> {
        self.inner.lock().calls.get(call_id).cloned()
    }

    pub(crate) fn digests(&self) -> Digests {
        self.inner.lock().digests.clone()
    }

    /// The records of some buckets; those that are gone come too.
    pub(crate) fn of_buckets(&self, buckets: Option<&[u8]>) -> Vec<Record> {
        let inner = self.inner.lock();
        let wanted = |r: &Record| buckets.is_none_or(|b| b.contains(&(bucket(r) as u8)));
        inner.all.values().map(|entry| &entry.record).filter(|r| wanted(r)).cloned().collect()
    }
}

impl Inner {
    fn due_of(&mut self, stand: Stand) -> &mut BTreeSet<(u64, Key)> {
        if stand == Stand::Gone { &mut self.ends } else { &mut self.due }
    }

    /// The request of a record is another one than before.
    fn reopen(&mut self, key: &Key, before: Option<Sent>, now: Option<Sent>) {
        if before != now {
            before.map(|sent| self.open.remove(&sent.token));
            now.map(|sent| self.open.insert(sent.token, key.clone()));
        }
    }

    /// Takes a record out, with its place in every index.
    fn take(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.all.remove(key)?;
        self.due_of(entry.record.stand).remove(&(entry.due_s, key.clone()));
        self.dirty.remove(key);
        self.reopen(key, entry.local.sent, None);
        if let Some(watch) = &entry.record.watch {
            self.calls.remove(&watch.call_id[..]);
        }
        self.weigh(&entry.record, entry.digest, 0);
        Some(entry)
    }

    fn put(&mut self, record: Record, local: Local) {
        self.take(&record.key);
        if record.stand == Stand::Gone && self.ends.len() >= ENDS_MAX {
            let oldest = self.ends.first().map(|(_, key)| key.clone());
            oldest.map(|key| self.take(&key));
        }
        if local.is_dirty {
            self.dirty.insert(record.key.clone());
        }
        let (due_s, digest) = (record.due_s(self.early_s), digest(&record));
        self.weigh(&record, 0, digest);
        self.reopen(&record.key, None, local.sent);
        if let Some(watch) = &record.watch {
            self.calls.insert(watch.call_id.to_vec(), record.key.clone());
        }
        self.due_of(record.stand).insert((due_s, record.key.clone()));
        self.all.insert(record.key.clone(), Entry { record, local, due_s, digest });
    }

    fn weigh(&mut self, record: &Record, old: u64, new: u64) {
        let at = bucket(record) % BUCKETS;
        if let Some(sum) = self.digests.buckets.get_mut(at) {
            *sum = sum.wrapping_sub(old).wrapping_add(new);
        }
        let (was, is) = (u64::from(old != 0), u64::from(new != 0));
        self.digests.count = (self.digests.count + is).saturating_sub(was);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Event, Source};

    struct Nobody;

    impl Sink for Nobody {
        fn stamp(&self) -> Stamp {
            Stamp { time_us: 5, node: 1 }
        }
        fn changed(&self, _: &Record) {}
    }

    const NOW: Now = Now { mono_ns: 0, unix_ms: 1_000_000 };

    fn record(id: &str, time_us: u64) -> Record {
        Record {
            key: Key::of(b"sip:a@x", Source::DIALOG, id.as_bytes(), Event::Dialog),
            stand: Stand::Told,
            expires_s: 2000,
            desired_s: 9000,
            changed_s: 1000,
            stamp: Stamp { time_us, node: 2 },
            ..Record::default()
        }
    }

    fn gone(id: &str, time_us: u64) -> Record {
        Record { stand: Stand::Gone, ..record(id, time_us) }
    }

    /// Begins a request; its token.
    fn begin(table: &Table, key: &Key, what: What) -> Option<u64> {
        let token = table.token();
        let begun = table.update(NOW, key, &Nobody, |known, local| {
            if known.is_none() || local.sent.is_some() {
                return (None, None);
            }
            local.sent = Some(Sent { wish: local.wish, token, what });
            (None, Some(token))
        });
        begun.unwrap()
    }

    #[test]
    fn the_later_change_counts_and_digests_are_those_of_what_is_there() {
        let (one, two) = (Table::new(100), Table::new(100));
        for (table, order) in [(&one, [1, 2]), (&two, [2, 1])] {
            for time_us in order {
                let etag = format!("e{time_us}").into_bytes().into();
                table.apply(Record { etag, ..record("1", time_us) });
            }
        }
        assert_eq!(one.read(&record("1", 0).key, |r, _| r.etag.clone()).unwrap(), b"e2"[..].into());
        assert_eq!((one.digests().count, one.digests().buckets), (1, two.digests().buckets));
        one.apply(gone("1", 9));
        assert!(!one.apply(record("1", 3)), "it is gone");
        assert_eq!((one.digests().count, one.digests().buckets.iter().sum::<u64>()), (0, 0));
    }

    #[test]
    fn a_record_is_due_in_time_and_has_one_request_at_once() {
        let table = Table::new(100);
        table.apply(record("1", 1));
        let key = record("1", 0).key;
        assert!(table.due(1899, 10).is_empty());
        assert_eq!(table.due(1900, 10), std::slice::from_ref(&key));
        let token = begin(&table, &key, What::Refresh).unwrap();
        assert!(begin(&table, &key, What::Body).is_none());
        table.later(&key, 1950);
        assert!(table.due(1949, 10).is_empty() && table.due(1950, 10).len() == 1);
        assert_eq!(table.of_token(token), Some(key.clone()));
        let ended = table.update(NOW, &key, &Nobody, |_, local| (None, local.sent.take()));
        assert_eq!(ended.unwrap().unwrap().what, What::Refresh);
        assert_eq!(table.of_token(token), None);
        table.forget(&key);
        assert!(table.due(9999, 10).is_empty() && table.len() == 0);
    }

    #[test]
    fn what_this_node_changes_the_database_is_told() {
        let table = Table::new(100);
        table.apply(record("1", 1));
        assert!(table.take_dirty(9).is_empty());
        let new = record("2", 1);
        table.update(NOW, &new.key, &Nobody, |_, _| (Some(new.clone()), ())).unwrap();
        let taken = table.take_dirty(9);
        assert_eq!(
            taken.iter().map(|(r, stored)| (&*r.key.id, *stored)).collect::<Vec<_>>(),
            [(&b"2"[..], false)]
        );
        table.set_dirty(&new.key);
        assert!(table.take_dirty(9)[0].1, "it has a row by now");
    }

    #[test]
    fn a_change_sees_what_another_worker_has_done_just_before() {
        let table = Table::new(100);
        table.apply(record("1", 1));
        let key = record("1", 0).key;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let count = |known: Option<Record>, _: &mut Local| {
                            let mut record = known.unwrap();
                            record.expires_s += 1;
                            (Some(record), ())
                        };
                        table.update(NOW, &key, &Nobody, count).unwrap();
                    }
                });
            }
        });
        assert_eq!(table.read(&key, |r, _| r.expires_s), Some(4000));
    }

    #[test]
    fn ends_take_no_room_from_what_lives() {
        let table = Table::new(100);
        for n in 0..ENDS_MAX + 10 {
            let changed_s = 1000 + n as u64;
            table.apply(Record { changed_s, ..gone(&n.to_string(), 2) });
        }
        assert_eq!((table.len(), table.ends()), (0, ENDS_MAX));
        assert!(table.read(&record("9", 0).key, |_, _| ()).is_none(), "the oldest goes first");
        assert!(table.read(&record("10", 0).key, |_, _| ()).is_some());
        assert!(table.apply(record("lives", 1)) && table.len() == 1);
    }
}
