//! Records of a snapshot between Tandem nodes, with stamps and deletes.
//!
//! A record is a list of fields: number (1 byte), length (4 bytes, little endian), value. A
//! reader skips numbers it does not know; adding a field is free, and a number is never used
//! again. History:
//!
//! - Version 1: 1 collection, 2 key, 3 value (absent: a delete), 4 stamp in microseconds, 5 node
//!   of the stamp, 6 milliseconds that are left (absent: it has no end).

use bytes::Bytes;
use tandem_clock::{MS, Now};
use tandem_cluster::Stamp;

use crate::store::Entry;

/// Version of the encoding.
pub(crate) const VERSION: u16 = 1;

/// A record and where it belongs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) collection: Bytes,
    pub(crate) key: Bytes,
    pub(crate) entry: Entry,
}

impl Record {
    pub(crate) fn encode(collection: &[u8], key: &[u8], entry: &Entry, now: Now) -> Bytes {
        let mut out = Vec::with_capacity(64 + key.len());
        field(&mut out, 1, collection);
        field(&mut out, 2, key);
        if let Some(value) = &entry.value {
            field(&mut out, 3, value);
        }
        field(&mut out, 4, &entry.stamp.time_us.to_le_bytes());
        field(&mut out, 5, &u64::from(entry.stamp.node).to_le_bytes());
        if entry.ends != 0 {
            let left_ms = entry.ends.saturating_sub(now.mono_ns).div_ceil(MS);
            field(&mut out, 6, &left_ms.to_le_bytes());
        }
        Bytes::from(out)
    }

    /// `None`: it is no record.
    pub(crate) fn decode(bytes: &Bytes, now: Now) -> Option<Self> {
        let (mut collection, mut key, mut value) = (Bytes::new(), Bytes::new(), None);
        let (mut time_us, mut node, mut left_ms) = (0, 0, None);
        let mut at = 0usize;
        while at < bytes.len() {
            let head = bytes.get(at..at.checked_add(5)?)?;
            let len = u32::from_le_bytes(head.get(1..)?.try_into().ok()?) as usize;
            let (start, end) = (at + 5, (at + 5).checked_add(len)?);
            let text = bytes.get(start..end)?;
            let own = || bytes.slice_ref(text);
            let number = || Some(u64::from_le_bytes(text.try_into().ok()?));
            match head.first()? {
                1 => collection = own(),
                2 => key = own(),
                3 => value = Some(own()),
                4 => time_us = number()?,
                5 => node = u32::try_from(number()?).ok()?,
                6 => left_ms = Some(number()?),
                _ => {}
            }
            at = end;
        }
        let ends = left_ms.map_or(0, |ms| now.mono_ns.saturating_add(ms.saturating_mul(MS)).max(1));
        let entry = Entry { value, ends, stamp: Stamp { time_us, node } };
        let is_whole = !collection.is_empty() && !key.is_empty() && time_us != 0;
        is_whole.then_some(Self { collection, key, entry })
    }
}

fn field(out: &mut Vec<u8>, number: u8, value: &[u8]) {
    out.push(number);
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tandem_clock::SEC;

    const NOW: Now = Now { mono_ns: 50 * SEC, unix_ms: 0 };

    proptest! {
        #[test]
        fn a_record_survives(
            key in "[a-z]{1,9}", value in proptest::option::of("[a-z]{0,9}"), end in 0u64..99,
            time_us in 1u64..u64::MAX, node in any::<u32>()
        ) {
            let ends = if end == 0 { 0 } else { NOW.mono_ns + end * SEC };
            let value = value.map(Bytes::from);
            let entry = Entry { value, ends, stamp: Stamp { time_us, node } };
            let bytes = Record::encode(b"c", key.as_bytes(), &entry, NOW);
            let wanted = Record { collection: "c".into(), key: key.into(), entry };
            prop_assert_eq!(Record::decode(&bytes, NOW), Some(wanted));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Record::decode(&Bytes::from(bytes), NOW);
        }
    }
}
