//! The capability `cachedb-local-repl`: what goes to peers, and what comes from them.

use bytes::Bytes;
use tandem_bin::cachedb_local as stock;
use tandem_clock::Now;
use tandem_cluster::{BUCKETS, Digests, Form, Snapshot, Stamp};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::replication::{Incoming, Replicated};

use crate::state::{Local, packet};
use crate::store::{Collection, Entry};
use crate::wire::{Record, VERSION};

impl Local {
    /// Puts an entry of a peer in, without an echo. A collection that is not shared here is left
    /// alone.
    fn take(&self, cx: &mut Cx<'_>, name: &[u8], key: &[u8], entry: Entry) {
        let found = std::str::from_utf8(name).ok().and_then(|name| self.collection(name));
        let Some(collection) = found else {
            let name = String::from_utf8_lossy(name);
            cx.log(Level::Error, format!("a peer replicates the unknown collection {name:?}"));
            return;
        };
        if !collection.replicated || key.is_empty() {
            return;
        }
        self.changed.store(true, std::sync::atomic::Ordering::Release);
        if let Err(why) = collection.change(cx.now, key, |_| Ok(Some(entry)), |_, _| {}) {
            cx.log(Level::Error, format!("a value of a peer is left out: {why}"));
        }
    }

    /// A value of a stock node counts as written when it comes.
    fn take_stock(&self, cx: &mut Cx<'_>, packet: stock::CachedbLocal, stamp: Stamp) {
        match packet {
            stock::CachedbLocal::Insert(insert) => {
                let entry = Entry::value(insert.value, cx.now, insert.expires_s, stamp);
                self.take(cx, &insert.collection, &insert.key, entry);
            }
            stock::CachedbLocal::Remove { collection, key } => {
                let entry = Entry::deleted(cx.now, stamp);
                self.take(cx, &collection, &key, entry);
            }
        }
    }

    /// Every entry of some buckets of what is shared.
    fn entries(
        &self,
        now: Now,
        buckets: Option<&[u8]>,
    ) -> impl Iterator<Item = (&Collection, Bytes, Entry)> {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let wanted = buckets.map_or(all, <[u8]>::to_vec);
        self.shared().flat_map(move |collection| {
            let of = |bucket: u8| collection.entries(now, usize::from(bucket));
            let entries: Vec<_> = wanted.iter().flat_map(|bucket| of(*bucket)).collect();
            entries.into_iter().map(move |(key, entry)| (collection, key, entry))
        })
    }
}

impl Replicated for Local {
    fn capability(&self) -> &'static str {
        "cachedb-local-repl"
    }

    fn cluster(&self) -> u32 {
        self.params.cluster
    }

    fn startup_sync(&self) -> bool {
        self.params.syncs
    }

    fn apply(&self, cx: &mut Cx<'_>, change: Incoming) {
        let stamp = match change.stamp {
            Some(stamp) => stamp,
            None => Stamp { node: change.source, ..cx.node.outbox.stamp(cx.now) },
        };
        match stock::CachedbLocal::decode(change.kind, &change.payload) {
            Ok(packet) => self.take_stock(cx, packet, stamp),
            Err(e) => {
                let source = change.source;
                cx.log(Level::Warning, format!("a value of node {source} cannot be read: {e}"));
            }
        }
    }

    fn merge(&self, cx: &mut Cx<'_>, source: u32, form: Form, _version: u16, records: Vec<Bytes>) {
        for record in &records {
            match form {
                Form::Stock => match stock::Insert::decode(record) {
                    Ok(insert) => {
                        let stamp = Stamp { node: source, ..cx.node.outbox.stamp(cx.now) };
                        self.take_stock(cx, stock::CachedbLocal::Insert(insert), stamp);
                    }
                    Err(e) => cx.log(Level::Warning, format!("a value of a sync: {e}")),
                },
                Form::Tandem => match Record::decode(record, cx.now) {
                    Some(Record { collection, key, entry }) => {
                        // Later writes of this node must be later than what it has taken in.
                        cx.node.outbox.hear(cx.now, entry.stamp);
                        self.take(cx, &collection, &key, entry);
                    }
                    None => cx.log(Level::Warning, "a record of a repair cannot be read"),
                },
            }
        }
    }

    fn snapshot(&self, cx: &mut Cx<'_>, form: Form, buckets: Option<&[u8]>) -> Snapshot {
        let now = cx.now;
        let entries = self.entries(now, buckets);
        match form {
            Form::Stock => {
                let living = entries.filter(|(.., entry)| entry.value.is_some());
                let encoded = living.filter_map(|(collection, key, entry)| {
                    packet(collection, &key, &entry, now).encode().ok()
                });
                Snapshot { version: stock::VERSION, records: encoded.collect() }
            }
            Form::Tandem => {
                let encoded = entries.map(|(collection, key, entry)| {
                    Record::encode(&collection.name, &key, &entry, now)
                });
                Snapshot { version: VERSION, records: encoded.collect() }
            }
        }
    }

    fn digests(&self, now: Now) -> Digests {
        let mut all = Digests::default();
        for collection in self.shared() {
            for (bucket, sum) in (0..BUCKETS).zip(all.buckets.iter_mut()) {
                let (count, digest) = collection.digest(now, bucket);
                all.count += count;
                *sum = sum.wrapping_add(digest);
            }
        }
        all
    }

    fn listing(&self, cx: &mut Cx<'_>, buckets: &[u8]) -> Vec<(Bytes, u64)> {
        let entries = self.entries(cx.now, Some(buckets));
        let named = entries.map(|(collection, key, entry)| {
            let name = [&collection.name[..], b" ", &key].concat();
            (Bytes::from(name), collection.digest_of(&key, &entry))
        });
        named.collect()
    }

    fn replay_since(
        &self,
        cx: &mut Cx<'_>,
        peer: u32,
        since_unix_ms: u64,
        buckets: &[u8],
    ) -> Vec<(u32, u16, Bytes)> {
        let now = cx.now;
        let since_us = since_unix_ms.saturating_mul(1_000);
        let changed = self.entries(now, Some(buckets));
        let changed = changed
            .filter(|(.., entry)| entry.stamp.time_us >= since_us && entry.stamp.node != peer);
        changed
            .filter_map(|(collection, key, entry)| {
                let packet = packet(collection, &key, &entry, now);
                Some((packet.packet_type(), stock::VERSION, packet.encode().ok()?))
            })
            .collect()
    }
}
