//! `{ip.*}`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Args, Run, TransformSig, on, row, special, text, truth};
use crate::parse_net;
use crate::value::Value;

pub(super) const TABLE: &[TransformSig] = &[
    row("ip.pton", (0, 0, 0), |v, _| on(v, to_binary), "the bytes of an address"),
    row("ip.ntop", (0, 0, 0), |v, _| on(v, to_text), "the text of an address's bytes"),
    row("ip.isip", (0, 0, 0), |v, _| on(v, |t| truth(parse(t).is_some())), "1 or 0"),
    row("ip.isip4", (0, 0, 0), |v, _| on(v, |t| is(t, IpAddr::is_ipv4)), "1 or 0"),
    row("ip.isip6", (0, 0, 0), |v, _| on(v, |t| is(t, IpAddr::is_ipv6)), "1 or 0"),
    row("ip.family", (0, 0, 0), |v, _| on(v, family), "INET or INET6, of an address's bytes"),
    row("ip.matches", (1, 1, 0), matches, "1 if the address is in a network, 0 if not"),
    row("ip.isprivate", (0, 0, 0), |v, _| on(v, is_private), "1 for a private IPv4 address"),
    special("ip.resolve", (0, 0, 0), Run::Resolve, "the address of a name"),
];

/// An address as SIP writes it: IPv6 with or without brackets.
pub(crate) fn parse(text: &[u8]) -> Option<IpAddr> {
    let bare = text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]")).unwrap_or(text);
    std::str::from_utf8(bare).ok()?.parse().ok()
}

fn is(text: &[u8], family: fn(&IpAddr) -> bool) -> Value {
    truth(parse(text).is_some_and(|a| family(&a)))
}

fn to_binary(text: &[u8]) -> Value {
    match parse(text) {
        Some(IpAddr::V4(a)) => Value::str(a.octets().to_vec()),
        Some(IpAddr::V6(a)) => Value::str(a.octets().to_vec()),
        None => Value::Null,
    }
}

fn of_binary(bytes: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(bytes).map(|b| IpAddr::V4(Ipv4Addr::from(b)));
    let sixteen = || <[u8; 16]>::try_from(bytes).map(|b| IpAddr::V6(Ipv6Addr::from(b)));
    four().or_else(|_| sixteen()).ok()
}

fn to_text(bytes: &[u8]) -> Value {
    of_binary(bytes).map_or(Value::Null, |a| text(a.to_string()))
}

fn family(bytes: &[u8]) -> Value {
    match of_binary(bytes) {
        Some(IpAddr::V4(_)) => text("INET".to_owned()),
        Some(IpAddr::V6(_)) => text("INET6".to_owned()),
        None => Value::Null,
    }
}

/// Null for what is no address or network, and for different families.
fn matches(value: &Value, args: &Args<'_>) -> Value {
    let Some(net) = args.word(0) else { return Value::Null };
    let net = std::str::from_utf8(&net).ok().and_then(parse_net);
    on(value, |t| match (net, parse(t)) {
        (Some(net), Some(a)) if net.addr.is_ipv4() == a.is_ipv4() => truth(net.contains(a)),
        _ => Value::Null,
    })
}

/// RFC 1918, RFC 6598, and loopback.
fn is_private(text: &[u8]) -> Value {
    match parse(text) {
        Some(IpAddr::V4(a)) => {
            let [first, second, ..] = a.octets();
            let shared = first == 100 && (64..128).contains(&second);
            truth(a.is_private() || a.is_loopback() || shared)
        }
        Some(IpAddr::V6(_)) => truth(false),
        None => Value::Null,
    }
}
