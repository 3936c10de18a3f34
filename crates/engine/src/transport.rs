//! Where messages go: next hops, replies of our own, replies that only pass through.

use std::borrow::Cow;
use std::net::SocketAddr;

use bytes::Bytes;
use tandem_dns::Protocol;
use tandem_sip::{
    Edits, HeaderName, Message, NameAddr, Received, Rport, Transport, Uri, Via, ViaLine, add_via,
    mark_received, remove_top_via, write,
};

use crate::context::{Branch, Ctx, OwnVia, RecordRoute, Source};
pub use crate::core::sending::{first_allowed, is_allowed};

use crate::core::stat;
use crate::effect::Send;
use crate::log::Level;
use crate::module::Cx;
use crate::node::Node;
use crate::sockets::{Proto, SocketId, Sockets};

/// Why a request cannot be sent anywhere, found before anything is sent (decisions: "Sends").
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// Answered with 475.
    #[error("the URI of the next hop cannot be read")]
    BadUri,
    /// Answered with 416 (RFC 3261 16.3).
    #[error("the scheme of the next hop's URI leads nowhere from here")]
    UnknownScheme,
    /// Answered with 476.
    #[error("the host of the next hop has no address")]
    Unresolvable,
    /// Answered with 473.
    #[error("every address of the next hop is in a blacklist")]
    Blacklisted,
    /// Answered with 477.
    #[error("this node has no socket for the transport or address family of the next hop")]
    NoSocket,
    /// Answered with 400.
    #[error("the request lacks what every request must have")]
    Unfit,
}

/// A request ready to leave.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub bytes: Bytes,
    pub to: SocketAddr,
    pub socket: SocketId,
}

/// How many Record-Routes of this node [`prepare_request_to`] writes for a socket.
pub fn own_record_routes(ctx: &Ctx, to: SocketId) -> usize {
    let wanted = ctx.record_route.as_ref().filter(|route| route.wanted);
    wanted.map_or(0, |route| match route.preset.len() {
        0 => 1 + usize::from(route.double && ctx.source.socket != to),
        preset => preset,
    })
}

/// Whether a reply's topmost Via is one of ours (RFC 3261 18.1.2).
pub(crate) fn is_our_reply(node: &Node, msg: &Message) -> bool {
    let Ok(via) = msg.top_via() else { return false };
    let port = via.port_or_default();
    let ip = via.host_ip();
    node.sockets.every().filter(|(_, socket)| socket.proto.is_sip()).any(|(_, socket)| {
        let advertised = socket.advertised.as_ref();
        let own = ip == Some(socket.addr.ip()) && port == socket.addr.port();
        own || advertised
            .is_some_and(|(host, p)| *p == port && host.as_bytes().eq_ignore_ascii_case(via.host))
    }) || node.advertised.read().iter().any(|own| {
        let host = own.host.as_ref().is_none_or(|h| h.eq_ignore_ascii_case(via.host));
        host && own.port.is_none_or(|p| p == port)
    })
}

/// The branch of a request that is forwarded without a transaction: the same for every
/// retransmission, and for an ACK or CANCEL that belongs to it (RFC 3261 16.11).
pub fn stateless_branch(node: &Node, msg: &Message) -> String {
    let below = msg.top_via().ok().map(|via| via.branch.unwrap_or_default());
    let key = (below, msg.call_id(), msg.cseq().map(|c| c.number).ok());
    format!("z9hG4bK{:016x}.0", node.tag_key.hash_one(key))
}

/// Where the reply to a request goes (RFC 3261 18.2.2, RFC 3581 4).
pub fn reply_target(
    sockets: &Sockets,
    msg: &Message,
    source: &Source,
    force_rport: bool,
) -> SocketAddr {
    // RFC 3261 18.2.2: over a connection it goes back where the request came from.
    if force_rport || sockets.is_reliable(source.socket) {
        return source.addr;
    }
    let Ok(via) = msg.top_via() else { return source.addr };
    if via.rport != Rport::Absent {
        return source.addr;
    }
    SocketAddr::new(source.addr.ip(), via.port_or_default())
}

/// Where a reply that passes through goes next, by the Via that is topmost then.
pub fn via_target(via: &Via<'_>) -> Option<Hop> {
    let proto = proto_of(via.transport.unwrap_or(Transport::Udp))?;
    let ip = via.received_ip().or_else(|| via.host_ip())?;
    let port = match via.rport {
        Rport::Port(port) => port,
        _ => via.port_or_default(),
    };
    Some(Hop { addr: SocketAddr::new(ip, port), proto })
}

/// A destination that the DNS has found; `None`: no socket speaks this.
pub(crate) fn hop_of(protocol: Protocol, addr: SocketAddr) -> Option<Hop> {
    let proto = match protocol {
        Protocol::Udp => Proto::Udp,
        Protocol::Tcp => Proto::Tcp,
        Protocol::Tls => return None,
    };
    Some(Hop { addr, proto })
}

/// A transport as the DNS knows it.
pub(crate) fn protocol_of(transport: Transport) -> Option<Protocol> {
    match transport {
        Transport::Udp => Some(Protocol::Udp),
        Transport::Tcp => Some(Protocol::Tcp),
        _ => None,
    }
}

/// Where a request goes next, and over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub addr: SocketAddr,
    pub proto: Proto,
}

/// The protocol of sockets for a transport of SIP; `None`: there are none.
fn proto_of(transport: Transport) -> Option<Proto> {
    match transport {
        Transport::Udp => Some(Proto::Udp),
        Transport::Tcp => Some(Proto::Tcp),
        _ => None,
    }
}

/// The address a URI names, to be reached over UDP.
///
/// # Errors
/// See [`HopError`].
pub fn uri_target(uri: &[u8]) -> Result<SocketAddr, HopError> {
    let hop = uri_hop(uri)?;
    if hop.proto == Proto::Udp { Ok(hop.addr) } else { Err(HopError::NoSocket) }
}

/// The address a URI names, and the transport to it.
///
/// # Errors
/// See [`HopError`].
pub fn uri_hop(uri: &[u8]) -> Result<Hop, HopError> {
    let uri = Uri::parse(uri).map_err(|_| HopError::BadUri)?;
    if !uri.is_sip() || uri.is_sips() {
        let secure = uri.is_sips();
        return Err(if secure { HopError::NoSocket } else { HopError::UnknownScheme });
    }
    // The first of each name counts.
    let (mut transport, mut maddr) = (None, None);
    for param in uri.params {
        if param.name.eq_ignore_ascii_case(b"transport") {
            transport.get_or_insert(param.value);
        } else if param.name.eq_ignore_ascii_case(b"maddr") {
            maddr.get_or_insert(param.value);
        }
    }
    let proto = match transport {
        None => Proto::Udp,
        Some(name) => name.and_then(Transport::of).and_then(proto_of).ok_or(HopError::NoSocket)?,
    };
    let ip = match maddr.flatten().and_then(|m| std::str::from_utf8(m).ok()) {
        Some(maddr) => maddr.trim_matches(['[', ']']).parse().ok(),
        None => uri.host_ip(),
    };
    let addr = SocketAddr::new(ip.ok_or(HopError::Unresolvable)?, uri.port.unwrap_or(5060));
    Ok(Hop { addr, proto })
}

/// The URI of a branch's next hop: `$du`, else the first Path, else the R-URI. A Route of the message
/// is for `loose_route()` to follow: a stranger must not choose where his first request goes.
///
/// # Errors
/// If a Path cannot be read.
pub fn next_uri<'a>(ctx: &'a Ctx, branch: &'a Branch) -> Result<&'a [u8], HopError> {
    if let Some(uri) = &branch.dst_uri {
        return Ok(uri);
    }
    if !branch.path().is_empty() {
        let first = NameAddr::parse(first_value(branch.path()));
        return Ok(first.map_err(|_| HopError::BadUri)?.uri);
    }
    Ok(branch.uri.as_deref().unwrap_or_else(|| ctx.request_uri()))
}

/// The next hop of a branch, if it is an address.
///
/// # Errors
/// See [`HopError`].
pub fn next_hop(ctx: &Ctx, branch: &Branch) -> Result<Hop, HopError> {
    uri_hop(next_uri(ctx, branch)?)
}

/// The first of values with commas between them.
pub fn first_value(list: &[u8]) -> &[u8] {
    let mut depth = 0u32;
    for (at, byte) in list.iter().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return list.get(..at).unwrap_or(list),
            _ => {}
        }
    }
    list
}

/// Writes the request of a branch as it leaves: R-URI, Route from the contact's Path, the source
/// noted in the sender's Via, our own Via with `via_branch` on top.
///
/// # Errors
/// See [`HopError`].
pub fn prepare_request(
    node: &Node,
    ctx: &Ctx,
    branch: &Branch,
    via_branch: &[u8],
) -> Result<Prepared, HopError> {
    prepare_request_to(node, ctx, branch, via_branch, next_hop(ctx, branch)?)
}

/// The same to a hop that was found before.
///
/// # Errors
/// If there is no socket for it.
pub fn prepare_request_to(
    node: &Node,
    ctx: &Ctx,
    branch: &Branch,
    via_branch: &[u8],
    hop: Hop,
) -> Result<Prepared, HopError> {
    if ctx.is_unfit {
        return Err(HopError::Unfit);
    }
    let Hop { addr: to, proto } = hop;
    let chosen = branch.socket.or(ctx.target.socket);
    let preferred = chosen.unwrap_or_else(|| node.sockets.leaving(ctx.source.socket, to));
    let socket = node.sockets.toward_by(proto, to, Some(preferred)).ok_or(HopError::NoSocket)?;
    let socket = node.streams.face(socket, to);
    let only_open = branch.flags & node.streams.settings.no_new_conn != 0;
    if only_open && proto.is_reliable() && !node.streams.leads_to(socket, to) {
        return Err(HopError::NoSocket);
    }
    // Beside the URI and the Route: Record-Route, Path, two notes on the source, our Via.
    let mut edits = ctx.edits.with_room(7);
    if let Some(hides) = &ctx.hides {
        let module = node.modules.get(usize::from(hides.slot)).and_then(|s| s.state.as_ref());
        if let Some(module) = module {
            let sockets = (ctx.source.socket, socket);
            module.hide_sender(node, hides, sockets, &ctx.msg, &mut edits);
        }
    }
    let uri = branch.uri.as_ref().or(ctx.target.uri.as_ref());
    if let Some(uri) = uri {
        edits.set_request_uri(&ctx.msg, uri.clone());
    }
    if !branch.path().is_empty() {
        let line = [b"Route: ", &branch.path()[..], b"\r\n"].concat();
        edits.prepend_header(&ctx.msg, line);
    }
    if let Some(route) = ctx.record_route.as_ref().filter(|route| route.wanted) {
        let lines = own_route_lines("Record-Route", node, ctx, route, socket);
        edits.prepend_header(&ctx.msg, lines);
    }
    if let Some(path) = &ctx.own_path {
        let lines = own_route_lines("Path", node, ctx, path, socket);
        edits.prepend_header(&ctx.msg, lines);
    }
    // The port tells a reply without a transaction which connection it belongs to.
    let add_rport = ctx.force_rport || node.sockets.is_reliable(ctx.source.socket);
    // A Via that cannot be read was refused before the script ran.
    let _ = mark_received(&ctx.msg, &mut edits, &received(&ctx.source, add_rport));
    let own = via_line_as(node, socket, via_branch, &ctx.own_via);
    add_via(&ctx.msg, &mut edits, own);
    Ok(Prepared { bytes: written(&ctx.msg, &edits), to, socket })
}

/// The Record-Route or Path headers of a request that leaves from socket `to`: one, or two with
/// the nearer to the next hop first (RFC 5658 3).
fn own_route_lines(
    name: &str,
    node: &Node,
    ctx: &Ctx,
    route: &RecordRoute,
    to: SocketId,
) -> Vec<u8> {
    let from = ctx.source.socket;
    let two = route.double && from != to;
    let places: Vec<(Cow<'_, [u8]>, bool)> = match route.preset.as_slice() {
        [] => [to, from]
            .into_iter()
            .skip(usize::from(!two))
            .map(|socket| {
                let sent_by = sent_by(node, socket, &ctx.own_via).into_owned().into_bytes();
                (Cow::Owned(sent_by), node.sockets.is_reliable(socket))
            })
            .collect(),
        preset => preset.iter().rev().map(|text| (Cow::Borrowed(&text[..]), false)).collect(),
    };
    let mut lines = Vec::with_capacity(192);
    for (place, reliable) in &places {
        lines.extend_from_slice(name.as_bytes());
        lines.extend_from_slice(b": <sip:");
        if !route.user.is_empty() {
            lines.extend_from_slice(&route.user);
            lines.push(b'@');
        }
        lines.extend_from_slice(place);
        if *reliable {
            lines.extend_from_slice(b";transport=tcp");
        }
        lines.extend_from_slice(if places.len() > 1 { b";r2=on;lr" } else { b";lr" });
        lines.extend_from_slice(&route.params);
        lines.extend_from_slice(b">\r\n");
    }
    lines
}

/// Our Via header for a socket, the whole line.
pub fn via_line(node: &Node, socket: SocketId, via_branch: &[u8]) -> Vec<u8> {
    via_line_as(node, socket, via_branch, &OwnVia::default())
}

/// Writes the same behind what is there.
pub fn push_via(out: &mut Vec<u8>, node: &Node, socket: SocketId, via_branch: &[u8]) {
    let Some(socket) = node.sockets.get(socket) else { return };
    let (transport, host) = (socket.proto.transport(), socket.sent_by().as_bytes());
    ViaLine { transport, host, port: None, branch: via_branch, params: b"" }.write_to(out);
}

/// The same, as the script wants it.
fn via_line_as(node: &Node, socket: SocketId, via_branch: &[u8], own: &OwnVia) -> Vec<u8> {
    let proto = node.sockets.get(socket).map(|s| s.proto);
    let rport: &[u8] = if own.rport { b";rport" } else { b"" };
    let params = if own.params.is_empty() {
        Cow::Borrowed(rport)
    } else {
        Cow::Owned([rport, &own.params].concat())
    };
    ViaLine {
        transport: proto.map_or(Transport::Udp, Proto::transport),
        host: sent_by(node, socket, own).as_bytes(),
        port: None,
        branch: via_branch,
        params: &params,
    }
    .to_bytes()
}

/// Host and port of a socket as others are to see them.
fn sent_by<'a>(node: &'a Node, socket: SocketId, own: &OwnVia) -> Cow<'a, str> {
    let Some(socket) = node.sockets.get(socket) else { return Cow::Borrowed("") };
    if own.host.is_none() && own.port.is_none() {
        return Cow::Borrowed(socket.sent_by());
    }
    let (host, port) = match &socket.advertised {
        Some((host, port)) => (host.clone(), *port),
        None if socket.addr.is_ipv6() => (format!("[{}]", socket.addr.ip()), socket.addr.port()),
        None => (socket.addr.ip().to_string(), socket.addr.port()),
    };
    let host = own.host.as_ref().map_or(host, |h| String::from_utf8_lossy(h).into_owned());
    Cow::Owned(format!("{host}:{}", own.port.unwrap_or(port)))
}

/// The Via headers of a request as replies to it carry them, with their line ends.
pub fn via_lines(node: &Node, msg: &Message, source: &Source, force_rport: bool) -> Vec<u8> {
    let add_rport = force_rport || node.sockets.is_reliable(source.socket);
    let mut edits = Edits::new();
    // A Via that cannot be read was refused before the script ran.
    let _ = mark_received(msg, &mut edits, &received(source, add_rport));
    let bytes = written(msg, &edits);
    let Ok(marked) = Message::parse(bytes) else { return Vec::new() };
    let lines = marked.headers(HeaderName::Via).map(|header| header.line());
    lines.flat_map(|line| [line, b"\r\n"]).flatten().copied().collect()
}

/// The first Contact of a message as the script has changed it; `None`: it has not.
pub fn changed_contact(msg: &Message, edits: &Edits) -> Option<Bytes> {
    if !msg.headers(HeaderName::Contact).any(|header| edits.touches(header.span())) {
        return None;
    }
    let now = Message::parse(written(msg, edits)).ok()?;
    now.values(HeaderName::Contact).next().map(|value| Bytes::copy_from_slice(value.bytes))
}

/// The URI of that.
pub fn changed_contact_uri(msg: &Message, edits: &Edits) -> Option<Bytes> {
    let contact = changed_contact(msg, edits)?;
    let uri = NameAddr::parse(&contact).ok()?.uri;
    Some(contact.slice_ref(uri))
}

/// The bytes of a message with its edits.
pub fn written(msg: &Message, edits: &Edits) -> Bytes {
    if edits.is_empty() {
        return msg.bytes().clone();
    }
    // It reserves what it needs.
    let mut out = Vec::new();
    write(msg, edits, &mut out);
    Bytes::from(out)
}

pub(crate) fn received(source: &Source, add_rport: bool) -> Received {
    Received { ip: source.addr.ip(), port: source.addr.port(), add_rport }
}

/// Passes a reply on by its Vias; used when no transaction knows it.
pub(crate) fn forward_reply(cx: &mut Cx<'_>, ctx: &Ctx) {
    let mut edits = ctx.edits.clone();
    let next = ctx.msg.values(HeaderName::Via).nth(1);
    let to = next.and_then(|v| Via::parse(v.bytes).ok()).and_then(|via| via_target(&via));
    let sockets = &cx.node.sockets;
    let preferred = |to: &Hop| Some(sockets.leaving(ctx.source.socket, to.addr));
    let socket = to.and_then(|to| sockets.toward_by(to.proto, to.addr, preferred(&to)));
    let (Some(to), Some(socket)) = (to, socket) else {
        cx.count(stat::ERR_REPLIES, 1);
        cx.log(Level::Info, "a reply has no further Via that it could go to");
        return;
    };
    remove_top_via(&ctx.msg, &mut edits);
    let payload = written(&ctx.msg, &edits);
    cx.count(stat::FWD_REPLIES, 1);
    cx.out.send(Send { socket, to: to.addr, payload, ticket: 0 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_an_address_or_says_why_not() {
        let to = |uri: &str| uri_target(uri.as_bytes());
        assert_eq!(to("sip:a@10.0.0.1"), Ok("10.0.0.1:5060".parse().unwrap()));
        assert_eq!(to("sip:a@[::1]:7"), Ok("[::1]:7".parse().unwrap()));
        assert_eq!(to("sip:a@x.org;maddr=10.0.0.2"), Ok("10.0.0.2:5060".parse().unwrap()));
        assert_eq!(to("sip:a@x.org"), Err(HopError::Unresolvable));
        assert_eq!(to("sip:a@10.0.0.1;transport=tcp"), Err(HopError::NoSocket));
        let hop = uri_hop(b"sip:a@10.0.0.1;transport=TCP").unwrap();
        assert_eq!((hop.proto, hop.addr.port()), (Proto::Tcp, 5060));
        assert_eq!(uri_hop(b"sip:a@10.0.0.1;transport=sctp"), Err(HopError::NoSocket));
        assert_eq!(to("sips:a@10.0.0.1"), Err(HopError::NoSocket));
        assert_eq!(to("tel:+123"), Err(HopError::UnknownScheme));
        assert_eq!(to("nonsense"), Err(HopError::BadUri));
    }

    #[test]
    fn the_first_of_several_paths_is_found_despite_commas_inside() {
        let list = b"<sip:a,b@10.0.0.1;lr>, <sip:10.0.0.2;lr>";
        assert_eq!(first_value(list), b"<sip:a,b@10.0.0.1;lr>");
    }
}
