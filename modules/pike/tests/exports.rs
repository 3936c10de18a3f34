//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_pike::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"pike.so\"\n";
const DENSITY: &str = "modparam(\"pike\", \"reqs_density_per_unit\", 2)\n";
const FLOOD: &str = "10.0.0.9:5060";

fn request(user: &str) -> String {
    format!(
        "OPTIONS sip:{user}@uri.test SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKx\n\
         From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
         Content-Length: 0\n\n"
    )
}

fn node(params: &str) -> TestNode {
    let route = "route { pike_check_req(); xlog(\"L_NOTICE\", \"$rc\"); }";
    TestNode::new(&format!("{MODULE_LINES}{params}{route}"), MODULES)
}

/// The codes of so many requests.
fn codes(node: &mut TestNode, n: usize) -> Vec<String> {
    for _ in 0..n {
        node.udp(FLOOD, &request("u"));
    }
    let lines = node.logs().into_iter().map(|(_, text)| text);
    lines.filter(|text| text.parse::<i32>().is_ok()).collect()
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_pike::MODULE,
        &[
            ("param sampling_time_unit", unit),
            ("param reqs_density_per_unit", density),
            ("param remove_latency", latency),
            ("param pike_log_level", log_level),
            ("param check_route", check_route),
            ("function pike_check_req", density),
            ("mi pike:list", list),
            ("mi pike:rm", remove),
            ("event E_PIKE_BLOCKED", event),
        ],
    );
}

fn density() {
    assert_eq!(codes(&mut node(DENSITY), 5), ["1", "1", "-2", "-1", "-1"]);
    assert!(codes(&mut node(""), 30).iter().all(|code| code == "1"));
    let mut node = node(DENSITY);
    codes(&mut node, 3);
    node.udp("10.0.0.10:5060", &request("u"));
    assert_eq!(node.logs().pop().unwrap().1, "1", "another address");
    let none = format!("{MODULE_LINES}{}route {{ exit; }}", DENSITY.replace('2', "0"));
    assert!(TestNode::try_new(&none, MODULES).is_err());
}

fn unit() {
    let after = |params: &str, ms: u64| {
        let mut node = node(&format!("{DENSITY}{params}"));
        codes(&mut node, 3);
        node.advance_ms(ms);
        codes(&mut node, 1)
    };
    assert_eq!(after("", 4_100), ["1"]);
    assert_eq!(after("modparam(\"pike\", \"sampling_time_unit\", 10)\n", 4_100), ["-1"]);
}

fn latency() {
    let known = |params: &str| {
        let mut node = node(&format!("{DENSITY}{params}"));
        codes(&mut node, 1);
        node.advance_ms(20_000);
        node.mi("pike:rm", json!(["10.0.0.9"]))["error"]["code"].clone()
    };
    assert_eq!(known(""), 400);
    assert_eq!(known("modparam(\"pike\", \"remove_latency\", 5)\n"), 404);
}

fn log_level() {
    let told = |params: &str| {
        let mut node = node(&format!("{DENSITY}{params}"));
        (0..3).for_each(|_| node.udp(FLOOD, &request("u")));
        node.advance_ms(6_100);
        let lines = node.logs().into_iter().map(|(_, text)| text);
        lines.filter(|text| text.starts_with("pike: ")).collect::<Vec<_>>()
    };
    assert_eq!(told(""), ["pike: 10.0.0.9 is blocked", "pike: 10.0.0.9 is free again"]);
    assert_eq!(told("modparam(\"pike\", \"pike_log_level\", 4)\n"), [] as [String; 0]);
}

fn check_route() {
    let params = format!("{DENSITY}modparam(\"pike\", \"check_route\", \"pike\")\n");
    let script = format!(
        "{MODULE_LINES}{params}route {{ xlog(\"L_NOTICE\", \"seen $rU\"); }} \
        route[pike] {{ if ($rU == \"friend\") drop; }}"
    );
    let mut node = TestNode::new(&script, MODULES);
    let mut seen = |user: &str| {
        (0..4).for_each(|_| node.udp(FLOOD, &request(user)));
        node.logs().iter().filter(|(_, text)| *text == format!("seen {user}")).count()
    };
    assert_eq!(seen("friend"), 4);
    assert_eq!(seen("u"), 2);
    assert_eq!(seen("friend"), 4);
    let wrong = format!("{MODULE_LINES}{params}route {{ exit; }}");
    assert!(TestNode::try_new(&wrong, MODULES).err().unwrap().contains("no route[pike]"));
}

fn list() {
    let mut node = node(DENSITY);
    assert_eq!(node.mi("pike:list", Json::Null)["result"], json!({"IPs": []}));
    codes(&mut node, 3);
    assert_eq!(node.mi("pike:list", Json::Null)["result"], json!({"IPs": ["10.0.0.9"]}));
}

fn remove() {
    let mut node = node(DENSITY);
    codes(&mut node, 3);
    assert_eq!(node.mi("pike:rm", json!(["10.0.0.9"]))["result"], "OK");
    assert_eq!(codes(&mut node, 1), ["1"]);
    assert_eq!(node.mi("pike:rm", json!(["10.0.0.9"]))["error"]["message"], "IP not blocked");
    assert_eq!(node.mi("pike:rm", json!(["10.0.0.1"]))["error"]["code"], 404);
    assert_eq!(node.mi("pike:rm", json!(["nowhere"]))["error"]["message"], "Bad IP");
}

fn event() {
    let script = format!(
        "{MODULE_LINES}{DENSITY}route {{ pike_check_req(); }} \
        event_route[E_PIKE_BLOCKED] {{ xlog(\"L_NOTICE\", \"event $param(ip)\"); }}"
    );
    let mut node = TestNode::new(&script, MODULES);
    (0..5).for_each(|_| node.udp(FLOOD, &request("u")));
    let told = node.logs().iter().filter(|(_, text)| text == "event 10.0.0.9").count();
    assert_eq!(told, 1);
}
