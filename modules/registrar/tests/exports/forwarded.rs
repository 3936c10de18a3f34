//! `save()` in an onreply route: what another registrar has accepted.

use serde_json::json;
use tandem_engine::testing::TestNode;

use super::common::*;

/// A node that forwards to the registrar 10.0.0.1 and stores what that accepts.
fn edge(setup: &str, request: &str) -> TestNode {
    let body = format!(
        "setbflag(\"NAT\"); {request} t_on_reply(\"stored\"); $du = \"sip:10.0.0.1\"; t_relay();"
    );
    let setup = format!("modparam(\"usrloc\", \"nat_bflag\", \"NAT\")\n{setup}");
    let route = "onreply_route[stored] { save(\"location\"); xlog(\"saved $rc\\n\"); }\n";
    TestNode::new(&(script(&setup, &body) + route), MODULES)
}

/// The answer of the registrar to what was forwarded.
fn answer(node: &mut TestNode, code: &str, lines: &str) {
    let sent = node.sent();
    let (_, request) = sent.iter().find(|(to, _)| to.port() == 5060).unwrap();
    let head = request.lines().filter(|l| {
        ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| l.starts_with(name))
    });
    let head: String = head.map(|l| format!("{l}\n")).collect();
    node.udp("10.0.0.1:5060", &format!("SIP/2.0 {code}\n{head}{lines}Content-Length: 0\n\n"));
}

fn listed(node: &mut TestNode) -> Vec<(String, u64)> {
    let all = contacts(node);
    let of = |c: &serde_json::Value| {
        (c["Contact"].as_str().unwrap().to_owned(), c["Expires"].as_u64().unwrap())
    };
    all.iter().map(of).collect()
}

#[test]
fn what_another_registrar_accepts_is_kept_for_as_long_as_it_says() {
    let mut node = edge("", "");
    let both = "Contact: <sip:a@10.0.0.9:5070>, <sip:b@10.0.0.9>\nExpires: 3600\n";
    node.udp(PHONE, &register("c", 1, both));
    let lines = "Contact: <sip:a@10.0.0.9:5070>;expires=120\nExpires: 500\n";
    answer(&mut node, "200 OK", lines);
    assert_eq!(listed(&mut node), [("sip:a@10.0.0.9:5070".to_owned(), 120)]);
    let stored = contacts(&mut node).remove(0);
    assert_eq!(stored["Cflags"], json!("NAT"), "the branch flags of the request");
    assert_eq!(stored["Socket"], json!("udp:127.0.0.1:5060"));
    let replies = node.sent();
    assert_eq!(replies.len(), 1, "the reply goes on, and there is no other: {replies:?}");
    assert!(replies[0].1.contains("expires=120"), "{replies:?}");
    node.udp(PHONE, &register("c", 2, "Contact: <sip:a@10.0.0.9:5070>;expires=0\n"));
    answer(&mut node, "200 OK", "");
    assert_eq!(listed(&mut node), []);
    node.udp(PHONE, &register("c", 3, both));
    answer(&mut node, "403 Forbidden", "");
    assert_eq!(listed(&mut node), [], "it was refused");
}

pub(super) fn a_contact_is_known_as_it_was_sent_on() {
    let request = "$avp(sent) = \"sip:a@198.51.100.1:6000\";";
    for (setup, count) in
        [("", 0), ("modparam(\"registrar\", \"mcontact_avp\", \"$avp(sent)\")", 1)]
    {
        let mut node = edge(setup, request);
        node.udp(PHONE, &register("c", 1, "Contact: <sip:a@10.0.0.9:5070>\n"));
        answer(&mut node, "200 OK", "Contact: <sip:a@198.51.100.1:6000>;expires=77\n");
        let all = listed(&mut node);
        assert_eq!(all.len(), count, "{all:?}");
        assert!(all.iter().all(|c| *c == ("sip:a@10.0.0.9:5070".to_owned(), 77)), "{all:?}");
    }
}
