//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Rows, Select, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{DbState, TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_sqlops::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\nloadmodule \"tm.so\"\n\
     loadmodule \"sqlops.so\"\n";
const URL: &str = "modparam(\"sqlops\", \"db_url\", \"sqlite:///tmp/x.db\")\n";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";

fn preference(
    db: &mut MemoryDb,
    user: (&str, &str, &str),
    attribute: &str,
    kind: i64,
    value: &str,
) {
    let row = vec![
        ("uuid".into(), user.0.into()),
        ("username".into(), user.1.into()),
        ("domain".into(), user.2.into()),
        ("attribute".into(), attribute.into()),
        ("type".into(), kind.into()),
        ("value".into(), value.into()),
    ];
    db.execute(&Query::Insert { table: "usr_preferences".into(), row }).unwrap();
}

fn fill(db: &mut MemoryDb) {
    preference(db, ("id1", "u", "uri.test"), "lang", 0, "de");
    preference(db, ("id1", "u", "uri.test"), "limit", 2, "5");
    preference(db, ("id2", "u", "other.test"), "lang", 0, "fr");
    for (name, port) in [("a.test", 1), ("b.test", 2), ("c.test", 3)] {
        let row = vec![
            ("domain".into(), name.into()),
            ("attrs".into(), Value::Null),
            ("accept_subdomain".into(), port.into()),
        ];
        db.execute(&Query::Insert { table: "domain".into(), row }).unwrap();
    }
}

fn node(params: &str, route: &str) -> TestNode {
    let script = format!("{MODULE_LINES}{params}route {{ {route} }}");
    let mut node = TestNode::with_database(&script, MODULES, fill).unwrap();
    let rows = |rows: Vec<Vec<Value>>| Rows { rows, ..Rows::default() };
    let big = 1i64 << 40;
    node.sql.insert(
        "SELECT one".into(),
        rows(vec![vec!["a".into(), 1.into()], vec!["b".into(), Value::Null]]),
    );
    node.sql.insert("select u".into(), rows(vec![vec!["user".into()]]));
    node.sql.insert("select big".into(), rows(vec![vec![big.into()]]));
    node.sql.insert("select none".into(), Rows::default());
    node.sql.insert("UPDATE x".into(), Rows::default());
    node.sql.insert("call p(1)".into(), rows(vec![vec!["out".into(), 2.into()]]));
    node.sql.insert("with c as (select 1) select none".into(), Rows::default());
    node
}

/// The return code of a call, with all of `$avp(x)` and `$avp(y)`.
fn asked(params: &str, call: &str) -> String {
    let tell = "xlog(\"L_NOTICE\", \"$rc $(avp(x)[*]) $(avp(y)[*])\");";
    let mut node = node(&format!("{URL}{params}"), &format!("{call}; {tell}"));
    node.udp("127.0.0.9:5060", REQUEST);
    node.logs().pop().unwrap().1
}

/// The rows of a table after a call.
fn after(call: &str, table: &'static str, columns: &[&'static str]) -> Vec<Vec<Value>> {
    let mut node = node(URL, &format!("{call}; xlog(\"L_NOTICE\", \"$rc\");"));
    node.udp("127.0.0.9:5060", REQUEST);
    assert_eq!(node.logs().pop().unwrap().1, "1", "{call}");
    let columns = columns.iter().map(|c| (*c).into()).collect();
    let select = Select { table: table.into(), columns, ..Select::default() };
    node.db.execute(&Query::Select(select)).unwrap().rows
}

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"sqlops\", \"{name}\", {value})\n")
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_sqlops::MODULE,
        &[
            ("param db_url", databases),
            ("param usr_table", layout),
            ("param use_domain", layout),
            ("param uuid_column", layout),
            ("param attribute_column", layout),
            ("param value_column", layout),
            ("param type_column", layout),
            ("param username_column", layout),
            ("param domain_column", layout),
            ("param db_scheme", schemes),
            ("param ps_id_max_buf_len", accepted),
            ("param bigint_to_str", big_numbers),
            ("function sql_query", query),
            ("function sql_query_one", query_one),
            ("function sql_avp_load", load),
            ("function sql_avp_delete", delete_preferences),
            ("function sql_avp_store", store),
            ("function sql_select", select),
            ("function sql_select_one", select_one),
            ("function sql_update", update),
            ("function sql_insert", insert),
            ("function sql_delete", delete),
            ("function sql_replace", replace),
        ],
    );
}

fn databases() {
    let call = "sql_query(\"SELECT one\", \"$avp(x)\", 3)";
    assert_eq!(asked("", call), "-1 <null> <null>");
    assert_eq!(asked(&set("db_url", "\"3 sqlite:///tmp/y.db\""), call), "1 a, b <null>");
    let twice = format!("{MODULE_LINES}{URL}{URL}route {{ exit; }}");
    assert!(TestNode::try_new(&twice, MODULES).err().unwrap().contains("given twice"));
    let wrong = format!("{MODULE_LINES}{}route {{ exit; }}", set("db_url", "\"x sqlite:///y\""));
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
    let route = "sql_query(\"select u\", \"$avp(x)\"); xlog(\"L_NOTICE\", \"$avp(x)\");";
    let mut node = node("db_default_url = \"sqlite:///tmp/x.db\"\n", route);
    node.udp("127.0.0.9:5060", REQUEST);
    assert_eq!(node.logs().pop().unwrap().1, "user");
}

fn accepted() {
    assert_eq!(
        asked(&set("ps_id_max_buf_len", "99"), "sql_query(\"UPDATE x\")"),
        "1 <null> <null>"
    );
}

fn big_numbers() {
    let call = "sql_query(\"select big\", \"$avp(x)\")";
    assert_eq!(asked("", call), "1 0 <null>");
    assert_eq!(asked(&set("bigint_to_str", "1"), call), "1 1099511627776 <null>");
}

fn query() {
    let call = "sql_query(\"SELECT one\", \"$avp(x);$avp(y)\")";
    assert_eq!(asked("", call), "1 a, b 1, <null>");
    assert_eq!(asked("", "sql_query(\"SELECT one\"); $avp(x) = $avp(1)"), "1 a <null>");
    assert_eq!(asked("", "sql_query(\"select none\", \"$avp(x)\")"), "-2 <null> <null>");
    assert_eq!(asked("", "sql_query(\"UPDATE x\")"), "1 <null> <null>");
    let procedure = "sql_query(\"call p(1)\", \"$avp(x);$avp(y)\")";
    assert_eq!(asked("", procedure), "1 out 2", "rows come from more than SELECT");
    let none = "sql_query(\"with c as (select 1) select none\", \"$avp(x)\")";
    assert_eq!(asked("", none), "-2 <null> <null>");
    assert_eq!(asked("", "sql_query(\"select wrong\")"), "-1 <null> <null>");
    assert_eq!(asked("", "sql_query(\"select $rU\", \"$avp(x)\")"), "1 user <null>");
    let wrong = format!("{MODULE_LINES}{URL}route {{ sql_query(\"select u\", \"x\"); }}");
    assert!(TestNode::try_new(&wrong, MODULES).err().unwrap().contains("list of variables"));
    let asynchronous = "async(sql_query(\"SELECT one\", \"$avp(x)\"), done); } \
        route[done] { xlog(\"L_NOTICE\", \"$rc $avp(x)\");";
    let mut node = node(URL, asynchronous);
    node.udp("127.0.0.9:5060", REQUEST);
    assert_eq!(node.logs().pop().unwrap().1, "1 a");
    node.db_state = DbState::Down;
    node.udp(
        "127.0.0.9:5060",
        &REQUEST.replace("z9hG4bKx", "z9hG4bKy").replace("CSeq: 1 ", "CSeq: 2 "),
    );
    assert_eq!(node.logs().pop().unwrap().1, "-1 <null>");
}

fn query_one() {
    let call = "sql_query_one(\"SELECT one\", \"$avp(x);$avp(y)\")";
    assert_eq!(asked("", call), "1 a 1");
    let var = "sql_query_one(\"SELECT one\", \"$var(a);$var(b)\"); $avp(x) = $var(a) + $var(b)";
    assert_eq!(asked("", var), "1 a1 <null>");
    assert_eq!(asked("", "sql_query_one(\"select none\", \"$avp(x)\")"), "-2 <null> <null>");
}

fn load() {
    let with =
        |call: &str| asked("", &format!("{call}; $avp(x) = $avp(lang); $avp(y) = $avp(limit)"));
    let code = |call: &str| asked("", call).split(' ').next().unwrap().to_owned();
    assert_eq!(with("sql_avp_load(\"$ru\", \"a\")"), "1 de 5");
    assert_eq!(with("sql_avp_load(\"$ru\", \"$avp(lang)\")"), "1 de <null>");
    assert_eq!(with("sql_avp_load(\"$ru\", \"s\")"), "1 de <null>");
    assert_eq!(with("sql_avp_load(\"$ru\", \"i/usr_preferences\")"), "1 <null> 5");
    let prefixed = "sql_avp_load(\"$ru\", \"a\", , \"p_\"); $avp(x) = $avp(p_lang)";
    assert_eq!(asked("", prefixed), "1 de <null>");
    assert_eq!(with("$avp(id) = \"id2\"; sql_avp_load(\"$avp(id)\", \"a\")"), "1 fr <null>");
    assert_eq!(code("sql_avp_load(\"$fu\", \"a\")"), "-1");
    assert_eq!(code("sql_avp_load(\"$fd/domain\", \"a\")"), "-1");
    assert_eq!(code("sql_avp_load(\"$rd/domain\", \"a\")"), "1");
    assert_eq!(code("sql_avp_load(\"$rU/username\", \"$avp(lang)\")"), "1");
    let wrong = format!("{MODULE_LINES}{URL}route {{ sql_avp_load(\"$ru\", \"lang\"); }}");
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn layout() {
    let call = "sql_avp_load(\"$ru\", \"$avp(lang)\"); $avp(x) = $avp(lang); $avp(y) = $avp(limit)";
    let is = |name: &str, value: &str, wanted: &str| {
        assert_eq!(asked(&set(name, value), call), wanted, "{name}");
    };
    is("use_domain", "0", "1 de <null>");
    is("value_column", "\"domain\"", "1 uri.test <null>");
    is("username_column", "\"value\"", "1 <null> <null>");
    is("domain_column", "\"value\"", "1 <null> <null>");
    is("attribute_column", "\"value\"", "1 <null> <null>");
    is("type_column", "\"nosuch\"", "1 <null> <null>");
    is("usr_table", "\"domain\"", "1 <null> <null>");
    let id = "$avp(id) = \"u\"; sql_avp_load(\"$avp(id)\", \"$avp(lang)\"); $avp(x) = $avp(lang)";
    assert_eq!(asked("", id), "1 <null> <null>");
    assert_eq!(asked(&set("uuid_column", "\"username\""), id), "1 de <null>");
    // Without the domain, the user of another one is found as well.
    let all = "sql_avp_load(\"sip:u@other.test\", \"a\")".replace("sip:u@other.test", "$ru");
    let both = format!("{all}; $avp(x) = $(avp(lang)[1])");
    assert_eq!(asked(&set("use_domain", "0"), &both), "1 fr <null>");
    assert_eq!(asked("", &both), "1 <null> <null>");
}

fn schemes() {
    let scheme = set(
        "db_scheme",
        "\"own:table=domain;domain_col=domain;username_col=domain;value_col=accept_subdomain;\
         value_type=integer\"",
    );
    let call = "$ru = \"sip:b.test@b.test\"; sql_avp_load(\"$ru\", \"$avp(x)/$own\")";
    assert_eq!(asked(&scheme, call), "1 2 <null>");
    assert_eq!(asked("", call), "-1 <null> <null>");
    let wrong = format!("{MODULE_LINES}{URL}{}route {{ exit; }}", set("db_scheme", "\"x:y=z\""));
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn delete_preferences() {
    let left = |call: &str| after(call, "usr_preferences", &["value"]);
    assert_eq!(left("sql_avp_delete(\"$ru\", \"$avp(lang)\")"), [["5".into()], ["fr".into()]]);
    assert_eq!(left("sql_avp_delete(\"$ru\", \"a\")"), [["fr".into()]]);
    assert_eq!(left("sql_avp_delete(\"$rU/username\", \"s\")"), [["5".into()]]);
}

fn store() {
    let columns = ["username", "domain", "uuid", "attribute", "type", "value"];
    let call = "$avp(n) = \"one\"; $avp(n) = 2; sql_avp_store(\"$fu\", \"$avp(n)\")";
    let rows = after(call, "usr_preferences", &columns);
    let row = |kind: i64, value: &str| -> Vec<Value> {
        vec!["f".into(), "from.test".into(), "".into(), "n".into(), kind.into(), value.into()]
    };
    assert_eq!(rows[3..], [row(0, "one"), row(2, "2")]);
    assert_eq!(asked("", "sql_avp_store(\"$fu\", \"$avp(nothing)\")"), "-1 <null> <null>");
}

fn select() {
    let columns = "[\\\"domain\\\",\\\"accept_subdomain\\\"]";
    let filter = "[{\\\"accept_subdomain\\\":{\\\">\\\":1}}]";
    let call = format!(
        "sql_select(\"{columns}\", \"domain\", \"{filter}\", \"domain desc\", \"$avp(x);$avp(y)\")"
    );
    assert_eq!(asked("", &call), "1 c.test, b.test 3, 2");
    let all = "sql_select(\"attrs\", \"domain\", , , \"$avp(x)\")";
    assert_eq!(asked("", all), "1 <null>, <null>, <null> <null>");
    let none = "sql_select(, \"domain\", \"{\\\"domain\\\":\\\"z\\\"}\", , \"$avp(x)\")";
    assert_eq!(asked("", none), "-2 <null> <null>");
    assert_eq!(asked("", "sql_select(, \"domain\", \"[\", , \"$avp(x)\")"), "-1 <null> <null>");
}

fn select_one() {
    let call = "sql_select_one(\"domain\", \"domain\", , \"domain desc\", \"$avp(x)\")";
    assert_eq!(asked("", call), "1 c.test <null>");
    let null = "sql_select_one(\"attrs\", \"domain\", , , \"$avp(x)\")";
    assert_eq!(asked("", null), "1 <null> <null>");
}

fn update() {
    let call = "sql_update(\"[{\\\"attrs\\\":\\\"new\\\"}]\", \"domain\", \
        \"[{\\\"domain\\\":\\\"b.test\\\"}]\")";
    let rows = after(call, "domain", &["attrs"]);
    assert_eq!(rows, [[Value::Null], ["new".into()], [Value::Null]]);
}

fn insert() {
    let call = "sql_insert(\"domain\", \"[{\\\"domain\\\":\\\"d.test\\\"},{\\\"attrs\\\":null}]\")";
    assert_eq!(after(call, "domain", &["domain"])[3], ["d.test".into()]);
    assert_eq!(asked("", "sql_insert(\"domain\", \"[]\")"), "-1 <null> <null>");
}

fn delete() {
    let one = "sql_delete(\"domain\", \"[{\\\"domain\\\":\\\"a.test\\\"}]\")";
    assert_eq!(after(one, "domain", &["domain"]).len(), 2);
    assert_eq!(after("sql_delete(\"domain\")", "domain", &["domain"]).len(), 0);
}

fn replace() {
    let call =
        "sql_replace(\"domain\", \"[{\\\"attrs\\\":\\\"x\\\"},{\\\"domain\\\":\\\"b.test\\\"}]\")";
    let rows = after(call, "domain", &["domain", "attrs"]);
    assert_eq!(rows.len(), 3);
    assert!(rows.contains(&vec!["b.test".into(), "x".into()]), "{rows:?}");
}
