//! URIs: RFC 3261 19.1, RFC 3966, and whatever else has a scheme.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::host::{HostPortError, host_ip, host_port, is_host_byte};
use crate::scan::{find_near, is_token_byte, parse_u32, slice, tail};
use crate::{Params, Transport, UriError};

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    Urn,
    /// Any other; its text is [`Uri::scheme_bytes`].
    Other,
}

/// A URI in its parts, which are slices of what was parsed.
///
/// `sip` and `sips` have user, host, port, params and headers; `tel` has its number as the user,
/// and params; all others are opaque.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'a> {
    /// The whole text.
    pub raw: &'a [u8],
    pub scheme: Scheme,
    pub scheme_bytes: &'a [u8],
    /// As it is written, escapes included; the number of a `tel` URI.
    pub user: Option<&'a [u8]>,
    pub password: Option<&'a [u8]>,
    /// IPv6 with its brackets; empty unless the scheme is sip or sips.
    pub host: &'a [u8],
    pub port: Option<u16>,
    pub params: Params<'a>,
    /// Behind the `?`, without it.
    pub headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    /// Takes a URI apart. `raw` must be the URI alone, without `<>` and spaces around it.
    ///
    /// # Errors
    /// If it has no scheme, or is sip, sips or tel and malformed.
    pub fn parse(raw: &'a [u8]) -> Result<Self, UriError> {
        match Self::plain(raw) {
            Some(uri) => Ok(uri),
            None => Self::general(raw),
        }
    }

    /// The form that nearly all have, read in one walk: `sip:user@host:port;name=value`, with or
    /// without user, port and parameters. What is written in another way is left to the general
    /// reader, with which this one agrees.
    fn plain(raw: &'a [u8]) -> Option<Self> {
        let rest = raw.strip_prefix(b"sip:")?;
        let user_end = end_of(rest, 0, is_token_byte);
        let has_user = user_end > 0 && rest.get(user_end) == Some(&b'@');
        let (user, host_start) = match has_user {
            true => (Some(slice(rest, 0, user_end)), user_end + 1),
            false => (None, 0),
        };
        let host_end = end_of(rest, host_start, is_host_byte);
        let (port, end) = match rest.get(host_end) {
            Some(b':') => {
                let end = end_of(rest, host_end + 1, |b| b.is_ascii_digit());
                let port = u16::try_from(parse_u32(slice(rest, host_end + 1, end))?).ok()?;
                (Some(port), end)
            }
            _ => (None, host_end),
        };
        let params = tail(rest, end);
        let is_plain = matches!(params.first(), None | Some(b';'))
            && params.iter().all(|b| matches!(mark_of(*b), Mark::Plain | Mark::Semicolon));
        if host_end == host_start || port == Some(0) || !is_plain {
            return None;
        }
        Some(Self {
            raw,
            scheme: Scheme::Sip,
            scheme_bytes: slice(raw, 0, 3),
            user,
            password: None,
            host: slice(rest, host_start, host_end),
            port,
            params: Params::new(params),
            headers: None,
        })
    }

    fn general(raw: &'a [u8]) -> Result<Self, UriError> {
        let colon = find_near(raw, b':').ok_or(UriError::Scheme)?;
        let scheme_bytes = slice(raw, 0, colon);
        let scheme = scheme_of(scheme_bytes).ok_or(UriError::Scheme)?;
        let rest = tail(raw, colon + 1);
        let ends = Ends::of(rest)?;
        let opaque = Self {
            raw,
            scheme,
            scheme_bytes,
            user: None,
            password: None,
            host: &[],
            port: None,
            params: Params::default(),
            headers: None,
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => opaque.with_sip_parts(rest, &ends),
            Scheme::Tel => opaque.with_tel_parts(rest),
            Scheme::Urn | Scheme::Other => Ok(opaque),
        }
    }

    fn with_sip_parts(mut self, rest: &'a [u8], ends: &Ends) -> Result<Self, UriError> {
        let host_start = match ends.userinfo {
            Some(end) => {
                let userinfo = slice(rest, 0, end);
                let colon = find_near(userinfo, b':');
                let user = slice(userinfo, 0, colon.unwrap_or(end));
                if user.is_empty() {
                    return Err(UriError::User);
                }
                self.user = Some(user);
                self.password = colon.map(|c| tail(userinfo, c + 1));
                end + 1
            }
            None => 0,
        };
        let end = ends.headers.unwrap_or(rest.len());
        let host_end = ends.params.unwrap_or(end);
        self.headers = ends.headers.map(|question| tail(rest, question + 1));
        self.params = Params::new(slice(rest, host_end, end));
        let host = slice(rest, host_start, host_end);
        let (host, port) = host_port(host).map_err(|e| match e {
            HostPortError::Host => UriError::Host,
            HostPortError::Port => UriError::Port,
        })?;
        self.host = host;
        self.port = port;
        Ok(self)
    }

    fn with_tel_parts(mut self, rest: &'a [u8]) -> Result<Self, UriError> {
        let params = find_near(rest, b';').unwrap_or(rest.len());
        let number = slice(rest, 0, params);
        if number.is_empty() {
            return Err(UriError::User);
        }
        self.user = Some(number);
        self.params = Params::new(tail(rest, params));
        Ok(self)
    }

    /// `true` for sip and sips.
    #[must_use]
    pub const fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    #[must_use]
    pub const fn is_sips(&self) -> bool {
        matches!(self.scheme, Scheme::Sips)
    }

    /// A parameter by name, in any case: `Some(None)` if it has no value.
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.params.get(name)
    }

    /// The transport that the URI asks for; `None` without a `transport` parameter, and for one
    /// that nobody here knows.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        Transport::of(self.params.value(b"transport")?)
    }

    /// The host without the brackets of an IPv6 address.
    #[must_use]
    pub fn host_bare(&self) -> &'a [u8] {
        self.host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]")).unwrap_or(self.host)
    }

    /// The host as an address, if it is one.
    #[must_use]
    pub fn host_ip(&self) -> Option<IpAddr> {
        host_ip(self.host)
    }

    /// `true` if the URI says `lr`: its owner is a loose router (RFC 3261 16.12).
    #[must_use]
    pub fn is_loose_router(&self) -> bool {
        self.param(b"lr").is_some()
    }
}

/// The end of the bytes of a kind that begin at `from`.
#[inline]
fn end_of(text: &[u8], from: usize, is_it: impl Fn(u8) -> bool) -> usize {
    let rest = tail(text, from);
    from + rest.iter().position(|b| !is_it(*b)).unwrap_or(rest.len())
}

/// Where the parts of a sip URI end, found in one walk over what follows the scheme.
#[derive(Debug, Default)]
struct Ends {
    /// The `@`. A user may contain `;` and `?`, so what was seen of these before it is forgotten.
    userinfo: Option<usize>,
    /// The first `;` in front of the headers.
    params: Option<usize>,
    /// The `?`.
    headers: Option<usize>,
}

impl Ends {
    fn of(rest: &[u8]) -> Result<Self, UriError> {
        let mut ends = Self::default();
        let mut at = 0;
        while let Some(plain) = tail(rest, at).iter().position(|b| mark_of(*b) != Mark::Plain) {
            at += plain;
            match rest.get(at).map_or(Mark::Plain, |b| mark_of(*b)) {
                Mark::Plain => {}
                Mark::Forbidden => return Err(UriError::Character),
                Mark::At if ends.userinfo.is_none() => {
                    ends = Self { userinfo: Some(at), params: None, headers: None };
                }
                Mark::Semicolon if ends.params.is_none() && ends.headers.is_none() => {
                    ends.params = Some(at);
                }
                Mark::Question if ends.headers.is_none() => ends.headers = Some(at),
                Mark::At | Mark::Semicolon | Mark::Question => {}
            }
            at += 1;
        }
        Ok(ends)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Plain,
    /// Whitespace, controls and delimiters that would end the URI wherever it is written.
    Forbidden,
    At,
    Semicolon,
    Question,
}

/// Looked up, because every message has some hundred bytes of URIs.
#[expect(clippy::indexing_slicing, reason = "the table has a place for each byte")]
const fn mark_of(b: u8) -> Mark {
    MARKS[b as usize]
}

#[expect(clippy::indexing_slicing, reason = "the table has a place for each byte")]
const MARKS: [Mark; 256] = {
    let mut table = [Mark::Plain; 256];
    let mut b = 0u8;
    loop {
        table[b as usize] = match b {
            0..=b' ' | b'<' | b'>' | b'"' | 0x7f => Mark::Forbidden,
            b'@' => Mark::At,
            b';' => Mark::Semicolon,
            b'?' => Mark::Question,
            _ => Mark::Plain,
        };
        if b == u8::MAX {
            break table;
        }
        b += 1;
    }
};

fn scheme_of(name: &[u8]) -> Option<Scheme> {
    let is = |scheme: &[u8]| name.eq_ignore_ascii_case(scheme);
    match name.len() {
        3 if is(b"sip") => return Some(Scheme::Sip),
        4 if is(b"sips") => return Some(Scheme::Sips),
        3 if is(b"tel") => return Some(Scheme::Tel),
        3 if is(b"urn") => return Some(Scheme::Urn),
        _ => {}
    }
    let (first, rest) = name.split_first()?;
    let well_formed = first.is_ascii_alphabetic()
        && rest.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    well_formed.then_some(Scheme::Other)
}

/// Replaces `%HH` by the byte it stands for (RFC 3261 19.1.2). A `%` without two hex digits
/// stays. The result may have any byte, NUL included. Allocates only if there is a `%`.
#[must_use]
pub fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, more @ ..] = rest {
        match escaped_byte(rest) {
            Some(byte) => {
                out.push(byte);
                rest = tail(rest, 3);
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    Cow::Owned(out)
}

/// The byte that a `%HH` at the start of `text` stands for.
pub(crate) fn escaped_byte(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_sip_uri_comes_apart() {
        let u = Uri::parse(b"SIPS:al%20ice:pw@[2001:db8::1]:5061;transport=TLS;lr?Subject=x&a=b")
            .unwrap();
        assert_eq!(u.scheme, Scheme::Sips);
        assert!(u.is_sips() && u.is_sip() && u.is_loose_router());
        assert_eq!(u.user, Some(&b"al%20ice"[..]));
        assert_eq!(u.password, Some(&b"pw"[..]));
        assert_eq!((u.host, u.host_bare()), (&b"[2001:db8::1]"[..], &b"2001:db8::1"[..]));
        assert_eq!(u.port, Some(5061));
        assert_eq!(u.transport(), Some(Transport::Tls));
        assert_eq!(u.param(b"lr"), Some(None));
        assert_eq!(u.headers, Some(&b"Subject=x&a=b"[..]));
        assert_eq!(u.host_ip(), "2001:db8::1".parse().ok());
    }

    #[test]
    fn delimiters_in_the_user_part_belong_to_the_user() {
        let u = Uri::parse(b"sip:user;par=u%40example.net@example.com").unwrap();
        assert_eq!(u.user, Some(&b"user;par=u%40example.net"[..]));
        assert_eq!(u.host, b"example.com");
        assert!(u.params.raw().is_empty());
    }

    #[test]
    fn tel_and_unknown_schemes_are_taken() {
        let u = Uri::parse(b"tel:+1-201-555-0123;phone-context=x").unwrap();
        assert_eq!(u.user, Some(&b"+1-201-555-0123"[..]));
        assert_eq!(u.params.value(b"phone-context"), Some(&b"x"[..]));
        assert_eq!(Uri::parse(b"urn:service:sos").unwrap().scheme, Scheme::Urn);
        assert_eq!(Uri::parse(b"soap.beep://192.0.2.103:3002").unwrap().scheme, Scheme::Other);
    }

    #[test]
    fn what_cannot_be_routed_is_refused() {
        let fault = |s: &[u8]| Uri::parse(s).err();
        assert_eq!(fault(b"alice"), Some(UriError::Scheme));
        assert_eq!(fault(b":x"), Some(UriError::Scheme));
        assert_eq!(fault(b"sip:@host"), Some(UriError::User));
        assert_eq!(fault(b"sip:"), Some(UriError::Host));
        assert_eq!(fault(b"sip:a@b@c"), Some(UriError::Host));
        assert_eq!(fault(b"sip:a@[::1"), Some(UriError::Host));
        assert_eq!(fault(b"sip:a@h:"), Some(UriError::Port));
        assert_eq!(fault(b"sip:2001:db8::10"), Some(UriError::Port));
        assert_eq!(fault(b"sip:a@h;x y"), Some(UriError::Character));
        assert_eq!(fault(b"<sip:a@h>"), Some(UriError::Scheme));
    }

    #[test]
    fn escapes_become_bytes_and_broken_ones_stay() {
        assert_eq!(&*unescape(b"%75se%72%00%Z%4"), b"user\0%Z%4");
        assert!(matches!(unescape(b"plain"), Cow::Borrowed(_)));
    }

    /// The walk for the usual form says what the general reader says.
    fn agrees(raw: &[u8]) {
        if let Some(plain) = Uri::plain(raw) {
            let general = Uri::general(raw).expect("the general reader takes it");
            assert_eq!(format!("{plain:?}"), format!("{general:?}"));
        }
    }

    #[test]
    fn the_usual_form_is_read_in_one_walk() {
        for text in
            ["sip:h", "sip:a@10.0.0.1:5062", "sip:+49.30@h;transport=udp", "sip:h:5060;lr;did=1.a"]
        {
            assert!(Uri::plain(text.as_bytes()).is_some(), "{text}");
            agrees(text.as_bytes());
        }
        for text in [
            "sips:h",
            "SIP:h",
            "sip:",
            "sip:@h",
            "sip:a:b@h",
            "sip:1:2@h",
            "sip:h:0",
            "sip:h:70000",
            "sip:[::1]",
            "sip:h?a=b",
            "sip:h;a?b",
            "sip:a;b@h",
            "sip:h;a@b",
            "sip:h;a b",
            "sip:h:",
        ] {
            assert!(Uri::plain(text.as_bytes()).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn both_readers_agree(
            text in "sip:[a-z0-9+.:;@%]{0,9}(@[a-z0-9.]{0,4})?(:[0-9]{0,6})?(;[a-z=@?:; ]{0,6})?",
            any: Vec<u8>,
        ) {
            agrees(text.as_bytes());
            agrees(&[b"sip:", &any[..]].concat());
        }

        #[test]
        fn any_bytes_give_an_answer(raw in prop_oneof![
            any::<Vec<u8>>(),
            "sips?:[a-z@:;?=.%&0-9\\[\\]]{0,30}".prop_map(String::into_bytes),
        ]) {
            if let Ok(u) = Uri::parse(&raw) {
                prop_assert!(!u.is_sip() || !u.host.is_empty());
            }
            let _ = unescape(&raw);
        }

        #[test]
        fn parts_put_together_are_found_again(
            user in "[a-z0-9+]{1,8}", host in "[a-z]{1,8}(\\.[a-z]{1,5}){0,2}",
            port in proptest::option::of(1u16..), param in "[a-z]{1,4}",
        ) {
            let port_text = port.map(|p| format!(":{p}")).unwrap_or_default();
            let text = format!("sip:{user}@{host}{port_text};{param}=1");
            let u = Uri::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(u.user, Some(user.as_bytes()));
            prop_assert_eq!(u.host, host.as_bytes());
            prop_assert_eq!(u.port, port);
            prop_assert_eq!(u.param(param.as_bytes()), Some(Some(&b"1"[..])));
        }
    }
}
