//! Ends that are remembered after the dialog is forgotten, so that a peer that missed one does not
//! bring the call back; and what the table shows to peers.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use tandem_bin::dialog::DialogPacket;
use tandem_clock::{Now, SEC};
use tandem_cluster::Digests;

use crate::id::DialogId;
use crate::record::{Dialog, Stamp};
use crate::replication::stock;
use crate::table::{Shard, Table};

/// Ends that one shard remembers.
const GRAVES_MAX: usize = 1024;
/// An end is remembered up to the expiry of the dialog, but no longer than this.
const REMEMBERED_S: u64 = 24 * 3600;

/// The end of a dialog.
#[derive(Clone, Debug)]
pub(crate) struct Grave {
    pub(crate) stamp: Stamp,
    /// Unix seconds.
    pub(crate) until_s: u32,
    /// The packet that tells a stock peer; empty: only a Tandem peer told of the end.
    pub(crate) packet: Bytes,
}

/// The ends of a shard, by number of the dialog.
#[derive(Debug, Default)]
pub(crate) struct Graves {
    all: HashMap<u64, Grave>,
    /// In the order in which they came.
    order: VecDeque<u64>,
}

impl Graves {
    fn add(&mut self, number: u64, grave: Grave, now_s: u64) {
        if let Some(known) = self.all.get_mut(&number) {
            known.stamp = known.stamp.max(grave.stamp);
            return;
        }
        while let Some(first) = self.order.front() {
            let over = self.all.get(first).is_none_or(|g| u64::from(g.until_s) <= now_s);
            if !over && self.order.len() < GRAVES_MAX {
                break;
            }
            self.all.remove(first);
            self.order.pop_front();
        }
        self.order.push_back(number);
        self.all.insert(number, grave);
    }
}

/// What a shard shows.
pub(crate) enum Kept<'a> {
    Dialog(&'a Dialog),
    Grave(DialogId, &'a Grave),
}

impl Shard {
    /// A digest has changed; 0 is none.
    pub(crate) fn weigh(&mut self, old: u64, new: u64) {
        let (count, sum) = &mut self.compared;
        *count = *count + u64::from(new != 0) - u64::from(old != 0);
        *sum = sum.wrapping_sub(old).wrapping_add(new);
    }
}

impl Table {
    /// Shows everything in a bucket, in the order of names. The shard is locked meanwhile.
    pub(crate) fn each(&self, bucket: usize, mut show: impl FnMut(Kept<'_>)) {
        let Some(shard) = self.shards.get(bucket) else { return };
        let shard = shard.lock();
        let mut dialogs: Vec<&Dialog> = shard.entries.values().map(|e| &e.dialog).collect();
        dialogs.sort_unstable_by_key(|d| d.id);
        dialogs.into_iter().for_each(|d| show(Kept::Dialog(d)));
        for number in &shard.graves.order {
            if let Some(grave) = shard.graves.all.get(number) {
                show(Kept::Grave(DialogId::from_number(*number), grave));
            }
        }
    }

    /// Count and sums of what peers compare.
    pub(crate) fn digests(&self) -> Digests {
        let mut digests = Digests::default();
        for (shard, bucket) in self.shards.iter().zip(digests.buckets.iter_mut()) {
            let (count, sum) = shard.lock().compared;
            digests.count += count;
            *bucket = sum;
        }
        digests
    }

    /// Whether the end of a dialog is remembered that is not here any more.
    pub(crate) fn is_buried(&self, id: DialogId) -> bool {
        self.shard(id).lock().graves.all.contains_key(&id.number())
    }

    /// When a dialog that is not here any more was last written, and until when that is remembered
    /// (Unix seconds).
    pub(crate) fn grave(&self, id: DialogId) -> Option<(Stamp, u32)> {
        let shard = self.shard(id).lock();
        shard.graves.all.get(&id.number()).map(|grave| (grave.stamp, grave.until_s))
    }

    /// Remembers the end of an answered dialog.
    pub(crate) fn bury(&self, now: Now, d: &Dialog) {
        let packet = DialogPacket::Deleted(stock::name(d)).encode().unwrap_or_default();
        self.remember(now, d.id, d.stamp, d.expires_s, packet);
    }

    /// Remembers an end up to these Unix seconds.
    pub(crate) fn remember(
        &self,
        now: Now,
        id: DialogId,
        stamp: Stamp,
        until_s: u32,
        packet: Bytes,
    ) {
        let now_s = now.unix_s();
        let until_s = u64::from(until_s).clamp(now_s + MEMORY_MIN_S, now_s + REMEMBERED_S);
        let until_s = u32::try_from(until_s).unwrap_or(u32::MAX);
        let mut shard = self.shard(id).lock();
        shard.graves.add(id.number(), Grave { stamp, until_s, packet }, now_s);
    }

    /// Ends that are remembered.
    pub fn grave_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().graves.order.len()).sum()
    }

    /// Dialogs that have come due.
    pub(crate) fn overdue(&self, now: Now) -> usize {
        let last = (now.mono_ns / SEC, u64::MAX);
        self.shards.iter().map(|shard| shard.lock().due.range(..=last).count()).sum()
    }
}

/// An end is remembered for this long at least: peers that are away for a moment miss it.
const MEMORY_MIN_S: u64 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_ends_and_too_many_are_forgotten() {
        let mut graves = Graves::default();
        let grave =
            |until_s| Grave { stamp: Stamp { time_us: 1, node: 1 }, until_s, packet: Bytes::new() };
        graves.add(1, grave(100), 10);
        graves.add(2, grave(500), 10);
        graves.add(3, grave(500), 101);
        assert!(!graves.all.contains_key(&1) && graves.all.contains_key(&2));
        for number in 10..10 + GRAVES_MAX as u64 {
            graves.add(number, grave(500), 101);
        }
        assert_eq!((graves.all.len(), graves.order.len()), (GRAVES_MAX, GRAVES_MAX));
        assert!(!graves.all.contains_key(&3) && graves.all.contains_key(&10));
    }
}
