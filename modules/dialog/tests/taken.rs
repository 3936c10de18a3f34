//! Calls that ring when their node dies go on at its peer, with their transactions.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common::*;
use crate::pair::{Pair, script};
use tandem_dialog::{EndReason, State};
use tandem_engine::effect::Input;

const CONTACT: &str = "Contact: <sip:bob@127.0.0.2:5060>\n";
const SECOND: &str = "127.0.0.3:5060";

/// A call that rings on node 0, whose INVITE node 1 goes on with; the INVITE that the callee got.
fn ring_and_die(pair: &mut Pair) -> String {
    pair.udp(0, CALLER, &Phones::request("c"));
    let invite = pair.sent_to(0, CALLEE).pop().unwrap();
    pair.udp(0, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
    pair.advance_ms(200);
    pair.kill(0);
    pair.advance_ms(10_000);
    invite
}

/// The same, and the callee has absorbed the INVITE that came again, and said what it had said.
fn ring_again(pair: &mut Pair) -> String {
    let invite = ring_and_die(pair);
    let again = pair.sent_to(1, CALLEE);
    assert!(!again.is_empty() && again.iter().all(|sent| *sent == invite), "{again:?}");
    pair.udp(1, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
    assert!(first_line(&pair.sent_to(1, CALLER).pop().unwrap()).starts_with("SIP/2.0 180"));
    invite
}

fn cancel() -> String {
    let invite = Phones::request("c");
    let head = invite.split("Contact:").next().unwrap();
    format!("{}Max-Forwards: 70\nContent-Length: 0\n\n", head.replace("INVITE", "CANCEL"))
}

fn lines(all: &[String]) -> Vec<&str> {
    all.iter().map(|text| first_line(text)).collect()
}

#[test]
fn the_caller_can_give_up() {
    for tag in ["", "set_dlg_sharing_tag(\"vip\");"] {
        let mut pair = Pair::new("", tag);
        pair.udp(0, CALLER, &Phones::request("c"));
        let invite = pair.sent_to(0, CALLEE).pop().unwrap();
        pair.udp(0, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
        pair.advance_ms(200);
        pair.kill(0);
        pair.advance_ms(10_000);
        if !tag.is_empty() {
            assert!(pair.states(1).is_empty(), "it is the matter of whoever holds the tag");
            pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
            pair.advance_ms(100);
        }
        assert_eq!(pair.states(1), [State::Unconfirmed]);
        assert_eq!(pair.sent_to(1, CALLEE).first(), Some(&invite));
        pair.udp(1, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
        pair.sent_to(1, CALLER);
        pair.udp(1, CALLER, &cancel());
        let sent = std::mem::take(&mut pair.0.datagrams);
        let to = |to: &str| {
            let its = sent.iter().filter(|(at, addr, _)| *at == 1 && addr.to_string() == to);
            its.map(|(.., text)| text.clone()).collect::<Vec<_>>()
        };
        assert_eq!(lines(&to(CALLER)), ["SIP/2.0 200 canceling"]);
        let to_callee = to(CALLEE);
        assert!(to_callee[0].starts_with("CANCEL sip:bob@127.0.0.2 "), "{to_callee:?}");
        let via = |text: &str| text.lines().find(|l| l.starts_with("Via")).map(str::to_owned);
        assert_eq!(via(&to_callee[0]), via(&invite));
        pair.udp(1, CALLEE, &reply_to(&to_callee[0], 200, "t", "", ""));
        pair.udp(1, CALLEE, &reply_to(&invite, 487, "t", "", ""));
        let sent = std::mem::take(&mut pair.0.datagrams);
        let starts: Vec<_> = sent.iter().map(|(.., text)| &text[..11]).collect();
        assert_eq!(starts, ["ACK sip:bob", "SIP/2.0 487"], "{sent:?}");
        let d = pair.all(1).pop().unwrap();
        assert_eq!((d.state, d.end_reason), (State::Deleted, Some(EndReason::Cancelled)));
    }
}

#[test]
fn it_is_answered_and_ended_and_asked_for_once() {
    let mut pair = Pair::new("", "");
    let invite = ring_again(&mut pair);
    // The caller's INVITE comes again: nobody is called twice.
    pair.udp(1, CALLER, &Phones::request("c"));
    assert!(pair.sent_to(1, CALLEE).is_empty());
    pair.udp(1, CALLEE, &reply_to(&invite, 200, "t", CONTACT, SDP_B));
    let ok = pair.sent_to(1, CALLER).pop().unwrap();
    assert!(first_line(&ok).starts_with("SIP/2.0 200"), "{ok}");
    let phones = Phones { call_id: "c".to_owned(), invite, ok };
    pair.udp(1, CALLER, &phones.within("ACK", 7, ""));
    pair.advance_ms(500);
    assert_eq!(pair.states(1), [State::Confirmed]);
    pair.boot(0);
    pair.advance_ms(10_000);
    assert_eq!(pair.states(0), [State::Confirmed]);
    let (bye, ok) = pair.hang_up(1, &phones);
    assert!(bye.starts_with("BYE ") && ok.starts_with("SIP/2.0 200"), "{bye}{ok}");
    assert_eq!((pair.states(0), pair.states(1)), (vec![State::Deleted], vec![State::Deleted]));
}

#[test]
fn nobody_answers_and_the_failure_route_asks_the_next_one() {
    let routes = set("dialog_replication_cluster", "1")
        + "modparam(\"tm\", \"fr_inv_timeout\", 30)\n\
           failure_route[next] { $ru = \"sip:carol@127.0.0.3\"; t_relay(); }\n";
    let tag = "t_on_failure(\"next\"); set_dlg_sharing_tag(\"vip\");";
    let mut pair = Pair::new(&routes, tag);
    let invite = ring_and_die(&mut pair);
    pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
    pair.advance_ms(100);
    pair.udp(1, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
    // It has rung for ten seconds before.
    pair.advance_ms(18_000);
    assert!(pair.sent_to(1, SECOND).is_empty());
    pair.advance_ms(3_000);
    let next = pair.sent_to(1, SECOND);
    assert!(next[0].starts_with("INVITE sip:carol@127.0.0.3 "), "{next:?}");
    pair.udp(1, SECOND, &reply_to(&next[0], 200, "u", CONTACT, SDP_B));
    assert!(first_line(&pair.sent_to(1, CALLER).pop().unwrap()).starts_with("SIP/2.0 200"));
}

#[test]
fn of_two_who_ring_one_answers_and_the_other_is_told() {
    let mut pair = Pair::new("", "append_branch(\"sip:carol@127.0.0.3\");");
    pair.udp(0, CALLER, &Phones::request("c"));
    let sent = std::mem::take(&mut pair.0.datagrams);
    let to = |to: &str| sent.iter().find(|(_, addr, _)| addr.to_string() == to).unwrap().2.clone();
    let (bob, carol) = (to(CALLEE), to(SECOND));
    pair.kill(0);
    pair.advance_ms(10_000);
    pair.udp(1, CALLEE, &reply_to(&bob, 180, "t", CONTACT, ""));
    pair.udp(1, SECOND, &reply_to(&carol, 180, "u", CONTACT, ""));
    pair.0.datagrams.clear();
    pair.udp(1, SECOND, &reply_to(&carol, 200, "u", CONTACT, SDP_B));
    let sent = std::mem::take(&mut pair.0.datagrams);
    let starts = |to: &str| {
        let its = sent.iter().filter(|(_, addr, _)| addr.to_string() == to);
        its.map(|(.., text)| text[..11].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(starts(CALLEE), ["CANCEL sip:"]);
    assert_eq!(starts(CALLER), ["SIP/2.0 200"]);
}

#[test]
fn a_node_that_was_only_cut_off_leaves_the_call_to_the_other() {
    for answers in [false, true] {
        let routes = set("dialog_replication_cluster", "1")
            + "modparam(\"tm\", \"fr_inv_timeout\", 60)\n\
               failure_route[next] { $ru = \"sip:carol@127.0.0.3\"; t_relay(); }\n";
        let tag = "t_on_failure(\"next\"); set_dlg_sharing_tag(\"vip\");";
        let mut pair = Pair::new(&routes, tag);
        pair.udp(0, CALLER, &Phones::request("c"));
        let invite = pair.sent_to(0, CALLEE).pop().unwrap();
        pair.udp(0, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
        pair.advance_ms(200);
        pair.cut();
        pair.advance_ms(10_000);
        pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
        pair.advance_ms(100);
        pair.udp(1, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
        if answers {
            pair.udp(1, CALLEE, &reply_to(&invite, 200, "t", CONTACT, SDP_B));
        }
        pair.heal();
        pair.advance_ms(20_000);
        pair.0.datagrams.clear();
        pair.advance_ms(60_000);
        let asked: Vec<_> =
            pair.0.datagrams.iter().filter(|(_, to, _)| to.to_string() == SECOND).collect();
        let asked: Vec<_> = asked.into_iter().map(|(at, ..)| at).collect();
        let by_other = asked.iter().all(|at| **at == 1);
        assert_eq!((by_other, asked.is_empty()), (true, answers), "{asked:?}");
    }
}

/// Its peer sees another stream, and never that it was gone.
#[test]
fn the_calls_of_a_node_that_is_back_before_it_was_missed_go_on_at_whoever_acts() {
    for (tag, acts) in [("set_dlg_sharing_tag(\"vip\");", 1), ("", 0)] {
        let mut pair = Pair::new("", tag);
        pair.udp(0, CALLER, &Phones::request("c"));
        let invite = pair.sent_to(0, CALLEE).pop().unwrap();
        pair.udp(0, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
        pair.advance_ms(1_500);
        pair.kill(0);
        pair.boot(0);
        if acts == 1 {
            pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
        }
        pair.advance_ms(3_000);
        assert_eq!(pair.states(acts), [State::Unconfirmed], "{tag}");
        assert_eq!(pair.states(1 - acts), [] as [State; 0], "{tag}");
        assert_eq!(pair.sent_to(acts, CALLEE).first(), Some(&invite), "{tag}");
        pair.udp(acts, CALLEE, &reply_to(&invite, 200, "t", CONTACT, SDP_B));
        let ok = pair.sent_to(acts, CALLER).pop().unwrap();
        assert!(first_line(&ok).starts_with("SIP/2.0 200"), "{ok}");
    }
}

#[test]
fn what_is_told_of_a_call_that_has_ended_brings_nothing_back() {
    let mut pair = Pair::new("", "");
    pair.udp(0, CALLER, &Phones::request("c"));
    let invite = pair.sent_to(0, CALLEE).pop().unwrap();
    pair.udp(0, CALLEE, &reply_to(&invite, 486, "t", "", ""));
    pair.advance_ms(100);
    pair.kill(0);
    pair.advance_ms(10_000);
    assert!(pair.all(1).is_empty() && pair.sent_to(1, CALLEE).is_empty());
}

/// Which of the hosts have the service address, as each sees it.
fn addresses_are(pair: &mut Pair, held: [bool; 2]) {
    let ip = "127.0.9.1".parse().unwrap();
    for (at, held) in held.into_iter().enumerate() {
        pair.step(at, Input::Addresses(vec![(ip, held)]));
    }
}

fn address_is_at(pair: &mut Pair, holder: usize) {
    addresses_are(pair, [holder == 0, holder == 1]);
}

/// A call that rings on node 0, whose tag goes to node 1 by the operator's hand. Both hosts have the
/// address for a while: else the tag goes back to it.
fn ring_and_move(pair: &mut Pair) -> String {
    addresses_are(pair, [true, true]);
    pair.udp(0, CALLER, &Phones::request("c"));
    let invite = pair.sent_to(0, CALLEE).pop().unwrap();
    pair.udp(0, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
    pair.advance_ms(200);
    pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
    pair.advance_ms(2_000);
    invite
}

const TAGGED: &str = "set_dlg_sharing_tag(\"vip\");";

#[test]
fn a_call_goes_with_its_tag_and_address_while_its_node_lives() {
    let routes = set("dialog_replication_cluster", "1")
        + "modparam(\"tm\", \"fr_inv_timeout\", 30)\n\
           failure_route[next] { $ru = \"sip:carol@127.0.0.3\"; t_relay(); }\n";
    let mut pair = Pair::new(&routes, &format!("t_on_failure(\"next\"); {TAGGED}"));
    let invite = ring_and_move(&mut pair);
    assert_eq!(pair.states(0), [State::Early], "the address is still here");
    assert!(pair.states(1).is_empty());

    address_is_at(&mut pair, 1);
    pair.advance_ms(1_000);
    assert_eq!((pair.states(0), pair.states(1)), (vec![], vec![State::Early]));
    pair.udp(1, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
    assert!(first_line(&pair.sent_to(1, CALLER).pop().unwrap()).starts_with("SIP/2.0 180"));
    // It rings until then, and only one of the two asks the next.
    pair.advance_ms(24_000);
    assert!(pair.sent_to(1, SECOND).is_empty());
    pair.0.datagrams.clear();
    pair.advance_ms(10_000);
    let by: Vec<usize> = pair.0.datagrams.iter().map(|(at, ..)| *at).collect();
    assert!(!by.is_empty() && by.iter().all(|at| *at == 1), "{by:?}");
    assert!(pair.sent_to(1, SECOND)[0].starts_with("INVITE sip:carol@127.0.0.3 "));
}

#[test]
fn a_call_that_has_gone_with_its_tag_is_given_up_there() {
    let mut pair = Pair::new("", TAGGED);
    let invite = ring_and_move(&mut pair);
    address_is_at(&mut pair, 1);
    pair.advance_ms(1_000);
    pair.0.datagrams.clear();
    pair.udp(1, CALLER, &cancel());
    pair.advance_ms(100);
    let sent = std::mem::take(&mut pair.0.datagrams);
    let mut starts: Vec<_> = sent.iter().map(|(.., text)| &text[..11]).collect();
    starts.sort_unstable();
    // The 180 came to the node that gave the call away, so the callee is cancelled at once.
    assert_eq!(starts, ["CANCEL sip:", "SIP/2.0 200"], "{sent:?}");
    pair.udp(1, CALLEE, &reply_to(&invite, 487, "t", "", ""));
    pair.advance_ms(1_000);
    let d = pair.all(1).pop().unwrap();
    assert_eq!((d.state, d.end_reason), (State::Deleted, Some(EndReason::Cancelled)));
}

#[test]
fn a_call_whose_tag_comes_back_goes_on_where_it_was() {
    let mut pair = Pair::new("", TAGGED);
    let invite = ring_and_move(&mut pair);
    address_is_at(&mut pair, 1);
    pair.advance_ms(1_000);
    pair.mi(0, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
    address_is_at(&mut pair, 0);
    pair.advance_ms(2_000);
    assert_eq!((pair.states(0), pair.states(1)), (vec![State::Early], vec![]));
    pair.udp(0, CALLEE, &reply_to(&invite, 200, "t", CONTACT, SDP_B));
    let ok = pair.sent_to(0, CALLER).pop().unwrap();
    assert!(first_line(&ok).starts_with("SIP/2.0 200"), "{ok}");
    let phones = Phones { call_id: "c".to_owned(), invite, ok };
    pair.udp(0, CALLER, &phones.within("ACK", 7, ""));
    pair.advance_ms(500);
    let confirmed = vec![State::Confirmed];
    assert_eq!((pair.states(0), pair.states(1)), (confirmed.clone(), confirmed));
}

#[test]
fn a_call_stays_where_its_address_is() {
    let mut pair = Pair::new("", TAGGED);
    let invite = ring_and_move(&mut pair);
    pair.advance_ms(10_000);
    assert!(pair.states(1).is_empty());
    pair.0.datagrams.clear();
    pair.udp(0, CALLER, &cancel());
    let sent = std::mem::take(&mut pair.0.datagrams);
    assert!(sent.iter().any(|(at, _, text)| *at == 0 && text.starts_with("CANCEL")), "{sent:?}");
    pair.udp(0, CALLEE, &reply_to(&invite, 487, "t", "", ""));
}

fn ring_many(pair: &mut Pair) {
    for n in 0..24 {
        pair.udp(0, CALLER, &Phones::request(&format!("call{n}")));
        let invite = pair.sent_to(0, CALLEE).pop().unwrap();
        pair.udp(0, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
    }
    pair.advance_ms(500);
}

#[test]
fn a_call_that_comes_between_tag_and_address_goes_too() {
    let mut pair = Pair::new("", TAGGED);
    addresses_are(&mut pair, [true, true]);
    pair.advance_ms(3_000);
    pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
    pair.advance_ms(2_000);
    ring_many(&mut pair);
    assert_eq!((pair.all(0).len(), pair.all(1).len()), (24, 0));
    addresses_are(&mut pair, [false, true]);
    pair.advance_ms(2_000);
    assert_eq!((pair.all(0).len(), pair.all(1).len()), (0, 24));
}

#[test]
fn calls_of_tags_that_move_one_after_the_other_all_go() {
    for gap_ms in [10, 20, 40, 80] {
        let other = set("dialog_replication_cluster", "1")
            + "modparam(\"clusterer\", \"sharing_tag\", \"other/1=backup\")\n";
        let mut pair = Pair::new(&other, TAGGED);
        pair.mi(0, "clusterer_shtag_set_active", serde_json::json!(["other/1"]));
        pair.advance_ms(3_000);
        ring_many(&mut pair);
        addresses_are(&mut pair, [false, false]);
        pair.advance_ms(500);
        pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["other/1"]));
        pair.advance_ms(gap_ms);
        pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
        pair.advance_ms(3_000);
        assert_eq!((pair.all(0).len(), pair.all(1).len()), (0, 24), "{gap_ms} ms");
    }
}

#[test]
fn a_call_that_left_by_an_address_that_stays_stays_too() {
    let of = |id: u32| {
        let params = set("dialog_replication_cluster", "1");
        let own = format!("udp:127.0.1.{id}:5070");
        let text = script(id, &params, &format!("{TAGGED} $socket_out = \"{own}\";"));
        text.replacen("socket = bin", &format!("socket = {own}\nsocket = bin"), 1)
    };
    let mut pair = Pair::of(vec![of(1), of(2)]);
    addresses_are(&mut pair, [true, true]);
    pair.udp(0, CALLER, &Phones::request("c"));
    let invite = pair.sent_to(0, CALLEE).pop().unwrap();
    pair.udp(0, CALLEE, &reply_to(&invite, 180, "t", CONTACT, ""));
    pair.advance_ms(500);
    pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
    addresses_are(&mut pair, [false, true]);
    pair.advance_ms(2_000);
    assert!(pair.states(1).is_empty());
    pair.0.datagrams.clear();
    pair.udp(0, CALLEE, &reply_to(&invite, 486, "t", "", ""));
    let starts: Vec<_> = pair.0.datagrams.iter().map(|(.., text)| &text[..11]).collect();
    assert_eq!(starts, ["ACK sip:bob", "SIP/2.0 486"]);
}

#[test]
fn what_is_told_late_of_a_call_that_was_given_away_brings_it_back_to_nobody() {
    let mut pair = Pair::new("", TAGGED);
    let invite = ring_and_move(&mut pair);
    address_is_at(&mut pair, 1);
    pair.advance_ms(1_000);
    assert_eq!(pair.states(1), [State::Early]);
    // The giver does not hear that it is over, and tells what it knows when they meet again.
    pair.cut();
    pair.advance_ms(10_000);
    pair.udp(1, CALLEE, &reply_to(&invite, 486, "t", "", ""));
    pair.advance_ms(30_000);
    pair.0.datagrams.clear();
    pair.heal();
    pair.advance_ms(30_000);
    let asked = pair.0.datagrams.iter().any(|(.., text)| text.starts_with("INVITE"));
    assert!(!asked && pair.states(0).is_empty(), "{:?}", pair.states(0));
}
