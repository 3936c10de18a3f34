//! Anycast: several nodes have one address, and a message may reach another node than the one
//! that knows its transaction. It is handed on over the cluster (capability `tm-repl`).
//!
//! Every request carries the id of its node in our Via, so that a reply finds the way back.

use std::net::SocketAddr;

use bytes::Bytes;
use tandem_bin::tm::{CancelParts, HandedOn, TmPacket, raw_source};
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
use tandem_sip::{Message, Method, sip_hash_of};

use crate::record::Event;
use crate::stats;
use crate::tm::Tm;

/// A message larger than a field of a packet is not handed on.
const MESSAGE_MAX: usize = 65_000;
/// Slots of the table of transactions of a stock node.
const STOCK_TRANSACTIONS: u32 = 65_536;

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
        let Some(message) = packed(&cx.node.sockets, &ctx.source, &ctx.msg) else { return false };
        let sent = self.tell(cx, [owner], &TmPacket::Reply(message)) > 0;
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
        let Some(message) = packed(&cx.node.sockets, source, msg) else { return false };
        if cx.is_handed_on() {
            return true;
        }
        if self.tell_all(cx, &TmPacket::AutoCancel(message, cancel_parts(msg))) == 0 {
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
        let Some(tx) = key.and_then(|key| self.live(key)) else { return false };
        let mut ctx = Ctx::new(msg.clone(), *source, Routes::REQUEST);
        reply_stateless(cx, &mut ctx, 200, b"canceling", b"", Leave::Now);
        let reason = reason.unwrap_or_else(|| crate::drive::reason_lines(&ctx));
        self.deliver(cx, &tx, Event::Cancel { reason });
        true
    }

    fn tell_all(&self, cx: &mut Cx<'_>, packet: &TmPacket) -> usize {
        let node = std::sync::Arc::clone(cx.node);
        self.tell(cx, node.membership().others(self.params.anycast.cluster), packet)
    }

    /// Sends a packet to nodes; how many could be told.
    fn tell(
        &self,
        cx: &mut Cx<'_>,
        nodes: impl IntoIterator<Item = u32>,
        packet: &TmPacket,
    ) -> usize {
        let Ok(payload) = packet.encode() else { return 0 };
        let (node, kind) = (std::sync::Arc::clone(cx.node), packet.packet_type());
        let sent = |to: &u32| node.membership().send_to(cx, *to, kind, &payload);
        nodes.into_iter().filter(sent).count()
    }

    /// A message that another node got.
    fn handed_on(&self, cx: &mut Cx<'_>, packet: &TmPacket) {
        let (TmPacket::Reply(message)
        | TmPacket::Request(message)
        | TmPacket::AutoCancel(message, _)) = packet;
        let Some((msg, source)) = unpacked(&cx.node.sockets, message) else {
            cx.log(Level::Info, "a message was handed on that no socket of this node can take");
            return;
        };
        match packet {
            TmPacket::Reply(_) if msg.is_reply() => {
                self.count(cx, stats::CLUSTER_REPLY_RECV);
                cx.take_message(msg, source);
            }
            TmPacket::Request(_) if msg.is_request() => {
                self.count(cx, stats::CLUSTER_REQUEST_RECV);
                cx.take_message(msg, source);
            }
            TmPacket::AutoCancel(_, parts) if msg.is_request() => {
                self.count(cx, stats::CLUSTER_CANCEL_RECV);
                self.cancel_here(cx, &msg, &source, Some(parts.reason.clone()));
            }
            _ => {}
        }
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
    let Some(message) = packed else { return Called::Returned(-2) };
    if tm.tell_all(call.cx, &TmPacket::Request(message)) == 0 {
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

/// The message of a packet; `None` if it is too large.
fn packed(sockets: &Sockets, source: &Source, msg: &Message) -> Option<HandedOn> {
    let socket = sockets.get(source.socket)?;
    let text = msg.as_bytes();
    if text.len() > MESSAGE_MAX {
        return None;
    }
    let host = socket.addr.ip().to_string();
    let tag = socket.tag.as_deref();
    Some(HandedOn {
        proto: number(socket.proto),
        socket: Bytes::copy_from_slice(tag.unwrap_or(&host).as_bytes()),
        port: if tag.is_some() { 0 } else { i32::from(socket.addr.port()) },
        raw_source: raw_source(source.addr.ip()),
        source_port: i32::from(source.addr.port()),
        message: [text, b"\0"].concat().into(),
    })
}

/// The message of a packet and where it came from; `None` if this node has no such socket.
fn unpacked(sockets: &Sockets, packet: &HandedOn) -> Option<(Message, Source)> {
    let (name, text) = (&packet.socket[..], &packet.message);
    let fits = |s: &Socket| {
        let tagged = s.tag.as_deref().is_some_and(|tag| tag.as_bytes() == name);
        let named = s.addr.ip().to_string().as_bytes() == name;
        let port = packet.port == 0 || i32::from(s.addr.port()) == packet.port;
        number(s.proto) == packet.proto && s.proto.is_sip() && (tagged || (named && port))
    };
    let (id, socket): (SocketId, &Socket) = sockets.iter().find(|(_, s)| fits(s))?;
    let msg = Message::parse(text.slice(..text.len() - usize::from(text.ends_with(b"\0")))).ok()?;
    let addr = SocketAddr::new(packet.source()?, u16::try_from(packet.source_port).ok()?);
    Some((msg, Source { addr, socket: id, local_ip: socket.addr.ip() }))
}

/// What the packet of a CANCEL has more: where the parts of the topmost Via stand, and the Reason.
fn cancel_parts(msg: &Message) -> CancelParts {
    let via = msg.top_via().ok();
    let text = msg.as_bytes();
    let mut reason = Vec::new();
    for header in msg.headers_by_text(b"Reason").take(1) {
        reason.extend_from_slice(header.line());
        reason.extend_from_slice(b"\r\n");
    }
    CancelParts {
        branch: via.as_ref().and_then(|v| offset(text, v.branch?)),
        host: via.as_ref().and_then(|v| offset(text, v.host)),
        transport: via.as_ref().and_then(|v| offset(text, v.transport_bytes)),
        via_port: via.as_ref().and_then(|v| v.port).map_or(0, i32::from),
        reason: reason.into(),
        hash_index: hash_index(msg),
    }
}

/// Where a stock node looks for the transaction: it looks nowhere else.
fn hash_index(msg: &Message) -> i32 {
    let (Some(call_id), Ok(cseq)) = (msg.call_id(), msg.cseq()) else { return 0 };
    let number = cseq.number.to_string();
    (sip_hash_of(&[call_id, number.as_bytes()]) % STOCK_TRANSACTIONS) as i32
}

/// Place and length of a part of a text.
fn offset(text: &[u8], part: &[u8]) -> Option<(i32, i32)> {
    let at = (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    (at < text.len()).then_some((at as i32, part.len() as i32))
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
        match TmPacket::decode(change.kind, &change.payload) {
            Ok(packet) => self.handed_on(cx, &packet),
            Err(error) => {
                cx.log(Level::Warning, format!("a packet of node {}: {error}", change.source));
            }
        }
    }

    fn merge(&self, _: &mut Cx<'_>, _: u32, _: Form, _: u16, _: Vec<Bytes>) {}

    fn snapshot(&self, _: &mut Cx<'_>, _: Form, _: Option<&[u8]>) -> Snapshot {
        Snapshot::default()
    }

    fn digests(&self, _: Now) -> Digests {
        Digests::default()
    }

    fn replay_since(&self, _: &mut Cx<'_>, _: u32, _: u64, _: &[u8]) -> Vec<(u32, u16, Bytes)> {
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
            let packed = packed(&sockets(), &source(socket, from), &msg).unwrap();
            let packet = TmPacket::AutoCancel(packed, cancel_parts(&msg));
            let read = TmPacket::decode(3, &packet.encode().unwrap()).unwrap();
            assert_eq!(read, packet);
            let TmPacket::AutoCancel(message, parts) = read else { panic!("another packet") };
            let (back, at) = unpacked(&sockets(), &message).unwrap();
            assert_eq!(back.as_bytes(), TEXT.as_bytes());
            assert_eq!((at.addr.to_string().as_str(), at.socket), (from, SocketId(socket)));
            assert_eq!(&parts.reason[..], b"Reason: Q.850;cause=16\r\n");
        }
    }

    #[test]
    fn the_parts_of_the_via_are_where_the_packet_says() {
        let msg = Message::parse(Bytes::from_static(TEXT.as_bytes())).unwrap();
        let parts = cancel_parts(&msg);
        let places = [parts.branch, parts.host, parts.transport].map(Option::unwrap);
        for ((at, length), expected) in places.into_iter().zip(["z9hG4bKx", "10.0.0.9", "UDP"]) {
            assert_eq!(&TEXT[at as usize..][..length as usize], expected);
        }
        assert_eq!(parts.via_port, 5070);
        let seen = TEXT.replace("Call-ID: x\r\nCSeq: 7", "Call-ID: anycast-1\r\nCSeq: 1");
        let seen = Message::parse(Bytes::from(seen)).unwrap();
        assert_eq!(cancel_parts(&seen).hash_index, 64_570);
    }

    proptest! {
        #[test]
        fn any_payload_gives_an_answer(kind in 1u32..4, payload: Vec<u8>) {
            if let Ok(TmPacket::Reply(message)) = TmPacket::decode(kind, &Bytes::from(payload)) {
                let _ = unpacked(&sockets(), &message);
            }
        }
    }
}
