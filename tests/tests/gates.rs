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

/// Registrations wait for a peer that hangs until its link is given up, each for a moment and none
/// for another; what does not concern the peer waits for nothing.
#[test]
fn a_peer_that_hangs_slows_no_worker() {
    let site = Site::pair("gate-hangs-on");
    let (one, mut two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let phones: Vec<Phone> =
        (0..20).map(|n| Phone::new(&format!("phone{n}"), (site.net.ip(20 + n), 5060))).collect();
    two.process.signal(Signal::STOP);
    let begun = now();
    let (mut slowest, mut asked, mut rounds) = (Duration::ZERO, Vec::new(), 0);
    while begun.elapsed() < Duration::from_secs(8) {
        for phone in &phones {
            let at = now();
            phone.register_ok(one.sip);
            slowest = slowest.max(at.elapsed());
            let at = now();
            assert_eq!(phone.options(one.sip).code(), Some(200));
            asked.push(at.elapsed());
        }
        rounds += 1;
    }
    asked.sort_unstable();
    // 20 ms by design; the rest is the machine.
    assert!(slowest < Duration::from_millis(500), "a 200 to REGISTER took {slowest:?}");
    let median = asked[asked.len() / 2];
    assert!(median < Duration::from_millis(50), "half of the OPTIONS took over {median:?}");
    assert!(rounds >= 4, "{rounds} rounds of 20 phones in 8 s");
    two.process.signal(Signal::CONT);
    let names: Vec<String> = (0..20).map(|n| format!("phone{n}")).collect();
    two.wait_for_users(&names.iter().map(String::as_str).collect::<Vec<_>>());
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
