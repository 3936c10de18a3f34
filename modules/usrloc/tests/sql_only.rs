//! Contacts that live in SQL alone, with several nodes on one table.

#![allow(clippy::unwrap_used)]

use serde_json::{Value as Json, json};
use tandem_db::{Query, Select};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::log::Level;
use tandem_engine::module::ModuleDef;
use tandem_engine::testing::{DbState, TestNode};

const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_db_sqlite::MODULE,
        &tandem_sl::MODULE,
        &tandem_signaling::MODULE,
        &tandem_usrloc::MODULE,
        &tandem_registrar::MODULE,
    ];
    ALL
};
const PHONE: &str = "10.0.0.9:5070";

fn node(mode: &str) -> TestNode {
    let modules = ["proto_udp", "db_sqlite", "sl", "signaling", "usrloc", "registrar"];
    let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let script = format!(
        "log_level = 3\nsocket = udp:127.0.0.1:5060\n{modules}\
         modparam(\"usrloc\", \"db_url\", \"sqlite:///x.db\")\n\
         modparam(\"usrloc\", \"timer_interval\", 10)\n{mode}\n\
         route {{ if ($rm == \"REGISTER\") save(\"location\");\n\
         else {{ lookup(\"location\"); xlog(\"rc=$rc ru=$ru\\n\"); }} }}\n"
    );
    TestNode::new(&script, MODULES)
}

const PRESET: &str = "modparam(\"usrloc\", \"working_mode_preset\", \"sql-only\")";

fn register(node: &mut TestNode, user: &str, cseq: u32, contact: &str) -> usize {
    node.udp(
        PHONE,
        &format!(
            "REGISTER sip:example.org SIP/2.0\n\
             Via: SIP/2.0/UDP {PHONE};branch=z9hG4bK{user}{cseq}\n\
             From: <sip:{user}@example.org>;tag=1\nTo: <sip:{user}@example.org>\n\
             Call-ID: {user}\nCSeq: {cseq} REGISTER\nContact: {contact}\n\
             Content-Length: 0\n\n"
        ),
    );
    node.sent().len()
}

fn found(node: &mut TestNode, user: &str) -> String {
    node.logs();
    node.udp(
        PHONE,
        &format!(
            "OPTIONS sip:{user}@example.org SIP/2.0\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKo\n\
             From: <sip:x@example.org>;tag=1\nTo: <sip:{user}@example.org>\nCall-ID: o\n\
             CSeq: 1 OPTIONS\nContent-Length: 0\n\n"
        ),
    );
    let logs = node.logs();
    logs.iter().map(|(_, l)| l.trim()).collect::<Vec<_>>().join("|")
}

fn shown(node: &mut TestNode, user: &str) -> Json {
    node.mi("usrloc:show_contact", json!(["location", format!("{user}@example.org")]))
}

fn row_count(node: &mut TestNode) -> usize {
    let columns = vec!["contact".into()];
    let select = Select { table: "location".into(), columns, ..Select::default() };
    node.db.execute(&Query::Select(select)).unwrap().rows.len()
}

/// What one node has written is what the other one reads.
fn share(from: &TestNode, to: &mut TestNode) {
    to.db = from.db.clone();
}

#[test]
fn every_spelling_of_the_mode_is_the_same() {
    for mode in [
        PRESET,
        "modparam(\"usrloc\", \"cluster_mode\", \"sql-only\")",
        "modparam(\"usrloc\", \"db_mode\", 3)",
    ] {
        let mut one = node(mode);
        assert_eq!(register(&mut one, "alice", 1, "<sip:a@10.0.0.9>;expires=600"), 1);
        let mut two = node(mode);
        share(&one, &mut two);
        assert!(found(&mut two, "alice").contains("rc=1 ru=sip:a@10.0.0.9"), "{mode}");
    }
}

#[test]
fn each_node_sees_at_once_what_the_others_did() {
    let (mut one, mut two) = (node(PRESET), node(PRESET));
    register(&mut one, "alice", 1, "<sip:a@10.0.0.9>;expires=600");
    share(&one, &mut two);
    assert!(found(&mut two, "alice").contains("ru=sip:a@10.0.0.9"));
    two.advance_ms(2_000);
    assert_eq!(register(&mut two, "alice", 2, "<sip:a@10.0.0.9>;expires=500"), 1);
    assert_eq!(row_count(&mut two), 1, "the same contact is the same row");
    share(&two, &mut one);
    one.advance_ms(2_000);
    assert_eq!(shown(&mut one, "alice")["result"]["Contacts"][0]["Expires"], json!(500));
    let removed = one.mi("usrloc:rm", json!(["location", "alice@example.org"]));
    assert_eq!((&removed["result"], row_count(&mut one)), (&json!("OK"), 0));
    share(&one, &mut two);
    assert!(found(&mut two, "alice").contains("rc=-1"));
    assert_eq!(shown(&mut two, "alice")["error"]["code"], json!(404));
}

#[test]
fn a_contact_that_ends_here_may_have_been_refreshed_elsewhere() {
    let (mut one, mut two) = (node(PRESET), node(PRESET));
    register(&mut one, "alice", 1, "<sip:a@10.0.0.9>;expires=60");
    share(&one, &mut two);
    two.advance_ms(50_000);
    register(&mut two, "alice", 2, "<sip:a@10.0.0.9>;expires=600");
    share(&two, &mut one);
    one.advance_ms(62_000);
    assert_eq!(row_count(&mut one), 1, "the row is not this node's to delete");
    assert!(found(&mut one, "alice").contains("rc=1"));
    two.advance_ms(660_000);
    assert_eq!(row_count(&mut two), 0, "rows that have ended are cleared away");
}

#[test]
fn listings_follow_what_the_table_says() {
    let (mut one, mut two) = (node(PRESET), node(PRESET));
    register(&mut one, "alice", 1, "<sip:a@10.0.0.9>;expires=600");
    register(&mut one, "bob", 1, "<sip:b@10.0.0.9>;expires=600");
    share(&one, &mut two);
    two.advance_ms(11_000);
    let aors = |node: &mut TestNode| {
        let all = node.mi("usrloc:dump", json!({"brief": 1}));
        all["result"]["Domains"][0]["AORs"].as_array().unwrap().len()
    };
    assert_eq!(aors(&mut two), 2);
    register(&mut one, "bob", 2, "<sip:b@10.0.0.9>;expires=0");
    share(&one, &mut two);
    two.advance_ms(11_000);
    assert_eq!(aors(&mut two), 1);
}

#[test]
fn what_was_read_last_has_to_do_when_the_database_is_away() {
    let mut node = node(PRESET);
    register(&mut node, "alice", 1, "<sip:a@10.0.0.9>;expires=600");
    node.db_state = DbState::Down;
    node.logs();
    let told = found(&mut node, "alice");
    assert!(told.contains("rc=1"), "{told}");
    assert_eq!(told.matches("cannot be read").count(), 1, "{told}");
    assert!(!found(&mut node, "alice").contains("cannot be read"), "said once");
    let warned = node.logs().iter().any(|(level, _)| *level == Level::Error);
    assert!(!warned);
}
