//! SIP over connections: framing, reuse, limits, and calls between UDP and TCP.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use common::{Node, OPTIONS};
use serde_json::json;
use tandem_engine::stream::StreamInput;

const PHONE: &str = "127.0.0.9:40000";

fn register(contact: &str) -> String {
    format!(
        "REGISTER sip:a SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.9:5062;branch=z9hG4bKr\r\n\
         From: <sip:bob@a>;tag=f\r\nTo: <sip:bob@a>\r\nCall-ID: r\r\nCSeq: 1 REGISTER\r\n\
         Contact: <{contact}>\r\nContent-Length: 0\r\n\r\n"
    )
}

fn invite(uri: &str) -> String {
    format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.8:5060;branch=z9hG4bKi\r\n\
         From: <sip:al@a>;tag=f\r\nTo: <{uri}>\r\nCall-ID: i\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:al@127.0.0.8>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The reply of a phone to a request: its headers up to Content-Length, with a new first line.
fn reply(request: &str, status: &str) -> String {
    let keep = ["Via", "From", "To", "Call-ID", "CSeq", "Record-Route"];
    let lines = request.split("\r\n").skip(1).filter(|l| keep.iter().any(|k| l.starts_with(k)));
    let lines: Vec<String> = lines
        .map(|l| if l.starts_with("To:") { format!("{l};tag=b") } else { l.to_owned() })
        .collect();
    format!("SIP/2.0 {status}\r\n{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n"))
}

#[test]
fn a_message_in_pieces_is_answered_on_its_connection_and_half_of_one_is_let_go() {
    let mut node = Node::new("");
    let phone = node.connect(PHONE);
    for piece in OPTIONS.as_bytes().chunks(7) {
        node.data(phone, std::str::from_utf8(piece).unwrap());
    }
    let written = node.written();
    assert_eq!(written.len(), 1);
    assert!(written[0].0 == phone && written[0].1.starts_with("SIP/2.0 200 OK\r\n"));
    // A message that has begun and does not end (tcp_max_msg_time).
    node.data(phone, "OPTIONS sip:x");
    node.test.advance_ms(3_900);
    assert!(node.test.closed.is_empty());
    node.test.advance_ms(200);
    assert_eq!(node.test.closed, [phone]);
    assert!(node.test.node().streams.list().is_empty());
}

#[test]
fn what_cannot_be_framed_is_answered_where_possible_counted_and_closed() {
    let cases = [
        (OPTIONS.replace("Content-Length: 0\r\n", ""), "SIP/2.0 400 Missing Content-Length"),
        (OPTIONS.replace(": 0", ": x"), "SIP/2.0 400 Bad Content-Length"),
        (OPTIONS.replace(": 0", ": 70000"), "SIP/2.0 513 Message Too Large"),
        ("\u{16}\u{3}\u{1}\u{2}".to_owned(), ""),
        ("x".repeat(70_000), ""),
    ];
    for (text, answer) in cases {
        let mut node = Node::new("");
        let phone = node.connect(PHONE);
        node.data(phone, &text);
        let written = node.written();
        assert_eq!(node.test.closed, [phone], "{text:.40}");
        match answer {
            "" => assert!(written.is_empty()),
            answer => assert!(written[0].1.starts_with(answer), "{written:?}"),
        }
        let counted = node.test.mi("get_statistics", json!([["bad_msg_hdr"]]));
        assert_eq!(counted["result"]["core:bad_msg_hdr"], 1, "{counted}");
    }
}

#[test]
fn a_branch_of_a_megabyte_costs_its_connection_and_nothing_else() {
    let long = format!("branch=z9hG4bK{}", "x".repeat(1 << 20));
    let text = OPTIONS.replacen("branch=z9hG4bK", &long, 1);
    for piece in [text.len(), 16_384] {
        let mut node = Node::new("");
        let phone = node.connect(PHONE);
        for part in text.as_bytes().chunks(piece) {
            if node.test.closed.is_empty() {
                node.data(phone, std::str::from_utf8(part).unwrap());
            }
        }
        assert_eq!(node.test.closed, [phone], "in pieces of {piece}");
        let counted = node.test.mi("get_statistics", json!([["bad_msg_hdr"]]));
        assert_eq!(counted["result"]["core:bad_msg_hdr"], 1, "{counted}");
        let other = node.connect("127.0.0.8:40000");
        node.written();
        node.data(other, OPTIONS);
        assert_eq!(node.written().len(), 1, "others are served");
    }
}

#[test]
fn a_connection_without_traffic_ends_and_traffic_keeps_it() {
    let mut node = Node::new("tcp_connection_lifetime=10");
    let phone = node.connect(PHONE);
    node.test.advance_ms(8_000);
    node.data(phone, "\r\n\r\n");
    node.test.advance_ms(8_000);
    assert!(node.test.closed.is_empty());
    node.test.advance_ms(2_100);
    assert_eq!(node.test.closed, [phone]);
}

#[test]
fn a_call_from_udp_reaches_a_phone_over_the_connection_it_registered_on() {
    let mut node = Node::new("");
    let phone = node.connect(PHONE);
    node.data(phone, &register("sip:bob@127.0.0.9:5062;transport=tcp"));
    assert!(node.written()[0].1.starts_with("SIP/2.0 200 OK"));
    node.test.udp("127.0.0.8:5060", &invite("sip:bob@a"));
    let written = node.written();
    assert_eq!(written.len(), 1, "{written:?}");
    let (conn, request) = &written[0];
    assert!(*conn == phone && node.test.connects.is_empty());
    assert!(request.starts_with("INVITE sip:bob@127.0.0.9:5062;transport=tcp SIP/2.0\r\n"));
    let via = request.lines().nth(1).unwrap();
    assert!(via.starts_with("Via: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK"), "{via}");
    // The transport changes: two Record-Routes, the one towards the phone first.
    let routes: Vec<&str> = request.lines().filter(|l| l.starts_with("Record-Route")).collect();
    assert_eq!(routes.len(), 2, "{request}");
    assert!(routes[0].contains("127.0.0.1:5060;transport=tcp;r2=on;lr"), "{routes:?}");
    assert!(routes[1].contains("<sip:127.0.0.1:5060;r2=on;lr"), "{routes:?}");
    // Nothing is sent again over a connection.
    node.test.advance_ms(10_000);
    assert!(node.written().is_empty());
    node.test.sent();
    node.data(phone, &reply(request, "200 OK"));
    let sent = node.test.sent();
    assert!(
        sent.iter().any(|(to, m)| {
            to.to_string() == "127.0.0.8:5060" && m.starts_with("SIP/2.0 200 OK")
        })
    );
}

#[test]
fn a_target_without_a_connection_is_connected_to_and_everything_waits_for_it() {
    let mut node = Node::new("");
    node.test.udp("127.0.0.8:5060", &invite("sip:x@127.0.0.7:5070;transport=tcp"));
    assert_eq!(node.test.connects.len(), 1);
    let (conn, peer) = node.test.connects[0];
    assert_eq!(peer.to_string(), "127.0.0.7:5070");
    assert!(node.written().is_empty());
    let local = "127.0.0.1:50000".parse().unwrap();
    node.stream(StreamInput::Connected { conn, local });
    assert!(node.written()[0].1.starts_with("INVITE sip:x@127.0.0.7:5070"));
    // A second request goes the same way.
    let second = invite("sip:y@127.0.0.7:5070;transport=tcp").replace("z9hG4bKi", "z9hG4bKj");
    node.test.udp("127.0.0.8:5060", &second.replace("Call-ID: i", "Call-ID: j"));
    assert_eq!(node.test.connects.len(), 1);
    assert_eq!(node.written()[0].0, conn);
}

#[test]
fn a_connect_that_fails_is_a_failed_branch() {
    let mut node = Node::new("");
    node.test.udp("127.0.0.8:5060", &invite("sip:x@127.0.0.7:5070;transport=tcp"));
    let (conn, _) = node.test.connects[0];
    node.test.sent();
    node.stream(StreamInput::ConnectFailed { conn, error: "refused".into() });
    let sent = node.test.sent();
    assert!(sent.iter().any(|(_, m)| m.starts_with("SIP/2.0 477 ")), "{sent:?}");
    assert!(node.test.node().streams.list().is_empty());
}

#[test]
fn a_reply_whose_connection_is_gone_goes_where_via_says() {
    let mut node = Node::new("");
    let caller = node.connect(PHONE);
    let request = invite("sip:x@127.0.0.7:5070")
        .replace("SIP/2.0/UDP 127.0.0.8:5060", "SIP/2.0/TCP 127.0.0.9:5062");
    node.data(caller, &request);
    let sent = node.test.sent();
    let (_, forwarded) = sent.iter().find(|(_, m)| m.starts_with("INVITE")).unwrap();
    assert!(node.written()[0].1.starts_with("SIP/2.0 100 "));
    node.stream(StreamInput::Closed { conn: caller });
    let ok = reply(forwarded, "200 OK");
    node.test.udp("127.0.0.7:5070", &ok);
    assert_eq!(node.test.connects.last().unwrap().1.to_string(), "127.0.0.9:5062");
}

#[test]
fn a_name_of_a_living_connection_is_not_taken_by_another() {
    let mut node = Node::new("tcp_accept_aliases=1");
    let via = OPTIONS.replace("127.0.0.9:5062;", "127.0.0.9:5062;alias;");
    let (one, two) = (node.connect(PHONE), node.connect("127.0.0.9:40001"));
    node.data(one, &via);
    node.data(two, &via);
    node.written();
    let call = |node: &mut Node, n: u32| {
        let text = invite("sip:x@127.0.0.9:5062;transport=tcp");
        let text = text.replace("z9hG4bKi", &format!("z9hG4bKi{n}"));
        node.test.udp("127.0.0.8:5060", &text.replace("Call-ID: i", &format!("Call-ID: i{n}")));
        node.written().first().map(|(conn, _)| *conn)
    };
    assert_eq!(call(&mut node, 1), Some(one));
    node.stream(StreamInput::Closed { conn: one });
    node.data(two, &via);
    node.written();
    assert_eq!(call(&mut node, 2), Some(two));
}

#[test]
fn connections_are_listed_and_closed_by_command() {
    let mut node = Node::new("");
    let phone = node.connect(PHONE);
    let rows = |node: &mut Node| node.test.mi("list_tcp_conns", json!(null))["result"].clone();
    let listed = rows(&mut node);
    let row = &listed["Connections"][0];
    assert_eq!((&row["Type"], &row["State"]), (&json!("tcp"), &json!(0)));
    assert_eq!(row["Remote"], PHONE);
    assert_eq!(row["Local"], "127.0.0.1:5060");
    assert_eq!(row["Alias port"], 40_000);
    let none = node.test.mi("tcp:list", json!(["bin"]));
    assert_eq!(none["result"], json!({"Connections": []}));
    assert_eq!(node.test.mi("tcp:list", json!(["x"]))["error"]["message"], "Bad protocol");
    let bad = node.test.mi("tcp:close", json!(["127.0.0.1:1"]));
    assert_eq!(bad["error"]["message"], "Bad tcp connection");
    assert_eq!(node.test.mi("tcp:close", json!([format!("tcp:{PHONE}")]))["result"], "OK");
    assert_eq!(node.test.closed, [phone]);
}

#[test]
fn no_more_connections_are_opened_than_there_may_be() {
    let mut node = Node::new("tcp_max_connections=1");
    node.connect(PHONE);
    node.test.udp("127.0.0.8:5060", &invite("sip:x@127.0.0.7:5070;transport=tcp"));
    assert!(node.test.connects.is_empty());
    let sent = node.test.sent();
    assert!(sent.iter().any(|(_, m)| m.starts_with("SIP/2.0 477 ")), "{sent:?}");
}

#[test]
fn a_connection_that_never_says_anything_makes_room_for_a_new_one() {
    let mut node = Node::new("tcp_max_connections=2");
    let phone = node.connect(PHONE);
    node.data(phone, OPTIONS);
    let silent = node.connect("127.0.0.8:40000");
    let third = node.connect("127.0.0.8:40001");
    assert_eq!(node.test.closed, [silent]);
    node.written();
    node.data(third, OPTIONS);
    assert_eq!(node.written().len(), 1, "the new one is served");
    // Who has spoken keeps its place.
    let fourth = node.connect("127.0.0.8:40002");
    assert_eq!(node.test.closed, [silent, fourth]);
    // But not for ever.
    node.test.advance_ms(6_000);
    node.data(third, OPTIONS);
    node.test.advance_ms(6_000);
    node.connect("127.0.0.8:40003");
    assert_eq!(node.test.closed, [silent, fourth, phone]);
}
