//! The running module.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tandem_bin::cachedb_local as wire;
use tandem_clock::Now;
use tandem_engine::cache::{CacheStore, KEY_BYTES_MAX};
use tandem_engine::module::{Build, BuildError, Cx, Module, Timer};
use tandem_engine::node::Node;
use tandem_engine::outbox::Record;
use tandem_engine::replication::Replicated;

use crate::params::Params;
use crate::persist::PERIOD_S;
use crate::store::{Collection, Entry};

/// The longest value; in a replicated collection a packet has to hold it.
const VALUE_BYTES_MAX: usize = 256 << 10;
const REPLICATED_BYTES_MAX: usize = 60_000;

/// The timers, by kind.
const SWEEP: u32 = 0;
const PERSIST: u32 = 1;

/// The state of the module.
pub(crate) struct Local {
    pub(crate) params: Params,
    slot: u16,
    collections: BTreeMap<String, Collection>,
    /// Something differs from the file.
    pub(crate) changed: AtomicBool,
}

impl Local {
    pub(crate) fn build(build: &mut Build<'_>) -> Result<Arc<dyn Module>, BuildError> {
        let params = Params::read(build)?;
        let mut collections = BTreeMap::new();
        for (name, replicated) in &params.collections {
            let replicated = *replicated && params.cluster != 0;
            let key = build.hash_key();
            collections.insert(name.clone(), Collection::new(name, replicated, key));
        }
        let changed = AtomicBool::new(false);
        Ok(Arc::new(Self { params, slot: build.slot, collections, changed }))
    }

    pub(crate) fn collection(&self, name: &str) -> Option<&Collection> {
        self.collections.get(name)
    }

    pub(crate) fn collections(&self) -> impl Iterator<Item = &Collection> {
        self.collections.values()
    }

    /// Those that peers have, too.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Collection> {
        self.collections.values().filter(|collection| collection.replicated)
    }

    fn of_id(&self, id: &str) -> Result<&Collection, String> {
        let named = self.params.ids.get(id).and_then(|name| self.collections.get(name));
        named.ok_or_else(|| format!("there is no cache `{id}`: set cachedb_url"))
    }

    /// Changes a key on behalf of this node: `change` makes the new entry under the stamp.
    pub(crate) fn change(
        &self,
        cx: &Cx<'_>,
        collection: &Collection,
        key: &[u8],
        change: impl FnOnce(Option<&Entry>) -> Result<Option<Entry>, String>,
    ) -> Result<(), String> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(format!("a key has 1 to {KEY_BYTES_MAX} bytes"));
        }
        let (node, now) = (cx.node, cx.now);
        collection.change(now, key, change, |bucket, entry| {
            self.changed.store(true, Ordering::Release);
            if collection.replicated {
                self.tell(node, now, collection, key, bucket, entry);
            }
        })
    }

    /// Appends a change for the peers; the lock of the bucket is held.
    fn tell(
        &self,
        node: &Node,
        now: Now,
        collection: &Collection,
        key: &[u8],
        bucket: usize,
        entry: &Entry,
    ) {
        let packet = packet(collection, key, entry, now);
        let Ok(payload) = packet.encode() else { return };
        let (kind, version) = (packet.packet_type(), wire::VERSION);
        let record = Record::same(self.slot, kind, version, payload, entry.stamp);
        node.outbox.append(bucket, record);
    }

    fn fits(collection: &Collection, value: &[u8]) -> Result<(), String> {
        let most = if collection.replicated { REPLICATED_BYTES_MAX } else { VALUE_BYTES_MAX };
        match value.len() <= most {
            true => Ok(()),
            false => Err(format!("a value has at most {most} bytes here")),
        }
    }
}

/// What peers are told of an entry.
pub(crate) fn packet(
    collection: &Collection,
    key: &[u8],
    entry: &Entry,
    now: Now,
) -> wire::CachedbLocal {
    let (collection, key) = (collection.name.clone(), Bytes::copy_from_slice(key));
    match &entry.value {
        Some(value) => {
            let (value, expires_s) = (value.clone(), entry.left_s(now));
            wire::CachedbLocal::Insert(wire::Insert { collection, key, value, expires_s })
        }
        None => wire::CachedbLocal::Remove { collection, key },
    }
}

impl CacheStore for Local {
    fn scheme(&self) -> &'static str {
        "local"
    }

    fn fetch(&self, cx: &mut Cx<'_>, id: &str, key: &[u8]) -> Result<Option<Bytes>, String> {
        Ok(self.of_id(id)?.get(cx.now, key))
    }

    fn store(
        &self,
        cx: &mut Cx<'_>,
        id: &str,
        key: &[u8],
        value: Bytes,
        expire_s: u32,
    ) -> Result<(), String> {
        let collection = self.of_id(id)?;
        Self::fits(collection, &value)?;
        let (node, now) = (cx.node, cx.now);
        self.change(cx, collection, key, |_| {
            Ok(Some(Entry::value(value, now, expire_s, node.outbox.stamp(now))))
        })
    }

    fn remove(&self, cx: &mut Cx<'_>, id: &str, key: &[u8]) -> Result<(), String> {
        let collection = self.of_id(id)?;
        self.delete(cx, collection, key)
    }

    fn add(
        &self,
        cx: &mut Cx<'_>,
        id: &str,
        key: &[u8],
        by: i32,
        expire_s: u32,
    ) -> Result<i32, String> {
        let collection = self.of_id(id)?;
        let (node, now) = (cx.node, cx.now);
        let mut sum = by;
        self.change(cx, collection, key, |present| {
            let stamp = node.outbox.stamp(now);
            let live = present.and_then(|entry| Some((entry.live(now)?, entry.ends)));
            let Some((value, ends)) = live else {
                return Ok(Some(Entry::value(by.to_string().into(), now, expire_s, stamp)));
            };
            let number = std::str::from_utf8(value).ok().and_then(|v| v.trim().parse::<i32>().ok());
            sum = number.ok_or("the value is not a counter")?.wrapping_add(by);
            let mut entry = Entry::value(sum.to_string().into(), now, expire_s, stamp);
            if expire_s == 0 {
                entry.ends = ends;
            }
            Ok(Some(entry))
        })?;
        Ok(sum)
    }
}

impl Local {
    /// Deletes a key, if it has a value.
    pub(crate) fn delete(
        &self,
        cx: &Cx<'_>,
        collection: &Collection,
        key: &[u8],
    ) -> Result<(), String> {
        let (node, now) = (cx.node, cx.now);
        self.change(cx, collection, key, |present| {
            let live = present.is_some_and(|entry| entry.live(now).is_some());
            Ok(live.then(|| Entry::deleted(now, node.outbox.stamp(now))))
        })
    }
}

impl Module for Local {
    fn start(&self, cx: &mut Cx<'_>) {
        let at = cx.now.after_s(self.params.clean_period_s);
        cx.set_timer(at, Timer { kind: SWEEP, id: 0 });
        if self.params.persists {
            self.begin_restore(cx);
            cx.set_timer(cx.now.after_s(PERIOD_S), Timer { kind: PERSIST, id: 0 });
        }
    }

    fn file_read(&self, cx: &mut Cx<'_>, _token: u64, result: Result<Option<Bytes>, String>) {
        self.restore(cx, result);
    }

    fn shutdown(&self, cx: &mut Cx<'_>) {
        self.persist(cx);
    }

    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        if timer.kind == PERSIST {
            self.persist(cx);
            return cx.set_timer(cx.now.after_s(PERIOD_S), timer);
        }
        self.collections.values().for_each(|collection| collection.sweep(cx.now));
        let at = cx.now.after_s(self.params.clean_period_s);
        cx.set_timer(at, timer);
    }

    fn cache(&self) -> Option<&dyn CacheStore> {
        Some(self)
    }

    fn replicated(&self) -> Option<&dyn Replicated> {
        let shared = self.params.cluster != 0 && self.shared().next().is_some();
        shared.then_some(self as &dyn Replicated)
    }
}
