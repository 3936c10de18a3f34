//! Connections that a node opens to servers, for modules that speak a protocol of their own, and
//! sockets for datagrams to them: a task each, so that a server that is slow costs nobody else a
//! moment.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Writes that may wait for a connection.
const WRITES_MAX: usize = 64;
/// Datagrams that may wait for a socket, which takes them at once.
const DATAGRAMS_MAX: usize = 1_024;
/// How long the other side may take for one.
const WRITE: Duration = Duration::from_secs(5);
/// Bytes that are read at a time.
const READ_BYTES: usize = 16 << 10;
/// After so many, which are 1.6 MB a second: whoever floods is read slowly.
const BREATH: Duration = Duration::from_millis(10);

/// What happens to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Opened,
    Bytes(Bytes),
    /// Or it could not be opened. Nothing more comes.
    Closed(String),
}

/// An event, and the token of its connection.
pub type News = (u64, Event);

/// The connections.
#[derive(Debug)]
pub struct Clients {
    open: BTreeMap<u64, Open>,
    news: mpsc::Sender<News>,
}

#[derive(Debug)]
struct Open {
    writes: mpsc::Sender<Bytes>,
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Clients {
    /// None yet; what happens to them goes to `news`.
    pub fn new(news: mpsc::Sender<News>) -> Self {
        Self { open: BTreeMap::new(), news }
    }

    /// Opens one. Called inside the runtime.
    pub fn open(&mut self, token: u64, peer: SocketAddr, timeout: Duration) {
        let (writes, waiting) = mpsc::channel(WRITES_MAX);
        let news = self.news.clone();
        self.keep(token, writes, async move { serve(token, peer, timeout, waiting, &news).await });
    }

    /// Opens a socket for the datagrams to and from one peer. Called inside the runtime.
    pub fn open_datagrams(&mut self, token: u64, peer: SocketAddr, from: Option<IpAddr>) {
        let (writes, waiting) = mpsc::channel(DATAGRAMS_MAX);
        let news = self.news.clone();
        self.keep(token, writes, async move { exchange(token, peer, from, waiting, &news).await });
    }

    fn keep(
        &mut self,
        token: u64,
        writes: mpsc::Sender<Bytes>,
        served: impl Future<Output = Result<(), String>> + Send + 'static,
    ) {
        // Whoever has ended needs no place any more.
        self.open.retain(|_, open| !open.task.is_finished());
        let news = self.news.clone();
        let task = tokio::spawn(async move {
            if let Err(why) = served.await {
                // Nobody waits for it when the node ends.
                let _ = news.send((token, Event::Closed(why))).await;
            }
        });
        self.open.insert(token, Open { writes, task });
    }

    /// Hands bytes over. When too many wait already, the connection is over.
    pub fn write(&mut self, token: u64, bytes: Bytes) -> Result<(), String> {
        let Some(open) = self.open.get(&token) else { return Ok(()) };
        match open.writes.try_send(bytes) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.open.remove(&token);
                Err("it does not take what is sent".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Closes one: nothing is told of it any more, but what was told before may still be underway.
    pub fn close(&mut self, token: u64) {
        self.open.remove(&token);
    }
}

/// Serves a connection to its end, which is told as an error; `Ok`: nobody wants it any more.
async fn serve(
    token: u64,
    peer: SocketAddr,
    timeout: Duration,
    mut writes: mpsc::Receiver<Bytes>,
    news: &mpsc::Sender<News>,
) -> Result<(), String> {
    let connecting = tokio::time::timeout(timeout, TcpStream::connect(peer)).await;
    let late = |_| format!("no connection within {} ms", timeout.as_millis());
    let stream = connecting.map_err(late)?.map_err(|e| format!("no connection: {e}"))?;
    // Small commands are not worth waiting for more.
    let _ = stream.set_nodelay(true);
    let (mut from, mut to) = stream.into_split();
    if news.send((token, Event::Opened)).await.is_err() {
        return Ok(());
    }
    let lost = |e: std::io::Error| format!("the connection is lost: {e}");
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        tokio::select! {
            read = from.read_buf(&mut buffer) => {
                let read = read.map_err(lost)?;
                if read == 0 {
                    return Err("it has closed the connection".to_owned());
                }
                let bytes = buffer.split().freeze();
                if news.send((token, Event::Bytes(bytes))).await.is_err() {
                    return Ok(());
                }
                if read >= READ_BYTES {
                    tokio::time::sleep(BREATH).await;
                }
                buffer.reserve(READ_BYTES);
            }
            bytes = writes.recv() => {
                let Some(bytes) = bytes else { return Ok(()) };
                let written = tokio::time::timeout(WRITE, to.write_all(&bytes)).await;
                let late = |_| "it does not take what is sent".to_owned();
                written.map_err(late)?.map_err(lost)?;
            }
        }
    }
}

/// Exchanges datagrams with a peer, until its host says that nobody takes them.
async fn exchange(
    token: u64,
    peer: SocketAddr,
    from: Option<IpAddr>,
    mut writes: mpsc::Receiver<Bytes>,
    news: &mpsc::Sender<News>,
) -> Result<(), String> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = from.unwrap_or(any);
    let refused = |e: std::io::Error| format!("no socket from {from}: {e}");
    let socket = UdpSocket::bind((from, 0)).await.map_err(refused)?;
    socket.connect(peer).await.map_err(|e| format!("it cannot be reached: {e}"))?;
    if news.send((token, Event::Opened)).await.is_err() {
        return Ok(());
    }
    let lost = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        _ => format!("it cannot be reached: {e}"),
    };
    let mut buffer = vec![0; READ_BYTES];
    let mut read_since = 0;
    loop {
        tokio::select! {
            read = socket.recv(&mut buffer) => {
                let bytes = Bytes::copy_from_slice(&buffer[..read.map_err(lost)?]);
                read_since += bytes.len();
                if news.send((token, Event::Bytes(bytes))).await.is_err() {
                    return Ok(());
                }
                if read_since >= READ_BYTES {
                    read_since = 0;
                    tokio::time::sleep(BREATH).await;
                }
            }
            bytes = writes.recv() => {
                let Some(bytes) = bytes else { return Ok(()) };
                socket.send(&bytes).await.map_err(lost)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const WAIT: Duration = Duration::from_secs(10);

    async fn next(news: &mut mpsc::Receiver<News>) -> Event {
        let (token, event) = tokio::time::timeout(WAIT, news.recv()).await.unwrap().unwrap();
        assert_eq!(token, 7);
        event
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test);
    }

    async fn opened() -> (Clients, mpsc::Receiver<News>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (sender, mut news) = mpsc::channel(4);
        let mut clients = Clients::new(sender);
        clients.open(7, listener.local_addr().unwrap(), WAIT);
        let (server, _) = listener.accept().await.unwrap();
        assert_eq!(next(&mut news).await, Event::Opened);
        (clients, news, server)
    }

    #[test]
    fn bytes_go_both_ways_until_the_other_side_closes() {
        run(async {
            let (mut clients, mut news, mut server) = opened().await;
            clients.write(7, Bytes::from_static(b"ask")).unwrap();
            let mut buffer = [0; 3];
            server.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"ask");
            server.write_all(b"answer").await.unwrap();
            assert_eq!(next(&mut news).await, Event::Bytes("answer".into()));
            drop(server);
            let why = "it has closed the connection".to_owned();
            assert_eq!(next(&mut news).await, Event::Closed(why));
        });
    }

    #[test]
    fn what_is_closed_here_is_closed_there() {
        run(async {
            let (mut clients, _news, mut server) = opened().await;
            clients.close(7);
            let mut rest = Vec::new();
            let read = tokio::time::timeout(WAIT, server.read_to_end(&mut rest)).await.unwrap();
            assert!(read.is_err() || rest.is_empty());
        });
    }

    #[test]
    fn whoever_takes_nothing_is_given_up() {
        run(async {
            let (mut clients, _news, _server) = opened().await;
            let big = Bytes::from(vec![0; 1 << 20]);
            let refused = (0..WRITES_MAX + 2).find_map(|_| clients.write(7, big.clone()).err());
            assert!(refused.is_some_and(|why| why.contains("does not take")));
        });
    }

    #[test]
    fn nobody_there_is_an_answer() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let peer = listener.local_addr().unwrap();
            drop(listener);
            let (sender, mut news) = mpsc::channel(4);
            let mut clients = Clients::new(sender);
            clients.open(7, peer, WAIT);
            let Event::Closed(why) = next(&mut news).await else { panic!("it is open") };
            assert!(why.starts_with("no connection"), "{why}");
        });
    }

    #[test]
    fn datagrams_go_both_ways_until_nobody_listens() {
        run(async {
            let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let (sender, mut news) = mpsc::channel(4);
            let mut clients = Clients::new(sender);
            let from = Some(Ipv4Addr::new(127, 0, 0, 3).into());
            clients.open_datagrams(7, server.local_addr().unwrap(), from);
            assert_eq!(next(&mut news).await, Event::Opened);
            for ask in ["one", "", "two"] {
                clients.write(7, Bytes::from_static(ask.as_bytes())).unwrap();
                let mut buffer = [0; 10];
                let (length, client) = server.recv_from(&mut buffer).await.unwrap();
                assert_eq!((&buffer[..length], Some(client.ip())), (ask.as_bytes(), from));
                server.send_to(&buffer[..length], client).await.unwrap();
                assert_eq!(next(&mut news).await, Event::Bytes(ask.into()));
            }
            drop(server);
            clients.write(7, Bytes::from_static(b"three")).unwrap();
            assert_eq!(next(&mut news).await, Event::Closed("nobody listens there".to_owned()));
        });
    }
}
