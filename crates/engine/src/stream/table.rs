//! The connections of a node: which one leads where, how long it stays, what waits for it.
//!
//! Plain data behind one lock that is held for a look-up. Sending never waits: what a connection
//! that is being opened cannot take yet is kept here, bounded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use tandem_clock::{HashKey, Mono, Now};

use super::Proxied;
use super::flows::{FLOWS_MAX, Flow, LOOKS_MAX};
use crate::effect::{Effect, Send};
use crate::sockets::{SocketId, Sockets};

/// The name of a connection: chosen by this table for those it opens, and by the transport for
/// those it accepts (the highest bit is set then).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

impl StreamId {
    /// Whether the peer has opened it.
    pub fn is_accepted(self) -> bool {
        self.0 >> 63 == 1
    }
}

/// Messages that wait for one connection to open.
const WAITING_MAX: usize = 1_024;
/// Other addresses of the peer of one connection.
const ALIASES_MAX: usize = 8;
/// Registrations that keep one connection and that are told apart.
const KEEPS_MAX: usize = 1_024;

/// A connection as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamView {
    pub id: StreamId,
    pub socket: SocketId,
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub open: bool,
    /// When it is closed if nothing moves.
    pub until: Mono,
    /// The port of the peer that requests are sent to.
    pub alias_port: u16,
}

#[derive(Debug)]
struct Conn {
    socket: SocketId,
    remote: SocketAddr,
    local: SocketAddr,
    /// `None` when it is open.
    waiting: Option<Vec<Send>>,
    until: Mono,
    /// What keeps it for longer (`tcp_persistent_flag`); most have nothing.
    keeps: Option<Box<Keeps>>,
    aliases: Vec<u16>,
    /// Flows that it leads to.
    flows: Vec<Flow>,
    /// Requests that were looked at for one.
    looks: u8,
    proxy: Proxy,
}

/// A registration of a user, as one of a connection sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub contact: u64,
    pub until: Mono,
    /// It is over this connection; else it counts only if it was before.
    pub is_here: bool,
}

/// Whose registrations keep a connection, and how long: its user's, or those of many behind a
/// proxy.
#[derive(Debug, Default)]
struct Keeps {
    /// The latest of all.
    until: Mono,
    /// User, contact, end.
    each: Vec<(u64, u64, Mono)>,
    /// Of those beyond, which are not told apart: the longest counts.
    beyond: Mono,
}

impl Keeps {
    /// These are the registrations that a user has now.
    fn note(&mut self, now: Mono, user: u64, all: &[Kept]) {
        let was_here = |kept: &&Kept| {
            kept.is_here || self.each.iter().any(|(u, c, _)| (*u, *c) == (user, kept.contact))
        };
        let here: Vec<Kept> =
            all.iter().filter(|kept| kept.until > now).filter(was_here).copied().collect();
        self.each.retain(|(known, _, ends)| *known != user && *ends > now);
        for kept in here {
            if self.each.len() < KEEPS_MAX {
                self.each.push((user, kept.contact, kept.until));
            } else {
                self.beyond = self.beyond.max(kept.until);
            }
        }
        self.until = self.each.iter().map(|(_, _, ends)| *ends).fold(self.beyond, Mono::max);
    }
}

impl Conn {
    fn kept_until(&self) -> Mono {
        self.keeps.as_ref().map_or(0, |keeps| keeps.until)
    }
}

/// What a load balancer in front of a connection has told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Proxy {
    /// Nothing, or it is not asked.
    #[default]
    None,
    /// The connection has just begun.
    Expected,
    Known(Proxied),
}

/// What became of a message that was to be sent.
#[derive(Debug)]
pub(super) enum Sent {
    /// The effect that sends it, or none when it waits for its connection.
    Ok(Option<Effect>),
    /// There is no connection and none may be opened.
    Failed(Send),
}

/// All connections of a node.
#[derive(Debug)]
pub(super) struct Table {
    conns: BTreeMap<StreamId, Conn>,
    /// Those of peers that have not brought a whole message yet.
    strangers: BTreeSet<StreamId>,
    /// By our socket and the peer's address.
    by_remote: HashMap<(SocketId, SocketAddr), StreamId, ahash::RandomState>,
    /// By our socket and an address that the peer is also known under.
    by_alias: HashMap<(SocketId, SocketAddr), StreamId, ahash::RandomState>,
    by_flow: HashMap<Flow, StreamId, ahash::RandomState>,
    /// By number: the socket on every address that one is, or is a face of.
    parents: Vec<Option<SocketId>>,
    /// Faces that something was accepted at.
    busy: Vec<SocketId>,
    next: u64,
}

impl Table {
    pub(super) fn new(key: HashKey, sockets: &Sockets) -> Self {
        Self {
            conns: BTreeMap::new(),
            strangers: BTreeSet::new(),
            by_remote: HashMap::with_hasher(key.state()),
            by_alias: HashMap::with_hasher(key.state()),
            by_flow: HashMap::with_hasher(key.state()),
            parents: sockets.parents().collect(),
            busy: Vec::new(),
            next: 1,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.conns.len()
    }

    /// The connection that leads from `socket` to `to`; else, where the socket is on every address
    /// of the host, the one that a peer has opened to another of them: a phone behind NAT is
    /// reached over that one alone. Those of ours stay with their address, which the peer may know
    /// us by.
    pub(super) fn find(&self, socket: SocketId, to: SocketAddr) -> Option<StreamId> {
        self.exact(socket, to).or_else(|| {
            let parent = self.parent(socket)?;
            let others = self.busy.iter().filter(|other| self.parent(**other) == Some(parent));
            let mut found = others.filter_map(|other| self.exact(*other, to));
            found.find(|id| id.is_accepted())
        })
    }

    /// The connection of a message that came through `socket` from there.
    pub(super) fn exact(&self, socket: SocketId, to: SocketAddr) -> Option<StreamId> {
        let key = (socket, to);
        self.by_remote.get(&key).or_else(|| self.by_alias.get(&key)).copied()
    }

    fn parent(&self, socket: SocketId) -> Option<SocketId> {
        self.parents.get(usize::from(socket.0)).copied().flatten()
    }

    /// Sends through a connection that is there.
    pub(super) fn send_on(&mut self, id: StreamId, send: Send, until: Mono) -> Sent {
        let Some(conn) = self.conns.get_mut(&id) else { return Sent::Failed(send) };
        conn.until = until.max(conn.kept_until());
        match &mut conn.waiting {
            None => Sent::Ok(Some(Effect::StreamWrite { conn: id, bytes: send.payload })),
            Some(waiting) if waiting.len() < WAITING_MAX => {
                waiting.push(send);
                Sent::Ok(None)
            }
            Some(_) => Sent::Failed(send),
        }
    }

    /// Opens a connection for a message.
    pub(super) fn open(&mut self, sockets: &Sockets, send: Send, until: Mono) -> Sent {
        let Some(socket) = sockets.get(send.socket) else { return Sent::Failed(send) };
        let id = StreamId(self.next);
        self.next += 1;
        let remote = send.to;
        let local_ip = Some(socket.addr.ip()).filter(|ip| !ip.is_unspecified());
        let conn = Conn {
            socket: send.socket,
            remote,
            local: SocketAddr::new(socket.addr.ip(), 0),
            until,
            keeps: None,
            aliases: Vec::new(),
            flows: Vec::new(),
            looks: 0,
            proxy: Proxy::None,
            waiting: Some(vec![send]),
        };
        self.by_remote.insert((conn.socket, remote), id);
        self.conns.insert(id, conn);
        Sent::Ok(Some(Effect::StreamConnect { conn: id, peer: remote, local_ip }))
    }

    /// A peer has connected.
    pub(super) fn accepted(
        &mut self,
        id: StreamId,
        socket: SocketId,
        (remote, local): (SocketAddr, SocketAddr),
        until: Mono,
        proxy: Proxy,
    ) {
        let conn = Conn {
            socket,
            remote,
            local,
            waiting: None,
            until,
            keeps: None,
            aliases: Vec::new(),
            flows: Vec::new(),
            looks: 0,
            proxy,
        };
        self.by_remote.insert((socket, remote), id);
        self.conns.insert(id, conn);
        self.strangers.insert(id);
        if self.parent(socket).is_some() && !self.busy.contains(&socket) {
            self.busy.push(socket);
        }
    }

    /// A whole message has come.
    pub(super) fn speaks(&mut self, id: StreamId) {
        // Nobody is left there most of the time.
        if !self.strangers.is_empty() {
            self.strangers.remove(&id);
        }
    }

    /// The connection whose place is wanted: the oldest that has said nothing; else, of those that
    /// nothing leads to, one that ends before `rests_until` and rests the longest.
    pub(super) fn least_wanted(&self, now: Now, rests_until: Mono) -> Option<StreamId> {
        let resting = || {
            let is_free = |c: &Conn| {
                let is_idle = c.until <= rests_until && c.kept_until() <= now.mono_ns;
                is_idle && c.waiting.is_none() && c.flows.is_empty()
            };
            let free = self.conns.iter().filter(|(_, conn)| is_free(conn));
            free.min_by_key(|(_, conn)| conn.until).map(|(id, _)| *id)
        };
        self.strangers.first().copied().or_else(resting)
    }

    /// A connection of ours is open; what waited for it.
    pub(super) fn connected(&mut self, id: StreamId, local: SocketAddr, until: Mono) -> Vec<Send> {
        let Some(conn) = self.conns.get_mut(&id) else { return Vec::new() };
        conn.local = local;
        conn.until = until.max(conn.kept_until());
        conn.waiting.take().unwrap_or_default()
    }

    /// A connection has ended; what still waited for it.
    pub(super) fn closed(&mut self, id: StreamId) -> Vec<Send> {
        let Some(conn) = self.conns.remove(&id) else { return Vec::new() };
        self.strangers.remove(&id);
        let forget = |map: &mut HashMap<_, StreamId, _>, port: u16| {
            let key = (conn.socket, SocketAddr::new(conn.remote.ip(), port));
            if map.get(&key) == Some(&id) {
                map.remove(&key);
            }
        };
        forget(&mut self.by_remote, conn.remote.port());
        conn.aliases.iter().for_each(|port| forget(&mut self.by_alias, *port));
        for flow in &conn.flows {
            if self.by_flow.get(flow) == Some(&id) {
                self.by_flow.remove(flow);
            }
        }
        conn.waiting.unwrap_or_default()
    }

    /// Our socket and the peer's address.
    pub(super) fn ends(&self, id: StreamId) -> Option<(SocketId, SocketAddr, SocketAddr)> {
        self.conns.get(&id).map(|c| (c.socket, c.remote, c.local))
    }

    /// What is known of who speaks through a connection.
    pub(super) fn proxy(&self, id: StreamId) -> Proxy {
        self.conns.get(&id).map_or(Proxy::None, |c| c.proxy)
    }

    pub(super) fn set_proxy(&mut self, id: StreamId, proxied: Option<Proxied>) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.proxy = proxied.map_or(Proxy::None, Proxy::Known);
        }
    }

    /// Something came in.
    pub(super) fn touch(&mut self, id: StreamId, until: Mono) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.until = until.max(conn.kept_until());
        }
    }

    /// One user's registrations keep a connection for as long as they last, and it rests no longer
    /// than until `rests_until` where nothing keeps it.
    pub(super) fn keep(
        &mut self,
        id: StreamId,
        now: Mono,
        (user, all): (u64, &[Kept]),
        rests_until: Mono,
    ) {
        if let Some(conn) = self.conns.get_mut(&id) {
            if conn.keeps.is_some() || all.iter().any(|kept| kept.is_here) {
                let mut keeps = conn.keeps.take().unwrap_or_default();
                keeps.note(now, user, all);
                conn.keeps = Some(keeps).filter(|keeps| keeps.until > now);
            }
            conn.until = rests_until.max(conn.kept_until());
        }
    }

    /// When a connection is to be closed; `None`: it is gone.
    pub(super) fn until(&self, id: StreamId) -> Option<Mono> {
        self.conns.get(&id).map(|c| c.until)
    }

    /// The peer is also reached under this port. A name that another living connection has stays
    /// with it: nobody takes the calls of a neighbour behind the same address.
    pub(super) fn alias(&mut self, id: StreamId, port: u16) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        if conn.remote.port() == port {
            return true;
        }
        let key = (conn.socket, SocketAddr::new(conn.remote.ip(), port));
        match self.by_alias.get(&key) {
            Some(other) if *other == id => true,
            Some(_) => false,
            None if conn.aliases.len() < ALIASES_MAX => {
                conn.aliases.push(port);
                self.by_alias.insert(key, id);
                true
            }
            None => false,
        }
    }

    /// A connection leads to a flow from now on, and no other one does.
    pub(super) fn bind(&mut self, id: StreamId, flow: Flow) -> bool {
        let before = self.by_flow.get(&flow).copied();
        if before == Some(id) {
            return true;
        }
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        // The oldest are of contacts that have long gone, or find their way by their addresses.
        if conn.flows.len() >= FLOWS_MAX {
            for old in conn.flows.drain(..FLOWS_MAX / 2) {
                self.by_flow.remove(&old);
            }
        }
        conn.flows.push(flow);
        self.by_flow.insert(flow, id);
        if let Some(old) = before.and_then(|before| self.conns.get_mut(&before)) {
            old.flows.retain(|f| *f != flow);
        }
        true
    }

    pub(super) fn of_flow(&self, flow: Flow) -> Option<StreamId> {
        self.by_flow.get(&flow).copied()
    }

    /// Counts a look at a request of a connection without flows; false: it has one, or there
    /// were enough.
    pub(super) fn take_look(&mut self, id: StreamId) -> bool {
        let conn = self.conns.get_mut(&id).filter(|c| c.flows.is_empty() && c.looks < LOOKS_MAX);
        conn.is_some_and(|conn| {
            conn.looks += 1;
            true
        })
    }

    /// The connections with one of these addresses at either end.
    pub(super) fn at(&self, addr: SocketAddr) -> Vec<StreamId> {
        let there = |c: &Conn| c.remote == addr || c.local == addr;
        self.conns.iter().filter(|(_, c)| there(c)).map(|(id, _)| *id).collect()
    }

    pub(super) fn views(&self) -> Vec<StreamView> {
        let view = |(id, c): (&StreamId, &Conn)| StreamView {
            id: *id,
            socket: c.socket,
            remote: c.remote,
            local: c.local,
            open: c.waiting.is_none(),
            until: c.until,
            alias_port: c.aliases.last().copied().unwrap_or(c.remote.port()),
        };
        self.conns.iter().map(view).collect()
    }
}

/// The end of a life that begins now.
pub(super) fn end_of_life(now: Now, lifetime_s: u32) -> Mono {
    now.after_s(u64::from(lifetime_s))
}
