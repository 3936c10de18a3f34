//! Our Via on top of a request, off a reply, and what we know of the sender into the one below.

use std::io::Write as _;
use std::net::IpAddr;

use bytes::Bytes;

use crate::{Edits, HeaderName, Message, Received, Rport, Span, Transport, ValueError};

/// A Via of our own.
#[derive(Clone, Copy, Debug)]
pub struct ViaLine<'a> {
    pub transport: Transport,
    /// IPv6 with its brackets.
    pub host: &'a [u8],
    /// `None` leaves the port out.
    pub port: Option<u16>,
    /// With its cookie.
    pub branch: &'a [u8],
    /// More parameters, each with its `;`.
    pub params: &'a [u8],
}

impl ViaLine<'_> {
    /// The whole header with its line end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = self.host.len() + self.branch.len() + self.params.len();
        let mut line = Vec::with_capacity(parts + 40);
        line.extend_from_slice(b"Via: SIP/2.0/");
        line.extend_from_slice(self.transport.as_via().as_bytes());
        line.push(b' ');
        line.extend_from_slice(self.host);
        if let Some(port) = self.port {
            // Writing into a Vec cannot fail.
            let _ = write!(line, ":{port}");
        }
        for part in [b";branch=", self.branch, self.params, b"\r\n"] {
            line.extend_from_slice(part);
        }
        line
    }
}

/// Puts a Via header (whole line, with line end) above all others.
pub fn add_via(msg: &Message, edits: &mut Edits, line: impl Into<Bytes>) {
    let top = msg.header(HeaderName::Via).map_or(msg.headers_start(), |h| h.span().start);
    edits.insert_before(top, line);
}

/// Takes the topmost Via value off (RFC 3261 16.7 step 3): the whole header, or only the value if
/// others share its line. `false` if there is none.
pub fn remove_top_via(msg: &Message, edits: &mut Edits) -> bool {
    let Some(header) = msg.header(HeaderName::Via) else { return false };
    let mut values = header.values();
    let (first, second) = (values.next(), values.next());
    match (first, second) {
        (Some(first), Some(second)) => edits.remove(Span::new(first.span.start, second.span.start)),
        (Some(_), None) => edits.remove(header.span()),
        (None, _) => return false,
    }
    true
}

/// Notes the source of a request in its topmost Via: `received` if it is not what sent-by says or
/// `rport` is asked for (RFC 3261 18.2.1, RFC 3581 4), `rport` if asked for or `add_rport`.
/// Values that the sender put there itself are replaced. Returns whether anything is to change.
///
/// # Errors
/// If there is no topmost Via that can be read.
pub fn mark_received(
    msg: &Message,
    edits: &mut Edits,
    source: &Received,
) -> Result<bool, ValueError> {
    let via = msg.top_via()?;
    // A dual-stack socket shows IPv4 sources as mapped addresses.
    let ip = source.ip.to_canonical();
    let known = |written: Option<IpAddr>| written.is_some_and(|w| w.to_canonical() == ip);
    let with_rport = source.add_rport || via.rport != Rport::Absent;
    let with_received = with_rport || via.received.is_some() || !known(via.host_ip());
    let count = edits.len();
    let mut append = Vec::new();
    if with_received && !known(via.received_ip()) {
        set_param(msg, edits, &mut append, b"received", &ip.to_string());
    }
    if with_rport && via.rport != Rport::Port(source.port) {
        set_param(msg, edits, &mut append, b"rport", &source.port.to_string());
    }
    if let Some(span) = msg.span_of(via.raw)
        && !append.is_empty()
    {
        edits.insert_after(span.end, append);
    }
    Ok(edits.len() != count)
}

/// Gives a parameter of the topmost Via a value where it stands, or notes it in `append`.
fn set_param(msg: &Message, edits: &mut Edits, append: &mut Vec<u8>, name: &[u8], value: &str) {
    let param = msg
        .top_via()
        .ok()
        .and_then(|via| via.params.into_iter().find(|p| p.name.eq_ignore_ascii_case(name)));
    let text = [name, b"=", value.as_bytes()].concat();
    let Some(param) = param else {
        append.push(b';');
        return append.extend_from_slice(&text);
    };
    let last = param.value.unwrap_or(param.name);
    if let (Some(start), Some(end)) = (msg.span_of(param.name), msg.span_of(last)) {
        edits.replace(Span::new(start.start, end.end), text);
    }
}
