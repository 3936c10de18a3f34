//! Publications and subscriptions as Tandem nodes tell them to each other.
//!
//! A record is a list of fields: number (1 byte), length (2 bytes, little endian), value.
//! Integers are 8 bytes, little endian. A field that is absent has its default. A reader skips
//! numbers it does not know; adding a field is free, and a number is never used again. History:
//!
//! Version 1: 1 kind (1 publication, 2 subscription, 3 what was sent to a watcher, 4 a publication
//! is gone, 5 a subscription is gone), 2 presentity, 3 event, 4 stamp (microseconds), 5 node of
//! the stamp, 6 Unix seconds up to which an end is remembered.
//! Publication: 10 id, 11 ETag, 12 content type, 13 body, 14 header lines, 15 sender, 16 sphere,
//! 17 time of receipt, 18 end, 19 a stock node owns it, 20 the request that wrote it, 21 and 22
//! the stamp of the write that brought its body (as 4 and 5; absent: that of this write).
//! Subscription: 30 Call-ID, 31 tag of this side, 32 tag of the watcher, 33 id of the event,
//! 34 and 35 user and domain of From, 36 and 37 of To, 38 Contact, 39 route set, 40 socket, 41 own
//! Contact, 42 sharing tag, 43 view, 44 reason, 45 status, 46 end, 47 CSeq of the watcher, 48 how
//! often a NOTIFY was asked for, 49 creator; sent: 50 CSeq, 51 version, 52 node, 53 what of 48 is
//! answered, 54 mark that is confirmed, 55 CSeq of that.

use std::sync::Arc;

use bytes::Bytes;
use tandem_cluster::fields::{Fields, fields, int32, integer};

use crate::change::{Change, Name};
use crate::package::{Status, VIEW_BYTES_MAX};
use crate::record::{
    BODY_BYTES_MAX, Key, Publication, ROUTES_BYTES_MAX, Sent, Stamp, SubId, Subscription,
    TEXT_BYTES_MAX, Text,
};

use crate::request::{are_lines, is_one_line};

/// Version of the encoding.
pub(crate) const VERSION: u16 = 1;

/// The end of the year 9999: no clock says more, and what had the last of all stamps could never be
/// changed.
const STAMP_MAX_US: u64 = 253_402_300_800_000_000;

/// What a record tells.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) key: Key,
    pub(crate) stamp: Stamp,
    pub(crate) change: Change,
}

fn head(kind: u64, key: &Key, stamp: Stamp) -> Fields {
    let mut w = Fields::with_capacity(512);
    w.number(1, kind);
    w.text(2, &key.uri);
    w.text(3, &key.event);
    w.number(4, stamp.time_us);
    w.number(5, stamp.node.into());
    w
}

/// The record of a publication.
pub(crate) fn publication(key: &Key, p: &Publication) -> Bytes {
    let mut w = head(1, key, p.stamp);
    for (n, text) in [
        (10, &p.id[..]),
        (11, &p.etag),
        (12, &p.content_type),
        (13, &p.body),
        (14, &p.extra),
        (15, &p.sender),
        (16, &p.sphere),
    ] {
        w.text(n, text);
    }
    w.number(17, p.received_s.into());
    w.number(18, p.expires_s.into());
    w.number(19, p.foreign.into());
    w.number(20, p.request);
    w.number(21, p.said.time_us);
    w.number(22, p.said.node.into());
    w.into_bytes().into()
}

fn sub_id(w: &mut Fields, id: &SubId) {
    w.text(30, &id.call_id);
    w.text(31, &id.to_tag);
    w.text(32, &id.from_tag);
    w.text(33, &id.event_id);
}

fn sent_fields(w: &mut Fields, sent: &Sent) {
    w.number(50, sent.cseq.into());
    w.number(51, sent.version.into());
    w.number(52, sent.node.into());
    w.number(53, sent.answers.into());
    w.number(54, sent.told);
    w.number(55, sent.told_cseq.into());
}

/// The record of a subscription.
pub(crate) fn subscription(key: &Key, s: &Subscription) -> Bytes {
    let mut w = head(2, key, s.stamp);
    sub_id(&mut w, &s.id);
    for (n, text) in [
        (34, &s.from_user[..]),
        (35, &s.from_domain),
        (36, &s.to_user),
        (37, &s.to_domain),
        (38, &s.contact),
        (39, &s.routes),
        (40, &s.socket),
        (41, &s.local_contact),
        (42, &s.tag),
        (43, &s.view),
        (44, &s.reason),
    ] {
        w.text(n, text);
    }
    w.number(45, s.status as u64);
    w.number(46, s.expires_s.into());
    w.number(47, s.remote_cseq.into());
    w.number(48, s.asks.into());
    w.number(49, s.creator.into());
    sent_fields(&mut w, &s.sent);
    w.into_bytes().into()
}

/// What was sent to a watcher.
pub(crate) fn sent(key: &Key, s: &Subscription) -> Bytes {
    let mut w = head(3, key, s.stamp);
    sub_id(&mut w, &s.id);
    sent_fields(&mut w, &s.sent);
    w.into_bytes().into()
}

/// A record of something that is gone, with what is said at its end.
pub(crate) fn gone(key: &Key, name: &Name, stamp: Stamp, until_s: u32, body: &[u8]) -> Bytes {
    let mut w = match name {
        Name::Publication(id) => {
            let mut w = head(4, key, stamp);
            w.text(10, id);
            w.text(13, body);
            w
        }
        Name::Subscription(id) => {
            let mut w = head(5, key, stamp);
            sub_id(&mut w, id);
            w
        }
    };
    w.number(6, until_s.into());
    w.into_bytes().into()
}

/// Everything that a record may say.
#[derive(Default)]
struct Read {
    kind: u64,
    key: Key,
    stamp: Stamp,
    until_s: u32,
    publication: Publication,
    id: SubId,
    subscription: Subscription,
    status: u64,
}

/// Reads a record; `None`: it is cut off, too long, or says too little.
pub(crate) fn decode(record: &Bytes) -> Option<Told> {
    let mut read = Read::default();
    for field in fields(record) {
        let (n, value) = field?;
        match n {
            1..=29 => read.about_publication(n, value)?,
            _ => read.about_subscription(n, value)?,
        }
    }
    read.told()
}

/// A text that may stand in a line of a message.
fn text(value: &[u8], max: usize) -> Option<Text> {
    (value.len() <= max && is_one_line(value)).then(|| value.into())
}

impl Read {
    fn about_publication(&mut self, n: u8, value: &[u8]) -> Option<()> {
        let p = &mut self.publication;
        let short = || text(value, TEXT_BYTES_MAX);
        match n {
            1 => self.kind = integer(value)?,
            2 => self.key.uri = short()?,
            3 => self.key.event = short()?,
            4 => self.stamp.time_us = integer(value)?,
            5 => self.stamp.node = int32(value)?,
            6 => self.until_s = int32(value)?,
            10 => p.id = short()?,
            11 => p.etag = short()?,
            12 => p.content_type = short()?,
            13 if value.len() <= BODY_BYTES_MAX => p.body = Bytes::copy_from_slice(value),
            13 => return None,
            14 if value.len() <= ROUTES_BYTES_MAX && are_lines(value) => p.extra = value.into(),
            14 => return None,
            15 => p.sender = short()?,
            16 => p.sphere = short()?,
            17 => p.received_s = int32(value)?,
            18 => p.expires_s = int32(value)?,
            19 => p.foreign = integer(value)? != 0,
            20 => p.request = integer(value)?,
            21 => p.said.time_us = integer(value)?,
            22 => p.said.node = int32(value)?,
            _ => {}
        }
        Some(())
    }

    fn about_subscription(&mut self, n: u8, value: &[u8]) -> Option<()> {
        let s = &mut self.subscription;
        let short = || text(value, TEXT_BYTES_MAX);
        match n {
            30 => self.id.call_id = short()?,
            31 => self.id.to_tag = short()?,
            32 => self.id.from_tag = short()?,
            33 => self.id.event_id = short()?,
            34 => s.from_user = short()?,
            35 => s.from_domain = short()?,
            36 => s.to_user = short()?,
            37 => s.to_domain = short()?,
            38 => s.contact = short()?,
            39 => s.routes = text(value, ROUTES_BYTES_MAX)?,
            40 => s.socket = short()?,
            41 => s.local_contact = short()?,
            42 => s.tag = short()?,
            43 if value.len() <= VIEW_BYTES_MAX => s.view = value.into(),
            43 => return None,
            44 => s.reason = short()?,
            45 => self.status = integer(value)?,
            46 => s.expires_s = int32(value)?,
            47 => s.remote_cseq = int32(value)?,
            48 => s.asks = int32(value)?,
            49 => s.creator = int32(value)?,
            50 => s.sent.cseq = int32(value)?,
            51 => s.sent.version = int32(value)?,
            52 => s.sent.node = int32(value)?,
            53 => s.sent.answers = int32(value)?,
            54 => s.sent.told = integer(value)?,
            55 => s.sent.told_cseq = int32(value)?,
            _ => {}
        }
        Some(())
    }

    fn told(self) -> Option<Told> {
        let Self { kind, key, stamp, until_s, mut publication, id, mut subscription, status } =
            self;
        let is_written = stamp.time_us <= STAMP_MAX_US && publication.said.time_us <= STAMP_MAX_US;
        if key.uri.is_empty() || key.event.is_empty() || !is_written {
            return None;
        }
        let has_id = !id.call_id.is_empty() && !id.to_tag.is_empty();
        let id = Arc::new(id);
        let change = match kind {
            1 if !publication.id.is_empty() && !publication.etag.is_empty() => {
                publication.stamp = stamp;
                Change::publish(publication)
            }
            2 if has_id && !subscription.contact.is_empty() => {
                subscription.status = Status::from_number(i64::try_from(status).ok()?)?;
                (subscription.id, subscription.stamp) = (id, stamp);
                Change::subscribe(subscription)
            }
            3 if has_id => Change::Told { id, sent: subscription.sent },
            4 if !publication.id.is_empty() => {
                let name = Name::Publication(publication.id);
                Change::Bury { name, stamp, until_s, body: publication.body }
            }
            5 if has_id => {
                let name = Name::Subscription(id);
                Change::Bury { name, stamp, until_s, body: Bytes::new() }
            }
            _ => return None,
        };
        Some(Told { key, stamp, change })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some_text() -> impl Strategy<Value = Text> {
        "[ -~]{1,12}".prop_map(|text| text.into_bytes().into())
    }

    proptest! {
        #[test]
        fn a_publication_survives(
            t in proptest::collection::vec(some_text(), 8), received_s: u32, expires_s: u32,
            time_us in 0..=STAMP_MAX_US, node: u32, foreign: bool
        ) {
            let key = Key { uri: t[0].clone(), event: t[1].clone() };
            let stamp = Stamp { time_us, node };
            let p = Publication {
                id: t[2].clone(), etag: t[3].clone(), content_type: t[4].clone(),
                body: Bytes::copy_from_slice(&t[5]), sender: t[6].clone(), sphere: t[7].clone(),
                extra: Text::default(), received_s, expires_s, stamp, foreign, request: time_us,
                said: Stamp { time_us: time_us / 2, node },
            };
            let told = decode(&publication(&key, &p)).unwrap();
            prop_assert_eq!((told.key, told.stamp), (key, stamp));
            prop_assert!(matches!(told.change, Change::Publish(read) if *read == p));
        }

        #[test]
        fn a_subscription_survives(
            t in proptest::collection::vec(some_text(), 15), n in any::<[u32; 6]>(), told: u64,
            time_us in 0..=STAMP_MAX_US
        ) {
            let key = Key { uri: t[0].clone(), event: t[1].clone() };
            let id = SubId {
                call_id: t[2].clone(), to_tag: t[3].clone(), from_tag: t[4].clone(),
                event_id: t[5].clone(),
            };
            let s = Subscription {
                id: Arc::new(id), from_user: t[6].clone(), from_domain: t[7].clone(),
                to_user: t[8].clone(), to_domain: t[9].clone(), contact: t[10].clone(),
                routes: t[11].clone(), socket: t[12].clone(), local_contact: t[13].clone(),
                view: t[14].clone(), status: Status::Pending, expires_s: n[0], remote_cseq: n[1],
                asks: n[2], creator: n[3], stamp: Stamp { time_us, node: 1 },
                sent: Sent { cseq: n[4], version: n[5], told, ..Sent::default() },
                ..Subscription::default()
            };
            let read = decode(&subscription(&key, &s)).unwrap();
            prop_assert!(matches!(read.change, Change::Subscribe(read) if *read == s));
            let read = decode(&sent(&key, &s)).unwrap();
            let same = matches!(read.change, Change::Told { sent, .. } if sent == s.sent);
            prop_assert!(same);
            let name = Name::Subscription(s.id);
            let read = decode(&gone(&key, &name, s.stamp, 7, b"")).unwrap();
            let same = matches!(read.change, Change::Bury { name: read, .. } if read == name);
            prop_assert!(same);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&Bytes::from(bytes));
        }
    }
}
