//! Contact: RFC 3261 20.10, with what registrations put into it.

use smallvec::SmallVec;

use crate::scan::{parse_u32, tail, trim};
use crate::{NameAddr, Params, ValueError};

/// One contact.
#[derive(Clone, Copy, Debug)]
pub struct Contact<'a> {
    pub addr: NameAddr<'a>,
    /// The whole value as it is written, parameters included.
    pub raw: &'a [u8],
}

impl<'a> Contact<'a> {
    /// Reads one contact, not `*`.
    ///
    /// # Errors
    /// As [`NameAddr::parse`].
    pub fn parse(value: &'a [u8]) -> Result<Self, ValueError> {
        Ok(Self { addr: NameAddr::parse(value)?, raw: trim(value) })
    }

    /// The URI, without `<>`.
    #[must_use]
    pub const fn uri(&self) -> &'a [u8] {
        self.addr.uri
    }

    /// The parameters of the contact, not those of its URI.
    #[must_use]
    pub const fn params(&self) -> Params<'a> {
        self.addr.params
    }

    /// The `expires` parameter in seconds.
    ///
    /// # Errors
    /// If it is there and not a number of 32 bits.
    pub fn expires(&self) -> Result<Option<u32>, ValueError> {
        match self.addr.param(b"expires") {
            None => Ok(None),
            Some(value) => value.and_then(parse_u32).map(Some).ok_or(ValueError::Number),
        }
    }

    /// The `q` parameter in thousandths: 0 to 1000.
    ///
    /// # Errors
    /// If it is there and not a `qvalue`: 0 to 1 with at most three decimals.
    pub fn q(&self) -> Result<Option<i32>, ValueError> {
        match self.addr.param(b"q") {
            None => Ok(None),
            Some(value) => value.and_then(qvalue).map(Some).ok_or(ValueError::Number),
        }
    }

    /// The `+sip.instance` parameter (RFC 5626 4.1) without its quotes, with its `<>`.
    #[must_use]
    pub fn instance(&self) -> Option<&'a [u8]> {
        let value = self.addr.params.value(b"+sip.instance")?;
        Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
    }
}

/// All contacts of a message.
#[derive(Clone, Debug)]
pub enum ContactList<'a> {
    /// `Contact: *`: all registrations are meant (RFC 3261 10.2.2).
    Star,
    /// In order; empty if the message has none.
    List(SmallVec<[Contact<'a>; 2]>),
}

impl<'a> ContactList<'a> {
    /// The contacts; none for `*`.
    #[must_use]
    pub fn contacts(&self) -> &[Contact<'a>] {
        match self {
            Self::Star => &[],
            Self::List(list) => list,
        }
    }

    #[must_use]
    pub const fn is_star(&self) -> bool {
        matches!(self, Self::Star)
    }

    pub(crate) fn collect(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Self, ValueError> {
        let mut star = false;
        let list = values.try_fold(SmallVec::new(), |mut list, value| {
            if star || (value == b"*" && !list.is_empty()) {
                return Err(ValueError::Star);
            }
            if value == b"*" {
                star = true;
            } else {
                list.push(Contact::parse(value)?);
            }
            Ok(list)
        })?;
        Ok(if star { Self::Star } else { Self::List(list) })
    }
}

/// `qvalue` of RFC 3261 25.1, in thousandths.
fn qvalue(text: &[u8]) -> Option<i32> {
    let (whole, decimals) = match memchr::memchr(b'.', text) {
        Some(at) => (text.get(..at)?, tail(text, at + 1)),
        None => (text, &[][..]),
    };
    // `.5` and `1.` are written by some phones.
    if decimals.len() > 3 || whole.len() > 1 || (whole.is_empty() && decimals.is_empty()) {
        return None;
    }
    let digit = |b: u8| b.is_ascii_digit().then(|| i32::from(b - b'0'));
    let mut q = whole.iter().try_fold(0, |_, b| digit(*b))?;
    for i in 0..3 {
        q = q * 10 + decimals.get(i).map_or(Some(0), |b| digit(*b))?;
    }
    (q <= 1000).then_some(q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn registration_parameters_are_read() {
        let c =
            Contact::parse(b"<sip:a@h>;q=0.33;expires=60;+sip.instance=\"<urn:uuid:1>\";reg-id=1")
                .unwrap();
        assert_eq!(c.q(), Ok(Some(330)));
        assert_eq!(c.expires(), Ok(Some(60)));
        assert_eq!(c.instance(), Some(&b"<urn:uuid:1>"[..]));
        assert_eq!(c.params().value(b"reg-id"), Some(&b"1"[..]));
        let c = Contact::parse(b"sip:a@h;expires=280297596632815;q=2").unwrap();
        assert_eq!((c.expires(), c.q()), (Err(ValueError::Number), Err(ValueError::Number)));
    }

    #[test]
    fn q_values_become_thousandths() {
        for (text, q) in [("0", 0), ("1", 1000), ("1.000", 1000), ("0.5", 500), (".25", 250)] {
            assert_eq!(qvalue(text.as_bytes()), Some(q));
        }
        for wrong in ["", ".", "1.001", "0.1234", "-1", "x", "10"] {
            assert_eq!(qvalue(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn star_stands_alone() {
        let list = |v: &[&'static [u8]]| ContactList::collect(v.iter().copied());
        assert!(list(&[b"*"]).unwrap().is_star());
        assert_eq!(list(&[]).unwrap().contacts().len(), 0);
        assert_eq!(list(&[b"sip:a@h", b"<sip:b@h>"]).unwrap().contacts().len(), 2);
        assert_eq!(list(&[b"*", b"sip:a@h"]).err(), Some(ValueError::Star));
        assert_eq!(list(&[b"sip:a@h", b"*"]).err(), Some(ValueError::Star));
        assert_eq!(list(&[b"*", b"*"]).err(), Some(ValueError::Star));
    }

    proptest! {
        #[test]
        fn every_thousandth_is_read_back(q in 0..=1000i32) {
            let text = format!("{}.{:03}", q / 1000, q % 1000);
            prop_assert_eq!(qvalue(text.as_bytes()), Some(q));
        }
    }
}
