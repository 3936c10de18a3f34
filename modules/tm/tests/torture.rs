//! The test messages of RFC 4475 and RFC 5118 through a proxy: what is taken leaves byte for
//! byte as it came, but for our Via and what a proxy has to note in the sender's.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::TestNode;
use tandem_sip::{HeaderName, Message};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_tm::MODULE,
    &tandem_signaling::MODULE,
    &tandem_sipmsgops::MODULE,
    &tandem_maxfwd::MODULE,
];
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

/// A proxy as an operator writes it, which does what RFC 3261 16.3 asks of the script.
const PROXY: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"tm.so\"\nloadmodule \"signaling.so\"\nloadmodule \"sipmsgops.so\"\n\
     loadmodule \"maxfwd.so\"\n\
     route {\n\
       if (!mf_process_maxfwd_header(70)) { send_reply(483, \"Too Many Hops\"); exit; }\n\
       if (is_present_hf(\"Proxy-Require\")) {\n\
         append_to_reply(\"Unsupported: $hdr(Proxy-Require)\\r\\n\");\n\
         send_reply(420, \"Bad Extension\"); exit;\n\
       }\n\
       if ($ru =~ \"^sips?:\") $du = \"sip:127.0.0.8\";\n\
       t_relay();\n\
     }";

/// What becomes of each message of RFC 4475 at a proxy, in the words of its text.
const FATES: &[(&str, &[&str])] = &[
    // 3.1.1 "valid": it goes on. 3.1.2: these may be taken for what they mean ("liberal").
    // 3.2.1, 3.3.3, 3.3.5 to 3.3.7, 3.3.12 to 3.3.15, 3.4: for the user agent or registrar.
    (
        "relayed",
        &[
            "wsinv",
            "intmeth",
            "esc01",
            "escnull",
            "esc02",
            "lwsdisp",
            "longreq",
            "dblreq",
            "semiuri",
            "transports",
            "mpart01",
            "lwsstart",
            "trws",
            "escruri",
            "baddate",
            "regbadct",
            "badaspec",
            "badbranch",
            "unksm2",
            "invut",
            "regaut01",
            "cparam01",
            "cparam02",
            "regescrt",
            "sdp01",
            "inv2543",
        ],
    ),
    // Replies that nobody here waits for, and one that no proxy ever sent for.
    ("dropped", &["unreason", "noreason", "scalarlg", "bigcode", "bcast"]),
    (
        "400",
        &[
            "badinv01",
            "clerr",
            "ncl",
            "scalar02",
            "quotbal",
            "ltgtruri",
            "lwsruri",
            "baddn",
            "mismatch01",
            "mismatch02",
            "insuf",
            "multi01",
            "mcl01",
        ],
    ),
    ("416", &["unkscm", "novelsc"]),
    ("420", &["bext01"]),
    ("483", &["zeromf"]),
    ("505", &["badvers"]),
];

fn fate(path: &Path) -> String {
    let mut node = TestNode::new(PROXY, MODULES);
    node.raw_udp("127.0.0.9:5060", Bytes::from(fs::read(path).unwrap()));
    let sent = node.sent_bytes();
    let sent: Vec<_> = sent.iter().map(|(_, out)| Message::parse(out.clone()).unwrap()).collect();
    if sent.iter().any(Message::is_request) {
        return "relayed".into();
    }
    sent.first().map_or("dropped".into(), |reply| reply.status().to_string())
}

#[test]
fn each_message_of_rfc_4475_fares_as_its_text_says() {
    let mut expected = BTreeMap::new();
    for (fate, names) in FATES {
        expected.extend(names.iter().map(|name| ((*name).to_owned(), (*fate).to_owned())));
    }
    let of_4475 = |path: &PathBuf| path.parent().is_some_and(|dir| dir.ends_with("rfc4475"));
    let seen: BTreeMap<String, String> = files()
        .into_iter()
        .filter(of_4475)
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fate(&path)))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_bare_cookie_is_no_branch_that_tells_transactions_apart() {
    let text = files().into_iter().find(|path| path.ends_with("badbranch.dat")).unwrap();
    let text = fs::read_to_string(text).unwrap();
    let mut node = TestNode::new(PROXY, MODULES);
    let mut requests = |text: String| {
        node.raw_udp("127.0.0.9:5060", Bytes::from(text));
        node.sent().into_iter().filter(|(_, text)| !text.starts_with("SIP/2.0")).count()
    };
    assert_eq!(requests(text.clone()), 1);
    assert_eq!(requests(text.clone()), 0, "it is a retransmission");
    let other = text.replace("Call-ID: ", "Call-ID: another-");
    assert_ne!(other, text);
    assert_eq!(requests(other), 1, "another request is another transaction");
}
