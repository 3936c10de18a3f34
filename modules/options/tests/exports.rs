//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_signaling::MODULE,
    &tandem_options::MODULE,
];
const HEAD: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"signaling.so\"\nloadmodule \"options.so\"\n";

/// What comes back for a request with this method and R-URI, and the return code.
fn ask(params: &str, method: &str, uri: &str) -> (Vec<String>, String) {
    let route = "route { options_reply(); xlog(\"L_NOTICE\", \"$rc\"); }";
    let mut node = TestNode::new(&format!("{HEAD}{params}\n{route}"), MODULES);
    let request = format!(
        "{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
         From: <sip:f@127.0.0.9>;tag=f\nTo: <{uri}>\nCall-ID: c\nCSeq: 1 {method}\n\
         Content-Length: 0\n\n"
    );
    node.udp("127.0.0.9:5060", &request);
    let sent = node.sent().into_iter().map(|(_, text)| text).collect();
    (sent, node.logs().remove(0).1)
}

fn answer(params: &str) -> String {
    let (mut sent, code) = ask(params, "OPTIONS", "sip:127.0.0.1");
    assert_eq!(code, "1");
    sent.remove(0)
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_options::MODULE,
        &[
            ("param accept", accept),
            ("param accept_encoding", accept_encoding),
            ("param accept_language", accept_language),
            ("param support", support),
            ("function options_reply", reply),
        ],
    );
}

fn accept() {
    let set = "modparam(\"options\", \"accept\", \"application/sdp\")";
    assert!(answer(set).contains("\r\nAccept: application/sdp\r\n"));
    assert!(!answer("modparam(\"options\", \"accept\", \"\")").contains("\r\nAccept:"));
}

fn accept_encoding() {
    let set = "modparam(\"options\", \"accept_encoding\", \"gzip\")";
    assert!(answer(set).contains("\r\nAccept-Encoding: gzip\r\n"));
}

fn accept_language() {
    let set = "modparam(\"options\", \"accept_language\", \"de\")";
    assert!(answer(set).contains("\r\nAccept-Language: de\r\n"));
}

fn support() {
    let set = "modparam(\"options\", \"support\", \"path,gruu\")";
    assert!(answer(set).contains("\r\nSupported: path,gruu\r\n"));
    let broken = "modparam(\"options\", \"support\", \"a\\r\\nb\")";
    assert!(TestNode::try_new(&format!("{HEAD}{broken}\nroute {{ exit; }}"), MODULES).is_err());
}

fn reply() {
    let text = answer("");
    assert!(text.starts_with("SIP/2.0 200 OK\r\n"), "{text}");
    assert!(text.contains("\r\nAccept: */*\r\nAccept-Language: en\r\n"), "{text}");
    assert!(!text.contains("Supported") && !text.contains("Accept-Encoding"), "{text}");
    let of_a_user = ask("", "OPTIONS", "sip:bob@127.0.0.1");
    assert_eq!((of_a_user.0.len(), &*of_a_user.1), (0, "-1"));
    let unknown_scheme = ask("", "OPTIONS", "nobodyknows:totallyopaque");
    assert_eq!((unknown_scheme.0.len(), &*unknown_scheme.1), (0, "-1"));
    let other_method = ask("", "INVITE", "sip:127.0.0.1");
    assert_eq!((other_method.0.len(), &*other_method.1), (0, "-1"));
}
