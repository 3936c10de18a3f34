//! The states at the peers: what goes to them, and what comes from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tandem_clock::{Mono, Now, SEC};
use tandem_cluster::{BUCKETS, Digests, Form, Snapshot, Stamp};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::replication::{Incoming, Replicated};
use tandem_sip::sip_hash;

use crate::owner::{Key, Origin, Owner, Said};
use crate::register::{Outcome, Register};
use crate::status::Status;

/// Version of the records between Tandem nodes: a chunk of a stock sync, the stamp of the wish
/// (since version 2), then that of the state: microseconds (8 bytes, little endian) and node (4).
const TANDEM_VERSION: u16 = 2;
/// Bit of a type: the packet is followed by the stamp of the wish that its sender knew. Tandem
/// peers only.
pub(crate) const WITH_WISH: u32 = 1 << 16;
const STAMP_BYTES: usize = 12;
/// Syncs of two nodes that ask each other cross within this time.
const CROSSING_NS: Mono = 2 * SEC;
/// A stock peer that was away answers a question within this time.
const REPEATED_NS: Mono = 15 * SEC;

/// Peers that are remembered as told.
const TOLD_MAX: usize = 256;

/// What stock peers were told: a sync crosses that.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// When one was given all states.
    given_at: Option<Mono>,
    /// By peer: when changes were repeated to it, and since when they had been made, in
    /// microseconds.
    repeated: BTreeMap<u32, (Mono, u64)>,
}

impl Told {
    fn repeats(&mut self, now: Now, peer: u32, since_us: u64) {
        if self.repeated.len() >= TOLD_MAX && !self.repeated.contains_key(&peer) {
            self.repeated.clear();
        }
        let (at, since) = self.repeated.entry(peer).or_insert((now.mono_ns, since_us));
        let is_old = now.mono_ns.saturating_sub(*at) >= REPEATED_NS;
        *since = if is_old { since_us } else { since_us.min(*since) };
        *at = now.mono_ns;
    }
}

/// A state with its name.
struct Named<'a, K> {
    key: &'a K,
    name: Vec<u8>,
    hash: u32,
    status: &'a Status,
}

impl<K> Named<'_, K> {
    fn bucket(&self) -> usize {
        self.hash as usize % BUCKETS
    }

    /// What it says; when it was said does not matter.
    fn digest(&self) -> u64 {
        let said = (u64::from(self.hash) << 32) | (u64::from(self.status.bits()) + 1);
        let mixed = said.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }
}

/// The stamp behind a record, and the record without it.
fn split_stamp(record: &Bytes) -> Option<(Bytes, Stamp)> {
    let at = record.len().checked_sub(STAMP_BYTES)?;
    let (time, node) = record.get(at..)?.split_at_checked(8)?;
    let stamp = Stamp {
        time_us: u64::from_le_bytes(time.try_into().ok()?),
        node: u32::from_le_bytes(node.try_into().ok()?),
    };
    Some((record.slice(..at), stamp))
}

pub(crate) fn with_stamp(chunk: &Bytes, stamp: Stamp) -> Bytes {
    Bytes::from([&chunk[..], &stamp.time_us.to_le_bytes(), &stamp.node.to_le_bytes()].concat())
}

/// A record between Tandem nodes: the chunk, its stamp, and that of the wish behind it.
fn split_record(record: &Bytes, version: u16) -> Option<(Bytes, Stamp, Option<Stamp>)> {
    let (chunk, stamp) = split_stamp(record)?;
    if version < 2 {
        return Some((chunk, stamp, None));
    }
    let (chunk, wish) = split_stamp(&chunk)?;
    Some((chunk, stamp, Some(wish)))
}

/// A stamp for what a stock peer said, which has none: as if it had been said now.
fn stamp_of(cx: &Cx<'_>, source: u32) -> Stamp {
    Stamp { node: source, ..cx.node.outbox.stamp(cx.now) }
}

impl<O: Owner> Register<O> {
    /// Whether what a stock peer gives in a sync is not to be taken, because it is being told
    /// otherwise: it takes that, and if we took what it had the two would have been swapped.
    ///
    /// It has asked for our states as well; or it was away and what changed meanwhile was repeated
    /// to it; or another node speaks for the cluster and settles it with that peer.
    fn crosses(&self, cx: &Cx<'_>, source: u32, key: &O::Key) -> bool {
        let holder = self.holder(cx).filter(|holder| *holder != source);
        if holder.is_some_and(|holder| {
            holder != cx.node.membership().node_id() && self.is_reachable(cx, holder)
        }) {
            return true;
        }
        let told = self.told.lock();
        let within = |at: Mono, time: Mono| cx.now.mono_ns.saturating_sub(at) < time;
        if told.given_at.is_some_and(|at| within(at, CROSSING_NS)) {
            return true;
        }
        let speaks = self.sharing.tag.is_none() || holder.is_some();
        let repeated = told.repeated.get(&source).filter(|(at, _)| within(*at, REPEATED_NS));
        let since_us = repeated.map(|(_, since_us)| *since_us);
        drop(told);
        since_us.filter(|_| speaks).zip(self.status(key)).is_some_and(|(since_us, status)| {
            let stamp = status.stamp();
            stamp.node != source && stamp.time_us >= since_us
        })
    }

    fn each(&self, buckets: Option<&[u8]>, mut see: impl FnMut(&Named<'_, O::Key>)) {
        for (key, status) in &self.inner.lock().states {
            let name = key.name();
            let named = Named { key, hash: sip_hash(&name), name, status };
            let bucket = named.bucket() as u8;
            if buckets.is_none_or(|wanted| wanted.contains(&bucket)) {
                see(&named);
            }
        }
    }

    fn take(&self, cx: &mut Cx<'_>, owner: &O, said: Said<O::Key>, origin: Origin<'_>) {
        let key = owner.known_as(said.key);
        if self.change(cx, owner, &key, said.becomes, origin) == Outcome::Unknown {
            let name = String::from_utf8_lossy(&key.name()).into_owned();
            let text = format!("{}: a peer speaks of `{name}`, unknown here", O::NAME);
            cx.log(Level::Debug, text);
        }
    }
}

fn owner<O: Owner>(cx: &Cx<'_>) -> Option<Arc<O>> {
    cx.node.module::<O>(cx.slot)
}

impl<O: Owner> Replicated for Register<O> {
    fn capability(&self) -> &'static str {
        O::CAPABILITY
    }

    fn cluster(&self) -> u32 {
        self.sharing.cluster
    }

    fn startup_sync(&self) -> bool {
        O::STARTUP_SYNC
    }

    fn replaces(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>, change: Incoming) {
        let is_tandem = change.stamp.is_some();
        let split = if is_tandem && change.kind & WITH_WISH != 0 {
            split_stamp(&change.payload)
        } else {
            None
        };
        let (kind, payload, wish) = match split {
            Some((payload, wish)) => (change.kind & !WITH_WISH, payload, Some(wish)),
            None => (change.kind, change.payload, None),
        };
        let (Some(owner), Some(read)) = (owner::<O>(cx), O::read_packet(kind, &payload)) else {
            return;
        };
        let stamp = change.stamp.unwrap_or_else(|| stamp_of(cx, change.source));
        match read {
            Ok(said) => {
                let origin = Origin::Peer { stamp, wish, in_sync: false, is_tandem };
                self.take(cx, &owner, said, origin);
            }
            Err(e) => {
                let source = change.source;
                let text = format!("{}: a state of node {source} cannot be read: {e}", O::NAME);
                cx.log(Level::Warning, text);
            }
        }
    }

    fn merge(&self, cx: &mut Cx<'_>, source: u32, form: Form, version: u16, records: Vec<Bytes>) {
        let Some(owner) = owner::<O>(cx) else { return };
        for record in records {
            let read = match form {
                Form::Stock => Some((record, stamp_of(cx, source), None)),
                Form::Tandem => split_record(&record, version),
            };
            let read = read
                .and_then(|(chunk, stamp, wish)| Some((O::read_chunk(&chunk).ok()?, stamp, wish)));
            let Some((said, stamp, wish)) = read else {
                let text = format!("{}: a record of a sync cannot be read", O::NAME);
                cx.log(Level::Warning, text);
                continue;
            };
            if form == Form::Tandem {
                // Later changes of this node must be later than what it has taken in.
                cx.node.outbox.hear(cx.now, stamp);
            }
            let is_tandem = form == Form::Tandem;
            if !is_tandem && self.crosses(cx, source, &owner.known_as(said.key.clone())) {
                continue;
            }
            self.take(cx, &owner, said, Origin::Peer { stamp, wish, in_sync: true, is_tandem });
        }
    }

    fn snapshot(&self, cx: &mut Cx<'_>, form: Form, buckets: Option<&[u8]>) -> Snapshot {
        if form == Form::Stock {
            self.told.lock().given_at = Some(cx.now.mono_ns);
        }
        let version = match form {
            Form::Stock => O::VERSION,
            Form::Tandem => TANDEM_VERSION,
        };
        let mut records = Vec::new();
        self.each(buckets, |named| {
            let chunk = O::chunk(named.key, named.status.bits());
            records.extend(chunk.map(|chunk| match form {
                Form::Stock => chunk,
                Form::Tandem => {
                    let order = named.status.order();
                    with_stamp(&with_stamp(&chunk, order.wish), order.at)
                }
            }));
        });
        Snapshot { version, records }
    }

    fn digests(&self, _: Now) -> Digests {
        let mut all = Digests::default();
        self.each(None, |named| {
            all.count += 1;
            if let Some(sum) = all.buckets.get_mut(named.bucket()) {
                *sum = sum.wrapping_add(named.digest());
            }
        });
        all
    }

    fn listing(&self, _: &mut Cx<'_>, buckets: &[u8]) -> Vec<(Bytes, u64)> {
        let mut all = Vec::new();
        self.each(Some(buckets), |named| {
            all.push((Bytes::copy_from_slice(&named.name), named.digest()));
        });
        all
    }

    fn replay_since(
        &self,
        cx: &mut Cx<'_>,
        peer: u32,
        since_unix_ms: u64,
        buckets: &[u8],
    ) -> Vec<(u32, u16, Bytes)> {
        self.told.lock().repeats(cx.now, peer, since_unix_ms.saturating_mul(1_000));
        let mut packets = Vec::new();
        if !self.holds_tag(cx) {
            return packets;
        }
        self.each(Some(buckets), |named| {
            let stamp = named.status.stamp();
            if stamp.node != peer && stamp.time_us >= since_unix_ms.saturating_mul(1_000) {
                let packet = O::packet(named.key, named.status.bits());
                packets.extend(packet.map(|(kind, payload)| (kind, O::VERSION, payload)));
            }
        });
        packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stamps_survive(chunk in proptest::collection::vec(any::<u8>(), 0..40), time_us: u64) {
            let (chunk, stamp) = (Bytes::from(chunk), Stamp { time_us, node: 7 });
            let split = split_stamp(&with_stamp(&chunk, stamp));
            prop_assert_eq!(split, Some((chunk, stamp)));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = split_stamp(&Bytes::from(bytes.clone()));
            let _ = split_record(&Bytes::from(bytes), 2);
        }
    }
}
