//! Parameters: `;name=value;flag`.

use std::borrow::Cow;

use crate::scan::{quoted_end, slice, tail, trim};

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    pub name: &'a [u8],
    /// As it is written, with its quotes; `None` without a `=`.
    pub value: Option<&'a [u8]>,
    /// The whole parameter, without its `;`.
    pub raw: &'a [u8],
}

/// Parameters as they are written, in order. Empty ones (`;;`) are skipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'a>(&'a [u8]);

impl<'a> Params<'a> {
    /// `raw` is the text from the first `;` on.
    #[must_use]
    pub const fn new(raw: &'a [u8]) -> Self {
        Self(raw)
    }

    /// The text from the first `;` on; empty if there are none.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.0
    }

    /// The first parameter of this name, in any case: `Some(None)` if it has no value.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.into_iter().find(|p| p.name.eq_ignore_ascii_case(name)).map(|p| p.value)
    }

    /// The value of the first parameter of this name; `None` also if it has none.
    #[must_use]
    pub fn value(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.get(name).flatten()
    }
}

impl<'a> IntoIterator for Params<'a> {
    type Item = Param<'a>;
    type IntoIter = ParamsIter<'a>;

    fn into_iter(self) -> ParamsIter<'a> {
        ParamsIter(self.0)
    }
}

/// The parameters one by one.
#[derive(Clone, Debug)]
pub struct ParamsIter<'a>(&'a [u8]);

impl<'a> Iterator for ParamsIter<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        while !self.0.is_empty() {
            let (end, equals) = first_end(self.0);
            let text = slice(self.0, 0, end);
            let rest = tail(self.0, end + 1);
            let raw = trim(text);
            self.0 = rest;
            if raw.is_empty() {
                continue;
            }
            return Some(match equals {
                Some(at) => Param {
                    name: trim(slice(text, 0, at)),
                    value: Some(trim(tail(text, at + 1))),
                    raw,
                },
                None => Param { name: raw, value: None, raw },
            });
        }
        None
    }
}

/// The end of the first parameter, and its first `=`, in one walk. An unclosed quote takes in
/// everything behind it.
fn first_end(text: &[u8]) -> (usize, Option<usize>) {
    let mut equals = None;
    let mut at = 0;
    while let Some(ordinary) = tail(text, at).iter().position(|b| is_mark(*b)) {
        at += ordinary;
        match text.get(at).copied().unwrap_or_default() {
            b';' => return (at, equals),
            b'=' if equals.is_none() => equals = Some(at),
            b'"' => match quoted_end(tail(text, at)) {
                Some(length) => at += length - 1,
                None => return (text.len(), equals),
            },
            _ => {}
        }
        at += 1;
    }
    (text.len(), equals)
}

/// What ends a parameter, parts it or hides its end.
#[expect(clippy::indexing_slicing, reason = "the table has a place for each byte")]
const fn is_mark(b: u8) -> bool {
    const MARKS: [bool; 256] = {
        let mut table = [false; 256];
        (table[b';' as usize], table[b'=' as usize], table[b'"' as usize]) = (true, true, true);
        table
    };
    MARKS[b as usize]
}

/// The text of a quoted string without its quotes and escapes (RFC 3261 25.1). Text that is not
/// a quoted string stays as it is. Allocates only if there are escapes.
#[must_use]
pub fn unquote(text: &[u8]) -> Cow<'_, [u8]> {
    if text.first() != Some(&b'"') || quoted_end(text) != Some(text.len()) {
        return Cow::Borrowed(text);
    }
    let inner = slice(text, 1, text.len() - 1);
    if memchr::memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(b) = bytes.next() {
        out.push(if b == b'\\' { bytes.next().unwrap_or(b) } else { b });
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_keep_their_quotes_and_may_be_empty() {
        let p = Params::new(b"; a = 1;;B;c=\"x;y\\\"\" ; d=");
        assert_eq!(p.value(b"A"), Some(&b"1"[..]));
        assert_eq!(p.get(b"b"), Some(None));
        assert_eq!(p.value(b"c"), Some(&b"\"x;y\\\"\""[..]));
        assert_eq!(p.get(b"d"), Some(Some(&b""[..])));
        assert_eq!(p.get(b"e"), None);
        assert_eq!(p.into_iter().count(), 4);
    }

    #[test]
    fn unquoting_removes_quotes_and_escapes() {
        assert_eq!(&*unquote(br#""a\"b\\""#), br#"a"b\"#);
        assert_eq!(&*unquote(b"token"), b"token");
        assert_eq!(&*unquote(b"\"open"), b"\"open");
        assert_eq!(&*unquote(b"\"\""), b"");
    }

    proptest! {
        #[test]
        fn any_text_is_split_without_panic(text: Vec<u8>) {
            for p in Params::new(&text) {
                prop_assert!(!p.name.is_empty() || p.value.is_some());
            }
            prop_assert!(unquote(&text).len() <= text.len());
        }
    }
}
