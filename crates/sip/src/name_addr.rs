//! Addresses with a display name: From, To, Contact, Route and the like (RFC 3261 20.10).

use std::borrow::Cow;

use crate::scan::{find_soon, is_lws, quoted_end, slice, tail, trim, trim_start};
use crate::{Params, Uri, UriError, ValueError, unquote};

/// A `name-addr` or `addr-spec` with the parameters behind it.
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'a> {
    /// The display name as it is written, with its quotes; empty if there is none.
    pub display: &'a [u8],
    /// The URI, without `<>`.
    pub uri: &'a [u8],
    /// The parameters of the header value, not those of the URI.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value. Without `<>`, parameters belong to the header, and a URI that would need
    /// the brackets is refused (RFC 3261 20.10).
    ///
    /// # Errors
    /// If no URI can be made out without doubt. The URI itself is not looked into.
    pub fn parse(value: &'a [u8]) -> Result<Self, ValueError> {
        let value = trim(value);
        if value.is_empty() {
            return Err(ValueError::Empty);
        }
        if value.first() == Some(&b'"') {
            let end = quoted_end(value).ok_or(ValueError::Quote)?;
            let rest = trim_start(tail(value, end));
            if rest.first() != Some(&b'<') {
                return Err(ValueError::Trailing);
            }
            return Self::in_brackets(slice(value, 0, end), rest);
        }
        match find_soon(value, b'<') {
            // A `<` in a parameter does not make the value a name-addr.
            Some(at) if !slice(value, 0, at).contains(&b';') => {
                let display = trim(slice(value, 0, at));
                if display.contains(&b'"') {
                    return Err(ValueError::Quote);
                }
                Self::in_brackets(display, tail(value, at))
            }
            _ => Self::bare(value),
        }
    }

    /// `rest` starts with `<`.
    fn in_brackets(display: &'a [u8], rest: &'a [u8]) -> Result<Self, ValueError> {
        let close = find_soon(rest, b'>').ok_or(ValueError::Bracket)?;
        let uri = trim(slice(rest, 1, close));
        let params = trim(tail(rest, close + 1));
        if uri.is_empty() {
            return Err(ValueError::Empty);
        }
        if !matches!(params.first(), None | Some(b';')) {
            return Err(ValueError::Trailing);
        }
        Ok(Self { display, uri, params: Params::new(params) })
    }

    fn bare(value: &'a [u8]) -> Result<Self, ValueError> {
        let end = find_soon(value, b';').unwrap_or(value.len());
        let uri = trim(slice(value, 0, end));
        if uri.is_empty() {
            return Err(ValueError::Empty);
        }
        if uri.iter().any(|b| is_lws(*b) || matches!(b, b'?' | b'"' | b'>')) {
            return Err(ValueError::BareUri);
        }
        Ok(Self { display: &[], uri, params: Params::new(tail(value, end)) })
    }

    /// The `tag` parameter; `None` if it is missing or empty.
    #[must_use]
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.params.value(b"tag").filter(|tag| !tag.is_empty())
    }

    /// A header parameter by name, in any case: `Some(None)` if it has no value.
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.params.get(name)
    }

    /// The display name without quotes and escapes.
    #[must_use]
    pub fn display_text(&self) -> Cow<'a, [u8]> {
        unquote(self.display)
    }

    /// The URI in its parts.
    ///
    /// # Errors
    /// As [`Uri::parse`].
    pub fn parse_uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_are_read() {
        let n = NameAddr::parse(br#" "A \"<B>\"" < sip:a@h;x > ; tag = 1"#).unwrap();
        assert_eq!(&*n.display_text(), br#"A "<B>""#);
        assert_eq!(n.uri, b"sip:a@h;x");
        assert_eq!(n.tag(), Some(&b"1"[..]));
        let n = NameAddr::parse(b"sip:a@h;tag=2").unwrap();
        assert_eq!((n.display, n.uri, n.tag()), (&b""[..], &b"sip:a@h"[..], Some(&b"2"[..])));
        let n = NameAddr::parse(b"caller<sip:a@h>;q=0.1;+sip.instance=\"<urn:x>\"").unwrap();
        assert_eq!((n.display, n.uri), (&b"caller"[..], &b"sip:a@h"[..]));
        let n = NameAddr::parse(b"sip:a@h;+sip.instance=\"<urn:x>\"").unwrap();
        assert_eq!(n.uri, b"sip:a@h");
    }

    #[test]
    fn doubtful_values_are_refused() {
        let fault = |s: &[u8]| NameAddr::parse(s).err();
        assert_eq!(fault(b"\"Mr. J <sip:a@h>"), Some(ValueError::Quote));
        assert_eq!(fault(b"<sip:a@h"), Some(ValueError::Bracket));
        assert_eq!(fault(b"<sip:a@h>x"), Some(ValueError::Trailing));
        assert_eq!(fault(b"\"A\" sip:a@h"), Some(ValueError::Trailing));
        assert_eq!(fault(b"sip:a@h?Route=x"), Some(ValueError::BareUri));
        assert_eq!(fault(b"sip:a@h b"), Some(ValueError::BareUri));
        assert_eq!(fault(b"<>"), Some(ValueError::Empty));
        assert_eq!(fault(b" "), Some(ValueError::Empty));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(value in prop_oneof![
            any::<Vec<u8>>(),
            "[\"<>;a=: \\\\?]{0,20}".prop_map(String::into_bytes),
        ]) {
            if let Ok(n) = NameAddr::parse(&value) {
                prop_assert!(!n.uri.is_empty());
                let _ = (n.display_text(), n.tag(), n.parse_uri().is_ok());
            }
        }
    }
}
