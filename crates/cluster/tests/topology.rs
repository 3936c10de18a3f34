//! Admission, links, topology and flooding, rule by rule.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::scene;

use bytes::Bytes;
use scene::{Scene, Stand as _, ip};
use tandem_bin::clusterer::{
    Body, CapNode, CapUpdate, Description, Extra, FullTopUpdate, GenericMsg, LinkStateUpdate,
    NodeBlock, NodeDescription,
};
use tandem_bin::{NodeId, Packet, Trailer};
use tandem_cluster::*;

fn link_state(sequence: i32, neighbour: NodeId, up: bool, path: &[NodeId]) -> Body {
    let path = path.to_vec();
    Body::LinkState(LinkStateUpdate { sequence, timestamp: 9, neighbour, up, path })
}

fn caps(sequence: i32, path: &[NodeId]) -> CapUpdate {
    let name = Bytes::from_static(scene::CAP.as_bytes());
    CapUpdate {
        sequence,
        timestamp: 9,
        nodes: vec![CapNode { node: path[0], capabilities: vec![(name, true)] }],
        require_reply: true,
        path: path.to_vec(),
        intact: true,
    }
}

fn block(node: NodeId, ls_sequence: i32, neighbours: &[NodeId]) -> NodeBlock {
    let neighbours = neighbours.to_vec();
    NodeBlock { node, description: None, ls_sequence, ls_timestamp: 9, neighbours }
}

fn full_top(sequence: i32, nodes: Vec<NodeBlock>, path: &[NodeId]) -> Body {
    Body::FullTop(FullTopUpdate { sequence, timestamp: 9, nodes, path: path.to_vec() })
}

fn message() -> Extra {
    let text = Bytes::from_static(b"hello");
    Extra::Generic(GenericMsg { request: true, exchange_tag: text.clone(), message: text })
}

#[test]
fn own_ids_unknown_clusters_and_disabled_nodes_are_dropped() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    s.got.clear();
    s.say_from(2, 1, Body::Ping { want_list: true });
    assert!(s.complained("uses our node id 1"));
    let other = message().encode(&Trailer::new(9, 2, 1)).unwrap();
    s.bytes(2, &other);
    assert!(!s.log.iter().any(|e| matches!(e, Effect::Generic { .. })));
    s.input(|m, now, out| m.set_node_status(now, 1, 2, false, out).unwrap());
    s.got.clear();
    s.say(2, Body::Ping { want_list: true });
    s.say_extra(2, 1, &message());
    assert!(s.got.iter().all(|(to, _)| *to != 2));
    assert!(!s.log.iter().any(|e| matches!(e, Effect::Generic { .. })));
    // This node itself: silent until it is enabled again.
    s.input(|m, now, out| m.set_node_status(now, 1, 1, false, out).unwrap());
    s.got.clear();
    s.say(3, Body::Ping { want_list: true });
    s.run_ms(5000);
    assert!(s.got.is_empty());
    s.input(|m, now, out| m.set_node_status(now, 1, 1, true, out).unwrap());
    s.run_ms(1100);
    assert_eq!(s.link(3), "Up");
}

#[test]
fn strangers_are_asked_who_they_are_in_script_mode_and_ignored_in_database_mode() {
    let mut s = Scene::new(&[2]);
    s.say(5, Body::Ping { want_list: true });
    assert_eq!(s.internal(5).last().unwrap().body, Body::UnknownId);
    s.got.clear();
    s.say(5, link_state(0, 2, true, &[5]));
    s.say_extra(5, 1, &message());
    assert!(s.got.is_empty());
    let mut s = Scene::with(&[2], |c| c.db_mode = true);
    s.got.clear();
    s.say(5, Body::Ping { want_list: true });
    assert!(s.got.is_empty());
    assert!(s.complained("unknown node 5"));
}

#[test]
fn a_relayed_packet_may_come_from_the_address_of_any_node_and_a_ping_may_not() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    s.got.clear();
    s.say_from(3, 2, Body::Ping { want_list: false });
    assert_eq!(s.pongs(2), 0);
    let bytes = message().encode(&Trailer::new(1, 2, 1)).unwrap();
    s.bytes(3, &bytes);
    assert!(s.log.iter().any(|e| matches!(e, Effect::Generic { source: 2, .. })));
    s.log.clear();
    s.bytes(6, &bytes);
    assert!(s.log.iter().all(|e| !matches!(e, Effect::Generic { .. })));
}

#[test]
fn a_disabled_capability_takes_nothing_and_says_so() {
    let mut s = Scene::new(&[2]);
    s.all_up();
    s.run_ms(6000);
    let cap = s.cap;
    s.got.clear();
    s.input(|m, now, out| m.set_capability_status(now, cap, false, out));
    let Body::Capabilities(update) = s.internal(2)[0].body.clone() else { panic!("no update") };
    assert!(!update.nodes[0].capabilities[0].1 && !update.require_reply);
    s.module(2, 1);
    assert_eq!(s.delivered(), 0);
    let name = Bytes::from_static(scene::CAP.as_bytes());
    s.say_extra(2, 1, &Extra::SyncReq { capability: name });
    assert!(s.extra(2, 12).is_empty());
    // Enabled again it is synced when it has been synced, not before.
    s.input(|m, now, out| m.set_capability_status(now, cap, true, out));
    assert_eq!(s.cap_state(), CapState::Pending);
    s.module(2, 1);
    assert_eq!(s.delivered(), 1);
}

#[test]
fn a_packet_of_a_node_that_counts_as_down_has_it_pinged_again() {
    let mut s = Scene::new(&[2]);
    s.alive.clear();
    s.run_ms(6000);
    assert_eq!(s.link(2), "Down");
    s.module(2, 1);
    assert_eq!((s.link(2), s.delivered()), ("Probe", 1));
}

#[test]
fn packets_for_others_are_passed_on_byte_for_byte() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    s.got.clear();
    let module = s.module(2, 3);
    let extra = message().encode(&Trailer::new(1, 2, 3)).unwrap();
    s.bytes(2, &extra);
    let passed: Vec<_> = s.got.iter().map(|(to, frame)| (*to, frame.clone())).collect();
    assert_eq!(passed, [(3, module), (3, extra)]);
    assert_eq!(s.delivered(), 0);
}

#[test]
fn without_rerouting_only_direct_links_are_used_and_nothing_is_passed_on() {
    let mut s = Scene::with(&[2, 3], |c| c.rerouting = false);
    s.all_up();
    s.say(2, full_top(0, vec![block(2, 0, &[1, 3])], &[2]));
    s.got.clear();
    let extra = message().encode(&Trailer::new(1, 2, 3)).unwrap();
    s.bytes(2, &extra);
    assert!(s.got.is_empty());
    s.alive = vec![2];
    s.run_ms(10_000);
    let nodes = &s.m.status().clusters[0].nodes;
    assert_eq!((nodes[1].reachable, nodes[1].next_hop), (false, None));
    let mut with = Scene::new(&[2, 3]);
    with.all_up();
    with.say(2, full_top(0, vec![block(2, 0, &[1, 3])], &[2]));
    with.alive = vec![2];
    with.run_ms(10_000);
    assert_eq!(with.m.status().clusters[0].nodes[1].next_hop, Some(2));
}

#[test]
fn a_packet_over_a_bridge_may_carry_pipes_only() {
    let mut s = Scene::new(&[2]);
    let packet = |capability: &'static [u8]| Packet {
        capability: Bytes::from_static(capability),
        packet_type: 4,
        version: 5,
        payload: Bytes::from_static(b"live"),
        trailer: Some(Trailer { bridge: Some(7), ..Trailer::new(1, 9, tandem_bin::BRIDGED) }),
    };
    s.bytes(6, &packet(scene::CAP.as_bytes()).encode().unwrap());
    s.bytes(6, &packet(b"ratelimit-pipe-repl").encode().unwrap());
    assert_eq!(s.delivered(), 0);
}

#[test]
fn pings_are_answered_whatever_the_state_of_the_link() {
    let mut s = Scene::new(&[2]);
    s.say(2, Body::Ping { want_list: false });
    assert_eq!(s.pongs(2), 1);
    s.alive.clear();
    s.run_ms(6000);
    assert_eq!(s.link(2), "Down");
    s.got.clear();
    s.say(2, Body::Ping { want_list: false });
    assert_eq!(s.pongs(2), 1);
    // And a node that counts as down is pinged at once.
    let is_ping = |frame: &Bytes| Packet::decode(frame.clone()).unwrap().packet_type == 0;
    assert!(s.got.iter().any(|(_, frame)| is_ping(frame)));
}

#[test]
fn steady_traffic_does_not_hide_a_dead_peer() {
    let mut s = Scene::new(&[2]);
    s.all_up();
    s.run_ms(6000);
    s.alive.clear();
    let (cap, payload) = (s.cap, Bytes::from_static(b"x"));
    for _ in 0..60 {
        let stamp = Stamp { time_us: 1, node: 1 };
        s.input(|m, now, out| {
            m.broadcast(now, cap, 4, 5, &payload, stamp, out).unwrap();
            m.flush(out);
        });
        s.run_ms(100);
    }
    assert_ne!(s.link(2), "Up");
}

#[test]
fn a_link_comes_up_in_the_order_of_the_protocol() {
    let mut s = Scene::new(&[2, 3]);
    s.alive = vec![2];
    s.say(2, Body::Ping { want_list: true });
    s.run_ms(1100);
    s.got.clear();
    s.alive = vec![2, 3];
    s.say(3, Body::Ping { want_list: true });
    s.run_ms(3100);
    assert_eq!(s.link(3), "Up");
    let Body::LinkState(update) = s.internal(2)[0].body.clone() else { panic!("no LS_UPDATE") };
    assert_eq!((update.neighbour, update.up, update.path), (3, true, vec![1]));
    let to_3 = s.internal(3);
    let Body::FullTop(top) = &to_3[0].body else { panic!("{:?}", to_3[0]) };
    assert_eq!((top.nodes[0].node, top.nodes[0].description.is_none()), (1, true));
    assert_eq!(top.nodes[0].neighbours, [2, 3]);
    assert!(top.nodes.iter().all(|b| b.node != 3), "the receiver is left out");
    assert_eq!(top.nodes[1].node, 2);
    assert!(top.nodes[1].description.is_some(), "it did not list node 2");
    assert_eq!(top.nodes[1].ls_sequence, -1);
    let Body::Capabilities(caps) = &to_3[1].body else { panic!("{:?}", to_3[1]) };
    assert!(caps.require_reply);
}

#[test]
fn descriptions_are_for_nodes_that_the_last_list_did_not_have_even_if_it_is_empty() {
    let mut s = Scene::new(&[2, 3]);
    s.alive = vec![3];
    s.run_ms(1100);
    s.say(2, Body::Ping { want_list: true });
    s.got.clear();
    // The answer lists node 3.
    s.now = s.now.plus_ns(2000 * tandem_clock::MS);
    s.input(|m, now, out| m.handle_timeout(now, out));
    s.say(2, Body::Pong { nodes: vec![3] });
    assert_eq!(s.link(2), "Up");
    let described = |s: &Scene| {
        let tops = s.internal(2);
        let top = tops.iter().rev().find_map(|p| match &p.body {
            Body::FullTop(top) => Some(top.clone()),
            _ => None,
        });
        top.unwrap().nodes.iter().any(|b| b.node == 3 && b.description.is_some())
    };
    assert!(!described(&s));
    // It is restarted and knows nobody: the next list is empty.
    s.run_ms(10_000);
    assert_ne!(s.link(2), "Up");
    s.alive = vec![2, 3];
    s.say(2, Body::Ping { want_list: true });
    s.run_ms(2100);
    assert_eq!(s.link(2), "Up");
    assert!(described(&s));
}

#[test]
fn neighbours_of_a_third_node_never_contain_us() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    s.say(3, full_top(0, vec![block(3, 5, &[1, 2])], &[3]));
    s.alive = vec![3];
    s.run_ms(10_000);
    s.alive = vec![2, 3];
    s.got.clear();
    s.say(2, Body::Ping { want_list: true });
    s.run_ms(2100);
    let tops = s.internal(2);
    let top = tops.iter().find_map(|p| match &p.body {
        Body::FullTop(top) => Some(top),
        _ => None,
    });
    let third = top.unwrap().nodes.iter().find(|b| b.node == 3).unwrap();
    assert_eq!(third.neighbours, [2]);
}

#[test]
fn updates_are_flooded_with_a_longer_path_and_only_while_they_are_news() {
    let mut s = Scene::new(&[2, 3, 4]);
    s.all_up();
    s.got.clear();
    s.say(2, link_state(3, 4, false, &[2]));
    for to in [3, 4] {
        let Body::LinkState(update) = s.internal(to)[0].body.clone() else { panic!("{to}") };
        assert_eq!((update.path, update.sequence), (vec![2, 1], 3));
        assert_eq!(s.internal(to)[0].source, 2);
    }
    assert!(s.internal(2).is_empty());
    s.got.clear();
    s.say(2, link_state(3, 4, true, &[2]));
    s.say(2, link_state(2, 4, true, &[2]));
    assert!(s.got.is_empty(), "not newer");
    s.say(2, link_state(4, 4, true, &[2, 3]));
    assert!(s.internal(3).is_empty() && s.internal(4).len() == 1, "3 has seen it");
    s.got.clear();
    let long: Vec<NodeId> = [2].into_iter().chain(100..125).collect();
    s.say(2, link_state(5, 4, true, &long));
    assert!(s.got.is_empty(), "it has come too far");
    // Sequence 0 with a later timestamp: the originator was restarted.
    s.say(2, link_state(0, 4, true, &[2]));
    assert_eq!(s.internal(4).len(), 1);
}

#[test]
fn capabilities_are_flooded_without_the_wish_for_an_answer_and_answered_once() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    s.got.clear();
    s.say(2, Body::Capabilities(caps(0, &[2])));
    let Body::Capabilities(passed) = s.internal(3)[0].body.clone() else { panic!("none") };
    assert_eq!((passed.require_reply, passed.path), (false, vec![2, 1]));
    let answer = s.internal(2);
    let Body::Capabilities(answer) = &answer[0].body else { panic!("{answer:?}") };
    assert!(!answer.require_reply);
    s.got.clear();
    // One node more than it says, as stock nodes send it at times: used as far as it goes,
    // neither answered nor passed on.
    let mut update = caps(1, &[2]);
    update.nodes[0].capabilities[0].1 = false;
    update.nodes.push(CapNode { node: 3, capabilities: vec![] });
    let body = Body::Capabilities(update);
    let internal = tandem_bin::clusterer::Internal { cluster: 1, source: 2, body };
    let mut bytes = internal.encode().unwrap().to_vec();
    bytes[50] = 1;
    s.bytes(2, &bytes);
    assert!(s.got.is_empty());
}

#[test]
fn what_others_say_about_our_links_is_checked_and_not_believed() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    s.say(2, link_state(0, 1, false, &[2]));
    assert_eq!(s.link(2), "Probe");
    s.alive = vec![3];
    s.run_ms(8000);
    assert_eq!(s.link(2), "Down");
    s.say(2, link_state(1, 1, true, &[2]));
    assert_eq!(s.link(2), "Probe");
}

#[test]
fn nodes_are_learnt_from_descriptions_of_themselves_and_of_others() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    s.got.clear();
    let description = |n: u32| Description {
        url: Bytes::from(format!("bin:{}:5566", ip(n))),
        sip_addr: Bytes::from_static(b"10.0.0.5:5060"),
        priority: 3,
        ping_retries: 3,
    };
    let whole = NodeDescription { description: description(5), path: vec![5] };
    s.say(5, Body::Description(whole.clone()));
    for to in [2, 3] {
        let Body::Description(passed) = s.internal(to)[0].body.clone() else { panic!("{to}") };
        assert_eq!(passed.path, [5, 1]);
    }
    s.got.clear();
    s.say(5, Body::Description(whole));
    assert!(s.got.is_empty(), "known: dropped, not flooded");
    s.alive.push(5);
    s.run_ms(1100);
    assert_eq!(s.link(5), "Up");
    // A topology of a neighbour describes another one.
    let known = NodeBlock { description: Some(description(6)), ..block(6, 0, &[2]) };
    s.say(2, full_top(0, vec![block(2, 1, &[6]), known], &[2]));
    let node_6 = s.m.status().clusters[0].nodes.iter().find(|n| n.node == 6).cloned().unwrap();
    assert_eq!(
        (node_6.url.as_str(), node_6.sip_addr.as_str()),
        ("bin:10.0.0.6:5566", "10.0.0.5:5060")
    );
    assert_eq!(node_6.next_hop, Some(2));
}

#[test]
fn whoever_does_not_know_us_is_told_who_we_are() {
    let mut s = Scene::new(&[2]);
    s.all_up();
    s.got.clear();
    s.say(2, Body::UnknownId);
    let Body::Description(d) = s.internal(2)[0].body.clone() else { panic!("none") };
    assert_eq!((d.description.url.as_ref(), d.path), (&b"bin:10.0.0.1:5566"[..], vec![1]));
    assert_eq!(s.link(2), "Probe");
}

#[test]
fn a_removed_node_is_forgotten_and_the_victim_falls_silent() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    s.say_extra(2, 1, &Extra::RemoveNode { node: 3 });
    assert_eq!(s.link(3), "");
    s.got.clear();
    s.say_extra(2, 1, &Extra::RemoveNode { node: 1 });
    s.run_ms(5000);
    let pings = s.got.iter().filter(|(_, f)| Packet::decode(f.clone()).unwrap().packet_type == 0);
    assert_eq!(pings.count(), 0);
    // By command: everybody is told, the victim too.
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    s.got.clear();
    s.input(|m, now, out| m.remove_node(now, 1, 3, out).unwrap());
    assert_eq!((s.extra(2, 6).len(), s.extra(3, 6).len()), (1, 1));
    let mut s = Scene::with(&[2, 3], |c| c.db_mode = true);
    s.all_up();
    s.say_extra(2, 1, &Extra::RemoveNode { node: 3 });
    assert_eq!(s.link(3), "Up", "the database says who is a node");
}

#[test]
fn a_new_node_list_replaces_the_old_one() {
    let mut s = Scene::with(&[2, 3], |c| c.db_mode = true);
    s.all_up();
    let peer = |id| NodeConfig::new(id, (ip(id), 5566).into());
    let mut list = ClusterConfig::new(1, peer(1));
    list.peers = vec![NodeConfig { description: "second".into(), ..peer(2) }, peer(4)];
    s.input(|m, now, out| m.reload(now, vec![list.clone()], out));
    assert_eq!((s.link(2), s.link(3), s.link(4)), ("Up", "", "Probe"));
    assert_eq!(s.m.status().clusters[0].nodes[0].description, "second");
    s.alive.push(4);
    s.run_ms(1100);
    assert_eq!(s.link(4), "Up");
    list.peers[0].address = (ip(5), 5566).into();
    list.peers[1].enabled = false;
    s.input(|m, now, out| m.reload(now, vec![list], out));
    assert_eq!((s.link(2), s.link(4)), ("Probe", "Down"));
}

/// A node that was started again hears of the link between two others from one of them, who leaves
/// itself out of what it says of the other: they reach each other all the same.
#[test]
fn who_names_a_neighbour_is_reached_through_it() {
    let mut s = Scene::new(&[2, 3]);
    s.all_up();
    s.say(2, full_top(7, vec![block(2, 4, &[1, 3]), block(3, 6, &[1])], &[2]));
    s.got.clear();
    let up = |s: &Scene| {
        let told = s.log.iter().rev();
        told.filter_map(|e| match e {
            Effect::NodeState { node: 2, up, .. } => Some(*up),
            _ => None,
        })
        .next()
    };
    assert_eq!(up(&s), Some(true));
    // Its PONGs are missing; the other node still speaks.
    s.alive = vec![3];
    s.run_ms(6_000);
    assert_ne!(s.link(2), "Up");
    assert_eq!(up(&s), Some(true), "by way of node 3");
    s.say(3, link_state(7, 2, false, &[3]));
    assert_eq!(up(&s), Some(false));
}

/// A stock node that has not missed us says nothing of its links after our start.
#[test]
fn whose_packets_a_silent_node_passes_on_is_reached_through_it() {
    let mut s = Scene::new(&[2, 3]);
    s.alive = vec![3];
    s.run_ms(10_000);
    let next_hop = |s: &Scene| s.m.status().clusters[0].nodes[0].next_hop;
    assert_eq!((next_hop(&s), s.link(3)), (None, "Up"));
    let passed = message().encode(&Trailer::new(1, 2, 1)).unwrap();
    s.bytes(3, &passed);
    assert_eq!(next_hop(&s), Some(3));
    // It speaks, and what it passes on late counts no more.
    s.say(3, link_state(7, 2, false, &[3]));
    assert_eq!(next_hop(&s), None);
    s.bytes(3, &passed);
    assert_eq!(next_hop(&s), None);
}
