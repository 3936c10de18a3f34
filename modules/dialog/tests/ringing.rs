//! Calls that ring when their node dies, and what comes twice because of that.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common::*;
use crate::pair::Pair;
use tandem_dialog::{EndReason, State};

const CONTACT: &str = "Contact: <sip:bob@127.0.0.2:5060>\n";

/// A call that rings on node 0; the INVITE that the callee got.
fn ring(pair: &mut Pair, call_id: &str) -> String {
    pair.udp(0, CALLER, &Phones::request(call_id));
    let invite = pair.sent_to(0, CALLEE).pop().unwrap();
    pair.udp(0, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
    pair.advance_ms(200);
    invite
}

/// The callee answers over a node, and the rest of the call goes there.
fn answer(pair: &mut Pair, at: usize, call_id: &str, invite: String) -> Phones {
    pair.udp(at, CALLEE, &reply_to(&invite, 200, "t", CONTACT, SDP_B));
    let ok = pair.sent_to(at, CALLER).pop().unwrap();
    assert!(first_line(&ok).starts_with("SIP/2.0 200"), "{ok}");
    let phones = Phones { call_id: call_id.to_owned(), invite, ok };
    pair.udp(at, CALLER, &phones.within("ACK", 7, ""));
    phones
}

#[test]
fn a_call_that_rings_when_its_node_dies_is_answered_and_ended_on_the_other() {
    let mut pair = Pair::new("", "$var(v) = \"v\"; store_dlg_value(\"k\", $var(v));");
    let invite = ring(&mut pair, "c");
    assert_eq!((pair.states(0).len(), pair.states(1).len()), (1, 0), "a draft counts nowhere");
    pair.kill(0);
    let phones = answer(&mut pair, 1, "c", invite);
    pair.advance_ms(1_000);
    assert_eq!(pair.states(1), [State::Confirmed]);
    let d = pair.all(1).pop().unwrap();
    assert_eq!(d.callee().map(|leg| &*leg.contact), Some(&b"sip:bob@127.0.0.2:5060"[..]));
    assert_eq!((d.creator, d.values.len()), (2, 1));
    let (bye, ok) = pair.hang_up(1, &phones);
    assert!(bye.starts_with("BYE ") && ok.starts_with("SIP/2.0 200"), "{bye}{ok}");
    assert_eq!(pair.all(1)[0].end_reason, Some(EndReason::DownstreamBye));
}

#[test]
fn a_node_that_is_started_again_gets_the_call_that_rang_on_it() {
    let mut pair = Pair::new("", "");
    let invite = ring(&mut pair, "c");
    pair.kill(0);
    pair.boot(0);
    pair.advance_ms(2_000);
    assert_eq!(pair.states(0), [State::Unconfirmed], "it rings on");
    answer(&mut pair, 0, "c", invite);
    pair.advance_ms(1_500);
    assert_eq!((pair.states(0), pair.states(1)), (vec![State::Confirmed], vec![State::Confirmed]));
}

#[test]
fn a_call_that_is_over_before_a_node_that_was_started_again_meets_its_peer_ends() {
    for tag in ["", "set_dlg_sharing_tag(\"vip\");"] {
        for (before_ms, hold_ms) in [(0, 0), (30, 0), (30, 5), (100, 300), (300, 5)] {
            let mut pair = Pair::new("", tag);
            let invite = ring(&mut pair, "c");
            pair.kill(0);
            pair.boot(0);
            pair.advance_ms(before_ms);
            let phones = answer(&mut pair, 0, "c", invite);
            pair.advance_ms(hold_ms);
            pair.udp(0, CALLER, &phones.within("BYE", 8, ""));
            pair.advance_ms(5_000);
            for at in [0, 1] {
                assert_eq!(
                    pair.states(at),
                    [State::Deleted],
                    "node {at}, {before_ms} {hold_ms} {tag}"
                );
                assert_eq!(pair.all(at)[0].end_reason, Some(EndReason::DownstreamBye));
            }
        }
    }
}

#[test]
fn a_call_that_rings_while_no_peer_is_there_is_told_to_one_that_comes() {
    let mut pair = Pair::new("", "");
    pair.kill(1);
    let invite = ring(&mut pair, "c");
    pair.boot(1);
    pair.advance_ms(12_000);
    pair.kill(0);
    answer(&mut pair, 1, "c", invite);
    pair.advance_ms(1_000);
    assert_eq!(pair.states(1), [State::Confirmed]);
}

#[test]
fn a_call_that_rings_outlives_both_nodes_one_after_the_other() {
    for at in [0, 1] {
        let mut pair = Pair::new("", "");
        let invite = ring(&mut pair, "c");
        for node in [0, 1] {
            pair.kill(node);
            pair.boot(node);
            pair.advance_ms(5_000);
        }
        answer(&mut pair, at, "c", invite);
        pair.advance_ms(1_000);
        for node in [0, 1] {
            assert_eq!(pair.states(node), [State::Confirmed], "node {node}, answered at {at}");
        }
    }
}

#[test]
fn a_call_whose_node_dies_when_the_invite_has_left_is_known_to_the_other() {
    let mut pair = Pair::new("", "");
    pair.udp(0, CALLER, &Phones::request("c"));
    let invite = pair.sent_to(0, CALLEE).pop().unwrap();
    pair.kill(0);
    answer(&mut pair, 1, "c", invite);
    pair.advance_ms(1_000);
    assert_eq!(pair.states(1), [State::Confirmed]);
}

#[test]
fn the_node_of_the_call_takes_the_answer_up_itself_while_it_lives() {
    let mut pair = Pair::new("", "");
    let invite = ring(&mut pair, "c");
    answer(&mut pair, 1, "c", invite);
    pair.advance_ms(1_500);
    for at in [0, 1] {
        assert_eq!(pair.states(at), [State::Confirmed], "node {at}");
        assert_eq!(pair.all(at)[0].creator, 1);
    }
}

#[test]
fn a_call_that_was_refused_is_not_brought_back() {
    let mut pair = Pair::new("", "");
    let invite = ring(&mut pair, "c");
    pair.udp(0, CALLEE, &reply_to(&invite, 486, "t", "", ""));
    pair.advance_ms(100);
    pair.kill(0);
    pair.udp(1, CALLEE, &reply_to(&invite, 200, "t", CONTACT, SDP_B));
    pair.advance_ms(2_000);
    assert!(pair.all(1).is_empty());
}

#[test]
fn an_answer_that_is_made_up_makes_no_call_of_one_that_rang() {
    let mut pair = Pair::new("", "");
    let invite = ring(&mut pair, "c");
    pair.kill(0);
    let answer = reply_to(&invite, 200, "t", CONTACT, SDP_B);
    let at = answer.find("branch=").unwrap() + "branch=z9hG4bK".len();
    let mut branch = answer.clone().into_bytes();
    branch[at] = if branch[at] == b'1' { b'2' } else { b'1' };
    for reply in [answer.replace("tag=f", "tag=x"), String::from_utf8(branch).unwrap()] {
        pair.udp(1, CALLEE, &reply);
        pair.advance_ms(1_000);
        assert_eq!(pair.states(1), [State::Unconfirmed], "it rings on");
    }
}

#[test]
fn what_has_just_ended_is_known_to_a_node_that_starts() {
    let mut pair = Pair::new("", "");
    let phones = pair.talk(0, "c");
    pair.kill(1);
    pair.hang_up(0, &phones);
    pair.boot(1);
    pair.advance_ms(12_000);
    assert_eq!(pair.states(1), [State::Deleted]);
    pair.advance_ms(40_000);
    assert!(pair.all(1).is_empty());
}

#[test]
fn a_call_with_two_dialogs_leaves_none() {
    let mut pair = Pair::new("", "");
    let first = pair.talk(0, "c");
    // The INVITE came again to a node that did not know it, and was answered with the same tag.
    let again = Phones::request("c").replace("branch=z9hG4bKc", "branch=z9hG4bKother");
    pair.udp(0, CALLER, &again);
    let invite = pair.sent_to(0, CALLEE).pop().unwrap();
    pair.udp(0, CALLEE, &reply_to(&invite, 200, "t", CONTACT, SDP_B));
    pair.advance_ms(100);
    assert_eq!(pair.states(0).len(), 2);
    pair.hang_up(0, &first);
    pair.advance_ms(5_000);
    assert_eq!(pair.dialogs(0).active(), 1, "its BYE may come by twice");
    pair.advance_ms(10_000);
    for at in [0, 1] {
        assert_eq!(pair.dialogs(at).active(), 0, "node {at}");
    }
}

/// A node dies with an INVITE that has left, and before it has said 100: the INVITE comes again to
/// its peer, which has a draft of the call and makes a dialog of its own. Both are answered.
#[test]
fn a_call_whose_invite_comes_again_after_the_death_of_its_node_leaves_no_dialog() {
    for boot in [false, true] {
        for order in [[0, 1], [1, 0]] {
            let mut pair = Pair::new("", "");
            pair.udp(0, CALLER, &Phones::request("c"));
            let first = pair.sent_to(0, CALLEE).pop().unwrap();
            pair.kill(0);
            pair.advance_ms(500);
            pair.udp(1, CALLER, &Phones::request("c"));
            let second = pair.sent_to(1, CALLEE).pop().unwrap();
            let invites = [first, second.clone()];
            let mut oks = Vec::new();
            for n in order {
                pair.udp(1, CALLEE, &reply_to(&invites[n], 200, "t", CONTACT, SDP_B));
                oks.extend(pair.sent_to(1, CALLER).pop());
                pair.advance_ms(300);
            }
            let ok = oks.remove(0);
            let phones = Phones { call_id: "c".to_owned(), invite: second, ok };
            pair.udp(1, CALLER, &phones.within("ACK", 7, ""));
            pair.advance_ms(1_000);
            if boot {
                pair.boot(0);
                pair.advance_ms(3_000);
            }
            pair.hang_up(1, &phones);
            pair.advance_ms(20_000);
            for at in [0, 1].into_iter().filter(|at| boot || *at == 1) {
                assert_eq!(pair.dialogs(at).active(), 0, "node {at}, {boot}, {order:?}");
            }
        }
    }
}
