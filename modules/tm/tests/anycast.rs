//! Two nodes with one address: what reaches the wrong one finds the right one.

#![allow(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use crate::common;

use common::{CALLEE, CALLER, header, reply_to, request};
use serde_json::json;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::Nodes;

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_proto_bin::MODULE,
    &tandem_clusterer::MODULE,
    &tandem_tm::MODULE,
];

const ROUTE: &str = "route { if ($rm == \"CANCEL\" || $rm == \"ACK\") { \
    if (!t_check_trans()) { t_anycast_replicate(); xlog(\"#replicate $rc\"); exit; } } \
    t_relay(); xlog(\"#relay $rm $rc\"); }";

fn script(n: usize, params: &str) -> String {
    let other = 3 - n;
    format!(
        "log_level=4\nsocket=udp:10.9.9.9:5060 anycast\nsocket=bin:127.0.0.{n}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\nloadmodule \"clusterer.so\"\n\
         loadmodule \"tm.so\"\nmodparam(\"clusterer\", \"my_node_id\", {n})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1,url=bin:127.0.0.{n}:5566\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1,node_id={other},url=bin:127.0.0.{other}:5566\")\n\
         modparam(\"tm\", \"tm_replication_cluster\", 1)\n{params}\n{ROUTE}"
    )
}

fn pair(params: &str) -> Nodes {
    let mut nodes = Nodes::new(MODULES, vec![script(1, params), script(2, params)]);
    nodes.advance_ms(3_000);
    nodes.logs.clear();
    nodes
}

/// What a node sent since the last look.
fn sent(nodes: &mut Nodes, node: usize) -> Vec<(String, String)> {
    let all = std::mem::take(&mut nodes.datagrams).into_iter();
    let (mine, rest) = all.partition(|s| s.0 == node - 1);
    nodes.datagrams = rest;
    let mine: Vec<(usize, std::net::SocketAddr, String)> = mine;
    mine.into_iter().map(|(_, to, text)| (to.to_string(), text)).collect()
}

/// A call through the first node; the INVITE as the callee gets it.
fn call(nodes: &mut Nodes) -> String {
    nodes.udp(0, CALLER, &request("INVITE", "a", ""));
    let sent = sent(nodes, 1);
    sent.into_iter().find(|(to, _)| to == CALLEE).unwrap().1
}

fn stat(nodes: &mut Nodes, node: usize, name: &str) -> u64 {
    let full = format!("tm:{name}");
    nodes.mi(node - 1, "get_statistics", json!([[full]]))["result"][&full].as_u64().unwrap()
}

#[test]
fn a_reply_to_the_other_node_finds_its_transaction() {
    let mut nodes = pair("");
    let invite = call(&mut nodes);
    assert!(header(&invite, "Via").contains(";cid=1"), "{invite}");
    nodes.udp(1, CALLEE, &reply_to(&invite, 200, ""));
    nodes.advance_ms(40);
    let back = sent(&mut nodes, 1);
    assert_eq!(back.len(), 1, "{back:?}");
    assert_eq!(back[0].0, CALLER);
    assert!(back[0].1.starts_with("SIP/2.0 200"));
    assert!(sent(&mut nodes, 2).is_empty());
    assert_eq!(stat(&mut nodes, 2, "cluster_reply_sent"), 1);
    assert_eq!(stat(&mut nodes, 1, "cluster_reply_recv"), 1);
}

#[test]
fn a_cancel_to_the_other_node_is_acted_on_by_the_first() {
    let mut nodes = pair("");
    let invite = call(&mut nodes);
    nodes.udp(0, CALLEE, &reply_to(&invite, 180, ""));
    sent(&mut nodes, 1);
    nodes.udp(1, CALLER, &request("CANCEL", "a", "Reason: Q.850;cause=16\n"));
    nodes.advance_ms(40);
    let acted = sent(&mut nodes, 1);
    let lines: Vec<&str> = acted.iter().map(|(_, t)| t.lines().next().unwrap()).collect();
    assert_eq!(lines, ["SIP/2.0 200 canceling", "CANCEL sip:bob@127.0.0.2:5060 SIP/2.0"]);
    assert!(sent(&mut nodes, 2).is_empty());
    assert!(nodes.said(1).is_empty(), "no script has seen it");
    assert_eq!(stat(&mut nodes, 2, "cluster_cancel_sent"), 1);
    assert_eq!(stat(&mut nodes, 1, "cluster_cancel_recv"), 1);
}

#[test]
fn without_automatic_handling_the_script_hands_it_on() {
    let mut nodes = pair("modparam(\"tm\", \"cluster_auto_cancel\", 0)");
    let invite = call(&mut nodes);
    nodes.udp(0, CALLEE, &reply_to(&invite, 180, ""));
    sent(&mut nodes, 1);
    nodes.logs.clear();
    nodes.udp(1, CALLER, &request("CANCEL", "a", ""));
    nodes.advance_ms(40);
    assert_eq!(nodes.said(1), ["#replicate 1"]);
    assert_eq!(nodes.said(0), ["#relay CANCEL 1"]);
    let acted = sent(&mut nodes, 1);
    assert!(acted.iter().any(|(_, text)| text.starts_with("CANCEL")), "{acted:?}");
    assert_eq!(stat(&mut nodes, 2, "cluster_request_sent"), 1);
    assert_eq!(stat(&mut nodes, 1, "cluster_request_recv"), 1);
    // What nobody knows is handed on once, and not round and round.
    nodes.udp(1, CALLER, &request("CANCEL", "unknown", ""));
    nodes.advance_ms(200);
    assert_eq!(nodes.said(1), ["#replicate 1"]);
    assert_eq!(nodes.said(0), ["#replicate -2"]);
}

#[test]
fn the_parameter_in_the_via_has_the_name_that_the_script_gives() {
    let mut nodes = pair("modparam(\"tm\", \"cluster_param\", \"owner\")");
    let invite = call(&mut nodes);
    assert!(header(&invite, "Via").contains(";owner=1"), "{invite}");
    nodes.udp(1, CALLEE, &reply_to(&invite, 200, ""));
    nodes.advance_ms(40);
    assert_eq!(sent(&mut nodes, 1).len(), 1);
}
