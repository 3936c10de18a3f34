//! Via: RFC 3261 20.42, RFC 3581.

use std::net::IpAddr;

use crate::host::{host_ip, host_port};
use crate::scan::{find_near, find_soon, is_token, is_token_byte, parse_u32};
use crate::scan::{slice, tail, trim, trim_start};
use crate::{Params, Transport, ValueError};

/// What every branch of an RFC 3261 element starts with (8.1.1.7).
pub const BRANCH_COOKIE: &[u8] = b"z9hG4bK";

/// `true` if the branch identifies a transaction by itself: the cookie with something behind it.
#[must_use]
pub fn is_rfc3261_branch(branch: &[u8]) -> bool {
    branch.len() > BRANCH_COOKIE.len() && branch.starts_with(BRANCH_COOKIE)
}

/// The `rport` parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rport {
    Absent,
    /// Asked for, not filled in.
    Empty,
    Port(u16),
}

/// One Via value.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// `None` for a transport that nobody here knows.
    pub transport: Option<Transport>,
    pub transport_bytes: &'a [u8],
    /// The sent-by host; IPv6 with its brackets.
    pub host: &'a [u8],
    pub port: Option<u16>,
    pub branch: Option<&'a [u8]>,
    pub received: Option<&'a [u8]>,
    pub rport: Rport,
    pub params: Params<'a>,
    /// The parameters `received` and `rport` as they are written, with name and value.
    pub(crate) received_raw: Option<&'a [u8]>,
    pub(crate) rport_raw: Option<&'a [u8]>,
    /// The whole value. [`crate::Message::span_of`] turns it and every other part into a place.
    pub raw: &'a [u8],
}

impl<'a> Via<'a> {
    /// Reads one value.
    ///
    /// # Errors
    /// If protocol, transport or sent-by are malformed. The version is not looked at: that is
    /// what the first line is refused for.
    pub fn parse(value: &'a [u8]) -> Result<Self, ValueError> {
        let raw = trim(value);
        let params_at = find_soon(raw, b';').unwrap_or(raw.len());
        let head = slice(raw, 0, params_at);
        let params = Params::new(tail(raw, params_at));
        let rest = match head.strip_prefix(b"SIP/2.0/") {
            Some(rest) => trim_start(rest),
            None => behind_protocol(head)?,
        };
        let space = match rest {
            [b'U', b'D', b'P', b' ', ..] | [b'T', b'C', b'P', b' ', ..] => 3,
            _ => rest.iter().position(|b| !is_token_byte(*b)).unwrap_or(0),
        };
        let (transport_bytes, gap) = (slice(rest, 0, space), tail(rest, space));
        let sent_by = trim_start(gap);
        if space == 0 || sent_by.is_empty() || sent_by.len() == gap.len() {
            return Err(ValueError::SentBy);
        }
        let (host, port) = host_port(sent_by).map_err(|_| ValueError::HostPort)?;
        let mut via = Self {
            transport: Transport::of(transport_bytes),
            transport_bytes,
            host,
            port,
            branch: None,
            received: None,
            rport: Rport::Absent,
            params,
            received_raw: None,
            rport_raw: None,
            raw,
        };
        via.read_params();
        Ok(via)
    }

    /// One walk for all parameters that routing needs; the first of a name counts.
    fn read_params(&mut self) {
        for p in self.params {
            match p.name.len() {
                6 if self.branch.is_none() && p.name.eq_ignore_ascii_case(b"branch") => {
                    self.branch = p.value;
                }
                8 if self.received_raw.is_none() && p.name.eq_ignore_ascii_case(b"received") => {
                    self.received = p.value;
                    self.received_raw = Some(p.raw);
                }
                5 if self.rport_raw.is_none() && p.name.eq_ignore_ascii_case(b"rport") => {
                    let port = p.value.and_then(parse_u32).and_then(|n| u16::try_from(n).ok());
                    self.rport = port.filter(|p| *p > 0).map_or(Rport::Empty, Rport::Port);
                    self.rport_raw = Some(p.raw);
                }
                _ => {}
            }
        }
    }

    /// The sent-by port, or the default one of the transport (5060 if that is not known).
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(self.transport.map_or(5060, Transport::default_port))
    }

    /// The sent-by host as an address, if it is one.
    #[must_use]
    pub fn host_ip(&self) -> Option<IpAddr> {
        host_ip(self.host)
    }

    /// The `received` parameter as an address; brackets around IPv6 are taken (RFC 5118 4.5).
    #[must_use]
    pub fn received_ip(&self) -> Option<IpAddr> {
        host_ip(self.received?)
    }

    /// `true` if the branch identifies the transaction by itself.
    #[must_use]
    pub fn has_rfc3261_branch(&self) -> bool {
        self.branch.is_some_and(is_rfc3261_branch)
    }
}

/// What follows `SIP/2.0/` where that is written with spaces, another version or in other case.
fn behind_protocol(head: &[u8]) -> Result<&[u8], ValueError> {
    let first = find_near(head, b'/').ok_or(ValueError::SentBy)?;
    let after = tail(head, first + 1);
    let second = find_near(after, b'/').ok_or(ValueError::SentBy)?;
    if !trim(slice(head, 0, first)).eq_ignore_ascii_case(b"SIP")
        || !is_token(trim(slice(after, 0, second)))
    {
        return Err(ValueError::SentBy);
    }
    Ok(trim_start(tail(after, second + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_via_with_all_parts_is_read() {
        let v = Via::parse(
            b"SIP/2.0/UDP [2001:db8::1]:5062;branch=z9hG4bK1;rport=99;received=192.0.2.1;x",
        )
        .unwrap();
        assert_eq!(v.transport, Some(Transport::Udp));
        assert_eq!((v.host, v.port), (&b"[2001:db8::1]"[..], Some(5062)));
        assert!(v.has_rfc3261_branch());
        assert_eq!(v.rport, Rport::Port(99));
        assert_eq!(v.received_ip(), "192.0.2.1".parse().ok());
        assert_eq!(v.params.get(b"x"), Some(None));
    }

    #[test]
    fn whitespace_and_unknown_transports_are_taken() {
        let v =
            Via::parse(b"SIP  /   2.0\r\n /XYZ\r\n    h.example ; branch=\r\n z9; rport").unwrap();
        assert_eq!((v.transport, v.transport_bytes), (None, &b"XYZ"[..]));
        assert_eq!((v.branch, v.rport), (Some(&b"z9"[..]), Rport::Empty));
        assert_eq!(v.port_or_default(), 5060);
        assert!(!v.has_rfc3261_branch());
    }

    #[test]
    fn a_via_that_cannot_be_answered_is_refused() {
        let fault = |s: &[u8]| Via::parse(s).err();
        assert_eq!(fault(b"SIP/2.0/UDP"), Some(ValueError::SentBy));
        assert_eq!(fault(b"SIP/2.0 h"), Some(ValueError::SentBy));
        assert_eq!(fault(b"HTTP/2.0/UDP h"), Some(ValueError::SentBy));
        assert_eq!(fault(b"SIP/2.0/UDP h:0"), Some(ValueError::HostPort));
        assert_eq!(fault(b"SIP/2.0/UDP 2001:db8::1"), Some(ValueError::HostPort));
        assert_eq!(fault(b"SIP/2.0/UDP ;branch=1"), Some(ValueError::SentBy));
    }

    #[test]
    fn the_bare_cookie_is_no_rfc3261_branch() {
        assert!(!is_rfc3261_branch(b"z9hG4bK"));
        assert!(is_rfc3261_branch(b"z9hG4bKx"));
        assert!(!is_rfc3261_branch(b"1z9hG4bKx"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(value in prop_oneof![
            any::<Vec<u8>>(),
            "SIP/2.0/UDP [a;=:0-9\"\\[\\] ]{0,20}".prop_map(String::into_bytes),
        ]) {
            if let Ok(v) = Via::parse(&value) {
                prop_assert!(!v.host.is_empty());
            }
        }
    }
}
