//! The capability `pua`: stock peers are told that a row of the common database has changed,
//! Tandem peers the whole record.

use bytes::Bytes;
use tandem_bin::pua as wire;
use tandem_clock::Now;
use tandem_cluster::{Change, Digests, Form, Payload, Snapshot, Stamp};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::outbox;
use tandem_engine::replication::{Incoming, Replicated};

use crate::codec::{self, RECORD, bucket, digest};
use crate::record::{Key, Record};
use crate::state::Pua;
use crate::table::Sink;

pub(crate) const CAPABILITY: &str = "pua";

/// Where the changes of this node's records go.
pub(crate) struct Log<'a, 'b> {
    pub(crate) pua: &'a Pua,
    pub(crate) cx: &'a Cx<'b>,
}

impl Sink for Log<'_, '_> {
    fn stamp(&self) -> Stamp {
        self.cx.node.outbox.stamp(self.cx.now)
    }

    fn changed(&self, record: &Record) {
        if self.pua.params.cluster == 0 {
            return;
        }
        let (version, bytes) = (codec::VERSION, codec::encode(record));
        let tandem = Some(Payload { kind: RECORD, version, bytes });
        let change = Change { stock: None, tandem, stamp: record.stamp };
        let record_of = outbox::Record { slot: self.pua.slot, part: 0, change };
        self.cx.node.outbox.append(bucket(record), record_of);
    }
}

impl Pua {
    /// Tells stock peers that the database has a record as it is now.
    pub(crate) fn tell_stock(&self, cx: &Cx<'_>, update: &wire::Update) {
        if self.params.cluster == 0 || !cx.node.outbox.has_stock() {
            return;
        }
        let Ok(bytes) = update.encode() else { return };
        let stock = Some(Payload { kind: wire::UPDATE, version: wire::VERSION, bytes });
        let change = Change { stock, tandem: None, stamp: cx.node.outbox.stamp(cx.now) };
        cx.node.outbox.append(0, outbox::Record { slot: self.slot, part: 0, change });
    }

    fn take_record(&self, cx: &mut Cx<'_>, source: u32, bytes: &Bytes) {
        match codec::decode(bytes) {
            Some(record) => {
                // Later changes of this node must be later than what it has taken in.
                cx.node.outbox.hear(cx.now, record.stamp);
                self.table.apply(record);
            }
            None => {
                let text = format!("pua: a record of node {source} cannot be read");
                cx.log(Level::Warning, text);
            }
        }
    }

    /// A stock node has changed a row: what is known of it here is read again.
    fn told_by_stock(&self, cx: &mut Cx<'_>, source: u32, payload: &Bytes) {
        match wire::Update::decode(payload) {
            Ok(update) => {
                let key = Key {
                    uri: update.uri[..].into(),
                    source: update.source,
                    id: update.id[..].into(),
                    event: update.event,
                    ..Key::default()
                };
                self.read_again(cx, key);
            }
            Err(e) => {
                let text = format!("pua: a packet of node {source} cannot be read: {e}");
                cx.log(Level::Warning, text);
            }
        }
    }
}

impl Replicated for Pua {
    fn capability(&self) -> &'static str {
        CAPABILITY
    }

    fn cluster(&self) -> u32 {
        self.params.cluster
    }

    fn startup_sync(&self) -> bool {
        true
    }

    /// They share a database.
    fn syncs_with_stock(&self) -> bool {
        false
    }

    fn apply(&self, cx: &mut Cx<'_>, change: Incoming) {
        match (change.kind, change.stamp) {
            (RECORD, Some(_)) => self.take_record(cx, change.source, &change.payload),
            (wire::UPDATE, None) => self.told_by_stock(cx, change.source, &change.payload),
            // A Tandem peer has told the record itself.
            _ => {}
        }
    }

    fn merge(&self, cx: &mut Cx<'_>, source: u32, form: Form, _version: u16, records: Vec<Bytes>) {
        // Stock nodes have no sync of these.
        if form == Form::Tandem {
            records.iter().for_each(|record| self.take_record(cx, source, record));
        }
    }

    fn snapshot(&self, _: &mut Cx<'_>, form: Form, buckets: Option<&[u8]>) -> Snapshot {
        match form {
            Form::Stock => Snapshot { version: wire::VERSION, records: Vec::new() },
            Form::Tandem => {
                let records = self.table.of_buckets(buckets).iter().map(codec::encode).collect();
                Snapshot { version: codec::VERSION, records }
            }
        }
    }

    fn digests(&self, _: Now) -> Digests {
        self.table.digests()
    }

    fn listing(&self, _: &mut Cx<'_>, buckets: &[u8]) -> Vec<(Bytes, u64)> {
        let records = self.table.of_buckets(Some(buckets));
        let entry = |r: &Record| {
            let name = [&r.key.uri[..], b" ", &r.key.id].concat();
            (Bytes::from(name), digest(r))
        };
        records.iter().map(entry).filter(|(_, digest)| *digest != 0).collect()
    }

    fn replay_since(&self, _: &mut Cx<'_>, _: u32, _: u64, _: &[u8]) -> Vec<(u32, u16, Bytes)> {
        // A stock peer that was away reads the database when it needs a record.
        Vec::new()
    }
}
