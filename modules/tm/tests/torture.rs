//! The test messages of RFC 4475 and RFC 5118 through a proxy: what is taken leaves byte for
//! byte as it came, but for our Via and what a proxy has to note in the sender's.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::TestNode;
use tandem_sip::{HeaderName, Message};

static MODULES: Modules =
    &[&tandem_engine::core::CORE, &tandem_proto_udp::MODULE, &tandem_tm::MODULE];
const SCRIPT: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"tm.so\"\n\
     route { $du = \"sip:127.0.0.8\"; t_relay(); }";

fn files() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/sip/tests/data");
    let all = ["rfc4475", "rfc5118"].iter().flat_map(|dir| fs::read_dir(data.join(dir)).unwrap());
    let paths = all.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "dat")).collect()
}

/// Everything of a message but its first line and its Vias.
fn untouched(msg: &Message) -> Vec<Bytes> {
    let headers = msg.all_headers().filter(|h| h.name() != HeaderName::Via);
    let lines = headers.map(|h| msg.bytes().slice(h.span().range()));
    lines.chain([Bytes::copy_from_slice(msg.body())]).collect()
}

#[test]
fn every_request_is_relayed_unchanged_or_answered() {
    let (mut relayed, mut answered) = (0, 0);
    for path in files() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let bytes = Bytes::from(fs::read(&path).unwrap());
        let mut node = TestNode::new(SCRIPT, MODULES);
        node.raw_udp("127.0.0.9:5060", bytes.clone());
        let sent = node.sent_bytes();
        let original = Message::parse(bytes);
        let is_request = original.as_ref().map_or(true, Message::is_request);
        let valid = original.as_ref().is_ok_and(|m| m.validate().is_ok());
        let out = sent.iter().map(|(_, out)| Message::parse(out.clone()).unwrap());
        let (requests, replies): (Vec<_>, Vec<_>) = out.partition(Message::is_request);
        if !is_request || name == "bigcode" {
            assert!(sent.is_empty(), "{name}: a reply nobody waits for goes nowhere");
        } else if valid {
            let [leaves] = &requests[..] else { panic!("{name}: not relayed: {replies:?}") };
            let original = original.unwrap();
            assert_eq!(leaves.first_line(), original.first_line(), "{name}");
            assert_eq!(untouched(leaves), untouched(&original), "{name}");
            relayed += 1;
        } else {
            let status = original.ok().and_then(|m| m.validate().err()).map_or(400, |e| e.status());
            assert_eq!(replies.first().map(Message::status), Some(status), "{name}");
            assert!(requests.is_empty(), "{name}");
            answered += 1;
        }
    }
    assert_eq!((relayed, answered), (40, 16));
}
