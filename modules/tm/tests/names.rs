//! Requests to names: looked up, waited for, and sent to the next destination when one fails.

#![allow(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use crate::common;

use common::*;
use tandem_dns::{Answer, Name, Question, Record, RecordKind};
use tandem_engine::effect::{Input, SendError};
use tandem_engine::testing::TestNode;

const THIRD: &str = "127.0.0.4:5060";

fn routes(uri: &str) -> String {
    format!(
        "route {{ if ($rm == \"INVITE\") {{ $ru = \"{uri}\"; }} t_on_failure(\"f\"); t_relay(); \
         if ($rm == \"INVITE\") {{ xlog(\"rc $rc\"); }} }} failure_route[f] {{ xlog(\"failed $T_reply_code\"); }}"
    )
}

/// Two servers in the order of their priority.
fn with_servers(node: &mut TestNode) {
    let name = |text: &str| Name::parse(text.as_bytes()).unwrap();
    let server = |priority, target: &str| Record::Srv {
        priority,
        weight: 0,
        port: 5060,
        target: name(target),
    };
    let question = Question::new(&name("_sip._udp.example.org"), RecordKind::Srv);
    let answer = Answer::of(vec![server(1, "one.example.org"), server(2, "two.example.org")], 60);
    node.zone.insert(question, answer);
    node.host("one.example.org", &["127.0.0.2"]);
    node.host("two.example.org", &["127.0.0.3"]);
}

#[test]
fn a_name_is_looked_up_and_the_uri_stays() {
    let mut node = node(&routes("sip:bob@uas.test:5070"));
    node.host("uas.test", &["127.0.0.4"]);
    node.udp(CALLER, &invite());
    let lines = sent_lines(&mut node);
    assert_eq!(lines[1], "127.0.0.4:5070 INVITE sip:bob@uas.test:5070 SIP/2.0");
    assert!(logged(&mut node, "rc 1"));
    assert_eq!(
        node.mi("get_statistics", serde_json::json!([["dns_total_queries"]]))["result"]["dns:dns_total_queries"],
        1
    );
    // The second time it is known.
    node.udp(CALLER, &request("INVITE", "b", ""));
    assert_eq!(node.sent().len(), 2);
    assert_eq!(
        node.mi("get_statistics", serde_json::json!([["dns_total_queries"]]))["result"]["dns:dns_total_queries"],
        1
    );
}

#[test]
fn while_the_dns_is_silent_everything_waits_and_nothing_is_lost() {
    let mut node = node(&routes("sip:bob@uas.test:5070"));
    node.host("uas.test", &["127.0.0.4"]);
    node.dns_silent = true;
    node.udp(CALLER, &invite());
    assert_eq!(codes(&mut node), [100]);
    node.udp(CALLER, &invite());
    node.udp(CALLER, &request("CANCEL", "a", ""));
    assert!(!logged_now(&mut node, "rc 1"));
    assert_eq!(codes(&mut node), [100, 200], "the CANCEL is answered, the rest waits");
    // Another call is not held up.
    node.udp(CALLER, &request("OPTIONS", "o", ""));
    assert_eq!(sent_to(&mut node, CALLEE).len(), 1);
    assert_eq!(node.answer_names(), 1);
    assert!(logged(&mut node, "rc 1"));
    let sent = node.sent();
    assert!(lines(&sent)[0].starts_with("127.0.0.4:5070 INVITE"));
    let forwarded = sent[0].1.clone();
    node.udp("127.0.0.4:5070", &reply_to(&forwarded, 180, ""));
    let sent = sent_to(&mut node, "127.0.0.4:5070");
    assert!(sent[0].starts_with("CANCEL"), "the caller has given up meanwhile");
}

fn logged_now(node: &mut TestNode, text: &str) -> bool {
    node.logs().iter().any(|(_, line)| line.contains(text))
}

#[test]
fn a_name_nobody_knows_is_answered_476_and_the_script_ends() {
    let mut node = node(&routes("sip:bob@nowhere.test"));
    node.udp(CALLER, &invite());
    assert_eq!(
        sent_lines(&mut node).last().unwrap(),
        &format!("{CALLER} SIP/2.0 476 Unresolvable destination (476/TM)")
    );
    assert!(!logged_now(&mut node, "rc"));
}

#[test]
fn a_silent_dns_costs_the_request_and_nothing_more() {
    let mut node = node(&routes("sip:bob@silent.test:5060"));
    node.dns_silent = true;
    node.udp(CALLER, &invite());
    assert_eq!(codes(&mut node), [100]);
    node.advance_ms(12_100);
    assert_eq!(codes(&mut node), [476]);
    node.advance_ms(60_000);
    assert_eq!(stat(&mut node, "inuse_transactions"), 0);
    assert_eq!(node.node().dns.sizes().0, 0, "no search is left");
}

#[test]
fn the_next_server_is_tried_after_503_and_after_silence() {
    for silent in [false, true] {
        let mut node = node(&routes("sip:bob@example.org"));
        with_servers(&mut node);
        node.udp(CALLER, &invite());
        let first = sent_to(&mut node, CALLEE).remove(0);
        if silent {
            node.advance_ms(30_100);
        } else {
            node.udp(CALLEE, &reply_to(&first, 503, ""));
        }
        let second = sent_to(&mut node, SECOND).remove(0);
        assert!(second.starts_with("INVITE sip:bob@example.org SIP/2.0"), "{second}");
        assert!(header(&second, "Via").ends_with(".1"), "a branch of its own");
        assert!(!logged_now(&mut node, "failed"), "the failure route is not asked yet");
        node.udp(SECOND, &reply_to(&second, 503, ""));
        assert!(logged(&mut node, "failed 503"));
        assert_eq!(codes(&mut node), [500], "no server is left");
    }
}

#[test]
fn another_code_is_no_reason_to_try_the_next_server() {
    let mut node = node(&routes("sip:bob@example.org"));
    with_servers(&mut node);
    node.udp(CALLER, &invite());
    let first = sent_to(&mut node, CALLEE).remove(0);
    node.udp(CALLEE, &reply_to(&first, 486, ""));
    assert_eq!(codes(&mut node), [486]);
}

#[test]
fn a_send_error_moves_the_branch_to_the_next_server_at_once() {
    let mut node = node(&routes("sip:bob@example.org"));
    with_servers(&mut node);
    node.udp(CALLER, &invite());
    let ticket = node.last_ticket();
    node.sent();
    node.step(Input::SendFailed { ticket, error: SendError::Refused });
    let second = sent_to(&mut node, SECOND).remove(0);
    assert!(header(&second, "Via").ends_with(".0"), "in its place");
    node.advance_ms(600);
    let again = node.sent();
    assert!(again.iter().all(|(to, _)| to.to_string() == SECOND) && again.len() == 1);
    let ticket = node.last_ticket();
    node.step(Input::SendFailed { ticket, error: SendError::Refused });
    assert_eq!(codes(&mut node), [477]);
}

#[test]
fn failover_is_off_when_the_script_or_the_call_says_so() {
    let plain = routes("sip:bob@example.org");
    let flagged = plain.replace("t_relay()", "t_relay(\"no-dns-failover\")");
    for (global, routes) in [("disable_dns_failover=1", &plain), ("", &flagged)] {
        let mut node = node_with(global, routes);
        with_servers(&mut node);
        node.udp(CALLER, &invite());
        let first = sent_to(&mut node, CALLEE).remove(0);
        node.udp(CALLEE, &reply_to(&first, 503, ""));
        assert!(sent_to(&mut node, SECOND).is_empty());
        assert!(logged(&mut node, "failed 503"));
    }
}

#[test]
fn a_destination_that_failed_is_left_alone_for_four_minutes_if_wanted() {
    let mut node = node_with("disable_dns_blacklist=0", &routes("sip:bob@example.org"));
    with_servers(&mut node);
    node.udp(CALLER, &invite());
    let first = sent_to(&mut node, CALLEE).remove(0);
    node.udp(CALLEE, &reply_to(&first, 503, ""));
    node.sent();
    let list = node.mi("list_blacklists", serde_json::json!(["dns"]));
    assert_eq!(list["result"]["Rules"][0]["IP"], "127.0.0.2", "{list}");
    node.udp(CALLER, &request("INVITE", "b", ""));
    let sent = node.sent();
    assert_eq!(sent.last().unwrap().0.to_string(), SECOND, "the first is passed over");
    node.advance_ms(241_000);
    node.sent();
    with_servers(&mut node);
    node.udp(CALLER, &request("INVITE", "c", ""));
    assert_eq!(sent_to(&mut node, CALLEE).len(), 1);
}

#[test]
fn a_blacklist_of_the_script_filters_destinations() {
    let routes = "route { use_blacklist(\"bad\"); t_relay(); }";
    let mut node = node_with("dst_blacklist = bad : { (udp, 127.0.0.2, 5060, \"\") }", routes);
    node.udp(CALLER, &invite());
    assert_eq!(
        sent_lines(&mut node).last().unwrap(),
        &format!("{CALLER} SIP/2.0 473 Filtered destination (473/TM)")
    );
}

#[test]
fn parallel_branches_with_names_leave_together() {
    let mut node = node(
        "route { append_msg_branch(\"sip:bob@two.test:5060\"); \
         append_msg_branch(\"sip:bob@lost.test:5060\"); $ru = \"sip:bob@one.test:5060\"; \
         t_relay(); xlog(\"rc $rc\"); }",
    );
    node.host("one.test", &["127.0.0.3"]);
    node.host("two.test", &["127.0.0.4"]);
    node.dns_silent = true;
    node.udp(CALLER, &invite());
    node.sent();
    assert_eq!(node.answer_names(), 3);
    let lines = sent_lines(&mut node);
    assert_eq!(
        lines,
        [
            format!("{SECOND} INVITE sip:bob@one.test:5060 SIP/2.0"),
            format!("{THIRD} INVITE sip:bob@two.test:5060 SIP/2.0")
        ]
    );
    assert!(logged(&mut node, "rc 1"));
}

#[test]
fn a_failure_route_may_name_a_host() {
    let mut node = node(
        "route { t_on_failure(\"f\"); t_relay(); } \
         failure_route[f] { $ru = \"sip:bob@two.test:5060\"; t_relay(); xlog(\"rc $rc\"); }",
    );
    node.host("two.test", &["127.0.0.3"]);
    let forwarded = start_call(&mut node);
    node.dns_silent = true;
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    node.sent();
    node.advance_ms(1_000);
    assert_eq!(codes(&mut node), [] as [u16; 0], "no winner is sent meanwhile");
    node.answer_names();
    assert_eq!(sent_to(&mut node, SECOND).len(), 1);
    assert!(logged(&mut node, "rc 1"));
}

#[test]
fn an_ack_to_a_name_waits_for_it_too() {
    let mut node = node("route { $ru = \"sip:bob@uas.test:5070\"; t_relay(); xlog(\"rc $rc\"); }");
    node.host("uas.test", &["127.0.0.4"]);
    node.udp(CALLER, &request("ACK", "x", ""));
    let lines = sent_lines(&mut node);
    assert_eq!(lines, ["127.0.0.4:5070 ACK sip:bob@uas.test:5070 SIP/2.0"]);
    assert!(logged(&mut node, "rc 1"));
    node.udp(CALLER, &request("ACK", "y", "").replace("c-y", "c-z"));
    assert_eq!(node.sent().len(), 1);
}

#[test]
fn an_outbound_proxy_may_be_a_name() {
    let mut node = node("route { t_relay(, \"udp:proxy.test:5080\"); }");
    node.host("proxy.test", &["127.0.0.4"]);
    node.udp(CALLER, &invite());
    assert_eq!(sent_to(&mut node, "127.0.0.4:5080").len(), 1);
    let mut node = self::node("route { $du = \"sip:edge.test:5090\"; t_relay(); }");
    node.host("edge.test", &["127.0.0.3"]);
    node.udp(CALLER, &invite());
    assert_eq!(sent_to(&mut node, "127.0.0.3:5090").len(), 1);
}

#[test]
fn ten_thousand_requests_wait_for_one_question() {
    const MANY: usize = 10_000;
    let mut node = node("route { $ru = \"sip:bob@slow.test:5060\"; t_relay(); }");
    node.host("slow.test", &["127.0.0.2"]);
    node.dns_silent = true;
    for n in 0..MANY {
        node.udp(CALLER, &request("MESSAGE", &format!("n{n}"), ""));
    }
    assert!(node.sent().is_empty());
    assert_eq!(node.node().dns.sizes().0, MANY);
    assert_eq!(node.answer_names(), 1, "the question is asked once");
    assert_eq!(sent_to(&mut node, CALLEE).len(), MANY);
    assert_eq!(node.node().dns.sizes().0, 0);
    node.advance_ms(60_000);
    assert_eq!(stat(&mut node, "inuse_transactions"), 0);
}
