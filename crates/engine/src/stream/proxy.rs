//! The PROXY protocol, versions 1 and 2: who speaks through a load balancer, told in front of what
//! it passes on (haproxy.org, proxy-protocol.txt).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1.
const LINE_BYTES_MAX: usize = 107;
/// The longest header of version 2 that is taken, further information included.
const BINARY_BYTES_MAX: usize = 4_096;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Both ends of the connection that the balancer passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    pub src: SocketAddr,
    pub dst: SocketAddr,
}

/// What stands at the beginning of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// More has to come before it is known.
    Partial,
    /// No header.
    Plain,
    /// A header of so many bytes; `None`: the balancer speaks for itself.
    Header(Option<Proxied>, usize),
}

/// What looks like a header and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a header of the PROXY protocol that cannot be read")]
pub struct BadProxy;

/// Reads the header in front of some bytes.
pub(crate) fn read(bytes: &[u8]) -> Result<Begin, BadProxy> {
    let is_begin_of = |whole: &[u8]| whole.starts_with(bytes) || bytes.starts_with(whole);
    if bytes.is_empty() {
        return Ok(Begin::Partial);
    }
    if is_begin_of(b"PROXY ") {
        return line(bytes);
    }
    if is_begin_of(SIGNATURE) {
        return binary(bytes);
    }
    Ok(Begin::Plain)
}

fn line(bytes: &[u8]) -> Result<Begin, BadProxy> {
    let Some(end) = bytes.windows(2).take(LINE_BYTES_MAX).position(|w| w == b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(Begin::Partial) } else { Err(BadProxy) };
    };
    let text = std::str::from_utf8(bytes.get(..end).unwrap_or_default()).map_err(|_| BadProxy)?;
    let mut words = text.split(' ').skip(1);
    let family = words.next().ok_or(BadProxy)?;
    if family == "UNKNOWN" {
        return Ok(Begin::Header(None, end + 2));
    }
    let mut ip = || words.next().and_then(|w| w.parse::<IpAddr>().ok()).ok_or(BadProxy);
    let (src, dst) = (ip()?, ip()?);
    let mut port = || words.next().and_then(|w| w.parse::<u16>().ok()).ok_or(BadProxy);
    let (src_port, dst_port) = (port()?, port()?);
    let fits = match family {
        "TCP4" => src.is_ipv4() && dst.is_ipv4(),
        "TCP6" => src.is_ipv6() && dst.is_ipv6(),
        _ => false,
    };
    if !fits || words.next().is_some() {
        return Err(BadProxy);
    }
    let (src, dst) = (SocketAddr::new(src, src_port), SocketAddr::new(dst, dst_port));
    Ok(Begin::Header(Some(Proxied { src, dst }), end + 2))
}

fn binary(bytes: &[u8]) -> Result<Begin, BadProxy> {
    let Some([command, family, high, low]) = bytes.get(12..16) else { return Ok(Begin::Partial) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > BINARY_BYTES_MAX || command >> 4 != 2 {
        return Err(BadProxy);
    }
    let Some(addresses) = bytes.get(16..16 + length) else { return Ok(Begin::Partial) };
    let proxied = match (command & 0xf, family >> 4) {
        // LOCAL: a check of the balancer itself.
        (0, _) => None,
        (1, 1) => Some(ends::<4>(addresses, |ip| Ipv4Addr::from(ip).into()).ok_or(BadProxy)?),
        (1, 2) => Some(ends::<16>(addresses, |ip| Ipv6Addr::from(ip).into()).ok_or(BadProxy)?),
        (1, _) => None,
        _ => return Err(BadProxy),
    };
    Ok(Begin::Header(proxied, 16 + length))
}

/// Two addresses, then two ports.
fn ends<const N: usize>(bytes: &[u8], ip: fn([u8; N]) -> IpAddr) -> Option<Proxied> {
    let (src, rest) = bytes.split_first_chunk::<N>()?;
    let (dst, rest) = rest.split_first_chunk::<N>()?;
    let (src_port, rest) = rest.split_first_chunk::<2>()?;
    let (dst_port, _) = rest.split_first_chunk::<2>()?;
    let end = |at: &[u8; N], port: &[u8; 2]| SocketAddr::new(ip(*at), u16::from_be_bytes(*port));
    Some(Proxied { src: end(src, src_port), dst: end(dst, dst_port) })
}

/// The line of version 1 for a connection of our own.
pub(crate) fn line_for(src: SocketAddr, dst: SocketAddr) -> String {
    let family = if src.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", src.ip(), dst.ip(), src.port(), dst.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    #[test]
    fn a_line_says_who_speaks() {
        let text = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 5060\r\nOPTIONS";
        let proxied = Proxied { src: at("192.0.2.1:56324"), dst: at("198.51.100.1:5060") };
        assert_eq!(read(text), Ok(Begin::Header(Some(proxied), 46)));
        let own = line_for(at("[::1]:40000"), at("[::2]:5060"));
        let proxied = Proxied { src: at("[::1]:40000"), dst: at("[::2]:5060") };
        assert_eq!(read(own.as_bytes()), Ok(Begin::Header(Some(proxied), own.len())));
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), Ok(Begin::Header(None, 15)));
        assert_eq!(read(b"OPTIONS sip:a SIP/2.0\r\n"), Ok(Begin::Plain));
        assert_eq!(read(b"PROX"), Ok(Begin::Partial));
    }

    #[test]
    fn the_binary_form_says_the_same() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 0x13, 0xc4, 4, 0, 0];
        let proxied = Proxied { src: at("192.0.2.1:56324"), dst: at("198.51.100.1:5060") };
        assert_eq!(read(&version_2(0x21, 0x11, &v4)), Ok(Begin::Header(Some(proxied), 31)));
        assert_eq!(read(&version_2(0x20, 0, &[])), Ok(Begin::Header(None, 16)));
        assert_eq!(read(&version_2(0x21, 0x31, &[0; 9])), Ok(Begin::Header(None, 25)));
        assert_eq!(read(&SIGNATURE[..7]), Ok(Begin::Partial));
        assert_eq!(read(b"\r\n\r\n"), Ok(Begin::Partial));
        assert_eq!(read(b"\r\n\r\nO"), Ok(Begin::Plain));
    }

    #[test]
    fn what_only_looks_like_it_is_refused() {
        for text in [
            "PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        ] {
            assert_eq!(read(text.as_bytes()), Err(BadProxy), "{text}");
        }
        assert_eq!(read(&[b"PROXY ".as_slice(), &[b'x'; 200]].concat()), Err(BadProxy));
        assert_eq!(read(&version_2(0x11, 0x11, &[0; 12])), Err(BadProxy));
        assert_eq!(read(&version_2(0x21, 0x11, &[0; 11])), Err(BadProxy));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(head in 0..3_usize, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let heads = [&b""[..], b"PROXY TCP4 ", SIGNATURE];
            let _ = read(&[heads[head], &bytes].concat());
        }
    }
}
