//! Replies of our own: RFC 3261 8.2.6.

use std::net::IpAddr;

use crate::via_edits::source_notes;
use crate::{Header, HeaderName, Message, Span};

/// Where a request came from, for its topmost Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub ip: IpAddr,
    pub port: u16,
    /// Note the port even if the sender did not ask for it (`force_rport()`).
    pub add_rport: bool,
}

/// What a reply says beyond code and reason.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplyOptions<'a> {
    /// Our tag for To, if the request has none there. A 100 never gets it.
    pub to_tag: Option<&'a [u8]>,
    /// Header lines, each with its line end, in as many pieces as they come from.
    pub extra_headers: &'a [&'a [u8]],
    /// Content-Type and body; an empty type: `extra_headers` has it.
    pub body: Option<(&'a [u8], &'a [u8])>,
    /// The value of the Server header.
    pub server: Option<&'a [u8]>,
    /// The source of the request; `None` if the Via has it already, or nobody wants it.
    pub received: Option<Received>,
}

/// Builds the reply to a request (RFC 3261 8.2.6): Via in order, From, To, Call-ID and CSeq as
/// they came; Record-Route where the reply can make a dialog (12.1.1); Timestamp on a 100
/// (8.2.6.1). What the request lacks, the reply lacks, so that a faulty one can be answered.
/// `reason` is cut to one line.
#[must_use]
pub fn build_reply(req: &Message, code: u16, reason: &[u8], opts: &ReplyOptions<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_reply(req, code, reason, opts, &mut out);
    out
}

/// Appends what [`build_reply`] builds to `out`.
pub fn write_reply(
    req: &Message,
    code: u16,
    reason: &[u8],
    opts: &ReplyOptions<'_>,
    out: &mut Vec<u8>,
) {
    let (content_type, body) = opts.body.unwrap_or_default();
    let extra: usize = opts.extra_headers.iter().map(|lines| lines.len()).sum();
    let given = reason.len() + extra + content_type.len() + body.len();
    let room = given + opts.server.map_or(0, <[u8]>::len) + opts.to_tag.map_or(0, <[u8]>::len);
    out.reserve(req.headers_end() as usize + room + 192);

    out.extend_from_slice(b"SIP/2.0 ");
    push_number(out, u32::from(code));
    out.push(b' ');
    out.extend(reason.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
    out.extend_from_slice(b"\r\n");

    push_vias(req, opts.received, out);
    if (101..300).contains(&code) && req.method().creates_dialog() {
        req.headers(HeaderName::RecordRoute).for_each(|h| push_line(&h, out));
    }
    push_identity(req, opts.to_tag.filter(|_| code != 100), out);
    if code == 100 {
        push_first(req, HeaderName::Timestamp, out);
    }
    if let Some(server) = opts.server {
        push_field(b"Server", server, out);
    }
    opts.extra_headers.iter().for_each(|lines| push_lines(lines, out));
    if opts.body.is_some() && !content_type.is_empty() {
        push_field(b"Content-Type", content_type, out);
    }
    push_end(body, out);
}

fn push_vias(req: &Message, received: Option<Received>, out: &mut Vec<u8>) {
    let mut at = 0;
    if let Some(source) = received
        && let Some(top) = req.header(HeaderName::Via)
        // A Via that cannot be read is sent back as it came: the reply is for its sender alone.
        && let Ok(notes) = source_notes(req, &source)
    {
        at = top.span().start;
        for note in notes {
            out.extend_from_slice(req.slice(Span::new(at, note.span.start)));
            note.write(&source, out);
            at = note.span.end;
        }
    }
    for header in req.headers(HeaderName::Via) {
        // Of the topmost, what the notes have not covered is left.
        let start = header.span().start.max(at);
        let end = header.span().start + header.line().len() as u32;
        out.extend_from_slice(req.slice(Span::new(start, end)));
        out.extend_from_slice(b"\r\n");
    }
}

/// From, To, Call-ID and CSeq. Most requests have them in this order, one after the other: then
/// they are two pieces.
fn push_identity(req: &Message, tag: Option<&[u8]>, out: &mut Vec<u8>) {
    use HeaderName::{CSeq, CallId, From, To};
    let [from, to, call_id, cseq] = [From, To, CallId, CSeq].map(|name| req.header(name));
    match from.zip(to).filter(|(from, to)| follows(req, from, to)) {
        Some((from, to)) => {
            let both = Span::new(from.span().start, to.value_span().end);
            out.extend_from_slice(req.slice(both));
            push_tag(req, tag, out);
        }
        None => {
            push_first(req, From, out);
            push_to(req, tag, out);
        }
    }
    match call_id.zip(cseq).filter(|(id, cseq)| follows(req, id, cseq) && is_plain(req, cseq)) {
        Some((id, cseq)) => {
            out.extend_from_slice(req.slice(Span::new(id.span().start, cseq.span().end)));
        }
        None => [CallId, CSeq].into_iter().for_each(|name| push_first(req, name, out)),
    }
}

/// Whether `next` stands right behind `first`, and nothing is to be left out between them.
fn follows(req: &Message, first: &Header<'_>, next: &Header<'_>) -> bool {
    next.span().start == first.span().end && is_plain(req, first)
}

/// Whether the line ends with its value.
fn is_plain(req: &Message, header: &Header<'_>) -> bool {
    req.slice(Span::new(header.value_span().end, header.span().end)) == b"\r\n"
}

fn push_to(req: &Message, tag: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(header) = req.header(HeaderName::To) else { return };
    out.extend_from_slice(header.line());
    push_tag(req, tag, out);
}

/// Behind the value of To.
fn push_tag(req: &Message, tag: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(tag) = tag
        && req.to_tag().is_none()
    {
        out.extend_from_slice(b";tag=");
        out.extend_from_slice(tag);
    }
    out.extend_from_slice(b"\r\n");
}

/// Copies the first header of that name, if there is one.
pub(crate) fn push_first(msg: &Message, name: HeaderName, out: &mut Vec<u8>) {
    if let Some(header) = msg.header(name) {
        push_line(&header, out);
    }
}

pub(crate) fn push_line(header: &Header<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(header.line());
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn push_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Header lines of a caller, with the last line end if that was forgotten.
pub(crate) fn push_lines(lines: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(lines);
    if !lines.is_empty() && !lines.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
}

/// Content-Length, the empty line, the body.
pub(crate) fn push_end(body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    push_number(out, body.len() as u32);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// Appends a number in decimal digits, without an allocation.
pub fn push_number(out: &mut Vec<u8>, number: u32) {
    let mut digits = [0u8; 10];
    let mut rest = number;
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}
