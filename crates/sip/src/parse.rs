//! From bytes to the index: one walk over the lines, with SIMD search for their ends.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use crate::header::{Header, HeaderEntry};
use crate::header_name::usual;
use crate::mandatory::Mandatory;
use crate::message::{FirstLine, Index, Names};
use crate::scan::{find_near, find_soon, is_lws, is_token, parse_u32, slice, tail, trim_end};
use crate::span::Place;
use crate::{HEADER_BYTES_MAX, HEADERS_MAX, MESSAGE_BYTES_MAX};
use crate::{HeaderName, Method, ParseError, ParseErrorKind};

pub(crate) fn parse(mut buf: Bytes) -> Result<(Bytes, Arc<Index>), ParseError> {
    if buf.len() > MESSAGE_BYTES_MAX {
        return Err(fail(ParseErrorKind::MessageTooLong, MESSAGE_BYTES_MAX));
    }
    // RFC 3261 7.5: line ends before the first line are ignored.
    let lead = buf.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    if lead == buf.len() {
        return Err(fail(ParseErrorKind::Empty, 0));
    }
    if lead > 0 {
        buf.advance(lead);
    }
    let index = index(&buf).map_err(|e| fail(e.kind, e.offset as usize + lead))?;
    buf.truncate(index.body.end as usize);
    Ok((buf, index))
}

const fn fail(kind: ParseErrorKind, offset: usize) -> ParseError {
    ParseError { kind, offset: offset as u32 }
}

/// The index is large, so it is filled where it stays.
fn index(buf: &[u8]) -> Result<Arc<Index>, ParseError> {
    let line_len = find_soon(buf, b'\n').ok_or(fail(ParseErrorKind::Unfinished, buf.len()))?;
    if line_len > HEADER_BYTES_MAX {
        return Err(fail(ParseErrorKind::HeaderTooLong, 0));
    }
    let (first_line, version, first_line_end) = first_line(slice(buf, 0, line_len))?;
    let mut shared = Arc::new(Index {
        first_line,
        first_line_end,
        version,
        headers: SmallVec::new(),
        names: Names::default(),
        headers_start: (line_len + 1) as u16,
        headers_end: 0,
        body: Place::default(),
        repeated: None,
        mandatory: Mandatory::NONE,
    });
    // Nobody else has it yet.
    let Some(index) = Arc::get_mut(&mut shared) else { return Ok(shared) };
    let mut first_of = FirstOf::new();
    let body_start = headers(buf, line_len + 1, index, &mut first_of)?;
    index.body = body(buf, body_start, first_of.entry(HeaderName::ContentLength, index));
    let first = [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CSeq];
    let first = first.map(|name| first_of.entry(name, index).map(|e| Header::new(buf, e)));
    index.mandatory = Mandatory::read(buf, first);
    Ok(shared)
}

/// For each name the number of its first header line, while the lines are read.
struct FirstOf([u8; HeaderName::COUNT]);

impl FirstOf {
    /// What names have that no header line has.
    const NONE: u8 = u8::MAX;

    const fn new() -> Self {
        Self([Self::NONE; HeaderName::COUNT])
    }

    /// Notes the line with this number; true if it is the first with its name.
    fn note(&mut self, name: HeaderName, number: usize) -> bool {
        match self.0.get_mut(name as usize) {
            Some(first) if *first == Self::NONE => {
                *first = number as u8;
                true
            }
            _ => false,
        }
    }

    fn entry<'a>(&self, name: HeaderName, index: &'a Index) -> Option<&'a HeaderEntry> {
        let number = *self.0.get(name as usize)?;
        index.headers.get(usize::from(number))
    }
}

/// Returns the line's content, the place of the version, and the length of the line.
fn first_line(line: &[u8]) -> Result<(FirstLine, Place, u16), ParseError> {
    let wrong = fail(ParseErrorKind::FirstLine, 0);
    let line_end = line.strip_suffix(b"\r").unwrap_or(line).len() as u16;
    // Spaces behind the line are cut (RFC 4475 3.1.2.6 allows to be liberal).
    let text = trim_end(line);
    let space = find_near(text, b' ').ok_or(wrong)?;
    let head = slice(text, 0, space);
    if is_sip_version(head) {
        let (first_line, version) = status_line(line, text, space)?;
        return Ok((first_line, version, line_end));
    }
    let method = Method::of(head);
    if method == Method::Other && !is_token(head) {
        return Err(wrong);
    }
    let last = if text.ends_with(b" SIP/2.0") {
        text.len() - " SIP/2.0".len()
    } else {
        text.iter().rposition(|b| *b == b' ').ok_or(wrong)?
    };
    let version = tail(text, last + 1);
    if last <= space || !is_sip_version(version) {
        return Err(wrong);
    }
    // Extra spaces around the URI are cut; spaces inside stay, for validation to refuse.
    let uri_start = text.iter().skip(space).take_while(|b| **b == b' ').count() + space;
    let uri_end = trim_end(slice(text, 0, last)).len().max(uri_start);
    let first_line = FirstLine::Request {
        method,
        name: Place::new(0, space),
        uri: Place::new(uri_start, uri_end),
    };
    Ok((first_line, Place::new(last + 1, text.len()), line_end))
}

/// `text` is `line` without whitespace at its end, `space` the first space in it.
fn status_line(line: &[u8], text: &[u8], space: usize) -> Result<(FirstLine, Place), ParseError> {
    let wrong = fail(ParseErrorKind::StatusCode, space + 1);
    let code_start = text.iter().skip(space).take_while(|b| **b == b' ').count() + space;
    let rest = tail(text, code_start);
    let code_len = find_near(rest, b' ').unwrap_or(rest.len());
    let status = match slice(rest, 0, code_len) {
        code @ [_, _, _] => parse_u32(code).ok_or(wrong)?,
        _ => return Err(wrong),
    };
    if !(100..700).contains(&status) {
        return Err(wrong);
    }
    let reason_start = (code_start + code_len + 1).min(line.len());
    let reason = Place::new(reason_start, text.len());
    Ok((FirstLine::Reply { status: status as u16, reason }, Place::new(0, space)))
}

/// `SIP/` and something behind it. Another version than 2.0 is for validation to refuse.
fn is_sip_version(text: &[u8]) -> bool {
    text.len() > 4 && slice(text, 0, 4).eq_ignore_ascii_case(b"SIP/")
}

/// Indexes the headers from `at` on; returns where the body starts.
fn headers(
    buf: &[u8],
    mut at: usize,
    index: &mut Index,
    first_of: &mut FirstOf,
) -> Result<usize, ParseError> {
    let mut line_ends = LineEnds { from: at, found: memchr::memchr_iter(b'\n', tail(buf, at)) };
    loop {
        match tail(buf, at) {
            [b'\n', ..] => return Ok(end_of_headers(at, at + 1, index)),
            [b'\r', b'\n', ..] => return Ok(end_of_headers(at, at + 2, index)),
            [] => return Err(fail(ParseErrorKind::Unfinished, at)),
            _ => {}
        }
        let number = index.headers.len();
        if number >= HEADERS_MAX {
            return Err(fail(ParseErrorKind::TooManyHeaders, at));
        }
        let (end, folded) = line_ends.logical_line(buf, at)?;
        let entry = header(buf, at, end, folded)?;
        if first_of.note(entry.name, number) {
            index.names.insert(entry.name);
        } else if entry.name.is_single() && index.repeated.is_none() {
            index.repeated = Some(entry.name);
        }
        index.headers.push(entry);
        at = end;
    }
}

const fn end_of_headers(blank: usize, body_start: usize, index: &mut Index) -> usize {
    index.headers_end = blank as u16;
    body_start
}

/// The line ends of a message, found in one search.
struct LineEnds<'a> {
    /// Where the search began.
    from: usize,
    found: memchr::Memchr<'a>,
}

impl LineEnds<'_> {
    /// The end of the header that starts at `start`: behind its line end, over all folded lines.
    fn logical_line(&mut self, buf: &[u8], start: usize) -> Result<(usize, bool), ParseError> {
        let mut folded = false;
        loop {
            let found = self.found.next().ok_or(fail(ParseErrorKind::Unfinished, buf.len()))?;
            let end = self.from + found + 1;
            if end - start > HEADER_BYTES_MAX {
                return Err(fail(ParseErrorKind::HeaderTooLong, start));
            }
            if !matches!(buf.get(end), Some(b' ' | b'\t')) {
                return Ok((end, folded));
            }
            folded = true;
        }
    }
}

fn header(buf: &[u8], start: usize, end: usize, folded: bool) -> Result<HeaderEntry, ParseError> {
    let line = slice(buf, start, end);
    let (name, name_len, colon) = match usual(line) {
        Some((name, len)) => (name, len, len),
        None => header_name(line, start)?,
    };
    let (value_start, value_end) = match tail(line, colon + 1) {
        // As nearly everybody writes it: one space, and nothing behind the value.
        [b' ', first, .., last, b'\r', b'\n'] if !is_lws(*first) && !is_lws(*last) => {
            (start + colon + 2, end - 2)
        }
        _ => loose_value(line, start, colon),
    };
    Ok(HeaderEntry {
        line: Place::new(start, end),
        value: Place::new(value_start, value_end),
        name_len: name_len as u16,
        name,
        folded,
    })
}

/// A name, its length, and the place of the colon.
fn header_name(line: &[u8], start: usize) -> Result<(HeaderName, usize, usize), ParseError> {
    let colon = find_soon(line, b':').ok_or(fail(ParseErrorKind::NoColon, start))?;
    let text = trim_blanks_end(slice(line, 0, colon));
    let name = HeaderName::of(text);
    if name == HeaderName::Other && !is_token(text) {
        // Without a colon on its first line, a folded header would get here.
        return Err(fail(ParseErrorKind::HeaderName, start));
    }
    Ok((name, text.len(), colon))
}

/// Without spaces and tabs at the end: between name and colon no fold is allowed.
/// Where a value stands that has space around it, or is short.
fn loose_value(line: &[u8], start: usize, colon: usize) -> (usize, usize) {
    let lead = line.iter().skip(colon + 1).take_while(|b| is_lws(**b)).count();
    let value_start = colon + 1 + lead;
    // An empty value is placed right behind the colon, not on the next line.
    if value_start >= line.len() {
        return (start + colon + 1, start + colon + 1);
    }
    (start + value_start, start + trim_end(line).len())
}

fn trim_blanks_end(mut s: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = s {
        s = rest;
    }
    s
}

/// The body: up to Content-Length if that is there and covered, else all that came.
fn body(buf: &[u8], start: usize, content_length: Option<&HeaderEntry>) -> Place {
    let announced = content_length.and_then(|entry| parse_u32(entry.value.of(buf)));
    let end = announced
        .and_then(|n| start.checked_add(n as usize))
        .filter(|end| *end <= buf.len())
        .unwrap_or(buf.len());
    Place::new(start, end)
}
