//! What was acknowledged to a phone was acknowledged by the peer first, or is counted.

use std::time::Duration;

use rustix::process::Signal;
use tandem_tests::{PATIENCE, Phone, Site, now, wait_until};

#[test]
fn a_200_leaves_when_the_backup_has_the_contact() {
    let site = Site::pair("gate-acked");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    alice.register_ok(one.sip);
    let (acked, ungated) = (one.gate("acknowledged"), one.gate("ungated"));
    alice.register_ok(one.sip);
    assert_eq!(one.gate("acknowledged") + one.gate("ungated"), acked + ungated + 1);
    // A slow machine may miss the 20 ms now and then, but not always.
    wait_until("a refresh was acknowledged in time", PATIENCE, || {
        alice.register_ok(one.sip);
        one.gate("acknowledged") > acked
    });
    two.wait_for_users(&["alice"]);
    assert_eq!(one.gate("waiting"), 0);
}

#[test]
fn a_200_is_late_but_not_lost_when_the_backup_hangs() {
    let site = Site::pair("gate-hangs");
    let (one, mut two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    alice.register_ok(one.sip);
    let ungated = one.gate("ungated");
    two.process.signal(Signal::STOP);
    let begun = now();
    alice.register_ok(one.sip);
    let took = begun.elapsed();
    // 20 ms by design; the rest is the machine.
    assert!(took < Duration::from_millis(250), "the 200 took {took:?}");
    assert!(one.gate("ungated") > ungated, "the 200 was not counted as ungated");
    let bob = Phone::new("bob", (site.net.ip(11), 5060));
    bob.register_ok(one.sip);
    two.process.signal(Signal::CONT);
    two.wait_for_users(&["alice", "bob"]);
}

#[test]
fn a_node_without_its_peer_answers_at_once_and_counts() {
    let site = Site::pair("gate-alone");
    let one = site.start(1);
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let ungated = one.gate("ungated");
    alice.register_ok(one.sip);
    assert!(one.gate("ungated") > ungated);
}
