//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::json;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_event_routing::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"event_routing.so\"\n";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";

fn node(routes: &str) -> TestNode {
    let mut node = TestNode::new(&format!("{MODULE_LINES}{routes}"), MODULES);
    node.udp("127.0.0.9:5060", REQUEST);
    node
}

fn raise(node: &mut TestNode, name: &str, who: &str) {
    let params = json!({"who": who, "n": 7}).to_string();
    node.mi("evi:raise", json!({"event": name, "params": params}));
}

fn told(node: &mut TestNode) -> Vec<String> {
    node.logs().into_iter().map(|(_, text)| text).filter(|text| text.starts_with('#')).collect()
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_event_routing::MODULE,
        &[("function notify_on_event", notify), ("function wait_for_event", wait)],
    );
}

fn wait() {
    let route = "route { $avp(f) = \"who=al*\"; wait_for_event(\"E_X\", $avp(f), 5); \
        xlog(\"L_NOTICE\", \"# $rc $avp(who) $avp(n)\"); }";
    let mut first = node(route);
    raise(&mut first, "E_X", "bob");
    raise(&mut first, "E_CORE_SR_STATUS_CHANGED", "alice");
    assert_eq!(told(&mut first), [] as [String; 0]);
    raise(&mut first, "E_X", "alice");
    raise(&mut first, "E_X", "alan");
    assert_eq!(told(&mut first), ["# 1 alice 7"]);
    let mut late = node(route);
    late.advance_ms(5_100);
    assert_eq!(told(&mut late), ["# -2 <null> <null>"]);
    raise(&mut late, "E_X", "alice");
    assert_eq!(told(&mut late), [] as [String; 0]);
    let asynchronous = "route { async(wait_for_event(\"E_X\", $avp(none), 5), done); } \
        route[done] { xlog(\"L_NOTICE\", \"# $rc $avp(who)\"); }";
    let mut any = node(asynchronous);
    raise(&mut any, "E_X", "bob");
    assert_eq!(told(&mut any), ["# 1 bob"]);
    for wrong in [
        "wait_for_event(\"E_X\", $avp(none), 0)",
        "$avp(f) = \"who\"; \
        wait_for_event(\"E_X\", $avp(f), 5)",
    ] {
        let mut node = node(&format!("route {{ {wrong}; xlog(\"L_NOTICE\", \"# $rc\"); }}"));
        assert_eq!(told(&mut node), ["# -1"]);
    }
}

fn notify() {
    let routes = "route { $avp(mine) = \"kept\"; $avp(f) = \"who=bob\"; \
        notify_on_event(\"E_X\", $avp(f), \"seen\", 10); xlog(\"L_NOTICE\", \"# $rc\"); } \
        route[seen] { xlog(\"L_NOTICE\", \"# $avp(who) $avp(mine) $ci $rU\"); }";
    let mut node = node(routes);
    raise(&mut node, "E_X", "bob");
    raise(&mut node, "E_X", "alice");
    raise(&mut node, "E_X", "bob");
    assert_eq!(told(&mut node), ["# 1", "# bob kept c u", "# bob kept c u"]);
    node.advance_ms(10_100);
    raise(&mut node, "E_X", "bob");
    assert_eq!(told(&mut node), [] as [String; 0]);
    let script = format!("{MODULE_LINES}route {{ notify_on_event(\"E_X\", $avp(f), \"no\", 1); }}");
    assert!(TestNode::try_new(&script, MODULES).is_err());
}

#[test]
fn a_phone_that_registers_late_joins_the_call_that_waits() {
    let order = |first: &str, second: &str| {
        let routes = format!(
            "route {{ t_newtran(); $avp(f) = \"aor=u\"; {first} {second} exit; }} \
             route[fork] {{ t_inject_branches(\"event\"); xlog(\"L_NOTICE\", \"# $rc\"); }}"
        );
        let mut node = TestNode::new(&format!("{MODULE_LINES}{routes}"), MODULES);
        node.udp("127.0.0.9:5060", &REQUEST.replace("OPTIONS", "INVITE"));
        let params = json!({"aor": "u", "uri": "sip:late@127.0.0.2"}).to_string();
        node.mi("evi:raise", json!({"event": "E_X", "params": params}));
        assert_eq!(told(&mut node), ["# 1"]);
        let sent = node.sent().into_iter().map(|(_, text)| text);
        sent.filter(|text| text.starts_with("INVITE sip:late@127.0.0.2 ")).count()
    };
    let (wait, notify) =
        ("t_wait_for_new_branches();", "notify_on_event(\"E_X\", $avp(f), \"fork\", 10);");
    assert_eq!((order(wait, notify), order(notify, wait)), (1, 1));
}
