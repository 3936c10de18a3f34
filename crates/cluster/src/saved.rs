//! The state file: what this node knew of each tag when it stopped.
//!
//! `TNDM`, a format number (u32, 1), a CRC-32 of the rest, then fields as in `wire`: 1 tag
//! (repeated): 1 cluster, 2 claim entry, 3 highest epoch seen, 4 held by this node. Unknown
//! fields are skipped.

use crate::cluster::Cluster;
use crate::register::{Claim, Register};
use crate::wire::{ClaimEntry, Fields, Standing, field, number, to_u32, to_u64};
use bytes::{BufMut, Bytes, BytesMut};
use tandem_bin::{ClusterId, Malformed, Reader, Writer};

const MAGIC: &[u8; 4] = b"TNDM";
const FORMAT: u32 = 1;

/// A tag of the state file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedTag {
    pub(crate) cluster: ClusterId,
    pub(crate) entry: ClaimEntry,
    pub(crate) epoch_seen: u64,
    pub(crate) held: bool,
}

pub(crate) fn encode<'a>(clusters: impl Iterator<Item = &'a Cluster>) -> Bytes {
    let mut body = BytesMut::new();
    for cluster in clusters {
        for (name, r) in &cluster.tags.registers {
            if let Some(tag) = encode_tag(cluster.id, name, r) {
                body.put_u16_le(1);
                body.put_u32_le(tag.len() as u32);
                body.put_slice(&tag);
            }
        }
    }
    let mut file = BytesMut::with_capacity(body.len() + 12);
    file.put_slice(MAGIC);
    file.put_u32_le(FORMAT);
    file.put_u32_le(crc32fast::hash(&body));
    file.put_slice(&body);
    file.freeze()
}

fn encode_tag(cluster: ClusterId, name: &str, r: &Register) -> Option<Bytes> {
    let claim = r.held().or(r.top)?;
    let entry = ClaimEntry {
        tag: name.to_owned(),
        epoch: claim.epoch,
        at_ms: claim.at_ms,
        node: claim.node,
        standing: Standing::HeardOf,
        reason: r.reason.text.clone(),
        by: r.reason.by.clone(),
    };
    let mut w = Writer::payload();
    number(&mut w, 1, cluster.into());
    field(&mut w, 2, &entry.encode().ok()?);
    number(&mut w, 3, r.epoch_seen);
    // A claim that awaits the end of boot is still the last one held.
    let held = r.held().is_some() || r.is_awaiting();
    number(&mut w, 4, held.into());
    w.finish().ok()
}

pub(crate) fn decode(file: Bytes) -> Result<Vec<SavedTag>, Malformed> {
    let mut r = Reader::new(file);
    if r.take(4, "magic")?.as_ref() != MAGIC {
        return Err(Malformed::Value { field: "magic", value: 0 });
    }
    let format = r.uint("format")?;
    if format != FORMAT {
        return Err(Malformed::Value { field: "format", value: format.into() });
    }
    let crc = r.uint("checksum")?;
    if crc != crc32fast::hash(r.rest()) {
        return Err(Malformed::Value { field: "checksum", value: crc.into() });
    }
    let mut tags = Vec::new();
    for item in Fields(r) {
        if let (1, value) = item? {
            tags.push(decode_tag(value)?);
        }
    }
    Ok(tags)
}

fn decode_tag(bytes: Bytes) -> Result<SavedTag, Malformed> {
    let mut tag = SavedTag { cluster: 0, entry: ClaimEntry::default(), epoch_seen: 0, held: false };
    for item in Fields(Reader::new(bytes)) {
        match item? {
            (1, v) => tag.cluster = to_u32(v)?,
            (2, v) => tag.entry = ClaimEntry::decode(v)?,
            (3, v) => tag.epoch_seen = to_u64(v)?,
            (4, v) => tag.held = to_u64(v)? != 0,
            _ => {}
        }
    }
    Ok(tag)
}

impl SavedTag {
    pub(crate) fn claim(&self) -> Claim {
        Claim { epoch: self.entry.epoch, at_ms: self.entry.at_ms, node: self.entry.node }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flipped_bit_is_found() {
        let empty: [&Cluster; 0] = [];
        let good = encode(empty.into_iter());
        assert_eq!(decode(good.clone()), Ok(Vec::new()));
        let mut bad = good.to_vec();
        bad.extend([1, 0, 0, 0, 0, 0]);
        assert!(decode(Bytes::from(bad)).is_err());
        assert!(decode(Bytes::new()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Bytes::from(bytes.clone()));
            let mut file = MAGIC.to_vec();
            file.extend(FORMAT.to_le_bytes());
            file.extend(crc32fast::hash(&bytes).to_le_bytes());
            file.extend(bytes);
            let _ = decode(Bytes::from(file));
        }
    }
}
