//! A message: one immutable buffer and an index of where things are.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::header::{Header, HeaderEntry, Headers, Value};
use crate::mandatory::Mandatory;
use crate::scan::slice;
use crate::span::Place;
use crate::{HeaderName, Method, ParseError, Span};

/// A SIP request or reply (RFC 3261 section 7).
///
/// The bytes never change; what is to go out differently is said with [`crate::Edits`]. Cloning
/// copies two counted pointers. All offsets ([`Span`]) count from the first byte of the first
/// line: line ends that came before it and bytes behind the announced body are cut off.
#[derive(Clone, Debug)]
pub struct Message {
    buf: Bytes,
    index: Arc<Index>,
}

#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) first_line: FirstLine,
    /// The first line without its line end.
    pub(crate) first_line_end: u16,
    pub(crate) version: Place,
    pub(crate) headers: SmallVec<[HeaderEntry; HEADERS_NEAR]>,
    /// The names that header lines have.
    pub(crate) names: Names,
    pub(crate) headers_start: u16,
    /// Start of the empty line.
    pub(crate) headers_end: u16,
    pub(crate) body: Place,
    /// A header that may stand only once and stands there again.
    pub(crate) repeated: Option<HeaderName>,
    pub(crate) mandatory: Mandatory,
}

/// Header lines whose places stand in the index itself.
const HEADERS_NEAR: usize = 21;

/// A set of header names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names(u128);

const _: () = assert!(HeaderName::COUNT <= u128::BITS as usize);

impl Names {
    pub(crate) const fn insert(&mut self, name: HeaderName) {
        self.0 |= 1 << name as u32;
    }

    const fn contains(self, name: HeaderName) -> bool {
        self.0 >> name as u32 & 1 == 1
    }
}

impl Index {
    /// The header lines from the first one with this name on.
    fn entries_from(&self, name: HeaderName) -> &[HeaderEntry] {
        if !self.names.contains(name) {
            return &[];
        }
        let first = self.headers.iter().position(|entry| entry.name == name);
        first.and_then(|first| self.headers.get(first..)).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum FirstLine {
    Request { method: Method, name: Place, uri: Place },
    Reply { status: u16, reason: Place },
}

impl Message {
    /// Reads one message from a datagram, or from exactly one message of a stream.
    ///
    /// Tolerant where tolerance is safe: line ends of LF alone, line ends before the first line,
    /// folded lines, compact names, spaces before the colon. A body longer than Content-Length
    /// is cut; one that is shorter is left to [`Message::validate`], as is everything else that
    /// can be answered with a 400. Allocates once.
    ///
    /// # Errors
    /// If there is no message in the bytes that could be answered or routed.
    pub fn parse(buf: Bytes) -> Result<Self, ParseError> {
        let (buf, index) = crate::parse::parse(buf)?;
        Ok(Self { buf, index })
    }

    /// What was read of the headers that every message must have.
    pub(crate) fn mandatory(&self) -> &Mandatory {
        &self.index.mandatory
    }

    pub(crate) fn repeated(&self) -> Option<HeaderName> {
        self.index.repeated
    }

    /// The whole message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.buf
    }

    /// The whole message, counted.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.buf
    }

    /// The same message in memory of its own. What was received shares its memory with what came
    /// before and after it, and keeps that alive: whoever keeps a message for seconds keeps this.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { buf: Bytes::copy_from_slice(&self.buf), index: Arc::clone(&self.index) }
    }

    /// The bytes of `span`, empty if the message does not have them.
    #[must_use]
    pub fn slice(&self, span: Span) -> &[u8] {
        slice(&self.buf, span.start as usize, span.end as usize)
    }

    /// Where `part` is, if it is a part of this message. Any slice that a view of this message
    /// gave out can be turned into a place for an edit.
    #[must_use]
    pub fn span_of(&self, part: &[u8]) -> Option<Span> {
        let start = (part.as_ptr() as usize).checked_sub(self.buf.as_ptr() as usize)?;
        let end = start.checked_add(part.len())?;
        if end > self.buf.len() {
            return None;
        }
        Some(Span::new(u32::try_from(start).ok()?, u32::try_from(end).ok()?))
    }

    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.index.first_line, FirstLine::Request { .. })
    }

    #[must_use]
    pub fn is_reply(&self) -> bool {
        !self.is_request()
    }

    /// The method of a request; of a reply, the one its CSeq names (`Other` if it has none).
    #[must_use]
    pub fn method(&self) -> Method {
        match self.index.first_line {
            FirstLine::Request { method, .. } => method,
            FirstLine::Reply { .. } => self.mandatory().cseq.map_or(Method::Other, |c| c.method),
        }
    }

    /// As [`Message::method`], as it is written; empty for a reply without a CSeq.
    #[must_use]
    pub fn method_bytes(&self) -> &[u8] {
        match self.index.first_line {
            FirstLine::Request { name, .. } => name.of(&self.buf),
            FirstLine::Reply { .. } => self.cseq().map_or(&[], |c| c.method_bytes),
        }
    }

    /// The Request-URI as it is written; empty for a reply.
    #[must_use]
    pub fn request_uri(&self) -> &[u8] {
        self.slice(self.request_uri_span())
    }

    /// The place of the Request-URI; empty for a reply.
    #[must_use]
    pub fn request_uri_span(&self) -> Span {
        match self.index.first_line {
            FirstLine::Request { uri, .. } => uri.span(),
            FirstLine::Reply { .. } => Span::default(),
        }
    }

    /// The status code, 100 to 699; 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.index.first_line {
            FirstLine::Request { .. } => 0,
            FirstLine::Reply { status, .. } => status,
        }
    }

    /// The reason phrase of a reply, which may be empty; empty for a request.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        match self.index.first_line {
            FirstLine::Request { .. } => &[],
            FirstLine::Reply { reason, .. } => reason.of(&self.buf),
        }
    }

    /// The protocol version as it is written, normally `SIP/2.0`.
    #[must_use]
    pub fn version(&self) -> &[u8] {
        self.index.version.of(&self.buf)
    }

    /// The first line without its line end.
    #[must_use]
    pub fn first_line(&self) -> &[u8] {
        self.slice(self.first_line_span())
    }

    /// The place of the first line, without its line end.
    #[must_use]
    pub fn first_line_span(&self) -> Span {
        Span::new(0, self.index.first_line_end.into())
    }

    /// The first header with this name. `Other` finds the first whose name is not known.
    #[must_use]
    pub fn header(&self, name: HeaderName) -> Option<Header<'_>> {
        let entry = self.index.entries_from(name).first()?;
        Some(Header::new(&self.buf, entry))
    }

    /// All headers with this name, in order.
    #[must_use]
    pub fn headers(&self, name: HeaderName) -> Headers<'_> {
        Headers::new(&self.buf, self.index.entries_from(name), Some(name))
    }

    /// All headers, in order.
    #[must_use]
    pub fn all_headers(&self) -> Headers<'_> {
        Headers::new(&self.buf, &self.index.headers, None)
    }

    /// All headers with a name given as text, in any case. Finds known names, too, in both forms.
    pub fn headers_by_text<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = Header<'a>> {
        let known = HeaderName::of(name);
        self.headers(known).filter(move |h| {
            known != HeaderName::Other || h.name_bytes().eq_ignore_ascii_case(name)
        })
    }

    /// The first header with a name given as text, in any case.
    #[must_use]
    pub fn header_by_text(&self, name: &[u8]) -> Option<Header<'_>> {
        let known = HeaderName::of(name);
        self.headers(known)
            .find(|h| known != HeaderName::Other || h.name_bytes().eq_ignore_ascii_case(name))
    }

    /// The comma separated values of all headers with this name, in order.
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = Value<'_>> {
        self.headers(name).flat_map(|h| h.values())
    }

    /// `true` if a list header (Supported, Require, Allow...) has the token, in any case.
    #[must_use]
    pub fn has_token(&self, name: HeaderName, token: &[u8]) -> bool {
        self.values(name).any(|v| v.bytes.eq_ignore_ascii_case(token))
    }

    /// Where the first header line starts; where it would start if there is none.
    #[must_use]
    pub fn headers_start(&self) -> u32 {
        self.index.headers_start.into()
    }

    /// Where the empty line behind the headers starts.
    #[must_use]
    pub fn headers_end(&self) -> u32 {
        self.index.headers_end.into()
    }

    /// The body; empty if there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.index.body.of(&self.buf)
    }

    /// The place of the body.
    #[must_use]
    pub fn body_span(&self) -> Span {
        self.index.body.span()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_fits_into_a_block_of_448_bytes() {
        // With the two counters of the Arc. The next block has 64 bytes more.
        assert!(size_of::<Index>() + 16 <= 448, "{}", size_of::<Index>());
    }
}
