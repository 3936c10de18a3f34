//! Two and three Tandem nodes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::world;

use bytes::Bytes;
use proptest::prelude::*;
use tandem_cluster::*;
use world::*;

fn pair() -> World {
    let mut w = World::new(2);
    w.start(1);
    w.run_ms(2500);
    w.start(2);
    w.run_ms(8000);
    w
}

#[test]
fn a_pair_boots_syncs_and_is_measured_in_step() {
    let w = pair();
    assert_eq!(w.link(1, 2).link_state, "Up");
    assert_eq!(w.link(2, 1).next_hop, Some(1));
    assert!(matches!(w.link(1, 2).kind, PeerKind::Tandem { incarnation: 2001, .. }));
    assert_eq!((w.cap_state(1), w.cap_state(2)), (CapState::Synced, CapState::Synced));
    let reports = w.reports(1);
    assert_eq!(reports[0], "Sync request postponed! (no donor available)");
    assert!(reports[1].contains("=> fallback to synced state"));
    let reports = w.reports(2);
    assert_eq!(
        reports[1..],
        [
            "Sync requested from node [1]".to_owned(),
            "Sync completed, received [0] chunks".to_owned()
        ]
    );
    w.nodes[&1].sent.iter().for_each(|(name, _)| assert_ne!(name, CAP));
}

#[test]
fn hello_is_the_first_packet_and_the_boot_sequence_is_that_of_the_protocol() {
    let w = pair();
    let sent: Vec<_> = w.nodes[&1].sent.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    assert_eq!(sent[0], ("tandem", 1));
    let internal: Vec<u32> =
        sent.iter().filter(|(name, _)| *name == "clusterer-internal").map(|s| s.1).collect();
    let position = |kind| internal.iter().position(|&k| k == kind).unwrap();
    // PING, then on the PONG the topology, then the capabilities.
    let first = position(3);
    assert!(position(0) < first, "{internal:?}");
    assert_eq!(internal[first..first + 2], [3, 9], "{internal:?}");
}

#[test]
fn changes_are_applied_acknowledged_and_stamped() {
    let mut w = pair();
    w.run_ms(12_000);
    let result = w.write(1, 7, 70).unwrap();
    assert_eq!((result.peers, result.tandem_peers), (1, 1));
    w.run_ms(10);
    assert_eq!(w.nodes[&2].records, w.nodes[&1].records);
    let acked = w.nodes[&1]
        .log
        .iter()
        .any(|e| matches!(e, Effect::Acked { peer: 2, mark, .. } if *mark == result.mark));
    assert!(acked);
    assert_eq!(w.link(1, 2).unacked, 0);
}

#[test]
fn a_joining_node_pulls_everything_and_counts() {
    let mut w = World::new(2);
    w.start(1);
    w.run_ms(7000);
    for key in 0..200 {
        w.write(1, key, key);
    }
    w.start(2);
    w.run_ms(4000);
    assert_eq!(w.nodes[&2].records, w.nodes[&1].records);
    assert_eq!(w.reports(2).last().unwrap(), "Sync completed, received [200] chunks");
    let step = &w.link(1, 2).steps[0].step;
    assert!(matches!(step, Step::InStep { .. }), "{step:?}");
}

#[test]
fn what_was_lost_in_a_partition_is_repaired_in_both_directions() {
    let mut w = pair();
    w.write(1, 1, 10);
    w.run_ms(10);
    w.cut = vec![(1, 2)];
    w.write(1, 2, 20);
    w.write(2, 3, 30);
    w.run_ms(20_000);
    assert_eq!(w.link(1, 2).link_state, "Down");
    assert_eq!(w.write(1, 4, 40).unwrap().tandem_peers, 0);
    w.cut.clear();
    w.run_ms(70_000);
    assert_eq!(w.nodes[&1].records, w.nodes[&2].records);
    assert_eq!(w.nodes[&1].records.len(), 4);
    assert!(matches!(w.link(1, 2).steps[0].step, Step::InStep { .. }));
    assert!(!w.link(1, 2).behind && !w.link(2, 1).behind);
}

#[test]
fn activation_moves_the_tag_and_duty_with_it() {
    let mut w = pair();
    w.activate(1);
    w.run_ms(100);
    assert_eq!(w.holders(), [1]);
    let table = w.machine(1).table();
    let pledge = table.duty("vip", 1).unwrap().pledge();
    w.activate(2);
    w.run_ms(100);
    assert_eq!(w.holders(), [2]);
    assert!(table.redeem(&pledge).is_none());
    let log = &w.nodes[&2].log;
    let told = |e: &Effect| {
        matches!(e, Effect::Activated { told, not_told, .. }
        if told == &[1] && not_told.is_empty())
    };
    assert!(log.iter().any(told));
    let reason = |e: &Effect| {
        matches!(e, Effect::TagChanged { active: false, reason, .. }
        if reason.text == "cluster broadcast from 2")
    };
    assert!(w.nodes[&1].log.iter().any(reason));
}

#[test]
fn nobody_is_told_before_the_claim_is_on_disk_and_a_bad_disk_does_not_stop_a_failover() {
    let mut w = pair();
    w.nodes.get_mut(&2).unwrap().disk_ok = false;
    w.activate(2);
    let log = &w.nodes[&2].log;
    assert!(!log.iter().any(|e| matches!(e, Effect::Activated { .. })));
    assert_eq!(w.holders(), [2]);
    w.run_ms(100);
    let log = &w.nodes[&2].log;
    assert!(log.iter().any(|e| matches!(e, Effect::Activated { .. })));
    assert!(log.iter().any(
        |e| matches!(e, Effect::Log { level: Level::Warning, text } if text.contains("state file"))
    ));
}

#[test]
fn both_activated_in_a_split_leave_one_holder_after_the_heal() {
    let mut w = pair();
    w.activate(1);
    w.run_ms(100);
    w.cut = vec![(1, 2)];
    w.run_ms(15_000);
    w.activate(2);
    w.run_ms(5000);
    assert_eq!(w.holders(), [1, 2]);
    w.cut.clear();
    w.run_ms(70_000);
    assert_eq!(w.holders(), [2]);
}

#[test]
fn the_host_with_the_service_address_wins_the_meeting() {
    let mut w = World::new(2);
    let vip = ip(99);
    for id in 1..=2 {
        w.nodes.get_mut(&id).unwrap().addresses.push((vip, id == 1));
    }
    w.start(1);
    w.start(2);
    w.run_ms(10_000);
    w.activate(1);
    w.run_ms(100);
    w.cut = vec![(1, 2)];
    w.run_ms(15_000);
    w.activate(2);
    w.run_ms(100);
    w.cut.clear();
    w.run_ms(70_000);
    assert_eq!(w.holders(), [1]);
}

#[test]
fn an_address_that_follows_late_moves_the_tag_with_it() {
    let mut w = World::new(2);
    let vip = ip(99);
    for id in 1..=2 {
        w.nodes.get_mut(&id).unwrap().addresses.push((vip, true));
    }
    w.start(1);
    w.start(2);
    w.run_ms(10_000);
    w.cut = vec![(1, 2)];
    w.run_ms(15_000);
    w.activate(1);
    w.run_ms(100);
    w.activate(2);
    w.run_ms(100);
    w.cut.clear();
    while w.holders().len() != 1 {
        w.run_ms(100);
    }
    assert_eq!(w.holders(), [2]);
    w.run_ms(2000);
    w.step(2, |m, now, out| m.set_addresses(now, &[(ip(2), true), (vip, false)], out));
    w.run_ms(500);
    assert_eq!(w.holders(), [1]);
}

#[test]
fn an_address_that_moves_during_a_cut_is_told_when_the_peer_is_back() {
    let mut w = World::new(2);
    let vip = ip(99);
    for id in 1..=2 {
        w.nodes.get_mut(&id).unwrap().addresses.push((vip, true));
    }
    w.start(1);
    w.start(2);
    w.run_ms(10_000);
    w.activate(1);
    w.run_ms(100);
    w.cut = vec![(1, 2)];
    // Short enough for the streams to outlive it.
    while w.link(2, 1).reachable || w.link(1, 2).reachable {
        w.run_ms(100);
    }
    w.activate(2);
    w.run_ms(100);
    w.step(2, |m, now, out| m.set_addresses(now, &[(ip(2), true), (vip, false)], out));
    w.run_ms(100);
    w.cut.clear();
    w.run_ms(70_000);
    assert_eq!(w.holders(), [1]);
}

#[test]
fn an_address_that_moves_while_the_peer_comes_back_takes_the_tag_with_it() {
    // At whatever moment: before the streams carry anything, between the claims and the link
    // being up on one side, or on both, which ping each other at other times.
    for (phase_ms, delay_ms) in
        (0..1000).step_by(180).flat_map(|phase| (0..1000).step_by(50).map(move |d| (phase, d)))
    {
        let mut w = World::new(2);
        let vip = ip(99);
        for id in 1..=2 {
            w.nodes.get_mut(&id).unwrap().addresses.push((vip, true));
        }
        w.start(1);
        w.run_ms(phase_ms);
        w.start(2);
        w.run_ms(5_000);
        w.activate(1);
        w.run_ms(100);
        w.cut = vec![(1, 2)];
        while w.link(2, 1).reachable || w.link(1, 2).reachable {
            w.run_ms(100);
        }
        w.activate(2);
        w.run_ms(20);
        w.cut.clear();
        w.run_ms(delay_ms);
        w.step(2, |m, now, out| m.set_addresses(now, &[(ip(2), true), (vip, false)], out));
        w.run_ms(15_000);
        assert_eq!(w.holders(), [1], "moved {delay_ms} ms after the heal, phase {phase_ms} ms");
    }
}

#[test]
fn the_tag_ends_where_the_address_ends_however_cuts_and_hooks_fall() {
    for seed in 0..120 {
        let mut chance = tandem_clock::Chance::from_number(seed);
        let mut w = World::new(2);
        w.watchful = true;
        let vip = ip(99);
        for id in 1..=2 {
            w.nodes.get_mut(&id).unwrap().addresses.push((vip, id == 1));
        }
        w.start(1);
        w.run_ms(u64::from(chance.below(1000)));
        w.start(2);
        w.run_ms(5_000);
        w.activate(1);
        w.run_ms(100);
        let mut told = Vec::new();
        for _ in 0..3 {
            let mut pause = |w: &mut World, most: u32| {
                let ms = u64::from(chance.below(most));
                told.push(ms);
                w.run_ms(ms);
            };
            // As keepalived does it: the other machine misses the first, takes the address, runs
            // its hook, and gives the address back when it hears the first one again.
            w.cut = vec![(1, 2)];
            pause(&mut w, 2500);
            w.step(2, |m, now, out| m.set_addresses(now, &[(ip(2), true), (vip, true)], out));
            pause(&mut w, 50);
            w.activate(2);
            pause(&mut w, 2500);
            w.cut.clear();
            pause(&mut w, 300);
            w.step(2, |m, now, out| m.set_addresses(now, &[(ip(2), true), (vip, false)], out));
            pause(&mut w, 4_000);
        }
        w.run_ms(20_000);
        assert_eq!(w.holders(), [1], "seed {seed}: {told:?}");
    }
}

#[test]
fn a_restarted_ex_active_stays_backup_also_if_its_file_says_active() {
    let mut w = World::new(2);
    w.nodes.get_mut(&1).unwrap().active_in_file = true;
    w.start(1);
    w.start(2);
    w.run_ms(10_000);
    assert_eq!(w.holders(), [1]);
    w.crash(1);
    w.run_ms(3000);
    w.activate(2);
    w.run_ms(3000);
    w.start(1);
    let mut seen = Vec::new();
    for _ in 0..80 {
        w.run_ms(100);
        seen.extend(w.holders());
    }
    assert!(seen.iter().all(|&id| id == 2), "{seen:?}");
    // Without its state file as well.
    w.crash(1);
    w.nodes.get_mut(&1).unwrap().saved = None;
    w.run_ms(3000);
    w.start(1);
    w.run_ms(8000);
    assert_eq!(w.holders(), [2]);
}

#[test]
fn the_last_holder_resumes_its_claim_after_a_restart_of_everything() {
    let mut w = pair();
    w.activate(2);
    w.run_ms(100);
    w.crash(1);
    w.crash(2);
    w.run_ms(2000);
    w.start(2);
    w.run_ms(500);
    assert!(w.holders().is_empty());
    w.run_ms(1000);
    assert_eq!(w.holders(), [2]);
    w.start(1);
    w.run_ms(8000);
    assert_eq!(w.holders(), [2]);
}

#[test]
fn packets_of_a_cut_link_go_through_the_third_node() {
    let mut w = World::new(3);
    (1..=3).for_each(|id| w.start(id));
    w.run_ms(15_000);
    w.cut = vec![(1, 3)];
    w.run_ms(10_000);
    assert_ne!(w.link(1, 3).link_state, "Up");
    assert_eq!(w.link(1, 3).next_hop, Some(2));
    w.write(1, 9, 90);
    w.activate(3);
    w.run_ms(100);
    assert_eq!(w.nodes[&3].records[&9].1, 90);
    assert_eq!(w.holders(), [3]);
    w.activate(1);
    w.run_ms(100);
    assert_eq!(w.holders(), [1]);
}

#[test]
fn a_full_log_puts_the_peer_behind_and_digests_bring_it_back() {
    let mut w = World::new(2);
    w.log_bytes_max = 2000;
    w.start(1);
    w.start(2);
    w.run_ms(12_000);
    let gated = (0..200).filter(|&key| w.write(1, key, key).unwrap().tandem_peers == 1).count();
    assert!((1..100).contains(&gated), "{gated}");
    assert!(w.link(1, 2).behind);
    w.run_ms(5000);
    assert_eq!(w.nodes[&2].records.len(), 200);
    assert_eq!(w.nodes[&2].records, w.nodes[&1].records);
    assert!(!w.link(1, 2).behind);
    assert_eq!(w.write(1, 5, 6).unwrap().tandem_peers, 1);
}

#[derive(Clone, Debug)]
enum Act {
    Run(u64),
    Activate(u32),
    Crash(u32),
    Start(u32),
    Cut(u32, u32),
    Heal,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1u64..5000).prop_map(Act::Run),
        3 => (1u32..4).prop_map(Act::Activate),
        1 => (1u32..4).prop_map(Act::Crash),
        2 => (1u32..4).prop_map(Act::Start),
        1 => (1u32..4, 1u32..4).prop_map(|(a, b)| Act::Cut(a, b)),
        1 => Just(Act::Heal),
    ]
}

#[test]
fn a_connection_that_swallows_everything_does_not_keep_the_link_down() {
    let mut w = pair();
    w.activate(1);
    w.crash(2);
    w.start(2);
    w.cut = vec![(1, 2)];
    w.run_ms(1);
    w.cut.clear();
    w.run_ms(70_000);
    assert_eq!(w.link(2, 1).link_state, "Up");
    assert_eq!(w.link(1, 2).link_state, "Up");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48), ..ProptestConfig::default() })]

    #[test]
    fn after_any_trouble_there_is_one_holder_and_one_state(
        acts in prop::collection::vec(act(), 1..25),
    ) {
        let mut w = World::new(3);
        (1..=3).for_each(|id| w.start(id));
        w.run_ms(9000);
        w.activate(1);
        w.run_ms(100);
        for (n, act) in acts.into_iter().enumerate() {
            match act {
                Act::Run(ms) => w.run_ms(ms),
                Act::Activate(id) => w.activate(id),
                // At least one node lives: nobody remembers records otherwise.
                Act::Crash(id) if w.nodes.values().filter(|n| n.machine.is_some()).count() > 1 => {
                    w.crash(id);
                }
                Act::Start(id) if w.nodes[&id].machine.is_none() => w.start(id),
                Act::Cut(a, b) if a != b => w.cut.push((a, b)),
                Act::Heal => w.cut.clear(),
                _ => {}
            }
            if let Some(id) = (1..=3).find(|id| w.nodes[id].machine.is_some()) {
                w.write(id, n as u8, n as u8);
            }
        }
        w.cut.clear();
        w.activate((1..=3).find(|id| w.nodes[id].machine.is_some()).unwrap());
        for id in 1..=3 {
            if w.nodes[&id].machine.is_none() {
                w.start(id);
            }
        }
        w.run_ms(90_000);
        prop_assert_eq!(w.holders().len(), 1);
        let all: Vec<_> = w.nodes.values().map(|n| n.records.clone()).collect();
        prop_assert_eq!(&all[0], &all[1]);
        prop_assert_eq!(&all[1], &all[2]);
    }

    #[test]
    fn while_links_are_up_activations_leave_one_holder_and_never_none(
        acts in prop::collection::vec((1u32..4, 0u64..12), 1..30),
    ) {
        let mut w = World::new(3);
        (1..=3).for_each(|id| w.start(id));
        w.run_ms(9000);
        w.activate(1);
        for (id, ms) in acts {
            w.activate(id);
            for _ in 0..ms {
                prop_assert!(!w.holders().is_empty());
                w.run_ms(1);
            }
        }
        w.run_ms(50);
        prop_assert_eq!(w.holders().len(), 1);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_hold_no_memory(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
        kind in 0u32..14, name in prop_oneof![
            Just("clusterer-internal"), Just("clusterer-extra"), Just("tandem"), Just(CAP)],
    ) {
        let mut w = pair();
        let conn = ConnId::Accepted(900);
        w.step(1, |m, now, out| m.handle_accepted(now, conn, ip(2), out));
        for chunk in chunks {
            let internal = name == "clusterer-internal";
            let mut payload = if internal { vec![1, 0, 0, 0, 2, 0, 0, 0] } else { Vec::new() };
            payload.extend(chunk);
            let packet = tandem_bin::Packet {
                capability: Bytes::from_static(name.as_bytes()),
                packet_type: kind,
                version: if name == "clusterer-extra" { 3 } else { 1 },
                payload: payload.into(),
                trailer: (!internal).then(|| tandem_bin::Trailer::new(1, 2, 1)),
            };
            let mut out = Effects::default();
            let bytes = packet.encode().unwrap();
            let now = w.time();
            let machine = w.nodes.get_mut(&1).unwrap().machine.as_mut().unwrap();
            machine.handle_bytes(now, conn, &bytes, &mut out);
            prop_assert!(out.as_slice().len() < 200);
        }
        w.step(1, |m, now, out| m.handle_bytes(now, conn, b"garbage", out));
        w.run_ms(3000);
    }
}

#[test]
fn deadlines_move_on_after_every_kind_of_step() {
    let mut w = World::new(3);
    (1..=3).for_each(|id| w.start(id));
    w.run_ms(9000);
    w.cut = vec![(1, 3)];
    w.run_ms(5000);
    w.step(1, |m, now, out| m.set_node_status(now, 1, 3, false, out).unwrap());
    w.step(2, |m, now, out| m.set_node_status(now, 1, 2, false, out).unwrap());
    let mut steps = 0;
    let end = w.now + 20_000 * tandem_clock::MS;
    while w.now < end {
        w.run_ms(1);
        for id in 1..=3 {
            let due = w.machine(id).next_deadline().unwrap();
            assert!(due > w.now, "node {id} wants to be woken in the past");
        }
        steps += 1;
    }
    assert_eq!(steps, 20_000);
    w.step(1, |m, now, out| m.set_node_status(now, 1, 3, true, out).unwrap());
    w.step(2, |m, now, out| m.set_node_status(now, 1, 2, true, out).unwrap());
    w.cut.clear();
    w.run_ms(70_000);
    for (a, b) in [(1, 2), (1, 3), (2, 3), (3, 1)] {
        assert_eq!(w.link(a, b).link_state, "Up", "{a} to {b}");
    }
}

#[test]
fn messages_and_commands_for_a_node_arrive_there() {
    use tandem_bin::clusterer::{Extra, MiCmd};
    let mut w = pair();
    let command = MiCmd { command: "uptime".into(), params: vec!["x".into()] };
    let extra = Extra::Mi(command.clone());
    w.step(1, |m, now, out| m.send_extra(now, 1, 2, &extra, out).unwrap());
    w.run_ms(10);
    let got = |e: &Effect| matches!(e, Effect::Mi { source: 1, command: c, .. } if *c == command);
    assert!(w.nodes[&2].log.iter().any(got));
    let mut refused = Ok(());
    w.crash(2);
    w.run_ms(20_000);
    w.step(1, |m, now, out| refused = m.send_extra(now, 1, 2, &extra, out));
    assert_eq!(refused, Err(ClusterError::NotReachable(2)));
}

#[test]
fn a_planted_difference_is_named_and_then_repaired() {
    let mut w = pair();
    w.write(1, 1, 10);
    w.write(1, 2, 20);
    w.run_ms(1000);
    // Behind the backs of the nodes.
    let stamp = Stamp { time_us: 1, node: 1 };
    w.nodes.get_mut(&2).unwrap().records.remove(&1);
    w.nodes.get_mut(&2).unwrap().records.insert(7, (stamp, 70));
    w.nodes.get_mut(&2).unwrap().records.insert(2, (stamp, 21));
    w.run_ms(11_000);
    assert!(matches!(w.link(1, 2).steps[0].step, Step::Differs { buckets: 3, .. }));
    let mut asked = Vec::new();
    w.step(1, |m, now, out| asked = m.ask_differences(now, out));
    assert_eq!(asked.len(), 1);
    w.run_ms(100);
    let found = w.nodes[&1].log.iter().find_map(|e| match e {
        Effect::Differs { peer: 2, difference, .. } => Some(difference.clone()),
        _ => None,
    });
    let name = |k: u8| vec![Bytes::from(vec![k])];
    let expected = Difference {
        missing_there: name(1),
        missing_here: name(7),
        unequal: name(2),
        cut_short: false,
    };
    assert_eq!(found, Some(expected));
    w.run_ms(15_000);
    assert_eq!(w.nodes[&1].records, w.nodes[&2].records);
    assert!(matches!(w.link(1, 2).steps[0].step, Step::InStep { .. }));
    w.step(1, |m, now, out| asked = m.ask_differences(now, out));
    assert!(asked.is_empty());
}
