//! When nodes that start count as synced.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::world;

use tandem_cluster::*;
use world::*;

#[test]
fn nodes_that_start_together_wait_for_nobody() {
    let mut w = World::new(2);
    w.start(1);
    w.start(2);
    w.run_ms(500);
    assert_eq!((w.cap_state(1), w.cap_state(2)), (CapState::Synced, CapState::Synced));
    // The first one is a donor from then on.
    w.write(1, 7, 70);
    w.crash(2);
    w.run_ms(50);
    w.start(2);
    w.run_ms(1000);
    assert_eq!(w.cap_state(2), CapState::Synced);
    assert_eq!(w.nodes[&2].records, w.nodes[&1].records);
}

#[test]
fn a_seed_waits_for_a_peer_that_is_not_there_as_it_may_have_records() {
    let mut w = World::new(3);
    w.start(1);
    w.start(2);
    w.run_ms(4000);
    assert_eq!(w.cap_state(1), CapState::Pending);
    w.run_ms(2000);
    assert_eq!((w.cap_state(1), w.cap_state(2)), (CapState::Synced, CapState::Synced));
}

#[test]
fn a_seed_that_was_cut_off_waits_for_the_word_of_its_peers_after_the_heal() {
    let mut w = World::new(2);
    w.cut.push((1, 2));
    w.start(2);
    w.run_ms(100);
    w.start(1);
    w.run_ms(1000);
    assert_eq!(w.cap_state(1), CapState::Pending, "it has not heard of node 2");
    w.cut.clear();
    w.run_ms(2500);
    assert_eq!((w.cap_state(1), w.cap_state(2)), (CapState::Synced, CapState::Synced));
}
