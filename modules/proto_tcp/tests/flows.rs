//! Phones behind NAT on connections (RFC 5626): each is reached over its own, also when it is back
//! over another one.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use common::{Node, OPTIONS};
use serde_json::json;
use tandem_engine::stream::{StreamId, StreamInput};

/// Where the NAT shows the phone.
const OUTSIDE: &str = "203.0.113.7:40000";
const INSTANCE: &str = "\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\"";

fn register(contact: &str, vias: &str) -> String {
    format!(
        "REGISTER sip:a SIP/2.0\r\n{vias}Via: SIP/2.0/TCP 10.0.0.5:5062;branch=z9hG4bKr\r\n\
         From: <sip:bob@a>;tag=f\r\nTo: <sip:bob@a>\r\nCall-ID: r\r\nCSeq: 1 REGISTER\r\n\
         Contact: {contact}\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Another request of the phone, with its Contact.
fn options(user: &str, contact: &str) -> String {
    let text = OPTIONS.replace("From: <sip:a@a>", &format!("From: <sip:{user}@a>"));
    text.replace("Content-Length", &format!("Contact: {contact}\r\nContent-Length"))
}

/// Over which connection a call reaches bob; `None`: a new one would be opened.
fn call(node: &mut Node, n: u32) -> Option<StreamId> {
    node.written();
    node.test.connects.clear();
    let text = format!(
        "INVITE sip:bob@a SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.8:5060;branch=z9hG4bKi{n}\r\n\
         From: <sip:al@a>;tag=f\r\nTo: <sip:bob@a>\r\nCall-ID: i{n}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:al@127.0.0.8>\r\nContent-Length: 0\r\n\r\n"
    );
    node.test.udp("127.0.0.8:5060", &text);
    let written = node.written();
    let found = written.iter().find(|(_, m)| m.starts_with("INVITE sip:bob@")).map(|(c, _)| *c);
    assert_eq!(found.is_none(), !node.test.connects.is_empty(), "{written:?}");
    found
}

const HIDDEN: &str = "<sip:bob@10.0.0.5:5062;transport=tcp>";

#[test]
fn a_contact_that_no_address_leads_to_is_reached_over_its_connection() {
    let mut node = Node::new("");
    let phone = node.connect(OUTSIDE);
    node.data(phone, &register(HIDDEN, ""));
    assert_eq!(call(&mut node, 1), Some(phone));
    // It registers again over another connection, and is there.
    let other = node.connect("203.0.113.7:40001");
    node.data(other, &register(HIDDEN, "").replace("1 REGISTER", "2 REGISTER"));
    assert_eq!(call(&mut node, 2), Some(other));
    node.stream(StreamInput::Closed { conn: phone });
    assert_eq!(call(&mut node, 3), Some(other), "the end of the old one changes nothing");
    node.stream(StreamInput::Closed { conn: other });
    assert_eq!(call(&mut node, 4), None);
}

#[test]
fn a_registration_through_a_proxy_is_not_bound_to_the_connection_of_the_proxy() {
    let mut node = Node::new("");
    let proxy = node.connect(OUTSIDE);
    let via = "Via: SIP/2.0/TCP 203.0.113.7:5060;branch=z9hG4bKp\r\n";
    node.data(proxy, &register(HIDDEN, via));
    assert_eq!(call(&mut node, 1), None);
    // One that says nothing of TCP is reached as it says.
    let mut node = Node::new("");
    let phone = node.connect(OUTSIDE);
    node.data(phone, &register("<sip:bob@10.0.0.5:5062>", ""));
    node.written();
    node.test.sent();
    node.test
        .udp("127.0.0.8:5060", &options("al", "<sip:al@x>").replace("sip:127.0.0.1", "sip:bob@a"));
    assert!(node.written().is_empty());
}

#[test]
fn a_phone_that_is_back_is_found_from_its_first_request_on() {
    // What it registered, and how it calls itself later.
    let own = "<sip:bob@203.0.113.7:5062;transport=tcp>";
    let with = |uri: &str| format!("{uri};+sip.instance={INSTANCE}");
    let moved = "<sip:bob@203.0.113.7:6000;transport=tcp>";
    for (registered, again, from, user, found) in [
        (own.to_owned(), own.to_owned(), "203.0.113.7:41000", "bob", true),
        (with(own), with(moved), "203.0.113.7:41000", "bob", true),
        (own.to_owned(), moved.to_owned(), "203.0.113.7:41000", "bob", false),
        (with(own), with(moved).replace("e128", "e129"), "203.0.113.7:41000", "bob", false),
        // Anybody may write anything: the address has to be right, and the user.
        (with(own), with(own), "198.51.100.1:41000", "bob", false),
        (own.to_owned(), own.to_owned(), "203.0.113.7:41000", "eve", false),
    ] {
        let mut node = Node::new("");
        let old = node.connect(OUTSIDE);
        node.data(old, &register(&registered, ""));
        assert_eq!(call(&mut node, 1), Some(old));
        let new = node.connect(from);
        node.data(new, &options(user, &again));
        assert_eq!(call(&mut node, 2), Some(old), "while its connection lives nobody takes over");
        node.stream(StreamInput::Closed { conn: old });
        node.data(new, &options(user, &again).replace("z9hG4bKo", "z9hG4bKp"));
        assert_eq!(call(&mut node, 3), found.then_some(new), "{again} from {from}");
    }
}

#[test]
fn a_connection_found_again_lives_as_long_as_the_registration_where_that_is_wanted() {
    let mut node = Node::new(
        "tcp_connection_lifetime=10\nmodparam(\"registrar\", \"tcp_persistent_flag\", \"KEEP\")",
    );
    let own = "<sip:bob@203.0.113.7:5062;transport=tcp>;expires=100";
    let old = node.connect(OUTSIDE);
    node.data(old, &register(own, ""));
    node.stream(StreamInput::Closed { conn: old });
    let new = node.connect("203.0.113.7:41000");
    node.data(new, &options("bob", "<sip:bob@203.0.113.7:5062;transport=tcp>"));
    node.test.advance_ms(100_000);
    assert!(node.test.closed.is_empty());
    node.test.advance_ms(11_000);
    assert_eq!(node.test.closed, [new]);
}

#[test]
fn a_flood_of_keepalives_is_counted_and_not_answered_one_by_one() {
    let mut node = Node::new("");
    let phone = node.connect(OUTSIDE);
    for _ in 0..10 {
        node.data(phone, &"\r\n\r\n".repeat(10_000));
    }
    assert_eq!(node.written().len(), 10);
    for n in 0..500 {
        node.test.udp("203.0.113.7:5060", ["", "\r\n\r\n", "\0\0\0\0", "jaK\0"][n % 4]);
    }
    assert!(node.test.sent().is_empty());
    let status = node.test.mi("tandem:status", json!(null));
    let counted = &status["result"]["keepalives"];
    let expected = json!({"datagrams": 500, "connections": 1, "pings": 100_000, "pongs": 10});
    assert_eq!(*counted, expected);
}

#[test]
fn stun_media_and_noise_are_counted_and_neither_answered_nor_written_to_the_log() {
    let mut node = Node::new("log_level=3");
    node.test.logs();
    // A STUN binding request (RFC 5389), RTP, and the same on a connection.
    let stun = b"\x00\x01\x00\x08\x21\x12\xa4\x42abcdefghijkl\x80\x22\x00\x04test";
    let rtp = [&b"\x80\x08\x12\x34\x00\x00\x00\xa0\x12\x34\x56\x78"[..], &[0xd5; 160]].concat();
    for bytes in [&stun[..], &rtp] {
        node.test.raw_udp("203.0.113.7:4000", bytes::Bytes::copy_from_slice(bytes));
    }
    assert!(node.test.sent().is_empty());
    assert!(node.test.logs().is_empty());
    let counted = node.test.mi("get_statistics", json!([["bad_msg_hdr"]]));
    assert_eq!(counted["result"]["core:bad_msg_hdr"], 2, "{counted}");
    let phone = node.connect(OUTSIDE);
    node.stream(StreamInput::Data { conn: phone, bytes: bytes::Bytes::copy_from_slice(&rtp) });
    assert_eq!(node.test.closed, [phone]);
}

#[test]
fn a_phone_connected_to_one_address_of_the_host_is_reached_whatever_a_request_leaves_by() {
    let mut node = Node::on_every_address("", &["192.0.2.11", "192.0.2.10"]);
    let phone = node.connect_to("192.0.2.10:5060", OUTSIDE);
    node.data(phone, &options("bob", "<sip:bob@10.0.0.5:5062>"));
    assert_eq!(node.written().len(), 1);
    // It came to the other address, or to none that is known; the script names only the phone.
    let send = |node: &mut Node, n: u32| {
        let text = format!(
            "INVITE sip:x@{OUTSIDE};transport=tcp SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.77:5060;branch=z9hG4bKw{n}\r\nFrom: <sip:al@a>;tag=f\r\n\
             To: <sip:bob@a>\r\nCall-ID: w{n}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:al@192.0.2.77>\r\nContent-Length: 0\r\n\r\n"
        );
        node.test.udp("192.0.2.77:5060", &text);
        node.written()
    };
    let written = send(&mut node, 1);
    assert!(node.test.connects.is_empty(), "{:?}", node.test.connects);
    let (conn, invite) = written.first().expect("an INVITE");
    assert_eq!(*conn, phone);
    // It says from where it leaves.
    assert!(invite.contains("Via: SIP/2.0/TCP 192.0.2.10:5060;"), "{invite}");
    assert!(invite.contains("Record-Route: <sip:192.0.2.10:5060;transport=tcp"), "{invite}");
    // Over one that ends it goes nowhere.
    node.stream(StreamInput::Closed { conn: phone });
    assert!(send(&mut node, 2).is_empty());
    assert_eq!(node.test.connects.len(), 1);
}
