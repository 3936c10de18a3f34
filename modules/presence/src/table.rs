//! Publications and subscriptions, in shards by presentity and event. [`Table::apply`] is the one
//! way to change one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tandem_clock::Now;
use tandem_cluster::{Digester, Digests};

use crate::change::{Change, Done, Name, Origin, Refused};
use crate::ends::Ends;
use crate::graves::{Grave, Graves};
use crate::package::{Body, Status};
use crate::record::{Key, Publication, Stamp, SubId, Subscription};
use crate::rules::UNJUDGED;

/// Shards, and buckets of digests.
pub const SHARDS: usize = 256;
/// Publications of a node, at most.
pub const PUBLICATIONS_MAX: usize = 1_000_000;
/// Subscriptions of a node, at most.
pub const SUBSCRIPTIONS_MAX: usize = 1_000_000;

/// What is told of a change to those who keep it elsewhere.
#[derive(Debug)]
pub(crate) enum Told<'a> {
    /// With the ETag it had before; empty: it is new.
    Publication {
        publication: &'a Publication,
        old_etag: &'a [u8],
    },
    Subscription(&'a Subscription),
    Notified(&'a Subscription),
    Gone {
        name: &'a Name,
        stamp: Stamp,
        until_s: u32,
        publication: Option<&'a Publication>,
        /// What is said at its end.
        body: &'a Bytes,
    },
}

/// Where changes go. Called with the shard locked, so it must only append.
pub(crate) trait Sink {
    fn stamp(&self) -> Stamp;

    /// Whose version counts of a write with this stamp, where a peer tells another one.
    fn writer(&self, stamp: Stamp) -> Writer;

    /// Something was changed here.
    fn tell(&self, bucket: usize, key: &Key, told: Told<'_>);
}

/// Whose version of a write counts. Two versions of one write should not be, but bytes can be
/// falsified, and then nodes have to agree on one all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    Us,
    /// The peer that tells it.
    Peer,
    /// Somebody who is not asked: that with the greater digest counts.
    Another,
}

impl Writer {
    pub(crate) fn of(stamp: Stamp, us: u32, peer: u32) -> Self {
        match stamp.node {
            node if node == us => Self::Us,
            node if node == peer => Self::Peer,
            _ => Self::Another,
        }
    }
}

/// A publication with its part of the digest of the shard.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) publication: Publication,
    digest: u64,
    mark: u64,
}

#[derive(Debug)]
pub(crate) struct Subscribed {
    pub(crate) subscription: Subscription,
    /// What this node has sent and nobody has answered yet: the mark, and of `asks`.
    pub(crate) sent: (u64, u32),
    /// The last CSeq that peers were told of.
    pub(crate) known_cseq: u32,
    /// The CSeq that was left behind because another node has used greater ones; 0: none.
    pub(crate) leapt_to: u32,
    /// When its row in the database is over, as far as is known here; 0: it has none.
    pub(crate) row_end_s: u32,
    digest: u64,
}

/// A presentity and event.
#[derive(Debug, Default)]
pub(crate) struct Presentity {
    /// The newest first.
    pub(crate) publications: Vec<Published>,
    /// Boxed: the tree has room for eleven where most presentities have one or two.
    pub(crate) subscriptions: BTreeMap<Arc<SubId>, Box<Subscribed>>,
    /// The subscriptions by their ends, and how far those that are over have been looked through.
    pub(crate) ends: Ends,
    /// What tells what is published, in its order, from everything else; 0: nothing is.
    pub(crate) mark: u64,
    /// A sum over who watches.
    pub(crate) watchers: u64,
    /// What was published last, when nothing is any more.
    pub(crate) last: Option<Body>,
    /// What is said, for a mark.
    pub(crate) merged: Option<(u64, Option<Bytes>)>,
    /// The database is asked; nobody is told anything before it has answered.
    pub(crate) is_asking: bool,
    /// A peer is asked.
    pub(crate) is_queried: bool,
    /// What the index of deadlines knows it under; 0: nothing.
    due_s: u32,
}

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) all: HashMap<Arc<Key>, Presentity, RandomState>,
    /// Unix seconds.
    due: BTreeSet<(u32, Arc<Key>)>,
    pub(crate) graves: Graves,
    compared: (u64, u64),
}

type Dialogs = HashMap<Arc<SubId>, SmallVec<[Arc<Key>; 1]>, RandomState>;

/// The tables.
#[derive(Debug)]
pub struct Table {
    pub(crate) shards: Vec<Mutex<Shard>>,
    /// Where the subscriptions of a dialog are; locked for a moment, also with a shard locked.
    dialogs: Mutex<Dialogs>,
    publications: AtomicUsize,
    subscriptions: AtomicUsize,
}

impl Table {
    pub(crate) fn new(hash: &RandomState) -> Self {
        let shard = |_| {
            Mutex::new(Shard {
                all: HashMap::with_hasher(hash.clone()),
                due: BTreeSet::new(),
                graves: Graves::new(hash.clone()),
                compared: (0, 0),
            })
        };
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            dialogs: Mutex::new(HashMap::with_hasher(hash.clone())),
            publications: AtomicUsize::new(0),
            subscriptions: AtomicUsize::new(0),
        }
    }

    pub(crate) fn shard(&self, bucket: usize) -> &Mutex<Shard> {
        &self.shards[bucket % SHARDS]
    }

    pub fn publication_count(&self) -> usize {
        self.publications.load(Ordering::Relaxed)
    }

    pub fn subscription_count(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// Reads what is known of a presentity; keep it short, a lock is held.
    pub(crate) fn read<R>(&self, key: &Key, look: impl FnOnce(&Presentity) -> R) -> Option<R> {
        self.shard(key.bucket()).lock().all.get(key).map(look)
    }

    /// Changes what only this node keeps of a presentity.
    pub(crate) fn local<R>(
        &self,
        key: &Key,
        change: impl FnOnce(&mut Presentity) -> R,
    ) -> Option<R> {
        let mut shard = self.shard(key.bucket()).lock();
        let result = shard.all.get_mut(key).map(change);
        shard.drop_if_empty(key);
        result
    }

    /// The same for one that may not be there yet.
    pub(crate) fn local_or_new<R>(
        &self,
        key: &Key,
        change: impl FnOnce(&mut Presentity) -> R,
    ) -> R {
        let mut shard = self.shard(key.bucket()).lock();
        let result = change(shard.all.entry(Arc::new(key.clone())).or_default());
        shard.drop_if_empty(key);
        result
    }

    /// The presentities of which a dialog has subscriptions.
    pub fn keys_of(&self, id: &SubId) -> SmallVec<[Arc<Key>; 1]> {
        self.dialogs.lock().get(id).cloned().unwrap_or_default()
    }

    pub fn subscription(&self, key: &Key, id: &SubId) -> Option<Subscription> {
        self.read(key, |p| p.subscriptions.get(id).map(|s| s.subscription.clone())).flatten()
    }

    /// All keys, a bucket at a time.
    pub fn keys(&self, bucket: usize) -> Vec<Arc<Key>> {
        let mut keys: Vec<_> = self.shard(bucket).lock().all.keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Keys of which something has come due, and whether there are more.
    pub(crate) fn due(&self, bucket: usize, now_s: u64, max: usize) -> (Vec<Arc<Key>>, bool) {
        let shard = self.shard(bucket).lock();
        let mut due = shard.due.iter().take_while(|(at, _)| u64::from(*at) <= now_s);
        let keys: Vec<_> = due.by_ref().take(max).map(|(_, key)| Arc::clone(key)).collect();
        (keys, due.next().is_some())
    }

    /// How many presentities have something that is over.
    pub(crate) fn overdue(&self, now_s: u64) -> usize {
        let of = |shard: &Mutex<Shard>| {
            shard.lock().due.iter().take_while(|(at, _)| u64::from(*at) <= now_s).count()
        };
        self.shards.iter().map(of).sum()
    }

    /// What is due of a presentity is dealt with, or looked at again then.
    pub(crate) fn come_due_again(&self, key: &Key, at_s: Option<u32>) {
        let mut shard = self.shard(key.bucket()).lock();
        let Some((key, presentity)) = shard.all.get_key_value(key) else { return };
        let next = at_s.or_else(|| presentity.next_due_s()).unwrap_or(0);
        let key = Arc::clone(key);
        shard.set_due(&key, next);
    }

    pub(crate) fn digests(&self) -> Digests {
        let mut digests = Digests::default();
        for (shard, bucket) in self.shards.iter().zip(digests.buckets.iter_mut()) {
            let (count, sum) = shard.lock().compared;
            digests.count += count;
            *bucket = sum;
        }
        digests
    }

    /// Everything, in the order of keys: for tests and checkers.
    pub fn everything(&self) -> (Vec<Publication>, Vec<Subscription>) {
        let (mut publications, mut subscriptions) = (Vec::new(), Vec::new());
        for bucket in 0..SHARDS {
            for key in self.keys(bucket) {
                self.read(&key, |p| {
                    publications.extend(p.publications.iter().map(|p| p.publication.clone()));
                    let all = p.subscriptions.values();
                    subscriptions.extend(all.map(|s| s.subscription.clone()));
                });
            }
        }
        (publications, subscriptions)
    }

    pub(crate) fn grave_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().graves.len()).sum()
    }

    /// Carries out a change.
    ///
    /// # Errors
    /// Why it was not.
    pub(crate) fn apply(
        &self,
        now: Now,
        key: &Key,
        origin: Origin,
        sink: &dyn Sink,
        change: Change,
    ) -> Result<Done, Refused> {
        let bucket = key.bucket();
        let mut shard = self.shard(bucket).lock();
        let known = shard.all.get_key_value(key).map(|(key, _)| Arc::clone(key));
        let key = known.unwrap_or_else(|| Arc::new(key.clone()));
        let mut work = Work { table: self, shard: &mut shard, key: &key, now, origin, sink };
        let is_there = matches!(change, Change::Tell(_) | Change::Confirm { .. });
        let done = match change {
            Change::Publish(publication) => work.publish(*publication),
            Change::Unpublish { id, body } => work.unpublish(&id, &body),
            Change::Subscribe(subscription) => work.subscribe(*subscription),
            Change::Tell(tell) => work.tell_watcher(&tell),
            Change::Unsent { id, cseq, is_final } => work.unsent(&id, cseq, is_final),
            Change::Outrun { id, cseq } => work.outrun(&id, cseq),
            Change::Confirm { id, cseq, mark, asks } => work.confirm(&id, cseq, mark, asks),
            Change::Told { id, sent } => work.told(&id, &sent),
            Change::Forget { id } => work.forget(&id),
            Change::Expire => Ok(work.expire()),
            Change::Bury { name, stamp, until_s, body } => {
                work.bury(name, Grave { stamp, until_s }, &body)
            }
        };
        // What a NOTIFY changes is there before and behind it.
        if !is_there || done.is_err() {
            shard.drop_if_empty(&key);
        }
        done
    }

    pub(crate) fn add_dialog(&self, key: &Arc<Key>, id: &Arc<SubId>) {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
        self.dialogs.lock().entry(Arc::clone(id)).or_default().push(Arc::clone(key));
    }

    pub(crate) fn remove_dialog(&self, key: &Key, id: &SubId) {
        self.subscriptions.fetch_sub(1, Ordering::Relaxed);
        let mut dialogs = self.dialogs.lock();
        if let Some(keys) = dialogs.get_mut(id) {
            keys.retain(|k| **k != *key);
            if keys.is_empty() {
                dialogs.remove(id);
            }
        }
    }

    pub(crate) fn count_publications(&self, by: isize) {
        self.publications.fetch_add(by as usize, Ordering::Relaxed);
    }
}

impl Presentity {
    /// When the first thing of it is over; `None`: never.
    pub(crate) fn next_due_s(&self) -> Option<u32> {
        let publications = self.publications.iter().map(|p| p.publication.expires_s);
        publications.chain(self.ends.first_s()).min().map(|at| at.max(1))
    }

    /// Publications have come, gone or changed places.
    pub(crate) fn set_mark(&mut self) {
        let mut digester = Digester::default();
        self.publications.iter().for_each(|p| digester.number(p.mark));
        self.mark = if self.publications.is_empty() { 0 } else { digester.end_nonzero() };
    }

    /// What is published now, the newest first.
    pub(crate) fn bodies(&self, now_s: u64) -> Vec<Body> {
        let live = self.publications.iter().filter(|p| p.publication.is_live(now_s));
        // A publication without a body keeps its ETag alive and says nothing.
        let live = live.filter(|p| !p.publication.body.is_empty());
        live.map(|p| p.publication.body()).collect()
    }

    pub(crate) fn publication(&self, etag: &[u8]) -> Option<&Publication> {
        let mut all = self.publications.iter().map(|p| &p.publication);
        all.find(|p| *p.etag == *etag)
    }

    pub(crate) fn sphere(&self) -> &[u8] {
        let mut spheres = self.publications.iter().map(|p| &*p.publication.sphere);
        spheres.find(|s| !s.is_empty()).unwrap_or_default()
    }
}

impl Published {
    /// Whether what a peer tells takes the place of what is known.
    pub(crate) fn replaces(&self, known: &Self, writer: Writer) -> bool {
        let order = self.publication.stamp.cmp(&known.publication.stamp);
        order.is_gt()
            || order.is_eq()
                && self.publication != known.publication
                && match writer {
                    Writer::Us => false,
                    Writer::Peer => true,
                    Writer::Another => self.digest > known.digest,
                }
    }

    pub(crate) fn new(publication: Publication) -> Self {
        let (digest, mark) = (publication.digest(), publication.mark());
        Self { publication, digest, mark }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }
}

impl Subscribed {
    pub(crate) fn new(subscription: Subscription) -> Self {
        let digest = subscription.digest();
        let known_cseq = subscription.sent.cseq;
        Self { subscription, sent: (0, 0), known_cseq, leapt_to: 0, row_end_s: 0, digest }
    }

    /// Whether this node has sent him anything that counts still.
    pub(crate) fn has_sent(&self) -> bool {
        self.sent != (0, 0)
    }

    /// Whether a NOTIFY is due: for a new state, or because somebody asked.
    pub(crate) fn is_owed(&self, mark: u64) -> bool {
        let s = &self.subscription;
        let (sent, sent_asks) = self.sent;
        let asked = s.sent.answers != s.asks && sent_asks != s.asks;
        // What is out counts, also while the watcher has not confirmed it: the state may be again
        // what he was told before.
        let last = if sent != 0 { sent } else { s.sent.told };
        // What he may see of it is not known before the rules have been asked.
        let sees = s.status == Status::Active && *s.view != *UNJUDGED;
        asked || (sees && last != mark)
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Changes the subscription; gives the digests before and after.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Subscription)) -> (u64, u64) {
        let before = self.digest;
        change(&mut self.subscription);
        self.digest = self.subscription.digest();
        (before, self.digest)
    }
}

impl Shard {
    /// A digest has changed; 0 is none.
    pub(crate) fn weigh(&mut self, old: u64, new: u64) {
        let (count, sum) = &mut self.compared;
        *count = (*count + u64::from(new != 0)).saturating_sub(u64::from(old != 0));
        *sum = sum.wrapping_sub(old).wrapping_add(new);
    }

    fn set_due(&mut self, key: &Arc<Key>, at_s: u32) {
        let Some(presentity) = self.all.get_mut(key) else { return };
        let before = std::mem::replace(&mut presentity.due_s, at_s);
        if before == at_s {
            return;
        }
        if before != 0 {
            self.due.remove(&(before, Arc::clone(key)));
        }
        if at_s != 0 {
            self.due.insert((at_s, Arc::clone(key)));
        }
    }

    /// Something of a presentity is over then. What is over later than it was comes due once in
    /// vain, which costs less than to look for the first of many subscriptions at each change.
    pub(crate) fn is_over_at(&mut self, key: &Arc<Key>, at_s: u32) {
        let known = self.all.get(key).map_or(0, |p| p.due_s);
        if known == 0 || at_s < known {
            self.set_due(key, at_s.max(1));
        }
    }

    fn drop_if_empty(&mut self, key: &Key) {
        let is_empty = |p: &Presentity| {
            p.publications.is_empty() && p.subscriptions.is_empty() && !p.is_asking
        };
        if self.all.get(key).is_some_and(is_empty)
            && let Some((key, presentity)) = self.all.remove_entry(key)
        {
            self.due.remove(&(presentity.due_s, key));
        }
    }
}

/// One change being carried out, with its shard locked.
pub(crate) struct Work<'a> {
    pub(crate) table: &'a Table,
    pub(crate) shard: &'a mut Shard,
    pub(crate) key: &'a Arc<Key>,
    pub(crate) now: Now,
    pub(crate) origin: Origin,
    pub(crate) sink: &'a dyn Sink,
}

impl Work<'_> {
    pub(crate) fn is_local(&self) -> bool {
        self.origin == Origin::Local
    }

    pub(crate) fn tell(&self, told: Told<'_>) {
        if self.is_local() {
            self.sink.tell(self.key.bucket(), self.key, told);
        }
    }

    pub(crate) fn presentity(&mut self) -> &mut Presentity {
        self.shard.all.entry(Arc::clone(self.key)).or_default()
    }

    pub(crate) fn bury_own(&mut self, name: &Name, known: Stamp, expires_s: u32) -> (Stamp, u32) {
        let stamp = self.sink.stamp().max(known);
        let now_s = self.now.unix_s();
        // Late copies of it are older than its end.
        let until_s = u64::from(expires_s).clamp(now_s + 64, now_s + 24 * 3600) as u32;
        let full = (Arc::clone(self.key), name.clone());
        self.shard.graves.add(full, Grave { stamp, until_s }, now_s);
        (stamp, until_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_returns_while_another_is_out_is_owed_again() {
        let (a, b) = (11, 12);
        let mut entry = Subscribed::new(Subscription::default());
        entry.subscription.sent.told = a;
        assert!(!entry.is_owed(a) && entry.is_owed(b));
        entry.sent = (b, 0);
        assert!(!entry.is_owed(b) && entry.is_owed(a), "he has been told b, or will be");
    }
}
