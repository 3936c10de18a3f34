//! SIP over connections (RFC 3261 18): what is read becomes messages, what is sent finds the
//! connection that leads to its target, or opens one.
//!
//! A module sends to a socket and an address, whatever the transport. At the end of a batch the
//! worker turns sends through sockets of connections into writes. Everything read is taken by one
//! worker, so the order of a connection is kept; every worker writes.

mod flows;
mod framer;
mod input;
mod output;
mod proxy;
mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tandem_clock::{HashKey, Mono, Now};

pub use flows::Flow;
pub use framer::{Frame, FrameError, Framer, MESSAGE_BYTES_MAX};
pub use proxy::{BadProxy, Proxied};
pub(crate) use proxy::{Begin, read as read_proxy};
pub use table::{Kept, StreamId, StreamView};

use crate::context::Source;
use crate::sockets::{Proto, SocketId, Sockets};
use table::Table;

/// The event of a connection that has ended.
pub(crate) const DISCONNECTED: &str = "E_CORE_TCP_DISCONNECT";

/// An event of a connection.
#[derive(Debug)]
pub enum StreamInput {
    Accepted { conn: StreamId, peer: SocketAddr, local: SocketAddr },
    Connected { conn: StreamId, local: SocketAddr },
    ConnectFailed { conn: StreamId, error: String },
    Data { conn: StreamId, bytes: Bytes },
    Closed { conn: StreamId },
}

/// What the transport's module and the globals ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// `tcp_connection_lifetime`: a connection without traffic is closed.
    pub lifetime_s: u32,
    /// `tcp_connect_timeout`.
    pub connect_timeout_ms: u32,
    /// `tcp_max_connections`, in both directions together.
    pub connections_max: usize,
    /// `tcp_max_msg_time`: a message that has begun must be whole then.
    pub message_s: u32,
    /// `tcp_socket_backlog`.
    pub backlog: u32,
    /// `tcp_accept_aliases` (RFC 5923).
    pub accept_aliases: bool,
    /// `tcp_keepalive` and its times; `None`: as the system does.
    pub keepalive: bool,
    pub keep_count: Option<u32>,
    pub keep_idle_s: Option<u32>,
    pub keep_interval_s: Option<u32>,
    /// Masks of `tcp_no_new_conn_bflag` and `tcp_no_new_conn_rplflag`; 0: unset.
    pub no_new_conn: u32,
    pub no_new_conn_reply: u32,
    pub proto: StreamOptions,
}

/// What the module of a stream transport asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Answer CRLF CRLF with CRLF.
    pub ping_pong: bool,
    /// Reads that a message may take; 0: any.
    pub pieces_max: u32,
    /// Writes that may wait for one connection; 0: only their bytes are limited.
    pub writes_max: u32,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { ping_pong: true, pieces_max: 0, writes_max: 0 }
    }
}

/// The connections of a node.
#[derive(Debug)]
pub struct Streams {
    pub settings: StreamSettings,
    table: Mutex<Table>,
    /// Only the worker that takes what is read comes here.
    reading: Mutex<BTreeMap<StreamId, Reading>>,
    /// By socket: whether it is one of connections.
    streaming: Vec<bool>,
    /// Keepalives of peers, and those that were answered.
    pings: AtomicU64,
    pongs: AtomicU64,
}

/// The receiving half of a connection.
#[derive(Debug, Default)]
struct Reading {
    framer: Framer,
    /// Since when a message is incomplete, and whether a timer looks after it.
    since: Option<Mono>,
    watched: bool,
}

impl Streams {
    pub(crate) fn new(settings: StreamSettings, sockets: &Sockets, key: HashKey) -> Self {
        Self {
            settings,
            table: Mutex::new(Table::new(key, sockets)),
            reading: Mutex::default(),
            streaming: sockets.protos().map(|proto| proto == Proto::Tcp).collect(),
            pings: AtomicU64::new(0),
            pongs: AtomicU64::new(0),
        }
    }

    /// Whether the node has a socket of connections.
    pub fn is_active(&self) -> bool {
        self.streaming.contains(&true)
    }

    fn is_stream(&self, socket: SocketId) -> bool {
        self.streaming.get(usize::from(socket.0)).copied().unwrap_or(false)
    }

    /// Whether messages through a socket go over connections.
    pub fn carries(&self, socket: SocketId) -> bool {
        self.is_stream(socket)
    }

    /// Whether a connection leads from `socket` to `to` now.
    pub fn leads_to(&self, socket: SocketId, to: SocketAddr) -> bool {
        self.table.lock().find(socket, to).is_some()
    }

    /// From where a request through `socket` leaves: where that is on every address of the host,
    /// the face of the connection that leads there.
    pub fn face(&self, socket: SocketId, to: SocketAddr) -> SocketId {
        if !self.is_stream(socket) {
            return socket;
        }
        let table = self.table.lock();
        let ends = table.find(socket, to).and_then(|id| table.ends(id));
        ends.map_or(socket, |(face, _, _)| face)
    }

    /// Whether a reply to a request with these message flags may leave: some may not open a
    /// connection.
    pub fn may_reply(&self, flags: u32, socket: SocketId, to: SocketAddr) -> bool {
        let bound = flags & self.settings.no_new_conn_reply != 0 && self.is_stream(socket);
        !bound || self.leads_to(socket, to)
    }

    /// Connections now, keepalives that came over them, and answers to those.
    pub fn totals(&self) -> (usize, u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (self.table.lock().len(), count(&self.pings), count(&self.pongs))
    }

    /// All connections, for `tcp:list`.
    pub fn list(&self) -> Vec<StreamView> {
        self.table.lock().views()
    }

    /// Keeps the connection of a message for as long as the registrations that a user has over it,
    /// without traffic (`tcp_persistent_flag`): all that he has are given.
    pub fn keep(&self, now: Now, source: &Source, user: u64, all: &[Kept]) {
        let mut table = self.table.lock();
        if let Some(id) = table.exact(source.socket, source.addr) {
            let rests_until = table::end_of_life(now, self.settings.lifetime_s);
            table.keep(id, now.mono_ns, (user, all), rests_until);
        }
    }

    /// The peer that a message came from is also reached under this port; false if there is no
    /// such connection or the name is taken.
    pub fn alias(&self, source: &Source, port: u16) -> bool {
        let mut table = self.table.lock();
        let id = table.exact(source.socket, source.addr);
        id.is_some_and(|id| table.alias(id, port))
    }

    /// The connections with this address at either end, for `tcp:close`.
    pub fn at(&self, addr: SocketAddr) -> Vec<StreamId> {
        self.table.lock().at(addr)
    }

    /// The connection with the number that `tcp:list` shows.
    pub fn by_number(&self, number: u64) -> Option<StreamId> {
        self.table.lock().views().into_iter().map(|v| v.id).find(|id| id.number() == number)
    }
}
