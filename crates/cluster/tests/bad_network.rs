//! A network that is bad, not gone.
#![allow(clippy::unwrap_used)]

use crate::world;

use world::*;

/// A link that is down replicates nothing: it is tried again after `ping_interval`, not only after
/// the minute of `node_timeout`.
#[test]
fn a_tandem_node_is_not_left_alone_for_long() {
    let mut w = World::new(2);
    w.start(1);
    w.start(2);
    w.run_ms(10_000);
    assert_eq!((w.link(1, 2).link_state, w.link(2, 1).link_state), ("Up", "Up"));
    w.cut = vec![(1, 2)];
    w.run_ms(20_000);
    assert!(w.link(1, 2).link_state != "Up" && w.link(2, 1).link_state != "Up");
    w.write(1, 2, 20);
    w.cut.clear();
    w.run_ms(6_000);
    assert_eq!((w.link(1, 2).link_state, w.link(2, 1).link_state), ("Up", "Up"));
    assert!(w.nodes[&2].records.contains_key(&2), "it has what it missed");
}

/// Where a segment of a handshake is lost, TCP repeats it after a second. PINGs that are repeated
/// meanwhile wait for the connection and open no other one in its place.
#[test]
fn a_handshake_that_takes_longer_than_a_pong_may_brings_the_link_up() {
    let mut w = World::new(2);
    w.handshake_ms = 1_500;
    w.start(1);
    w.start(2);
    w.write(1, 2, 20);
    w.run_ms(4_000);
    assert_eq!((w.link(1, 2).link_state, w.link(2, 1).link_state), ("Up", "Up"));
    w.run_ms(1_000);
    assert!(w.nodes[&2].records.contains_key(&2));
}

/// Each hears of the other's claim when it has just taken a fresh epoch itself, and so on.
#[test]
fn two_nodes_that_rise_above_each_other_at_the_same_pace_come_to_an_end() {
    let mut w = World::new(3);
    (1..=3).for_each(|id| w.start(id));
    w.run_ms(9_000);
    w.activate(1);
    w.run_ms(100);
    w.activate(2);
    w.run_ms(5);
    w.crash(1);
    w.activate(3);
    w.start(1);
    w.activate(3);
    w.activate(1);
    w.run_ms(90_000);
    assert_eq!(w.holders().len(), 1, "{:?}", w.holders());
}
