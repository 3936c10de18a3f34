//! Who abuses the port of the cluster is let go, counted and named; phones do not notice.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tandem_bin::clusterer::{Body, Internal, LinkStateUpdate};
use tandem_bin::usrloc::{CAPABILITY, ContactDelete, MatchMode, Usrloc, VERSION};
use tandem_bin::{Packet, Trailer};
use tandem_tests::{Node, PATIENCE, Phone, Site, now, stream, wait_until};

const MEMORY_MB_MAX: u64 = 100;

fn port(node: &Node) -> SocketAddr {
    SocketAddr::new(node.sip.ip(), 5566)
}

fn refused(node: &Node) -> u64 {
    let name = "clusterer:refused_packets";
    node.mi("get_statistics", json!([[name]]))[name].as_u64().expect("a statistic")
}

/// A packet that asks node 1 to forget alice.
fn forget(source: u32, destination: u32) -> Vec<u8> {
    let delete = Usrloc::ContactDelete(ContactDelete {
        table: "location".into(),
        aor: "alice".into(),
        uri: "sip:alice@x".into(),
        call_id: "x".into(),
        cseq: 1,
        match_mode: MatchMode::Uri,
    });
    let packet = Packet {
        capability: CAPABILITY.into(),
        packet_type: delete.packet_type(),
        version: VERSION,
        payload: delete.encode().expect("small"),
        trailer: Some(Trailer::new(1, source, destination)),
    };
    packet.encode().expect("small").to_vec()
}

fn internal(source: u32, body: Body) -> Vec<u8> {
    Internal { cluster: 1, source, body }.encode().expect("small").to_vec()
}

/// Writes until the node closes; it may.
fn offer(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Whether the node has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    let _ = stream.set_read_timeout(Some(Duration::from_millis(10)));
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

struct Scene {
    site: Site,
    one: Node,
    two: Node,
    alice: Phone,
}

impl Scene {
    fn new(test: &str) -> Self {
        let site = Site::pair(test);
        let (one, two) = (site.start(1), site.start(2));
        one.wait_in_step();
        let alice = Phone::new("alice", (site.net.ip(10), 5060));
        alice.register_ok(one.sip);
        two.wait_for_users(&["alice"]);
        Self { site, one, two, alice }
    }

    fn stranger(&self) -> TcpStream {
        stream(self.site.net.ip(66), port(&self.one))
    }

    /// A program on the machine of node 2 that is not node 2.
    fn on_the_peers_machine(&self) -> TcpStream {
        stream(self.site.net.ip(2), port(&self.one))
    }

    /// Phones are served, the backup acknowledges, and nobody has forgotten alice.
    fn all_is_well(&mut self) {
        assert_eq!(self.alice.options(self.one.sip).code(), Some(200));
        for node in [&self.one, &self.two] {
            node.wait_for_users(&["alice"]);
        }
        let before = self.one.gate("acknowledged");
        wait_until("the backup acknowledges", PATIENCE, || {
            self.alice.register_ok(self.one.sip);
            self.one.gate("acknowledged") > before
        });
        self.one.wait_in_step();
        assert_eq!(
            (self.one.tag_state().as_str(), self.two.tag_state().as_str()),
            ("active", "backup")
        );
        for node in [&mut self.one, &mut self.two] {
            assert!(node.process.ended().is_none());
            let output = node.process.output();
            assert!(!output.contains("panicked"), "{output}");
        }
    }

    /// Whether the log of node 1 names an address.
    fn names(&self, host: u8) -> bool {
        let ip = self.site.net.ip(host).to_string();
        let refusals = ["dropped", "refused", "closed", "uses our node id"];
        let about = |l: &str| l.contains(&ip) && refusals.iter().any(|word| l.contains(word));
        self.one.process.output().lines().any(about)
    }
}

#[test]
fn garbage_is_refused_counted_and_named() {
    let mut scene = Scene::new("bin-hostile");
    let whole = forget(2, 1);
    let mut all: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00".to_vec(),
        vec![0; 70_000],
        [&b"P4CK\xff\xff\xff\xff"[..], &[1; 500]].concat(),
        [&b"P4CK\x00\x00\x00\x00"[..], &[1; 500]].concat(),
    ];
    // Every byte of a packet changed, and every length cut.
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0xa5;
        all.push(changed);
        all.push(whole[..at].to_vec());
    }
    let before = refused(&scene.one);
    for bytes in &all {
        offer(&mut scene.stranger(), bytes);
    }
    assert!(scene.one.process.memory_mb() < MEMORY_MB_MAX);
    wait_until("all of it is counted", PATIENCE, || refused(&scene.one) > before + 50);
    wait_until("the liar is named", PATIENCE, || scene.names(66));
    scene.all_is_well();
}

#[test]
fn whoever_lies_about_its_id_is_not_believed() {
    let mut scene = Scene::new("bin-liar");
    let before = refused(&scene.one);
    let ping = |id| internal(id, Body::Ping { want_list: true });
    let lies = [
        forget(1, 1),
        forget(2, 1),
        forget(3, 1),
        forget(2, 2),
        ping(1),
        ping(2),
        ping(3),
        ping(u32::MAX),
    ];
    for lie in &lies {
        offer(&mut scene.stranger(), lie);
    }
    wait_until("each lie is counted", PATIENCE, || {
        refused(&scene.one) >= before + lies.len() as u64
    });
    wait_until("the liar is named", PATIENCE, || scene.names(66));
    // From the right machine with a wrong name.
    for lie in [forget(1, 1), forget(3, 1), ping(1)] {
        offer(&mut scene.on_the_peers_machine(), &lie);
    }
    wait_until("and these", PATIENCE, || refused(&scene.one) >= before + lies.len() as u64 + 3);
    wait_until("the other liar is named", PATIENCE, || scene.names(2));
    scene.all_is_well();
}

#[test]
fn repeated_and_reordered_packets_change_nothing() {
    let mut scene = Scene::new("bin-order");
    let link = |sequence, up| {
        let update = LinkStateUpdate { sequence, timestamp: 1, neighbour: 1, up, path: vec![2] };
        internal(2, Body::LinkState(update))
    };
    let mut peer = scene.on_the_peers_machine();
    // Old news of node 2, the newest first, and each many times: the link stays as it is.
    for sequence in [9, 3, 7, 1, 2, 9, 8, 0, -1, i32::MIN] {
        for _ in 0..100 {
            offer(&mut peer, &link(sequence, sequence % 2 == 0));
            offer(&mut peer, &forget(2, 1));
        }
    }
    scene.all_is_well();
    let names = scene.one.mi("clusterer_list", Json::Null);
    assert_eq!(names["Clusters"][0]["Nodes"][0]["link_state"], "Up", "{names}");
}

#[test]
fn a_flood_neither_fills_the_memory_nor_keeps_phones_waiting() {
    let mut scene = Scene::new("bin-flood");
    let before = refused(&scene.one);
    let ping = internal(7, Body::Ping { want_list: true }).repeat(500);
    let mut strangers: Vec<TcpStream> = (0..8).map(|_| scene.stranger()).collect();
    for stream in &strangers {
        let _ = stream.set_write_timeout(Some(Duration::from_millis(50)));
    }
    let end = now() + Duration::from_secs(3);
    let mut served = 0;
    while now() < end {
        for stream in &mut strangers {
            // Cut in the middle now and then; the node closes, and a new one comes.
            if stream.write_all(&ping).is_err() {
                *stream = scene.stranger();
                let _ = stream.set_write_timeout(Some(Duration::from_millis(50)));
            }
        }
        assert_eq!(scene.alice.options(scene.one.sip).code(), Some(200));
        served += 1;
    }
    assert!(served > 5, "only {served} requests were served");
    assert!(refused(&scene.one) > before + 1_000);
    assert!(scene.one.process.memory_mb() < MEMORY_MB_MAX);
    // What is logged of a flood has a bound as well.
    assert!(scene.one.process.output().lines().count() < 2_000);
    drop(strangers);
    scene.all_is_well();
}

#[test]
fn silent_and_slow_connections_are_let_go() {
    let mut scene = Scene::new("bin-slow");
    let mut silent: Vec<TcpStream> = (0..40).map(|_| scene.stranger()).collect();
    let mut slow = stream(scene.site.net.ip(67), port(&scene.one));
    let whole = forget(2, 1);
    let mut drops = whole[..whole.len() - 1].iter();
    wait_until("a stranger may have few at a time", PATIENCE, || {
        silent.iter_mut().filter_map(|s| is_closed(s).then_some(())).count() >= 20
    });
    scene.all_is_well();
    wait_until("the others are let go in time", 2 * PATIENCE, || {
        // A byte now and then does not help.
        if let Some(byte) = drops.next() {
            offer(&mut slow, &[*byte]);
        }
        silent.iter_mut().all(is_closed) && is_closed(&mut slow)
    });
    wait_until("both are named", PATIENCE, || scene.names(66) && scene.names(67));
    scene.all_is_well();
}

#[test]
fn what_a_node_sends_that_cannot_be_read_fills_no_log() {
    let mut scene = Scene::new("bin-unread");
    let packet = Packet {
        capability: CAPABILITY.into(),
        packet_type: 3,
        version: VERSION,
        payload: (&b"\x09"[..]).into(),
        trailer: Some(Trailer::new(1, 2, 1)),
    };
    let many = packet.encode().expect("small").repeat(500);
    let mut peer = scene.on_the_peers_machine();
    for _ in 0..100 {
        offer(&mut peer, &many);
        assert_eq!(scene.alice.options(scene.one.sip).code(), Some(200));
    }
    wait_until("it is said that there are more", PATIENCE, || {
        offer(&mut peer, &many);
        scene.one.process.output().contains("more lines like those of a moment ago")
    });
    assert!(scene.one.process.output().lines().count() < 2_000);
    assert!(scene.one.process.memory_mb() < MEMORY_MB_MAX);
    scene.all_is_well();
}
