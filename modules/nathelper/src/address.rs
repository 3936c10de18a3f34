//! Addresses in messages, as other modules about NAT need them too.

use std::net::SocketAddr;

use tandem_engine::context::{Ctx, Source};
use tandem_engine::sockets::Sockets;

pub use crate::fix::put_source_in_contacts;

use crate::detect::{contact_ip, is_private, via_ip, via_port};

/// `sip:ip:port`: the source of a message as a URI, with its transport unless that is UDP.
pub fn source_uri(sockets: &Sockets, source: &Source) -> String {
    match sockets.get(source.socket).map(|s| s.proto.text()) {
        None | Some("udp") => format!("sip:{}", source.addr),
        Some(proto) => format!("sip:{};transport={proto}", source.addr),
    }
}

/// Whether the host of the first Contact is a private address.
pub fn has_private_contact(ctx: &Ctx) -> bool {
    contact_ip(ctx).is_some_and(|ip| is_private(ip, false))
}

/// Whether the host of the topmost Via is a private address.
pub fn has_private_via(ctx: &Ctx) -> bool {
    via_ip(ctx).is_some_and(|ip| is_private(ip, false))
}

/// Whether a message came from another address or port than its topmost Via says.
pub fn via_differs(ctx: &Ctx, source: SocketAddr) -> bool {
    ctx.msg.top_via().is_ok()
        && (via_ip(ctx) != Some(source.ip()) || via_port(ctx) != Some(source.port()))
}
