//! Statistics of the core.

use serde_json::json;
use tandem_engine::testing::{Check, TestNode};

use super::{PHONE, REQUEST, ask, node};

pub(super) fn count(node: &mut TestNode, name: &str) -> u64 {
    let full = format!("core:{name}");
    ask(node, "get_statistics", json!([[full]]))[&full].as_u64().unwrap()
}

pub(super) const CHECKS: &[Check] = &[
    ("statistic rcv_requests", counters),
    ("statistic rcv_replies", counters),
    ("statistic fwd_replies", counters),
    ("statistic err_replies", counters),
    ("statistic bad_msg_hdr", counters),
];

pub(super) fn counters() {
    let mut node = node("disable_stateless_fwd=no", "exit;");
    let reply = |vias: &str| {
        format!(
            "SIP/2.0 200 OK\n{vias}From: <sip:a@a>;tag=f\nTo: <sip:b@b>;tag=t\nCall-ID: c\n\
             CSeq: 1 INVITE\nContent-Length: 0\n\n"
        )
    };
    let ours = "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKo\n";
    let below = "Via: SIP/2.0/UDP 127.0.0.8:5068;branch=z9hG4bKp\n";
    node.udp(PHONE, REQUEST);
    node.udp(PHONE, &reply(&format!("{ours}{below}")));
    let sent = node.sent();
    assert_eq!(sent[0].0.to_string(), "127.0.0.8:5068", "forwarded by its second Via");
    assert!(!sent[0].1.contains("z9hG4bKo"), "without our Via");
    node.udp(PHONE, &reply(below));
    node.udp(PHONE, "this is no SIP message at all, whatever it is");
    for name in ["rcv_requests", "fwd_replies", "err_replies", "bad_msg_hdr"] {
        assert_eq!(count(&mut node, name), 1, "{name}");
    }
    assert_eq!(count(&mut node, "rcv_replies"), 2);
}
