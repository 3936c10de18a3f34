//! Values inside the bytes of a transaction.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use tandem_cluster::fields::{Fields, fields, int32, integer};
use tandem_engine::avp::Avps;
use tandem_script::value::Value;

pub(super) fn write_avps(w: &mut Fields, n: u8, avps: &Avps) {
    let all: Vec<_> = avps.iter().collect();
    for (name, value) in all.into_iter().rev() {
        write_named(w, n, name, value);
    }
}

pub(super) fn read_avp(bytes: &[u8], avps: &mut Avps) -> Option<()> {
    let (name, value) = read_named(bytes)?;
    avps.insert(&name, value, false).ok()
}

/// 1 name, 2 number, 3 text; null has neither.
pub(super) fn write_named(w: &mut Fields, n: u8, name: &[u8], value: &Value) {
    w.within(n, |w| {
        w.put(1, name);
        let (number, text) = match value {
            Value::Null => (None, None),
            Value::Int(number) => (Some(number), None),
            Value::Str(text) => (None, Some(text)),
            Value::Both(number, text) => (Some(number), Some(text)),
        };
        if let Some(number) = number {
            w.put_number(2, number.cast_unsigned().into());
        }
        w.optional(3, text.map(|text| &text[..]));
    });
}

pub(super) fn read_named(bytes: &[u8]) -> Option<(Bytes, Value)> {
    let (mut name, mut number, mut text) = (Bytes::new(), None, None);
    for field in fields(bytes) {
        match field? {
            (1, value) => name = copy(value),
            (2, value) => number = Some(int32(value)?.cast_signed()),
            (3, value) => text = Some(copy(value)),
            _ => {}
        }
    }
    let value = match (number, text) {
        (None, None) => Value::Null,
        (Some(number), None) => Value::Int(number),
        (None, Some(text)) => Value::Str(text),
        (Some(number), Some(text)) => Value::Both(number, text),
    };
    Some((name, value))
}

pub(super) fn copy(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}

pub(super) fn int16(value: &[u8]) -> Option<u16> {
    u16::try_from(integer(value)?).ok()
}

pub(super) fn string(value: &[u8]) -> Option<String> {
    String::from_utf8(value.to_vec()).ok()
}

/// The first one is the lowest bit.
pub(super) fn bits(all: &[bool]) -> u64 {
    all.iter().rev().fold(0, |bits, bit| bits << 1 | u64::from(*bit))
}

pub(super) fn bit(value: &[u8], n: u32) -> Option<bool> {
    Some(integer(value)? >> n & 1 != 0)
}

/// The octets of the address, and the port.
pub(super) fn put_addr(w: &mut Fields, n: u8, addr: SocketAddr) {
    let port = addr.port().to_be_bytes();
    match addr.ip() {
        IpAddr::V4(ip) => w.put(n, &[&ip.octets()[..], &port].concat()),
        IpAddr::V6(ip) => w.put(n, &[&ip.octets()[..], &port].concat()),
    }
}

pub(super) fn addr_of(value: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = value.split_last_chunk()?;
    let v4 = |ip: [u8; 4]| IpAddr::from(Ipv4Addr::from(ip));
    let v6 = |ip: [u8; 16]| IpAddr::from(Ipv6Addr::from(ip));
    let ip = ip.try_into().map(v4).or_else(|_| ip.try_into().map(v6)).ok()?;
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}
