//! Our Via on top of a request, off a reply, and what we know of the sender into the one below.

use std::io::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::reply::push_number;
use crate::{Edits, HeaderName, Message, Received, Rport, Span, Transport, ValueError, Via};

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
        // Without a port it is exactly as long: what is not shortened afterwards becomes `Bytes`
        // where it stands.
        const FIXED: usize = b"Via: SIP/2.0/ ;branch=\r\n".len();
        let transport = self.transport.as_via().as_bytes();
        let parts = transport.len() + self.host.len() + self.branch.len() + self.params.len();
        let port = if self.port.is_some() { ":65535".len() } else { 0 };
        let mut line = Vec::with_capacity(FIXED + parts + port);
        self.write_to(&mut line);
        line
    }

    /// Writes the same behind what is there.
    pub fn write_to(&self, line: &mut Vec<u8>) {
        let transport = self.transport.as_via().as_bytes();
        line.extend_from_slice(b"Via: SIP/2.0/");
        line.extend_from_slice(transport);
        line.push(b' ');
        line.extend_from_slice(self.host);
        if let Some(port) = self.port {
            line.push(b':');
            push_number(line, u32::from(port));
        }
        for part in [b";branch=", self.branch, self.params, b"\r\n"] {
            line.extend_from_slice(part);
        }
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
    if msg.mandatory().via.is_ok_and(|via| !via.has_more) {
        edits.remove(header.span());
        return true;
    }
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
    let notes = source_notes(msg, source)?;
    // A Via that leaves with nothing of it needs no notes.
    let is_removed = msg.header(HeaderName::Via).is_some_and(|via| edits.removes(via.span()));
    if notes.is_empty() || is_removed {
        return Ok(false);
    }
    // Both share one piece of memory.
    let mut text = Vec::with_capacity(2 * NOTE_BYTES_MAX);
    let mut ends: SmallVec<[usize; 2]> = SmallVec::new();
    for note in &notes {
        note.write(source, &mut text);
        ends.push(text.len());
    }
    let mut text = Bytes::from(text);
    let mut before = 0;
    for (note, end) in notes.iter().zip(ends) {
        edits.replace(note.span, text.split_to(end - before));
        before = end;
    }
    Ok(true)
}

/// One parameter of the topmost Via that is to say where the request came from.
pub(crate) struct SourceNote {
    /// What it replaces; empty where it is to be inserted.
    pub(crate) span: Span,
    param: SourceParam,
}

enum SourceParam {
    Received,
    Rport,
}

/// Room for `;received=` and the longest address.
const NOTE_BYTES_MAX: usize = 64;

impl SourceNote {
    /// Appends the parameter, with its `;` if it is new.
    pub(crate) fn write(&self, source: &Received, out: &mut Vec<u8>) {
        if self.span.is_empty() {
            out.push(b';');
        }
        match self.param {
            SourceParam::Received => {
                out.extend_from_slice(b"received=");
                push_ip(source.ip.to_canonical(), out);
            }
            SourceParam::Rport => {
                out.extend_from_slice(b"rport=");
                push_number(out, u32::from(source.port));
            }
        }
    }
}

/// The address without brackets: RFC 5118 4.5.
fn push_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            for (n, octet) in ip.octets().into_iter().enumerate() {
                if n > 0 {
                    out.push(b'.');
                }
                let [hundreds, tens] = [octet / 100, octet / 10];
                if hundreds > 0 {
                    out.push(b'0' + hundreds);
                }
                if tens > 0 {
                    out.push(b'0' + tens % 10);
                }
                out.push(b'0' + octet % 10);
            }
        }
        // Writing into a Vec cannot fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

/// What [`mark_received`] is to write, in the order of places.
pub(crate) fn source_notes(
    msg: &Message,
    source: &Received,
) -> Result<SmallVec<[SourceNote; 2]>, ValueError> {
    let via = msg.top_via()?;
    // A dual-stack socket shows IPv4 sources as mapped addresses.
    let ip = source.ip.to_canonical();
    let known = |written: Option<IpAddr>| written.is_some_and(|w| w.to_canonical() == ip);
    let with_rport = source.add_rport || via.rport != Rport::Absent;
    let with_received = with_rport || via.received_raw.is_some() || !known(via.host_ip());
    let mut notes: SmallVec<[SourceNote; 2]> = SmallVec::new();
    if with_received && !known(via.received_ip()) {
        let span = place(msg, &via, via.received_raw);
        notes.extend(span.map(|span| SourceNote { span, param: SourceParam::Received }));
    }
    if with_rport && via.rport != Rport::Port(source.port) {
        let span = place(msg, &via, via.rport_raw);
        notes.extend(span.map(|span| SourceNote { span, param: SourceParam::Rport }));
    }
    notes.sort_by_key(|note| note.span.start);
    Ok(notes)
}

/// Where a parameter of the Via stands; the empty place behind the Via if it is not there.
fn place(msg: &Message, via: &Via<'_>, param: Option<&[u8]>) -> Option<Span> {
    let end = msg.span_of(via.raw)?.end;
    param.map_or(Some(Span::new(end, end)), |param| msg.span_of(param))
}
