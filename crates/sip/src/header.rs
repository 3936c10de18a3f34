//! Header lines and the values in them.

use std::borrow::Cow;

use crate::scan::{find_outside, is_lws, slice, tail, trim};
use crate::span::Place;
use crate::{HeaderName, Span};

/// Where one header is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderEntry {
    /// Up to behind the line end of the last (folded) line.
    pub(crate) line: Place,
    pub(crate) value: Place,
    pub(crate) name_len: u16,
    pub(crate) name: HeaderName,
    pub(crate) folded: bool,
}

/// One header of a message; with folding, it may take several lines.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    buf: &'a [u8],
    entry: &'a HeaderEntry,
}

impl<'a> Header<'a> {
    pub(crate) const fn new(buf: &'a [u8], entry: &'a HeaderEntry) -> Self {
        Self { buf, entry }
    }

    #[must_use]
    pub const fn name(&self) -> HeaderName {
        self.entry.name
    }

    /// The name as it is written.
    #[must_use]
    pub fn name_bytes(&self) -> &'a [u8] {
        let start = usize::from(self.entry.line.start);
        slice(self.buf, start, start + usize::from(self.entry.name_len))
    }

    /// The value without whitespace at its ends. A folded one still has its line ends inside;
    /// every typed view takes them for whitespace.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.entry.value.of(self.buf)
    }

    /// The value on one line: each fold becomes one space (RFC 3261 7.3.1). Allocates only if
    /// the header is folded.
    #[must_use]
    pub fn unfolded(&self) -> Cow<'a, [u8]> {
        let value = self.value();
        if !self.entry.folded {
            return Cow::Borrowed(value);
        }
        let mut out = Vec::with_capacity(value.len());
        let mut rest = value;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, next) = rest.split_at(at);
            out.extend_from_slice(crate::scan::trim_end(line));
            rest = crate::scan::trim_start(next);
            if !rest.is_empty() && !out.is_empty() {
                out.push(b' ');
            }
        }
        out.extend_from_slice(rest);
        Cow::Owned(out)
    }

    /// The whole header with its line end.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.entry.line.span()
    }

    /// The place of [`Header::value`].
    #[must_use]
    pub const fn value_span(&self) -> Span {
        self.entry.value.span()
    }

    /// The whole header as it is written, without its line end.
    #[must_use]
    pub fn line(&self) -> &'a [u8] {
        crate::scan::trim_end(self.entry.line.of(self.buf))
    }

    /// The comma separated values. Commas in quotes and in `<>` do not separate. Meant for
    /// headers that are lists; a Date or an Authorization has commas of its own.
    #[must_use]
    pub fn values(&self) -> Values<'a> {
        Values { rest: self.value(), start: self.entry.value.start.into() }
    }
}

/// Headers in the order of the message.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    buf: &'a [u8],
    rest: &'a [HeaderEntry],
    name: Option<HeaderName>,
}

impl<'a> Headers<'a> {
    pub(crate) const fn new(
        buf: &'a [u8],
        rest: &'a [HeaderEntry],
        name: Option<HeaderName>,
    ) -> Self {
        Self { buf, rest, name }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        while let [entry, rest @ ..] = self.rest {
            self.rest = rest;
            if self.name.is_none_or(|name| name == entry.name) {
                return Some(Header::new(self.buf, entry));
            }
        }
        None
    }
}

/// One value of a comma separated list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// Without whitespace at its ends.
    pub bytes: &'a [u8],
    /// The place of `bytes` in the message.
    pub span: Span,
}

/// The values of one header; empty ones (`a,,b`) are skipped.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: &'a [u8],
    start: u32,
}

impl Values<'_> {
    /// Nothing is left, not even a comma.
    pub(crate) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        while !self.rest.is_empty() {
            let (raw, start) = (self.rest, self.start);
            let end = find_outside(raw, b',').unwrap_or(raw.len());
            self.rest = tail(raw, end + 1);
            self.start = start + (raw.len() - self.rest.len()) as u32;
            let item = slice(raw, 0, end);
            let bytes = trim(item);
            if !bytes.is_empty() {
                let lead = item.iter().take_while(|b| is_lws(**b)).count();
                let start = start + lead as u32;
                return Some(Value { bytes, span: Span::new(start, start + bytes.len() as u32) });
            }
        }
        None
    }
}
