//! The value of an Authorization or Proxy-Authorization header.

use crate::ValueError;
use crate::scan::{is_lws, is_token, quoted_end, slice, tail, trim, trim_end, trim_start};

/// Credentials, or a challenge, taken apart (RFC 3261 25.1). Values stand without their quotes
/// and with their escapes, which is how they enter the hash (RFC 7616 3.4); a missing one is
/// empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// The whole value of the header.
    pub raw: &'a [u8],
    pub scheme: &'a [u8],
    pub username: &'a [u8],
    pub realm: &'a [u8],
    pub nonce: &'a [u8],
    pub uri: &'a [u8],
    pub response: &'a [u8],
    pub algorithm: &'a [u8],
    pub cnonce: &'a [u8],
    pub opaque: &'a [u8],
    pub qop: &'a [u8],
    pub nc: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// Reads a header value: a scheme, and `name=value` separated by commas. Names that are not
    /// known are skipped; of one that is repeated the first counts.
    ///
    /// # Errors
    /// If there is no scheme, a quote is not closed, or a parameter has no value.
    pub fn parse(value: &'a [u8]) -> Result<Self, ValueError> {
        let raw = trim(value);
        let end = raw.iter().position(|b| is_lws(*b)).unwrap_or(raw.len());
        let scheme = slice(raw, 0, end);
        if !is_token(scheme) {
            return Err(ValueError::Empty);
        }
        let mut credentials = Self { raw, scheme, ..Self::default() };
        // The parameters of another scheme need not have this form.
        if credentials.is_digest() {
            credentials.read(tail(raw, end))?;
        }
        Ok(credentials)
    }

    /// One walk over the bytes: this is on the way of every request that authenticates.
    fn read(&mut self, mut rest: &'a [u8]) -> Result<(), ValueError> {
        loop {
            let lead = rest.iter().take_while(|b| is_lws(**b) || **b == b',').count();
            rest = tail(rest, lead);
            if rest.is_empty() {
                return Ok(());
            }
            let equals = rest.iter().position(|b| matches!(b, b'=' | b','));
            let equals = equals.filter(|at| rest.get(*at) == Some(&b'='));
            let equals = equals.ok_or(ValueError::Trailing)?;
            let name = trim_end(slice(rest, 0, equals));
            rest = trim_start(tail(rest, equals + 1));
            let value = if rest.first() == Some(&b'"') {
                let end = quoted_end(rest).ok_or(ValueError::Quote)?;
                let value = slice(rest, 1, end - 1);
                rest = trim_start(tail(rest, end));
                if !matches!(rest.first(), None | Some(b',')) {
                    return Err(ValueError::Trailing);
                }
                value
            } else {
                let end = rest.iter().position(|b| *b == b',').unwrap_or(rest.len());
                let value = trim_end(slice(rest, 0, end));
                rest = tail(rest, end);
                value
            };
            if let Some(place) = self.place(name)
                && place.is_empty()
            {
                *place = value;
            }
        }
    }

    fn place(&mut self, name: &[u8]) -> Option<&mut &'a [u8]> {
        if let Some(at) = Name::of(name) {
            return Some(self.at(at));
        }
        // Few senders write names in another case.
        let mut folded = [0; 16];
        let folded = folded.get_mut(..name.len())?;
        folded.iter_mut().zip(name).for_each(|(to, from)| *to = from.to_ascii_lowercase());
        Some(self.at(Name::of(folded)?))
    }

    const fn at(&mut self, name: Name) -> &mut &'a [u8] {
        match name {
            Name::Username => &mut self.username,
            Name::Realm => &mut self.realm,
            Name::Nonce => &mut self.nonce,
            Name::Uri => &mut self.uri,
            Name::Response => &mut self.response,
            Name::Algorithm => &mut self.algorithm,
            Name::Cnonce => &mut self.cnonce,
            Name::Opaque => &mut self.opaque,
            Name::Qop => &mut self.qop,
            Name::Nc => &mut self.nc,
        }
    }

    /// A parameter that is none of the digest's own, such as `ik` and `ck` of AKA.
    pub fn other(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut rest = tail(self.raw, self.scheme.len());
        loop {
            let lead = rest.iter().take_while(|b| is_lws(**b) || **b == b',').count();
            rest = tail(rest, lead);
            let equals = rest.iter().position(|b| *b == b'=')?;
            let found = trim_end(slice(rest, 0, equals));
            rest = trim_start(tail(rest, equals + 1));
            let value = if rest.first() == Some(&b'"') {
                let end = quoted_end(rest)?;
                let value = slice(rest, 1, end - 1);
                rest = tail(rest, end);
                value
            } else {
                let end = rest.iter().position(|b| *b == b',').unwrap_or(rest.len());
                let value = trim_end(slice(rest, 0, end));
                rest = tail(rest, end);
                value
            };
            if found.eq_ignore_ascii_case(name) {
                return Some(value);
            }
        }
    }

    #[must_use]
    pub const fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(b"Digest")
    }

    /// `true` if everything is there that a digest answer must have, and of what comes with a
    /// qop, all of it (RFC 2617 3.2.2).
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        let base = !self.username.is_empty()
            && !self.nonce.is_empty()
            && !self.uri.is_empty()
            && !self.response.is_empty();
        base && (self.qop.is_empty() || (!self.cnonce.is_empty() && !self.nc.is_empty()))
    }

    /// The user name up to an `@`.
    #[must_use]
    pub fn user(&self) -> &'a [u8] {
        let at = memchr::memchr(b'@', self.username).unwrap_or(self.username.len());
        slice(self.username, 0, at)
    }

    /// What stands behind an `@` in the user name; empty if there is none.
    #[must_use]
    pub fn domain(&self) -> &'a [u8] {
        memchr::memchr(b'@', self.username).map_or(&[], |at| tail(self.username, at + 1))
    }
}

/// The parameters that are kept.
#[derive(Clone, Copy)]
enum Name {
    Username,
    Realm,
    Nonce,
    Uri,
    Response,
    Algorithm,
    Cnonce,
    Opaque,
    Qop,
    Nc,
}

impl Name {
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"username" => Self::Username,
            b"realm" => Self::Realm,
            b"nonce" => Self::Nonce,
            b"uri" => Self::Uri,
            b"response" => Self::Response,
            b"algorithm" => Self::Algorithm,
            b"cnonce" => Self::Cnonce,
            b"opaque" => Self::Opaque,
            b"qop" => Self::Qop,
            b"nc" => Self::Nc,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credentials_come_apart_without_their_quotes() {
        let c = Credentials::parse(
            b"Digest username=\"bob@a.example\",realm = \"a, \\\"b\\\"\" ,\r\n nonce=\"n=\", \
              URI=\"sip:a;b,c\", response=\"00\", algorithm=MD5,qop=auth,nc=00000001,\
              cnonce=\"c\", opaque=\"\", x-new=1,,nonce=\"second\"",
        )
        .unwrap();
        assert!(c.is_digest() && c.is_complete());
        assert_eq!((c.user(), c.domain()), (&b"bob"[..], &b"a.example"[..]));
        assert_eq!((c.realm, c.nonce), (&b"a, \\\"b\\\""[..], &b"n="[..]));
        assert_eq!((c.uri, c.algorithm, c.qop), (&b"sip:a;b,c"[..], &b"MD5"[..], &b"auth"[..]));
        assert_eq!((c.nc, c.cnonce), (&b"00000001"[..], &b"c"[..]));
    }

    #[test]
    fn what_is_missing_or_broken_is_told() {
        let incomplete = Credentials::parse(b"Digest username=\"a\", nonce=\"n\"").unwrap();
        assert!(!incomplete.is_complete());
        let no_nc = Credentials::parse(
            b"digest username=\"a\",nonce=\"n\",uri=\"u\",response=\"r\",qop=auth,cnonce=\"c\"",
        );
        assert!(!no_nc.unwrap().is_complete());
        assert_eq!(Credentials::parse(b"Digest a=\"b").err(), Some(ValueError::Quote));
        assert_eq!(Credentials::parse(b"Digest a").err(), Some(ValueError::Trailing));
        assert!(!Credentials::parse(b"NoOneKnowsThisScheme opaque-data=here").unwrap().is_digest());
        assert_eq!(Credentials::parse(b" ").err(), Some(ValueError::Empty));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(value in prop_oneof![
            any::<Vec<u8>>(),
            "Digest [a-z=\", \\\\]{0,40}".prop_map(String::into_bytes),
        ]) {
            if let Ok(c) = Credentials::parse(&value) {
                let _ = (c.is_complete(), c.user(), c.domain());
            }
        }
    }
}
