//! What is in the database, and checks of the parameters about it.

#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]
#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_db::{Cond, Query, Select, Value};
use tandem_engine::effect::Input;
use tandem_engine::testing::{DbState, TestNode};

use crate::common::*;

pub const CREATE: &str = "create_dialog();";
const LOAD: &str = "loadmodule \"db_sqlite.so\"\n";

/// The lines that give a node a database in this mode.
pub fn database(mode: u32) -> String {
    LOAD.to_owned() + &set("db_url", "\"sqlite:///x.db\"") + &set("db_mode", &mode.to_string())
}

/// The node again, with the same database.
pub fn restarted(node: TestNode, params: &str) -> TestNode {
    let old = node.db;
    TestNode::with_database(&script(params, CREATE, ""), MODULES, |db| *db = old).unwrap()
}

/// Dialog id, Call-ID and state of all rows.
pub fn rows(node: &mut TestNode) -> Vec<(i64, String, i64)> {
    rows_of(node, "dialog", ["dlg_id", "callid", "state"])
}

fn rows_of(node: &mut TestNode, table: &str, columns: [&str; 3]) -> Vec<(i64, String, i64)> {
    let columns = columns.map(|name| name.to_owned().into()).into();
    let select = Select { table: table.to_owned().into(), columns, ..Select::default() };
    let rows = node.db.execute(&Query::Select(select)).unwrap().rows;
    let of = |row: &Vec<Value>| {
        let text = row[1].as_str().unwrap_or_default().to_owned();
        (row[0].as_int().unwrap_or(0), text, row[2].as_int().unwrap_or(0))
    };
    rows.iter().map(of).collect()
}

fn text_of(node: &mut TestNode, column: &str) -> String {
    let column = column.to_owned().into();
    let select = Select { table: "dialog".into(), columns: vec![column], ..Select::default() };
    let rows = node.db.execute(&Query::Select(select)).unwrap().rows;
    let bytes = rows.first().and_then(|row| row[0].as_bytes().map(<[u8]>::to_vec));
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// `db_mode` 1 and `db_url`.
pub fn written_at_once() {
    let mut node = node(&database(1), CREATE, "");
    let mut phones = Phones::dial(&mut node, "c");
    assert_eq!(rows(&mut node), []);
    phones.answer(&mut node);
    let number: i64 = listed(&mut node)["db_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(rows(&mut node), [(number, "c".to_owned(), 3)]);
    phones.ack(&mut node);
    assert_eq!(rows(&mut node), [(number, "c".to_owned(), 4)]);
    node.udp(CALLER, &phones.within("BYE", 8, ""));
    assert_eq!(rows(&mut node), []);
    let none = TestNode::try_new(&script(&set("db_mode", "1"), CREATE, ""), MODULES);
    assert!(none.err().unwrap().contains("needs a database"));
}

/// `db_mode` 2 and `db_update_period`.
pub fn written_by_the_timer() {
    let params = database(2) + &set("db_update_period", "20");
    let mut node = node(&params, CREATE, "");
    let phones = Phones::talk(&mut node, "c");
    assert_eq!(rows(&mut node).len(), 0);
    node.advance_ms(21_000);
    assert_eq!(rows(&mut node).len(), 1);
    node.udp(CALLER, &phones.within("BYE", 8, ""));
    assert_eq!(rows(&mut node).len(), 1);
    node.advance_ms(21_000);
    assert_eq!(rows(&mut node).len(), 0);
}

/// `db_mode` 3.
pub fn written_at_the_end() {
    let mut node = node(&database(3), CREATE, "");
    Phones::talk(&mut node, "c");
    node.advance_ms(100_000);
    assert_eq!(rows(&mut node).len(), 0);
    node.step(Input::Shutdown);
    assert_eq!(rows(&mut node).len(), 1);
}

/// `table_name`: a table that is not there is said to be so.
pub fn another_table() {
    let params = database(1) + &set("table_name", "\"calls\"");
    let refused = TestNode::try_new(&script(&params, CREATE, ""), MODULES).err().unwrap();
    assert!(refused.contains("table calls cannot be loaded"), "{refused}");
}

/// `*_column`: the names are those of the parameters.
pub fn columns_follow_their_parameters() {
    for def in tandem_dialog::MODULE.params.iter().filter(|p| p.name.ends_with("_column")) {
        let params = database(1) + &set(def.name, "\"no_such\"");
        let refused = TestNode::try_new(&script(&params, CREATE, ""), MODULES).err().unwrap();
        assert!(refused.contains("no_such"), "{}: {refused}", def.name);
    }
}

/// `timer_bulk_del_no`: so many rows go in one query.
pub fn deletes_are_gathered() {
    for (at_once, queries) in [("1", 4), ("2", 2)] {
        let params = database(2) + &set("timer_bulk_del_no", at_once);
        let first = node(&params, CREATE, "");
        let mut node =
            TestNode::with_slow_database(&script(&params, CREATE, ""), MODULES, first.db);
        node.answer_queries();
        let phones: Vec<Phones> =
            (0..4).map(|n| Phones::talk(&mut node, &format!("c{n}"))).collect();
        node.advance_ms(61_000);
        while node.answer_queries() > 0 {}
        assert_eq!(rows(&mut node).len(), 4);
        for phones in &phones {
            node.udp(CALLER, &phones.within("BYE", 8, ""));
        }
        node.advance_ms(61_000);
        let mut asked = 0;
        loop {
            match node.answer_queries() {
                0 => break,
                n => asked += n,
            }
        }
        assert_eq!((asked, rows(&mut node).len()), (queries, 0));
    }
}

/// `dialog:db_sync`: rows that came into the table from outside are taken.
pub fn rows_are_read_again() {
    let params = database(1);
    let mut other = node(&params, CREATE, "");
    Phones::talk(&mut other, "theirs");
    let mut node = node(&params, CREATE, "");
    assert_eq!(listed(&mut node), Json::Null);
    node.db = other.db;
    for command in ["dialog:db_sync", "dlg_db_sync"] {
        assert_eq!(node.mi(command, Json::Null)["result"], "OK");
    }
    assert_eq!(listed(&mut node)["callid"], "theirs");
    let mut without = without_rows();
    let refused = without.mi("dialog:db_sync", Json::Null);
    assert_eq!(refused["error"], json!({"code": 400, "message": "Cannot sync in no-db mode"}));
    changed_rows_are_taken();
    dropped_rows_are_forgotten();
    what_waits_is_newer_than_its_row();
}

fn change_row(node: &mut TestNode, column: &'static str, value: impl Into<Value>) {
    let id = rows(node)[0].0;
    let query = Query::Update {
        table: "dialog".into(),
        set: vec![(column.into(), value.into())],
        conds: vec![Cond::eq("dlg_id", id)],
    };
    node.db.execute(&query).unwrap();
}

fn changed_rows_are_taken() {
    let create = "create_dialog(); $dlg_val(a) = \"1\"; $dlg_val(b) = \"2\"; \
                  set_dlg_profile(\"calls\", \"x\"); set_dlg_flag(\"OLD\");";
    let params = database(1) + &set("profiles_with_value", "\"calls\"");
    let mut node = node(&params, create, "if (is_dlg_flag_set(\"NEW\")) exit;");
    Phones::talk(&mut node, "c");
    let ends = (node.now().unix_s() + 500) as i64;
    change_row(&mut node, "timeout", ends);
    change_row(&mut node, "vars", Value::Blob((&b"a#1#other|c#2#7|"[..]).into()));
    change_row(&mut node, "profiles", "calls#1#y|");
    change_row(&mut node, "script_flags", "NEW");
    change_row(&mut node, "callee_contact", "sip:new@127.0.0.9");
    assert_eq!(node.mi("dlg_db_sync", Json::Null)["result"], "OK");
    let now = node.mi("dialog:list_ctx", Json::Null)["result"]["Dialogs"][0].clone();
    assert_eq!((&now["timeout"], &now["user_flags"]), (&json!(ends), &json!("NEW")));
    assert_eq!(now["CALLEES"][0]["callee_contact"], "sip:new@127.0.0.9");
    let values = now["context"]["values"].to_string();
    assert!(values.contains("\"a\":\"other\"") && values.contains("\"c\":7"), "{values}");
    assert!(!values.contains("\"b\""), "{values}");
    assert_eq!(now["context"]["profiles"], json!([{"calls": "y"}]));
    // Nothing is left to do.
    node.mi("dlg_db_sync", Json::Null);
    let again = node.mi("dialog:list_ctx", Json::Null)["result"]["Dialogs"][0].clone();
    assert_eq!(again, now);
    node.advance_ms(502_000);
    assert_eq!(state(&mut node), 5, "its time is over");
}

fn dropped_rows_are_forgotten() {
    let mut node = node(&database(1), CREATE, "");
    Phones::talk(&mut node, "stays");
    let phones = Phones::talk(&mut node, "goes");
    let gone = vec![Cond::eq("callid", "goes")];
    node.db.execute(&Query::Delete { table: "dialog".into(), conds: gone }).unwrap();
    node.sent();
    assert_eq!(node.mi("dlg_db_sync", Json::Null)["result"], "OK");
    let all = node.mi("dialog:list", Json::Null)["result"]["Dialogs"].clone();
    assert_eq!((all.as_array().unwrap().len(), &all[0]["callid"]), (1, &json!("stays")));
    assert!(node.sent().is_empty(), "no phone is told");
    node.udp(CALLER, &phones.within("BYE", 8, ""));
    assert!(!node.sent().is_empty(), "its requests go on");
    // A table that cannot be read says nothing about its rows.
    node.db_state = DbState::Down;
    let refused = node.mi("dlg_db_sync", Json::Null);
    assert_eq!(refused["error"], json!({"code": 400, "message": "Sync mem with DB failed"}));
    assert_eq!(listed(&mut node)["callid"], "stays");
}

fn what_waits_is_newer_than_its_row() {
    let params = database(2) + &set("db_update_period", "20");
    let mut node = node(&params, "create_dialog(); $dlg_val(v) = \"new\";", "");
    Phones::talk(&mut node, "c");
    node.mi("dlg_db_sync", Json::Null);
    assert_eq!(listed(&mut node)["callid"], "c", "it has no row yet");
    node.advance_ms(21_000);
    node.mi(
        "dialog:push_var",
        json!({"dlg_val_name": "v", "dlg_val_value": "newer", "DID": ["c"]}),
    );
    node.mi("dlg_db_sync", Json::Null);
    let values = node.mi("dialog:list_ctx", Json::Null).to_string();
    assert_eq!(values.contains("newer"), !values.contains("\"new\""), "{values}");
}

/// A database that is away when the node starts: its dialogs come in when it is back.
#[test]
fn dialogs_come_in_when_their_database_is_back() {
    let mut other = node(&database(1), CREATE, "");
    Phones::talk(&mut other, "theirs");
    let text = script(&database(1), CREATE, "");
    let mut node = TestNode::with_slow_database(&text, MODULES, other.db);
    node.fail_queries();
    assert_eq!(listed(&mut node), Json::Null);
    node.db_state = DbState::Up;
    node.advance_ms(1_100);
    assert_eq!(listed(&mut node)["callid"], "theirs");
}

/// `dialog:restore_db`: the table says what is in memory, and nothing else.
pub fn rows_are_written_again() {
    let mut node = node(&database(1), CREATE, "");
    Phones::talk(&mut node, "c");
    for command in ["dialog:restore_db", "dlg_restore_db"] {
        let wrong = Query::Delete { table: "dialog".into(), conds: Vec::new() };
        node.db.execute(&wrong).unwrap();
        assert_eq!(node.mi(command, Json::Null)["result"], "OK");
        assert_eq!(rows(&mut node).len(), 1);
    }
    let mut without = without_rows();
    let refused = without.mi("dialog:restore_db", Json::Null);
    let wanted = json!({"code": 400, "message": "Cannot restore db in no-db mode!"});
    assert_eq!(refused["error"], wanted);
}

fn without_rows() -> TestNode {
    node("", CREATE, "")
}

/// `db_flush_vals_profiles`.
pub fn values_are_written() {
    for (flush, at_once) in [("0", false), ("1", true)] {
        let params = database(1) + &set("db_flush_vals_profiles", flush);
        let mut node = node(&params, CREATE, "$dlg_val(later) = $rm;");
        let phones = Phones::talk(&mut node, "c");
        node.advance_ms(61_000);
        node.udp(CALLER, &phones.within("INFO", 8, ""));
        node.udp(CALLER, &phones.within("MESSAGE", 9, ""));
        let vars = text_of(&mut node, "vars");
        assert_eq!(vars.contains("later#1#MESSAGE"), at_once, "{vars}");
        node.advance_ms(61_000);
        assert!(text_of(&mut node, "vars").contains("later#1#MESSAGE"));
    }
}
