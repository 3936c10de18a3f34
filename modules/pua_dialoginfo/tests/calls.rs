//! Calls, and what is published of them.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use common::*;
use serde_json::json;

const SET: &str = "dialoginfo_set();";

#[test]
fn a_call_is_published_in_each_of_its_states() {
    let (mut node, mut server) = (node("", SET), Server::default());
    let phones = Phones::dial(&mut node, "c1");
    assert!(server.serve(&mut node).is_empty(), "it does not ring yet");
    node.udp(CALLEE, &phones.reply(180));
    let early = server.serve(&mut node);
    assert_eq!(states(&early), both("early"));
    let first = &early[0];
    assert!(first.header("SIP-If-Match").is_empty() && first.header("Event") == "dialog");
    assert_eq!(first.header("Content-Type"), "application/dialog-info+xml");
    assert!(first.text.contains("<identity display=\"Al\">sip:alice@a.test</identity>"));
    node.udp(CALLEE, &phones.reply(180));
    assert!(server.serve(&mut node).is_empty(), "nothing new");
    node.udp(CALLEE, &phones.reply(200));
    let confirmed = server.serve(&mut node);
    assert_eq!(states(&confirmed), both("confirmed"));
    assert_eq!(confirmed[1].header("SIP-If-Match"), "e2");
    assert!(confirmed[1].text.contains("local-tag=\"t\" remote-tag=\"f\" direction=\"recipient\""));
    node.udp(CALLER, &phones.within("ACK", 7));
    node.udp(CALLER, &phones.within("BYE", 8));
    let over = server.serve(&mut node);
    assert_eq!(states(&over), both("terminated"));
    assert_eq!((over[0].header("Expires"), over[0].header("SIP-If-Match")), ("0", "e3"));
    node.advance_ms(120_000);
    assert!(server.serve(&mut node).is_empty());
}

#[test]
fn a_call_that_nobody_answers_is_over_and_one_that_never_rang_was_never_told() {
    let (mut node, mut server) = (node("", SET), Server::default());
    let phones = Phones::dial(&mut node, "c1");
    node.udp(CALLEE, &phones.reply(180));
    server.serve(&mut node);
    node.udp(CALLEE, &phones.reply(486));
    assert_eq!(states(&server.serve(&mut node)), both("terminated"));
    let phones = Phones::dial(&mut node, "c2");
    node.udp(CALLEE, &phones.reply(404));
    assert!(server.serve(&mut node).is_empty());
}

#[test]
fn of_what_happens_while_a_publish_is_on_its_way_the_last_counts() {
    let (mut node, mut server) = (node("", SET), Server::default());
    let phones = Phones::dial(&mut node, "c1");
    node.udp(CALLEE, &phones.reply(180));
    node.udp(CALLEE, &phones.reply(200));
    node.udp(CALLER, &phones.within("ACK", 7));
    node.udp(CALLER, &phones.within("BYE", 8));
    let all = states(&server.serve(&mut node));
    assert_eq!(all, [both("early"), both("terminated")].concat());
}

#[test]
fn a_publication_that_the_server_has_lost_is_made_again() {
    let (mut node, mut server) = (node("", SET), Server::default());
    let phones = Phones::dial(&mut node, "c1");
    node.udp(CALLEE, &phones.reply(180));
    server.serve(&mut node);
    node.udp(CALLEE, &phones.reply(200));
    server.code = 412;
    let all = server.serve(&mut node);
    let of_alice: Vec<_> = all.iter().filter(|p| p.uri.contains("alice")).collect();
    assert_eq!(of_alice.len(), 2);
    assert_eq!(of_alice[0].header("SIP-If-Match"), "e1");
    assert_eq!(of_alice[1].header("SIP-If-Match"), "");
    assert_eq!(of_alice[1].state, "confirmed");
    // The end of one that is lost is told as a new publication that ends soon.
    node.udp(CALLER, &phones.within("ACK", 7));
    node.udp(CALLER, &phones.within("BYE", 8));
    server.code = 412;
    let all = server.serve(&mut node);
    let of_alice: Vec<_> = all.iter().filter(|p| p.uri.contains("alice")).collect();
    assert_eq!((of_alice[0].header("Expires"), of_alice[1].header("Expires")), ("0", "300"));
    assert_eq!(of_alice[1].state, "terminated");
    node.advance_ms(400_000);
    assert!(server.serve(&mut node).is_empty());
}

#[test]
fn what_ends_a_call_by_command_ends_its_lamps() {
    let (mut node, mut server) = (node("", SET), Server::default());
    let phones = Phones::dial(&mut node, "c1");
    node.udp(CALLEE, &phones.reply(200));
    node.udp(CALLER, &phones.within("ACK", 7));
    server.serve(&mut node);
    node.mi("dialog:end_dlg", json!(["c1"]));
    assert_eq!(states(&server.serve(&mut node)), both("terminated"));
}

#[test]
fn values_are_those_that_nodes_of_the_field_write() {
    let mut node = node("", SET);
    Phones::dial(&mut node, "c1");
    let listed = node.mi("dialog:list_ctx", json!({}));
    let values = listed["result"]["Dialogs"][0]["context"]["values"].to_string();
    for (name, value) in [("1", "sip:alice@a.test"), ("2", "Al"), ("3", "sip:bob@b.test")] {
        let wanted = format!("{{\"__blf_param_{name}\":\"{value}\"}}");
        assert!(values.contains(&wanted), "{values}");
    }
    assert!(values.contains("__blf_param_5") && !values.contains("__blf_param_4"), "{values}");
}
