//! Bridges between clusters: who sends, to whom, and the bytes of it.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use tandem_bin::{BRIDGED, Packet, Trailer};
use tandem_clock::Now;
use tandem_cluster::{
    BridgeConfig, CapId, ClusterConfig, Clusterer, Config, ConnId, Effect, Effects, NodeConfig,
    Reason, TagConfig,
};

const NOW: Now = Now { mono_ns: 1_000_000_000, unix_ms: 1_800_000_000_000 };

/// The bytes of a captured packet.
fn vector(number: &str) -> Bytes {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin/tests/vectors");
    let mut files = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
    let file =
        files.find(|f| f.file_name().unwrap().to_string_lossy().starts_with(number)).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let digits: String = text.lines().filter(|l| !l.starts_with('#')).collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Node 1 of cluster 1, with a bridge to two nodes of cluster 2.
fn node() -> (Clusterer, CapId) {
    let mut config = Config::new(1, 7);
    config.clusters = vec![ClusterConfig::new(1, NodeConfig::new(1, addr("127.0.0.1:5566")))];
    config.tags = vec![TagConfig { name: "edge".into(), cluster: 1, active_in_file: false }];
    let mut machine = Clusterer::new(config);
    let cap = machine.register_capability(1, "ratelimit-pipe-repl", false).unwrap();
    let mut out = Effects::default();
    machine.start(NOW, &mut out);
    machine.set_bridges(
        vec![BridgeConfig {
            from: 1,
            to: 2,
            tag: "edge".into(),
            addresses: vec![addr("127.0.0.2:5566"), addr("127.0.0.3:5566")],
        }],
        &mut out,
    );
    (machine, cap)
}

fn activate(machine: &mut Clusterer) {
    let mut out = Effects::default();
    machine.activate_tag(NOW, "edge", 1, Reason::default(), &mut out).unwrap();
    let tokens: Vec<u64> = drain(&mut out)
        .iter()
        .filter_map(|e| if let Effect::Persist { token, .. } = e { Some(*token) } else { None })
        .collect();
    for token in tokens {
        machine.persisted(NOW, token, true, &mut out);
    }
}

fn drain(out: &mut Effects) -> Vec<Effect> {
    out.drain().collect()
}

fn send(machine: &mut Clusterer, cap: CapId) -> (usize, Vec<Effect>) {
    let edge = Packet::decode(vector("091")).unwrap();
    let mut out = Effects::default();
    let payload = edge.payload.clone();
    let sent = machine.send_over_bridges(cap, 10, 1, &payload, &mut out).unwrap();
    (sent, drain(&mut out))
}

fn connect(effects: &[Effect]) -> Option<(ConnId, SocketAddr)> {
    effects.iter().find_map(|e| match e {
        Effect::Connect { conn, peer, .. } => Some((*conn, *peer)),
        _ => None,
    })
}

fn written(effects: &[Effect]) -> Vec<Bytes> {
    let bytes =
        |e: &Effect| if let Effect::Write { bytes, .. } = e { Some(bytes.clone()) } else { None };
    effects.iter().filter_map(bytes).collect()
}

#[test]
fn the_holder_of_the_tag_sends_what_a_stock_node_sends() {
    let (mut machine, cap) = node();
    assert_eq!(send(&mut machine, cap).0, 0, "without the tag nothing goes");
    activate(&mut machine);
    let (sent, effects) = send(&mut machine, cap);
    let (conn, peer) = connect(&effects).unwrap();
    assert_eq!((sent, peer), (1, addr("127.0.0.2:5566")));
    let mut out = Effects::default();
    machine.handle_connected(NOW, conn, &mut out);
    assert_eq!(written(&drain(&mut out)), [vector("091")]);
    // The connection stays.
    let (_, effects) = send(&mut machine, cap);
    assert_eq!((connect(&effects), written(&effects).len()), (None, 1));
}

#[test]
fn the_next_address_is_tried_when_one_cannot_be_reached() {
    let (mut machine, cap) = node();
    activate(&mut machine);
    let (first, _) = connect(&send(&mut machine, cap).1).unwrap();
    let mut out = Effects::default();
    machine.handle_connect_failed(NOW, first, &mut out);
    let (second, peer) = connect(&drain(&mut out)).unwrap();
    assert_eq!(peer, addr("127.0.0.3:5566"));
    machine.handle_connected(NOW, second, &mut out);
    assert_eq!(written(&drain(&mut out)).len(), 1, "what waited goes to it");
    // It is gone, and the first one is not back: nothing is tried before the next count.
    machine.handle_closed(NOW, second, &mut out);
    assert_eq!(connect(&drain(&mut out)), None);
    let (first, peer) = connect(&send(&mut machine, cap).1).unwrap();
    assert_eq!(peer, addr("127.0.0.2:5566"));
    machine.handle_connect_failed(NOW, first, &mut out);
    let (second, _) = connect(&drain(&mut out)).unwrap();
    machine.handle_connect_failed(NOW, second, &mut out);
    let told = drain(&mut out);
    assert_eq!(connect(&told), None, "both have been tried");
    assert!(told.iter().any(|e| matches!(e, Effect::Log { .. })));
}

/// Whether a count of cluster `from` that comes from a host is taken.
fn is_taken(machine: &mut Clusterer, from: u32, host: &str) -> bool {
    let edge = Packet::decode(vector("091")).unwrap();
    let trailer = Trailer { bridge: Some(from), ..Trailer::new(1, 9, BRIDGED) };
    let packet = Packet { trailer: Some(trailer), ..edge };
    let (conn, mut out) = (ConnId::Accepted(1), Effects::default());
    machine.handle_accepted(NOW, conn, host.parse().unwrap(), &mut out);
    machine.handle_bytes(NOW, conn, &packet.encode().unwrap(), &mut out);
    machine.handle_closed(NOW, conn, &mut out);
    drain(&mut out).iter().any(|e| matches!(e, Effect::Deliver { .. }))
}

#[test]
fn only_nodes_of_a_cluster_that_is_known_speak_for_it() {
    let (mut machine, _) = node();
    assert!(is_taken(&mut machine, 2, "127.0.0.3"));
    assert!(!is_taken(&mut machine, 2, "127.0.0.9"), "no node of cluster 2");
    assert!(!is_taken(&mut machine, 1, "127.0.0.9"), "no node of our own cluster");
    assert!(is_taken(&mut machine, 3, "127.0.0.9"), "nothing is known of cluster 3");
}

#[test]
fn the_state_file_is_written_once_at_a_time_whatever_peers_do() {
    let (mut machine, _) = node();
    let tokens = |effects: &[Effect]| {
        let token =
            |e: &Effect| if let Effect::Persist { token, .. } = e { Some(*token) } else { None };
        effects.iter().filter_map(token).collect::<Vec<u64>>()
    };
    let activate = |machine: &mut Clusterer| {
        let mut out = Effects::default();
        machine.activate_tag(NOW, "edge", 1, Reason::default(), &mut out).unwrap();
        tokens(&drain(&mut out))
    };
    let first = activate(&mut machine);
    assert_eq!(first.len(), 1);
    assert!(activate(&mut machine).is_empty() && activate(&mut machine).is_empty());
    let mut out = Effects::default();
    machine.persisted(NOW, first[0], true, &mut out);
    let told = drain(&mut out);
    let second = tokens(&told);
    assert_eq!(second.len(), 1, "what changed meanwhile is written now");
    assert_eq!(told.iter().filter(|e| matches!(e, Effect::Activated { .. })).count(), 1);
    machine.persisted(NOW, second[0], true, &mut out);
    let told = drain(&mut out);
    assert!(tokens(&told).is_empty());
    assert_eq!(told.iter().filter(|e| matches!(e, Effect::Activated { .. })).count(), 2);
}

/// A host that is gone says nothing: a connect to it would last longer than counts are worth.
#[test]
fn the_next_address_is_tried_when_one_does_not_answer() {
    let (mut machine, cap) = node();
    activate(&mut machine);
    let mut out = Effects::default();
    let (first, _) = connect(&send(&mut machine, cap).1).unwrap();
    assert_eq!(connect(&send(&mut machine, cap).1), None, "it may still answer");
    let later = Now { mono_ns: NOW.after_s(1), ..NOW };
    machine.handle_timeout(later, &mut out);
    let effects = send(&mut machine, cap).1;
    assert!(effects.contains(&Effect::Close { conn: first }));
    assert_eq!(connect(&effects).unwrap().1, addr("127.0.0.3:5566"));
}
