//! Records of a snapshot between Tandem nodes, with stamps and deletes.
//!
//! A record is a list of fields: number (1 byte), length (2 bytes, little endian), value.
//! Integers are 8 bytes, little endian. A reader skips numbers it does not know; adding a field
//! is free, and a number is never used again. History:
//!
//! - Version 1: 1 table, 2 AoR, 3 contact URI, 4 Call-ID, 5 User-Agent, 6 path, 7 attr,
//!   8 received, 9 instance, 10 socket, 11 names of branch flags, 12 key/values, 13 expires,
//!   14 last modified, 15 stamp in microseconds, 16 node of the stamp, 17 CSeq, 18 q, 19 flags,
//!   20 methods, 21 contact id, 22 named by Call-ID too, 23 end of a delete (its presence makes
//!   the record one).

use bytes::Bytes;

use crate::store::{FLAG_MEMORY_ONLY, NewContact, Record, Stamp, Tombstone, stamp_at};

/// Version of the encoding.
pub(crate) const TANDEM_VERSION: u16 = 1;

/// A record and the table it belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TableRecord<'a> {
    pub(crate) table: &'a [u8],
    pub(crate) record: Fields<'a>,
}

/// What the fields of a record say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    pub(crate) aor: &'a [u8],
    pub(crate) contact: NewContact<'a>,
    pub(crate) keyed_by_call_id: bool,
    pub(crate) stamp: Stamp,
    /// Unix seconds; a delete if it is there.
    pub(crate) until_s: Option<u64>,
}

impl Fields<'_> {
    pub(crate) fn tombstone(&self, until_s: u64) -> Tombstone {
        let NewContact { uri, call_id, cseq, .. } = self.contact;
        Tombstone::new(uri, call_id, self.keyed_by_call_id, cseq, self.stamp, until_s)
    }
}

impl<'a> TableRecord<'a> {
    pub(crate) fn encode(table: &str, record: &Record) -> Bytes {
        let mut out = Vec::with_capacity(512);
        text(&mut out, 1, table.as_bytes());
        match record {
            Record::Contact(contact) => {
                text(&mut out, 2, contact.aor());
                encode_contact(&mut out, &contact.as_new());
                number(&mut out, 21, contact.id);
                encode_version(&mut out, contact.stamp(), contact.keyed_by_call_id());
            }
            Record::Tombstone { aor, tombstone } => {
                text(&mut out, 2, aor);
                text(&mut out, 3, tombstone.uri());
                text(&mut out, 4, tombstone.call_id());
                number(&mut out, 17, u64::from(tombstone.cseq));
                encode_version(&mut out, tombstone.stamp, tombstone.keyed_by_call_id);
                number(&mut out, 23, u64::from(tombstone.until_s));
            }
        }
        Bytes::from(out)
    }

    /// `None`: it is no record.
    pub(crate) fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        let mut table: &[u8] = b"";
        let mut record = Fields {
            aor: b"",
            contact: NewContact::default(),
            keyed_by_call_id: false,
            stamp: stamp_at(0, 0),
            until_s: None,
        };
        while let Some((field, rest)) = take(bytes)? {
            bytes = rest;
            let (n, value) = field;
            match n {
                1 => table = value,
                2 => record.aor = value,
                15 => record.stamp = stamp_at(integer(value)?, record.stamp.node),
                16 => record.stamp.node = u32::try_from(integer(value)?).ok()?,
                22 => record.keyed_by_call_id = integer(value)? != 0,
                23 => record.until_s = Some(integer(value)?),
                _ => decode_contact(&mut record.contact, n, value)?,
            }
        }
        let is_whole = !table.is_empty() && !record.aor.is_empty() && record.stamp.time_us != 0;
        is_whole.then_some(Self { table, record })
    }
}

fn encode_contact(out: &mut Vec<u8>, c: &NewContact<'_>) {
    let texts = [
        c.uri,
        c.call_id,
        c.user_agent,
        c.path,
        c.attr,
        c.received,
        c.instance,
        c.socket,
        c.branch_flags,
        c.key_values,
    ];
    for (n, value) in (3..).zip(texts) {
        text(out, n, value);
    }
    number(out, 13, c.expires_s);
    number(out, 14, c.last_modified_s);
    number(out, 17, u64::from(c.cseq));
    number(out, 18, i64::from(c.q) as u64);
    number(out, 19, u64::from(c.flags & !FLAG_MEMORY_ONLY));
    number(out, 20, u64::from(c.methods));
}

fn encode_version(out: &mut Vec<u8>, stamp: Stamp, keyed_by_call_id: bool) {
    number(out, 15, stamp.time_us);
    number(out, 16, u64::from(stamp.node));
    number(out, 22, u64::from(keyed_by_call_id));
}

fn decode_contact<'a>(c: &mut NewContact<'a>, n: u8, value: &'a [u8]) -> Option<()> {
    match n {
        3 => c.uri = value,
        4 => c.call_id = value,
        5 => c.user_agent = value,
        6 => c.path = value,
        7 => c.attr = value,
        8 => c.received = value,
        9 => c.instance = value,
        10 => c.socket = value,
        11 => c.branch_flags = value,
        12 => c.key_values = value,
        13 => c.expires_s = integer(value)?,
        14 => c.last_modified_s = integer(value)?,
        17 => c.cseq = u32::try_from(integer(value)?).ok()?,
        18 => {
            let q = i16::try_from(integer(value)? as i64).ok()?;
            c.q = (-1..=1000).contains(&q).then_some(q)?;
        }
        19 => c.flags = u32::try_from(integer(value)?).ok()? & !FLAG_MEMORY_ONLY,
        20 => c.methods = u32::try_from(integer(value)?).ok()?,
        21 => c.id = Some(integer(value)?),
        _ => {}
    }
    Some(())
}

/// Empty texts are left out.
fn text(out: &mut Vec<u8>, n: u8, value: &[u8]) {
    // A contact holds at most 64 KiB of texts, and a table or AoR comes through the same limits.
    if let (Ok(len), false) = (u16::try_from(value.len()), value.is_empty()) {
        out.push(n);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(value);
    }
}

fn number(out: &mut Vec<u8>, n: u8, value: u64) {
    text(out, n, &value.to_le_bytes());
}

fn integer(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_le_bytes)
}

type Field<'a> = (u8, &'a [u8]);

/// The next field and the rest; inside, `None` at the end; outside, `None` for a broken one.
#[expect(clippy::option_option, reason = "the end and a fault are different things")]
fn take(bytes: &[u8]) -> Option<Option<(Field<'_>, &[u8])>> {
    let [n, low, high, rest @ ..] = bytes else {
        return bytes.is_empty().then_some(None);
    };
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
    Some(Some(((*n, value), rest)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::test_contact;

    proptest! {
        #[test]
        fn a_contact_comes_back_as_it_was(
            uri in "[ -~]{1,60}", kv in "[ -~]{0,60}", expires_s: u32, cseq: u32,
            q in -1..=1000i16, methods: u32, keyed: bool, time_us in 1..u64::MAX, node: u32,
        ) {
            let new = NewContact {
                uri: uri.as_bytes(), key_values: kv.as_bytes(), cseq, q,
                expires_s: expires_s.into(), methods,
                flags: 4, ..NewContact::default()
            };
            let stamp = stamp_at(time_us, node);
            let record = Record::Contact(test_contact(b"a@b", &new, keyed, stamp));
            let bytes = TableRecord::encode("location", &record);
            let read = TableRecord::decode(&bytes).unwrap();
            prop_assert_eq!(read.table, b"location");
            prop_assert_eq!(read.record.contact, NewContact { id: Some(0), ..new });
            prop_assert_eq!(read.record.stamp, stamp);
            prop_assert_eq!(read.record.keyed_by_call_id, keyed);
            prop_assert_eq!(read.record.until_s, None);
        }

        #[test]
        fn a_delete_comes_back_as_it_was(
            uri in "[ -~]{1,60}", call_id in "[ -~]{1,60}", cseq: u32, keyed: bool, until_s: u32,
        ) {
            let (uri, call_id, until_s) = (uri.as_bytes(), call_id.as_bytes(), until_s.into());
            let tombstone = Tombstone::new(uri, call_id, keyed, cseq, stamp_at(7, 2), until_s);
            let record = Record::Tombstone { aor: (*b"a@b").into(), tombstone: tombstone.clone() };
            let bytes = TableRecord::encode("location", &record);
            let read = TableRecord::decode(&bytes).unwrap();
            prop_assert_eq!(read.record.until_s, Some(until_s));
            prop_assert_eq!(read.record.tombstone(until_s), tombstone);
        }

        #[test]
        fn any_bytes_give_an_answer(bytes: Vec<u8>) {
            let _ = TableRecord::decode(&bytes);
        }
    }

    #[test]
    fn fields_of_a_later_version_are_skipped_and_cut_ones_refused() {
        let record = Record::Tombstone {
            aor: (*b"a").into(),
            tombstone: Tombstone::new(b"u", b"c", false, 1, stamp_at(1, 1), 5),
        };
        let mut bytes = TableRecord::encode("location", &record).to_vec();
        assert!(TableRecord::decode(&bytes[..bytes.len() - 1]).is_none());
        bytes.extend_from_slice(&[200, 1, 0, 9]);
        assert!(TableRecord::decode(&bytes).is_some());
    }
}
