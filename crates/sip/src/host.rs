//! Hosts and ports, as URIs and Via headers share them.

use std::net::{IpAddr, Ipv6Addr};

use crate::scan::{find_near, parse_u32, slice, tail, trim};

/// The address, if a host is one; an IPv6 address may have its brackets or not.
#[must_use]
pub fn host_ip(host: &[u8]) -> Option<IpAddr> {
    let bare = host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]")).unwrap_or(host);
    std::str::from_utf8(bare).ok()?.parse().ok()
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
    let host_end = if text.first() == Some(&b'[') {
        find_near(text, b']').ok_or(HostPortError::Host)? + 1
    } else {
        find_near(text, b':').unwrap_or(text.len())
    };
    let host = trim(slice(text, 0, host_end));
    if !is_host(host) {
        return Err(HostPortError::Host);
    }
    match trim(tail(text, host_end)) {
        [] => Ok((host, None)),
        [b':', digits @ ..] => {
            let port = parse_u32(trim(digits)).and_then(|n| u16::try_from(n).ok());
            match port {
                Some(port) if port > 0 => Ok((host, Some(port))),
                _ => Err(HostPortError::Port),
            }
        }
        _ => Err(HostPortError::Host),
    }
}

/// A name, an IPv4 address, or an IPv6 address in brackets. `_` is taken, though no domain name
/// has it: real networks do.
fn is_host(host: &[u8]) -> bool {
    if let Some(inner) = host.strip_prefix(b"[") {
        let Some(inner) = inner.strip_suffix(b"]") else { return false };
        return std::str::from_utf8(inner).is_ok_and(|s| s.parse::<Ipv6Addr>().is_ok());
    }
    !host.is_empty()
        && host.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
