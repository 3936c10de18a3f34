//! Anycast: several nodes have one address, and a message may reach another node than the one
//! that knows its transaction. It is handed on over the cluster (capability `tm-repl`).
//!
//! Every request carries the id of its node in our Via, so that a reply finds the way back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use tandem_bin::{Malformed, Reader, Writer};
use tandem_clock::Now;
use tandem_cluster::{Digests, Form, Snapshot};
use tandem_engine::context::{Ctx, Source};
use tandem_engine::log::Level;
use tandem_engine::module::{Call, Cx};
use tandem_engine::own_reply::{Leave, reply_stateless};
use tandem_engine::replication::{Incoming, Replicated};
use tandem_engine::sockets::{Proto, Socket, SocketId, Sockets};
use tandem_script::host::Called;
use tandem_script::sig::Routes;
use tandem_sip::{Message, Method};

use crate::record::Event;
use crate::stats;
use crate::tm::Tm;

/// Types of packets.
const REPLY: u32 = 1;
const REQUEST: u32 = 2;
const CANCEL: u32 = 3;

/// A message larger than a field of a packet is not handed on.
const MESSAGE_MAX: usize = 65_000;

/// `tm_replication_cluster` and what belongs to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Anycast {
    /// 0: off.
    pub(crate) cluster: u32,
    /// `cluster_param`: the Via parameter with the node's id.
    pub(crate) param: String,
    /// `cluster_auto_cancel`: CANCELs are dealt with here, and no script sees them.
    pub(crate) auto_cancel: bool,
}

impl Anycast {
    pub(crate) fn is_on(&self) -> bool {
        self.cluster != 0
    }
}

impl Tm {
    /// Notes the node's id in our Via.
    pub(crate) fn sign(&self, cx: &Cx<'_>, ctx: &mut Ctx) {
        if self.params.anycast.is_on() {
            let id = cx.node.membership().node_id();
            let text = format!(";{}={id}", self.params.anycast.param);
            ctx.own_via.params = Bytes::from(text);
        }
    }

    /// Hands a reply to the node that sent its request; `true` if it is not for this one.
    pub(crate) fn hand_back(&self, cx: &mut Cx<'_>, ctx: &Ctx) -> bool {
        let anycast = &self.params.anycast;
        if !anycast.is_on() {
            return false;
        }
        let Ok(via) = ctx.msg.top_via() else { return false };
        let value = via.params.get(anycast.param.as_bytes()).flatten();
        let owner = value.and_then(|v| std::str::from_utf8(v).ok()?.parse::<u32>().ok());
        let me = cx.node.membership().node_id();
        let Some(owner) = owner.filter(|owner| *owner != me) else { return false };
        // What was handed on once is not handed on again.
        if cx.is_handed_on() {
            return true;
        }
        let Some(payload) = packed(&cx.node.sockets, &ctx.source, &ctx.msg) else { return false };
        let Ok(payload) = payload.finish() else { return false };
        let sent = cx.node.clone().membership().send_to(cx, owner, REPLY, &payload);
        if sent {
            self.count(cx, stats::CLUSTER_REPLY_SENT);
        }
        sent
    }

    /// A CANCEL to an anycast socket: cancelled here, or told to every other node.
    pub(crate) fn cancel_anywhere(&self, cx: &mut Cx<'_>, msg: &Message, source: &Source) -> bool {
        if !self.params.anycast.is_on() || !self.params.anycast.auto_cancel {
            return false;
        }
        if self.cancel_here(cx, msg, source, None) {
            return true;
        }
        let Some(mut payload) = packed(&cx.node.sockets, source, msg) else { return false };
        if cx.is_handed_on() {
            return true;
        }
        push_cancel(&mut payload, msg);
        let Ok(payload) = payload.finish() else { return false };
        if self.tell_all(cx, CANCEL, &payload) == 0 {
            return false;
        }
        self.count(cx, stats::CLUSTER_CANCEL_SENT);
        true
    }

    /// Cancels the INVITE of a CANCEL if this node has it, and answers.
    fn cancel_here(
        &self,
        cx: &mut Cx<'_>,
        msg: &Message,
        source: &Source,
        reason: Option<Bytes>,
    ) -> bool {
        let key = self.key(msg, Method::Invite);
        let Some(tx) = key.and_then(|key| self.live(&key)) else { return false };
        let ctx = Ctx::new(msg.clone(), *source, Routes::REQUEST);
        reply_stateless(cx, &ctx, 200, b"canceling", b"", Leave::Now);
        let reason = reason.unwrap_or_else(|| crate::drive::reason_lines(&ctx));
        self.deliver(cx, &tx, Event::Cancel { reason });
        true
    }

    fn tell_all(&self, cx: &mut Cx<'_>, kind: u32, payload: &Bytes) -> usize {
        let node = std::sync::Arc::clone(cx.node);
        let others = node.membership().others(self.params.anycast.cluster);
        others.into_iter().filter(|to| node.membership().send_to(cx, *to, kind, payload)).count()
    }

    /// A message that another node got.
    fn handed_on(&self, cx: &mut Cx<'_>, kind: u32, payload: Bytes) -> Result<(), Malformed> {
        let mut reader = Reader::new(payload);
        let Some((msg, source)) = unpacked(&cx.node.sockets, &mut reader)? else {
            cx.log(Level::Info, "a message was handed on that no socket of this node can take");
            return Ok(());
        };
        match kind {
            REPLY if msg.is_reply() => {
                self.count(cx, stats::CLUSTER_REPLY_RECV);
                cx.take_message(msg, source);
            }
            REQUEST if msg.is_request() => {
                self.count(cx, stats::CLUSTER_REQUEST_RECV);
                cx.take_message(msg, source);
            }
            CANCEL if msg.is_request() => {
                self.count(cx, stats::CLUSTER_CANCEL_RECV);
                let reason = cancel_reason(&mut reader)?;
                self.cancel_here(cx, &msg, &source, Some(reason));
            }
            _ => {}
        }
        Ok(())
    }
}

/// `t_anycast_replicate()`: a CANCEL or ACK without a transaction here goes to all nodes.
pub(crate) fn t_anycast_replicate(call: &mut Call<'_, '_, '_>) -> Called {
    let Some(tm) = call.state::<Tm>() else { return Called::Returned(-1) };
    let method = call.ctx.msg.method();
    let anycast = call.cx.node.sockets.get(call.ctx.source.socket).is_some_and(|s| s.anycast);
    let fits = matches!(method, Method::Ack | Method::Cancel) && anycast;
    if !tm.params.anycast.is_on() || !fits || call.cx.is_handed_on() {
        return Called::Returned(-2);
    }
    if tm.invite_of(call.ctx).is_some() {
        return Called::Returned(-3);
    }
    let packed = packed(&call.cx.node.sockets, &call.ctx.source, &call.ctx.msg);
    let Some(Ok(payload)) = packed.map(Writer::finish) else { return Called::Returned(-2) };
    if tm.tell_all(call.cx, REQUEST, &payload) == 0 {
        return Called::Returned(-2);
    }
    tm.count(call.cx, stats::CLUSTER_REQUEST_SENT);
    Called::Returned(1)
}

fn number(proto: Proto) -> i32 {
    match proto {
        Proto::Udp => 1,
        Proto::Tcp | Proto::Bin => 2,
    }
}

/// The common fields of a packet; `None` if the message is too large.
fn packed(sockets: &Sockets, source: &Source, msg: &Message) -> Option<Writer> {
    let socket = sockets.get(source.socket)?;
    let text = msg.as_bytes();
    if text.len() > MESSAGE_MAX {
        return None;
    }
    let mut w = Writer::payload();
    w.int(number(socket.proto));
    let host = socket.addr.ip().to_string();
    let tag = socket.tag.as_deref();
    w.str(tag.unwrap_or(&host).as_bytes());
    w.int(if tag.is_some() { 0 } else { i32::from(socket.addr.port()) });
    w.str(&raw_address(source.addr.ip()));
    w.int(i32::from(source.addr.port()));
    w.str(&[text, b"\0"].concat());
    Some(w)
}

/// Family, length and 16 bytes, as a machine of the field keeps them.
fn raw_address(ip: IpAddr) -> Vec<u8> {
    let (family, length, bytes): (i32, i32, Vec<u8>) = match ip {
        IpAddr::V4(ip) => (2, 4, ip.octets().to_vec()),
        IpAddr::V6(ip) => (10, 16, ip.octets().to_vec()),
    };
    let mut raw = [family.to_le_bytes(), length.to_le_bytes()].concat();
    raw.extend_from_slice(&bytes);
    raw.resize(24, 0);
    raw
}

fn address(raw: &[u8]) -> Option<IpAddr> {
    let family = i32::from_le_bytes(raw.get(..4)?.try_into().ok()?);
    match family {
        2 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(raw.get(8..12)?).ok()?).into()),
        10 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(raw.get(8..24)?).ok()?).into()),
        _ => None,
    }
}

/// The message of a packet and where it came from; `None` if this node has no such socket.
fn unpacked(
    sockets: &Sockets,
    reader: &mut Reader,
) -> Result<Option<(Message, Source)>, Malformed> {
    let proto = reader.int("protocol")?;
    let name = reader.str("destination")?;
    let port = reader.int("destination port")?;
    let from = reader.str("source address")?;
    let from_port = reader.int("source port")?;
    let text = reader.str("message")?;
    let fits = |s: &Socket| {
        let tagged = s.tag.as_deref().is_some_and(|tag| tag.as_bytes() == &name[..]);
        let named = s.addr.ip().to_string().as_bytes() == &name[..];
        let port = port == 0 || i32::from(s.addr.port()) == port;
        number(s.proto) == proto && s.proto.is_sip() && (tagged || (named && port))
    };
    let socket: Option<(SocketId, &Socket)> = sockets.iter().find(|(_, s)| fits(s));
    let text = text.slice(..text.len() - usize::from(text.ends_with(b"\0")));
    let addr = address(&from).zip(u16::try_from(from_port).ok());
    let (Some((id, socket)), Some((ip, port)), Ok(msg)) = (socket, addr, Message::parse(text))
    else {
        return Ok(None);
    };
    let addr = SocketAddr::new(ip, port);
    Ok(Some((msg, Source { addr, socket: id, local_ip: socket.addr.ip() })))
}

/// What a packet of type 3 has more: where the parts of the topmost Via stand, the Reason, and a
/// hash that means something to its sender only.
fn push_cancel(w: &mut Writer, msg: &Message) {
    let via = msg.top_via().ok();
    let text = msg.as_bytes();
    let place = |part: Option<&[u8]>| part.map_or((0, 0), |p| offset(text, p));
    let (branch, host) = (via.as_ref().and_then(|v| v.branch), via.as_ref().map(|v| v.host));
    let transport = via.as_ref().map(|v| v.transport_bytes);
    for (at, length) in [place(branch), place(host), place(transport)] {
        w.int(at);
        if at != 0 {
            w.int(length);
        }
    }
    w.int(via.as_ref().and_then(|v| v.port).map_or(0, i32::from));
    let mut reason = Vec::new();
    for header in msg.headers_by_text(b"Reason").take(1) {
        reason.extend_from_slice(header.line());
        reason.extend_from_slice(b"\r\n");
    }
    w.str(&reason);
    w.int(0);
}

/// Place and length of a part of a text.
fn offset(text: &[u8], part: &[u8]) -> (i32, i32) {
    let at = (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    if at < text.len() { (at as i32, part.len() as i32) } else { (0, 0) }
}

fn cancel_reason(reader: &mut Reader) -> Result<Bytes, Malformed> {
    for field in ["Via branch", "Via host", "Via transport"] {
        if reader.int(field)? != 0 {
            reader.int(field)?;
        }
    }
    reader.int("Via port")?;
    reader.str("reason")
}

/// The capability has messages and no records.
impl Replicated for Tm {
    fn capability(&self) -> &'static str {
        "tm-repl"
    }

    fn cluster(&self) -> u32 {
        self.params.anycast.cluster
    }

    fn startup_sync(&self) -> bool {
        false
    }

    fn apply(&self, cx: &mut Cx<'_>, change: Incoming) {
        if let Err(error) = self.handed_on(cx, change.kind, change.payload) {
            cx.log(Level::Warning, format!("a packet of node {}: {error}", change.source));
        }
    }

    fn merge(&self, _: &mut Cx<'_>, _: u32, _: Form, _: u16, _: Vec<Bytes>) {}

    fn snapshot(&self, _: &mut Cx<'_>, _: Form, _: Option<&[u8]>) -> Snapshot {
        Snapshot::default()
    }

    fn digests(&self, _: Now) -> Digests {
        Digests::default()
    }

    fn replay_since(&self, _: &mut Cx<'_>, _: u64, _: &[u8]) -> Vec<(u32, u16, Bytes)> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sockets() -> Sockets {
        let addr = "127.0.0.1:5060".parse().unwrap();
        let tagged = Some("shared".to_owned());
        let other = Socket::new(Proto::Udp, "127.0.0.2:5060".parse().unwrap(), None, None);
        Sockets::new(vec![Socket::new(Proto::Udp, addr, None, tagged), other], Vec::new())
    }

    const TEXT: &str = "CANCEL sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5070;branch=z9hG4bKx\r\n\
        From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: x\r\nCSeq: 7 CANCEL\r\n\
        Reason: Q.850;cause=16\r\nContent-Length: 0\r\n\r\n";

    fn source(socket: u16, from: &str) -> Source {
        let addr: SocketAddr = from.parse().unwrap();
        Source { addr, socket: SocketId(socket), local_ip: addr.ip() }
    }

    #[test]
    fn what_is_packed_is_unpacked_on_another_node() {
        let msg = Message::parse(Bytes::from_static(TEXT.as_bytes())).unwrap();
        for (socket, from) in [(0, "10.0.0.9:5070"), (1, "[2001:db8::1]:5060")] {
            let mut payload = packed(&sockets(), &source(socket, from), &msg).unwrap();
            push_cancel(&mut payload, &msg);
            let mut reader = Reader::new(payload.finish().unwrap());
            let (back, at) = unpacked(&sockets(), &mut reader).unwrap().unwrap();
            assert_eq!(back.as_bytes(), TEXT.as_bytes());
            assert_eq!((at.addr.to_string().as_str(), at.socket), (from, SocketId(socket)));
            let reason = cancel_reason(&mut reader).unwrap();
            assert_eq!(&reason[..], b"Reason: Q.850;cause=16\r\n");
            assert_eq!(reader.int("hash").unwrap(), 0);
        }
    }

    #[test]
    fn the_parts_of_the_via_are_where_the_packet_says() {
        let msg = Message::parse(Bytes::from_static(TEXT.as_bytes())).unwrap();
        let mut w = Writer::payload();
        push_cancel(&mut w, &msg);
        let mut reader = Reader::new(w.finish().unwrap());
        for expected in ["z9hG4bKx", "10.0.0.9", "UDP"] {
            let at = reader.int("offset").unwrap() as usize;
            let length = reader.int("length").unwrap() as usize;
            assert_eq!(&TEXT[at..at + length], expected);
        }
        assert_eq!(reader.int("port").unwrap(), 5070);
    }

    proptest! {
        #[test]
        fn any_payload_gives_an_answer(payload: Vec<u8>) {
            let mut reader = Reader::new(Bytes::from(payload));
            let _ = unpacked(&sockets(), &mut reader);
            let _ = cancel_reason(&mut reader);
        }
    }
}
