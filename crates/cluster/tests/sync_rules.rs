//! Capabilities and syncs with stock nodes, rule by rule.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::scene;

use bytes::Bytes;
use scene::{CAP, Scene, Stand as _};
use tandem_bin::clusterer::{Body, CapNode, CapUpdate, Extra, Sync, SyncEnd};
use tandem_bin::{NodeId, Packet, Trailer};
use tandem_cluster::*;

fn name() -> Bytes {
    Bytes::from_static(CAP.as_bytes())
}

fn say_caps(s: &mut Scene, node: NodeId, sequence: i32, ok: bool, require_reply: bool) {
    let nodes = vec![CapNode { node, capabilities: vec![(name(), ok)] }];
    let (timestamp, path) = (9, vec![node]);
    s.say(
        node,
        Body::Capabilities(CapUpdate {
            sequence,
            timestamp,
            nodes,
            require_reply,
            path,
            intact: true,
        }),
    );
}

fn sync(chunks: &[&'static [u8]]) -> Extra {
    let chunks = chunks.iter().map(|c| Bytes::from_static(c)).collect();
    Extra::Sync(Sync { capability: name(), data_version: 5, chunks, intact: true })
}

fn end(chunks: i32) -> Extra {
    Extra::SyncEnd(SyncEnd { capability: name(), chunks })
}

#[test]
fn a_node_that_is_no_seed_waits_for_a_donor_and_announces_when_it_has_everything() {
    let mut s = Scene::with(&[2, 3], |c| c.own.seed = false);
    s.all_up();
    s.run_ms(60_000);
    assert_eq!(s.cap_state(), CapState::Pending);
    say_caps(&mut s, 3, 0, false, false);
    assert!(s.extra(3, 10).is_empty());
    s.got.clear();
    say_caps(&mut s, 2, 0, true, false);
    assert_eq!((s.extra(2, 10).len(), s.extra(2, 10)[0].version), (1, 3));
    s.say_extra(2, 1, &sync(&[b"a", b"b"]));
    assert_eq!(s.cap_state(), CapState::InProgress);
    s.got.clear();
    s.say_extra(2, 1, &end(3));
    assert_eq!(s.cap_state(), CapState::InProgress, "one chunk is missing");
    s.say_extra(2, 1, &sync(&[b"c"]));
    assert_eq!((s.cap_state(), s.delivered_records()), (CapState::Synced, 3));
    for to in [2, 3] {
        let Body::Capabilities(update) = s.internal(to)[0].body.clone() else { panic!("{to}") };
        assert_eq!((update.nodes[0].node, update.nodes[0].capabilities[0].1), (1, true));
    }
}

#[test]
fn an_empty_donor_ends_the_sync_at_once() {
    let mut s = Scene::new(&[2]);
    s.all_up();
    say_caps(&mut s, 2, 0, true, false);
    s.say_extra(2, 1, &end(0));
    assert_eq!(s.cap_state(), CapState::Synced);
}

#[test]
fn sync_packets_of_other_versions_and_damaged_ones_do_not_count() {
    let mut s = Scene::new(&[2]);
    s.all_up();
    say_caps(&mut s, 2, 0, true, false);
    let good = sync(&[b"a"]).encode(&Trailer::new(1, 2, 1)).unwrap();
    let mut old = good.to_vec();
    old[8] = 2;
    s.bytes(2, &old);
    assert_eq!(s.delivered_records(), 0);
    assert_eq!(s.cap_state(), CapState::Pending);
    // A wrong marker ends the packet: the first chunk counts, the second does not.
    let mut damaged = sync(&[b"aaaa", b"bbbb"]).encode(&Trailer::new(1, 2, 1)).unwrap().to_vec();
    let at = damaged.len() - 12 - 4 - 1;
    damaged[at] ^= 0xff;
    s.bytes(2, &damaged);
    s.say_extra(2, 1, &end(2));
    assert_eq!((s.delivered_records(), s.cap_state()), (1, CapState::InProgress));
}

#[test]
fn what_waits_behind_a_sync_is_processed_when_it_is_given_up() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    say_caps(&mut s, 2, 0, true, false);
    s.module(3, 1);
    assert_eq!(s.delivered(), 1, "nothing has come yet: live packets are processed");
    s.say_extra(2, 1, &sync(&[b"a"]));
    s.module(3, 1);
    s.module(2, 1);
    assert_eq!(s.delivered(), 1);
    s.run_ms(16_000);
    assert_eq!(s.delivered(), 3);
    assert_ne!(s.cap_state(), CapState::Synced);
    assert_eq!(s.extra(2, 10).len(), 2, "and it is asked again");
}

#[test]
fn a_dead_donor_is_replaced_by_the_next() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    say_caps(&mut s, 2, 0, true, false);
    s.say_extra(2, 1, &sync(&[b"a"]));
    say_caps(&mut s, 3, 0, true, false);
    assert!(s.extra(3, 10).is_empty());
    s.alive = vec![3];
    s.run_ms(9_000);
    assert_eq!(s.extra(3, 10).len(), 1);
    s.say_extra(3, 1, &sync(&[b"a"]));
    s.say_extra(3, 1, &end(1));
    assert_eq!(s.cap_state(), CapState::Synced);
}

#[test]
fn a_request_of_a_node_that_is_not_reachable_yet_is_answered_when_it_is() {
    let mut s = Scene::new(&[2, 3]);
    s.alive = vec![2];
    s.say(2, Body::Ping { want_list: true });
    s.run_ms(7000);
    assert_eq!(s.cap_state(), CapState::Synced, "the seed starts alone");
    s.say_extra(3, 1, &Extra::SyncReq { capability: name() });
    assert!(s.extra(3, 12).is_empty());
    s.alive = vec![2, 3];
    s.say(3, Body::Ping { want_list: true });
    s.run_ms(2000);
    assert_eq!((s.extra(3, 11).len(), s.extra(3, 12).len()), (1, 1));
}

#[test]
fn a_request_by_command_clears_ok_and_tells_everybody() {
    let mut s = Scene::new(&[2]);
    s.all_up();
    s.run_ms(6000);
    say_caps(&mut s, 2, 0, true, false);
    s.got.clear();
    let cap = s.cap;
    s.input(|m, now, out| m.request_sync(now, cap, out));
    let Body::Capabilities(update) = s.internal(2)[0].body.clone() else { panic!("none") };
    assert!(!update.nodes[0].capabilities[0].1);
    assert_eq!(s.extra(2, 10).len(), 1);
    s.input(|m, now, out| m.request_sync(now, cap, out));
    assert_eq!(s.extra(2, 10).len(), 1, "one at a time");
}

#[test]
fn a_stock_node_that_had_lost_us_without_our_notice_gets_what_it_missed() {
    let mut s = Scene::new(&[2]);
    s.all_up();
    say_caps(&mut s, 2, 0, true, true);
    s.say_extra(2, 1, &end(0));
    s.run_ms(20_000);
    s.got.clear();
    say_caps(&mut s, 2, 5, true, true);
    assert!(s.log.iter().any(|e| matches!(e, Effect::ReplayWanted { peer: 2, .. })));
    assert_eq!(s.extra(2, 10).len(), 1);
    assert_eq!(s.cap_state(), CapState::Synced, "our own state is not given up for it");
}

#[test]
fn a_stock_node_that_was_restarted_unnoticed_is_told_our_tags_again() {
    let mut s = Scene::new(&[2]);
    s.all_up();
    say_caps(&mut s, 2, 0, true, true);
    s.input(|m, now, out| {
        m.activate_tag(now, "vip", 1, Reason::new("MI command", "test"), out).unwrap();
    });
    s.run_ms(20_000);
    s.got.clear();
    let nodes = vec![CapNode { node: 2, capabilities: vec![] }];
    s.say(
        2,
        Body::Capabilities(CapUpdate {
            sequence: 0,
            timestamp: 100,
            nodes,
            require_reply: true,
            path: vec![2],
            intact: true,
        }),
    );
    assert_eq!(s.extra(2, 13).len(), 1);
    // Its configuration says active, and it has announced that before it heard of us.
    s.say_extra(2, 1, &Extra::ShtagActive { tag: Bytes::from_static(b"vip") });
    assert!(s.m.table().is_active("vip", 1));
    assert_eq!(s.extra(2, 13).len(), 2);
}

#[test]
fn an_activation_after_the_stock_node_has_read_our_announcement_is_obeyed() {
    let mut s = Scene::new(&[2]);
    s.input(|m, now, out| {
        m.activate_tag(now, "vip", 1, Reason::new("MI command", "test"), out).unwrap();
    });
    s.all_up();
    assert_eq!(s.extra(2, 13).len(), 1);
    s.run_ms(500);
    // The PING behind the announcement has been answered.
    s.say_extra(2, 1, &Extra::ShtagActive { tag: Bytes::from_static(b"vip") });
    assert!(!s.m.table().is_active("vip", 1));
}

#[test]
fn what_another_node_passes_on_may_be_older_than_the_answer_that_came_at_once() {
    let mut s = Scene::new(&[2, 3]);
    s.input(|m, now, out| {
        m.activate_tag(now, "vip", 1, Reason::new("MI command", "test"), out).unwrap();
    });
    s.all_up();
    s.run_ms(1_500);
    // It was said before ours was read, and has waited between the two stock nodes.
    let said = Extra::ShtagActive { tag: Bytes::from_static(b"vip") };
    s.bytes(3, &said.encode(&Trailer::new(1, 2, 1)).unwrap());
    assert!(s.m.table().is_active("vip", 1));
    s.run_ms(6_000);
    s.bytes(3, &said.encode(&Trailer::new(1, 2, 1)).unwrap());
    assert!(!s.m.table().is_active("vip", 1), "it was told so long ago that it has read ours");
}

#[test]
fn what_is_too_large_for_one_kind_of_peer_is_told_to_the_other_and_counted() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    // Node 3 says what node 1 has said to it, and is a Tandem node from then on.
    let hello = s.got.iter().find(|p| p.0 == 3).unwrap().1.clone();
    let trailer = Some(Trailer::new(1, 3, 1));
    let hello = Packet { trailer, ..Packet::decode(hello).unwrap() }.encode().unwrap();
    s.bytes(3, &hello);
    s.got.clear();
    let told = |bytes: usize| Some(Payload { kind: 4, version: 5, bytes: vec![7; bytes].into() });
    let stamp = Stamp { time_us: 1, node: 1 };
    let sizes = [(100, 100), (100, 70_000), (70_000, 100), (70_000, 70_000)];
    let mut of_each = Vec::new();
    for (stock, tandem) in sizes {
        let (cap, change) = (s.cap, Change { stock: told(stock), tandem: told(tandem), stamp });
        s.input(|m, now, out| {
            let done = m.broadcast_change(now, cap, &change, out).unwrap();
            of_each.push((done.peers, done.tandem_peers));
            m.flush(out);
        });
    }
    assert_eq!(of_each, [(2, 0), (1, 0), (1, 0), (0, 0)]);
    let got = |to| s.got.iter().filter(|p| p.0 == to && p.1.len() > 100).count();
    assert_eq!((got(2), got(3)), (2, 2));
    assert_eq!(s.m.status().oversized, 3);
    assert!(s.complained("a change of usrloc-contact-repl of 70000 bytes fits no packet"));
    assert!(s.complained("nodes 2, 3 are not told"));
}

#[test]
fn a_sync_packet_of_a_stranger_to_us_changes_nothing() {
    let mut s = Scene::new(&[2]);
    s.all_up();
    let packet: Packet =
        Packet::decode(sync(&[b"x"]).encode(&Trailer::new(1, 5, 1)).unwrap()).unwrap();
    s.bytes(5, &packet.encode().unwrap());
    assert_eq!(s.delivered_records(), 0);
}

#[test]
fn a_large_sync_leaves_in_portions_and_lets_live_changes_pass() {
    let mut s = Scene::new(&[2]);
    s.all_up();
    s.run_ms(6000);
    s.bucket_bytes = Some(60_000);
    s.got.clear();
    s.say_extra(2, 1, &Extra::SyncReq { capability: name() });
    let sizes = |s: &Scene| s.got.iter().map(|(_, frame)| frame.len()).sum::<usize>();
    let first = sizes(&s);
    assert!(first > 100_000 && first < 300_000, "{first} bytes at once");
    let (cap, payload) = (s.cap, Bytes::from_static(b"live"));
    s.input(|m, now, out| {
        let stamp = Stamp { time_us: 1, node: 1 };
        m.broadcast(now, cap, 4, 5, &payload, stamp, out).unwrap();
        m.flush(out);
    });
    let last = Packet::decode(s.got.last().unwrap().1.clone()).unwrap();
    assert_eq!(last.payload.as_ref(), b"live", "it does not wait behind the sync");
    for _ in 0..4 {
        let before = sizes(&s);
        s.run_ms(20);
        let more = sizes(&s) - before;
        assert!(more > 100_000 && more < 300_000, "{more} bytes in a turn");
    }
    assert!(s.extra(2, 12).is_empty());
    s.run_ms(3000);
    let end = s.extra(2, 12).remove(0);
    let Extra::SyncEnd(end) = Extra::decode(12, 3, &end.payload).unwrap() else { panic!("end") };
    assert_eq!((end.chunks, s.extra(2, 11).len()), (256, 256));
}

#[test]
fn strangers_may_open_few_connections_and_have_to_speak_in_time() {
    let mut s = Scene::new(&[2]);
    s.alive.clear();
    s.log.clear();
    let closed = |s: &Scene| s.log.iter().filter(|e| matches!(e, Effect::Close { .. })).count();
    for n in 100..120 {
        let (conn, ip) = (ConnId::Accepted(n), [192, 0, 2, 1].into());
        s.input(|m, now, out| m.handle_accepted(now, conn, ip, out));
    }
    assert_eq!(closed(&s), 4, "16 are enough");
    let known = ConnId::Accepted(2);
    s.input(|m, now, out| m.handle_bytes(now, known, b"P4CK", out));
    s.log.clear();
    s.run_ms(9_000);
    let drips = |s: &Scene| {
        let accepted = |e: &&Effect| matches!(e, Effect::Close { conn: ConnId::Accepted(_) });
        s.log.iter().filter(accepted).count()
    };
    assert_eq!(drips(&s), 0);
    s.run_ms(3_000);
    // The strangers, the four of the scene that are no nodes, and the node that drips.
    assert_eq!(drips(&s), 16 + 4 + 1);
}

#[test]
fn a_stream_that_nobody_knows_is_closed_so_that_its_peer_opens_another() {
    let mut s = Scene::new(&[2]);
    s.all_up();
    s.log.clear();
    let conn = ConnId::Accepted(900);
    s.input(|m, now, out| m.handle_bytes(now, conn, b"P4CK", out));
    assert_eq!(s.log.len(), 1);
    assert!(matches!(&s.log[0], Effect::Close { conn: it } if *it == conn), "{:?}", s.log);
}

#[test]
fn lies_about_lengths_and_counts_cost_a_line_and_nothing_else() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    let before = s.m.status().refused;
    let good = sync(&[b"a"]).encode(&Trailer::new(1, 2, 1)).unwrap();
    for at in 8..good.len() {
        for bits in [0x01, 0x80, 0xff] {
            let mut bad = good.to_vec();
            bad[at] ^= bits;
            s.bytes(2, &bad);
        }
    }
    assert!(s.m.status().refused > before);
    assert_eq!((s.link(2), s.link(3)), ("Up", "Up"));
    // A length that cannot be ends the connection, and the node goes on with the next one.
    let mut bad = good.to_vec();
    bad[7] = 0xff;
    s.log.clear();
    s.bytes(2, &bad);
    assert!(s.log.iter().any(|e| matches!(e, Effect::Close { conn: ConnId::Accepted(2) })));
    s.say(3, Body::Ping { want_list: false });
    assert_eq!(s.link(3), "Up");
}
