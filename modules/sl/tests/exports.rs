//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::json;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules =
    &[&tandem_engine::core::CORE, &tandem_proto_udp::MODULE, &tandem_sl::MODULE];
const PHONE: &str = "127.0.0.9:5060";

fn node(settings: &str, route: &str) -> TestNode {
    let head = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\n";
    TestNode::new(&format!("{head}{settings}\nroute {{ {route} }}"), MODULES)
}

fn request(method: &str, to_tag: &str) -> String {
    format!(
        "{method} sip:a@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
         From: <sip:f@127.0.0.9>;tag=f\nTo: <sip:a@127.0.0.1>{to_tag}\nCall-ID: c\n\
         CSeq: 1 {method}\nContent-Length: 0\n\n"
    )
}

fn stat(node: &mut TestNode, name: &str) -> u64 {
    let answer = node.mi("get_statistics", json!([[format!("sl:{name}")]]));
    answer["result"][format!("sl:{name}")].as_u64().unwrap()
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_sl::MODULE,
        &[
            ("param enable_stats", statistics_can_be_off),
            ("function sl_send_reply", replies_are_sent_and_counted_by_class),
            ("function sl_reply_error", errors_are_sent_and_counted),
            ("statistic 1xx_replies", replies_are_sent_and_counted_by_class),
            ("statistic 2xx_replies", replies_are_sent_and_counted_by_class),
            ("statistic 3xx_replies", replies_are_sent_and_counted_by_class),
            ("statistic 4xx_replies", replies_are_sent_and_counted_by_class),
            ("statistic 5xx_replies", replies_are_sent_and_counted_by_class),
            ("statistic 6xx_replies", replies_are_sent_and_counted_by_class),
            ("statistic sent_replies", replies_are_sent_and_counted_by_class),
            ("statistic sent_err_replies", errors_are_sent_and_counted),
            ("statistic received_ACKs", an_ack_to_our_reply_is_absorbed),
        ],
    );
}

fn statistics_can_be_off() {
    for (enabled, counted) in [(1, 1), (0, 0)] {
        let settings = format!("modparam(\"sl\", \"enable_stats\", {enabled})");
        let mut node = node(&settings, "sl_send_reply(200, \"OK\");");
        node.udp(PHONE, &request("OPTIONS", ""));
        assert_eq!(stat(&mut node, "sent_replies"), counted);
    }
}

fn replies_are_sent_and_counted_by_class() {
    for code in [183, 202, 302, 404, 503, 603] {
        let mut node = node("", &format!("sl_send_reply({code}, \"Said so\");"));
        node.udp(PHONE, &request("OPTIONS", ""));
        let sent = node.sent();
        let [(to, reply)] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!(to.to_string(), PHONE);
        assert!(reply.starts_with(&format!("SIP/2.0 {code} Said so\r\n")), "{reply}");
        assert_eq!(stat(&mut node, &format!("{}xx_replies", code / 100)), 1);
        assert_eq!(stat(&mut node, "sent_replies"), 1);
    }
}

fn errors_are_sent_and_counted() {
    let mut node = node("", "sl_reply_error();");
    node.udp(PHONE, &request("OPTIONS", ""));
    assert!(node.sent()[0].1.starts_with("SIP/2.0 500 "));
    assert_eq!(stat(&mut node, "sent_err_replies"), 1);
}

fn an_ack_to_our_reply_is_absorbed() {
    let mut node = node("", "xlog(\"L_NOTICE\", \"ran for $rm\"); sl_send_reply(404, \"No\");");
    node.udp(PHONE, &request("INVITE", ""));
    let reply = node.sent().remove(0).1;
    let tag = reply.split(">;tag=").nth(2).and_then(|t| t.split("\r\n").next()).unwrap();
    node.logs();
    node.udp(PHONE, &request("ACK", &format!(";tag={tag}")));
    assert!(node.logs().is_empty(), "the script does not see it");
    assert_eq!(stat(&mut node, "received_ACKs"), 1);
    node.udp(PHONE, &request("ACK", ";tag=other"));
    assert!(!node.logs().is_empty(), "an ACK to somebody else's reply goes to the script");
}

#[test]
fn a_redirection_names_where_the_script_has_sent_the_request() {
    let contacts = |route: &str| {
        let mut node = node("", route);
        node.udp(PHONE, &request("INVITE", ""));
        let text = node.sent().pop().unwrap().1;
        let lines = text.lines().filter_map(|line| line.strip_prefix("Contact: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let moved = "$ru = \"sip:n1@h1\"; append_msg_branch(\"sip:n2@h2\", \"0.5\");";
    let both = contacts(&format!("{moved} sl_send_reply(302, \"Moved\");"));
    assert_eq!(both, ["<sip:n1@h1>, <sip:n2@h2>;q=0.5"]);
    assert!(contacts("sl_send_reply(302, \"Moved\");").is_empty(), "nowhere else");
    let breaks = "$ru = \"sip:x@h\" + $(var(n){s.decode.hexa}); sl_send_reply(302, \"Moved\");";
    assert!(contacts(&format!("$var(n) = \"0d0a583a2079\"; {breaks}")).is_empty());
    assert!(contacts(&format!("{moved} sl_send_reply(486, \"Busy\");")).is_empty());
}
