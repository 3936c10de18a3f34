//! The value of an Authorization or Proxy-Authorization header.

use crate::ValueError;
use crate::scan::{find_unquoted, is_lws, is_token, slice, tail, trim};

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

    fn read(&mut self, mut rest: &'a [u8]) -> Result<(), ValueError> {
        while !rest.is_empty() {
            let end = match find_unquoted(rest, b',') {
                Some(end) => end,
                None => rest.len(),
            };
            let item = trim(slice(rest, 0, end));
            rest = tail(rest, end + 1);
            if item.is_empty() {
                continue;
            }
            let equals = memchr::memchr(b'=', item).ok_or(ValueError::Trailing)?;
            let value = without_quotes(trim(tail(item, equals + 1)))?;
            if let Some(place) = self.place(trim(slice(item, 0, equals)))
                && place.is_empty()
            {
                *place = value;
            }
        }
        Ok(())
    }

    fn place(&mut self, name: &[u8]) -> Option<&mut &'a [u8]> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        Some(match name.len() {
            8 if is(b"username") => &mut self.username,
            8 if is(b"response") => &mut self.response,
            5 if is(b"realm") => &mut self.realm,
            5 if is(b"nonce") => &mut self.nonce,
            3 if is(b"uri") => &mut self.uri,
            3 if is(b"qop") => &mut self.qop,
            2 if is(b"nc") => &mut self.nc,
            6 if is(b"cnonce") => &mut self.cnonce,
            6 if is(b"opaque") => &mut self.opaque,
            9 if is(b"algorithm") => &mut self.algorithm,
            _ => return None,
        })
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

fn without_quotes(value: &[u8]) -> Result<&[u8], ValueError> {
    match value {
        [b'"', inner @ .., b'"'] => Ok(inner),
        [b'"', ..] => Err(ValueError::Quote),
        _ => Ok(value),
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
