//! CSeq: RFC 3261 20.16.

use crate::scan::{is_lws, is_token, parse_u32, slice, tail, trim};
use crate::{Method, ValueError};

/// The value of a CSeq header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    pub number: u32,
    pub method: Method,
    /// The method as it is written.
    pub method_bytes: &'a [u8],
}

impl<'a> CSeq<'a> {
    /// Reads `number METHOD`; the space may be any whitespace, folds included.
    ///
    /// # Errors
    /// [`ValueError::CSeq`] for another form, [`ValueError::Number`] for a number beyond 32 bits.
    pub fn parse(value: &'a [u8]) -> Result<Self, ValueError> {
        let value = trim(value);
        let end = value.iter().position(|b| is_lws(*b)).ok_or(ValueError::CSeq)?;
        let number = parse_u32(slice(value, 0, end)).ok_or(ValueError::Number)?;
        let method_bytes = trim(tail(value, end));
        if !is_token(method_bytes) {
            return Err(ValueError::CSeq);
        }
        Ok(Self { number, method: Method::of(method_bytes), method_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn number_and_method_are_split() {
        let c = CSeq::parse(b"0009\r\n  INVITE").unwrap();
        assert_eq!((c.number, c.method), (9, Method::Invite));
        assert_eq!(CSeq::parse(b"4294967296 INVITE"), Err(ValueError::Number));
        assert_eq!(CSeq::parse(b"1"), Err(ValueError::CSeq));
        assert_eq!(CSeq::parse(b"1 A B"), Err(ValueError::CSeq));
        assert_eq!(CSeq::parse(b""), Err(ValueError::CSeq));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u32, method in "[A-Z]{1,12}") {
            let text = format!("{number} {method}");
            let c = CSeq::parse(text.as_bytes()).unwrap();
            prop_assert_eq!((c.number, c.method_bytes), (number, method.as_bytes()));
        }

        #[test]
        fn any_bytes_give_an_answer(value: Vec<u8>) {
            let _ = CSeq::parse(&value);
        }
    }
}
