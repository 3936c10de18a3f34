//! Contacts and a database that is slow, away, or back again.

#![allow(clippy::unwrap_used)]

use serde_json::{Value as Json, json};
use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Select, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::effect::Input;
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

fn script(preset: &str) -> String {
    let modules = ["proto_udp", "db_sqlite", "sl", "signaling", "usrloc", "registrar"];
    let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    format!(
        "log_level = 3\nsocket = udp:127.0.0.1:5060\n{modules}\
         modparam(\"usrloc\", \"db_url\", \"sqlite:///x.db\")\n\
         modparam(\"usrloc\", \"timer_interval\", 10)\n\
         modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-sql-{preset}\")\n\
         route {{ save(\"location\"); }}\n"
    )
}

fn node(preset: &str) -> TestNode {
    TestNode::new(&script(preset), MODULES)
}

const PHONE: &str = "10.0.0.9:5070";

fn register(node: &mut TestNode, user: &str, cseq: u32, expires_s: u32) {
    let text = format!(
        "REGISTER sip:example.org SIP/2.0\n\
         Via: SIP/2.0/UDP {PHONE};branch=z9hG4bK{user}{cseq}\n\
         From: <sip:{user}@example.org>;tag=1\nTo: <sip:{user}@example.org>\nCall-ID: {user}\n\
         CSeq: {cseq} REGISTER\nContact: <sip:{user}@10.0.0.9:5070>;expires={expires_s}\n\
         User-Agent: phone\nContent-Length: 0\n\n"
    );
    node.udp(PHONE, &text);
}

fn row_count(node: &mut TestNode) -> usize {
    let columns = vec!["contact".into()];
    let select = Select { table: "location".into(), columns, ..Select::default() };
    node.db.execute(&Query::Select(select)).unwrap().rows.len()
}

fn state(node: &mut TestNode, user: &str) -> String {
    let aor = format!("{user}@example.org");
    let answer = node.mi("usrloc:show_contact", json!(["location", aor]));
    answer["result"]["Contacts"][0]["State"].as_str().unwrap_or("gone").to_owned()
}

/// The node dies, and another one starts on what its database has.
fn restarted(preset: &str, node: TestNode) -> TestNode {
    let old: MemoryDb = node.db.clone();
    TestNode::with_database(&script(preset), MODULES, |db| *db = old).unwrap()
}

#[test]
fn what_was_answered_in_write_through_is_there_after_a_crash() {
    let mut node = node("write-through");
    node.db_state = DbState::Slow;
    register(&mut node, "alice", 1, 600);
    assert!(node.sent().is_empty(), "no reply before the database has the contact");
    node.answer_queries();
    assert_eq!(node.sent().len(), 1);
    register(&mut node, "bob", 1, 600);
    let mut node = restarted("write-through", node);
    assert_eq!(
        (state(&mut node, "alice"), state(&mut node, "bob")),
        ("CS_SYNC".into(), "gone".into())
    );
    assert!(node.sent().is_empty(), "bob was not answered");
    register(&mut node, "alice", 2, 0);
    assert_eq!(row_count(&mut node), 0);
}

#[test]
fn a_slow_database_makes_batches_and_holds_replies_a_second_at_most() {
    let mut node = node("write-through");
    node.db_state = DbState::Slow;
    for n in 0..250 {
        register(&mut node, &format!("u{n}"), 1, 600);
    }
    let mut asked = Vec::new();
    loop {
        match node.answer_queries() {
            0 => break,
            n => asked.push(n),
        }
    }
    assert!(asked.iter().sum::<usize>() < 20, "few queries for 250 contacts: {asked:?}");
    assert_eq!((node.sent().len(), row_count(&mut node)), (250, 250));
    register(&mut node, "late", 1, 600);
    node.advance_ms(990);
    assert!(node.sent().is_empty());
    node.advance_ms(20);
    assert_eq!(node.sent().len(), 1, "a phone does not wait for ever");
    assert!(node.logs().iter().any(|(l, t)| *l == Level::Warning && t.contains("answered before")));
    node.answer_queries();
    assert_eq!(row_count(&mut node), 251);
}

#[test]
fn a_database_that_is_away_costs_lag_and_one_warning() {
    for preset in ["write-through", "write-back"] {
        let mut node = node(preset);
        register(&mut node, "old", 1, 600);
        node.advance_ms(11_000);
        assert_eq!(row_count(&mut node), 1, "{preset}");
        node.db_state = DbState::Down;
        node.logs();
        for n in 0..50 {
            register(&mut node, &format!("u{n}"), 1, 600);
        }
        register(&mut node, "old", 2, 0);
        node.advance_ms(30_000);
        assert_eq!(node.sent().len(), 52, "{preset}: everybody is answered");
        let logs = node.logs();
        let warnings = logs.iter().filter(|(_, t)| t.contains("cannot be saved")).count();
        assert_eq!(warnings, 1, "{preset}: {logs:?}");
        node.db_state = DbState::Up;
        node.advance_ms(12_000);
        assert_eq!(row_count(&mut node), 50, "{preset}: what changed meanwhile is written");
        assert_eq!(state(&mut node, "u7"), "CS_SYNC");
    }
}

#[test]
fn states_tell_how_a_contact_stands_to_its_row() {
    let mut node = node("write-back");
    register(&mut node, "alice", 1, 600);
    assert_eq!(state(&mut node, "alice"), "CS_NEW");
    node.advance_ms(11_000);
    assert_eq!(state(&mut node, "alice"), "CS_SYNC");
    register(&mut node, "alice", 2, 600);
    assert_eq!(state(&mut node, "alice"), "CS_DIRTY");
    node.mi("usrloc:flush", Json::Null);
    assert_eq!((state(&mut node, "alice"), row_count(&mut node)), ("CS_SYNC".into(), 1));
}

#[test]
fn a_table_that_cannot_be_loaded_at_start_is_loaded_when_the_database_is_back() {
    let mut first = node("write-through");
    register(&mut first, "alice", 1, 600);
    let rows = first.db.clone();
    let mut node = TestNode::with_slow_database(&script("write-through"), MODULES, rows);
    node.db_state = DbState::Down;
    node.fail_queries();
    assert_eq!(state(&mut node, "alice"), "gone");
    register(&mut node, "bob", 1, 600);
    node.db_state = DbState::Up;
    node.advance_ms(3_000);
    assert_eq!(state(&mut node, "alice"), "CS_SYNC");
    assert_eq!(state(&mut node, "bob"), "CS_SYNC");
}

#[test]
fn many_rows_come_in_pages_and_ended_ones_go() {
    let mut first = node("write-through");
    for n in 0..5_003 {
        register(&mut first, &format!("u{n}"), 1, 600);
    }
    register(&mut first, "short", 1, 60);
    assert_eq!(row_count(&mut first), 5_004);
    let rows = first.db.clone();
    let mut node = TestNode::with_slow_database(&script("write-through"), MODULES, rows);
    node.advance_ms(61_000);
    node.db_state = DbState::Up;
    assert!(node.answer_queries() == 2);
    let users = node.mi("get_statistics", json!({"statistics": ["registered_users"]}));
    assert_eq!(users["result"]["usrloc:registered_users"], json!(5_003));
    assert_eq!(row_count(&mut node), 5_003);
}

#[test]
fn a_table_of_another_version_is_refused() {
    let start = |version: Option<i64>| {
        let mut logs = Vec::new();
        let node = TestNode::with_database(&script("write-through"), MODULES, |db| {
            let row = version.map(|version| Query::Insert {
                table: "version".into(),
                row: vec![
                    ("table_name".into(), "location".into()),
                    ("table_version".into(), version.into()),
                ],
            });
            row.map(|row| db.execute(&row).unwrap());
        });
        node.map(|mut node| {
            assert!(node.node().is_ready());
            logs.extend(node.logs().into_iter().map(|(_, text)| text));
            logs
        })
    };
    assert!(start(None).unwrap().is_empty(), "nobody has said what it is");
    assert!(start(Some(1_013)).unwrap().is_empty());
    let refused = start(Some(1_011)).unwrap_err();
    let wanted = "table `location` has version 1011 in the table `version`, 1013 is wanted";
    assert!(refused.contains(wanted), "{refused}");
}

#[test]
fn commands_wait_for_the_tables() {
    let mut before = node("write-through");
    register(&mut before, "alice", 1, 600);
    let mut node = TestNode::with_slow_database(&script("write-through"), MODULES, before.db);
    assert!(node.mi("which", Json::Null)["result"].is_array(), "what the node tells of itself");
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"ul_dump"}"#;
    node.step(Input::Mi { request: 77, text: text.into() });
    assert_eq!(node.mi_text(77), None);
    while node.answer_queries() > 0 {}
    node.advance_ms(10);
    let answer = node.mi_text(77).unwrap();
    assert!(answer.contains("sip:alice@10.0.0.9:5070"), "{answer}");
    // They do not wait for a database that says nothing.
    let mut node = TestNode::with_slow_database(&script("write-through"), MODULES, node.db);
    node.step(Input::Mi { request: 77, text: text.into() });
    node.advance_ms(4_000);
    assert!(node.mi_text(77).unwrap().contains("Domains"));
}

/// `last_modified` and `expires` of the only row.
fn times(node: &mut TestNode) -> (i64, i64) {
    let columns = vec!["last_modified".into(), "expires".into()];
    let select = Select { table: "location".into(), columns, ..Select::default() };
    let rows = node.db.execute(&Query::Select(select)).unwrap().rows;
    (rows[0][0].as_time().unwrap(), rows[0][1].as_int().unwrap())
}

#[test]
fn last_modified_is_what_the_clock_of_the_host_shows() {
    let mut node = node("write-through");
    node.node().zone.set("America/New_York").unwrap();
    register(&mut node, "alice", 1, 600);
    let now_s = node.now().unix_s() as i64;
    assert_eq!(times(&mut node), (now_s - 5 * 3600, now_s + 600), "in winter");
    let db = node.db.clone();
    let mut node = TestNode::with_slow_database(&script("write-through"), MODULES, db);
    node.node().zone.set("America/New_York").unwrap();
    node.answer_queries();
    node.mi("usrloc:sync", json!(["location"]));
    node.answer_queries();
    assert_eq!(state(&mut node, "alice"), "CS_SYNC");
    assert_eq!(times(&mut node).0, now_s - 5 * 3600, "what was read was read by that clock");
}

#[test]
fn a_row_with_the_default_of_last_modified_is_taken() {
    let regenerates = "modparam(\"usrloc\", \"regen_broken_contactid\", 1)\nroute {";
    let script = script("write-through").replace("route {", regenerates);
    let columns: [(&str, Value); 7] = [
        ("username", "alice".into()),
        ("domain", "example.org".into()),
        ("contact", "sip:alice@10.0.0.9".into()),
        ("expires", Value::Int(0)),
        ("q", Value::Float(-1.0)),
        ("callid", "c".into()),
        ("cseq", Value::Int(13)),
    ];
    let row: Vec<_> = columns.into_iter().map(|(name, value)| (name.into(), value)).collect();
    let add = |db: &mut MemoryDb| {
        db.execute(&Query::Insert { table: "location".into(), row }).unwrap();
    };
    let mut node = TestNode::with_database(&script, MODULES, add).unwrap();
    assert_ne!(state(&mut node, "alice"), "gone", "{:?}", node.logs());
}
