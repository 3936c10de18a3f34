//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_db::Query;
use tandem_db::memory::MemoryDb;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{DbState, TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_alias_db::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\nloadmodule \"alias_db.so\"\n";
const URL: &str = "modparam(\"alias_db\", \"db_url\", \"sqlite:///tmp/x.db\")\n";
const REQUEST: &str = "OPTIONS sip:info@a.test:5080 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";
const LOOKUP: &str = "alias_db_lookup(\"dbaliases\")";

fn insert(db: &mut MemoryDb, alias: (&str, &str), real: (&str, &str)) {
    let row = vec![
        ("alias_username".into(), alias.0.into()),
        ("alias_domain".into(), alias.1.into()),
        ("username".into(), real.0.into()),
        ("domain".into(), real.1.into()),
    ];
    db.execute(&Query::Insert { table: "dbaliases".into(), row }).unwrap();
}

fn fill(db: &mut MemoryDb) {
    insert(db, ("info", "a.test"), ("alice", "b.test"));
    insert(db, ("info", "c.test"), ("carol", "c.test"));
    insert(db, ("any", "a.test"), ("info", "a.test"));
}

/// The return code of a call, `$ru`, `$avp(x)` and how many branches there are.
fn asked(params: &str, call: &str) -> String {
    let route = format!("{call}; xlog(\"L_NOTICE\", \"$rc $ru $avp(x) $(msg.branch.uri[1])\");");
    let script = format!("{MODULE_LINES}{params}route {{ {route} }}");
    let mut node = TestNode::with_database(&script, MODULES, fill).unwrap();
    node.udp("127.0.0.9:5060", REQUEST);
    node.logs().pop().unwrap().1
}

fn set(name: &str, value: &str) -> String {
    format!("{URL}modparam(\"alias_db\", \"{name}\", {value})\n")
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_alias_db::MODULE,
        &[
            ("param db_url", database),
            ("param user_column", names),
            ("param domain_column", names),
            ("param alias_user_column", names),
            ("param alias_domain_column", names),
            ("param domain_prefix", prefix),
            ("param append_branches", branches),
            ("function alias_db_lookup", lookup),
            ("function alias_db_find", find),
        ],
    );
}

fn database() {
    let script = format!("{MODULE_LINES}route {{ exit; }}");
    let errors = TestNode::try_new(&script, MODULES).err();
    assert!(errors.unwrap().contains("alias_db needs a database"));
    assert!(asked("db_default_url = \"sqlite:///tmp/x.db\"\n", LOOKUP).starts_with("1 "));
}

fn names() {
    assert_eq!(asked(URL, LOOKUP), "1 sip:alice@b.test <null> <null>");
    let is = |name: &str, value: &str, wanted: &str| {
        assert_eq!(asked(&set(name, &format!("\"{value}\"")), LOOKUP), wanted, "{name}");
    };
    is("user_column", "domain", "1 sip:b.test@b.test <null> <null>");
    is("domain_column", "alias_domain", "1 sip:alice@a.test <null> <null>");
    is("alias_user_column", "username", "1 sip:info@a.test <null> <null>");
    is("alias_domain_column", "domain", "-1 sip:info@a.test:5080 <null> <null>");
    assert!(asked(URL, "alias_db_lookup(\"nosuch\")").starts_with("-1 "));
}

fn prefix() {
    let call = "sethost(\"sip.a.test\"); alias_db_lookup(\"dbaliases\")";
    assert!(asked(URL, call).starts_with("-1 "));
    assert!(asked(&set("domain_prefix", "\"sip.\""), call).starts_with("1 sip:alice@b.test"));
}

fn branches() {
    let call = "alias_db_lookup(\"dbaliases\", \"d\")";
    assert_eq!(asked(URL, call), "1 sip:alice@b.test <null> <null>");
    let both = asked(&set("append_branches", "1"), call);
    assert_eq!(both, "1 sip:alice@b.test <null> sip:carol@c.test");
}

fn lookup() {
    assert_eq!(asked(URL, LOOKUP), "1 sip:alice@b.test <null> <null>");
    let reverse = asked(URL, "alias_db_lookup(\"dbaliases\", \"r\")");
    assert_eq!(reverse, "1 sip:any@a.test <null> <null>");
    assert!(asked(URL, "seturi(\"sip:a.test\"); alias_db_lookup(\"dbaliases\")").starts_with("-1"));
    let wrong = format!("{MODULE_LINES}{URL}route {{ alias_db_lookup(\"dbaliases\", \"x\"); }}");
    assert!(TestNode::try_new(&wrong, MODULES).err().unwrap().contains("flag `x`"));
    let route = "alias_db_lookup(\"dbaliases\"); xlog(\"L_NOTICE\", \"$rc\");";
    let script = format!("{MODULE_LINES}{URL}route {{ {route} }}");
    let mut node = TestNode::with_database(&script, MODULES, fill).unwrap();
    node.db_state = DbState::Down;
    node.udp("127.0.0.9:5060", REQUEST);
    assert_eq!(node.logs().pop().unwrap().1, "-1");
}

fn find() {
    let call = "alias_db_find(\"dbaliases\", \"sip:info@c.test\", $avp(x))";
    assert_eq!(asked(URL, call), "1 sip:info@a.test:5080 sip:carol@c.test <null>");
    let back = "alias_db_find(\"dbaliases\", \"sip:alice@b.test\", $avp(x), \"r\")";
    assert_eq!(asked(URL, back), "1 sip:info@a.test:5080 sip:info@a.test <null>");
    let none = "alias_db_find(\"dbaliases\", \"sip:alice@b.test\", $avp(x))";
    assert_eq!(asked(URL, none), "-1 sip:info@a.test:5080 <null> <null>");
}
