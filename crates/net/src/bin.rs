//! BIN streams: TCP connections between nodes, as commands in and events out.
//!
//! Packets are not understood here; chunks of bytes go through in order, per connection. The
//! streams belong to the thread that waits for them in a [`Poller`] beside its other sockets, so
//! a change costs no hand-over: what a batch has queued on a connection leaves with one write.
//! A connection has one writer queue with a limit in bytes, and is closed when it is exceeded.
//! When the owner does not read, the peer feels it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::bin_conn::{Conn, Ended};
use crate::poll::{Interest, Poller, Ready};
use crate::sys::set_option;
use crate::udp::set_freebind;

/// The name of a connection. The caller chooses it for the connections it asks for, below
/// [`ConnId::ACCEPTED`]; accepted ones get a number at or above it. It is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// Where the numbers of accepted connections start.
    pub const ACCEPTED: u64 = 1 << 63;
}

/// Limits and times.
#[derive(Clone, Debug)]
pub struct BinOptions {
    /// A connection whose unsent bytes exceed this is closed.
    pub write_queue_bytes_max: usize,
    /// The same for one that the peer opened.
    pub write_queue_bytes_of_accepted_max: usize,
    /// A connection with more writes waiting than this is closed as well.
    pub write_queue_chunks_max: usize,
    /// Connections that the kernel holds until they are accepted.
    pub backlog: u32,
    /// Probes of the kernel that find a dead peer; `None`: none.
    pub keepalive: Option<Keepalive>,
    /// The longest pause before the kernel repeats what a peer has not acknowledged, and no longer
    /// one each time while little is on the way; `None`: as the system does, up to two minutes.
    pub repeat_within_ms: Option<u32>,
    /// How long a connect may take.
    pub connect_timeout_ns: u64,
    /// How long a connection that is being closed may still send what is queued.
    pub linger_ns: u64,
    /// Connections beyond this many are refused, in both directions.
    pub connections_max: usize,
}

impl Default for BinOptions {
    fn default() -> Self {
        Self {
            write_queue_bytes_max: 64 << 20,
            write_queue_bytes_of_accepted_max: 64 << 20,
            write_queue_chunks_max: usize::MAX,
            backlog: 1024,
            keepalive: None,
            repeat_within_ms: None,
            // A far network takes its time, and TCP repeats a lost SYN every second at first.
            connect_timeout_ns: 5_000_000_000,
            linger_ns: 1_000_000_000,
            connections_max: 4096,
        }
    }
}

impl BinOptions {
    /// What an older kernel does not know is left as it is.
    fn prepare(&self, socket: &Socket) {
        if let Some(keepalive) = self.keepalive {
            keepalive.set(socket);
        }
        if let Some(ms) = self.repeat_within_ms {
            let ms = libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX);
            for (name, value) in [(libc::TCP_THIN_LINEAR_TIMEOUTS, 1), (TCP_RTO_MAX_MS, ms)] {
                let _ = set_option(socket.as_fd(), libc::IPPROTO_TCP, name, value);
            }
        }
    }
}

/// Times of SO_KEEPALIVE; what is not given is as the system does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    pub idle_s: Option<u32>,
    pub interval_s: Option<u32>,
    pub count: Option<u32>,
}

impl Keepalive {
    fn set(self, socket: &Socket) {
        let seconds = |s: u32| Duration::from_secs(u64::from(s));
        let mut wanted = socket2::TcpKeepalive::new();
        if let Some(idle) = self.idle_s {
            wanted = wanted.with_time(seconds(idle));
        }
        if let Some(interval) = self.interval_s {
            wanted = wanted.with_interval(seconds(interval));
        }
        if let Some(count) = self.count {
            wanted = wanted.with_retries(count);
        }
        // A connection without probes is still a connection.
        let _ = socket.set_tcp_keepalive(&wanted);
    }
}

/// What the node asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Connects from an own address, ephemeral port. Bytes written meanwhile are queued.
    Connect { conn: ConnId, peer: SocketAddr, local_ip: Option<IpAddr> },
    /// Queues bytes, which leave with [`BinStreams::flush`]. For a connection that is gone it does
    /// nothing: its end was or will be an event.
    Write { conn: ConnId, bytes: Bytes },
    /// Closes after sending what is queued.
    Close { conn: ConnId },
    /// Closes every connection from this own address at once: it has left the host.
    CloseLocal { ip: IpAddr },
}

/// What happened. After `Accepted` or `Connected` comes exactly one `Closed`; after a `Connect`
/// exactly one of `Connected` and `ConnectFailed`.
#[derive(Debug)]
pub enum BinEvent {
    Accepted {
        conn: ConnId,
        peer: SocketAddr,
        local: SocketAddr,
    },
    Connected {
        conn: ConnId,
        local: SocketAddr,
    },
    ConnectFailed {
        conn: ConnId,
        error: io::Error,
    },
    Data {
        conn: ConnId,
        bytes: Bytes,
    },
    /// `error` is None when either side closed in order.
    Closed {
        conn: ConnId,
        error: Option<io::Error>,
    },
}

/// Of Linux 6.15; the C library does not name it yet.
const TCP_RTO_MAX_MS: libc::c_int = 44;
/// Marks the tokens of connections in the poller; `u64::MAX` is its own.
const CONN_TOKEN: u64 = 1 << 62;
/// Marks the tokens of listeners.
const LISTENER_TOKEN: u64 = 1 << 61;
/// Bytes read at once, and the largest `Data` event.
const READ_BYTES: usize = 64 << 10;
/// Streams taken from a listener in one go.
const ACCEPTS_IN_A_ROW: usize = 64;
/// How long a listener is left alone when no descriptor is left: what waits there would wake its
/// thread again and again.
const REST_NS: u64 = 100_000_000;

const fn listener_token(number: usize) -> u64 {
    LISTENER_TOKEN | number as u64
}

/// The process or the host has no descriptor or memory left for a connection.
fn is_exhausted(error: &io::Error) -> bool {
    let kinds = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| kinds.contains(&code))
}

/// Every BIN stream of a node. Times are monotonic nanoseconds of the caller's clock.
#[derive(Debug)]
pub struct BinStreams {
    options: BinOptions,
    listeners: Vec<Socket>,
    /// Those that are left alone for a while, and until when.
    resting: Vec<usize>,
    rests_until: Option<u64>,
    conns: BTreeMap<ConnId, Conn>,
    /// What is read goes through here.
    scratch: Box<[u8]>,
    /// Connections with something queued since the last flush.
    unflushed: Vec<ConnId>,
    next_accepted: u64,
    /// When the oldest connect or close has to be over; late rather than never.
    deadline: Option<u64>,
}

impl BinStreams {
    pub fn new(options: BinOptions) -> Self {
        Self {
            options,
            listeners: Vec::new(),
            resting: Vec::new(),
            rests_until: None,
            conns: BTreeMap::new(),
            scratch: vec![0; READ_BYTES].into(),
            unflushed: Vec::new(),
            next_accepted: ConnId::ACCEPTED,
            deadline: None,
        }
    }

    /// Whether a token of the poller belongs to these streams.
    pub fn owns(token: u64) -> bool {
        token & (CONN_TOKEN | LISTENER_TOKEN) != 0
    }

    /// Listens on an address, which need not be on this host (yet). Returns the bound address.
    pub fn listen(&mut self, poller: &Poller, addr: SocketAddr) -> io::Result<SocketAddr> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        set_freebind(&socket, addr)?;
        socket.bind(&addr.into())?;
        socket.listen(i32::try_from(self.options.backlog).unwrap_or(i32::MAX))?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(addr);
        poller.add(&socket, listener_token(self.listeners.len()), Interest::Read)?;
        self.listeners.push(socket);
        Ok(bound)
    }

    /// Carries out a command. Never waits and never fails: what goes wrong comes as an event.
    pub fn command(
        &mut self,
        poller: &Poller,
        now_ns: u64,
        command: Command,
        events: &mut Vec<BinEvent>,
    ) {
        match command {
            Command::Connect { conn, peer, local_ip } => {
                if let Err(error) = self.connect(poller, now_ns, conn, peer, local_ip) {
                    events.push(BinEvent::ConnectFailed { conn, error });
                }
            }
            Command::Write { conn: id, bytes } => {
                let Some(conn) = self.conns.get_mut(&id) else { return };
                let limits = &self.options;
                let bytes_max = match id.0 >= ConnId::ACCEPTED {
                    true => limits.write_queue_bytes_of_accepted_max,
                    false => limits.write_queue_bytes_max,
                };
                match conn.push(bytes, bytes_max, limits.write_queue_chunks_max) {
                    Ok(true) => self.unflushed.push(id),
                    Ok(false) => {}
                    Err(error) => self.end(id, Some(error), events),
                }
            }
            Command::Close { conn: id } => {
                let until = now_ns.saturating_add(self.options.linger_ns);
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.finish(until);
                    self.wake_by(until);
                    self.unflushed.push(id);
                }
            }
            Command::CloseLocal { ip } => {
                let of_ip = self.conns.iter().filter(|(_, conn)| conn.local_ip == Some(ip));
                let ids: Vec<ConnId> = of_ip.map(|(id, _)| *id).collect();
                for id in ids {
                    let text = "the local address has left this host";
                    let error = io::Error::new(io::ErrorKind::AddrNotAvailable, text);
                    self.end(id, Some(error), events);
                }
            }
        }
    }

    /// Takes what a descriptor of these streams has become ready for.
    pub fn ready(&mut self, poller: &Poller, ready: Ready, events: &mut Vec<BinEvent>) {
        if ready.token & LISTENER_TOKEN != 0 {
            return self.accept(poller, (ready.token & !LISTENER_TOKEN) as usize, events);
        }
        let id = ConnId(ready.token & !CONN_TOKEN);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if ready.writable && conn.is_connecting() {
            match conn.connected() {
                Ok(local) => events.push(BinEvent::Connected { conn: id, local }),
                Err(error) => {
                    self.conns.remove(&id);
                    return events.push(BinEvent::ConnectFailed { conn: id, error });
                }
            }
        }
        if ready.readable {
            let data = |bytes| events.push(BinEvent::Data { conn: id, bytes });
            let ended = conn.read(&mut self.scratch, data);
            if let Some(Ended(error)) = ended {
                return self.end(id, error, events);
            }
        }
        if ready.writable {
            self.send(poller, id, events);
        }
    }

    /// Sends what is queued, as far as the peers take it.
    pub fn flush(&mut self, poller: &Poller, events: &mut Vec<BinEvent>) {
        let mut ids = std::mem::take(&mut self.unflushed);
        for id in ids.drain(..) {
            self.send(poller, id, events);
        }
        self.unflushed = ids;
    }

    /// Ends connects and closes that took too long, and the rest of listeners.
    pub fn expire(&mut self, poller: &Poller, now_ns: u64, events: &mut Vec<BinEvent>) {
        if self.deadline.is_none_or(|at| at > now_ns) {
            return;
        }
        self.let_rest(poller, now_ns);
        let over = |c: &Conn| c.until_ns.is_some_and(|at| at <= now_ns);
        let late = self.conns.iter().filter(|(_, conn)| over(conn));
        let late: Vec<(ConnId, bool)> = late.map(|(id, c)| (*id, c.is_connecting())).collect();
        for (conn, connecting) in late {
            if connecting {
                self.conns.remove(&conn);
                let error = io::Error::new(io::ErrorKind::TimedOut, "the connect took too long");
                events.push(BinEvent::ConnectFailed { conn, error });
            } else {
                self.end(conn, None, events);
            }
        }
        let ends = self.conns.values().filter_map(|conn| conn.until_ns);
        self.deadline = ends.chain(self.rests_until).min();
    }

    /// Wakes the listeners whose rest is over; new ones begin theirs.
    fn let_rest(&mut self, poller: &Poller, now_ns: u64) {
        if self.rests_until.is_some_and(|at| at <= now_ns) {
            let resting = std::mem::take(&mut self.resting).into_iter();
            let socket = |n: usize| Some((n, self.listeners.get(n)?));
            // One that cannot be watched now is tried again.
            let failed = resting.filter_map(socket).filter(|(n, socket)| {
                poller.add(socket, listener_token(*n), Interest::Read).is_err()
            });
            self.resting = failed.map(|(n, _)| n).collect();
            self.rests_until = None;
        }
        if !self.resting.is_empty() {
            self.rests_until.get_or_insert(now_ns.saturating_add(REST_NS));
        }
    }

    /// When [`BinStreams::expire`] has something to do at the latest.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadline
    }

    /// Bytes that wait to be sent on a connection; 0 for one that is gone.
    pub fn queued_bytes(&self, conn: ConnId) -> usize {
        self.conns.get(&conn).map_or(0, Conn::queued_bytes)
    }

    fn wake_by(&mut self, at_ns: u64) {
        self.deadline = Some(self.deadline.map_or(at_ns, |at| at.min(at_ns)));
    }

    fn connect(
        &mut self,
        poller: &Poller,
        now_ns: u64,
        id: ConnId,
        peer: SocketAddr,
        local_ip: Option<IpAddr>,
    ) -> io::Result<()> {
        if self.conns.len() >= self.options.connections_max {
            return Err(io::Error::other("too many connections"));
        }
        if self.conns.contains_key(&id) {
            return Err(io::Error::other("this connection number is in use"));
        }
        let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        self.options.prepare(&socket);
        if let Some(ip) = local_ip {
            socket.bind(&SockAddr::from(SocketAddr::new(ip, 0)))?;
        }
        match socket.connect(&peer.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        poller.add(&socket, CONN_TOKEN | id.0, Interest::Both)?;
        let until = now_ns.saturating_add(self.options.connect_timeout_ns);
        self.conns.insert(id, Conn::connecting(OwnedFd::from(socket).into(), local_ip, until));
        self.wake_by(until);
        Ok(())
    }

    fn accept(&mut self, poller: &Poller, listener: usize, events: &mut Vec<BinEvent>) {
        for _ in 0..ACCEPTS_IN_A_ROW {
            let Some(socket) = self.listeners.get(listener) else { return };
            let (socket, peer) = match socket.accept() {
                Ok(accepted) => accepted,
                Err(error) if is_exhausted(&error) => {
                    if poller.remove(socket).is_ok() {
                        self.resting.push(listener);
                        self.wake_by(0);
                    }
                    return;
                }
                // Nobody left, or a peer that gave up: neither ends the listener.
                Err(_) => return,
            };
            let local = socket.local_addr().ok().and_then(|a| a.as_socket());
            let (Some(peer), Some(local)) = (peer.as_socket(), local) else { continue };
            if self.conns.len() >= self.options.connections_max {
                continue;
            }
            let id = ConnId(self.next_accepted);
            self.options.prepare(&socket);
            let prepared = socket
                .set_nonblocking(true)
                .and_then(|()| socket.set_tcp_nodelay(true))
                .and_then(|()| poller.add(&socket, CONN_TOKEN | id.0, Interest::Read));
            if prepared.is_err() {
                continue;
            }
            self.next_accepted += 1;
            self.conns.insert(id, Conn::open(OwnedFd::from(socket).into(), Some(local.ip())));
            events.push(BinEvent::Accepted { conn: id, peer, local });
        }
    }

    /// Sends what is queued on a connection; what the kernel does not take waits for room.
    fn send(&mut self, poller: &Poller, id: ConnId, events: &mut Vec<BinEvent>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let ended = conn.send().or_else(|| {
            let wants = conn.wants_room()?;
            let interest = if wants { Interest::Both } else { Interest::Read };
            poller.modify(conn.stream(), CONN_TOKEN | id.0, interest).err().map(|e| Ended(Some(e)))
        });
        if let Some(Ended(error)) = ended {
            self.end(id, error, events);
        }
    }

    fn end(&mut self, id: ConnId, error: Option<io::Error>, events: &mut Vec<BinEvent>) {
        let Some(conn) = self.conns.remove(&id) else { return };
        events.push(if conn.is_connecting() {
            let error = error.unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into());
            BinEvent::ConnectFailed { conn: id, error }
        } else {
            BinEvent::Closed { conn: id, error }
        });
    }
}
