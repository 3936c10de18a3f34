//! UDP sockets and the poll loop, on loopback.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use bytes::Bytes;
use tandem_net::{
    Datagram, Interest, Outgoing, Poller, RecvBatch, SendError, UdpOptions, UdpSocket,
};

fn open(addr: &str) -> UdpSocket {
    UdpSocket::open(addr.parse().expect("address"), UdpOptions::default()).expect("socket")
}

fn outgoing(to: SocketAddr, from_ip: Option<&str>, payload: impl Into<Bytes>) -> Outgoing {
    let from_ip = from_ip.map(|ip| ip.parse().expect("ip"));
    Outgoing { to, from_ip, payload: payload.into() }
}

/// Receives until `count` datagrams came or nothing comes for a second.
fn receive(socket: &UdpSocket, count: usize) -> Vec<Datagram> {
    let poller = Poller::new().expect("poller");
    poller.add(socket, 1, Interest::Read).expect("add");
    let (mut batch, mut ready, mut all) = (RecvBatch::new(), Vec::new(), Vec::new());
    while all.len() < count {
        poller.wait(&mut ready, Some(1_000_000_000)).expect("wait");
        if ready.is_empty() {
            break;
        }
        socket.recv_batch(&mut batch).expect("receive");
        all.extend(batch.drain());
    }
    all
}

#[test]
fn a_batch_arrives_whole_and_in_order_with_its_addresses() {
    let (a, b) = (open("127.0.0.1:0"), open("127.0.0.2:0"));
    let payloads: Vec<Bytes> = (0..100).map(|i| Bytes::from(vec![i as u8; i * 7])).collect();
    let batch: Vec<Outgoing> =
        payloads.iter().map(|p| outgoing(b.local_addr(), None, p.clone())).collect();
    let mut failures = Vec::new();
    assert_eq!(a.send_batch(&batch, &mut failures), 100);
    assert!(failures.is_empty());
    let received = receive(&b, 100);
    assert_eq!(received.iter().map(|d| d.payload.clone()).collect::<Vec<_>>(), payloads);
    assert!(received.iter().all(|d| d.source == a.local_addr()));
    assert!(received.iter().all(|d| d.local_ip == IpAddr::from([127, 0, 0, 2])));
}

#[test]
fn the_payloads_of_a_batch_share_one_buffer() {
    let (a, b) = (open("127.0.0.1:0"), open("127.0.0.1:0"));
    let message = outgoing(b.local_addr(), None, vec![7; 200]);
    a.send_batch(&vec![message; RecvBatch::CAPACITY], &mut Vec::new());
    let mut batch = RecvBatch::new();
    assert_eq!(b.recv_batch(&mut batch).expect("receive"), RecvBatch::CAPACITY);
    for pair in batch.datagrams().windows(2) {
        assert_eq!(pair[0].payload.as_ptr_range().end, pair[1].payload.as_ptr());
    }
}

#[test]
fn the_largest_datagram_arrives_and_a_larger_one_is_refused_alone() {
    let (a, b) = (open("127.0.0.1:0"), open("127.0.0.1:0"));
    let batch = [
        outgoing(b.local_addr(), None, vec![1; 65_508]),
        outgoing(b.local_addr(), None, vec![2; 65_507]),
    ];
    let mut failures = Vec::new();
    assert_eq!(a.send_batch(&batch, &mut failures), 1);
    assert_eq!(failures.len(), 1);
    assert!(failures[0].index == 0 && matches!(failures[0].error, SendError::TooLong));
    let received = receive(&b, 1);
    assert_eq!(received[0].payload, Bytes::from(vec![2; 65_507]));
}

#[test]
fn each_datagram_leaves_from_the_address_it_names() {
    let (a, b) = (open("0.0.0.0:0"), open("127.0.0.1:0"));
    let batch = [
        outgoing(b.local_addr(), Some("127.0.0.11"), "x"),
        outgoing(b.local_addr(), Some("127.0.0.12"), "y"),
    ];
    assert_eq!(a.send_batch(&batch, &mut Vec::new()), 2);
    let sources: Vec<IpAddr> = receive(&b, 2).iter().map(|d| d.source.ip()).collect();
    assert_eq!(sources, [IpAddr::from([127, 0, 0, 11]), IpAddr::from([127, 0, 0, 12])]);
    // And a wildcard socket learns which of its addresses was asked.
    let to = SocketAddr::new(IpAddr::from([127, 0, 0, 13]), a.local_addr().port());
    assert_eq!(b.send_batch(&[outgoing(to, None, "z")], &mut Vec::new()), 1);
    assert_eq!(receive(&a, 1)[0].local_ip, IpAddr::from([127, 0, 0, 13]));
}

#[test]
fn an_address_that_is_elsewhere_can_be_bound_but_not_sent_from() {
    // 192.0.2.0/24 is for documentation: no host has it.
    let absent = open("192.0.2.1:0");
    let wildcard = open("0.0.0.0:0");
    let peer = open("127.0.0.1:0");
    let to = peer.local_addr();
    let mut failures = Vec::new();
    assert_eq!(absent.send_batch(&[outgoing(to, None, "x")], &mut failures), 0);
    let batch = [outgoing(to, Some("192.0.2.1"), "y"), outgoing(to, None, "z")];
    assert_eq!(wildcard.send_batch(&batch, &mut failures), 1);
    assert_eq!(failures.len(), 2);
    assert!(failures.iter().all(|f| f.index == 0 && matches!(f.error, SendError::NotHolder)));
    // A fault of the destination is not taken for one of the source.
    failures.clear();
    let nowhere = SocketAddr::new(to.ip(), 0);
    wildcard.send_batch(&[outgoing(nowhere, Some("127.0.0.1"), "x")], &mut failures);
    assert!(matches!(failures[0].error, SendError::Io(_)));
}

#[test]
fn two_sockets_share_a_port_and_get_every_datagram_once() {
    let options = UdpOptions { reuse_port: true, ..UdpOptions::default() };
    let a = UdpSocket::open("127.0.0.1:0".parse().expect("address"), options).expect("first");
    let b = UdpSocket::open(a.local_addr(), options).expect("second");
    assert!(UdpSocket::open(a.local_addr(), UdpOptions::default()).is_err());
    let mut sent = BTreeSet::new();
    for i in 0..64_u8 {
        let sender = open("127.0.0.1:0");
        sender.send_batch(&[outgoing(a.local_addr(), None, vec![i])], &mut Vec::new());
        sent.insert(i);
    }
    let mut batch = RecvBatch::new();
    let mut got = BTreeSet::new();
    for socket in [&a, &b] {
        while socket.recv_batch(&mut batch).expect("receive") > 0 {
            assert!(batch.drain().all(|d| got.insert(d.payload[0])));
        }
    }
    assert_eq!(got, sent);
}

#[test]
fn ipv6_works_the_same_where_the_host_has_it() {
    if !tandem_net::is_local_address("::1".parse().expect("ip")) {
        return;
    }
    let (a, b) = (open("[::]:0"), open("[::1]:0"));
    let options = UdpOptions { tos: Some(0xb8), ..UdpOptions::default() };
    let absent = UdpSocket::open("[2001:db8::1]:0".parse().expect("address"), options);
    let mut failures = Vec::new();
    let message = [outgoing(b.local_addr(), None, "x")];
    assert_eq!(absent.expect("freebind").send_batch(&message, &mut failures), 0);
    assert!(matches!(failures[0].error, SendError::NotHolder));
    assert_eq!(a.send_batch(&[outgoing(b.local_addr(), Some("::1"), "x")], &mut Vec::new()), 1);
    let received = receive(&b, 1);
    assert_eq!(received[0].source.ip(), "::1".parse::<IpAddr>().expect("ip"));
    assert_eq!(received[0].local_ip, "::1".parse::<IpAddr>().expect("ip"));
}

#[test]
fn a_waker_ends_the_wait_once_for_many_wakes() {
    let poller = Poller::new().expect("poller");
    let waker = poller.waker();
    let thread = std::thread::Builder::new().spawn(move || {
        waker.wake();
        waker.wake();
    });
    thread.expect("thread").join().expect("join");
    let mut ready = Vec::new();
    assert!(poller.wait(&mut ready, None).expect("wait"));
    assert!(!poller.wait(&mut ready, Some(0)).expect("wait"));
    assert!(ready.is_empty());
}

#[test]
fn a_removed_socket_is_not_reported() {
    let (a, b) = (open("127.0.0.1:0"), open("127.0.0.1:0"));
    let poller = Poller::new().expect("poller");
    poller.add(&b, 9, Interest::Both).expect("add");
    a.send_batch(&[outgoing(b.local_addr(), None, "x")], &mut Vec::new());
    let mut ready = Vec::new();
    poller.wait(&mut ready, Some(0)).expect("wait");
    assert!(ready[0].token == 9 && ready[0].readable && ready[0].writable);
    poller.modify(&b.as_fd(), 10, Interest::Read).expect("modify");
    poller.wait(&mut ready, Some(0)).expect("wait");
    assert!(ready[0].token == 10 && !ready[0].writable);
    poller.remove(&b).expect("remove");
    poller.wait(&mut ready, Some(0)).expect("wait");
    assert!(ready.is_empty());
}
