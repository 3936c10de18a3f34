//! When two URIs are the same: RFC 3261 19.1.4, RFC 3966 4.

use crate::scan::tail;
use crate::uri::escaped_byte;
use crate::{Params, Scheme, Uri};

/// More parameters or headers than this are not compared one by one: such URIs are equal only
/// if their text is.
const PARTS_MAX: usize = 64;

/// `true` if two URIs are equivalent: RFC 3261 19.1.4, with addresses compared by value
/// (RFC 5954 4.2); RFC 3966 section 4 for `tel`. Others are equal if their text is, the scheme in
/// any case.
#[must_use]
pub fn uris_equal(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    if a.raw == b.raw {
        return true;
    }
    if a.scheme != b.scheme || !a.scheme_bytes.eq_ignore_ascii_case(b.scheme_bytes) {
        return false;
    }
    match a.scheme {
        Scheme::Sip | Scheme::Sips => sip_equal(a, b),
        Scheme::Tel => tel_equal(a, b),
        Scheme::Urn | Scheme::Other => {
            tail(a.raw, a.scheme_bytes.len()) == tail(b.raw, b.scheme_bytes.len())
        }
    }
}

fn sip_equal(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    // An omitted port is not the same as its default: it may be found by SRV.
    a.port == b.port
        && optional_equal(a.user, b.user)
        && optional_equal(a.password, b.password)
        && hosts_equal(a, b)
        && params_equal(a.params, b.params)
        && headers_equal(a.headers.unwrap_or_default(), b.headers.unwrap_or_default())
}

fn optional_equal(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => text_equal(a, b, false),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn hosts_equal(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    if a.host.eq_ignore_ascii_case(b.host) {
        return true;
    }
    a.host_ip().is_some_and(|ip| b.host_ip() == Some(ip))
}

/// Parameters that change where or how the URI is reached: one that has it and one that lacks it
/// are different.
const fn is_significant(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"transport")
        || name.eq_ignore_ascii_case(b"user")
        || name.eq_ignore_ascii_case(b"ttl")
        || name.eq_ignore_ascii_case(b"method")
        || name.eq_ignore_ascii_case(b"maddr")
}

fn params_equal(a: Params<'_>, b: Params<'_>) -> bool {
    if too_many(a) || too_many(b) {
        return a.raw() == b.raw();
    }
    let covered = |one: Params<'_>, other: Params<'_>| {
        one.into_iter().all(|p| {
            let twin = other.into_iter().find(|q| text_equal(p.name, q.name, true));
            match twin {
                Some(q) => values_equal(p.value, q.value),
                None => !is_significant(p.name),
            }
        })
    };
    covered(a, b) && covered(b, a)
}

fn too_many(params: Params<'_>) -> bool {
    params.into_iter().nth(PARTS_MAX).is_some()
}

fn values_equal(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => text_equal(a, b, true),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Headers must all be there in both, in any order.
fn headers_equal(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    let parts = |s: &[u8]| s.split(|c| *c == b'&').count();
    if parts(a) != parts(b) || parts(a) > PARTS_MAX {
        return false;
    }
    let count = |whole: &[u8], part: &[u8]| {
        whole.split(|c| *c == b'&').filter(|p| header_equal(p, part)).count()
    };
    a.split(|c| *c == b'&').all(|part| count(a, part) == count(b, part))
}

fn header_equal(a: &[u8], b: &[u8]) -> bool {
    let split = |s| match memchr::memchr(b'=', s) {
        Some(at) => s.split_at(at),
        None => (s, &[][..]),
    };
    let ((a_name, a_value), (b_name, b_value)) = (split(a), split(b));
    text_equal(a_name, b_name, true) && text_equal(a_value, b_value, false)
}

/// RFC 3966: visual separators do not count, parameters must be the same set.
fn tel_equal(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    let digits = |u: &Uri<'_>| {
        let number = u.user.unwrap_or_default().to_ascii_lowercase();
        number.into_iter().filter(|c| !matches!(c, b'-' | b'.' | b'(' | b')')).collect::<Vec<_>>()
    };
    if digits(a) != digits(b) {
        return false;
    }
    if too_many(a.params) || too_many(b.params) {
        return a.params.raw() == b.params.raw();
    }
    let covered = |one: Params<'_>, other: Params<'_>| {
        one.into_iter().all(|p| other.get(p.name).is_some_and(|v| values_equal(p.value, v)))
    };
    covered(a.params, b.params) && covered(b.params, a.params)
}

/// Compares text in which a character may be escaped. An escaped reserved character is not the
/// same as the character itself.
fn text_equal(a: &[u8], b: &[u8], any_case: bool) -> bool {
    let fold = |unit: (u8, bool)| {
        if any_case { (unit.0.to_ascii_lowercase(), unit.1) } else { unit }
    };
    Units(a).map(fold).eq(Units(b).map(fold))
}

/// The characters of a text, each with whether it is an escaped reserved one.
struct Units<'a>(&'a [u8]);

impl Iterator for Units<'_> {
    type Item = (u8, bool);

    fn next(&mut self) -> Option<(u8, bool)> {
        let (first, rest) = self.0.split_first()?;
        let Some(byte) = escaped_byte(self.0) else {
            self.0 = rest;
            return Some((*first, false));
        };
        self.0 = tail(self.0, 3);
        Some((byte, is_reserved(byte)))
    }
}

const fn is_reserved(b: u8) -> bool {
    matches!(b, b';' | b'/' | b'?' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',' | b'%')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(a: &str, b: &str) -> bool {
        let (a, b) = (Uri::parse(a.as_bytes()).unwrap(), Uri::parse(b.as_bytes()).unwrap());
        assert_eq!(uris_equal(&a, &b), uris_equal(&b, &a));
        uris_equal(&a, &b)
    }

    #[test]
    fn uris_that_the_rfc_calls_equal() {
        for (a, b) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]"),
            ("tel:+1-201-555-0123", "TEL:+12015550123"),
            ("urn:service:sos", "URN:service:sos"),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn uris_that_the_rfc_calls_different() {
        for (a, b) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a@h", "sips:a@h"),
            ("sip:a@h", "sip:h"),
            ("sip:a%40b@h", "sip:a%2540b@h"),
            ("tel:+12015550123", "tel:+12015550123;ext=1"),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn comparison_is_reflexive_and_symmetric(
            a in "sip:([a-c%41]{1,4}@)?[ab]{1,2}(;[a-b]=[a-b]){0,3}(\\?[a-b]=1)?",
            b in "sip:([a-c%41]{1,4}@)?[ab]{1,2}(;[a-b]=[a-b]){0,3}(\\?[a-b]=1)?",
        ) {
            let (a, b) = (Uri::parse(a.as_bytes()), Uri::parse(b.as_bytes()));
            if let (Ok(a), Ok(b)) = (a, b) {
                prop_assert!(uris_equal(&a, &a));
                prop_assert_eq!(uris_equal(&a, &b), uris_equal(&b, &a));
            }
        }
    }
}
