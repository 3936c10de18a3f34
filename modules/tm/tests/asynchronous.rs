//! `async()` and `launch()`, and scripts that are read again while calls go on.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use common::*;
use serde_json::{Value as Json, json};
use tandem_engine::testing::TestNode;

/// The lines of xlog since the last call.
fn said(node: &mut TestNode) -> Vec<String> {
    node.logs().into_iter().map(|(_, text)| text).collect()
}

#[test]
fn async_makes_the_transaction_ends_the_run_and_goes_on_in_its_route() {
    let mut node = node(
        "route { $var(v) = \"kept?\"; $avp(a) = \"kept\"; $rU = \"changed\";
           async(wait(50, $avp(out)), BACK);
           xlog(\"never\"); }
         route[BACK] { xlog(\"rc $rc avp $avp(a) out $avp(out) user $rU var $var(v)\");
           t_reply(480, \"Later\"); }",
    );
    node.udp(CALLER, &invite());
    assert_eq!(codes(&mut node), [100], "the transaction is there while the function works");
    // The other requests do not wait, and a retransmission is absorbed.
    node.udp(CALLER, &invite());
    assert_eq!(codes(&mut node), [100]);
    assert!(said(&mut node).is_empty());
    node.advance_ms(60);
    assert_eq!(said(&mut node), ["rc 50 avp kept out 50 user changed var <null>"]);
    assert_eq!(codes(&mut node), [480]);
}

#[test]
fn a_function_that_answers_at_once_still_ends_the_run() {
    let mut node = node(
        "route { async(at_once(-3), BACK); xlog(\"never\"); }
         route[BACK] { xlog(\"rc $rc\"); t_reply(480, \"Later\"); exit; }",
    );
    node.udp(CALLER, &invite());
    assert_eq!(said(&mut node), ["rc -3"]);
    assert_eq!(codes(&mut node), [100, 480]);
}

#[test]
fn a_call_that_was_cancelled_while_its_script_waited_is_not_relayed_any_more() {
    let mut node = node(
        "route { if (t_check_trans()) { t_relay(); exit; } t_newtran();
           async(wait_only(20), BACK); }
         route[BACK] { $var(rc) = t_relay(); xlog(\"rc $var(rc)\"); }",
    );
    node.udp(CALLER, &invite());
    node.udp(CALLER, &request("CANCEL", "a", ""));
    assert_eq!(codes(&mut node), [100, 200, 487]);
    node.advance_ms(30);
    assert_eq!(said(&mut node), ["rc -3"]);
    assert!(sent_to(&mut node, CALLEE).is_empty());
}

#[test]
fn async_can_relay_in_its_route_and_arm_further_routes() {
    let mut node = node(
        "route { t_on_failure(\"F\"); async(wait_only(20), BACK); }
         route[BACK] { $du = \"sip:127.0.0.2:5060\"; t_relay(); }
         failure_route[F] { t_reply(486, \"Busy\"); }",
    );
    node.udp(CALLER, &invite());
    node.advance_ms(30);
    let sent = sent_to(&mut node, CALLEE);
    node.udp(CALLEE, &reply_to(&sent[0], 503, ""));
    assert_eq!(codes(&mut node), [486]);
}

#[test]
fn the_time_of_an_async_ends_its_waiting() {
    let mut node = node(
        "route { async(wait(60000), BACK, 2); }
         route[BACK] { xlog(\"rc $rc\"); t_reply(504, \"Too long\"); }",
    );
    node.udp(CALLER, &invite());
    node.advance_ms(1_900);
    assert!(said(&mut node).is_empty());
    node.advance_ms(200);
    assert_eq!(said(&mut node), ["rc -2"]);
    node.advance_ms(60_000);
    assert!(said(&mut node).is_empty(), "a late answer changes nothing");
}

#[test]
fn an_onreply_route_may_wait_and_the_reply_goes_on_afterwards() {
    let mut node = node(
        "route { t_on_reply(\"R\"); $du = \"sip:127.0.0.2:5060\"; t_relay(); }
         onreply_route[R] { async(wait(40), BACK); }
         route[BACK] { xlog(\"status $rs rc $rc\"); }",
    );
    node.udp(CALLER, &invite());
    let sent = sent_to(&mut node, CALLEE);
    node.udp(CALLEE, &reply_to(&sent[0], 200, ""));
    assert!(codes(&mut node).is_empty());
    node.advance_ms(50);
    assert_eq!(said(&mut node), ["status 200 rc 40"]);
    assert_eq!(codes(&mut node), [200]);
}

#[test]
fn launch_works_beside_the_script() {
    let mut node = node(
        "route { launch(wait(30, $avp(out)), DONE, \"for $rU\"); launch(at_once(7), DONE);
           launch(wait(10)); xlog(\"on $rc\"); t_reply(480, \"Later\"); }
         route[DONE] { xlog(\"rc $rc out $avp(out) text $param(1) user $rU\"); }",
    );
    node.udp(CALLER, &invite());
    let expected = ["on 1", "rc 7 out <null> text <null> user event"];
    assert_eq!(said(&mut node), expected);
    assert_eq!(codes(&mut node), [100, 480]);
    node.advance_ms(50);
    assert_eq!(said(&mut node), ["rc 30 out 30 text for bob user event"]);
}

#[test]
fn launch_works_in_timer_and_startup_routes() {
    let mut node = node(
        "route { exit; }
         startup_route { launch(wait(30), DONE, \"start\"); }
         timer_route[t, 1] { launch(wait(30), DONE, \"timer\"); }
         route[DONE] { xlog(\"$param(1) $rc\"); }",
    );
    node.advance_ms(50);
    assert_eq!(said(&mut node), ["start 30"]);
    node.advance_ms(1_000);
    assert_eq!(said(&mut node), ["timer 30"]);
}

#[test]
fn a_failed_assertion_leads_to_error_route() {
    let with = |params: &str, route: &str| {
        let mut node = node_with(params, route);
        node.udp(CALLER, &invite());
        (said(&mut node), codes(&mut node))
    };
    let route = "route { assert($rm == \"BYE\", \"not a BYE\"); xlog(\"on\"); }
        error_route { xlog(\"error\"); }";
    assert_eq!(with("", route).0, ["on"], "without enable_asserts nothing is checked");
    let (lines, _) = with("enable_asserts=yes", route);
    assert!(lines[0].contains("assertion failed: not a BYE"), "{lines:?}");
    assert_eq!(lines[1..], ["error"]);
}

fn reload(node: &mut TestNode, from: &str, to: &str) -> Json {
    assert!(node.script.contains(from), "{from}");
    node.script = node.script.replace(from, to);
    node.mi("reload_routes", Json::Null)
}

#[test]
fn reloaded_routes_serve_what_comes_next_and_armed_routes_are_found_by_name() {
    let mut node = node(
        "route { t_on_failure(\"F\"); $du = \"sip:127.0.0.2:5060\"; t_relay(); }
         failure_route[F] { t_reply(486, \"old\"); }
         timer_route[t, 5] { xlog(\"tick old\"); }
         startup_route { xlog(\"start\"); }",
    );
    assert_eq!(said(&mut node), ["start"]);
    node.udp(CALLER, &invite());
    let sent = sent_to(&mut node, CALLEE);
    node.sent();
    node.advance_ms(3_000);
    // A new route in front: numbers inside the program move.
    reload(&mut node, "\nroute {", "\nfailure_route[A] { exit; }\nroute {");
    let answer = reload(&mut node, "486, \"old\"", "480, \"new\"");
    assert_eq!(answer["result"], "OK", "{answer}");
    node.sent();
    node.udp(CALLEE, &reply_to(&sent[0], 503, ""));
    assert_eq!(codes(&mut node), [480], "the failure route is the new one");
    reload(&mut node, "tick old", "tick new");
    assert!(!said(&mut node).contains(&"start".to_owned()), "startup_route does not run");
    node.advance_ms(4_000);
    assert!(said(&mut node).is_empty(), "timer routes start anew");
    node.advance_ms(2_000);
    assert_eq!(said(&mut node), ["tick new"]);
    node.advance_ms(5_000);
    assert_eq!(said(&mut node), ["tick new"]);
}

#[test]
fn a_suspended_run_keeps_its_version_and_flags_keep_their_bits() {
    let mut node = node(
        "route { setflag(\"A\"); async(wait(100), BACK); }
         route[BACK] { if (isflagset(\"A\")) xlog(\"old\"); t_reply(480, \"x\"); }",
    );
    node.udp(CALLER, &invite());
    let added = "route { if (isflagset(\"Z\")) exit; setflag(\"A\");";
    reload(&mut node, "route { setflag(\"A\");", added);
    reload(&mut node, "xlog(\"old\")", "xlog(\"new\")");
    node.advance_ms(150);
    assert!(said(&mut node).contains(&"old".to_owned()));
    node.udp(CALLER, &request("INVITE", "b", ""));
    node.advance_ms(150);
    assert_eq!(said(&mut node), ["new"]);
}

#[test]
fn a_route_that_is_gone_is_not_run_and_a_new_one_is() {
    let mut node = node(
        "route { t_on_failure(\"F\"); $du = \"sip:127.0.0.2:5060\"; t_relay(); }
         failure_route[F] { t_reply(486, \"old\"); }",
    );
    node.udp(CALLER, &invite());
    let sent = sent_to(&mut node, CALLEE);
    node.sent();
    reload(&mut node, "failure_route[F]", "failure_route[G]");
    let lines = said(&mut node).join(" ");
    assert!(lines.contains("failure_route[F]"), "the script still arms F: {lines}");
    let answer = reload(&mut node, "\"F\"", "\"G\"");
    assert_eq!(answer["result"], "OK", "{answer}");
    node.sent();
    node.udp(CALLEE, &reply_to(&sent[0], 404, ""));
    assert_eq!(codes(&mut node), [404], "nothing is left of F: the reply goes on");
    node.udp(CALLER, &request("INVITE", "b", ""));
    let sent = sent_to(&mut node, CALLEE);
    node.sent();
    node.udp(CALLEE, &reply_to(sent.last().unwrap(), 404, ""));
    assert_eq!(codes(&mut node), [486]);
}

#[test]
fn more_than_routes_is_refused_with_the_lines_that_differ() {
    let mut node =
        node_with("modparam(\"tm\", \"fr_timeout\", 5)", "route { t_reply(480, \"x\"); }");
    let answer = reload(&mut node, "\"fr_timeout\", 5", "\"fr_timeout\", 6");
    assert_eq!(answer["error"]["code"], json!(500), "{answer}");
    assert_eq!(answer["error"]["message"], "reload failed");
    let why = answer["error"]["data"].as_str().unwrap();
    assert!(why.contains("was: modparam tm fr_timeout 5"), "{why}");
    assert!(why.contains("is: modparam tm fr_timeout 6"), "{why}");
    let lines = said(&mut node);
    assert!(lines.iter().any(|l| l.contains("test.cfg:")), "{lines:?}");
    let answer = reload(&mut node, "fr_timeout\", 6", "fr_timeout\", 5)\nx(");
    assert!(answer["error"]["data"].as_str().unwrap().contains("error["), "{answer}");
    node.udp(CALLER, &invite());
    assert_eq!(codes(&mut node), [100, 480], "the old routes go on");
}
