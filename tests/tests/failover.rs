//! The active dies; one command makes the backup the active; the dead node comes back.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tandem_tests::{Node, PATIENCE, Phone, Site, contacts, now, wait_for, wait_until};

/// `natping_interval` of the sites.
const INTERVAL: Duration = Duration::from_secs(2);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(1500);

/// Watches for two intervals that the node sends no ping to the phone.
fn stays_silent(node: &Node, phone: &Phone) {
    let (before, until) = (phone.pings_from(node.sip).len(), now() + 2 * INTERVAL);
    wait_until("two ping intervals have passed", PATIENCE, || {
        let pings = phone.pings_from(node.sip);
        assert_eq!(pings.len(), before, "node {} pings {}", node.id, phone.user);
        now() >= until
    });
}

/// The row of the tag `service` in `tandem:status`.
fn tag(node: &Node) -> Json {
    let status = node.status();
    let tags = status["tags"].as_array().cloned().unwrap_or_default();
    let row = tags.into_iter().find(|t| t["tag"] == "service/1");
    row.unwrap_or_else(|| panic!("node {} does not know the tag: {status}", node.id))
}

/// The hook of a keepalived in the field, as it is.
fn switch_to(node: &Node) {
    let words = ["fifo", "clusterer_shtag_set_active", "service/1"];
    let answer = node.ctl("opensipsctl").run(&words);
    assert_eq!(answer.status, 0, "{}{}", answer.stdout, answer.stderr);
    assert!(answer.stdout.starts_with("OK"), "{}", answer.stdout);
}

#[test]
fn one_command_makes_the_backup_the_active_and_the_killed_node_returns_as_backup() {
    let site = Site::pair("failover");
    let (mut one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::behind_nat("alice", (site.net.ip(10), 5060));
    let bob = Phone::behind_nat("bob", (site.net.ip(11), 5060));
    alice.register_ok(one.sip);
    bob.register_ok(one.sip);
    two.wait_for_users(&["alice", "bob"]);
    wait_until("the active pings alice", PATIENCE, || !alice.pings_from(one.sip).is_empty());

    one.process.kill();
    stays_silent(&two, &alice);
    assert!(alice.pings_from(two.sip).is_empty(), "the backup pinged before it was told to act");
    let told = now();
    switch_to(&two);
    assert_eq!(two.tag_state(), "active");
    for phone in [&alice, &bob] {
        let first = wait_for("a ping from the new active", PATIENCE, || {
            phone.pings_from(two.sip).first().copied()
        });
        let after = first.at.duration_since(told);
        assert!(after <= INTERVAL + SLACK, "{} was pinged after {after:?}", phone.user);
    }
    assert_eq!(contacts(&two.mi("ul_dump", Json::Null)).len(), 2);
    alice.call(two.sip, "bob").hang_up();
    bob.call(two.sip, "alice").hang_up();

    let carol = Phone::new("carol", (site.net.ip(12), 5060));
    carol.register_ok(two.sip);
    let one = site.start(1);
    one.wait_for_users(&["alice", "bob", "carol"]);
    one.wait_in_step();
    assert_eq!(one.tag_state(), "backup", "the script's =active is a claim of epoch 0");
    assert_eq!(two.tag_state(), "active");
    stays_silent(&one, &alice);
    who_acts_is_said(&one, &two);
    assert!(carol.pings().is_empty(), "carol is not behind NAT");
    carol.call(two.sip, "alice").hang_up();
}

fn who_acts_is_said(one: &Node, two: &Node) {
    let (seen, held) = (tag(one), tag(two));
    assert_eq!((&held["state"], &held["holder"]), (&json!("active"), &json!("2 (this node)")));
    assert_eq!((&seen["state"], &seen["holder"]), (&json!("backup"), &json!("2")));
    assert_eq!(held["why"], "MI command");
    assert!(held["by"].as_str().is_some_and(|by| by.contains("node 2")), "{held}");
    // Year to second.
    assert!(held["since"].as_str().is_some_and(|since| since.len() == 19), "{held}");
    assert_eq!(seen["epoch"], held["epoch"]);
    let shown = two.ctl("tandemctl").run(&["status"]).stdout;
    for word in ["service/1", "2 (this node)", "MI command"] {
        assert!(shown.contains(word), "no {word:?} in:\n{shown}");
    }
}

#[test]
fn the_role_moves_back_and_forth_while_both_nodes_live() {
    let site = Site::pair("switch");
    let (one, two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::behind_nat("alice", (site.net.ip(10), 5060));
    alice.register_ok(one.sip);
    for (to, from) in [(&two, &one), (&one, &two), (&two, &one)] {
        switch_to(to);
        wait_until("the other one has stepped down", PATIENCE, || from.tag_state() == "backup");
        assert_eq!(to.tag_state(), "active");
        let already = alice.pings_from(to.sip).len();
        wait_until("the new active pings", PATIENCE, || alice.pings_from(to.sip).len() > already);
        stays_silent(from, &alice);
    }
}

#[test]
fn a_killed_backup_fetches_what_was_registered_meanwhile() {
    let site = Site::pair("backup-dies");
    let (one, mut two) = (site.start(1), site.start(2));
    one.wait_in_step();
    let alice = Phone::behind_nat("alice", (site.net.ip(10), 5060));
    alice.register_ok(one.sip);
    two.process.kill();
    let bob = Phone::behind_nat("bob", (site.net.ip(11), 5060));
    bob.register_ok(one.sip);
    let two = site.start(2);
    two.wait_for_users(&["alice", "bob"]);
    let dump = |node: &Node| node.mi("ul_dump", Json::Null);
    tandem_tests::assert_same_contacts(&dump(&one), &dump(&two));
    assert_eq!((one.tag_state().as_str(), two.tag_state().as_str()), ("active", "backup"));
}

#[test]
fn an_active_that_restarts_alone_is_active_again() {
    let site = Site::pair("restart-alone");
    let mut one = site.start(1);
    wait_until("node 1 is active", PATIENCE, || one.tag_state() == "active");
    one.process.kill();
    let one = site.start(1);
    wait_until("node 1 is active again", PATIENCE, || one.tag_state() == "active");
    let alice = Phone::behind_nat("alice", (site.net.ip(10), 5060));
    alice.register_ok(one.sip);
    wait_until("it pings", PATIENCE, || !alice.pings_from(one.sip).is_empty());
}

#[test]
fn a_node_that_is_stopped_hands_over_what_it_alone_knows() {
    let site = Site::pair("parting");
    let (mut one, mut two) = (site.start(1), site.start(2));
    one.wait_in_step();
    two.process.signal(Signal::STOP);
    wait_until("node 1 has lost node 2", PATIENCE, || {
        one.process.output().contains("node 2 of cluster 1 is down")
    });
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    alice.register_ok(one.sip);
    one.process.signal(Signal::TERM);
    one.process.wait_for_output("this node ends when a peer has what it alone knows", PATIENCE);
    let bob = Phone::new("bob", (site.net.ip(11), 5060));
    bob.register_ok(one.sip);
    two.process.signal(Signal::CONT);
    assert!(one.process.wait(PATIENCE).success());
    two.wait_for_users(&["alice", "bob"]);
    assert!(!one.process.output().contains("no peer has got everything"));
}
