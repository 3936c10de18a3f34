//! What is in the database, and checks of the parameters about it.

#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]
#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_db::{Query, Select, Value};
use tandem_engine::effect::Input;
use tandem_engine::testing::TestNode;

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
    let mut node = node(&params, CREATE, "");
    assert!(said(&mut node).iter().any(|line| line.contains("table calls cannot be loaded")));
}

/// `*_column`: the names are those of the parameters.
pub fn columns_follow_their_parameters() {
    for def in tandem_dialog::MODULE.params.iter().filter(|p| p.name.ends_with("_column")) {
        let params = database(1) + &set(def.name, "\"no_such\"");
        let mut node = node(&params, CREATE, "");
        let told = said(&mut node);
        assert!(told.iter().any(|line| line.contains("no_such")), "{}: {told:?}", def.name);
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
