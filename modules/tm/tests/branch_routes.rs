//! Branch routes share the variables of the route that relays, and may wait.

use crate::common;

use common::*;
use tandem_engine::testing::TestNode;

fn said(node: &mut TestNode) -> Vec<String> {
    node.logs().into_iter().map(|(_, line)| line).collect()
}

#[test]
fn variables_of_the_script_are_there_and_come_back() {
    let mut node = node(
        "route { $var(a) = \"there\"; t_on_branch(\"b\"); t_relay(); xlog(\"back $var(b)\"); } \
         branch_route[b] { xlog(\"here $var(a)\"); $var(b) = \"again\"; }",
    );
    start_call(&mut node);
    let said = said(&mut node);
    assert!(said.contains(&"here there".into()) && said.contains(&"back again".into()), "{said:?}");
}

#[test]
fn the_relay_waits_for_a_branch_route_that_waits() {
    let mut node = node(&format!(
        "route {{ $avp(x) = 1; append_msg_branch(\"sip:bob@{SECOND}\"); \
           append_msg_branch(\"sip:bob@127.0.0.4\"); t_on_branch(\"b\"); t_on_reply(\"r\"); \
           t_relay(); xlog(\"relayed $rc $avp(x) $var(last)\"); }} \
         branch_route[b] {{ $var(t) = \"of \" + $rd; $var(last) = $var(last) + $rd; \
           if ($rd == \"127.0.0.2\") {{ wait_10_s(); }} \
           if ($rd == \"127.0.0.4\") {{ wait_10_s(); drop; }} \
           $avp(x) = $avp(x) + 1; append_hf(\"X-Waited: $var(t)\\r\\n\"); t_on_reply(\"own\"); }} \
         onreply_route[own] {{ xlog(\"own $rs\"); }} onreply_route[r] {{ xlog(\"reply $rs\"); }}"
    ));
    node.udp(CALLER, &invite());
    assert_eq!(codes(&mut node), [100]);
    // The caller repeats itself, and gives up.
    node.udp(CALLER, &invite());
    assert_eq!(codes(&mut node), [100]);
    node.advance_ms(10_100);
    assert!(sent_to(&mut node, SECOND).is_empty(), "the last branch is not through");
    node.advance_ms(10_100);
    let sent = node.sent();
    let to = |to: &str| {
        let mut of = sent.iter().filter(|(addr, _)| addr.to_string() == to);
        of.next().map(|(_, text)| text.clone())
    };
    let first = to(CALLEE).unwrap();
    assert_eq!(header(&first, "X-Waited"), "X-Waited: of 127.0.0.2");
    assert_eq!(header(&to(SECOND).unwrap(), "X-Waited"), "X-Waited: of 127.0.0.3");
    assert_eq!(to("127.0.0.4:5060"), None);
    let found = said(&mut node);
    let relayed = "relayed 1 3 127.0.0.2127.0.0.3127.0.0.4";
    assert!(found.contains(&relayed.into()), "{found:?}");
    node.udp(CALLEE, &reply_to(&first, 200, ""));
    let found = said(&mut node);
    assert!(found.contains(&"own 200".into()) && found.contains(&"reply 200".into()), "{found:?}");
    assert_eq!(codes(&mut node), [200]);
}

#[test]
fn a_cancel_meanwhile_counts_when_the_branch_route_is_over() {
    let mut node = node(
        "route { if ($rm == \"CANCEL\") { t_relay(); exit; } t_on_branch(\"b\"); t_relay(); \
           xlog(\"relayed $rc\"); } branch_route[b] { wait_10_s(); }",
    );
    node.udp(CALLER, &invite());
    node.udp(CALLER, &request("CANCEL", "a", ""));
    assert_eq!(codes(&mut node), [100, 200]);
    node.advance_ms(10_100);
    let forwarded = sent_to(&mut node, CALLEE).remove(0);
    node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    let after = sent_to(&mut node, CALLEE);
    assert!(after.iter().any(|text| text.starts_with("CANCEL ")), "{after:?}");
}

#[test]
fn a_branch_route_of_a_failure_route_may_wait() {
    let mut node = node(&format!(
        "route {{ t_on_failure(\"f\"); t_relay(); }} \
         failure_route[f] {{ t_on_branch(\"b\"); $ru = \"sip:bob@{SECOND}\"; t_relay(); \
           xlog(\"relayed $rc\"); }} branch_route[b] {{ wait_10_s(); }}"
    ));
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    node.advance_ms(10_100);
    let second = sent_to(&mut node, SECOND).remove(0);
    assert!(said(&mut node).contains(&"relayed 1".into()));
    node.udp(SECOND, &reply_to(&second, 200, ""));
    assert_eq!(codes(&mut node), [200]);
}

#[test]
fn an_invite_that_comes_again_gets_its_2xx_again() {
    let mut node = node("route { t_relay(); }");
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    node.sent();
    node.udp(CALLER, &invite());
    assert_eq!(sent_lines(&mut node), [format!("{CALLER} SIP/2.0 200 Text200")]);
}
