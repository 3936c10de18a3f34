//! BIN streams on loopback.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tandem_net::{BinEvent, BinHandle, BinOptions, Command, ConnId};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

struct Node {
    handle: BinHandle,
    events: mpsc::Receiver<BinEvent>,
    addr: SocketAddr,
}

fn node(options: BinOptions, room: usize) -> Node {
    let (sender, events) = mpsc::channel(room);
    let handle = BinHandle::new(Handle::current(), options, sender);
    let addr = handle.listen("127.0.0.1:0".parse().expect("address")).expect("listen");
    Node { handle, events, addr }
}

impl Node {
    async fn next(&mut self) -> BinEvent {
        let next = tokio::time::timeout(Duration::from_secs(10), self.events.recv());
        next.await.expect("an event in time").expect("open channel")
    }

    fn connect(&self, number: u64, peer: SocketAddr) -> ConnId {
        let conn = ConnId(number);
        let local_ip = Some(IpAddr::from([127, 0, 0, 7]));
        self.handle.command(Command::Connect { conn, peer, local_ip });
        conn
    }

    fn write(&self, conn: ConnId, bytes: impl Into<Bytes>) {
        self.handle.command(Command::Write { conn, bytes: bytes.into() });
    }

    /// Reads `len` bytes of one connection.
    async fn read(&mut self, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            match self.next().await {
                BinEvent::Data { bytes, .. } => all.extend_from_slice(&bytes),
                other => panic!("unexpected {other:?}"),
            }
        }
        all
    }

    async fn accepted(&mut self) -> (ConnId, SocketAddr) {
        match self.next().await {
            BinEvent::Accepted { conn, peer, .. } => (conn, peer),
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn bytes_written_before_the_connect_ends_arrive_in_order_in_both_directions() {
    let (mut a, mut b) = (node(BinOptions::default(), 8), node(BinOptions::default(), 8));
    let conn = a.connect(1, b.addr);
    let chunks: Vec<Vec<u8>> = (0..200_u8).map(|i| vec![i; 1 + usize::from(i) * 9]).collect();
    for chunk in &chunks {
        a.write(conn, chunk.clone());
    }
    let (accepted, peer) = b.accepted().await;
    assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 7]));
    assert!(accepted.0 >= ConnId::ACCEPTED);
    let all = chunks.concat();
    assert_eq!(b.read(all.len()).await, all);
    b.write(accepted, "back");
    assert!(matches!(a.next().await, BinEvent::Connected { .. }));
    assert_eq!(a.read(4).await, b"back");
}

#[tokio::test]
async fn a_close_sends_what_is_queued_first() {
    let (mut a, mut b) = (node(BinOptions::default(), 8), node(BinOptions::default(), 8));
    let conn = a.connect(1, b.addr);
    a.write(conn, vec![5; 300_000]);
    a.handle.command(Command::Close { conn });
    b.accepted().await;
    assert_eq!(b.read(300_000).await, vec![5; 300_000]);
    assert!(matches!(b.next().await, BinEvent::Closed { error: None, .. }));
    assert!(matches!(a.next().await, BinEvent::Connected { .. }));
    assert!(matches!(a.next().await, BinEvent::Closed { error: None, .. }));
    a.write(conn, "after");
    assert_eq!(a.handle.queued_bytes(conn), 0);
}

#[tokio::test]
async fn a_refused_connect_is_reported() {
    let mut a = node(BinOptions::default(), 8);
    let gone = node(BinOptions::default(), 8).addr;
    // The listener of a dropped node ends a moment later; whichever wins, there is one answer.
    tokio::task::yield_now().await;
    let conn = a.connect(1, SocketAddr::new(gone.ip(), 1));
    match a.next().await {
        BinEvent::ConnectFailed { conn: failed, error } => {
            assert_eq!(failed, conn);
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn a_connect_from_an_address_that_is_elsewhere_fails() {
    let (mut a, b) = (node(BinOptions::default(), 8), node(BinOptions::default(), 8));
    let local_ip = Some(IpAddr::from([192, 0, 2, 1]));
    a.handle.command(Command::Connect { conn: ConnId(1), peer: b.addr, local_ip });
    match a.next().await {
        BinEvent::ConnectFailed { error, .. } => {
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        }
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn a_listener_may_wait_for_an_address_that_is_elsewhere() {
    let a = node(BinOptions::default(), 8);
    a.handle.listen("192.0.2.1:0".parse().expect("address")).expect("listen");
}

#[tokio::test]
async fn a_queue_over_its_limit_closes_the_connection() {
    let options = BinOptions { write_queue_bytes_max: 100_000, ..BinOptions::default() };
    let (mut a, b) = (node(options, 8), node(BinOptions::default(), 1));
    let conn = a.connect(1, b.addr);
    assert!(matches!(a.next().await, BinEvent::Connected { .. }));
    // Nobody takes the events of b, so it stops reading and the queue of a fills.
    let mut written = 0;
    while a.handle.queued_bytes(conn) <= 60_000 && written < 100_000_000 {
        a.write(conn, vec![0; 50_000]);
        written += 50_000;
        tokio::task::yield_now().await;
    }
    a.write(conn, vec![0; 100_000]);
    match a.next().await {
        BinEvent::Closed { error: Some(error), .. } => {
            assert_eq!(error.to_string(), "the write queue is over its limit");
        }
        other => panic!("unexpected {other:?}"),
    }
    assert!(written < 100_000_000);
}

#[tokio::test]
async fn a_slow_consumer_loses_nothing() {
    let (a, mut b) = (node(BinOptions::default(), 8), node(BinOptions::default(), 1));
    let conn = a.connect(1, b.addr);
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|i| (i / 7) as u8).collect();
    for chunk in bytes.chunks(60_000) {
        a.write(conn, chunk.to_vec());
    }
    b.accepted().await;
    assert!(b.read(bytes.len()).await == bytes);
}

#[tokio::test]
async fn connections_of_an_address_that_left_are_closed() {
    let (mut a, mut b) = (node(BinOptions::default(), 8), node(BinOptions::default(), 8));
    a.connect(1, b.addr);
    assert!(matches!(a.next().await, BinEvent::Connected { .. }));
    b.accepted().await;
    a.handle.command(Command::CloseLocal { ip: IpAddr::from([127, 0, 0, 8]) });
    a.handle.command(Command::CloseLocal { ip: IpAddr::from([127, 0, 0, 7]) });
    assert!(matches!(a.next().await, BinEvent::Closed { error: Some(_), .. }));
    assert!(matches!(b.next().await, BinEvent::Closed { .. }));
}

#[tokio::test]
async fn a_number_in_use_and_one_connection_too_many_are_refused() {
    let options = BinOptions { connections_max: 1, ..BinOptions::default() };
    let (mut a, b) = (node(options, 8), node(BinOptions::default(), 8));
    a.connect(1, b.addr);
    assert!(matches!(a.next().await, BinEvent::Connected { .. }));
    let conn = a.connect(2, b.addr);
    assert!(matches!(a.next().await, BinEvent::ConnectFailed { conn: c, .. } if c == conn));
    a.write(ConnId(1), "still there");
    let mut c = node(BinOptions::default(), 8);
    c.connect(1, b.addr);
    c.connect(1, b.addr);
    let answers = [c.next().await, c.next().await];
    assert!(answers.iter().any(|event| matches!(event, BinEvent::ConnectFailed { .. })));
    assert!(answers.iter().any(|event| matches!(event, BinEvent::Connected { .. })));
}

#[tokio::test]
async fn dropping_the_handle_ends_its_connections() {
    let (a, mut b) = (node(BinOptions::default(), 8), node(BinOptions::default(), 8));
    a.connect(1, b.addr);
    let Node { handle, mut events, .. } = a;
    b.accepted().await;
    assert!(matches!(events.recv().await, Some(BinEvent::Connected { .. })));
    drop(handle);
    assert!(matches!(events.recv().await, Some(BinEvent::Closed { .. })));
    assert!(matches!(b.next().await, BinEvent::Closed { .. }));
}
