//! A collection: values by key in buckets, each behind a lock.
//!
//! A change has a stamp, and the later stamp wins, so that the order in which changes of several
//! nodes arrive does not matter. A delete leaves its stamp behind for a while.

use std::collections::HashMap;

use ahash::RandomState;
use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::{HashKey, Mono, Now, SEC};
use tandem_cluster::{BUCKETS, Stamp};

/// Values of one bucket: a million in a collection.
const BUCKET_VALUES_MAX: usize = 4_096;
/// How long a delete is remembered.
const TOMBSTONE_S: u64 = 3_600;
/// A record this near to its end is in no digest: the other node may have dropped it.
const NEAR_END_S: u64 = 10;

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `None`: it was deleted.
    pub(crate) value: Option<Bytes>,
    /// 0: it has no end.
    pub(crate) ends: Mono,
    pub(crate) stamp: Stamp,
}

impl Entry {
    pub(crate) fn value(value: Bytes, now: Now, expire_s: u32, stamp: Stamp) -> Self {
        let ends = if expire_s == 0 { 0 } else { now.after_s(u64::from(expire_s)) };
        Self { value: Some(value), ends, stamp }
    }

    pub(crate) fn deleted(now: Now, stamp: Stamp) -> Self {
        Self { value: None, ends: now.after_s(TOMBSTONE_S), stamp }
    }

    fn is_over(&self, now: Now) -> bool {
        self.ends != 0 && self.ends <= now.mono_ns
    }

    /// The value, unless it has ended.
    pub(crate) fn live(&self, now: Now) -> Option<&Bytes> {
        self.value.as_ref().filter(|_| !self.is_over(now))
    }

    /// Seconds that are left, rounded up; 0: it has no end.
    pub(crate) fn left_s(&self, now: Now) -> u32 {
        let left = self.ends.saturating_sub(now.mono_ns).div_ceil(SEC);
        u32::try_from(left).unwrap_or(u32::MAX)
    }
}

type Bucket = HashMap<Bytes, Entry, RandomState>;

/// The values of one name.
pub(crate) struct Collection {
    pub(crate) name: Bytes,
    pub(crate) replicated: bool,
    buckets: Vec<Mutex<Bucket>>,
}

impl Collection {
    pub(crate) fn new(name: &str, replicated: bool, key: HashKey) -> Self {
        let state = key.state();
        let bucket = || Mutex::new(HashMap::with_hasher(state.clone()));
        Self {
            name: Bytes::copy_from_slice(name.as_bytes()),
            replicated,
            buckets: (0..BUCKETS).map(|_| bucket()).collect(),
        }
    }

    fn bucket(&self, key: &[u8]) -> (usize, &Mutex<Bucket>) {
        let at = bucket_of(key);
        // There are as many as numbers of a bucket.
        (at, self.buckets.get(at).unwrap_or(&self.buckets[0]))
    }

    pub(crate) fn get(&self, now: Now, key: &[u8]) -> Option<Bytes> {
        self.bucket(key).1.lock().get(key)?.live(now).cloned()
    }

    /// The one way in which a key changes: `change` makes the new entry of the present one, or
    /// none; `emit` gets what was put in, under the lock, with the number of the bucket. An entry
    /// that is not later than the present one is left out.
    ///
    /// # Errors
    /// What `change` says, or that there is no room.
    pub(crate) fn change(
        &self,
        now: Now,
        key: &[u8],
        change: impl FnOnce(Option<&Entry>) -> Result<Option<Entry>, String>,
        emit: impl FnOnce(usize, &Entry),
    ) -> Result<(), String> {
        let (at, bucket) = self.bucket(key);
        let mut bucket = bucket.lock();
        let present = bucket.get(key);
        let Some(entry) = change(present)? else { return Ok(()) };
        if present.is_some_and(|present| present.stamp >= entry.stamp) {
            return Ok(());
        }
        if present.is_none() && bucket.len() >= BUCKET_VALUES_MAX {
            bucket.retain(|_, entry| !entry.is_over(now));
            if bucket.len() >= BUCKET_VALUES_MAX {
                return Err("the collection is full".into());
            }
        }
        emit(at, &entry);
        bucket.insert(Bytes::copy_from_slice(key), entry);
        Ok(())
    }

    /// Drops what has ended.
    pub(crate) fn sweep(&self, now: Now) {
        for bucket in &self.buckets {
            bucket.lock().retain(|_, entry| !entry.is_over(now));
        }
    }

    /// Keys and entries of a bucket that have not ended, by key.
    pub(crate) fn entries(&self, now: Now, bucket: usize) -> Vec<(Bytes, Entry)> {
        let Some(bucket) = self.buckets.get(bucket) else { return Vec::new() };
        let bucket = bucket.lock();
        let living = bucket.iter().filter(|(_, entry)| !entry.is_over(now));
        let mut entries: Vec<_> = living.map(|(k, e)| (k.clone(), e.clone())).collect();
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        entries
    }

    /// How many entries a bucket has that are not near their end, and the sum of their digests.
    pub(crate) fn digest(&self, now: Now, bucket: usize) -> (u64, u64) {
        let Some(bucket) = self.buckets.get(bucket) else { return (0, 0) };
        let bucket = bucket.lock();
        let near = now.after_s(NEAR_END_S);
        let lasting = bucket.iter().filter(|(_, e)| e.ends == 0 || e.ends > near);
        let mut total = (0, 0u64);
        for (key, entry) in lasting {
            total.0 += 1;
            total.1 = total.1.wrapping_add(self.digest_of(key, entry));
        }
        total
    }

    /// What an entry says, as a number that is the same on every node.
    pub(crate) fn digest_of(&self, key: &[u8], entry: &Entry) -> u64 {
        let mut fnv = Fnv::default();
        fnv.text(&self.name);
        fnv.text(key);
        fnv.text(entry.value.as_deref().unwrap_or_default());
        fnv.text(&entry.stamp.time_us.to_le_bytes());
        fnv.text(&entry.stamp.node.to_le_bytes());
        fnv.text(&[u8::from(entry.value.is_some())]);
        fnv.0
    }
}

/// The bucket of a key, the same on every node.
fn bucket_of(key: &[u8]) -> usize {
    let mut fnv = Fnv::default();
    fnv.text(key);
    (fnv.0 ^ fnv.0 >> 32) as usize % BUCKETS
}

/// FNV-1a: it need not be keyed, for the tables behind it are.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn text(&mut self, bytes: &[u8]) {
        for b in bytes.iter().chain(&(bytes.len() as u32).to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono_ns: 100 * SEC, unix_ms: 5_000 };

    fn stamp(time_us: u64) -> Stamp {
        Stamp { time_us, node: 1 }
    }

    #[test]
    fn the_later_stamp_wins_and_deletes_are_remembered() {
        let key = tandem_clock::Chance::from_number(1).hash_key();
        let collection = Collection::new("c", true, key);
        let put = |entry: Entry| {
            collection.change(NOW, b"k", |_| Ok(Some(entry)), |_, _| {}).unwrap();
        };
        put(Entry::value("a".into(), NOW, 0, stamp(5)));
        put(Entry::value("b".into(), NOW, 0, stamp(4)));
        assert_eq!(collection.get(NOW, b"k"), Some("a".into()));
        put(Entry::deleted(NOW, stamp(7)));
        put(Entry::value("c".into(), NOW, 0, stamp(6)));
        assert_eq!(collection.get(NOW, b"k"), None);
        put(Entry::value("d".into(), NOW, 10, stamp(8)));
        assert_eq!(collection.get(NOW.plus_ns(9 * SEC), b"k"), Some("d".into()));
        assert_eq!(collection.get(NOW.plus_ns(10 * SEC), b"k"), None);
        assert_eq!(collection.digest(NOW, bucket_of(b"k")).0, 0, "it ends soon");
        collection.sweep(NOW.plus_ns(11 * SEC));
        assert!(collection.entries(NOW, bucket_of(b"k")).is_empty());
    }
}
