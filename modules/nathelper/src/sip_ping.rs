//! SIP requests as pings, and their replies.
//!
//! The Call-ID of a ping says whom it is for, so that its reply is understood by whichever node
//! it reaches: the contact id is the same on all of them.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tandem_engine::module::Cx;
use tandem_engine::node::Node;
use tandem_engine::sockets::SocketId;
use tandem_engine::transport::via_line;
use tandem_sip::{Glance, Message, NameAddr, glance};
use tandem_usrloc::store::{Contact, Place, Text};
use tandem_usrloc::{Leave, Table};

use crate::Nathelper;
use crate::params::Params;
use crate::ping::has;

/// How the Call-ID of a ping begins.
const MARK: &str = "nping-";
/// How the branch of its Via begins (RFC 3261 8.1.1.7).
const COOKIE: &[u8] = b"z9hG4bK";
/// Stands in for the rest of the branch.
const BLANK: &[u8] = b"z9hG4bK****************";
/// Texts of requests that are kept ready, at most.
const TEMPLATES_MAX: usize = 64;
/// Requests are written behind each other into pieces of this size.
const ARENA_BYTES: usize = 16 * 1024;

/// What does not change from one request to the next, by socket and table.
#[derive(Debug, Default)]
pub(crate) struct Templates(Mutex<Vec<OfSocket>>);

type OfSocket = (SocketId, Arc<Table>, Arc<Template>);

/// A request in the pieces between what is its own.
#[derive(Debug)]
struct Template {
    /// Method and space.
    method: Vec<u8>,
    /// From the version to the branch.
    via: Vec<u8>,
    /// Behind the branch: the end of the line.
    via_end: Vec<u8>,
    /// From Max-Forwards to the From tag.
    from: Vec<u8>,
    /// Behind the Call-ID's numbers.
    end: Vec<u8>,
}

impl Template {
    fn new(params: &Params, node: &Node, socket: SocketId, table: &str) -> Self {
        let (method, from) = (&params.method, params.from.as_deref().unwrap_or_default());
        let line = via_line(node, socket, BLANK);
        let at = line.windows(BLANK.len()).position(|w| w == BLANK).unwrap_or(0);
        let (before, rest) = line.split_at(at);
        let host = node.sockets.get(socket).map(|s| s.addr.ip().to_string()).unwrap_or_default();
        Self {
            method: format!("{method} ").into_bytes(),
            via: [b" SIP/2.0\r\n", before, COOKIE].concat(),
            via_end: rest.get(BLANK.len()..).unwrap_or_default().to_vec(),
            from: format!("Max-Forwards: 70\r\nFrom: <{from}>;tag=").into_bytes(),
            end: format!("-{table}@{host}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n")
                .into_bytes(),
        }
    }

    fn write(&self, (contact, place, once): (&Contact, Place, u64), arena: &mut BytesMut) -> Bytes {
        let (uri, path) = (contact.uri(), contact.text(Text::Path));
        let (id, hint) = (hex(contact.id), hex(place.number() << 16 | once & 0xffff));
        let once = hex(once);
        let route: [&[u8]; 3] =
            if path.is_empty() { [b"", b"", b""] } else { [b"Route: ", path, b"\r\n"] };
        let call_id: &[u8] = b">\r\nCall-ID: ";
        let parts = [
            &self.method,
            uri,
            &self.via,
            &once,
            &self.via_end,
            route[0],
            route[1],
            route[2],
            &self.from,
            &id,
            b"\r\nTo: <",
            uri,
            call_id,
            MARK.as_bytes(),
            &id,
            b"-",
            &hint,
            &self.end,
        ];
        let length = parts.iter().map(|part| part.len()).sum();
        if arena.capacity() < length {
            arena.reserve(length.max(ARENA_BYTES));
        }
        parts.into_iter().for_each(|part| arena.put_slice(part));
        arena.split().freeze()
    }
}

/// Sixteen digits.
fn hex(n: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 16];
    for (at, digit) in out.iter_mut().enumerate() {
        let nibble = n >> (60 - 4 * at) & 0xf;
        *digit = DIGITS[nibble as usize];
    }
    out
}

impl Nathelper {
    /// The request to a contact; the leave is the proof that this node is to send it.
    pub(crate) fn request(
        &self,
        cx: &mut Cx<'_>,
        (node, arena): (&Node, &mut BytesMut),
        socket: SocketId,
        (table, contact, place): (&Arc<Table>, &Contact, Place),
        _: &Leave<'_>,
    ) -> Bytes {
        let once = cx.worker.chance.u64();
        self.template(node, socket, table).write((contact, place, once), arena)
    }

    fn template(&self, node: &Node, socket: SocketId, table: &Arc<Table>) -> Arc<Template> {
        let mut known = self.pings.templates.0.lock();
        let found = known.iter().find(|(s, t, _)| *s == socket && Arc::ptr_eq(t, table));
        if let Some((.., template)) = found {
            return Arc::clone(template);
        }
        if known.len() >= TEMPLATES_MAX {
            known.clear();
        }
        let template = Arc::new(Template::new(&self.params, node, socket, table.name()));
        known.push((socket, Arc::clone(table), Arc::clone(&template)));
        template
    }

    /// Deals with a reply to a ping; false: it is none.
    pub(crate) fn take_reply(&self, cx: &mut Cx<'_>, msg: &Message) -> bool {
        let (Some(call_id), Ok(cseq)) = (msg.call_id(), msg.cseq()) else { return false };
        self.take(cx, Glance { status: msg.status(), call_id, method: cseq.method_bytes })
    }

    /// The same before the reply is read.
    pub(crate) fn take_early(&self, cx: &mut Cx<'_>, bytes: &[u8]) -> bool {
        memchr::memmem::find(bytes, MARK.as_bytes()).is_some()
            && glance(bytes).is_some_and(|seen| self.take(cx, seen))
    }

    fn take(&self, cx: &mut Cx<'_>, reply: Glance<'_>) -> bool {
        let Some((id, near, table)) = coordinates(reply.call_id) else { return false };
        let Some(usrloc) = &self.usrloc else { return false };
        if reply.method != self.params.method.as_bytes() {
            return false;
        }
        let Some(table) = usrloc.table(table) else { return false };
        let matters = self.params.latency_flag.is_some() || self.params.remove_flag.is_some();
        // A provisional reply shows as well that somebody is there.
        if matters && !self.params.ignored_codes.contains(&reply.status) {
            let measures = |contact: &Contact| has(contact, self.params.latency_flag.as_ref());
            usrloc.ping_answered(cx, &table, (id, near), measures);
        }
        true
    }
}

/// Contact id, place and table of the Call-ID of a ping. Another node's place says nothing here.
fn coordinates(call_id: &[u8]) -> Option<(u64, Place, &str)> {
    let rest = std::str::from_utf8(call_id).ok()?.strip_prefix(MARK)?;
    let (id, rest) = rest.split_once('-')?;
    let (hint, rest) = rest.split_once('-')?;
    let (table, _) = rest.split_once('@')?;
    let hint = u64::from_str_radix(hint, 16).unwrap_or(0) >> 16;
    Some((u64::from_str_radix(id, 16).ok()?, Place::from_number(hint), table))
}

/// The URI of the first address of a stored Path.
pub(crate) fn first_hop(path: &[u8]) -> Option<&[u8]> {
    let end = path.iter().position(|b| *b == b'>').map_or(path.len(), |at| at + 1);
    let first = path.get(..end).filter(|p| !p.is_empty())?;
    NameAddr::parse(first).ok().map(|addr| addr.uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_id_of_a_ping_says_whom_it_is_for() {
        let id = b"nping-00000000000000ff-0123456789abcdef-my-table@10.0.0.1";
        let place = Place::from_number(0x0123_4567_89ab);
        assert_eq!(coordinates(id), Some((255, place, "my-table")));
        for other in [&b"nping-xx-1-t@h"[..], b"nping-1", b"nping-1-2", b"call@h", b"\xff"] {
            assert_eq!(coordinates(other), None);
        }
        assert_eq!(first_hop(b"<sip:p1;lr>,<sip:p2;lr>"), Some(&b"sip:p1;lr"[..]));
        assert_eq!(first_hop(b""), None);
    }

    #[test]
    fn numbers_have_sixteen_digits() {
        assert_eq!(&hex(0xff), b"00000000000000ff");
        assert_eq!(&hex(u64::MAX - 0xe), b"fffffffffffffff1");
    }
}
