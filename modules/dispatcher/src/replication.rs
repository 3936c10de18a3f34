//! The capability `dispatcher-status-repl`: what goes to peers, and what comes from them.

use bytes::Bytes;
use tandem_bin::dispatcher as wire;
use tandem_clock::Now;
use tandem_cluster::{BUCKETS, Digests, Form, Snapshot, Stamp};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;
use tandem_engine::replication::{Incoming, Replicated};
use tandem_sip::sip_hash;

use crate::sets::{Destination, INACTIVE, PROBING};
use crate::state::{Dispatcher, Origin};

pub(crate) const CAPABILITY: &str = "dispatcher-status-repl";
/// Version of the records between Tandem nodes: a chunk of a stock sync, then the stamp:
/// microseconds (8 bytes, little endian) and node (4).
const TANDEM_VERSION: u16 = 1;
const STAMP_BYTES: usize = 12;
const STATES: u32 = INACTIVE | PROBING;

fn name_of(partition: &str, of: &Destination) -> wire::Destination {
    wire::Destination {
        partition: Bytes::copy_from_slice(partition.as_bytes()),
        set: i32::try_from(of.set).unwrap_or(i32::MAX),
        uri: of.uri.clone(),
    }
}

/// The packet that makes a destination what it is now: an active one has no bits left.
pub(crate) fn packet(partition: &str, of: &Destination, bits: u32) -> wire::Status {
    let of = name_of(partition, of);
    match bits {
        0 => wire::Status { of, sets: false, bits: STATES as i32 },
        bits => wire::Status { of, sets: true, bits: bits as i32 },
    }
}

fn name(partition: &str, of: &Destination) -> Vec<u8> {
    [partition.as_bytes(), format!(" {} ", of.set).as_bytes(), &of.uri.to_ascii_lowercase()]
        .concat()
}

/// What a destination's state says; when it was said does not matter.
fn digest(name: &[u8], bits: u32) -> u64 {
    let said = (u64::from(sip_hash(name)) << 32) | (u64::from(bits) + 1);
    let mixed = said.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

fn bucket(name: &[u8]) -> usize {
    sip_hash(name) as usize % BUCKETS
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

/// The state that the flags of a sync mean.
fn of_flags(flags: i32) -> u32 {
    match flags as u32 & STATES {
        bits if bits & INACTIVE != 0 => INACTIVE,
        bits => bits,
    }
}

/// The state after bits were set or taken off. An inactive one does not become probing.
fn changed(present: u32, told: &wire::Status) -> u32 {
    let bits = told.bits as u32 & STATES;
    match told.sets {
        true if bits & INACTIVE != 0 => INACTIVE,
        true if present & INACTIVE != 0 => present,
        true => bits,
        false => present & !bits,
    }
}

impl Dispatcher {
    fn each(&self, buckets: Option<&[u8]>, mut see: impl FnMut(&str, &[u8], &Destination)) {
        for part in self.parts() {
            for of in self.sets(part).all() {
                let name = name(&part.name, of);
                let bucket = bucket(&name) as u8;
                if buckets.is_none_or(|wanted| wanted.contains(&bucket)) {
                    see(&part.name, &name, of);
                }
            }
        }
    }

    /// A stamp for what a stock peer said, which has none: as if it had been said now.
    fn stamp_of(&self, cx: &Cx<'_>, source: u32) -> Stamp {
        Stamp { node: source, ..cx.node.outbox.stamp(cx.now) }
    }
}

impl Replicated for Dispatcher {
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
        if change.kind != wire::STATUS {
            return;
        }
        let stamp = change.stamp.unwrap_or_else(|| self.stamp_of(cx, change.source));
        match wire::Status::decode(&change.payload) {
            Ok(told) => {
                let origin = Origin::Peer { stamp, in_sync: false };
                self.told(cx, &told.of, |present| changed(present, &told), origin);
            }
            Err(e) => {
                let source = change.source;
                let text = format!("dispatcher: a state of node {source} cannot be read: {e}");
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
                cx.log(Level::Warning, "dispatcher: a record of a sync cannot be read");
                continue;
            };
            if form == Form::Tandem {
                // Later changes of this node must be later than what it has taken in.
                cx.node.outbox.hear(cx.now, stamp);
            }
            let origin = Origin::Peer { stamp, in_sync: true };
            self.told(cx, &record.of, |_| of_flags(record.flags), origin);
        }
    }

    fn snapshot(&self, _: &mut Cx<'_>, form: Form, buckets: Option<&[u8]>) -> Snapshot {
        let version = if form == Form::Stock { wire::VERSION } else { TANDEM_VERSION };
        let mut records = Vec::new();
        self.each(buckets, |partition, _, of| {
            let flags = of.status.bits() as i32;
            let Ok(chunk) = (wire::SyncRecord { of: name_of(partition, of), flags }).encode()
            else {
                return;
            };
            let stamp = of.status.stamp();
            records.push(match form {
                Form::Stock => chunk,
                Form::Tandem => Bytes::from(
                    [&chunk[..], &stamp.time_us.to_le_bytes(), &stamp.node.to_le_bytes()].concat(),
                ),
            });
        });
        Snapshot { version, records }
    }

    fn digests(&self, _: Now) -> Digests {
        let mut all = Digests::default();
        self.each(None, |_, name, of| {
            all.count += 1;
            if let Some(sum) = all.buckets.get_mut(bucket(name)) {
                *sum = sum.wrapping_add(digest(name, of.status.bits()));
            }
        });
        all
    }

    fn listing(&self, _: &mut Cx<'_>, buckets: &[u8]) -> Vec<(Bytes, u64)> {
        let mut all = Vec::new();
        self.each(Some(buckets), |_, name, of| {
            all.push((Bytes::copy_from_slice(name), digest(name, of.status.bits())));
        });
        all
    }

    fn replay_since(
        &self,
        _: &mut Cx<'_>,
        since_unix_ms: u64,
        buckets: &[u8],
    ) -> Vec<(u32, u16, Bytes)> {
        let mut packets = Vec::new();
        self.each(Some(buckets), |partition, _, of| {
            if of.status.stamp().time_us >= since_unix_ms.saturating_mul(1_000) {
                let packet = packet(partition, of, of.status.bits()).encode().ok();
                packets.extend(packet.map(|bytes| (wire::STATUS, wire::VERSION, bytes)));
            }
        });
        packets
    }
}
