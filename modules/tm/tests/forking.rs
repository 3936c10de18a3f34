//! Forking as callers and callees see it: by q, with failures, cancelled, with several answers.

use crate::common;

use common::*;
use tandem_engine::testing::TestNode;

const THIRD: &str = "127.0.0.4:5060";

const BY_Q: &str = "route { if ($rm == \"CANCEL\") { t_relay(); exit; } \
    $ru_q = 100; append_msg_branch(\"sip:bob@127.0.0.3\"); $(msg.branch.q[1]) = 900; \
    append_msg_branch(\"sip:bob@127.0.0.4\"); $(msg.branch.q[2]) = 500; \
    serialize_branches(1); next_branches(); t_on_failure(\"next\"); t_relay(); } \
    failure_route[next] { if (t_was_cancelled()) { exit; } \
    if (next_branches()) { t_on_failure(\"next\"); t_relay(); } }";

const FORK: &str = "route { if ($rm == \"CANCEL\" || $rm == \"ACK\") { t_relay(); exit; } \
    append_msg_branch(\"sip:bob@127.0.0.3\"); append_msg_branch(\"sip:bob@127.0.0.4\"); \
    t_relay(); }";

/// The requests that went out, by destination.
fn fork(node: &mut TestNode) -> Vec<(String, String)> {
    node.udp(CALLER, &invite());
    let invites = |(to, text): (std::net::SocketAddr, String)| (to.to_string(), text);
    node.sent().into_iter().map(invites).filter(|(_, t)| t.starts_with("INVITE")).collect()
}

#[test]
fn branches_follow_their_q_one_after_the_other() {
    let mut node = node(BY_Q);
    let first = fork(&mut node);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].0, SECOND, "q 0.9");
    node.udp(SECOND, &reply_to(&first[0].1, 486, ""));
    let second = sent_to(&mut node, THIRD).remove(0);
    node.udp(THIRD, &reply_to(&second, 404, ""));
    let third = sent_to(&mut node, CALLEE).remove(0);
    assert!(header(&third, "Via").ends_with(".2"));
    node.udp(CALLEE, &reply_to(&third, 200, ""));
    assert_eq!(codes(&mut node), [200]);
}

#[test]
fn a_cancel_between_two_serial_branches_ends_the_call() {
    let mut node = node(BY_Q);
    let first = fork(&mut node);
    node.udp(SECOND, &reply_to(&first[0].1, 180, ""));
    node.udp(CALLER, &request("CANCEL", "a", ""));
    node.udp(SECOND, &reply_to(&first[0].1, 487, ""));
    assert_eq!(codes(&mut node), [180, 200, 487]);
    assert!(sent_to(&mut node, THIRD).is_empty(), "no further branch");
}

#[test]
fn a_6xx_ends_the_search_and_cancels_who_rings() {
    let mut node = node(FORK);
    let sent = fork(&mut node);
    node.udp(SECOND, &reply_to(&sent[1].1, 180, ""));
    node.udp(CALLEE, &reply_to(&sent[0].1, 603, ""));
    let after = node.sent();
    let lines = lines(&after);
    assert!(lines.contains(&format!("{SECOND} CANCEL sip:bob@127.0.0.3 SIP/2.0")), "{lines:?}");
    assert!(lines.contains(&format!("{CALLER} SIP/2.0 603 Text603")), "{lines:?}");
    // A 200 that crossed the CANCEL still gets through.
    node.udp(SECOND, &reply_to(&sent[1].1, 200, ""));
    assert_eq!(codes(&mut node), [200]);
}

#[test]
fn several_200s_all_reach_the_caller_and_come_again() {
    let mut node = node(FORK);
    let sent = fork(&mut node);
    for (at, from) in [CALLEE, SECOND, CALLEE, SECOND].iter().enumerate() {
        let reply = reply_to(&sent[at % 2].1, 200, "").replace("t200", &format!("t{}", at % 2));
        node.udp(from, &reply);
    }
    assert_eq!(codes(&mut node), [200, 200, 200, 200]);
    assert_eq!(stat(&mut node, "2xx_transactions"), 1);
    node.advance_ms(40_000);
    node.sent();
    assert_eq!(stat(&mut node, "inuse_transactions"), 0);
}

#[test]
fn the_best_answer_wins_whatever_the_order() {
    for (codes_in, best) in [
        ([486, 404, 503], 404),
        ([404, 486, 480], 404),
        ([503, 408, 500], 500),
        ([302, 486, 480], 302),
        ([415, 486, 404], 415),
        ([503, 503, 503], 500),
        ([408, 503, 503], 408),
    ] {
        let mut node = node(FORK);
        let sent = fork(&mut node);
        for ((to, text), code) in sent.iter().zip(codes_in) {
            node.udp(to, &reply_to(text, code, ""));
        }
        assert_eq!(codes(&mut node), [best], "{codes_in:?}");
    }
}

#[test]
fn a_cancel_before_any_reply_waits_for_the_first_provisional() {
    let mut node = node(FORK);
    let sent = fork(&mut node);
    node.udp(CALLER, &request("CANCEL", "a", ""));
    assert_eq!(codes(&mut node), [200]);
    assert!(node.sent().is_empty(), "no CANCEL before a provisional");
    node.udp(CALLEE, &reply_to(&sent[0].1, 100, ""));
    assert!(sent_to(&mut node, CALLEE)[0].starts_with("CANCEL"));
    node.udp(CALLEE, &reply_to(&sent[0].1, 487, ""));
    node.udp(SECOND, &reply_to(&sent[1].1, 486, ""));
    node.udp(THIRD, &reply_to(&sent[2].1, 404, ""));
    assert_eq!(codes(&mut node), [487]);
}

#[test]
fn a_cancel_after_the_200_and_a_second_cancel_change_nothing() {
    let mut node = node(FORK);
    let sent = fork(&mut node);
    node.udp(CALLEE, &reply_to(&sent[0].1, 200, ""));
    node.sent();
    for _ in 0..2 {
        node.udp(CALLER, &request("CANCEL", "a", ""));
        assert_eq!(sent_lines(&mut node), [format!("{CALLER} SIP/2.0 200 canceling")]);
    }
    let mut ringing = self::node(FORK);
    let sent = fork(&mut ringing);
    ringing.udp(CALLEE, &reply_to(&sent[0].1, 180, ""));
    ringing.sent();
    ringing.udp(CALLER, &request("CANCEL", "a", ""));
    ringing.udp(CALLER, &request("CANCEL", "a", ""));
    let cancels = ringing.sent();
    let count = cancels.iter().filter(|(_, text)| text.starts_with("CANCEL")).count();
    assert_eq!(count, 1, "{cancels:?}");
}

#[test]
fn a_cancel_for_an_unknown_call_goes_on_without_state() {
    let mut node = node(
        "route { if ($rm == \"CANCEL\") { if (t_check_trans()) t_relay(); \
                         else forward(); } }",
    );
    node.udp(CALLER, &request("CANCEL", "z", ""));
    let sent = node.sent();
    assert_eq!(lines(&sent), [format!("{CALLEE} CANCEL sip:bob@{CALLEE} SIP/2.0")]);
    assert_eq!(stat(&mut node, "inuse_transactions"), 0);
    // With t_relay as well, under the branch that its INVITE would have had.
    let mut relayed = self::node("route { if ($rm == \"CANCEL\") t_relay(); else forward(); }");
    relayed.udp(CALLER, &request("INVITE", "z", ""));
    relayed.udp(CALLER, &request("CANCEL", "z", ""));
    let sent = sent_to(&mut relayed, CALLEE);
    assert_eq!(header(&sent[0], "Via"), header(&sent[1], "Via"));
    relayed.udp(CALLEE, &reply_to(&sent[1], 481, ""));
    assert_eq!(codes(&mut relayed), [481]);
    // And with a transaction, when the script asks for one.
    let mut kept = self::node("route { t_newtran(); t_relay(); }");
    kept.udp(CALLER, &request("CANCEL", "z", ""));
    let forwarded = sent_to(&mut kept, CALLEE).remove(0);
    kept.udp(CALLEE, &reply_to(&forwarded, 481, ""));
    assert_eq!(codes(&mut kept), [481]);
}

#[test]
fn prack_and_update_are_transactions_of_their_own_within_an_early_dialog() {
    let mut node = node("route { t_relay(); }");
    let invite = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&invite, 183, "Require: 100rel\nRSeq: 1\n"));
    let early = sent_to(&mut node, CALLER).remove(0);
    assert_eq!(header(&early, "RSeq"), "RSeq: 1");
    for (method, branch) in [("PRACK", "p"), ("UPDATE", "u")] {
        node.udp(CALLER, &request(method, branch, "RAck: 1 1 INVITE\n"));
        let forwarded = sent_to(&mut node, CALLEE).remove(0);
        assert!(forwarded.starts_with(method));
        node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
        assert_eq!(codes(&mut node), [200], "{method}");
    }
    node.udp(CALLEE, &reply_to(&invite, 200, ""));
    assert_eq!(codes(&mut node), [200]);
}

#[test]
fn replies_of_a_branch_nobody_sent_are_not_heard() {
    let mut node = node("route { t_relay(); }");
    let invite = start_call(&mut node);
    let other = invite.replace(".0\r\n", ".7\r\n");
    assert_ne!(invite, other);
    node.udp(CALLEE, &reply_to(&other, 200, ""));
    assert_eq!(codes(&mut node), [] as [u16; 0]);
    // Nor one whose method is another.
    let wrong = reply_to(&invite, 200, "").replace("CSeq: 1 INVITE", "CSeq: 1 BYE");
    node.udp(CALLEE, &wrong);
    assert_eq!(codes(&mut node), [] as [u16; 0]);
    assert_eq!(stat(&mut node, "inuse_transactions"), 1);
}

#[test]
fn an_ack_without_a_to_tag_and_a_stray_ack_harm_nothing() {
    let mut node = node("route { t_relay(); }");
    let invite = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&invite, 404, ""));
    node.sent();
    node.udp(CALLER, &request("ACK", "a", ""));
    node.advance_ms(2_000);
    assert!(node.sent().is_empty(), "the ACK without a tag has ended the retransmissions");
    node.udp(CALLER, &request("ACK", "stray", ""));
    assert_eq!(sent_lines(&mut node), [format!("{CALLEE} ACK sip:bob@{CALLEE} SIP/2.0")]);
}

#[test]
fn retransmissions_are_absorbed_while_a_route_waits() {
    let mut node = node(
        "route { t_newtran(); t_on_failure(\"f\"); wait_10_s(); t_relay(); } \
         failure_route[f] { wait_10_s(); t_reply(480, \"Later\"); }",
    );
    for _ in 0..5 {
        node.udp(CALLER, &invite());
    }
    assert!(sent_to(&mut node, CALLEE).is_empty());
    node.advance_ms(10_100);
    let invite = sent_to(&mut node, CALLEE).remove(0);
    node.udp(CALLEE, &reply_to(&invite, 486, ""));
    node.udp(CALLEE, &reply_to(&invite, 486, ""));
    node.udp(CALLER, &self::invite());
    assert_eq!(codes(&mut node), [100], "the last reply comes again at once");
    node.advance_ms(10_100);
    let mut last = codes(&mut node);
    last.dedup();
    assert_eq!(last, [480]);
}

#[test]
fn a_request_may_have_seventy_vias_and_a_branch_of_any_length() {
    let mut node = node("route { t_relay(); }");
    let vias: String =
        (0..69).map(|n| format!("Via: SIP/2.0/UDP 10.0.0.{n};branch=z9hG4bKn{n}\n")).collect();
    let long = "x".repeat(20_000);
    let text = request("OPTIONS", &long, &vias);
    node.udp(CALLER, &text);
    let forwarded = sent_to(&mut node, CALLEE).remove(0);
    assert_eq!(forwarded.matches("Via:").count(), 71);
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    let reply = sent_to(&mut node, CALLER).remove(0);
    assert_eq!(reply.matches("Via:").count(), 70);
    assert!(reply.contains(&long));
    node.udp(CALLER, &text);
    assert_eq!(sent_lines(&mut node), [format!("{CALLER} SIP/2.0 200 Text200")]);
}

#[test]
fn a_spiral_comes_through_twice_and_its_replies_find_their_way() {
    // The R-URI changes on the second pass, so this is no loop.
    let mut node = node(
        "route { if ($rU == \"bob\") { $ru = \"sip:carol@127.0.0.1:5060\"; } \
         else { $ru = \"sip:carol@127.0.0.3\"; } t_relay(); }",
    );
    node.udp(CALLER, &request("INVITE", "a", ""));
    let own = sent_to(&mut node, "127.0.0.1:5060").remove(0);
    node.udp("127.0.0.1:5060", &own);
    let sent = node.sent();
    let (_, second) = sent.iter().find(|(to, _)| to.to_string() == SECOND).unwrap();
    assert_eq!(second.matches("Via:").count(), 3);
    node.udp(SECOND, &reply_to(second, 200, ""));
    let back = sent_to(&mut node, "127.0.0.1:5060").remove(0);
    node.udp("127.0.0.1:5060", &back);
    assert_eq!(codes(&mut node), [200]);
    assert_eq!(stat(&mut node, "2xx_transactions"), 2);
}

#[test]
fn a_request_that_comes_by_two_ways_is_taken_once() {
    let mut node = node("route { t_relay(); }");
    node.udp(CALLER, &request("INVITE", "a", ""));
    let forwarded = sent_to(&mut node, CALLEE).remove(0);
    let other_way = invite().replace("z9hG4bKa", "z9hG4bKother");
    node.udp(CALLER, &other_way);
    assert_eq!(sent_lines(&mut node), [format!("{CALLER} SIP/2.0 482 Request Merged")]);
    let elsewhere = other_way.replacen("sip:bob@127.0.0.2:5060", "sip:carol@127.0.0.2:5060", 1);
    let elsewhere = elsewhere.replace("Kother", "Kthird");
    node.udp(CALLER, &elsewhere);
    assert_eq!(sent_to(&mut node, CALLEE).len(), 1, "another R-URI is another leg of the fork");
    node.udp(CALLEE, &reply_to(&forwarded, 486, ""));
    node.sent();
    node.udp(CALLER, &other_way.replace("Kother", "Kfourth"));
    assert_eq!(sent_to(&mut node, CALLEE).len(), 1, "the first one is answered: it is a new try");
    let in_dialog = request("BYE", "d", "").replace("To: <sip:bob@h>", "To: <sip:bob@h>;tag=x");
    node.udp(CALLER, &in_dialog);
    node.udp(CALLER, &in_dialog.replace("z9hG4bKd", "z9hG4bKe"));
    assert_eq!(sent_to(&mut node, CALLEE).len(), 2, "nobody forks the requests of a dialog");
}

/// Everything that a node sends to itself comes back, until it sends nothing there any more; how
/// many INVITEs that were, and the codes that the caller got.
fn circle(script: &str) -> (usize, Vec<u16>) {
    let mut node = node(script);
    node.udp(CALLER, &invite());
    let (mut count, mut codes) = (0, Vec::new());
    loop {
        let sent = node.sent();
        let (own, others): (Vec<_>, Vec<_>) =
            sent.into_iter().partition(|(to, _)| to.to_string() == NODE);
        codes.extend(others.iter().filter_map(|(_, text)| {
            text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse::<u16>().ok().filter(|c| *c >= 200)
        }));
        if own.is_empty() {
            return (count, codes);
        }
        for (_, text) in own {
            count += usize::from(text.starts_with("INVITE"));
            assert!(count < 2_000, "it goes on and on");
            node.udp(NODE, &text);
        }
    }
}

const NODE: &str = "127.0.0.1:5060";

#[test]
fn users_who_are_registered_at_each_other_make_no_avalanche() {
    let (count, codes) = circle(
        "route { if ($rm != \"INVITE\") { t_relay(); exit; } \
         $ru = \"sip:a@127.0.0.1:5060\"; append_msg_branch(\"sip:b@127.0.0.1:5060\"); t_relay(); }",
    );
    assert!((2..200).contains(&count), "{count} INVITEs");
    assert_eq!(codes, [440]);
}

#[test]
fn a_fork_that_does_not_come_back_carries_no_breadth_and_one_that_does_divides_it() {
    let mut plain = node(FORK);
    assert!(fork(&mut plain).iter().all(|(_, text)| !text.contains("Max-Breadth")));
    let mut limited = node(FORK);
    limited.udp(CALLER, &invite().replace("Max-Forwards", "Max-Breadth: 8\nMax-Forwards"));
    let sent: Vec<String> = limited.sent().into_iter().map(|(_, text)| text).collect();
    let shares = sent.iter().filter(|t| t.starts_with("INVITE")).map(|t| header(t, "Max-Breadth"));
    assert_eq!(shares.collect::<Vec<_>>(), ["3", "3", "2"].map(|n| format!("Max-Breadth: {n}")));
    let mut narrow = node(FORK);
    narrow.udp(CALLER, &invite().replace("Max-Forwards", "Max-Breadth: 2\nMax-Forwards"));
    assert_eq!(codes(&mut narrow), [100, 440]);
    // The line of the log says which call it is.
    let call_id = header(&invite(), "Call-ID").split_once(": ").unwrap().1.trim().to_owned();
    let line = format!(
        "Max-Breadth Exceeded: INVITE of call {call_id} from {CALLER} is not forked into 3 branches"
    );
    assert!(narrow.logs().iter().any(|(_, text)| *text == line), "{line}");
}

/// What a script sends a second time before there is a result belongs to the same fork: nobody who
/// rings is given up for a target that was added.
#[test]
fn two_relays_of_a_request_route_are_one_fork() {
    let mut node =
        node("route { t_relay(); $ru = \"sip:bob@127.0.0.3\"; t_relay(); xlog(\"second $rc\"); }");
    node.udp(CALLER, &invite());
    let sent = node.sent();
    let to = |at: &str| sent.iter().find(|(to, _)| to.to_string() == at).unwrap().1.clone();
    let (first, second) = (to(CALLEE), to(SECOND));
    assert!(logged(&mut node, "second 1"));
    assert!(header(&first, "Via").ends_with(".0") && header(&second, "Via").ends_with(".1"));
    node.udp(CALLEE, &reply_to(&first, 180, ""));
    node.udp(SECOND, &reply_to(&second, 486, ""));
    assert_eq!(codes(&mut node), [180], "the first one still rings");
    node.udp(CALLEE, &reply_to(&first, 200, ""));
    assert_eq!(codes(&mut node), [200]);
    // Where the first one has failed meanwhile, the second is a set of its own.
    let mut late = node_with(
        "",
        "route { t_relay(); wait_10_s(); \
        $ru = \"sip:bob@127.0.0.3\"; t_relay(); xlog(\"second $rc\"); }",
    );
    let first = start_call(&mut late);
    late.udp(CALLEE, &reply_to(&first, 404, ""));
    assert_eq!(codes(&mut late), [404]);
    late.advance_ms(10_100);
    assert!(logged(&mut late, "second -1"), "the caller has an answer");
    assert_eq!(sent_to(&mut late, SECOND), [] as [String; 0]);
}
