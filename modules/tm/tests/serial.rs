//! A transaction handles one event at a time: what comes while one of its routes waits is
//! handled afterwards, in order.

use crate::common;

use common::*;

#[test]
fn replies_that_come_while_an_onreply_route_waits_follow_in_order() {
    let mut node = node(
        "route { t_on_reply(\"r\"); t_relay(); } \
         onreply_route[r] { if ($rs == 180) { wait_10_s(); } xlog(\"seen $rs\"); }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    node.udp(CALLEE, &reply_to(&forwarded, 183, ""));
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    assert_eq!(codes(&mut node), [] as [u16; 0]);
    node.advance_ms(10_100);
    assert_eq!(codes(&mut node), [180, 183, 200]);
    node.advance_ms(40_000);
    assert_eq!(stat(&mut node, "inuse_transactions"), 0);
}

#[test]
fn a_negative_reply_is_acked_before_its_route_runs_and_only_once() {
    let mut node =
        node("route { t_on_reply(\"r\"); t_relay(); } onreply_route[r] { wait_10_s(); }");
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    assert_eq!(sent_lines(&mut node), [format!("{CALLEE} ACK sip:bob@{CALLEE} SIP/2.0")]);
    node.advance_ms(10_100);
    let after = sent_lines(&mut node);
    assert!(after.contains(&format!("{CALLER} SIP/2.0 486 Text486")));
    assert!(!after.iter().any(|line| line.contains("ACK")), "{after:?}");
}

#[test]
fn a_cancel_while_the_failure_route_waits_stops_what_it_starts() {
    let mut node = node(
        "route { if ($rm == \"CANCEL\") { t_relay(); exit; } t_on_failure(\"f\"); t_relay(); } \
         failure_route[f] { wait_10_s(); $ru = \"sip:bob@127.0.0.3\"; t_relay(); }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    node.udp(CALLER, &request("CANCEL", "a", ""));
    assert_eq!(codes(&mut node), [200]);
    node.advance_ms(10_100);
    let second = sent_to(&mut node, SECOND).remove(0);
    node.udp(SECOND, &reply_to(&second, 180, ""));
    let sent = sent_to(&mut node, SECOND);
    assert!(sent.iter().any(|text| text.starts_with("CANCEL")), "{sent:?}");
    node.udp(SECOND, &reply_to(&second, 487, ""));
    assert_eq!(codes(&mut node), [487]);
}

#[test]
fn timers_that_fire_while_a_route_waits_are_made_up_for() {
    let mut node = node_with(
        "modparam(\"tm\", \"fr_timeout\", 5)",
        "route { t_on_reply(\"r\"); append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); } \
         onreply_route[r] { wait_10_s(); }",
    );
    node.udp(CALLER, &invite());
    let sent = node.sent();
    node.udp(CALLEE, &reply_to(&sent[1].1, 486, ""));
    node.advance_ms(9_000);
    assert_eq!(codes(&mut node), [] as [u16; 0]);
    node.advance_ms(2_000);
    let mut codes = codes(&mut node);
    codes.dedup();
    assert_eq!(codes, [486], "the branch without a reply has timed out meanwhile");
}

#[test]
fn a_request_route_that_waits_keeps_its_transaction() {
    let mut node = node("route { t_newtran(); wait_10_s(); t_relay(); }");
    node.udp(CALLER, &invite());
    node.udp(CALLER, &invite());
    assert_eq!(codes(&mut node), [100, 100]);
    node.advance_ms(10_100);
    let forwarded = sent_to(&mut node, CALLEE).remove(0);
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    assert_eq!(codes(&mut node), [200]);
}

#[test]
fn a_failure_route_that_answers_has_the_last_word() {
    let mut node = node(
        "route { t_on_failure(\"f\"); t_relay(); } \
         failure_route[f] { t_reply(480, \"Later\"); }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    assert_eq!(codes(&mut node), [480]);
}

#[test]
fn branches_appended_in_a_failure_route_do_not_bring_the_old_target_back() {
    let mut node = node(
        "route { t_on_failure(\"f\"); t_relay(); } \
         failure_route[f] { append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    let lines = sent_lines(&mut node);
    assert_eq!(
        lines,
        [
            format!("{CALLEE} ACK sip:bob@{CALLEE} SIP/2.0"),
            format!("{SECOND} INVITE sip:bob@127.0.0.3 SIP/2.0")
        ]
    );
}

#[test]
fn send_reply_uses_the_transaction_if_there_is_one() {
    for (begin, kept) in [("t_newtran();", 1), ("", 0)] {
        let mut node = node(&format!("route {{ {begin} send_reply(486, \"Busy\"); }}"));
        node.udp(CALLER, &request("MESSAGE", "a", ""));
        assert_eq!(codes(&mut node), [486]);
        assert_eq!(stat(&mut node, "inuse_transactions"), kept);
        assert_eq!(stat(&mut node, "4xx_transactions"), kept);
    }
}

#[test]
fn avps_set_after_relaying_are_seen_in_the_failure_route() {
    let mut node = node(
        "route { $avp(x) = \"early\"; t_on_failure(\"f\"); t_relay(); $avp(x) = \"late\"; } \
         failure_route[f] { xlog(\"avps $(avp(x)[*])\"); }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 404, ""));
    assert!(logged(&mut node, "avps late, early"));
}

#[test]
fn changes_of_a_branch_route_stay_with_their_branch() {
    let mut node = node(
        "route { t_on_branch(\"b\"); t_on_failure(\"f\"); t_relay(); } \
         branch_route[b] { $rU = \"changed\"; $avp(tried) = $rd; } \
         failure_route[f] { xlog(\"user $rU tried $avp(tried)\"); }",
    );
    let forwarded = start_call(&mut node);
    assert!(forwarded.starts_with("INVITE sip:changed@"));
    node.udp(CALLEE, &reply_to(&forwarded, 404, ""));
    assert!(logged(&mut node, "user bob tried 127.0.0.2"));
}

#[test]
fn near_the_limit_of_memory_new_calls_are_refused_and_others_go_on() {
    let mut node = node("route { t_relay(); }");
    let forwarded = start_call(&mut node);
    node.node().memory.set_limit(1_000);
    node.node().memory.set_used(901);
    node.udp(CALLER, &request("INVITE", "b", ""));
    let refused = sent_to(&mut node, CALLER).remove(0);
    assert!(refused.starts_with("SIP/2.0 503 ") && refused.contains("Retry-After: 5\r\n"));
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    assert_eq!(codes(&mut node), [200]);
    node.udp(CALLER, &request("MESSAGE", "c", ""));
    assert_eq!(sent_to(&mut node, CALLEE).len(), 1);
    node.node().memory.set_used(900);
    node.udp(CALLER, &request("INVITE", "d", ""));
    assert_eq!(sent_to(&mut node, CALLEE).len(), 1);
}

/// `-C` alone minds that the block is reached by another kind.
#[test]
fn a_block_for_requests_works_from_a_failure_route_as_well() {
    let mut node = node(
        "route { t_on_failure(\"f\"); route(relay); } \
         route[relay] { t_check_trans(); xlog(\"checked $rc\"); t_newtran(); t_relay(); } \
         failure_route[f] { $ru = \"sip:bob@127.0.0.3\"; route(relay); }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    let second = sent_to(&mut node, "127.0.0.3:5060");
    assert_eq!(second.len(), 1, "{second:?}");
    node.udp("127.0.0.3:5060", &reply_to(&second[0], 200, ""));
    assert_eq!(codes(&mut node), [200]);
}

#[test]
fn what_is_for_requests_is_kept_from_replies() {
    let mut node = node(
        "route { t_on_reply(\"r\"); t_relay(); } \
         route[x] { t_relay(); xlog(\"told $rc\"); } onreply_route[r] { route(x); }",
    );
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    assert!(logged(&mut node, "told -1"));
    assert_eq!(codes(&mut node), [180]);
}
