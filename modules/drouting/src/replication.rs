//! The capability `drouting-status-repl`: what goes to peers, and what comes from them.

use bytes::Bytes;
use tandem_bin::drouting as wire;
use tandem_clock::Now;
use tandem_cluster::{BUCKETS, Digests, Form, Snapshot, Stamp};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::replication::{Incoming, Replicated};
use tandem_sip::sip_hash;

use crate::state::{Change, Drouting, Origin};
use crate::status::{Kind, Status};

pub(crate) const CAPABILITY: &str = "drouting-status-repl";
/// Version of the records between Tandem nodes: a chunk of a stock sync, then the stamp:
/// microseconds (8 bytes, little endian) and node (4).
const TANDEM_VERSION: u16 = 1;
const STAMP_BYTES: usize = 12;

pub(crate) fn wire_status(partition: &str, id: &str, bits: u32) -> wire::Status {
    wire::Status {
        partition: Bytes::copy_from_slice(partition.as_bytes()),
        id: Bytes::copy_from_slice(id.as_bytes()),
        flags: bits as i32,
    }
}

/// A state with its name.
struct Named<'a> {
    partition: &'a str,
    kind: Kind,
    id: &'a str,
    status: &'a Status,
}

impl Named<'_> {
    fn name(&self) -> Vec<u8> {
        let kind: &[u8] = if self.kind == Kind::Gateway { b" " } else { b" #" };
        [self.partition.as_bytes(), kind, self.id.as_bytes()].concat()
    }

    fn bucket(&self) -> usize {
        sip_hash(&self.name()) as usize % BUCKETS
    }

    /// What it says; when it was said does not matter.
    fn digest(&self) -> u64 {
        let name = u64::from(sip_hash(&self.name()));
        let said = (name << 32) | (u64::from(self.status.bits()) + 1);
        let mixed = said.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }

    fn record(&self) -> wire::SyncRecord {
        let status = wire_status(self.partition, self.id, self.status.bits());
        wire::SyncRecord { is_gateway: self.kind == Kind::Gateway, status }
    }

    fn encode(&self, form: Form) -> Option<Bytes> {
        let chunk = self.record().encode().ok()?;
        if form == Form::Stock {
            return Some(chunk);
        }
        let stamp = self.status.stamp();
        let parts = [&chunk[..], &stamp.time_us.to_le_bytes(), &stamp.node.to_le_bytes()];
        Some(Bytes::from(parts.concat()))
    }
}

fn decode_tandem(record: &Bytes) -> Option<(wire::SyncRecord, Stamp)> {
    let at = record.len().checked_sub(STAMP_BYTES)?;
    let (time, node) = record.get(at..)?.split_at_checked(8)?;
    let stamp = Stamp {
        time_us: u64::from_le_bytes(time.try_into().ok()?),
        node: u32::from_le_bytes(node.try_into().ok()?),
    };
    Some((wire::SyncRecord::decode(&record.slice(..at)).ok()?, stamp))
}

impl Drouting {
    fn each(&self, buckets: Option<&[u8]>, mut see: impl FnMut(&Named<'_>)) {
        for part in self.parts() {
            let table = part.table();
            for (kind, id, status) in table.of.statuses() {
                let named = Named { partition: &part.name, kind, id, status };
                let bucket = named.bucket() as u8;
                if buckets.is_none_or(|wanted| wanted.contains(&bucket)) {
                    see(&named);
                }
            }
        }
    }

    fn take(&self, cx: &mut Cx<'_>, kind: Kind, told: &wire::Status, origin: Origin<'_>) {
        let name = String::from_utf8_lossy(&told.partition);
        let id = String::from_utf8_lossy(&told.id);
        let known = self.part(&name).map(|part| {
            let bits = told.flags as u32;
            self.change(cx, &part, (kind, &id), bits, origin)
        });
        if matches!(known, None | Some(Change::Unknown)) {
            let text =
                format!("drouting: a peer speaks of `{id}` of partition `{name}`, unknown here");
            cx.log(Level::Debug, text);
        }
    }

    /// A stamp for what a stock peer said, which has none: as if it had been said now.
    fn stamp_of(&self, cx: &Cx<'_>, source: u32) -> Stamp {
        Stamp { node: source, ..cx.node.outbox.stamp(cx.now) }
    }
}

impl Replicated for Drouting {
    fn capability(&self) -> &'static str {
        CAPABILITY
    }

    fn cluster(&self) -> u32 {
        self.params.cluster
    }

    fn startup_sync(&self) -> bool {
        true
    }

    fn apply(&self, cx: &mut Cx<'_>, change: Incoming) {
        let stamp = change.stamp.unwrap_or_else(|| self.stamp_of(cx, change.source));
        let kind = match change.kind {
            wire::GATEWAY => Kind::Gateway,
            wire::CARRIER => Kind::Carrier,
            _ => return,
        };
        match wire::Status::decode(&change.payload) {
            Ok(told) => self.take(cx, kind, &told, Origin::Peer { stamp, in_sync: false }),
            Err(e) => {
                let source = change.source;
                let text = format!("drouting: a state of node {source} cannot be read: {e}");
                cx.log(Level::Warning, text);
            }
        }
    }

    fn merge(&self, cx: &mut Cx<'_>, source: u32, form: Form, _version: u16, records: Vec<Bytes>) {
        for record in &records {
            let read = match form {
                Form::Stock => {
                    let stamp = self.stamp_of(cx, source);
                    wire::SyncRecord::decode(record).ok().map(|record| (record, stamp))
                }
                Form::Tandem => decode_tandem(record),
            };
            let Some((record, stamp)) = read else {
                cx.log(Level::Warning, "drouting: a record of a sync cannot be read");
                continue;
            };
            if form == Form::Tandem {
                // Later changes of this node must be later than what it has taken in.
                cx.node.outbox.hear(cx.now, stamp);
            }
            let kind = if record.is_gateway { Kind::Gateway } else { Kind::Carrier };
            self.take(cx, kind, &record.status, Origin::Peer { stamp, in_sync: true });
        }
    }

    fn snapshot(&self, _: &mut Cx<'_>, form: Form, buckets: Option<&[u8]>) -> Snapshot {
        let version = match form {
            Form::Stock => wire::VERSION,
            Form::Tandem => TANDEM_VERSION,
        };
        let mut records = Vec::new();
        self.each(buckets, |named| records.extend(named.encode(form)));
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
        self.each(Some(buckets), |named| all.push((Bytes::from(named.name()), named.digest())));
        all
    }

    fn replay_since(
        &self,
        _: &mut Cx<'_>,
        since_unix_ms: u64,
        buckets: &[u8],
    ) -> Vec<(u32, u16, Bytes)> {
        let mut packets = Vec::new();
        self.each(Some(buckets), |named| {
            if named.status.stamp().time_us < since_unix_ms.saturating_mul(1_000) {
                return;
            }
            let record = named.record();
            let kind = if record.is_gateway { wire::GATEWAY } else { wire::CARRIER };
            packets.extend(record.status.encode().ok().map(|bytes| (kind, wire::VERSION, bytes)));
        });
        packets
    }
}
