//! Connections that a module opens to servers which speak neither SIP nor BIN, and sockets for those
//! that it sends datagrams.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use tandem_clock::Now;

use crate::effect::{Effect, Out};
use crate::module::{Cx, with_slot};
use crate::worker::Worker;

/// What is asked of such a connection. One token names one connection, and is not used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAsk {
    Open {
        peer: SocketAddr,
        timeout_ms: u64,
    },
    /// A UDP socket for one peer, from an address of this host if one is named. Each write is a
    /// datagram, and so is what comes; that nobody listens there ends it.
    OpenDatagrams {
        peer: SocketAddr,
        from: Option<IpAddr>,
    },
    /// When the other side does not take what waits for it, the connection ends.
    Write(Bytes),
    /// Nothing is told of it any more.
    Close,
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    Opened,
    Bytes(Bytes),
    /// Or it could not be opened. The last that is told.
    Closed(String),
}

/// An event, and of which connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientNews {
    pub token: u64,
    pub event: ClientEvent,
}

impl Cx<'_> {
    /// Asks for a connection, or something of one; what becomes of it comes to
    /// [`crate::module::Module::client`] with `token` (48 bits).
    pub fn ask_client(&mut self, ask: ClientAsk, token: u64) {
        let token = with_slot(self.slot, token);
        self.out.push(Effect::Client { token, ask });
    }
}

/// Tells the module whose connection it is.
pub(crate) fn told(worker: &mut Worker, now: Now, news: ClientNews, out: &mut Out) {
    let ClientNews { token, event } = news;
    worker.tell_module(now, token, out, |module, cx, id| module.client(cx, id, event));
}
