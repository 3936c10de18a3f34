//! When exactly things leave.

use crate::common;

use common::In::*;
use common::{World, spec};
use tandem_clock::MS;
use tandem_transaction::{
    BranchIndex, BranchSpec, Effect, Effects, Kind, Settings, Timer, Timers, Transaction,
};

fn at(times: &[u64], what: &str) -> Vec<String> {
    times.iter().map(|ms| format!("{ms} {what}")).collect()
}

/// T1 doubling to T2, until 30 s.
const DOUBLING: [u64; 10] =
    [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];

#[test]
fn invite_is_retransmitted_from_t1_doubling_to_t2_until_fr() {
    let mut world = World::invite();
    world.run(&[Udp]);
    let mut expected = at(&DOUBLING[..9], "branch 0");
    expected.extend(at(&[30_000], "over 0 408 local"));
    expected.extend(at(&[30_000], "final 0 408 local"));
    assert_eq!(world.timeline(60_000), expected);
}

#[test]
fn non_invite_is_retransmitted_each_t2_after_a_provisional() {
    let mut world = World::new(Kind::NonInvite, false);
    world.run(&[Udp, At(400), Reply(0, 100)]);
    let expected = at(&[500, 4_500, 8_500, 12_500, 16_500, 20_500, 24_500, 28_500], "branch 0");
    assert_eq!(world.timeline(29_000), expected);
}

#[test]
fn nothing_is_retransmitted_over_reliable_transports() {
    let mut world = World::new(Kind::Invite, true);
    world.run(&[Tcp, Reply(0, 180), Cancel]);
    assert_eq!(world.timeline(31_000), Vec::<String>::new());
    world.run(&[Reply(0, 487), Up(487)]);
    assert_eq!(world.timeline(60_000), Vec::<String>::new());
}

#[test]
fn negative_final_is_retransmitted_until_the_ack() {
    let mut world = World::invite();
    world.run(&[Up(404)]);
    assert_eq!(world.timeline(8_000), at(&DOUBLING[..4], "up 404"));
    world.run(&[Ack]);
    assert_eq!(world.timeline(20_000), ["13000 ended"]);
}

#[test]
fn cancel_is_retransmitted_until_its_reply() {
    let mut world = World::invite();
    world.run(&[Udp, Reply(0, 180), Cancel]);
    assert_eq!(world.timeline(4_000), at(&DOUBLING[..3], "cancel 0 originator"));
    world.run(&[CancelReply(0, 100)]);
    assert_eq!(world.timeline(8_000), at(&DOUBLING[3..4], "cancel 0 originator"));
    world.run(&[CancelReply(0, 200)]);
    assert_eq!(world.timeline(31_000), Vec::<String>::new());
}

#[test]
fn cancelled_branch_that_stays_silent_ends_after_64_t1() {
    let mut world = World::invite();
    world.run(&[Udp, Reply(0, 180), At(1_000), Cancel, CancelReply(0, 200)]);
    let expected = ["33000 over 0 408 local", "33000 final 0 408 local"];
    assert_eq!(world.timeline(60_000), expected);
}

#[test]
fn provisionals_restart_fr_inv_only_when_told() {
    for (restart, expected_ms) in [(false, 120_010), (true, 160_000)] {
        let settings = Settings { restart_fr_on_each_reply: restart, ..Settings::default() };
        let timers = Timers::default();
        let mut world = World::of(Transaction::new(Kind::Invite, false, timers, settings));
        world.run(&[Udp, At(10), Reply(0, 100), At(40_000), Reply(0, 180)]);
        let expected = format!("{expected_ms} cancel 0 no-answer");
        assert_eq!(world.timeline(200_000).first(), Some(&expected), "{restart}");
    }
}

#[test]
fn branch_may_have_its_own_timeouts() {
    let mut world = World::invite();
    let mut out = Effects::new();
    for (fr_ms, fr_inv_ms) in [(Some(700), None), (None, Some(900))] {
        let branch = spec(true);
        let branch = BranchSpec { fr_ms, fr_inv_ms, ..branch };
        world.tx.add_branch(world.now, branch, &mut out).expect("room");
    }
    for effect in out.drain() {
        if let Effect::SetTimer { timer, at } = effect {
            world.wheel.push((at, timer));
        }
    }
    world.run(&[Reply(1, 180)]);
    let expected = [
        "700 over 0 408 local",
        "900 cancel 1 no-answer",
        "900 over 1 408 local",
        "900 final 0 408 local",
    ];
    assert_eq!(world.timeline(1_000), expected);
}

#[test]
fn many_provisionals_leave_one_timer_entry() {
    let settings = Settings { restart_fr_on_each_reply: true, ..Settings::default() };
    let mut world = World::of(Transaction::new(Kind::Invite, false, Timers::default(), settings));
    world.run(&[Udp]);
    for ms in 0..1_000 {
        world.run(&[At(ms), Reply(0, 183)]);
    }
    assert!(world.wheel.len() <= 2, "{:?}", world.wheel);
}

#[test]
fn stale_and_foreign_timers_do_nothing() {
    let mut world = World::invite();
    world.run(&[Udp]);
    let mut out = Effects::new();
    let branches = [BranchIndex(0), BranchIndex(7)];
    for branch in branches {
        for timer in [Timer::A(branch), Timer::Fr(branch), Timer::M(branch)] {
            world.tx.on_timer(world.now, timer, 499 * MS, &mut out);
        }
        world.tx.on_timer(world.now, Timer::CancelE(branch), 500 * MS, &mut out);
    }
    world.tx.on_timer(world.now, Timer::H, 500 * MS, &mut out);
    assert!(out.is_empty(), "{out:?}");
}

#[test]
fn released_transaction_ends_after_wait_and_absorbs_until_then() {
    let mut world = World::invite();
    assert_eq!(world.run(&[Release, At(4_000), Request]), Vec::<String>::new());
    assert_eq!(world.timeline(10_000), ["5000 ended"]);
    let mut out = Effects::new();
    assert!(world.tx.add_branch(world.now, spec(false), &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn branch_after_release_keeps_the_transaction() {
    let mut world = World::invite();
    world.run(&[Release, At(4_000), Tcp, Reply(0, 180)]);
    assert_eq!(world.timeline(100_000), Vec::<String>::new());
    world.run(&[Release]);
    assert_eq!(world.timeline(110_000), Vec::<String>::new());
}
