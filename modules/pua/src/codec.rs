//! A record as Tandem nodes tell it to each other.
//!
//! It is a list of fields: number (1 byte), length (2 bytes, little endian), value; integers are 8
//! bytes, little endian. What is absent has its default; a number that is not known is skipped,
//! and never used again.
//!
//! Version 1: 1 URI, 2 source, 3 id, 4 event, 5 watcher, 6 where it stands, 7 creator, 8 tag,
//! 9 ETag, 10 expiry, 11 wanted until, 12 changed, 13 content type, 14 body, 15 extra headers,
//! 16 next hop, 17 stamp (microseconds), 18 node of the stamp; of a subscription 20 To URI,
//! 21 Call-ID, 22 From tag, 23 To tag, 24 CSeq, 25 routes, 26 contact, 27 remote contact,
//! 28 version.

use bytes::Bytes;
use tandem_cluster::Digester;
use tandem_cluster::fields::Fields;

use crate::record::{BODY_BYTES_MAX, FOREVER_S, Record, Stamp, Stand, TEXT_BYTES_MAX, Text, Watch};

/// Version of the encoding.
pub(crate) const VERSION: u16 = 1;
/// The packet type of a record between Tandem nodes.
pub(crate) const RECORD: u32 = 0x7401;

pub(crate) fn encode(record: &Record) -> Bytes {
    let mut w = Fields::with_capacity(256 + record.body.len());
    let key = &record.key;
    for (n, text) in [
        (1, &key.uri),
        (3, &key.id),
        (5, &key.watcher),
        (8, &record.tag),
        (9, &record.etag),
        (13, &record.content_type),
        (15, &record.extra),
        (16, &record.next_hop),
    ] {
        w.text(n, text);
    }
    w.text(14, &record.body);
    for (n, number) in [
        (2, u64::from(key.source)),
        (4, u64::from(key.event)),
        (6, record.stand as u64),
        (7, u64::from(record.creator)),
        (10, record.expires_s),
        (11, record.desired_s),
        (12, record.changed_s),
        (17, record.stamp.time_us),
        (18, u64::from(record.stamp.node)),
    ] {
        w.number(n, number);
    }
    if let Some(watch) = &record.watch {
        for (n, text) in [
            (20, &watch.to_uri),
            (21, &watch.call_id),
            (22, &watch.from_tag),
            (23, &watch.to_tag),
            (25, &watch.routes),
            (26, &watch.contact),
            (27, &watch.remote_contact),
        ] {
            w.text(n, text);
        }
        w.number(24, u64::from(watch.cseq) | 1 << 32);
        w.number(28, watch.version.into());
    }
    w.into_bytes().into()
}

/// Reads a record. `None`: it is none.
pub(crate) fn decode(bytes: &Bytes) -> Option<Record> {
    let mut record = Record::default();
    let mut watch: Option<Box<Watch>> = None;
    let mut stamp = Stamp { time_us: 0, node: 0 };
    let mut rest = bytes.clone();
    let mut stand = None;
    while !rest.is_empty() {
        let (n, value) = take(&mut rest)?;
        let number = || <[u8; 8]>::try_from(&value[..]).ok().map(u64::from_le_bytes);
        let small = || number().and_then(|n| u32::try_from(n & 0xffff_ffff).ok());
        let max = if n == 14 { BODY_BYTES_MAX } else { TEXT_BYTES_MAX };
        if value.len() > max {
            return None;
        }
        match n {
            1 => record.key.uri = text(&value),
            2 => record.key.source = small()?,
            3 => record.key.id = text(&value),
            4 => record.key.event = small()?,
            5 => record.key.watcher = text(&value),
            6 => stand = Stand::from_number(number()?),
            7 => record.creator = small()?,
            8 => record.tag = text(&value),
            9 => record.etag = text(&value),
            10 => record.expires_s = number()?.min(FOREVER_S),
            11 => record.desired_s = number()?.min(FOREVER_S),
            12 => record.changed_s = number()?.min(FOREVER_S),
            13 => record.content_type = text(&value),
            14 => record.body = value,
            15 => record.extra = text(&value),
            16 => record.next_hop = text(&value),
            17 => stamp.time_us = number()?,
            18 => stamp.node = small()?,
            20..=28 => of_watch(watch.get_or_insert_default(), n, &value, small())?,
            _ => {}
        }
    }
    record.stand = stand?;
    (record.watch, record.stamp) = (watch, stamp);
    (!record.key.uri.is_empty()).then_some(record)
}

fn of_watch(watch: &mut Watch, n: u8, value: &Bytes, small: Option<u32>) -> Option<()> {
    match n {
        20 => watch.to_uri = text(value),
        21 => watch.call_id = text(value),
        22 => watch.from_tag = text(value),
        23 => watch.to_tag = text(value),
        24 => watch.cseq = small?,
        25 => watch.routes = text(value),
        26 => watch.contact = text(value),
        27 => watch.remote_contact = text(value),
        _ => watch.version = small?,
    }
    Some(())
}

fn text(value: &Bytes) -> Text {
    value[..].into()
}

fn take(rest: &mut Bytes) -> Option<(u8, Bytes)> {
    let head = <[u8; 3]>::try_from(rest.get(..3)?).ok()?;
    let [n, low, high] = head;
    let len = usize::from(u16::from_le_bytes([low, high]));
    let value = (rest.len() >= 3 + len).then(|| rest.slice(3..3 + len))?;
    *rest = rest.slice(3 + len..);
    Some((n, value))
}

/// What a record says, as a number that all nodes compute alike; 0: it is in no digest. When it
/// was said does not matter.
pub(crate) fn digest(record: &Record) -> u64 {
    if record.stand == Stand::Gone {
        return 0;
    }
    let said = Record { stamp: Stamp { time_us: 0, node: 0 }, changed_s: 0, ..record.clone() };
    fold(&encode(&said)) | 1
}

/// The bucket of a record, the same on every node.
pub(crate) fn bucket(record: &Record) -> usize {
    let key = &record.key;
    let name = [&key.uri[..], b" ", &key.id, b" ", &key.watcher].concat();
    (fold(&name) >> 32) as usize & 0xff
}

fn fold(bytes: &[u8]) -> u64 {
    let mut all = Digester::default();
    all.text(bytes);
    all.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Event, Key, Source};
    use proptest::prelude::*;

    prop_compose! {
        fn any_record()(
            words in proptest::collection::vec("[a-z:@. ]{0,9}", 16), numbers: [u32; 6],
            stand in prop::sample::select(vec![Stand::Wanted, Stand::Told, Stand::Ending]),
            watches: bool
        ) -> Record {
            let word = |n: usize| Text::from(words[n].as_bytes());
            let [a, b, c, cseq, version, node] = numbers;
            let watch = Watch {
                to_uri: word(8), call_id: word(9), from_tag: word(10), to_tag: word(11), cseq,
                routes: word(12), contact: word(13), remote_contact: word(14), version,
            };
            Record {
                key: Key::of(b"sip:a@x", Source::DIALOG, words[0].as_bytes(), Event::Dialog),
                stand, creator: node, tag: word(1), etag: word(2), expires_s: a.into(),
                desired_s: b.into(), changed_s: c.into(), content_type: word(3),
                body: words[4].clone().into(), extra: word(5), next_hop: word(6),
                watch: watches.then(|| Box::new(watch)), stamp: Stamp { time_us: 7, node },
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(record in any_record()) {
            let bytes = encode(&record);
            let read = decode(&bytes).unwrap();
            prop_assert_eq!(digest(&read), digest(&record));
            prop_assert_eq!(bucket(&read), bucket(&record));
            prop_assert_eq!(read, record);
            prop_assert!(decode(&bytes.slice(..bytes.len() - 1)).is_none());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&Bytes::from(bytes));
        }
    }
}
