//! What peers are told, and what comes from them.
//!
//! Tandem nodes tell each other every publication and subscription when `cluster_id` is set,
//! record by record (`fields.rs`). Stock nodes are told publications as `cluster_federation_mode`
//! says, in the packets of their protocol (`stock.rs`). What comes in goes through
//! [`crate::table::Table::apply`] like any other change, and is merged, so that order and
//! repetition do not matter.

#[cfg(test)]
mod converge;
pub(crate) mod fields;
mod incoming;
pub(crate) mod stock;
pub(crate) mod takeover;

use bytes::Bytes;
use tandem_bin::presence as wire;
use tandem_clock::Now;
use tandem_cluster::{Change as Telling, Digests, Form, Payload, Snapshot};
use tandem_engine::module::Cx;
use tandem_engine::outbox::Record;
use tandem_engine::replication::{Incoming, Replicated};

use crate::params::Federation;
use crate::record::{Key, Publication};
use crate::state::Presence;
use crate::table::{Presentity, SHARDS, Table, Told};

/// A record between Tandem nodes.
pub(crate) const RECORD: u32 = 101;

impl Presence {
    /// Something was changed here: the peers are told. Called with the shard locked, so it only
    /// appends.
    pub(crate) fn replicate(&self, cx: &Cx<'_>, bucket: usize, key: &Key, told: &Told<'_>) {
        if !self.is_replicated() {
            return;
        }
        let (bytes, stamp) = match told {
            Told::Publication { publication, .. } => {
                (fields::publication(key, publication), publication.stamp)
            }
            Told::Subscription(s) => (fields::subscription(key, s), s.stamp),
            Told::Notified(s) => (fields::sent(key, s), cx.node.outbox.stamp(cx.now)),
            Told::Gone { name, stamp, until_s, body, .. } => {
                (fields::gone(key, name, *stamp, *until_s, body), *stamp)
            }
        };
        let stock = cx.node.outbox.has_stock() && self.params.shares(&key.event);
        let stock = (stock && self.is_active(cx)).then(|| stock::packet(key, told, cx.now));
        let stock = stock.flatten().and_then(|packet| {
            // What is larger than a packet cannot be told; half of it would be worse.
            let bytes = packet.encode().ok()?;
            Some(Payload { kind: wire::PUBLISH, version: wire::VERSION, bytes })
        });
        let tandem = Some(Payload { kind: RECORD, version: fields::VERSION, bytes });
        let change = Telling { stock, tandem, stamp };
        cx.node.outbox.append(bucket, Record { slot: self.slot, part: 0, change });
    }

    /// The publications of a bucket, as stock nodes are told.
    fn stock_bucket(
        &self,
        bucket: usize,
        now: Now,
        mut show: impl FnMut(&Publication, wire::Publish),
    ) {
        each(&self.table, bucket, |key, presentity| {
            if !self.params.shares(&key.event) {
                return;
            }
            for entry in &presentity.publications {
                let p = &entry.publication;
                if p.is_live(now.unix_s()) {
                    show(p, stock::publish(key, p, b"", now));
                }
            }
        });
    }
}

/// Everything in a bucket that a Tandem peer has to know.
fn tandem_bucket(table: &Table, bucket: usize, records: &mut Vec<Bytes>) {
    each(table, bucket, |key, presentity| {
        let all = presentity.publications.iter();
        records.extend(all.map(|p| fields::publication(key, &p.publication)));
        let all = presentity.subscriptions.values();
        records.extend(all.map(|s| fields::subscription(key, &s.subscription)));
    });
    let shard = table.shard(bucket).lock();
    let gone = |((key, name), grave): (&crate::graves::FullName, &crate::graves::Grave)| {
        fields::gone(key, name, grave.stamp, grave.until_s, b"")
    };
    records.extend(shard.graves.iter().map(gone));
}

/// Shows everything in a bucket, in the order of keys. The shard is locked meanwhile.
fn each(table: &Table, bucket: usize, mut show: impl FnMut(&Key, &Presentity)) {
    let shard = table.shard(bucket).lock();
    let mut all: Vec<_> = shard.all.iter().collect();
    all.sort_unstable_by(|a, b| a.0.cmp(b.0));
    all.into_iter().for_each(|(key, presentity)| show(key, presentity));
}

impl Replicated for Presence {
    /// Without federation stock nodes have nothing to do with it.
    fn capability(&self) -> &'static str {
        match self.params.federation {
            Federation::Disabled => "tandem-presence",
            Federation::OnDemand | Federation::Full => "presence",
        }
    }

    fn cluster(&self) -> u32 {
        self.params.cluster
    }

    fn startup_sync(&self) -> bool {
        true
    }

    fn syncs_with_stock(&self) -> bool {
        self.params.federation == Federation::Full
    }

    fn apply(&self, cx: &mut Cx<'_>, change: Incoming) {
        self.heard_change(cx, change);
    }

    fn merge(&self, cx: &mut Cx<'_>, source: u32, form: Form, _version: u16, records: Vec<Bytes>) {
        for record in records {
            match form {
                Form::Stock => self.heard_stock(cx, source, &record),
                Form::Tandem => self.heard_record(cx, source, &record),
            }
        }
    }

    fn snapshot(&self, cx: &mut Cx<'_>, form: Form, buckets: Option<&[u8]>) -> Snapshot {
        let mut records = Vec::new();
        let is_wanted = |bucket: &usize| {
            buckets.is_none_or(|all| all.iter().any(|b| usize::from(*b) == *bucket))
        };
        let may_tell = form == Form::Tandem
            || (self.params.federation == Federation::Full && self.is_active(cx));
        for bucket in (0..SHARDS).filter(is_wanted).filter(|_| may_tell) {
            match form {
                Form::Tandem => tandem_bucket(&self.table, bucket, &mut records),
                // All that is known: who published it may be gone, or be the one that asks.
                Form::Stock => self.stock_bucket(bucket, cx.now, |_, packet| {
                    records.extend(packet.encode());
                }),
            }
        }
        let version = match form {
            Form::Stock => wire::VERSION,
            Form::Tandem => fields::VERSION,
        };
        Snapshot { version, records }
    }

    fn digests(&self, _now: Now) -> Digests {
        self.table.digests()
    }

    fn listing(&self, _cx: &mut Cx<'_>, buckets: &[u8]) -> Vec<(Bytes, u64)> {
        let mut entries = Vec::new();
        for bucket in buckets {
            each(&self.table, usize::from(*bucket), |key, presentity| {
                let name = |what: &[u8]| {
                    Bytes::from([&key.uri[..], b" ", &key.event, b" ", what].concat())
                };
                let all = presentity.publications.iter();
                entries.extend(all.map(|p| (name(&p.publication.etag), p.digest())));
                let all = presentity.subscriptions.values();
                entries.extend(all.map(|s| (name(&s.subscription.id.call_id), s.digest())));
            });
        }
        entries
    }

    fn replay_since(
        &self,
        cx: &mut Cx<'_>,
        _peer: u32,
        since_unix_ms: u64,
        buckets: &[u8],
    ) -> Vec<(u32, u16, Bytes)> {
        let mut packets = Vec::new();
        if !self.is_active(cx) {
            return packets;
        }
        for bucket in buckets {
            self.stock_bucket(usize::from(*bucket), cx.now, |p, packet| {
                if !p.foreign && p.stamp.time_us / 1000 >= since_unix_ms {
                    let bytes = packet.encode();
                    packets.extend(bytes.map(|bytes| (wire::PUBLISH, wire::VERSION, bytes)));
                }
            });
        }
        packets
    }
}
