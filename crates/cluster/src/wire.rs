//! Tandem's own packets: capability `tandem`, payload version 1, with a trailer like
//! `clusterer-extra`. It is never listed in CAP_UPDATE; a stock node ignores it.
//!
//! A payload is a sequence of fields: number (u16), length (u32), value. Integers are u64 (8
//! bytes), all little-endian. Unknown fields are skipped, missing numbers are 0, missing texts
//! empty. A number is never reused.
//!
//! Types and fields, with the level that brought them:
//!
//! - 1 HELLO (level 1): 1 incarnation, 2 level min, 3 level max, 4 clock (unix ms), 5 address
//!   (repeated: held u8, then 4 or 16 bytes), 6 next envelope number, 7 key of the sender's nonces,
//!   8 key that opens what the sender has sealed
//! - 2 ENVELOPE (level 1): 1 number, 2 capability, 3 type, 4 version, 5 stamp time, 6 stamp node,
//!   7 payload
//! - 3 ACK (level 1): 1 highest applied number, 2 envelopes found missing, 3 clock (unix ms),
//!   4 packets of type 5 taken since the sender is known
//! - 4 CLAIMS (level 1): 1 claim (repeated): 1 tag, 2 epoch, 3 activated at (unix ms), 4 node,
//!   5 standing (0 heard of, 1 held, 2 awaiting the end of boot), 6 reason, 7 by
//! - 5 SYNC_RECORDS (level 1): 1 capability, 2 version, 3 purpose (0 sync, 1 repair), 4 record
//!   (repeated)
//! - 6 SYNC_DONE (level 1): 1 capability, 2 count; an exchange of DIGESTs follows
//! - 7 DIGEST (level 1): 1 capability, 2 count, 3 digests (256 × u64), 4 flags (1 answer me,
//!   2 repair at once)
//! - 8 LISTING_WANTED (level 1): 1 capability, 2 buckets (a byte each)
//! - 9 LISTING (level 1): 1 capability, 2 buckets, 3 entry (repeated: digest u64, then the name),
//!   4 cut short

use crate::effects::{BUCKETS, Digests, Stamp};
use crate::listing::Listing;
use crate::register::EPOCH_MAX;
use bytes::{Buf, Bytes};
use std::net::IpAddr;
use tandem_bin::{Malformed, NodeId, Reader, TooBig, Trailer, Writer};

/// Name of the capability.
pub(crate) const TANDEM: &[u8] = b"tandem";
/// The levels of these packets that this code speaks.
pub(crate) const LEVEL_MIN: u32 = 1;
pub(crate) const LEVEL_MAX: u32 = 1;

const ADDRESSES_MAX: usize = 64;
const CLAIMS_MAX: usize = 256;
const NONCE_KEY_BYTES_MAX: usize = 64;
/// Longest tag name that is kept.
pub(crate) const TAG_BYTES_MAX: usize = 128;
const TEXT_BYTES_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tandem {
    Hello(Hello),
    Envelope(Envelope),
    Ack(Ack),
    Claims(Vec<ClaimEntry>),
    Records(Records),
    Done(Done),
    Digest(DigestMsg),
    ListingWanted(Listing),
    Listing(Listing),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) incarnation: u64,
    pub(crate) level_min: u32,
    pub(crate) level_max: u32,
    pub(crate) clock_unix_ms: u64,
    pub(crate) addresses: Vec<(IpAddr, bool)>,
    pub(crate) next_number: u64,
    /// Empty: the sender has none, or it is in the configuration of both.
    pub(crate) nonce_key: Bytes,
    /// Opens what the sender has sealed; empty: it has none.
    pub(crate) node_key: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) number: u64,
    pub(crate) capability: Bytes,
    pub(crate) packet_type: u32,
    pub(crate) version: u16,
    pub(crate) stamp: Stamp,
    pub(crate) payload: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) number: u64,
    pub(crate) missing: u64,
    pub(crate) clock_unix_ms: u64,
    pub(crate) taken: u64,
}

/// How the sender of a claim stands to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    #[default]
    HeardOf,
    Held,
    Awaiting,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct ClaimEntry {
    pub(crate) tag: String,
    pub(crate) epoch: u64,
    pub(crate) at_ms: u64,
    pub(crate) node: NodeId,
    pub(crate) standing: Standing,
    pub(crate) reason: String,
    pub(crate) by: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Records {
    pub(crate) capability: Bytes,
    pub(crate) version: u16,
    pub(crate) repair: bool,
    pub(crate) records: Vec<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Done {
    pub(crate) capability: Bytes,
    pub(crate) count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct DigestMsg {
    pub(crate) capability: Bytes,
    pub(crate) digests: Digests,
    pub(crate) answer: bool,
    pub(crate) at_once: bool,
}

impl Tandem {
    fn packet_type(&self) -> u32 {
        match self {
            Self::Hello(_) => 1,
            Self::Envelope(_) => 2,
            Self::Ack(_) => 3,
            Self::Claims(_) => 4,
            Self::Records(_) => 5,
            Self::Done(_) => 6,
            Self::Digest(_) => 7,
            Self::ListingWanted(_) => 8,
            Self::Listing(_) => 9,
        }
    }

    pub(crate) fn encode(&self, trailer: &Trailer) -> Result<Bytes, TooBig> {
        let mut w = Writer::packet(TANDEM, self.packet_type(), 1);
        match self {
            Self::Hello(hello) => hello.write(&mut w),
            Self::Envelope(e) => e.write(&mut w),
            Self::Ack(ack) => {
                number(&mut w, 1, ack.number);
                number(&mut w, 2, ack.missing);
                number(&mut w, 3, ack.clock_unix_ms);
                number(&mut w, 4, ack.taken);
            }
            Self::Claims(claims) => {
                for claim in claims {
                    field(&mut w, 1, &claim.encode()?);
                }
            }
            Self::Records(r) => {
                field(&mut w, 1, &r.capability);
                number(&mut w, 2, r.version.into());
                number(&mut w, 3, r.repair.into());
                r.records.iter().for_each(|record| field(&mut w, 4, record));
            }
            Self::Done(done) => {
                field(&mut w, 1, &done.capability);
                number(&mut w, 2, done.count);
            }
            Self::Digest(digest) => digest.write(&mut w),
            Self::ListingWanted(l) | Self::Listing(l) => l.write(&mut w),
        }
        w.finish_packet(Some(trailer))
    }

    pub(crate) fn decode(packet_type: u32, payload: &Bytes) -> Result<Self, Malformed> {
        let fields = Fields(Reader::new(payload.clone()));
        Ok(match packet_type {
            1 => Self::Hello(Hello::read(fields)?),
            2 => Self::Envelope(Envelope::read(fields)?),
            3 => {
                let mut ack = Ack { number: 0, missing: 0, clock_unix_ms: 0, taken: 0 };
                for item in fields {
                    match item? {
                        (1, v) => ack.number = to_u64(v)?,
                        (2, v) => ack.missing = to_u64(v)?,
                        (3, v) => ack.clock_unix_ms = to_u64(v)?,
                        (4, v) => ack.taken = to_u64(v)?,
                        _ => {}
                    }
                }
                Self::Ack(ack)
            }
            4 => Self::Claims(read_claims(fields)?),
            5 => Self::Records(Records::read(fields)?),
            6 => {
                let mut done = Done::default();
                for item in fields {
                    match item? {
                        (1, v) => done.capability = v,
                        (2, v) => done.count = to_u64(v)?,
                        _ => {}
                    }
                }
                Self::Done(done)
            }
            7 => Self::Digest(DigestMsg::read(fields)?),
            8 => Self::ListingWanted(Listing::read(fields)?),
            9 => Self::Listing(Listing::read(fields)?),
            other => return Err(Malformed::Type(other)),
        })
    }
}

impl Hello {
    fn write(&self, w: &mut Writer) {
        number(w, 1, self.incarnation);
        number(w, 2, self.level_min.into());
        number(w, 3, self.level_max.into());
        number(w, 4, self.clock_unix_ms);
        for (ip, held) in self.addresses.iter().take(ADDRESSES_MAX) {
            let mut value = vec![u8::from(*held)];
            match ip {
                IpAddr::V4(ip) => value.extend(ip.octets()),
                IpAddr::V6(ip) => value.extend(ip.octets()),
            }
            field(w, 5, &value);
        }
        number(w, 6, self.next_number);
        if !self.nonce_key.is_empty() {
            field(w, 7, &self.nonce_key);
        }
        if !self.node_key.is_empty() {
            field(w, 8, &self.node_key);
        }
    }

    fn read(fields: Fields) -> Result<Self, Malformed> {
        let mut hello = Self {
            incarnation: 0,
            level_min: 0,
            level_max: 0,
            clock_unix_ms: 0,
            addresses: Vec::new(),
            next_number: 0,
            nonce_key: Bytes::new(),
            node_key: Bytes::new(),
        };
        for item in fields {
            match item? {
                (1, v) => hello.incarnation = to_u64(v)?,
                (2, v) => hello.level_min = to_u32(v)?,
                (3, v) => hello.level_max = to_u32(v)?,
                (4, v) => hello.clock_unix_ms = to_u64(v)?,
                (5, v) if hello.addresses.len() < ADDRESSES_MAX => {
                    hello.addresses.extend(to_address(&v));
                }
                (6, v) => hello.next_number = to_u64(v)?,
                (7, v) if v.len() <= NONCE_KEY_BYTES_MAX => hello.nonce_key = v,
                (8, v) if v.len() <= NONCE_KEY_BYTES_MAX => hello.node_key = v,
                _ => {}
            }
        }
        Ok(hello)
    }
}

impl Envelope {
    fn write(&self, w: &mut Writer) {
        number(w, 1, self.number);
        field(w, 2, &self.capability);
        number(w, 3, self.packet_type.into());
        number(w, 4, self.version.into());
        number(w, 5, self.stamp.time_us);
        number(w, 6, self.stamp.node.into());
        field(w, 7, &self.payload);
    }

    fn read(fields: Fields) -> Result<Self, Malformed> {
        let mut e = Self {
            number: 0,
            capability: Bytes::new(),
            packet_type: 0,
            version: 0,
            stamp: Stamp { time_us: 0, node: 0 },
            payload: Bytes::new(),
        };
        for item in fields {
            match item? {
                (1, v) => e.number = to_u64(v)?,
                (2, v) => e.capability = v,
                (3, v) => e.packet_type = to_u32(v)?,
                (4, v) => e.version = to_u16(v)?,
                (5, v) => e.stamp.time_us = to_u64(v)?,
                (6, v) => e.stamp.node = to_u32(v)?,
                (7, v) => e.payload = v,
                _ => {}
            }
        }
        Ok(e)
    }
}

impl ClaimEntry {
    pub(crate) fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        field(&mut w, 1, self.tag.as_bytes());
        number(&mut w, 2, self.epoch);
        number(&mut w, 3, self.at_ms);
        number(&mut w, 4, self.node.into());
        let standing = match self.standing {
            Standing::HeardOf => 0,
            Standing::Held => 1,
            Standing::Awaiting => 2,
        };
        number(&mut w, 5, standing);
        field(&mut w, 6, clip(&self.reason).as_bytes());
        field(&mut w, 7, clip(&self.by).as_bytes());
        w.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut claim = Self::default();
        for item in Fields(Reader::new(bytes)) {
            match item? {
                (1, v) => claim.tag = to_text(&v, TAG_BYTES_MAX)?,
                (2, v) => claim.epoch = to_u64(v)?,
                (3, v) => claim.at_ms = to_u64(v)?,
                (4, v) => claim.node = to_u32(v)?,
                (5, v) => {
                    claim.standing = match to_u64(v)? {
                        1 => Standing::Held,
                        2 => Standing::Awaiting,
                        _ => Standing::HeardOf,
                    }
                }
                (6, v) => claim.reason = to_text(&v, TEXT_BYTES_MAX)?,
                (7, v) => claim.by = to_text(&v, TEXT_BYTES_MAX)?,
                _ => {}
            }
        }
        Ok(claim)
    }
}

fn read_claims(fields: Fields) -> Result<Vec<ClaimEntry>, Malformed> {
    let mut claims = Vec::new();
    for item in fields {
        if let (1, v) = item? {
            if claims.len() >= CLAIMS_MAX {
                return Err(Malformed::Value { field: "claims", value: claims.len() as i64 });
            }
            let claim = ClaimEntry::decode(v)?;
            if claim.epoch > EPOCH_MAX {
                return Err(Malformed::Value { field: "epoch", value: claim.epoch as i64 });
            }
            claims.push(claim);
        }
    }
    Ok(claims)
}

impl Records {
    fn read(fields: Fields) -> Result<Self, Malformed> {
        let mut r = Self::default();
        for item in fields {
            match item? {
                (1, v) => r.capability = v,
                (2, v) => r.version = to_u16(v)?,
                (3, v) => r.repair = to_u64(v)? != 0,
                (4, v) => r.records.push(v),
                _ => {}
            }
        }
        Ok(r)
    }
}

impl DigestMsg {
    fn write(&self, w: &mut Writer) {
        field(w, 1, &self.capability);
        number(w, 2, self.digests.count);
        let mut value = Vec::with_capacity(BUCKETS * 8);
        for digest in self.digests.buckets.iter() {
            value.extend_from_slice(&digest.to_le_bytes());
        }
        field(w, 3, &value);
        number(w, 4, u64::from(self.answer) | u64::from(self.at_once) << 1);
    }

    fn read(fields: Fields) -> Result<Self, Malformed> {
        let mut d = Self::default();
        for item in fields {
            match item? {
                (1, v) => d.capability = v,
                (2, v) => d.digests.count = to_u64(v)?,
                (3, mut v) => {
                    for digest in d.digests.buckets.iter_mut() {
                        *digest = v.try_get_u64_le().map_err(|_| Malformed::Short("digests"))?;
                    }
                }
                (4, v) => {
                    let flags = to_u64(v)?;
                    d.answer = flags & 1 != 0;
                    d.at_once = flags & 2 != 0;
                }
                _ => {}
            }
        }
        Ok(d)
    }
}

/// The fields of a payload, in order; ends at the end or with an error.
pub(crate) struct Fields(pub(crate) Reader);

impl Iterator for Fields {
    type Item = Result<(u16, Bytes), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let item = self.read();
        if item.is_err() {
            self.0 = Reader::new(Bytes::new());
        }
        Some(item)
    }
}

impl Fields {
    fn read(&mut self) -> Result<(u16, Bytes), Malformed> {
        let number = self.0.u16("field number")?;
        let len = self.0.uint("field length")?;
        Ok((number, self.0.take(len as usize, "field")?))
    }
}

pub(crate) fn field(w: &mut Writer, number: u16, value: &[u8]) {
    w.u16(number);
    w.count(value.len());
    w.raw(value);
}

pub(crate) fn number(w: &mut Writer, field: u16, value: u64) {
    w.u16(field);
    w.uint(8);
    w.raw(&value.to_le_bytes());
}

pub(crate) fn to_u64(mut value: Bytes) -> Result<u64, Malformed> {
    value.try_get_u64_le().map_err(|_| Malformed::Short("number"))
}

pub(crate) fn to_u32(value: Bytes) -> Result<u32, Malformed> {
    let wide = to_u64(value)?;
    u32::try_from(wide).map_err(|_| Malformed::Value { field: "number", value: wide as i64 })
}

fn to_u16(value: Bytes) -> Result<u16, Malformed> {
    let wide = to_u64(value)?;
    u16::try_from(wide).map_err(|_| Malformed::Value { field: "number", value: wide as i64 })
}

pub(crate) fn to_text(value: &Bytes, max: usize) -> Result<String, Malformed> {
    match std::str::from_utf8(value) {
        Ok(text) if text.len() <= max => Ok(text.to_owned()),
        _ => Err(Malformed::Value { field: "text", value: value.len() as i64 }),
    }
}

/// The part of a text that every peer accepts.
fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

fn to_address(value: &Bytes) -> Option<(IpAddr, bool)> {
    let (held, ip) = value.split_first()?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some((ip, *held != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tandem_bin::Packet;

    fn text() -> impl Strategy<Value = String> {
        "[a-z]{0,12}"
    }

    fn raw() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    prop_compose! {
        fn claim()(
            tag in text(), epoch in 0..=EPOCH_MAX, at_ms: u64, node: u32, s in 0..3,
            reason in text(),
        ) -> ClaimEntry {
            let standing = [Standing::HeardOf, Standing::Held, Standing::Awaiting][s as usize];
            ClaimEntry { tag, epoch, at_ms, node, standing, by: reason.clone(), reason }
        }
    }

    fn packet() -> impl Strategy<Value = Tandem> {
        prop_oneof![
            (any::<u64>(), any::<[u8; 4]>(), any::<[u8; 16]>(), any::<bool>()).prop_map(
                |(n, v4, v6, held)| Tandem::Hello(Hello {
                    incarnation: n,
                    level_min: 1,
                    level_max: 7,
                    clock_unix_ms: n,
                    addresses: vec![(v4.into(), held), (v6.into(), !held)],
                    next_number: n,
                    nonce_key: Bytes::copy_from_slice(&v6),
                    node_key: Bytes::copy_from_slice(&v4),
                })
            ),
            (any::<u64>(), raw(), any::<u32>(), any::<u16>(), raw()).prop_map(
                |(n, capability, node, version, payload)| Tandem::Envelope(Envelope {
                    number: n,
                    capability,
                    packet_type: node,
                    version,
                    stamp: Stamp { time_us: n, node },
                    payload,
                })
            ),
            any::<u64>().prop_map(|n| {
                Tandem::Ack(Ack { number: n, missing: 1, clock_unix_ms: n, taken: 2 })
            }),
            prop::collection::vec(claim(), 0..5).prop_map(Tandem::Claims),
            (raw(), any::<u16>(), any::<bool>(), prop::collection::vec(raw(), 0..5)).prop_map(
                |(capability, version, repair, records)| Tandem::Records(Records {
                    capability,
                    version,
                    repair,
                    records
                })
            ),
            (raw(), any::<u64>())
                .prop_map(|(capability, n)| Tandem::Done(Done { capability, count: n })),
            (raw(), any::<u64>(), any::<bool>()).prop_map(|(capability, n, answer)| {
                let mut digests = Digests { count: n, ..Digests::default() };
                digests.buckets[255] = n;
                Tandem::Digest(DigestMsg { capability, digests, answer, at_once: !answer })
            }),
        ]
    }

    proptest! {
        #[test]
        fn packets_survive_a_round_trip(packet in packet()) {
            let bytes = packet.encode(&Trailer::new(1, 2, 3)).unwrap();
            let read = Packet::decode(bytes).unwrap();
            prop_assert_eq!(Tandem::decode(read.packet_type, &read.payload).unwrap(), packet);
        }

        #[test]
        fn unknown_fields_are_skipped(packet in packet(), extra in raw()) {
            let bytes = packet.encode(&Trailer::new(1, 2, 3)).unwrap();
            let read = Packet::decode(bytes).unwrap();
            let mut w = Writer::payload();
            w.raw(&read.payload);
            field(&mut w, 999, &extra);
            let payload = w.finish().unwrap();
            prop_assert_eq!(Tandem::decode(read.packet_type, &payload).unwrap(), packet);
        }

        #[test]
        fn arbitrary_payloads_never_panic(
            packet_type in 0u32..9,
            bytes in prop::collection::vec(prop_oneof![Just(0u8), 0u8..9, any::<u8>()], 0..200),
        ) {
            let _ = Tandem::decode(packet_type, &Bytes::from(bytes));
        }
    }

    #[test]
    fn an_epoch_that_nobody_can_rise_above_is_refused() {
        let entry = ClaimEntry { epoch: EPOCH_MAX + 1, ..ClaimEntry::default() };
        assert!(ClaimEntry::decode(entry.encode().unwrap()).is_ok());
        let packet = Tandem::Claims(vec![entry]).encode(&Trailer::new(1, 2, 1)).unwrap();
        let packet = Packet::decode(packet).unwrap();
        assert!(Tandem::decode(packet.packet_type, &packet.payload).is_err());
    }
}
