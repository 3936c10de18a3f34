//! BIN streams: TCP connections between nodes, as commands in and events out.
//!
//! Packets are not understood here; chunks of bytes go through in order, per connection. A
//! connection has one writer queue with a limit in bytes, and is closed when it is exceeded. When
//! the consumer of events is slow, reading stops, so the peer feels it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::bin_conn::{Queue, run};
use crate::poll::Waker;
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
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// How long a connection that is being closed may still send what is queued.
    pub linger: Duration,
    /// Connections beyond this many are refused, in both directions.
    pub connections_max: usize,
    /// Woken after each event, for a consumer that sleeps in a [`crate::Poller`].
    pub waker: Option<Waker>,
}

impl Default for BinOptions {
    fn default() -> Self {
        Self {
            write_queue_bytes_max: 64 << 20,
            connect_timeout: Duration::from_millis(100),
            linger: Duration::from_secs(1),
            connections_max: 4096,
            waker: None,
        }
    }
}

/// What the node asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Connects from an own address, ephemeral port. Bytes written meanwhile are queued.
    Connect { conn: ConnId, peer: SocketAddr, local_ip: Option<IpAddr> },
    /// Queues bytes. For a connection that is gone it does nothing: its end was or will be an
    /// event.
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

/// Commands go in here, from any thread, without waiting. When the last clone is dropped all
/// listeners and connections end.
#[derive(Clone, Debug)]
pub struct BinHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    shared: Arc<Shared>,
    listeners: Mutex<Vec<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for listener in lock(&self.listeners).drain(..) {
            listener.abort();
        }
        for entry in lock(&self.shared.connections).values() {
            entry.queue.close(None);
        }
    }
}

/// What the tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: BinOptions,
    events: mpsc::Sender<BinEvent>,
    connections: Mutex<HashMap<ConnId, Entry>>,
    next_accepted: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    queue: Arc<Queue>,
    local_ip: Option<IpAddr>,
}

impl BinHandle {
    /// Runs on this tokio runtime. `events` bounds what the consumer has not taken yet; a `Data`
    /// event holds at most 64 KiB.
    pub fn new(runtime: Handle, options: BinOptions, events: mpsc::Sender<BinEvent>) -> Self {
        let shared = Arc::new(Shared {
            options,
            events,
            connections: Mutex::new(HashMap::new()),
            next_accepted: AtomicU64::new(ConnId::ACCEPTED),
        });
        Self(Arc::new(Inner { runtime, shared, listeners: Mutex::new(Vec::new()) }))
    }

    /// Listens on an address, which need not be on this host (yet). Returns the bound address.
    pub fn listen(&self, addr: SocketAddr) -> io::Result<SocketAddr> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        set_freebind(&socket, addr)?;
        socket.bind(&addr.into())?;
        socket.listen(128)?;
        let _inside = self.0.runtime.enter();
        let listener = TcpListener::from_std(socket.into())?;
        let bound = listener.local_addr()?;
        let task = self.0.runtime.spawn(accept(listener, self.0.shared.clone()));
        lock(&self.0.listeners).push(task.abort_handle());
        Ok(bound)
    }

    /// Carries out a command. Never waits and never fails: what goes wrong comes as an event.
    pub fn command(&self, command: Command) {
        match command {
            Command::Connect { conn, peer, local_ip } => self.connect(conn, peer, local_ip),
            Command::Write { conn, bytes } => {
                if let Some(queue) = self.0.shared.queue(conn) {
                    queue.push(bytes, self.0.shared.options.write_queue_bytes_max);
                }
            }
            Command::Close { conn } => {
                if let Some(queue) = self.0.shared.queue(conn) {
                    queue.finish();
                }
            }
            Command::CloseLocal { ip } => {
                let connections = lock(&self.0.shared.connections);
                for entry in connections.values().filter(|entry| entry.local_ip == Some(ip)) {
                    entry.queue.close(Some(io::Error::new(
                        io::ErrorKind::AddrNotAvailable,
                        "the local address has left this host",
                    )));
                }
            }
        }
    }

    /// Bytes that wait to be sent on a connection; 0 for one that is gone.
    pub fn queued_bytes(&self, conn: ConnId) -> usize {
        self.0.shared.queue(conn).map_or(0, |queue| queue.bytes())
    }

    fn connect(&self, conn: ConnId, peer: SocketAddr, local_ip: Option<IpAddr>) {
        let shared = self.0.shared.clone();
        let queue = shared.register(conn, local_ip);
        self.0.runtime.spawn(async move {
            let stream = match &queue {
                Ok(_) => open(peer, local_ip, shared.options.connect_timeout).await,
                Err(reason) => Err(io::Error::other(*reason)),
            };
            match (stream, queue) {
                (Ok(stream), Ok(queue)) => {
                    shared.tell(BinEvent::Connected { conn }).await;
                    serve(conn, stream, queue, shared).await;
                }
                (Ok(_), Err(_)) => {}
                (Err(error), queue) => {
                    if queue.is_ok() {
                        shared.forget(conn);
                    }
                    shared.tell(BinEvent::ConnectFailed { conn, error }).await;
                }
            }
        });
    }
}

impl Shared {
    /// Hands an event to the consumer, waiting for room. A consumer that is gone is no fault.
    pub(crate) async fn tell(&self, event: BinEvent) {
        if self.events.send(event).await.is_ok()
            && let Some(waker) = &self.options.waker
        {
            waker.wake();
        }
    }

    fn register(&self, conn: ConnId, local_ip: Option<IpAddr>) -> Result<Arc<Queue>, &'static str> {
        let mut connections = lock(&self.connections);
        if connections.len() >= self.options.connections_max {
            return Err("too many connections");
        }
        if connections.contains_key(&conn) {
            return Err("this connection number is in use");
        }
        let queue = Arc::new(Queue::default());
        connections.insert(conn, Entry { queue: queue.clone(), local_ip });
        Ok(queue)
    }

    fn queue(&self, conn: ConnId) -> Option<Arc<Queue>> {
        lock(&self.connections).get(&conn).map(|entry| entry.queue.clone())
    }

    fn forget(&self, conn: ConnId) {
        lock(&self.connections).remove(&conn);
    }
}

/// Moves bytes until the connection ends, then says so.
async fn serve(conn: ConnId, stream: TcpStream, queue: Arc<Queue>, shared: Arc<Shared>) {
    let error = run(conn, stream, &queue, &shared).await.err();
    shared.forget(conn);
    shared.tell(BinEvent::Closed { conn, error }).await;
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors, or a peer that gave up: neither ends the listener.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        let conn = ConnId(shared.next_accepted.fetch_add(1, Ordering::Relaxed));
        let Ok(queue) = shared.register(conn, Some(local.ip())) else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            shared.tell(BinEvent::Accepted { conn, peer, local }).await;
            serve(conn, stream, queue, shared).await;
        });
    }
}

async fn open(
    peer: SocketAddr,
    local_ip: Option<IpAddr>,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(ip) = local_ip {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the connect took too long");
    tokio::time::timeout(timeout, socket.connect(peer)).await.map_err(late)?
}

/// No lock of this crate is held over code that can panic, so poison means nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
