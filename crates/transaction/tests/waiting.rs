//! Branches that wait for others, branches that go elsewhere, branches the script cancels.

use crate::common;

use common::In::*;
use common::World;
use tandem_transaction::{Kind, Phase};

#[test]
fn a_set_stays_open_for_branches_that_come_later() {
    let mut world = World::invite();
    assert_eq!(world.run(&[Wait, Udp]), ["branch 1"]);
    assert_eq!(world.run(&[Reply(1, 486)]), ["ack 1", "over 1 486"], "no decision yet");
    assert_eq!(world.run(&[Udp]), ["branch 2"]);
    assert_eq!(world.run(&[Reply(2, 404)]), ["ack 2", "over 2 404"]);
    assert_eq!(world.run(&[NoMore]), ["over 0 408 local", "final 2 404"]);
}

#[test]
fn waiting_ends_by_itself_when_nobody_comes() {
    let mut world = World::invite();
    assert!(world.run(&[Wait]).is_empty());
    assert_eq!(world.timeline(119_000), [] as [&str; 0]);
    assert_eq!(world.timeline(120_000), ["120000 over 0 408 local", "120000 final 0 408 local"]);
    assert_eq!(world.run(&[Up(408)]), ["up 408"]);
    world.run(&[Ack]);
    assert_eq!(world.timeline(130_000), ["125000 ended"]);
}

#[test]
fn a_cancel_ends_what_only_waits_at_once() {
    let mut world = World::invite();
    assert_eq!(world.run(&[Wait, Cancel]), ["over 0 487 local", "final 0 487 local"]);
    // With a phone that rings, its answer is waited for.
    let mut world = World::invite();
    world.run(&[Wait, Udp, Reply(1, 180)]);
    assert_eq!(world.run(&[Cancel]), ["cancel 1 originator", "over 0 487 local"]);
    assert_eq!(world.run(&[Reply(1, 487)]), ["ack 1", "over 1 487", "final 0 487 local"]);
}

#[test]
fn an_answer_ends_the_waiting_and_a_6xx_too() {
    let mut world = World::invite();
    world.run(&[Wait, Udp]);
    assert_eq!(world.run(&[Reply(1, 200)]), ["over 1 200", "relay 1 200"]);
    assert_eq!(world.tx.phase(), Phase::Done);
    let mut world = World::invite();
    world.run(&[Wait, Udp]);
    assert_eq!(world.run(&[Reply(1, 603)]), ["ack 1", "over 1 603", "final 1 603"]);
    assert_eq!(world.run(&[NoMore]), [] as [&str; 0], "nothing waits any more");
}

#[test]
fn replies_to_a_branch_that_sent_nothing_are_not_heard() {
    let mut world = World::invite();
    world.run(&[Wait]);
    assert!(world.run(&[Reply(0, 200), SendError(0), CancelBranch(0)]).is_empty());
    assert!(world.run(&[Redirect(0, false)]).is_empty());
}

#[test]
fn a_minor_branch_is_not_waited_for() {
    let mut world = World::invite();
    world.run(&[Udp, Minor, Reply(1, 180)]);
    let expected = ["ack 0", "over 0 486", "cancel 1 answered-486", "final 0 486"];
    assert_eq!(world.run(&[Reply(0, 486)]), expected);
    // It wins when it answers in time, and alone it counts like any other.
    let mut world = World::invite();
    world.run(&[Udp, Minor]);
    assert_eq!(world.run(&[Reply(1, 200)]), ["over 1 200", "relay 1 200"]);
    let mut world = World::invite();
    world.run(&[Minor, Minor]);
    assert_eq!(world.run(&[Reply(0, 404)]), ["ack 0", "over 0 404"]);
    assert_eq!(world.run(&[Reply(1, 480)]), ["ack 1", "over 1 480", "final 0 404"]);
}

#[test]
fn a_branch_that_goes_elsewhere_begins_again() {
    let mut world = World::invite();
    world.run(&[Udp]);
    assert_eq!(world.timeline(800), ["500 branch 0"]);
    assert_eq!(world.run(&[Redirect(0, false)]), ["branch 0"]);
    assert_eq!(world.timeline(2_500), ["1300 branch 0", "2300 branch 0"], "T1 again");
    assert_eq!(world.run(&[Reply(0, 180)]), ["relay 0 180"]);
    assert!(world.run(&[Redirect(0, false)]).is_empty(), "somebody has answered");
    // Over a reliable transport nothing is sent again.
    let mut world = World::invite();
    world.run(&[Udp, Redirect(0, true)]);
    assert_eq!(world.timeline(29_000), [] as [&str; 0]);
    assert_eq!(world.timeline(30_000), ["30000 over 0 408 local", "30000 final 0 408 local"]);
}

#[test]
fn the_script_cancels_one_branch_of_an_invite() {
    let mut world = World::invite();
    world.run(&[Udp, Udp, Reply(0, 180)]);
    assert_eq!(world.run(&[CancelBranch(0)]), ["cancel 0 script"]);
    assert!(world.run(&[CancelBranch(0), CancelBranch(1)]).is_empty(), "once, and held back");
    assert_eq!(world.run(&[Reply(1, 100)]), ["cancel 1 script"]);
    let mut world = World::new(Kind::NonInvite, false);
    world.run(&[Udp, Reply(0, 100)]);
    assert!(world.run(&[CancelBranch(0)]).is_empty());
}
