//! The records of a node, and when each is due. Everything that changes one goes through
//! [`Table::apply`], with the digests and what peers are told.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tandem_clock::Now;
use tandem_cluster::{BUCKETS, Digests};

use crate::codec::{bucket, digest};
use crate::record::{Key, Record, Stamp, Stand};

/// Records of a node, at most.
pub(crate) const RECORDS_MAX: usize = 200_000;

/// Who asks for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This node: the peers are told.
    Local,
    /// Another node, or the database; the record has its stamp.
    Elsewhere,
}

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

/// The records.
#[derive(Debug, Default)]
pub(crate) struct Table {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    all: BTreeMap<Key, Entry>,
    due: BTreeSet<(u64, Key)>,
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

    pub(crate) fn len(&self) -> usize {
        self.inner.lock().all.len()
    }

    /// Looks at a record.
    pub(crate) fn read<R>(&self, key: &Key, look: impl FnOnce(&Record, &Local) -> R) -> Option<R> {
        self.inner.lock().all.get(key).map(|entry| look(&entry.record, &entry.local))
    }

    /// Writes a record; `false`: what is here is newer, or there is no room.
    pub(crate) fn apply(&self, now: Now, mut new: Record, origin: Origin, sink: &dyn Sink) -> bool {
        let mut inner = self.inner.lock();
        let known = inner.all.get(&new.key).map(|entry| entry.record.stamp);
        match known {
            Some(stamp) if origin == Origin::Elsewhere && stamp >= new.stamp => return false,
            None if inner.all.len() >= RECORDS_MAX => return false,
            _ => {}
        }
        if origin == Origin::Local {
            new.stamp = sink.stamp();
            new.changed_s = now.unix_s();
            sink.changed(&new);
        }
        inner.put(new, origin);
        true
    }

    /// Changes what is this node's alone.
    pub(crate) fn local<R>(&self, key: &Key, change: impl FnOnce(&mut Local) -> R) -> Option<R> {
        self.inner.lock().all.get_mut(key).map(|entry| change(&mut entry.local))
    }

    /// A token for a request of a record that has none on its way.
    pub(crate) fn begin(&self, key: &Key, what: What) -> Option<u64> {
        let mut inner = self.inner.lock();
        let token = inner.token + 1;
        let entry = inner.all.get_mut(key).filter(|entry| entry.local.sent.is_none())?;
        entry.local.sent = Some(Sent { wish: entry.local.wish, token, what });
        inner.token = token;
        inner.open.insert(token, key.clone());
        Some(token)
    }

    /// The request with this token has ended.
    pub(crate) fn end(&self, token: u64) -> Option<(Key, Sent)> {
        let mut inner = self.inner.lock();
        let key = inner.open.remove(&token)?;
        let entry = inner.all.get_mut(&key)?;
        let sent = entry.local.sent.take_if(|sent| sent.token == token)?;
        Some((key, sent))
    }

    /// Looks at a record again after so many seconds.
    pub(crate) fn later(&self, key: &Key, due_s: u64) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.all.get_mut(key) else { return };
        let before = std::mem::replace(&mut entry.due_s, due_s);
        inner.due.remove(&(before, key.clone()));
        inner.due.insert((due_s, key.clone()));
    }

    /// Records that are due, at most so many.
    pub(crate) fn due(&self, now_s: u64, most: usize) -> Vec<Key> {
        let inner = self.inner.lock();
        let due = inner.due.iter().take_while(|(due_s, _)| *due_s <= now_s);
        due.take(most).map(|(_, key)| key.clone()).collect()
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
            entry.local.is_dirty = true;
            inner.dirty.insert(key.clone());
        }
    }

    pub(crate) fn dirty_count(&self) -> usize {
        self.inner.lock().dirty.len()
    }

    /// The subscription with this Call-ID.
    pub(crate) fn of_call(&self, call_id: &[u8]) -> Option<Record> {
        let inner = self.inner.lock();
        let key = inner.calls.get(call_id)?;
        inner.all.get(key).map(|entry| entry.record.clone())
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
    /// Takes a record out, with its place in every index.
    fn take(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.all.remove(key)?;
        self.due.remove(&(entry.due_s, key.clone()));
        self.dirty.remove(key);
        if let Some(watch) = &entry.record.watch {
            self.calls.remove(&watch.call_id[..]);
        }
        self.weigh(&entry.record, entry.digest, 0);
        Some(entry)
    }

    fn put(&mut self, record: Record, origin: Origin) {
        let old = self.take(&record.key);
        let was_dirty = old.as_ref().is_some_and(|entry| entry.local.is_dirty);
        let mut local = old.map(|entry| entry.local).unwrap_or_default();
        // What another node has changed, that node writes.
        local.is_dirty = origin == Origin::Local || was_dirty;
        local.is_stored |= origin == Origin::Elsewhere;
        if local.is_dirty {
            self.dirty.insert(record.key.clone());
        }
        let (due_s, digest) = (record.due_s(self.early_s), digest(&record));
        self.weigh(&record, 0, digest);
        if let Some(watch) = &record.watch {
            self.calls.insert(watch.call_id.to_vec(), record.key.clone());
        }
        self.due.insert((due_s, record.key.clone()));
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

    #[test]
    fn the_later_change_counts_and_digests_are_those_of_what_is_there() {
        let (one, two) = (Table::new(100), Table::new(100));
        for (table, order) in [(&one, [1, 2]), (&two, [2, 1])] {
            for time_us in order {
                let etag = format!("e{time_us}").into_bytes().into();
                let new = Record { etag, ..record("1", time_us) };
                table.apply(NOW, new, Origin::Elsewhere, &Nobody);
            }
        }
        assert_eq!(one.read(&record("1", 0).key, |r, _| r.etag.clone()).unwrap(), b"e2"[..].into());
        assert_eq!((one.digests().count, one.digests().buckets), (1, two.digests().buckets));
        one.apply(NOW, Record { stand: Stand::Gone, ..record("1", 9) }, Origin::Elsewhere, &Nobody);
        assert!(!one.apply(NOW, record("1", 3), Origin::Elsewhere, &Nobody), "it is gone");
        assert_eq!((one.digests().count, one.digests().buckets.iter().sum::<u64>()), (0, 0));
    }

    #[test]
    fn a_record_is_due_in_time_and_has_one_request_at_once() {
        let table = Table::new(100);
        table.apply(NOW, record("1", 1), Origin::Elsewhere, &Nobody);
        let key = record("1", 0).key;
        assert!(table.due(1899, 10).is_empty());
        assert_eq!(table.due(1900, 10), std::slice::from_ref(&key));
        let token = table.begin(&key, What::Refresh).unwrap();
        assert!(table.begin(&key, What::Body).is_none());
        table.later(&key, 1950);
        assert!(table.due(1949, 10).is_empty() && table.due(1950, 10).len() == 1);
        assert_eq!(table.end(token).unwrap().1.what, What::Refresh);
        assert!(table.end(token).is_none());
        table.forget(&key);
        assert!(table.due(9999, 10).is_empty() && table.len() == 0);
    }

    #[test]
    fn what_this_node_changes_the_database_is_told() {
        let table = Table::new(100);
        table.apply(NOW, record("1", 1), Origin::Elsewhere, &Nobody);
        assert!(table.take_dirty(9).is_empty());
        table.apply(NOW, record("2", 1), Origin::Local, &Nobody);
        let taken = table.take_dirty(9);
        assert_eq!(
            taken.iter().map(|(r, stored)| (&*r.key.id, *stored)).collect::<Vec<_>>(),
            [(&b"2"[..], false)]
        );
        table.set_dirty(&record("2", 0).key);
        assert!(table.take_dirty(9)[0].1, "it has a row by now");
    }
}
