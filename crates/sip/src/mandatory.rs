//! The headers that every message must have and that every step asks for, read once.
//!
//! Kept as places, not as slices, so that the index owns nothing of the buffer.

mod plain;

use crate::header::Header;
use crate::scan::is_token;
use crate::span::Place;
use crate::{CSeq, Method, NameAddr, Params, Rport, Transport, ValueError, Via};

/// What was made out of the topmost Via, From, To and CSeq, or what is wrong with them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mandatory {
    pub(crate) via: Result<ViaAt, ValueError>,
    pub(crate) from: Result<AddrAt, ValueError>,
    pub(crate) to: Result<AddrAt, ValueError>,
    pub(crate) cseq: Result<CSeqAt, ValueError>,
}

impl Mandatory {
    /// Before the headers are known.
    pub(crate) const NONE: Self = Self {
        via: Err(ValueError::Missing),
        from: Err(ValueError::Missing),
        to: Err(ValueError::Missing),
        cseq: Err(ValueError::Missing),
    };

    /// Reads the first header of each name.
    pub(crate) fn read<'a>(buf: &'a [u8], first: [Option<Header<'a>>; 4]) -> Self {
        let [via, from, to, cseq] = first.map(|header| header.ok_or(ValueError::Missing));
        let addr = |header: Result<Header<'a>, ValueError>| {
            let header = header?;
            match plain::addr(header.value(), header.value_span().start) {
                Some(addr) => Ok(addr),
                None => NameAddr::parse(header.value()).map(|addr| AddrAt::of(&addr, buf)),
            }
        };
        Self {
            via: via.and_then(|h| ViaAt::read(h, buf)),
            from: addr(from),
            to: addr(to),
            cseq: cseq.and_then(|h| match plain::cseq(h.value(), h.value_span().start) {
                Some(cseq) => Ok(cseq),
                None => CSeq::parse(h.value()).map(|c| CSeqAt::of(&c, buf)),
            }),
        }
    }
}

/// The place of a slice of `buf`.
fn place(part: &[u8], buf: &[u8]) -> Place {
    let start = (part.as_ptr() as usize).wrapping_sub(buf.as_ptr() as usize);
    Place::new(start, start.wrapping_add(part.len()))
}

/// A [`Via`] as places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ViaAt {
    transport: Option<Transport>,
    transport_bytes: Place,
    host: Place,
    port: Option<u16>,
    branch: Option<Place>,
    received: Option<Place>,
    rport: Rport,
    params: Place,
    received_raw: Option<Place>,
    rport_raw: Option<Place>,
    raw: Place,
    /// Other values stand in the same line.
    pub(crate) has_more: bool,
}

impl ViaAt {
    fn read(header: Header<'_>, buf: &[u8]) -> Result<Self, ValueError> {
        if let Some(via) = plain::via(header.value(), header.value_span().start) {
            return Ok(via);
        }
        let mut values = header.values();
        let first = values.next().ok_or(ValueError::Empty)?;
        let via = Via::parse(first.bytes)?;
        let at = |part: &[u8]| place(part, buf);
        Ok(Self {
            transport: via.transport,
            transport_bytes: at(via.transport_bytes),
            host: at(via.host),
            port: via.port,
            branch: via.branch.map(at),
            received: via.received.map(at),
            rport: via.rport,
            params: at(via.params.raw()),
            received_raw: via.received_raw.map(at),
            rport_raw: via.rport_raw.map(at),
            raw: at(via.raw),
            has_more: !values.is_at_end(),
        })
    }

    pub(crate) fn view<'a>(&self, buf: &'a [u8]) -> Via<'a> {
        let of = |place: Place| place.of(buf);
        Via {
            transport: self.transport,
            transport_bytes: of(self.transport_bytes),
            host: of(self.host),
            port: self.port,
            branch: self.branch.map(of),
            received: self.received.map(of),
            rport: self.rport,
            params: Params::new(of(self.params)),
            received_raw: self.received_raw.map(of),
            rport_raw: self.rport_raw.map(of),
            raw: of(self.raw),
        }
    }
}

/// A [`NameAddr`] as places, with its tag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddrAt {
    display: Place,
    uri: Place,
    params: Place,
    tag: Option<Place>,
}

/// The tag, which mostly is the only parameter.
fn tag_of<'a>(addr: &NameAddr<'a>) -> Option<&'a [u8]> {
    match addr.params.raw().strip_prefix(b";tag=") {
        Some(tag) if !tag.is_empty() && is_token(tag) => Some(tag),
        _ => addr.tag(),
    }
}

impl AddrAt {
    fn of(addr: &NameAddr<'_>, buf: &[u8]) -> Self {
        Self {
            display: if addr.display.is_empty() {
                Place::default()
            } else {
                place(addr.display, buf)
            },
            uri: place(addr.uri, buf),
            params: place(addr.params.raw(), buf),
            tag: tag_of(addr).map(|tag| place(tag, buf)),
        }
    }

    pub(crate) fn view<'a>(&self, buf: &'a [u8]) -> NameAddr<'a> {
        NameAddr {
            display: self.display.of(buf),
            uri: self.uri.of(buf),
            params: Params::new(self.params.of(buf)),
        }
    }

    pub(crate) fn tag<'a>(&self, buf: &'a [u8]) -> Option<&'a [u8]> {
        self.tag.map(|tag| tag.of(buf))
    }
}

/// A [`CSeq`] as places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CSeqAt {
    number: u32,
    pub(crate) method: Method,
    method_bytes: Place,
}

impl CSeqAt {
    fn of(cseq: &CSeq<'_>, buf: &[u8]) -> Self {
        let method_bytes = place(cseq.method_bytes, buf);
        Self { number: cseq.number, method: cseq.method, method_bytes }
    }

    pub(crate) fn view<'a>(&self, buf: &'a [u8]) -> CSeq<'a> {
        let method_bytes = self.method_bytes.of(buf);
        CSeq { number: self.number, method: self.method, method_bytes }
    }
}
