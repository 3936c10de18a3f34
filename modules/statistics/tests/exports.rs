//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::testing::{Check, TestNode, cover};

static MODULES: Modules = &[&CORE, &tandem_proto_udp::MODULE, &tandem_statistics::MODULE];
const HEAD: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
    loadmodule \"statistics.so\"\n";
const REQUEST: &str = "OPTIONS sip:b@example.org SIP/2.0\n\
    Via: SIP/2.0/UDP 127.0.0.9:5999;branch=z9hG4bKx\nFrom: <sip:al@a.org>;tag=f\n\
    To: <sip:bo@b.org>\nCall-ID: c1\nCSeq: 7 OPTIONS\nContent-Length: 0\n\n";

fn try_node(params: &str, route: &str) -> Result<TestNode, String> {
    TestNode::try_new(&format!("{HEAD}{params}\nroute {{ {route} }}"), MODULES)
}

/// The lines that a route writes for one request, and the node.
fn run(params: &str, route: &str) -> (Vec<String>, TestNode) {
    let mut node = try_node(params, route).unwrap_or_else(|e| panic!("{e}"));
    node.udp("127.0.0.9:5062", REQUEST);
    (node.logs().into_iter().map(|l| l.1).collect(), node)
}

fn said(params: &str, statements: &str, text: &str) -> String {
    let (mut lines, _) = run(params, &format!("{statements} xlog(\"L_NOTICE\", \"{text}\");"));
    lines.pop().unwrap_or_default()
}

fn modparam(name: &str, value: &str) -> String {
    format!("modparam(\"statistics\", \"{name}\", \"{value}\")\n")
}

fn get(node: &mut TestNode, names: Json) -> Json {
    node.mi("statistics:get", json!([names]))["result"].clone()
}

const CHECKS: &[Check] = &[
    ("param variable", || {
        let params = modparam("variable", "calls") + &modparam("variable", "kept/no_reset");
        let route = "update_stat(\"kept\", 2); reset_stat(\"kept\");";
        let (_, mut node) = run(&params, route);
        let all = get(&mut node, json!(["dynamic:"]));
        assert_eq!(all, json!({"dynamic:calls": 0, "dynamic:kept": 2}));
        let kinds = node.mi("statistics:list", json!([["calls"]]))["result"].clone();
        assert_eq!(kinds, json!({"dynamic:calls": "incremental"}));
        let error = try_node(&modparam("variable", "x/often"), "exit;").err().unwrap();
        assert!(error.contains("no_reset"), "{error}");
    }),
    ("param stat_groups", || {
        let params = modparam("stat_groups", "calls, regs");
        assert_eq!(said(&params, "update_stat(\"regs:ok\", 3);", "$stat(regs:ok)"), "3");
        let route = "if (!update_stat(\"other:ok\", 3)) xlog(\"L_NOTICE\", \"refused\");";
        let (lines, _) = run(&params, route);
        assert!(lines.iter().any(|l| l.contains("`other` is not declared")), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "refused");
    }),
    ("param stat_series_profile", series),
    ("function update_stat", || {
        let route = "update_stat(\"x\", 5); update_stat(\"x\", -7);";
        assert_eq!(said("", route, "$stat(x)"), "-2");
    }),
    ("function reset_stat", || {
        assert_eq!(said("", "update_stat(\"x\", 5); reset_stat(\"x\");", "$stat(x)"), "0");
        assert_eq!(said("", "reset_stat(\"core:rcv_requests\");", "$stat(rcv_requests)"), "0");
        let none = "if (!reset_stat(\"nosuch\")) $var(r) = \"none\";";
        assert_eq!(said("", none, "$var(r)"), "none");
    }),
    ("function stat_iter_init", iterate),
    ("function stat_iter_next", iterate),
    ("function update_stat_series", series),
    ("variable stat", || {
        assert_eq!(said("", "", "$stat(rcv_requests) $stat(core:rcv_requests)"), "1 1");
        assert_eq!(said("", "$stat(rcv_requests) = 0;", "$stat(rcv_requests)"), "0");
        assert_eq!(said("", "update_stat(\"x\", 1); $stat(x) = 0;", "$stat(x)"), "0");
        assert_eq!(said("", "", "$stat(nosuch)"), "<null>");
        let (lines, _) = run("", "$stat(rcv_requests) = 3;");
        assert!(lines[0].contains("only be set to 0"), "{lines:?}");
    }),
];

fn iterate() {
    let params = modparam("stat_groups", "g");
    let route = "update_stat(\"g:a\", 1); update_stat(\"g:b\", 2); stat_iter_init(\"g\", \"i\");
        while (stat_iter_next($var(n), $var(v), \"i\")) xlog(\"L_NOTICE\", \"$var(n)=$var(v)\");
        if (!stat_iter_init(\"none\", \"i\")) xlog(\"L_NOTICE\", \"no such group\");";
    let (lines, _) = run(&params, route);
    assert_eq!(lines[..2], ["g:a=1", "g:b=2"]);
    assert_eq!(lines.last().unwrap(), "no such group");
}

fn series() {
    let profile = "rate: algorithm=average window=10 group=load";
    let params = modparam("stat_groups", "load") + &modparam("stat_series_profile", profile);
    let route = "update_stat_series(\"rate\", \"r\", 2); update_stat_series(\"rate\", \"r\", 4);
        if (!update_stat_series(\"none\", \"r\", 4)) xlog(\"L_NOTICE\", \"$stat(load:r)\");";
    let (lines, mut node) = run(&params, route);
    assert_eq!(lines.last().unwrap(), "3");
    assert_eq!(get(&mut node, json!(["load:r"])), json!({"load:r": 3}));
    node.advance_ms(11_000);
    assert_eq!(get(&mut node, json!(["r"])), json!({"load:r": 0}));
}

#[test]
fn every_entry_has_a_check() {
    cover(&tandem_statistics::MODULE, CHECKS);
}

#[test]
fn commands_reset_counters_of_scripts_by_their_plain_name() {
    let (_, mut node) = run("", "update_stat(\"x\", 5); update_stat(\"y\", 5);");
    let refused = node.mi("statistics:reset", json!([["dynamic:x"]]));
    assert_eq!(refused["error"]["message"], "Statistics Not Found");
    assert_eq!(node.mi("statistics:reset", json!([["x"]]))["result"], "OK");
    let both = json!({"dynamic:x": 0, "dynamic:y": 5});
    assert_eq!(get(&mut node, json!(["dynamic:"])), both);
    assert_eq!(node.mi("reset_all_statistics", Json::Null)["result"], "OK");
    assert_eq!(get(&mut node, json!(["y", "nosuch"])), json!({"dynamic:y": 0}));
}
