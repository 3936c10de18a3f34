//! Bad input ends in a counted error, never in a node that does not serve.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tandem_tests::{Node, PATIENCE, Phone, Site, repository, wait_until};

/// Bytes without any sense, the same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn still_serves(node: &mut Node, phone: &Phone) {
    assert_eq!(phone.options(node.sip).code(), Some(200));
    assert_eq!(phone.register(node.sip, 600).code(), Some(200));
    assert!(node.process.ended().is_none());
    let output = node.process.output();
    assert!(!output.contains("panicked"), "{output}");
}

#[test]
fn garbage_datagrams_do_not_stop_the_service() {
    let site = Site::pair("garbage");
    let mut node = site.start(1);
    let stranger = Phone::new("stranger", (site.net.ip(66), 5060));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    for n in 0..2000_u64 {
        let length = [0, 1, 4, 19, 64, 500, 1400, 9000][n as usize % 8];
        stranger.send(node.sip, &noise(n, length));
    }
    stranger.send(node.sip, &noise(7, 65_000));
    still_serves(&mut node, &alice);
    let invite = format!("INVITE sip:alice@{} SIP/2.0\r\n", node.sip.ip());
    let filler = "X: ".to_owned() + &"y".repeat(60_000) + "\r\n\r\n";
    let many = "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\n".repeat(1200);
    for rest in ["", "\r\n", "Via:\r\n\r\n", "\0\0\0\r\n\r\n", &filler, &many] {
        stranger.send(node.sip, format!("{invite}{rest}").as_bytes());
    }
    still_serves(&mut node, &alice);
}

#[test]
fn the_torture_messages_of_rfc_4475_do_not_stop_the_service() {
    let site = Site::pair("torture");
    let mut node = site.start(1);
    let stranger = Phone::new("stranger", (site.net.ip(66), 5060));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let folder = repository().join("crates/sip/tests/data/rfc4475");
    let mut sent = 0;
    for entry in folder.read_dir().expect("the messages").flatten() {
        if entry.path().extension().is_some_and(|e| e == "dat") {
            let message = std::fs::read(entry.path()).expect("a message");
            // Whole, cut in the middle, and with a byte changed.
            stranger.send(node.sip, &message);
            stranger.send(node.sip, &message[..message.len() / 2]);
            let mut changed = message.clone();
            if let Some(byte) = changed.get_mut(message.len() / 3) {
                *byte ^= 0x5a;
            }
            stranger.send(node.sip, &changed);
            sent += 1;
            assert_eq!(alice.options(node.sip).code(), Some(200), "after {:?}", entry.path());
        }
    }
    assert_eq!(sent, 49);
    still_serves(&mut node, &alice);
}

#[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap_or_else(|e| panic!("{to}: {e}"));
    let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
    stream
}

#[test]
fn a_stranger_at_the_cluster_port_does_not_disturb_the_cluster() {
    let site = Site::pair("bin-garbage");
    let (mut one, mut two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let port = SocketAddr::new(one.sip.ip(), 5566);
    let mut huge = b"P4CK".to_vec();
    huge.extend([0xff, 0xff, 0xff, 0xff, 1, 0, 4, 0]);
    let mut short = b"P4CK".to_vec();
    short.extend([3, 0, 0, 0]);
    let half = b"P4CK\x40\x00\x00\x00\x01\x00\x12\x00clusterer-int".to_vec();
    let mut left_open = Vec::new();
    for bytes in [noise(1, 10_000), huge, short, half, b"GET / HTTP/1.0\r\n\r\n".to_vec()] {
        let mut stream = connect(port);
        // The node may close while this is being written.
        let _ = stream.write_all(&bytes);
        let _ = stream.read(&mut [0; 16]);
        left_open.push(stream);
    }
    let idle: Vec<TcpStream> = (0..50).map(|_| connect(port)).collect();
    let before = one.gate("acknowledged");
    wait_until("registrations are still acknowledged by the backup", PATIENCE, || {
        alice.register_ok(one.sip);
        one.gate("acknowledged") > before
    });
    two.wait_for_users(&["alice"]);
    one.wait_in_step();
    drop((left_open, idle));
    for node in [&mut one, &mut two] {
        still_serves(node, &alice);
    }
    assert_eq!((one.tag_state().as_str(), two.tag_state().as_str()), ("active", "backup"));
}

#[test]
fn a_phone_whose_outbound_proxy_is_the_pair_reaches_others_and_nobody_past_the_script() {
    let site = Site::pair("preloaded");
    let node = site.start(1);
    let phones = [("alice", 10), ("bob", 11)];
    let [alice, bob] = phones.map(|(user, host)| Phone::new(user, (site.net.ip(host), 5060)));
    alice.register_ok(node.sip);
    bob.register_ok(node.sip);
    let elsewhere = Phone::new("elsewhere", (site.net.ip(12), 5060));
    let ask = |n: u32, route: &str| {
        let (call_id, sip) = (format!("preloaded-{n}"), node.sip);
        let request = format!(
            "OPTIONS sip:bob@{sip} SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bKpre{n}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:alice@{sip}>;tag=a\r\nTo: <sip:bob@{sip}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nRoute: {route}\r\nContent-Length: 0\r\n\r\n",
            at = alice.at,
        );
        let reply = alice.transact(sip, &request, &call_id, "1 OPTIONS");
        (reply.code(), bob.requests("OPTIONS", &call_id))
    };
    let (own, other) = (format!("<sip:{};lr>", node.sip), format!("<sip:{};lr>", elsewhere.at));
    let (code, asked) = ask(1, &own);
    assert_eq!((code, asked.len()), (Some(200), 1));
    assert_eq!((asked[0].all("Route").len(), asked[0].all("Via").len()), (0, 2), "{asked:?}");
    for (n, route) in [(2, other.clone()), (3, format!("{own}, {other}"))] {
        assert_eq!(ask(n, &route).0, Some(403), "{route}");
    }
    assert!(elsewhere.messages().is_empty());
}
