//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_json::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"json.so\"\n";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";

/// What a text comes to behind some lines, or the last complaint.
fn with(params: &str, lines: &str, tell: &str) -> String {
    let route = format!("{lines} xlog(\"L_NOTICE\", \"{tell}\");");
    let mut node = TestNode::new(&format!("{MODULE_LINES}{params}route {{ {route} }}"), MODULES);
    node.udp("127.0.0.9:5060", REQUEST);
    node.logs().pop().unwrap().1
}

/// `$json(a)` is a document.
fn told(lines: &str, tell: &str) -> String {
    let document = "$json(a) := \"{\\\"n\\\":1,\\\"s\\\":\\\"x/y\\\",\\\"l\\\":[1,2,3],\
        \\\"o\\\":{\\\"k\\\":true},\\\"z\\\":null}\";";
    with("", &format!("{document} {lines}"), tell)
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_json::MODULE,
        &[
            ("param enable_long_quoting", long_quoting),
            ("function json_link", link),
            ("function json_merge", merge),
            ("variable json", json),
            ("variable json_compact", layouts),
            ("variable json_pretty", layouts),
            ("variable json_compact_noescape", layouts),
        ],
    );
}

fn long_quoting() {
    let line = "$json(x) := \"[5000000000, 7]\";";
    assert_eq!(with("", line, "$json(x[0]) $json(x[1])"), "705032704 7");
    let params = "modparam(\"json\", \"enable_long_quoting\", 1)\n";
    assert_eq!(with(params, line, "$json(x[0]) $json(x[1])"), "5000000000 7");
}

fn json() {
    assert_eq!(told("", "$json(a/n) $json(a/s) $json(a/l[-1]) $json(a/o/k)"), "1 x/y 3 true");
    assert_eq!(told("", "$json(a/z) $json(a/none) $json(none)"), "<null> <null> <null>");
    assert_eq!(told("$json(a/l[]) = 4; $json(a/l[0]) = NULL;", "$json(a/l)"), "[ 2, 3, 4 ]");
    assert_eq!(
        told("$json(a/o/k) = \"{}\"; $json(a/o/m) := \"{}\";", "$json_compact(a/o)"),
        "{\"k\":\"{}\",\"m\":{}}"
    );
    assert_eq!(told("$var(i) = 1; $var(k) = \"l\";", "$json(a/$var(k)[$var(i)])"), "2");
    assert_eq!(told("$json(a) = NULL;", "$json(a)"), "<null>");
    assert_eq!(told("$json(a/n) = $json(a/n) + 1;", "$json(a/n)"), "2");
    let walk = "for ($var(v) in $(json(a/l)[*])) $var(all) = $var(all) + $var(v) + \";\";";
    assert_eq!(told(&format!("$var(all) = \"\"; {walk}"), "$var(all)"), "1;2;3;");
    let keys = walk.replace("a/l", "a.keys");
    assert_eq!(told(&format!("$var(all) = \"\"; {keys}"), "$var(all)"), "n;s;l;o;z;");
    let values = walk.replace("a/l", "a/o.values");
    assert_eq!(told(&format!("$var(all) = \"\"; {values}"), "$var(all)"), "true;");
    let fails = |line: &str| {
        let mut node = TestNode::new(&format!("{MODULE_LINES}route {{ {line} }}"), MODULES);
        node.udp("127.0.0.9:5060", REQUEST);
        node.logs().pop().unwrap().1
    };
    assert!(fails("$json(x) := \"{\";").contains("not JSON"));
    assert!(fails("$json(x/y) = 1;").contains("no document `x`"));
    // What startup_route makes is there for every message.
    let script = format!(
        "{MODULE_LINES}startup_route {{ $json(c) := \"{{\\\"v\\\":5}}\"; }} \
        route {{ $json(c/v) = $json(c/v) + 1; xlog(\"L_NOTICE\", \"$json(c/v)\"); }}"
    );
    let mut node = TestNode::new(&script, MODULES);
    node.udp("127.0.0.9:5060", REQUEST);
    node.udp("127.0.0.9:5060", REQUEST);
    let lines: Vec<String> = node.logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(lines, ["6", "6"]);
}

fn layouts() {
    assert_eq!(told("", "$json(a/o) $json_compact(a/o)"), "{ \"k\": true } {\"k\":true}");
    assert_eq!(told("", "$json_pretty(a/o)"), "{\n  \"k\":true\n}");
    let slash = "$json(b) := \"[\\\"x/y\\\"]\";";
    assert_eq!(told(slash, "$json_compact(b) $json_compact_noescape(b)"), "[\"x\\/y\"] [\"x/y\"]");
    assert_eq!(told("$json_compact(a/n) = 9;", "$json_pretty(a/n)"), "9");
}

fn link() {
    assert_eq!(told("json_link($json(o), $json(a/o)); $json(o/k) = 7;", "$rc $json(a/o/k)"), "1 7");
    assert_eq!(told("json_link($json(o), $json(a/none));", "$rc"), "-1");
    assert_eq!(told("json_link($json(a), $json(a/o));", "$rc"), "-1");
    assert_eq!(told("$var(x) = 1; json_link($json(o), $var(x));", "$rc"), "-1");
}

fn merge() {
    let lines = "$var(p) = \"{\\\"n\\\":null,\\\"o\\\":{\\\"m\\\":1}}\"; \
        json_merge($json(a), $var(p), $var(out));";
    let merged = told(lines, "$rc $var(out)");
    assert_eq!(merged, "1 {\"s\":\"x\\/y\",\"l\":[1,2,3],\"o\":{\"k\":true,\"m\":1},\"z\":null}");
    assert_eq!(told("json_merge($json(a), \"[\", $var(out));", "$rc"), "-1");
}
