//! SIP requests as pings, and their replies.
//!
//! The Call-ID of a ping says whom it is for, so that its reply is understood by whichever node
//! it reaches: the contact id is the same on all of them.

use std::sync::Arc;

use bytes::Bytes;
use tandem_engine::effect::Send;
use tandem_engine::module::Cx;
use tandem_engine::transport::{Hop, via_line};
use tandem_sip::{Message, NameAddr};
use tandem_usrloc::store::{Contact, Text};
use tandem_usrloc::{Leave, Table, Usrloc};

use crate::Nathelper;
use crate::ping::has;

/// How the Call-ID of a ping begins.
const MARK: &str = "nping-";

impl Nathelper {
    /// The request to a contact; `_leave` is the proof that this node is to send it. `None`: no
    /// socket leads there.
    pub(crate) fn sip_ping(
        &self,
        cx: &mut Cx<'_>,
        usrloc: &Usrloc,
        (table, contact): (&Table, &Contact),
        (hop, from): (Hop, &str),
        _leave: &Leave<'_>,
    ) -> Option<Send> {
        let socket = self.way(cx, hop, self.socket(cx, usrloc, contact))?;
        let payload = self.write(cx, socket, table.name(), contact, from);
        Some(Send { socket, to: hop.addr, payload, ticket: 0 })
    }

    fn write(
        &self,
        cx: &mut Cx<'_>,
        socket: tandem_engine::sockets::SocketId,
        table: &str,
        contact: &Contact,
        from: &str,
    ) -> Bytes {
        let (method, uri, path) = (&self.params.method, contact.uri(), contact.text(Text::Path));
        let once = (u64::from(cx.worker.chance.u32()) << 32) | u64::from(cx.worker.chance.u32());
        let branch = format!("z9hG4bK{once:016x}");
        let host = cx.node.sockets.get(socket).map(|s| s.addr.ip().to_string());
        let mut out = Vec::with_capacity(512);
        for part in [method.as_bytes(), b" ", uri, b" SIP/2.0\r\n"] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&via_line(cx.node, socket, branch.as_bytes()));
        if !path.is_empty() {
            out.extend_from_slice(b"Route: ");
            out.extend_from_slice(path);
            out.extend_from_slice(b"\r\n");
        }
        let (id, host) = (contact.id, host.unwrap_or_default());
        out.extend_from_slice(
            format!("Max-Forwards: 70\r\nFrom: <{from}>;tag={id:016x}\r\nTo: <").as_bytes(),
        );
        out.extend_from_slice(uri);
        let rest = format!(
            ">\r\nCall-ID: {MARK}{id:016x}-{once:016x}-{table}@{host}\r\nCSeq: 1 {method}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        out.extend_from_slice(rest.as_bytes());
        Bytes::from(out)
    }

    /// Deals with a reply to a ping; false: it is none.
    pub(crate) fn take_reply(&self, cx: &mut Cx<'_>, msg: &Message) -> bool {
        let Some((id, table)) = msg.call_id().and_then(coordinates) else { return false };
        let Some(usrloc) = &self.usrloc else { return false };
        let Some(table) = usrloc.table(table) else { return false };
        let is_ours = msg.cseq().is_ok_and(|c| c.method_bytes == self.params.method.as_bytes());
        if !is_ours {
            return false;
        }
        // A provisional reply shows as well that somebody is there.
        if !self.params.ignored_codes.contains(&msg.status()) {
            let measures = |contact: &Contact| has(contact, self.params.latency_flag.as_ref());
            let table: &Arc<Table> = &table;
            usrloc.ping_answered(cx, table, id, measures);
        }
        true
    }
}

/// Contact id and table of the Call-ID of a ping.
fn coordinates(call_id: &[u8]) -> Option<(u64, &str)> {
    let rest = std::str::from_utf8(call_id).ok()?.strip_prefix(MARK)?;
    let (id, rest) = rest.split_once('-')?;
    let (_, rest) = rest.split_once('-')?;
    let (table, _) = rest.split_once('@')?;
    Some((u64::from_str_radix(id, 16).ok()?, table))
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
        assert_eq!(coordinates(id), Some((255, "my-table")));
        for other in [&b"nping-xx-1-t@h"[..], b"nping-1", b"nping-1-2", b"call@h", b"\xff"] {
            assert_eq!(coordinates(other), None);
        }
        assert_eq!(first_hop(b"<sip:p1;lr>,<sip:p2;lr>"), Some(&b"sip:p1;lr"[..]));
        assert_eq!(first_hop(b""), None);
    }
}
