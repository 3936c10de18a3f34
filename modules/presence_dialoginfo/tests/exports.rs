//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_signaling::MODULE,
    &tandem_presence::MODULE,
    &tandem_presence_dialoginfo::MODULE,
];

const PHONE: &str = "127.0.0.9:5060";
const WATCHER: &str = "127.0.0.8:5060";

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_presence_dialoginfo::MODULE,
        &[("param force_single_dialog", simple_phones_are_told_one_dialog)],
    );
}

fn node(params: &str) -> TestNode {
    let script = format!(
        "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"db_sqlite.so\"\n\
         loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"signaling.so\"\n\
         loadmodule \"presence.so\"\nloadmodule \"presence_dialoginfo.so\"\n\
         modparam(\"presence\", \"db_url\", \"sqlite:///p\")\n{params}\n\
         route {{\nt_newtran();\nif ($rm == \"PUBLISH\") {{ handle_publish(); exit; }}\n\
         handle_subscribe(); }}\n"
    );
    TestNode::new(&script, MODULES)
}

fn publish(node: &mut TestNode, call: &str, headers: &str, state: &str) -> (String, String) {
    let body = format!(
        "<?xml version=\"1.0\"?>\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" \
         state=\"partial\" entity=\"sip:alice@a.test\"><dialog id=\"{call}.0\">\
         <state>{state}</state></dialog></dialog-info>"
    );
    request(node, PHONE, "PUBLISH", call, headers, &body)
}

/// Sends a request about alice; the reply, and what the watcher is told.
fn request(
    node: &mut TestNode,
    from: &str,
    method: &str,
    call: &str,
    headers: &str,
    body: &str,
) -> (String, String) {
    let length = body.replace('\n', "\r\n").len();
    let kind = match body.is_empty() {
        true => "",
        false => "Content-Type: application/dialog-info+xml\n",
    };
    node.udp(
        from,
        &format!(
            "{method} sip:alice@a.test SIP/2.0\n\
             Via: SIP/2.0/UDP {from};branch=z9hG4bK{call}{}\n\
             From: <sip:x@a.test>;tag=x\nTo: <sip:alice@a.test>\nCall-ID: {call}\n\
             CSeq: {} {method}\nEvent: dialog\nContact: <sip:{from}>\n{headers}{kind}\
             Content-Length: {length}\n\n{body}",
            headers.len(),
            // A PUBLISH with a number that was seen is a retransmission.
            headers.len()
        ),
    );
    took(node, from)
}

/// The last reply to an address and the body of the last NOTIFY, after NOTIFYs were answered.
fn took(node: &mut TestNode, from: &str) -> (String, String) {
    let (mut reply, mut last) = (String::new(), String::new());
    for _ in 0..5 {
        for (to, text) in node.sent() {
            if to.to_string() == WATCHER && text.starts_with("NOTIFY ") {
                let kept = ["Via", "From", "To", "Call-ID", "CSeq"];
                let lines = text.lines().take_while(|line| !line.is_empty());
                let lines = lines.filter(|l| kept.contains(&l.split(':').next().unwrap()));
                let lines: Vec<_> = lines.collect();
                let ok = format!("SIP/2.0 200 OK\n{}\nContent-Length: 0\n\n", lines.join("\n"));
                node.udp(WATCHER, &ok);
                last = text.split_once("\r\n\r\n").unwrap().1.to_owned();
            } else if to.to_string() == from {
                reply = text;
            }
        }
        node.advance_ms(20);
    }
    (reply, last)
}

fn subscribe(node: &mut TestNode) -> String {
    let text = format!(
        "SUBSCRIBE sip:alice@a.test SIP/2.0\nVia: SIP/2.0/UDP {WATCHER};branch=z9hG4bKsub\n\
         From: <sip:bob@a.test>;tag=x\nTo: <sip:alice@a.test>\nCall-ID: sub\nCSeq: 1 SUBSCRIBE\n\
         Event: dialog\nExpires: 600\nContact: <sip:{WATCHER}>\nContent-Length: 0\n\n"
    );
    node.udp(WATCHER, &text);
    took(node, WATCHER).1
}

fn simple_phones_are_told_one_dialog() {
    let seen = |params: &str| {
        let mut node = node(params);
        assert!(publish(&mut node, "c1", "Expires: 60\n", "confirmed").0.contains(" 200 "));
        assert!(publish(&mut node, "c2", "Expires: 60\n", "early").0.contains(" 200 "));
        subscribe(&mut node)
    };
    let all = seen("");
    assert!(all.contains("confirmed") && all.contains("early"), "{all}");
    let one = seen("modparam(\"presence_dialoginfo\", \"force_single_dialog\", 1)\n");
    assert!(!one.contains("confirmed") && one.contains("early"), "{one}");
}

#[test]
fn a_lamp_goes_on_and_off_with_versions_that_rise() {
    let mut node = node("");
    let empty = subscribe(&mut node);
    assert!(!empty.contains("<dialog "), "{empty}");
    let (reply, on) = publish(&mut node, "c1", "Expires: 60\n", "confirmed");
    assert!(on.contains("confirmed") && on.contains("state=\"full\""), "{on}");
    let etag = reply.lines().find_map(|l| l.strip_prefix("SIP-ETag: ")).unwrap();
    let over = format!("Expires: 0\nSIP-If-Match: {etag}\n");
    let (reply, off) = publish(&mut node, "c1", &over, "terminated");
    assert!(reply.contains(" 200 "), "{reply}");
    assert!(off.contains("terminated") && off.contains("c1.0"), "{off}");
    let version = |text: &str| -> u32 {
        let rest = text.split_once("version=\"").unwrap().1;
        let rest = match rest.starts_with("1.0") {
            true => rest.split_once("version=\"").unwrap().1,
            false => rest,
        };
        rest.split_once('"').unwrap().0.parse().unwrap()
    };
    assert!(version(&off) > version(&on), "{on}{off}");
}

#[test]
fn what_is_no_dialog_information_is_refused() {
    let mut node = node("");
    let (broken, _) = request(&mut node, PHONE, "PUBLISH", "b", "Expires: 60\n", "<dialog-info");
    assert!(broken.starts_with("SIP/2.0 400 Invalid dialog-info"), "{broken}");
}
