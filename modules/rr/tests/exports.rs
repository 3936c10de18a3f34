//! Every entry of the export table, with a test that uses it and sees the difference.

use std::net::SocketAddr;

use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::testing::TestNode;
use tandem_proto_udp::MODULE as PROTO_UDP;
use tandem_rr::MODULE as RR;
use tandem_tm::MODULE as TM;

const MODULES: Modules = &[&CORE, &PROTO_UDP, &RR, &TM];
const CALLER: &str = "127.0.0.9:5060";

type Check = fn();

const PARAMS: &[(&str, Check)] = &[
    ("append_fromtag", append_fromtag),
    ("enable_double_rr", enable_double_rr),
    ("add_username", add_username),
    ("enable_socket_mismatch_warning", preset_elsewhere),
];

const FUNCTIONS: &[(&str, Check)] = &[
    ("loose_route", loose_route),
    ("check_route_param", route_params),
    ("is_direction", is_direction),
    ("record_route", record_route),
    ("record_route_preset", preset),
    ("add_rr_param", add_rr_param),
];

#[test]
fn every_entry_has_a_check_and_every_check_passes() {
    let names = |list: &[(&'static str, Check)]| list.iter().map(|(n, _)| *n).collect::<Vec<_>>();
    assert_eq!(names(PARAMS), RR.params.iter().map(|p| p.name).collect::<Vec<_>>());
    assert_eq!(names(FUNCTIONS), RR.functions.iter().map(|f| f.sig.name).collect::<Vec<_>>());
    assert_eq!(RR.variables.iter().map(|v| v.sig.name).collect::<Vec<_>>(), ["rr_params"]);
    assert!(RR.mi.is_empty() && RR.statistics.is_empty() && RR.events.is_empty());
    for (name, check) in [PARAMS, FUNCTIONS].concat() {
        eprintln!("{name}");
        check();
    }
}

fn node(params: &str, route: &str) -> TestNode {
    let script = format!(
        "socket=udp:127.0.0.1:5060\nsocket=udp:127.0.0.1:5070\nlog_level=4\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"tm.so\"\nloadmodule \"rr.so\"\n{params}\n\
         route {{ {route} }}"
    );
    TestNode::new(&script, MODULES)
}

fn request(method: &str, routes: &str) -> String {
    format!(
        "{method} sip:bob@127.0.0.2 SIP/2.0\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK{method}\n\
         {routes}From: <sip:alice@h>;tag=ftag1\nTo: <sip:bob@h>\nCall-ID: c\nCSeq: 1 {method}\n\
         Content-Length: 0\n\n"
    )
}

/// The requests that leave, with where they go.
fn forwarded(node: &mut TestNode, text: &str) -> Vec<(SocketAddr, String)> {
    node.udp(CALLER, text);
    let mut sent = node.sent();
    sent.retain(|(to, _)| to.to_string() != CALLER);
    sent
}

fn headers(text: &str, name: &str) -> Vec<String> {
    let start = format!("{name}: ");
    text.lines().filter_map(|l| l.strip_prefix(&start)).map(str::to_owned).collect()
}

fn recorded(params: &str, route: &str) -> Vec<String> {
    let sent = forwarded(&mut node(params, route), &request("INVITE", ""));
    headers(&sent[0].1, "Record-Route")
}

fn preset() {
    let one = recorded("", "record_route_preset(\"127.0.0.1:5070;transport=udp\"); t_relay();");
    assert_eq!(one, ["<sip:127.0.0.1:5070;transport=udp;lr;ftag=ftag1>"]);
    let two = recorded(
        "",
        "add_rr_param(\"a=1\"); record_route_preset(\"127.0.0.1\", \"127.0.0.1:5070\"); t_relay();",
    );
    let wanted =
        ["<sip:127.0.0.1:5070;r2=on;lr;ftag=ftag1;a=1>", "<sip:127.0.0.1;r2=on;lr;ftag=ftag1;a=1>"];
    assert_eq!(two, wanted);
    let wrong = recorded("", "record_route_preset(\"a>b\"); t_relay();");
    assert_eq!(wrong, [] as [&str; 0]);
}

fn preset_elsewhere() {
    let warned = |params: &str| {
        let mut node = node(params, "record_route_preset(\"192.0.2.1\"); t_relay();");
        node.udp(CALLER, &request("INVITE", ""));
        logs(&mut node).contains("no socket and no alias")
    };
    assert!(warned(""));
    assert!(!warned("modparam(\"rr\", \"enable_socket_mismatch_warning\", 0)"));
}

fn logs(node: &mut TestNode) -> String {
    node.logs().into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n")
}

const RECORD: &str = "record_route(); t_relay();";

fn append_fromtag() {
    assert_eq!(recorded("", RECORD), ["<sip:127.0.0.1:5060;lr;ftag=ftag1>"]);
    let off = recorded("modparam(\"rr\", \"append_fromtag\", 0)", RECORD);
    assert_eq!(off, ["<sip:127.0.0.1:5060;lr>"]);
}

fn enable_double_rr() {
    let route = "record_route(); force_send_socket(\"udp:127.0.0.1:5070\"); t_relay();";
    let two =
        ["<sip:127.0.0.1:5070;r2=on;lr;ftag=ftag1>", "<sip:127.0.0.1:5060;r2=on;lr;ftag=ftag1>"];
    assert_eq!(recorded("", route), two);
    let off = recorded("modparam(\"rr\", \"enable_double_rr\", 0)", route);
    assert_eq!(off, ["<sip:127.0.0.1:5060;lr;ftag=ftag1>"]);
}

fn add_username() {
    let on = recorded("modparam(\"rr\", \"add_username\", 1)", RECORD);
    assert_eq!(on, ["<sip:bob@127.0.0.1:5060;lr;ftag=ftag1>"]);
}

fn record_route() {
    assert_eq!(recorded("", "t_relay();"), [] as [&str; 0]);
    let mut twice =
        node("", "record_route(\";a=1\"); record_route(); xlog(\"rc $rc\"); t_relay();");
    let sent = forwarded(&mut twice, &request("INVITE", ""));
    assert_eq!(headers(&sent[0].1, "Record-Route"), ["<sip:127.0.0.1:5060;lr;ftag=ftag1;a=1>"]);
    assert!(logs(&mut twice).contains("rc -1"));
}

fn add_rr_param() {
    let both =
        recorded("", "add_rr_param(\";x=1\"); record_route(); add_rr_param(\";y=2\"); t_relay();");
    assert_eq!(both, ["<sip:127.0.0.1:5060;lr;ftag=ftag1;x=1;y=2>"]);
    assert_eq!(recorded("", "add_rr_param(\";x=1\"); t_relay();"), [] as [&str; 0]);
}

fn loose_route() {
    let mut node = node("", "loose_route(); xlog(\"rc $rc du $du\"); t_relay();");
    let routes = "Route: <sip:127.0.0.1:5070;r2=on;lr>, <sip:127.0.0.1:5060;r2=on;lr>\n\
                  Route: <sip:127.0.0.7:5099;lr>\n";
    let sent = forwarded(&mut node, &request("BYE", routes));
    assert_eq!(sent[0].0.to_string(), "127.0.0.7:5099");
    assert_eq!(headers(&sent[0].1, "Route"), ["<sip:127.0.0.7:5099;lr>"]);
    assert!(logs(&mut node).contains("rc 1 du sip:127.0.0.7:5099;lr"));
    let sent = forwarded(&mut node, &request("INFO", ""));
    assert_eq!(sent[0].0.to_string(), "127.0.0.2:5060");
    assert!(logs(&mut node).contains("rc -1"));
}

fn route_params() {
    let mut node = node(
        "",
        "xlog(\"before $rr_params\"); loose_route(); xlog(\"taken $rr_params\"); \
         if (check_route_param(\"x=[0-9]\")) { xlog(\"matched\"); } \
         if (check_route_param(\"x=[a-z]\")) { xlog(\"wrong\"); }",
    );
    node.udp(CALLER, &request("BYE", "Route: <sip:127.0.0.1;lr;x=1>\n"));
    let logs = logs(&mut node);
    for text in ["before <null>", "taken ;lr;x=1", "matched"] {
        assert!(logs.contains(text), "{text}: {logs}");
    }
    assert!(!logs.contains("wrong"));
}

fn is_direction() {
    for (tag, direction) in [("ftag1", "goes down"), ("other", "goes up")] {
        let mut node = node(
            "",
            "loose_route(); if (is_direction(\"upstream\")) { xlog(\"goes up\"); } \
             if (is_direction(\"downstream\")) { xlog(\"goes down\"); }",
        );
        node.udp(CALLER, &request("BYE", &format!("Route: <sip:127.0.0.1;lr;ftag={tag}>\n")));
        let logs = logs(&mut node);
        let found: Vec<_> =
            ["goes down", "goes up"].into_iter().filter(|d| logs.contains(d)).collect();
        assert_eq!(found, [direction]);
    }
}

#[test]
fn the_routes_of_a_recorded_call_bring_the_bye_back_the_same_way() {
    let mut node = node(
        "",
        "if (loose_route()) { t_relay(); exit; } record_route(); \
         force_send_socket(\"udp:127.0.0.1:5070\"); t_relay();",
    );
    let invite = forwarded(&mut node, &request("INVITE", ""));
    let recorded = headers(&invite[0].1, "Record-Route");
    assert_eq!(recorded.len(), 2);
    // The caller has the list in reverse (RFC 3261 12.1.2).
    let routes: String = recorded.iter().rev().map(|r| format!("Route: {r}\n")).collect();
    let bye = forwarded(&mut node, &request("BYE", &routes));
    assert_eq!(bye[0].0.to_string(), "127.0.0.2:5060");
    assert_eq!(headers(&bye[0].1, "Route"), [] as [&str; 0]);
}
