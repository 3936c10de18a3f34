//! Requests that follow from a request we sent: the ACK of one hop, and CANCEL.

use crate::reply::{push_end, push_field, push_first, push_line, push_lines, push_number};
use crate::{HeaderName, Message, ValueError};

/// Builds the ACK to a negative final reply (RFC 3261 17.1.1.3). `sent_invite` is the branch as
/// it left, `reply` the reply as it came, `extra_headers` lines with their line ends.
///
/// # Errors
/// If the INVITE has no Via or CSeq that can be read, or the reply no To.
pub fn build_ack(
    sent_invite: &Message,
    reply: &Message,
    extra_headers: &[u8],
) -> Result<Vec<u8>, ValueError> {
    if reply.header(HeaderName::To).is_none() {
        return Err(ValueError::Missing);
    }
    hop_request(sent_invite, reply, b"ACK", extra_headers)
}

/// Builds the CANCEL of a request we sent (RFC 3261 9.1). `sent_request` is the branch as it
/// left, `extra_headers` lines with their line ends, such as a Reason.
///
/// # Errors
/// If the request has no Via or CSeq that can be read.
pub fn build_cancel(sent_request: &Message, extra_headers: &[u8]) -> Result<Vec<u8>, ValueError> {
    hop_request(sent_request, sent_request, b"CANCEL", extra_headers)
}

/// Same Request-URI, topmost Via, Route, From, Call-ID and CSeq number as `sent`; To of `to_of`.
fn hop_request(
    sent: &Message,
    to_of: &Message,
    method: &[u8],
    extra_headers: &[u8],
) -> Result<Vec<u8>, ValueError> {
    let cseq = sent.cseq()?;
    let via = sent.top_via()?;
    let to_len = to_of.header(HeaderName::To).map_or(0, |h| h.line().len());
    let room = sent.headers_end() as usize + to_len + extra_headers.len() + 64;
    let mut out = Vec::with_capacity(room);
    for part in [method, b" ", sent.request_uri(), b" SIP/2.0\r\n"] {
        out.extend_from_slice(part);
    }
    push_field(b"Via", via.raw, &mut out);
    sent.headers(HeaderName::Route).for_each(|h| push_line(&h, &mut out));
    push_field(b"Max-Forwards", b"70", &mut out);
    push_first(sent, HeaderName::From, &mut out);
    push_first(to_of, HeaderName::To, &mut out);
    push_first(sent, HeaderName::CallId, &mut out);
    out.extend_from_slice(b"CSeq: ");
    push_number(&mut out, cseq.number);
    for part in [b" ", method, b"\r\n"] {
        out.extend_from_slice(part);
    }
    push_lines(extra_headers, &mut out);
    push_end(&[], &mut out);
    Ok(out)
}
