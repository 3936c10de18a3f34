//! Parallel and serial forking, CANCEL in every race.

use crate::common;

use common::In::{self, *};
use common::World;
use tandem_transaction::{Kind, Phase, Settings, Timers, Transaction};

const NOTHING: [&str; 0] = [];

fn with(settings: Settings, before: &[In]) -> World {
    let mut world = World::of(Transaction::new(Kind::Invite, false, Timers::default(), settings));
    world.run(before);
    world
}

fn invite(before: &[In]) -> World {
    with(Settings::default(), before)
}

#[test]
fn first_2xx_cancels_the_others() {
    let mut world = invite(&[Udp, Udp, Udp, Reply(0, 180), Reply(1, 183)]);
    let expected = ["over 1 200", "relay 1 200", "cancel 0 elsewhere"];
    assert_eq!(world.run(&[Reply(1, 200)]), expected);
    assert_eq!(world.run(&[Up(200)]), ["up 200"]);
    // The third had no provisional yet: its CANCEL was held back.
    assert_eq!(world.run(&[Reply(2, 180)]), ["cancel 2 elsewhere"]);
    assert_eq!(
        world.run(&[Reply(0, 487), Reply(2, 487)]),
        ["ack 0", "over 0 487", "ack 2", "over 2 487"]
    );
}

#[test]
fn later_2xx_of_another_branch_is_relayed_too() {
    let mut world = invite(&[Udp, Udp, Reply(0, 180), Reply(1, 180), Reply(0, 200), Up(200)]);
    assert_eq!(world.run(&[Reply(1, 200), Up(200)]), ["over 1 200", "relay 1 200", "up 200"]);
    assert_eq!(world.run(&[Reply(1, 200), Up(200)]), ["relay 1 200", "up 200"]);
}

#[test]
fn late_2xx_after_a_negative_final_is_relayed() {
    let mut world = invite(&[Udp, Reply(0, 180), At(120_000), Up(408)]);
    assert_eq!(world.run(&[Reply(0, 200), Up(200)]), ["over 0 200", "relay 0 200", "up 200"]);
    assert_eq!(world.run(&[Up(486)]), NOTHING);
    assert_eq!(world.last_error.as_deref(), Some("AlreadyFinal"));
}

#[test]
fn no_cancel_keeps_the_others_running() {
    let settings = Settings { auto_cancel: false, ..Settings::default() };
    let mut world = with(settings, &[Udp, Udp, Reply(0, 180), Reply(1, 180)]);
    assert_eq!(world.run(&[Reply(0, 200)]), ["over 0 200", "relay 0 200"]);
    assert_eq!(world.run(&[Up(200), Reply(1, 200)]), ["up 200", "over 1 200", "relay 1 200"]);
}

#[test]
fn six_xx_ends_at_once_and_forbids_new_branches() {
    let mut world = invite(&[Udp, Udp, Udp, Reply(0, 404), Reply(1, 180)]);
    let expected = ["ack 2", "over 2 603", "cancel 1 answered-603", "final 2 603"];
    assert_eq!(world.run(&[Reply(2, 603)]), expected);
    assert_eq!(world.run(&[Udp]), NOTHING);
    assert_eq!(world.last_error.as_deref(), Some("Declined"));
    assert_eq!(world.run(&[Up(603), Reply(1, 487)]), ["up 603", "ack 1", "over 1 487"]);
}

#[test]
fn six_xx_is_an_ordinary_failure_when_its_block_is_disabled() {
    let settings = Settings { disable_6xx_block: true, ..Settings::default() };
    let mut world = with(settings, &[Udp, Udp, Reply(0, 603)]);
    assert_eq!(world.run(&[Reply(1, 180)]), ["relay 1 180"]);
    assert_eq!(world.run(&[Reply(1, 404)]), ["ack 1", "over 1 404", "final 0 603"]);
    assert_eq!(world.run(&[Udp]), ["branch 2"]);
}

#[test]
fn winner_is_the_lowest_rank_of_all_branches() {
    for (codes, winner) in [
        ([404, 401, 503], "final 1 401"),
        ([503, 408, 500], "final 2 500"),
        ([486, 302, 407], "final 1 302"),
        ([487, 486, 404], "final 2 404"),
        ([404, 404, 404], "final 0 404"),
    ] {
        let mut world = invite(&[Udp, Udp, Udp]);
        let replies: Vec<In> =
            (0u8..).zip(codes).map(|(branch, code)| Reply(branch, code)).collect();
        let effects = world.run(&replies);
        let finals: Vec<_> = effects.iter().filter(|line| line.starts_with("final")).collect();
        assert_eq!(finals, [winner], "{codes:?}");
        assert_eq!(effects.last().map(String::as_str), Some(winner), "{codes:?}");
    }
}

#[test]
fn serial_forking_looks_only_at_the_new_set() {
    let mut world = invite(&[Udp, Udp, Reply(0, 401), Reply(1, 486)]);
    assert_eq!(world.tx.phase(), Phase::Decided);
    assert_eq!(
        world.run(&[Udp, Udp, Reply(3, 503)]),
        ["branch 2", "branch 3", "ack 3", "over 3 503"]
    );
    assert_eq!(world.run(&[Reply(0, 401)]), ["ack 0"]);
    assert_eq!(world.run(&[Reply(2, 480)]), ["ack 2", "over 2 480", "final 2 480"]);
    assert_eq!(world.run(&[Up(480), Ack]), ["up 480"]);
    assert_eq!(world.timeline(10_000), ["5000 ended"]);
}

#[test]
fn old_branch_that_answers_late_wins_over_the_new_set() {
    let mut world = invite(&[Udp, Reply(0, 180), At(120_000), Udp, Reply(1, 180)]);
    let expected = ["over 0 200", "relay 0 200", "cancel 1 elsewhere"];
    assert_eq!(world.run(&[Reply(0, 200)]), expected);
}

#[test]
fn branch_that_timed_out_silently_is_cancelled_when_it_rings_after_all() {
    let mut world = invite(&[Udp, Udp, Reply(1, 180), At(30_000)]);
    assert_eq!(world.run(&[Reply(0, 180)]), ["cancel 0 no-answer"]);
    assert_eq!(world.run(&[Reply(0, 487)]), ["ack 0"]);
}

#[test]
fn send_error_moves_on_like_a_reply() {
    let mut world = invite(&[Udp, Udp, Reply(0, 503)]);
    assert_eq!(world.run(&[SendError(1)]), ["over 1 477 local", "final 1 477 local"]);
    assert_eq!(world.run(&[SendError(1), SendError(0), SendError(9)]), NOTHING);
}

#[test]
fn local_final_before_the_end_cancels_and_asks_for_nothing_more() {
    let mut world = invite(&[Udp, Udp, Reply(0, 180)]);
    assert_eq!(world.run(&[Up(480)]), ["up 480", "cancel 0 answered-480"]);
    assert_eq!(
        world.run(&[Reply(0, 487), Reply(1, 404)]),
        ["ack 0", "over 0 487", "ack 1", "over 1 404"]
    );
    world.run(&[Udp]);
    assert_eq!(world.last_error.as_deref(), Some("Answered"));
}

#[test]
fn non_invite_passes_only_the_first_2xx_and_cancels_nothing() {
    let mut world = World::new(Kind::NonInvite, false);
    world.run(&[Udp, Udp, Reply(1, 100)]);
    assert_eq!(world.run(&[Reply(0, 200), Up(200)]), ["over 0 200", "relay 0 200", "up 200"]);
    assert_eq!(world.run(&[Reply(1, 200), Cancel]), ["over 1 200"]);
}

#[test]
fn cancel_before_any_branch_is_answered_487_at_once() {
    let mut world = invite(&[Up(100)]);
    assert_eq!(world.run(&[Cancel]), ["final - 487 local"]);
    world.run(&[Udp]);
    assert_eq!(world.last_error.as_deref(), Some("Cancelled"));
    assert_eq!(world.run(&[Up(487), Cancel]), ["up 487"]);
}

#[test]
fn cancel_before_100_is_held_back_until_the_first_provisional() {
    let mut world = invite(&[Udp, Cancel]);
    assert_eq!(world.run(&[At(500)]), ["branch 0"]);
    assert_eq!(world.run(&[Reply(0, 100)]), ["cancel 0 originator"]);
    assert_eq!(world.run(&[CancelReply(0, 200), Reply(0, 180)]), ["relay 0 180"]);
    assert_eq!(world.run(&[Reply(0, 487)]), ["ack 0", "over 0 487", "final 0 487"]);
    assert!(world.tx.was_cancelled());
}

#[test]
fn cancel_before_100_that_never_comes_ends_with_408() {
    let mut world = invite(&[Udp, Cancel, At(29_999)]);
    assert_eq!(world.run(&[At(30_000)]), ["over 0 408 local", "final 0 408 local"]);
}

#[test]
fn cancel_after_180_goes_out_at_once_and_only_once() {
    let mut world = invite(&[Udp, Reply(0, 180)]);
    assert_eq!(world.run(&[Cancel, Cancel]), ["cancel 0 originator"]);
    assert_eq!(
        world.run(&[Reply(0, 487), Up(487)]),
        ["ack 0", "over 0 487", "final 0 487", "up 487"]
    );
}

#[test]
fn cancel_that_crosses_a_200_does_not_stop_it() {
    let mut world = invite(&[Udp, Reply(0, 180), Cancel]);
    assert_eq!(world.run(&[Reply(0, 200), Up(200)]), ["over 0 200", "relay 0 200", "up 200"]);
    assert_eq!(world.run(&[CancelReply(0, 481), Cancel]), NOTHING);
}

#[test]
fn cancel_after_200_does_nothing() {
    let mut world = invite(&[Udp, Reply(0, 200), Up(200)]);
    assert_eq!(world.run(&[Cancel]), NOTHING);
    assert!(!world.tx.was_cancelled());
}

#[test]
fn cancelled_487_wins_over_every_other_reply() {
    let mut world = invite(&[Udp, Udp, Reply(0, 180), Reply(1, 180), Cancel, Reply(0, 487)]);
    assert_eq!(world.run(&[Reply(1, 401)]), ["ack 1", "over 1 401", "final 0 487"]);
}

#[test]
fn cancel_while_the_failure_route_runs_forbids_a_new_set() {
    let mut world = invite(&[Udp, Reply(0, 486), Cancel, Udp]);
    assert_eq!(world.last_error.as_deref(), Some("Cancelled"));
    assert_eq!(world.run(&[Up(486)]), ["up 486"]);
}

#[test]
fn at_most_256_branches() {
    let mut world = invite(&[]);
    for branch in 0..=255 {
        world.run(&[Udp, Reply(branch, 404)]);
        assert_eq!(world.last_error, None);
    }
    world.run(&[Udp]);
    assert_eq!(world.last_error.as_deref(), Some("TooMany"));
}

#[test]
fn local_request_sends_nothing_upstream_and_ends_with_its_branches() {
    let settings = Settings::default();
    let tx = Transaction::local(Kind::NonInvite, Timers::default(), settings);
    let mut world = World::of(tx);
    assert_eq!(world.run(&[Udp, Reply(0, 503)]), ["branch 0", "over 0 503", "final 0 503"]);
    assert_eq!(world.run(&[Udp, Reply(1, 200)]), ["branch 1", "over 1 200", "relay 1 200"]);
    assert_eq!(world.run(&[Up(200)]), NOTHING);
    assert_eq!(world.timeline(10_000), ["5000 ended"]);
}

#[test]
fn routes_are_told_which_replies_are_new() {
    use tandem_transaction::Heard::{Again, New, Stray};
    let mut world = invite(&[Udp, Udp]);
    for (input, heard) in [
        (Reply(0, 100), New),
        (Reply(0, 180), New),
        (Reply(0, 486), New),
        (Reply(0, 486), Again),
        (Reply(0, 180), Stray),
        (Reply(1, 200), New),
        (Reply(1, 200), Again),
        (Reply(9, 200), Stray),
        (Reply(1, 99), Stray),
        (Reply(1, 700), Stray),
    ] {
        world.step(input);
        assert_eq!(world.last_heard, Some(heard), "{input:?}");
    }
}

#[test]
fn stray_provisional_of_a_refused_branch_is_not_cancelled() {
    let mut world = invite(&[Udp, Udp, Reply(0, 180), Cancel, Reply(1, 404), At(6_000)]);
    assert_eq!(world.run(&[Reply(1, 180)]), NOTHING);
}

#[test]
fn ended_branch_is_not_marked_as_cancelled() {
    let mut world = invite(&[Udp, Udp, Reply(0, 404), Reply(1, 200)]);
    assert!(world.tx.branches().all(|branch| branch.cancel_reason.is_none()));
    world.run(&[Up(200)]);
    assert_eq!(world.tx.last_code(), 200);
}

#[test]
fn provisionals_do_not_prolong_a_cancelled_branch() {
    let settings = Settings { restart_fr_on_each_reply: true, ..Settings::default() };
    let mut world = with(settings, &[Udp, Reply(0, 180), Cancel, CancelReply(0, 200)]);
    world.run(&[At(20_000), Reply(0, 180)]);
    assert_eq!(world.timeline(40_000), ["32000 over 0 408 local", "32000 final 0 408 local"]);
}
