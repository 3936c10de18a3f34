//! Dialogs in a database: written when the mode says, and there again after a restart.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;
use crate::stored;

use common::*;
use stored::*;
use tandem_dialog::{Dialog, Dialogs};
use tandem_engine::testing::TestNode;

#[test]
fn realtime_writes_the_answer_and_deletes_the_end() {
    written_at_once();
}

#[test]
fn delayed_writes_by_the_timer() {
    written_by_the_timer();
}

#[test]
fn shutdown_writes_at_the_end() {
    written_at_the_end();
}

#[test]
fn a_dialog_is_what_it_was_after_a_restart() {
    let params = database(1) + &set("db_flush_vals_profiles", "1");
    let mut first = node(&params, CREATE, "");
    let phones = Phones::talk(&mut first, "c");
    let of = |node: &TestNode| {
        let (_, dialogs) = node.node().find::<Dialogs>().unwrap();
        let id = dialogs.table.ids().pop().unwrap();
        dialogs.read(id, Dialog::clone).unwrap()
    };
    let before = of(&first);
    let mut second = restarted(first, &params);
    let mut after = of(&second);
    // Bodies are needed for nothing here, and that it was loaded is the node's own.
    after.flags = before.flags;
    after.caller.sdp_in.clone_from(&before.caller.sdp_in);
    after.callees[0].sdp_in.clone_from(&before.callees[0].sdp_in);
    assert_eq!(after, before);
    second.udp(CALLER, &phones.within("BYE", 8, ""));
    let bye = sent_to(&mut second, CALLEE).pop().unwrap();
    assert!(bye.starts_with("BYE "), "{bye}");
    assert_eq!(state(&mut second), 5);
    assert_eq!(rows(&mut second).len(), 0);
}

#[test]
fn what_expired_while_the_node_was_down_ends_at_once() {
    let params = database(1) + &set("default_timeout", "30");
    let mut first = node(&params, CREATE, "");
    first.advance_ms(1);
    Phones::talk(&mut first, "c");
    first.advance_ms(20_000);
    let mut second = restarted(first, &params);
    second.advance_ms(40_000);
    assert_eq!(stat(&mut second, "expired_dialogs"), 1);
    assert_eq!(rows(&mut second).len(), 0);
}

#[test]
fn a_database_that_is_away_gets_everything_when_it_is_back() {
    let first = node(&database(1), CREATE, "");
    let text = script(&database(1), CREATE, "");
    let mut node = TestNode::with_slow_database(&text, MODULES, first.db);
    node.answer_queries();
    let phones = Phones::talk(&mut node, "ended");
    Phones::talk(&mut node, "c");
    node.fail_queries();
    node.udp(CALLER, &phones.within("BYE", 8, ""));
    assert!(said(&mut node).iter().any(|line| line.contains("dialogs cannot be saved")));
    node.advance_ms(1_500);
    while node.answer_queries() > 0 {}
    assert_eq!(rows(&mut node).len(), 1);
    assert!(said(&mut node).iter().any(|line| line.contains("takes dialogs again")));
}
