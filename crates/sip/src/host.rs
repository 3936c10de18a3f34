//! Hosts and ports, as URIs and Via headers share them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::scan::{find_near, parse_u32, slice, tail, trim, trim_start};

/// The address, if a host is one; an IPv6 address may have its brackets or not.
#[must_use]
pub fn host_ip(host: &[u8]) -> Option<IpAddr> {
    if let Some(ip) = ipv4(host) {
        return Some(ip.into());
    }
    // Everything else that is an address has one of these.
    if !host.contains(&b':') {
        return None;
    }
    let bare = host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]")).unwrap_or(host);
    std::str::from_utf8(bare).ok()?.parse().ok()
}

/// Four numbers without leading zeros, as the standard library reads them.
fn ipv4(host: &[u8]) -> Option<Ipv4Addr> {
    let (a, rest) = octet(host)?;
    let (b, rest) = octet(rest.strip_prefix(b".")?)?;
    let (c, rest) = octet(rest.strip_prefix(b".")?)?;
    let (d, rest) = octet(rest.strip_prefix(b".")?)?;
    rest.is_empty().then(|| [a, b, c, d].into())
}

/// The number that a text begins with, and what follows it.
#[inline]
fn octet(text: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |b: u8| u32::from(b - b'0');
    match text {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
            let number = digit(*a) * 100 + digit(*b) * 10 + digit(*c);
            Some((u8::try_from(number).ok()?, rest))
        }
        [a @ b'1'..=b'9', b @ b'0'..=b'9', rest @ ..] => {
            Some(((digit(*a) * 10 + digit(*b)) as u8, rest))
        }
        [a @ b'0'..=b'9', rest @ ..] => Some((digit(*a) as u8, rest)),
        _ => None,
    }
}

/// What is wrong with `host[:port]`.
pub(crate) enum HostPortError {
    Host,
    Port,
}

/// Splits and checks `host[:port]`; an IPv6 host keeps its brackets. Whitespace around the parts
/// is cut, which only a Via may have.
pub(crate) fn host_port(text: &[u8]) -> Result<(&[u8], Option<u16>), HostPortError> {
    let text = trim(text);
    let host_end = match text {
        [b'[', ..] => ipv6_end(text).ok_or(HostPortError::Host)?,
        _ => text.iter().position(|b| !is_host_byte(*b)).unwrap_or(text.len()),
    };
    let host = slice(text, 0, host_end);
    if host.is_empty() {
        return Err(HostPortError::Host);
    }
    match tail(text, host_end) {
        [] => Ok((host, None)),
        rest => match trim_start(rest) {
            [b':', digits @ ..] => port(trim_start(digits)).map(|port| (host, Some(port))),
            _ => Err(HostPortError::Host),
        },
    }
}

fn port(digits: &[u8]) -> Result<u16, HostPortError> {
    let port = parse_u32(digits).and_then(|n| u16::try_from(n).ok());
    port.filter(|port| *port > 0).ok_or(HostPortError::Port)
}

/// Behind the bracket that closes the IPv6 address at the start of `text`.
fn ipv6_end(text: &[u8]) -> Option<usize> {
    let close = find_near(text, b']')?;
    let inner = std::str::from_utf8(slice(text, 1, close)).ok()?;
    inner.parse::<Ipv6Addr>().ok()?;
    Some(close + 1)
}

/// What a name or an IPv4 address consists of. `_` is taken, though no domain name has it: real
/// networks do.
#[expect(clippy::indexing_slicing, reason = "the table has a place for each byte")]
pub(crate) const fn is_host_byte(b: u8) -> bool {
    HOST[b as usize]
}

#[expect(clippy::indexing_slicing, reason = "the table has a place for each byte")]
const HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0u8;
    loop {
        table[b as usize] = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if b == u8::MAX {
            break table;
        }
        b += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
        host_port(text).ok()
    }

    #[test]
    fn hosts_and_ports_are_split() {
        assert_eq!(split(b"a.example:5060"), Some((&b"a.example"[..], Some(5060))));
        assert_eq!(split(b"[::1]:5061"), Some((&b"[::1]"[..], Some(5061))));
        assert_eq!(split(b" h : 1 "), Some((&b"h"[..], Some(1))));
        for wrong in
            [&b""[..], b":5", b"h:", b"h:0", b"h:65536", b"h:x", b"[::1", b"[::1]5", b"a b"]
        {
            assert_eq!(split(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn addresses_are_recognised_with_and_without_brackets() {
        assert_eq!(host_ip(b"[::1]"), host_ip(b"::1"));
        assert!(host_ip(b"192.0.2.1").is_some_and(|ip| ip.is_ipv4()));
        assert_eq!(host_ip(b"example.com"), None);
    }

    proptest! {
        #[test]
        fn addresses_are_those_of_the_standard_library(
            text in prop_oneof![
                "[0-9]{1,4}(\\.[0-9]{0,4}){2,4}", "[0-9a-f:.]{0,18}", "[a-z.]{0,9}"
            ],
        ) {
            prop_assert_eq!(host_ip(text.as_bytes()), text.parse().ok());
        }
    }
}
