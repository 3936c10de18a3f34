//! UDP sockets that receive and send in batches.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use bytes::{Bytes, BytesMut};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::sys::{self, BATCH_MAX, RecvRoom};

/// How a socket is opened.
#[derive(Clone, Copy, Debug)]
pub struct UdpOptions {
    /// Several sockets share the address; the kernel spreads datagrams over them by flow.
    pub reuse_port: bool,
    /// The address need not be on this host (yet).
    pub freebind: bool,
    /// The TOS byte or traffic class of what is sent.
    pub tos: Option<u8>,
    /// Wished size of the receive buffer. The kernel's limit wins, silently.
    pub recv_buffer_bytes: usize,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self { reuse_port: false, freebind: true, tos: None, recv_buffer_bytes: 4 << 20 }
    }
}

/// A bound, non-blocking UDP socket. Shared by reference; it has no state of its own.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    local: SocketAddr,
    /// Named with every datagram that names no source itself.
    source: Option<IpAddr>,
}

/// A received datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub source: SocketAddr,
    /// The address of ours it was sent to; never a wildcard.
    pub local_ip: IpAddr,
    pub payload: Bytes,
}

/// A datagram to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub to: SocketAddr,
    /// The source address; None leaves it to the socket and the routes. Of the same family as
    /// `to`.
    pub from_ip: Option<IpAddr>,
    pub payload: Bytes,
}

/// A datagram of a batch that did not leave.
#[derive(Debug)]
pub struct SendFailure {
    /// Its place in the batch.
    pub index: usize,
    pub error: SendError,
}

/// Why a datagram did not leave.
#[derive(Debug, Error)]
pub enum SendError {
    /// The source address is not on this host: this node does not hold it. Says nothing about
    /// the destination.
    #[error("the source address is not on this host")]
    NotHolder,
    /// The send buffer is full; the rest of the batch was not tried.
    #[error("the send buffer is full")]
    WouldBlock,
    /// Longer than a datagram can be.
    #[error("too long for a datagram")]
    TooLong,
    /// The destination cannot be reached or is refused.
    #[error("send failed: {0}")]
    Io(io::Error),
}

impl UdpSocket {
    /// Opens and binds. An IPv6 socket takes IPv6 only.
    pub fn open(addr: SocketAddr, options: UdpOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_port(options.reuse_port)?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if options.freebind {
            set_freebind(&socket, addr)?;
        }
        if let Some(tos) = options.tos {
            match addr {
                SocketAddr::V4(_) => socket.set_tos_v4(u32::from(tos))?,
                SocketAddr::V6(_) => socket.set_tclass_v6(u32::from(tos))?,
            }
        }
        if addr.ip().is_unspecified() {
            sys::want_packet_info(socket.as_fd(), addr.is_ipv6())?;
        }
        if options.recv_buffer_bytes > 0 {
            socket.set_recv_buffer_size(options.recv_buffer_bytes)?;
        }
        socket.bind(&addr.into())?;
        let local = socket.local_addr()?.as_socket().unwrap_or(addr);
        let source = (local.is_ipv6() && !local.ip().is_unspecified()).then_some(local.ip());
        if source.is_some() && options.freebind {
            // Linux checks the source of an IPv6 datagram only when the datagram names it and
            // the socket is not (any more) allowed to use what is not here.
            socket.set_freebind_v6(false)?;
        }
        Ok(Self { socket, local, source })
    }

    /// The bound address, with the port the kernel chose when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Receives what is there, at most one batch, without waiting, into `batch` (which is
    /// emptied first). Returns the number of datagrams: 0 when there was none. When it equals
    /// [`RecvBatch::CAPACITY`] there may be more.
    pub fn recv_batch(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        let RecvBatch { room, arena, datagrams } = batch;
        datagrams.clear();
        let bound_ip = self.local.ip();
        loop {
            let received = room.receive(self.socket.as_fd(), |from, bytes| {
                let Some(source) = from.source else { return };
                let local_ip = from.local_ip.unwrap_or(bound_ip);
                datagrams.push(Datagram { source, local_ip, payload: kept(arena, bytes) });
            });
            match received {
                Ok(_) => return Ok(datagrams.len()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a batch without waiting. Adds to `failures` each datagram that did not leave and
    /// returns how many did. One that fails does not stop the others, except that a full send
    /// buffer fails all that follow.
    pub fn send_batch(&self, batch: &[Outgoing], failures: &mut Vec<SendFailure>) -> usize {
        self.send_each(batch, |o| ((o.to, o.from_ip), o.payload.as_ref()), failures)
    }

    /// As [`UdpSocket::send_batch`], of anything that has (destination, source) and bytes.
    pub fn send_each<'a, T>(
        &self,
        batch: &'a [T],
        of: impl Fn(&'a T) -> ((SocketAddr, Option<IpAddr>), &'a [u8]),
        failures: &mut Vec<SendFailure>,
    ) -> usize {
        let (mut at, mut sent) = (0, 0);
        while let Some(rest) = batch.get(at..).filter(|rest| !rest.is_empty()) {
            let datagrams = rest.iter().map(|item| {
                let ((to, from_ip), bytes) = of(item);
                (to, from_ip.or(self.source), bytes)
            });
            match sys::sendmmsg(self.socket.as_fd(), datagrams) {
                // It never reports none sent as success; were it so, the loop must still end.
                Ok(0) => return sent + fail_rest(at, batch.len(), failures),
                Ok(count) => (at, sent) = (at + count, sent + count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return sent + fail_rest(at, batch.len(), failures);
                }
                Err(error) => {
                    let error = self.classify(error, rest.first().and_then(|item| of(item).0.1));
                    failures.push(SendFailure { index: at, error });
                    at += 1;
                }
            }
        }
        sent
    }

    /// For a source address that is not on the host Linux answers EINVAL, or on newer
    /// kernels ENETUNREACH, and both have other meanings too, so the address itself is asked.
    fn classify(&self, error: io::Error, from_ip: Option<IpAddr>) -> SendError {
        let source = from_ip.unwrap_or(self.local.ip());
        if error.raw_os_error() == Some(libc::EMSGSIZE) {
            SendError::TooLong
        } else if !source.is_unspecified() && !is_local_address(source) {
            SendError::NotHolder
        } else {
            SendError::Io(error)
        }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The memory that one worker receives with. One allocation serves about 16 KiB of payloads.
#[derive(Debug)]
pub struct RecvBatch {
    room: RecvRoom,
    /// Payloads are copied here, one behind the other, and split off at their exact size.
    arena: BytesMut,
    datagrams: Vec<Datagram>,
}

impl RecvBatch {
    /// Datagrams per batch.
    pub const CAPACITY: usize = BATCH_MAX;

    pub fn new() -> Self {
        let datagrams = Vec::with_capacity(BATCH_MAX);
        Self { room: RecvRoom::new(), arena: BytesMut::new(), datagrams }
    }

    /// What the last receive brought.
    pub fn datagrams(&self) -> &[Datagram] {
        &self.datagrams
    }

    /// Hands out what the last receive brought.
    pub fn drain(&mut self) -> impl Iterator<Item = Datagram> + '_ {
        self.datagrams.drain(..)
    }
}

/// A copy of the bytes. A buffer is shared by all payloads cut from it, so it is small: one
/// message that is kept for long keeps few others.
fn kept(arena: &mut BytesMut, bytes: &[u8]) -> Bytes {
    if arena.capacity() < bytes.len() {
        *arena = BytesMut::with_capacity(bytes.len().max(ARENA_BYTES));
    }
    arena.extend_from_slice(bytes);
    arena.split().freeze()
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the address is on this host now, as binding to it tells.
pub fn is_local_address(ip: IpAddr) -> bool {
    let addr = SocketAddr::new(ip, 0);
    let probe = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP));
    probe.is_ok_and(|socket| socket.bind(&addr.into()).is_ok())
}

/// Lets a socket bind an address that is not on the host.
pub(crate) fn set_freebind(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    match addr {
        SocketAddr::V4(_) => socket.set_freebind_v4(true),
        SocketAddr::V6(_) => socket.set_freebind_v6(true),
    }
}

fn fail_rest(from: usize, to: usize, failures: &mut Vec<SendFailure>) -> usize {
    failures.extend((from..to).map(|index| SendFailure { index, error: SendError::WouldBlock }));
    0
}

const ARENA_BYTES: usize = 16 * 1024;
