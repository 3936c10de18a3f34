//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_sipmsgops::MODULE,
];
const HEAD: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
                    loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"sipmsgops.so\"\n";
const REQUEST: &str = "INVITE sip:a@127.0.0.1;x=1;y SIP/2.0\n\
     Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\nFrom: <sip:f@127.0.0.9>;tag=f\n\
     To: <sip:a@127.0.0.1>\nCall-ID: c\nCSeq: 1 INVITE\nX-One: 1\nx-one: 2\nSubject: hi\n\
     Content-Type: application/sdp; x=y\nContent-Length: 4\n\nv=0\n";

fn run(route: &str, request: &str) -> (Vec<String>, Vec<String>) {
    let mut node = TestNode::new(&format!("{HEAD}route {{ {route} }}"), MODULES);
    node.udp("127.0.0.9:5060", request);
    let sent = node.sent().into_iter().map(|(_, text)| text).collect();
    (sent, node.logs().into_iter().map(|(_, text)| text).collect())
}

/// Whether a condition holds for the request.
fn holds(condition: &str) -> bool {
    let route =
        format!("if ({condition}) xlog(\"L_NOTICE\", \"yes\"); else xlog(\"L_NOTICE\", \"no\");");
    run(&route, REQUEST).1 == ["yes"]
}

/// What a function returned.
fn code(expression: &str) -> String {
    run(&format!("{expression}; xlog(\"L_NOTICE\", \"$rc\");"), REQUEST).1.remove(0)
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_sipmsgops::MODULE,
        &[
            ("function is_method", methods),
            ("function has_totag", tags),
            ("function is_present_hf", presence),
            ("function append_hf", edits),
            ("function insert_hf", edits),
            ("function remove_hf", edits),
            ("function append_to_reply", reply_headers),
            ("function has_body", bodies),
            ("function ruri_has_param", uri_params),
        ],
    );
}

fn methods() {
    assert!(holds("is_method(\"REGISTER|INVITE\")"));
    assert!(!holds("is_method(\"REGISTER\")"));
}

fn tags() {
    assert!(!holds("has_totag()"));
    let route = "if (has_totag()) xlog(\"L_NOTICE\", \"yes\");";
    let tagged = REQUEST.replace("To: <sip:a@127.0.0.1>", "To: <sip:a@127.0.0.1>;tag=t");
    assert_eq!(run(route, &tagged).1, ["yes"]);
}

fn presence() {
    assert!(holds("is_present_hf(\"Subject\")") && holds("is_present_hf(\"s\")"));
    assert!(!holds("is_present_hf(\"X-Two\")"));
}

fn edits() {
    let relayed = |edit: &str| {
        let (sent, _) = run(&format!("{edit}; $du = \"sip:127.0.0.8\"; t_relay();"), REQUEST);
        sent.into_iter().find(|m| m.starts_with("INVITE")).unwrap()
    };
    let text = relayed("append_hf(\"X-New: 1\\r\\n\")");
    assert!(text.contains("\r\nX-New: 1\r\n\r\n"), "{text}");
    let text = relayed("insert_hf(\"X-New: 1\\r\\n\", \"Subject\")");
    assert!(text.contains("\r\nX-New: 1\r\nSubject: hi\r\n"), "{text}");
    let text = relayed("remove_hf(\"X-One\")");
    assert!(!text.to_ascii_lowercase().contains("x-one"), "{text}");
    assert_eq!(code("append_hf(\"X-New: 1\\r\\n\")"), "1");
    assert_eq!(code("append_hf(\"X-New: 1\\r\\n\", \"No-Such\")"), "-1");
    assert_eq!(code("insert_hf(\"X-New: 1\\r\\n\", \"Subject\")"), "1");
    assert_eq!(code("insert_hf(\"X-New: 1\\r\\n\", \"No-Such\")"), "-1");
    assert_eq!(code("remove_hf(\"X-One\")"), "1");
    assert_eq!(code("remove_hf(\"No-Such\")"), "-1");
}

fn reply_headers() {
    let (sent, _) = run("append_to_reply(\"X-R: 1\\r\\n\"); sl_send_reply(404, \"No\");", REQUEST);
    assert!(sent[0].contains("\r\nX-R: 1\r\n"), "{sent:?}");
}

fn bodies() {
    assert!(holds("has_body()") && holds("has_body(\"application/sdp\")"));
    assert!(!holds("has_body(\"text/plain\")"));
}

fn uri_params() {
    assert!(holds("ruri_has_param(\"x\")") && holds("ruri_has_param(\"y\")"));
    assert!(holds("ruri_has_param(\"x\", \"1\")") && !holds("ruri_has_param(\"x\", \"2\")"));
    assert!(!holds("ruri_has_param(\"z\")"));
}
