//! A Tandem node and a stock node, the latter played with raw packets.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::stage;

use bytes::Bytes;
use stage::{CAP, Stage, Stand as _, ip};
use tandem_bin::clusterer::{
    Body, Extra, FullTopUpdate, NodeBlock, NodeDescription, Sync, SyncEnd,
};
use tandem_bin::{Packet, Trailer};
use tandem_clock::MS;
use tandem_cluster::*;

#[test]
fn a_peer_without_hello_is_stock_and_gets_plain_packets() {
    let mut s = Stage::new(true);
    s.link_up();
    assert_eq!(s.m.status().clusters[0].nodes[0].kind, PeerKind::Stock);
    assert_eq!(s.of_type("clusterer-internal", 3).len(), 1);
    assert_eq!(s.of_type("clusterer-internal", 9).len(), 1);
    assert!(s.of_type("tandem", 2).is_empty());
    let cap = s.cap;
    let payload = Bytes::from_static(b"change");
    let stamp = Stamp { time_us: 1, node: 1 };
    let mut result = None;
    s.input(|m, now, out| {
        result = m.broadcast(now, cap, 3, 5, &payload, stamp, out).ok();
        m.flush(out);
    });
    assert_eq!(result.map(|r| (r.peers, r.tandem_peers)), Some((1, 0)));
    let packets = s.of_type("usrloc-contact-repl", 3);
    assert_eq!(packets[0].payload, payload);
    assert_eq!(packets[0].trailer, Some(Trailer::new(1, 1, 2)));
}

#[test]
fn an_announcement_of_a_stock_peer_is_an_activation() {
    let mut s = Stage::new(true);
    s.link_up();
    s.activate();
    assert!(s.active());
    assert_eq!(s.of_type("clusterer-extra", 13).len(), 1);
    s.run_ms(6000);
    s.shtag_active();
    assert!(!s.active());
    let epoch = s.m.table().snapshot()[0].epoch;
    assert_eq!(epoch, 2);
    s.activate();
    assert_eq!(s.m.table().snapshot()[0].epoch, 3);
}

#[test]
fn announcements_that_cross_at_the_heal_leave_us_the_holder_and_only_then() {
    let mut s = Stage::new(true);
    s.activate();
    s.link_up();
    assert_eq!(s.of_type("clusterer-extra", 13).len(), 1);
    s.shtag_active();
    assert!(s.active());
    assert_eq!(s.of_type("clusterer-extra", 13).len(), 2);
    // It has read ours and answered the PING behind it: this one is no crossing.
    s.answer_pings();
    s.run_ms(300);
    s.shtag_active();
    assert!(!s.active());
}

/// A stream that was held back brings what was said twice meanwhile in one go.
#[test]
fn announcements_that_cross_twice_leave_us_the_holder_too() {
    let mut s = Stage::new(true);
    s.activate();
    s.link_up();
    let active = Extra::ShtagActive { tag: Bytes::from_static(b"vip") };
    let once = active.encode(&Trailer::new(1, 2, 1)).unwrap();
    let (conn, twice) = (s.to_us, [&once[..], &once].concat());
    s.input(|m, now, out| m.handle_bytes(now, conn, &twice, out));
    assert!(s.active());
    assert_eq!(s.of_type("clusterer-extra", 13).len(), 2);
}

#[test]
fn a_pong_to_an_older_ping_does_not_show_that_our_announcement_was_read() {
    let mut s = Stage::new(true);
    s.activate();
    // Two PINGs wait in its connection, and are answered in one burst when it wakes up.
    s.say(Body::Ping { want_list: true });
    s.run_ms(900);
    s.got.clear();
    let now = s.now.plus_ns(100 * MS);
    s.now = now;
    s.input(|m, now, out| m.handle_timeout(now, out));
    assert_eq!(s.of_type("clusterer-internal", 0).len(), 1);
    s.got.clear();
    s.say(Body::Pong { nodes: vec![] });
    assert_eq!((s.link(), s.of_type("clusterer-extra", 13).len()), ("Up", 1));
    s.say(Body::Pong { nodes: vec![] });
    s.now = s.now.plus_ns(300 * MS);
    s.shtag_active();
    assert!(s.active(), "it has not read ours yet");
    assert_eq!(s.of_type("clusterer-extra", 13).len(), 2);
}

#[test]
fn an_announcement_that_an_older_connection_brings_after_the_heal_has_crossed_too() {
    let mut s = Stage::new(true);
    s.say(Body::Ping { want_list: true });
    let older = std::mem::replace(&mut s.to_us, ConnId::Accepted(2));
    let to_us = s.to_us;
    s.input(|m, now, out| m.handle_accepted(now, to_us, ip(2), out));
    s.activate();
    s.link_up();
    s.answer_pings();
    s.run_ms(2_500);
    s.to_us = older;
    s.shtag_active();
    assert!(s.active());
    assert_eq!(s.of_type("clusterer-extra", 13).len(), 2);
    s.answer_pings();
    s.run_ms(300);
    s.shtag_active();
    assert!(!s.active());
}

#[test]
fn what_a_stream_held_back_through_the_separation_comes_within_a_second() {
    let mut s = Stage::new(true);
    s.say(Body::Ping { want_list: true });
    let older = std::mem::replace(&mut s.to_us, ConnId::Accepted(2));
    let to_us = s.to_us;
    s.input(|m, now, out| m.handle_accepted(now, to_us, ip(2), out));
    s.activate();
    s.run_ms(1_000);
    s.link_up();
    s.answer_pings();
    // The older stream wakes up, and goes on after a moment.
    s.to_us = older;
    s.say_caps(true);
    s.run_ms(500);
    s.shtag_active();
    assert!(s.active());
}

#[test]
fn an_activation_soon_after_ours_is_obeyed_though_the_stream_was_silent_before() {
    let mut s = Stage::new(true);
    s.activate();
    s.link_up();
    s.answer_pings();
    s.run_ms(2_500);
    s.shtag_active();
    assert!(!s.active());
}

#[test]
fn an_activation_by_command_long_after_the_heal_is_obeyed() {
    let mut s = Stage::new(true);
    s.activate();
    s.link_up();
    s.run_ms(8000);
    s.shtag_active();
    assert!(!s.active());
}

#[test]
fn live_packets_wait_behind_a_sync_from_a_stock_donor() {
    let mut s = Stage::new(true);
    s.link_up();
    s.say_caps(true);
    assert_eq!(s.of_type("clusterer-extra", 10).len(), 1);
    let capability = Bytes::from_static(CAP);
    let chunks = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    s.say_extra(&Extra::Sync(Sync {
        capability: capability.clone(),
        data_version: 5,
        chunks,
        intact: true,
    }));
    let live = Packet {
        capability: capability.clone(),
        packet_type: 4,
        version: 5,
        payload: Bytes::from_static(b"live"),
        trailer: Some(Trailer::new(1, 2, 1)),
    };
    let (conn, bytes) = (s.to_us, live.encode().unwrap());
    s.input(|m, now, out| m.handle_bytes(now, conn, &bytes, out));
    let delivered = |s: &Stage| s.log.iter().any(|e| matches!(e, Effect::Deliver { .. }));
    assert!(!delivered(&s));
    s.say_extra(&Extra::SyncEnd(SyncEnd { capability, chunks: 2 }));
    assert!(delivered(&s));
    assert_eq!(s.m.status().clusters[0].capabilities[0].state, CapState::Synced);
}

#[test]
fn a_silent_donor_is_given_up_and_asked_again() {
    let mut s = Stage::new(true);
    s.link_up();
    s.say_caps(true);
    s.run_ms(16_000);
    assert_eq!(s.of_type("clusterer-extra", 10).len(), 2);
}

#[test]
fn a_stock_requester_gets_chunks_and_their_count_once_we_are_synced() {
    let mut s = Stage::new(true);
    s.link_up();
    let request = Extra::SyncReq { capability: Bytes::from_static(CAP) };
    s.say_extra(&request);
    assert!(s.of_type("clusterer-extra", 12).is_empty());
    // It asks once, and is answered when there is something to answer with.
    s.run_ms(6000);
    let end = s.of_type("clusterer-extra", 12)[0];
    let Extra::SyncEnd(end) = Extra::decode(12, end.version, &end.payload).unwrap() else {
        panic!("not an end")
    };
    assert_eq!(end.chunks, 2);
    assert_eq!(s.of_type("clusterer-extra", 11).len(), 1);
}

#[test]
fn after_a_loss_we_ask_again_without_giving_up_our_state() {
    let mut s = Stage::new(true);
    s.link_up();
    s.run_ms(6000);
    hangs(&mut s);
    s.say_caps(true);
    s.got.clear();
    s.link_up();
    assert_eq!(s.of_type("clusterer-extra", 10).len(), 1);
    assert!(s.log.iter().any(|e| matches!(e, Effect::ReplayWanted { peer: 2, .. })));
    assert_eq!(s.m.status().clusters[0].capabilities[0].state, CapState::Synced);
}

/// Silence of the stock node, until it is given up.
fn hangs(s: &mut Stage) {
    for _ in 0..12 {
        s.now = s.now.plus_ns(1000 * MS);
        s.input(|m, now, out| m.handle_timeout(now, out));
        s.got.clear();
    }
    assert_eq!(s.link(), "Down");
}

/// States of nodes stand against each other: those of a node that has just started are none.
#[test]
fn a_stock_node_is_asked_for_what_would_replace_ours_only_when_it_says_that_it_is_synced() {
    let asked = |s: &Stage| s.of_type("clusterer-extra", 10).len();
    let repeats_all = |s: &Stage| {
        let all = |e: &Effect| matches!(e, Effect::ReplayWanted { since_unix_ms: 1, .. });
        s.log.iter().any(all)
    };
    let mut s = Stage::new(true);
    let cap = s.cap;
    s.m.records_replace(cap);
    s.link_up();
    s.run_ms(6000);
    hangs(&mut s);
    s.link_up();
    assert_eq!(asked(&s), 0, "it has not said anything");
    s.say_caps(true);
    assert_eq!(asked(&s), 1);
    hangs(&mut s);
    s.link_up();
    s.say_caps(false);
    assert_eq!((asked(&s), repeats_all(&s)), (0, false), "it is about to ask somebody");
    s.say_caps(true);
    assert_eq!((asked(&s), repeats_all(&s)), (0, true), "whoever answered, it hears of ours");
}

#[test]
fn a_stock_node_is_never_asked_for_what_it_has_no_sync_of() {
    let mut s = Stage::new(true);
    let cap = s.cap;
    s.m.only_tandem_syncs(cap);
    s.link_up();
    assert_eq!(s.m.status().clusters[0].capabilities[0].state, CapState::Pending);
    s.say_caps(true);
    assert_eq!(s.m.status().clusters[0].capabilities[0].state, CapState::Synced);
    hangs(&mut s);
    s.link_up();
    s.say_caps(true);
    assert_eq!(s.of_type("clusterer-extra", 10).len(), 0);
}

/// Two nodes that start at the same time: neither is synced, and each has what the other lacks.
#[test]
fn who_starts_alone_takes_what_a_stock_node_has_all_the_same() {
    let mut s = Stage::new(true);
    s.link_up();
    s.say_caps(false);
    assert_eq!(s.of_type("clusterer-extra", 10).len(), 0);
    s.run_ms(6_000);
    assert_eq!(s.m.status().clusters[0].capabilities[0].state, CapState::Synced);
    assert_eq!(s.of_type("clusterer-extra", 10).len(), 1);
}

#[test]
fn an_unknown_node_may_describe_itself_and_is_then_pinged() {
    let mut s = Stage::new(false);
    s.say(Body::Ping { want_list: true });
    assert_eq!(s.of_type("clusterer-internal", 4).len(), 1);
    s.say(Body::Description(NodeDescription {
        description: tandem_bin::clusterer::Description {
            url: Bytes::from_static(b"bin:10.0.0.2:5566"),
            sip_addr: Bytes::new(),
            priority: 3,
            ping_retries: 3,
        },
        path: vec![2],
    }));
    s.run_ms(1100);
    assert_eq!(s.link(), "Up");
}

#[test]
fn only_addresses_of_nodes_may_speak() {
    let mut s = Stage::new(true);
    s.accepted += 1;
    s.to_us = ConnId::Accepted(s.accepted);
    let conn = s.to_us;
    s.input(|m, now, out| m.handle_accepted(now, conn, ip(66), out));
    s.got.clear();
    s.say(Body::Ping { want_list: true });
    s.shtag_active();
    assert!(s.got.is_empty());
    assert_eq!(s.m.status().clusters[0].nodes[0].kind, PeerKind::Unproven);
}

#[test]
fn a_node_that_lists_us_while_we_have_it_down_is_pinged_again() {
    let mut s = Stage::new(true);
    for _ in 0..6 {
        s.now = s.now.plus_ns(1000 * MS);
        s.input(|m, now, out| m.handle_timeout(now, out));
    }
    assert_eq!(s.link(), "Down");
    s.say(Body::FullTop(FullTopUpdate {
        sequence: 0,
        timestamp: 9,
        nodes: vec![NodeBlock {
            node: 2,
            description: None,
            ls_sequence: -1,
            ls_timestamp: 0,
            neighbours: vec![1],
        }],
        path: vec![2],
    }));
    assert_eq!(s.link(), "Probe");
}

#[test]
fn a_closed_connection_of_a_living_stock_peer_is_replaced_and_what_was_lost_repeated() {
    let mut s = Stage::new(true);
    s.link_up();
    // A replay that is younger would be repeated whole.
    s.run_ms(30_000);
    s.got.clear();
    s.input(|m, now, out| m.handle_closed(now, ConnId::Outgoing(1), out));
    assert_eq!(s.got[0].capability.as_ref(), b"tandem");
    assert_eq!(s.link(), "Up");
    let since = s.log.iter().rev().find_map(|e| match e {
        Effect::ReplayWanted { since_unix_ms, .. } => Some(*since_unix_ms),
        _ => None,
    });
    assert_eq!(since, Some(s.now.unix_ms - 6000));
    let next = s.m.next_deadline().unwrap();
    assert!(next > s.now.mono_ns, "nothing is left that would be due for ever");
}

/// It may have said that it took the tag.
#[test]
fn a_stock_node_whose_stream_is_over_hears_again_who_holds_the_tag() {
    let mut s = Stage::new(true);
    s.link_up();
    s.activate();
    s.run_ms(6_000);
    s.got.clear();
    s.input(|m, now, out| m.handle_closed(now, ConnId::Accepted(1), out));
    assert_eq!(s.of_type("clusterer-extra", 13).len(), 1);
    assert!(s.active());
    let accepted = ConnId::Accepted(1);
    s.input(|m, now, out| m.handle_accepted(now, accepted, ip(2), out));
    s.run_ms(6_000);
    s.shtag_active();
    s.run_ms(6_000);
    s.got.clear();
    s.input(|m, now, out| m.handle_closed(now, accepted, out));
    assert!(s.of_type("clusterer-extra", 13).is_empty(), "what is not held is not announced");
}

/// What the stock node was told of its contacts, in order: type and text.
fn told(s: &Stage) -> Vec<(u32, String)> {
    let ours = s.got.iter().filter(|p| p.capability.as_ref() == CAP);
    ours.map(|p| (p.packet_type, String::from_utf8_lossy(&p.payload).into_owned())).collect()
}

fn change(s: &mut Stage, kind: u32, text: &str) {
    let (cap, payload, stamp) =
        (s.cap, Bytes::from(text.to_owned()), Stamp { time_us: 1, node: 1 });
    s.input(|m, now, out| {
        m.broadcast(now, cap, kind, 5, &payload, stamp, out).unwrap();
        m.flush(out);
    });
}

/// The questions for missed changes that nobody has answered.
fn questions(s: &mut Stage) -> Vec<RequestId> {
    let asked = std::mem::take(&mut s.log).into_iter();
    asked
        .filter_map(|e| match e {
            Effect::ReplayWanted { request, .. } => Some(request),
            _ => None,
        })
        .collect()
}

#[test]
fn a_change_does_not_overtake_what_is_repeated() {
    let mut s = Stage::new(true);
    s.link_up();
    s.say_caps(true);
    s.run_ms(30_000);
    s.log.clear();
    s.got.clear();
    s.keeps_questions = true;
    s.input(|m, now, out| m.handle_closed(now, ConnId::Outgoing(1), out));
    let mut asked = questions(&mut s);
    assert_eq!(asked.len(), 1, "{:?}", s.log);
    // The module has looked, and has not said what it found, when a contact goes.
    change(&mut s, 5, "delete alice");
    assert_eq!(told(&s), []);
    let large = "x".repeat(20_000);
    let found = |n: u32| (4, 5, Bytes::from(format!("update {n} {large}")));
    let missed = (0..20).map(found).chain([(4, 5, "update alice".into())]).collect();
    let request = asked.remove(0);
    s.input(|m, now, out| m.replay_ready(now, request, missed, out));
    // More than a peer gets at once: this one waits behind it.
    change(&mut s, 5, "delete bob");
    assert!(told(&s).len() < 15, "{}", told(&s).len());
    for _ in 0..300 {
        s.run_ms(100);
        for request in questions(&mut s) {
            s.input(|m, now, out| m.replay_ready(now, request, Vec::new(), out));
        }
    }
    let texts: Vec<String> =
        told(&s).into_iter().map(|(_, t)| t.chars().take(12).collect()).collect();
    assert_eq!(texts[20..], ["update alice", "delete alice", "delete bob"]);
    // And then changes leave at once again.
    change(&mut s, 5, "delete carol");
    assert_eq!(told(&s).len(), 24);
}
