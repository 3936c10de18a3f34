//! BIN streams on loopback.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use tandem_net::{BinEvent, BinOptions, BinStreams, Command, ConnId, Poller};

const MS: u64 = 1_000_000;
const A: usize = 0;
const B: usize = 1;

struct Node {
    poller: Poller,
    streams: BinStreams,
    events: VecDeque<BinEvent>,
    addr: SocketAddr,
}

/// Nodes that one thread drives, and their clock.
struct World {
    nodes: Vec<Node>,
    now_ns: u64,
}

fn node(options: BinOptions) -> Node {
    let poller = Poller::new().expect("poller");
    let mut streams = BinStreams::new(options);
    let any = "127.0.0.1:0".parse().expect("address");
    let addr = streams.listen(&poller, any).expect("listen");
    Node { poller, streams, events: VecDeque::new(), addr }
}

fn two() -> World {
    World { nodes: vec![node(BinOptions::default()), node(BinOptions::default())], now_ns: 0 }
}

impl Node {
    fn turn(&mut self, now_ns: u64, wait_ns: u64) {
        let (mut ready, mut events) = (Vec::new(), Vec::new());
        self.poller.wait(&mut ready, Some(wait_ns)).expect("wait");
        for event in ready {
            assert!(BinStreams::owns(event.token));
            self.streams.ready(&self.poller, event, &mut events);
        }
        self.streams.flush(&self.poller, &mut events);
        self.streams.expire(&self.poller, now_ns, &mut events);
        self.events.extend(events);
    }
}

impl World {
    /// Drives every node until one of them has an event.
    fn next(&mut self, of: usize) -> BinEvent {
        for _ in 0..100_000 {
            for node in &mut self.nodes {
                node.turn(self.now_ns, 0);
            }
            if let Some(event) = self.nodes[of].events.pop_front() {
                return event;
            }
            self.nodes[of].turn(self.now_ns, MS);
        }
        panic!("no event in time");
    }

    fn command(&mut self, of: usize, command: Command) {
        let mut events = Vec::new();
        let node = &mut self.nodes[of];
        node.streams.command(&node.poller, self.now_ns, command, &mut events);
        node.events.extend(events);
    }

    fn connect(&mut self, from: usize, number: u64, peer: SocketAddr) -> ConnId {
        let local_ip = Some(IpAddr::from([127, 0, 0, 7]));
        self.command(from, Command::Connect { conn: ConnId(number), peer, local_ip });
        ConnId(number)
    }

    fn write(&mut self, of: usize, conn: ConnId, bytes: impl Into<Bytes>) {
        self.command(of, Command::Write { conn, bytes: bytes.into() });
    }

    /// Reads `len` bytes of one connection.
    fn read(&mut self, of: usize, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            match self.next(of) {
                BinEvent::Data { bytes, .. } => all.extend_from_slice(&bytes),
                other => panic!("unexpected {other:?}"),
            }
        }
        all
    }

    fn accepted(&mut self, of: usize) -> (ConnId, SocketAddr) {
        match self.next(of) {
            BinEvent::Accepted { conn, peer, .. } => (conn, peer),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn addr(&self, of: usize) -> SocketAddr {
        self.nodes[of].addr
    }
}

#[test]
fn bytes_written_before_the_connect_ends_arrive_in_order_in_both_directions() {
    let mut world = two();
    let conn = world.connect(A, 1, world.addr(B));
    let chunks: Vec<Vec<u8>> = (0..200_u8).map(|i| vec![i; 1 + usize::from(i) * 9]).collect();
    for chunk in &chunks {
        world.write(A, conn, chunk.clone());
    }
    let (accepted, peer) = world.accepted(B);
    assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 7]));
    assert!(accepted.0 >= ConnId::ACCEPTED);
    let all = chunks.concat();
    assert_eq!(world.read(B, all.len()), all);
    world.write(B, accepted, "back");
    assert!(matches!(world.next(A), BinEvent::Connected { .. }));
    assert_eq!(world.read(A, 4), b"back");
}

#[test]
fn a_close_sends_what_is_queued_first() {
    let mut world = two();
    let conn = world.connect(A, 1, world.addr(B));
    world.write(A, conn, vec![5; 300_000]);
    world.command(A, Command::Close { conn });
    world.accepted(B);
    assert_eq!(world.read(B, 300_000), vec![5; 300_000]);
    assert!(matches!(world.next(B), BinEvent::Closed { error: None, .. }));
    assert!(matches!(world.next(A), BinEvent::Connected { .. }));
    assert!(matches!(world.next(A), BinEvent::Closed { error: None, .. }));
    world.write(A, conn, "after");
    assert_eq!(world.nodes[A].streams.queued_bytes(conn), 0);
}

#[test]
fn a_refused_connect_is_reported() {
    let mut world = two();
    let gone = node(BinOptions::default()).addr;
    let conn = world.connect(A, 1, SocketAddr::new(gone.ip(), 1));
    match world.next(A) {
        BinEvent::ConnectFailed { conn: failed, error } => {
            assert_eq!(failed, conn);
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn a_connect_from_an_address_that_is_elsewhere_fails() {
    let mut world = two();
    let (local_ip, peer) = (Some(IpAddr::from([192, 0, 2, 1])), world.addr(B));
    world.command(A, Command::Connect { conn: ConnId(1), peer, local_ip });
    match world.next(A) {
        BinEvent::ConnectFailed { error, .. } => {
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        }
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn a_connect_without_an_answer_ends_in_time() {
    let mut world = two();
    // A listener whose queue of connections is full does not answer any more.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let full = full.expect("socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("address");
    full.bind(&any.into()).expect("bind");
    full.listen(0).expect("listen");
    let peer = full.local_addr().expect("address").as_socket().expect("address");
    for number in 1..=4 {
        world.connect(A, number, peer);
    }
    for _ in 0..50 {
        world.nodes[A].turn(world.now_ns, MS);
    }
    assert!(world.nodes[A].streams.next_deadline().is_some());
    world.now_ns = BinOptions::default().connect_timeout_ns;
    let failed = |event: &BinEvent| match event {
        BinEvent::ConnectFailed { error, .. } => error.kind() == io::ErrorKind::TimedOut,
        _ => false,
    };
    while !failed(&world.next(A)) {}
    assert!(world.nodes[A].streams.next_deadline().is_none());
}

#[test]
fn a_listener_may_wait_for_an_address_that_is_elsewhere() {
    let mut node = node(BinOptions::default());
    let elsewhere = "192.0.2.1:0".parse().expect("address");
    node.streams.listen(&node.poller, elsewhere).expect("listen");
}

#[test]
fn a_queue_over_its_limit_closes_the_connection() {
    let mut world = two();
    let options = BinOptions { write_queue_bytes_max: 100_000, ..BinOptions::default() };
    world.nodes[A] = node(options);
    let conn = world.connect(A, 1, world.addr(B));
    assert!(matches!(world.next(A), BinEvent::Connected { .. }));
    // Nobody reads at b any more, so the queue of a fills.
    let mut written = 0;
    while world.nodes[A].streams.queued_bytes(conn) <= 60_000 && written < 100_000_000 {
        world.write(A, conn, vec![0; 50_000]);
        written += 50_000;
        world.nodes[A].turn(0, 0);
    }
    world.write(A, conn, vec![0; 100_000]);
    match world.nodes[A].events.pop_front() {
        Some(BinEvent::Closed { error: Some(error), .. }) => {
            assert_eq!(error.to_string(), "the write queue is over its limit");
        }
        other => panic!("unexpected {other:?}"),
    }
    assert!(written < 100_000_000);
}

#[test]
fn a_slow_reader_loses_nothing() {
    let mut world = two();
    let conn = world.connect(A, 1, world.addr(B));
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|i| (i / 7) as u8).collect();
    for chunk in bytes.chunks(60_000) {
        world.write(A, conn, chunk.to_vec());
    }
    world.accepted(B);
    assert!(world.read(B, bytes.len()) == bytes);
}

#[test]
fn connections_of_an_address_that_left_are_closed() {
    let mut world = two();
    world.connect(A, 1, world.addr(B));
    assert!(matches!(world.next(A), BinEvent::Connected { .. }));
    world.accepted(B);
    world.command(A, Command::CloseLocal { ip: IpAddr::from([127, 0, 0, 8]) });
    assert!(world.nodes[A].events.is_empty());
    world.command(A, Command::CloseLocal { ip: IpAddr::from([127, 0, 0, 7]) });
    assert!(matches!(world.next(A), BinEvent::Closed { error: Some(_), .. }));
    assert!(matches!(world.next(B), BinEvent::Closed { .. }));
}

#[test]
fn a_number_in_use_and_one_connection_too_many_are_refused() {
    let mut world = two();
    world.nodes[A] = node(BinOptions { connections_max: 1, ..BinOptions::default() });
    let peer = world.addr(B);
    world.connect(A, 1, peer);
    assert!(matches!(world.next(A), BinEvent::Connected { .. }));
    let conn = world.connect(A, 2, peer);
    assert!(matches!(world.next(A), BinEvent::ConnectFailed { conn: c, .. } if c == conn));
    world.write(A, ConnId(1), "still there");
    world.accepted(B);
    assert_eq!(world.read(B, 11), b"still there");
    world.nodes.push(node(BinOptions::default()));
    world.connect(2, 1, peer);
    world.connect(2, 1, peer);
    assert!(matches!(world.next(2), BinEvent::ConnectFailed { .. }));
    assert!(matches!(world.next(2), BinEvent::Connected { .. }));
}

#[test]
fn dropping_the_streams_ends_their_connections() {
    let mut world = two();
    world.connect(A, 1, world.addr(B));
    world.accepted(B);
    world.nodes[A] = node(BinOptions::default());
    assert!(matches!(world.next(B), BinEvent::Closed { .. }));
}

/// With tests in one process this would be theirs, too; nextest gives each its own.
#[test]
#[expect(clippy::disallowed_methods, reason = "the other end is none of ours")]
fn a_listener_without_descriptors_rests_and_takes_the_stream_later() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut server = node(BinOptions::default());
    let limit = getrlimit(Resource::Nofile);
    let client = std::net::TcpStream::connect(server.addr).expect("connect");
    let mut none_left = limit;
    none_left.current = Some(0);
    setrlimit(Resource::Nofile, none_left).expect("limit");
    server.turn(0, MS);
    // Its descriptor would be ready in every turn.
    let mut ready = Vec::new();
    server.poller.wait(&mut ready, Some(MS)).expect("wait");
    assert!(ready.is_empty() && server.streams.next_deadline().is_some());
    setrlimit(Resource::Nofile, limit).expect("limit");
    server.turn(99 * MS, MS);
    assert!(server.events.is_empty());
    server.turn(100 * MS, 0);
    server.turn(100 * MS, 100 * MS);
    assert!(matches!(server.events.pop_front(), Some(BinEvent::Accepted { .. })));
    drop(client);
}
