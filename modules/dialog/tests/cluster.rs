//! Nodes that have the same dialogs, end them for each other, and lose each other.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;
use crate::pair;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::*;
use pair::Pair;
use tandem_bin::dialog::entries::Value;
use tandem_bin::dialog::{DialogName, DialogPacket, FullDialog, Leg};
use tandem_bin::{Packet, Trailer};
use tandem_cluster::ConnId;
use tandem_dialog::record::Val;
use tandem_dialog::{Dialog, EndReason, State};
use tandem_engine::effect::{BinInput, Input};

#[test]
fn an_answered_call_is_on_both_nodes_field_by_field() {
    let mut pair = Pair::new("", "");
    pair.talk(0, "c");
    let (ours, theirs) = (pair.all(0), pair.all(1));
    assert_eq!(ours.len(), 1);
    assert_eq!(ours, theirs);
    assert_eq!(ours[0].state, State::Confirmed);
    assert_eq!(&*ours[0].caller.socket, b"udp:127.0.9.1:5060");
}

#[test]
fn the_answer_leaves_when_the_peer_has_the_call() {
    let mut pair = Pair::new("", "");
    pair.answer(0, "c");
    let ok =
        |(text, seen): &(String, Vec<usize>)| text.starts_with("SIP/2.0 200").then(|| seen.clone());
    let seen: Vec<_> = pair.sent.iter().filter_map(ok).collect();
    assert_eq!(seen, [[1, 1]]);
}

#[test]
fn an_end_reaches_the_peer_and_is_forgotten_on_both() {
    let mut pair = Pair::new("", "");
    let phones = pair.talk(0, "c");
    let (bye, ok) = pair.hang_up(0, &phones);
    assert!(bye.starts_with("BYE ") && ok.starts_with("SIP/2.0 200"), "{ok}");
    // The number of the BYE is of no use to the other node.
    let without_numbers = |mut all: Vec<Dialog>| {
        all.iter_mut().flat_map(|d| &mut d.callees).for_each(|leg| leg.cseq = 0);
        all
    };
    assert_eq!(without_numbers(pair.all(0)), without_numbers(pair.all(1)));
    assert_eq!(pair.states(1), [State::Deleted]);
    assert_eq!(pair.all(1)[0].end_reason, Some(EndReason::DownstreamBye));
    pair.advance_ms(40_000);
    assert!(pair.all(0).is_empty() && pair.all(1).is_empty());
    assert_eq!(pair.dialogs(0).table.grave_count(), 1);
}

#[test]
fn the_backup_ends_the_call_of_a_dead_node() {
    let mut pair = Pair::new("", "");
    let phones = pair.talk(0, "c");
    pair.kill(0);
    let (bye, ok) = pair.hang_up(1, &phones);
    assert!(bye.starts_with("BYE "), "{bye}");
    assert!(ok.starts_with("SIP/2.0 200"), "{ok}");
    assert_eq!(pair.states(1), [State::Deleted]);
}

#[test]
fn a_node_that_comes_back_gets_every_call() {
    let mut pair = Pair::new("", "");
    for n in 0..20 {
        pair.talk(0, &format!("c{n}"));
    }
    pair.kill(1);
    pair.talk(0, "later");
    pair.boot(1);
    pair.advance_ms(12_000);
    assert_eq!(pair.all(0), pair.all(1));
    assert_eq!(pair.all(1).len(), 21);
}

#[test]
fn a_bye_that_a_node_gets_before_its_dialog_ends_the_call_when_that_comes() {
    let mut pair = Pair::new("", "");
    let (ended, stays) = (pair.talk(0, "c1"), pair.talk(0, "c2"));
    pair.kill(0);
    pair.cut();
    pair.boot(0);
    // By then it no longer waits for a peer.
    pair.advance_ms(1_500);
    assert!(pair.all(0).is_empty(), "it has just started");
    let (bye, ok) = pair.hang_up(0, &ended);
    assert!(bye.starts_with("BYE ") && ok.starts_with("SIP/2.0 200"), "{bye}{ok}");
    pair.udp(0, CALLER, &stays.within("BYE", 8, "").replace("tag=t", "tag=x"));
    pair.heal();
    pair.advance_ms(50_000);
    for at in [0, 1] {
        let alive = pair.all(at).into_iter().filter(|d| d.state.is_alive());
        let calls: Vec<_> = alive.map(|d| d.call_id.to_vec()).collect();
        assert_eq!(calls, [b"c2".to_vec()], "node {at}");
    }
}

/// A call whose INVITE goes over node 0 while nobody sees the other, and all that follows over
/// node 1; `bye_at` is where the BYE goes, if there is one.
fn crossed(pair: &mut Pair, call_id: &str, bye_at: Option<usize>) {
    pair.udp(0, CALLER, &Phones::request(call_id));
    let invite = pair.sent_to(0, CALLEE).pop().unwrap();
    let contact = "Contact: <sip:bob@127.0.0.2:5060>\n";
    pair.udp(0, CALLEE, &reply_to(&invite, 180, "t", contact, ""));
    pair.udp(1, CALLEE, &reply_to(&invite, 200, "t", contact, SDP_B));
    let ok = pair.sent_to(1, CALLER).pop().unwrap();
    assert!(first_line(&ok).starts_with("SIP/2.0 200"), "{ok}");
    let phones = Phones { call_id: call_id.to_owned(), invite, ok };
    pair.udp(1, CALLER, &phones.within("ACK", 7, ""));
    pair.advance_ms(4_000);
    if let Some(at) = bye_at {
        let (bye, ok) = pair.hang_up(at, &phones);
        assert!(bye.starts_with("BYE ") && ok.starts_with("SIP/2.0 200"), "{bye}{ok}");
    }
}

#[test]
fn an_answer_that_passes_over_the_other_node_counts_from_then() {
    let mut pair = Pair::new("", "set_dlg_sharing_tag(\"vip\");");
    pair.cut();
    pair.advance_ms(10_000);
    let answered_s = pair.now.unix_ms / 1000;
    crossed(&mut pair, "goes-on", None);
    crossed(&mut pair, "ends-there", Some(1));
    crossed(&mut pair, "ends-here", Some(0));
    assert_eq!(pair.states(0), [State::Early; 3], "nobody told it");
    pair.heal();
    // They try each other again after `node_timeout`.
    for _ in 0..70 {
        if pair.states(0).contains(&State::Early) {
            pair.advance_ms(1_000);
        }
    }
    pair.advance_ms(1_000);
    for at in [0, 1] {
        let all: BTreeMap<_, _> = { pair.all(at).into_iter() }
            .map(|d| (String::from_utf8_lossy(&d.call_id).into_owned(), d))
            .collect();
        assert_eq!(all.len(), 3, "node {at}");
        assert_eq!(all["goes-on"].state, State::Confirmed);
        assert_eq!(u64::from(all["goes-on"].answered_s), answered_s);
        for call in ["ends-there", "ends-here"] {
            let d = &all[call];
            assert_eq!(d.state, State::Deleted, "{call} at node {at}");
            assert_eq!(d.end_reason, Some(EndReason::DownstreamBye));
            assert_eq!(d.ended_s - d.answered_s, 4, "{call}");
        }
    }
    // Its time is not over because of the transaction that was left.
    pair.advance_ms(200_000);
    assert_eq!(pair.states(0), [State::Confirmed]);
}

#[test]
fn an_answer_that_is_made_up_answers_nothing() {
    let mut pair = Pair::new("", "");
    pair.udp(0, CALLER, &Phones::request("c"));
    let invite = pair.sent_to(0, CALLEE).pop().unwrap();
    let contact = "Contact: <sip:bob@127.0.0.2:5060>\n";
    let answer = reply_to(&invite, 200, "t", contact, SDP_B);
    let at = answer.find("branch=").unwrap() + "branch=z9hG4bK".len();
    let mut branch = answer.clone().into_bytes();
    branch[at] = if branch[at] == b'1' { b'2' } else { b'1' };
    let forged = [
        String::from_utf8(branch).unwrap(),
        answer.replace("tag=f", "tag=x"),
        answer.replace("Call-ID: c", "Call-ID: d"),
    ];
    for reply in forged {
        assert_ne!(reply, answer);
        pair.udp(1, CALLEE, &reply);
        pair.advance_ms(100);
        assert_eq!(pair.states(0), [State::Unconfirmed]);
    }
    pair.udp(1, CALLEE, &answer);
    pair.advance_ms(100);
    assert_eq!(pair.states(0), [State::Unacked]);
}

#[test]
fn what_ended_on_either_side_of_a_split_is_over_everywhere() {
    let mut pair = Pair::new("", "");
    let phones: Vec<Phones> = (0..3).map(|n| pair.talk(0, &format!("c{n}"))).collect();
    pair.cut();
    pair.hang_up(0, &phones[0]);
    pair.hang_up(1, &phones[1]);
    pair.advance_ms(45_000);
    assert_eq!((pair.all(0).len(), pair.all(1).len()), (2, 2));
    pair.heal();
    pair.advance_ms(70_000);
    let alive = |pair: &Pair, at| {
        let all = pair.all(at).into_iter().filter(|d| d.state.is_alive());
        all.map(|d| String::from_utf8_lossy(&d.call_id).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(alive(&pair, 0), ["c2"]);
    assert_eq!(alive(&pair, 1), ["c2"]);
}

#[test]
fn a_lifetime_ends_on_the_creator_and_after_its_death_on_the_heir() {
    let mut pair = Pair::new(&set("default_timeout", "30"), "");
    pair.talk(0, "c1");
    pair.advance_ms(20_000);
    pair.talk(0, "c2");
    pair.advance_ms(13_000);
    let ends = |pair: &Pair, at: usize| {
        let all = pair.all(at).into_iter();
        let mut all: Vec<_> = all.map(|d| (d.call_id.clone(), d.end_reason)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.into_iter().map(|(_, reason)| reason).collect::<Vec<_>>()
    };
    assert_eq!(ends(&pair, 1), [Some(EndReason::Lifetime), None]);
    pair.kill(0);
    pair.advance_ms(30_000);
    assert_eq!(ends(&pair, 1), [Some(EndReason::Lifetime)], "c1 is forgotten");
}

/// A packet as node 1 would send it to node 2.
fn packet(kind: u32, version: u16, payload: Bytes) -> Bytes {
    let trailer = Some(Trailer::new(1, 1, 2));
    let capability = Bytes::from_static(b"dialog-dlg-repl");
    Packet { capability, packet_type: kind, version, payload, trailer }.encode().unwrap()
}

#[test]
fn packets_of_stock_nodes_are_taken_and_bad_ones_change_nothing() {
    let mut pair = Pair::new("", "");
    pair.talk(0, "c");
    let conn = ConnId::Accepted(9_000);
    let peer = "127.0.1.1:4000".parse().unwrap();
    pair.step(1, Input::Bin(BinInput::Accepted { conn, peer }));
    let send = |pair: &mut Pair, packet: Bytes| {
        pair.step(1, Input::Bin(BinInput::Data { conn, bytes: packet }));
        pair.advance_ms(10);
    };
    let leg = |tag: &'static str| Leg {
        tag: tag.into(),
        socket: "udp:lan".into(),
        cseq: "7".into(),
        contact: "sip:x@127.0.0.8".into(),
        ..Leg::default()
    };
    let full = FullDialog {
        call_id: "stock".into(),
        id: 77,
        state: 3,
        caller: leg("a"),
        callee: leg("b"),
        variables: "n#2#5|".into(),
        expires_unix_s: 1_800_009_000,
        ..FullDialog::default()
    };
    let whole = DialogPacket::Created(Box::new(full.clone())).encode().unwrap();
    let before = pair.all(1);
    for cut in [0, 5, 40, whole.len() - 8] {
        send(&mut pair, packet(1, 4, whole.slice(..cut)));
    }
    send(&mut pair, packet(1, 9, whole.clone()));
    send(&mut pair, packet(101, 1, whole.clone()));
    let early = FullDialog { state: 2, ..full.clone() };
    send(&mut pair, packet(2, 4, DialogPacket::Updated(Box::new(early)).encode().unwrap()));
    let value = |value| {
        let (call_id, name) = ("stock".into(), "n".into());
        DialogPacket::Value { call_id, id: 77, name, value }.encode().unwrap()
    };
    send(&mut pair, packet(5, 4, value(Some(Value::Int(9)))));
    assert_eq!(pair.all(1), before);
    send(&mut pair, packet(1, 4, whole));
    let of = |pair: &Pair| pair.all(1).into_iter().find(|d| *d.call_id == *b"stock").unwrap();
    assert_eq!((&*of(&pair).caller.socket, of(&pair).creator), (&b"udp:lan"[..], 1));
    send(&mut pair, packet(5, 4, value(Some(Value::Int(9)))));
    assert_eq!(of(&pair).value(b"n"), Some(&Val::Int(9)));
    send(&mut pair, packet(5, 4, value(None)));
    assert_eq!(of(&pair).value(b"n"), None);
    let updated = FullDialog { state: 4, variables: "m#1#x|".into(), ..full };
    send(&mut pair, packet(2, 4, DialogPacket::Updated(Box::new(updated)).encode().unwrap()));
    assert_eq!((of(&pair).state, of(&pair).values.len()), (State::Confirmed, 1));
    let name = |from: &'static str, to: &'static str| DialogName {
        call_id: "stock".into(),
        from_tag: from.into(),
        to_tag: to.into(),
        id: Some(77),
    };
    let cseq = DialogPacket::Cseq { name: name("b", "a"), cseq: 3 };
    send(&mut pair, packet(4, 4, cseq.encode().unwrap()));
    assert_eq!(of(&pair).caller.generated_cseq, 3);
    let deleted = DialogPacket::Deleted(name("a", "b")).encode().unwrap();
    send(&mut pair, packet(3, 4, deleted));
    assert_eq!(of(&pair).state, State::Deleted);
}

#[test]
fn counts_of_shared_profiles_are_told_and_end_with_their_node() {
    let params = set("profile_replication_cluster", "1") + &set("profiles_no_value", "\"in/b\"");
    let mut pair = Pair::new(&params, "set_dlg_profile(\"in/b\");");
    pair.talk(0, "c1");
    pair.advance_ms(500);
    let there = |pair: &Pair, at: usize| pair.dialogs(at).elsewhere(pair.0.now, 0, None);
    assert_eq!((there(&pair, 0), there(&pair, 1)), (0, 1));
    pair.kill(0);
    pair.advance_ms(9_000);
    assert_eq!(there(&pair, 1), 0);
    let size = pair.mi(1, "dialog:profile_get_size", serde_json::json!({"profile": "in/b"}));
    assert_eq!(size["result"]["Profile"]["count"], 1, "the heir counts it: {size}");
}

#[test]
fn the_holder_of_the_tag_ends_what_is_over_and_its_successor_what_is_left() {
    let tag = "set_dlg_sharing_tag(\"vip\");";
    let params = set("default_timeout", "30");
    let mut pair = Pair::new(&params, tag);
    pair.advance_ms(5_000);
    pair.talk(0, "c1");
    pair.advance_ms(25_000);
    pair.talk(1, "c2");
    assert_eq!(pair.all(1)[0].tag(), Some("vip"));
    pair.kill(0);
    pair.advance_ms(20_000);
    let alive = |pair: &Pair| pair.states(1).iter().filter(|s| s.is_alive()).count();
    assert_eq!(alive(&pair), 2, "the tag is not held by anybody who lives");
    let answer = pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
    assert_eq!(answer["result"], "OK, activated alone: node 1 not told");
    pair.advance_ms(4_500);
    assert_eq!(alive(&pair), 1, "c1 was overdue");
    pair.advance_ms(15_000);
    assert_eq!(alive(&pair), 0);
}

/// A pair whose calls have their callees pinged, who are silent.
fn silent_callee() -> Pair {
    let params = set("dialog_replication_cluster", "1") + &set("options_ping_interval", "4");
    let params = params + "modparam(\"tm\", \"fr_timeout\", 5)\n";
    let of = |id| {
        let text = pair::script(id, &params, "set_dlg_sharing_tag(\"vip\");");
        text.replace("create_dialog();", "create_dialog(\"options-ping-callee\");")
    };
    let mut pair = Pair::of(vec![of(1), of(2)]);
    pair.advance_ms(5_000);
    pair.talk(0, "c1");
    pair
}

fn alive(pair: &Pair, at: usize) -> usize {
    pair.states(at).iter().filter(|s| s.is_alive()).count()
}

#[test]
fn a_ping_of_the_first_seconds_ends_no_call_however_late_it_fails() {
    let mut pair = silent_callee();
    pair.kill(0);
    pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
    let pings = |pair: &mut Pair| {
        let sent = pair.sent_to(1, CALLEE).into_iter();
        sent.filter(|text| text.starts_with("OPTIONS ")).count()
    };
    pair.advance_ms(4_900);
    assert!(pings(&mut pair) > 0, "it was pinged");
    pair.advance_ms(5_500);
    assert_eq!(alive(&pair, 1), 1, "that one has failed by now");
    pair.advance_ms(15_000);
    assert_eq!(alive(&pair, 1), 0, "the next one counts");
}

#[test]
fn pings_from_an_address_that_is_elsewhere_end_no_call() {
    let mut pair = silent_callee();
    let ip = "127.0.9.1".parse().unwrap();
    pair.step(0, Input::Addresses(vec![(ip, false)]));
    pair.advance_ms(60_000);
    assert_eq!(alive(&pair, 0), 1);
    pair.step(0, Input::Addresses(vec![(ip, true)]));
    pair.advance_ms(20_000);
    assert_eq!(alive(&pair, 0), 0);
}

/// Two machines that take the address from each other every second.
#[test]
fn calls_end_in_time_though_the_tag_flaps() {
    let tag = "set_dlg_sharing_tag(\"vip\");";
    let mut pair = Pair::new(&set("default_timeout", "20"), tag);
    pair.advance_ms(5_000);
    for call in 0..16 {
        pair.talk(0, &format!("c{call}"));
    }
    pair.advance_ms(12_000);
    for second in 0..12 {
        let node = second % 2;
        pair.mi(node, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
        pair.advance_ms(1_000);
    }
    let alive = pair.states(0).iter().filter(|s| s.is_alive()).count();
    assert_eq!(alive, 0, "they were over four seconds ago");
}

#[test]
fn after_a_split_the_timeout_of_the_higher_claim_stands() {
    let with = |id: u32, seconds: u32| {
        let params = set("dialog_replication_cluster", "1");
        let script = pair::script(id, &params, "set_dlg_sharing_tag(\"vip\");");
        let info = format!("loose_route(); if ($rm == \"INFO\") {{ $DLG_timeout = {seconds}; }}");
        script.replace("loose_route();", &info)
    };
    let mut pair = Pair::of(vec![with(1, 300), with(2, 600)]);
    let phones = pair.talk(0, "c");
    let both = |pair: &Pair| [0, 1].map(|at| pair.all(at)[0].lifetime_s);
    pair.udp(0, CALLER, &phones.within("INFO", 8, ""));
    pair.advance_ms(1_000);
    assert_eq!(both(&pair), [300, 300]);
    pair.cut();
    pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
    pair.udp(1, CALLER, &phones.within("INFO", 9, ""));
    pair.advance_ms(5_000);
    // The node that has lost the tag and does not know it writes last.
    pair.udp(0, CALLER, &phones.within("INFO", 10, ""));
    pair.advance_ms(1_000);
    pair.heal();
    pair.advance_ms(70_000);
    assert_eq!(both(&pair), [600, 600]);
    let expires = [0, 1].map(|at| pair.all(at)[0].expires_s);
    assert_eq!(expires[0], expires[1]);
}

#[test]
fn an_operator_ends_a_call_where_its_tag_is_held_and_one_without_a_tag_anywhere() {
    let end = |pair: &mut Pair, at: usize| pair.mi(at, "dialog:end_dlg", serde_json::json!(["c"]));
    let mut pair = Pair::new("", "set_dlg_sharing_tag(\"vip\");");
    pair.talk(0, "c");
    let refused = end(&mut pair, 1);
    assert_eq!(refused["error"]["code"], 403);
    assert_eq!(refused["error"]["message"], "Node is backup for requested dialog");
    assert_eq!(pair.states(0), [State::Confirmed]);
    assert_eq!(end(&mut pair, 0)["result"], "OK");
    assert_eq!((pair.states(0), pair.states(1)), (vec![State::Deleted], vec![State::Deleted]));
    let mut pair = Pair::new("", "");
    pair.talk(0, "c");
    assert_eq!(end(&mut pair, 1)["result"], "OK");
    assert_eq!((pair.states(0), pair.states(1)), (vec![State::Deleted], vec![State::Deleted]));
    assert_eq!(pair.all(0)[0].end_reason, Some(EndReason::Command));
    let byes = pair.datagrams.iter().filter(|(at, _, text)| *at == 1 && text.starts_with("BYE "));
    assert!(byes.count() >= 2);
}

/// A change is told at once, and overtakes what is told when the nodes meet.
#[test]
fn the_end_of_a_call_that_its_peer_is_about_to_hear_of_is_not_lost() {
    let mut pair = Pair::new("", "");
    pair.0.cut();
    let phones = pair.talk(0, "c");
    pair.0.hold_records(true);
    pair.0.heal();
    pair.advance_ms(12_000);
    assert!(pair.all(1).is_empty());
    pair.hang_up(0, &phones);
    pair.0.hold_records(false);
    pair.kill(0);
    pair.advance_ms(2_000);
    assert_eq!(pair.states(1), [State::Deleted]);
}
