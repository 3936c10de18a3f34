//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

#[path = "../../presence_xml/tests/common/mod.rs"]
mod common;

use common::*;
use tandem_db::Query;
use tandem_engine::testing::{TestNode, cover};

const BOB: &str = "bob@b.test";

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_xcap::MODULE,
        &[
            ("param db_url", documents_are_in_a_database),
            ("param xcap_table", documents_are_in_the_table_of_that_name),
            ("param integrated_xcap_server", documents_are_kept_or_read_each_time),
        ],
    );
}

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"xcap\", \"{name}\", {value})\n")
}

fn documents_are_in_a_database() {
    let mut node = node_with("", |db| document(db, "xcap", 2, "index", &rules("allow")));
    assert_eq!(state(&subscribe(&mut node, BOB, 1).1), "active");
    let none = script("").replace(&set("db_url", "\"sqlite:///p\""), "");
    let error = TestNode::try_new(&none, MODULES).err().unwrap();
    assert!(error.contains("xcap needs a database"), "{error}");
}

fn documents_are_in_the_table_of_that_name() {
    let mut other = tandem_db::schema::table("xcap").unwrap().clone();
    other.name = "documents".into();
    let mut node = node_with(&set("xcap_table", "\"documents\""), |db| {
        db.create(&other);
        document(db, "documents", 2, "index", &rules("allow"));
    });
    assert_eq!(state(&subscribe(&mut node, BOB, 1).1), "active");
    let wrong = script(&set("xcap_table", "\"a b\""));
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn documents_are_kept_or_read_each_time() {
    let after_change = |params: &str| {
        let fill = |db: &mut _| document(db, "xcap", 2, "index", &rules("allow"));
        let mut node = node_with(params, fill);
        assert_eq!(state(&subscribe(&mut node, BOB, 1).1), "active");
        node.db.execute(&Query::Delete { table: "xcap".into(), conds: Vec::new() }).unwrap();
        let at_once = state(&subscribe(&mut node, BOB, 2).1).to_owned();
        node.advance_ms(31_000);
        (at_once, state(&subscribe(&mut node, BOB, 3).1).to_owned())
    };
    let pending = "pending".to_owned();
    assert_eq!(after_change(""), (pending.clone(), pending.clone()));
    let kept = after_change(&set("integrated_xcap_server", "1"));
    assert_eq!(kept, ("active".to_owned(), pending));
}
