//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_db::Query;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_domain::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\nloadmodule \"domain.so\"\n";
const URL: &str = "modparam(\"domain\", \"db_url\", \"sqlite:///tmp/x.db\")\n";
const CACHED: &str = "modparam(\"domain\", \"db_mode\", 1)\n";
const REQUEST: &str = "OPTIONS sip:x@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";

fn insert(node: &mut tandem_db::memory::MemoryDb, name: &str, attrs: Option<&str>, sub: i64) {
    let row = vec![
        ("domain".into(), name.into()),
        ("attrs".into(), attrs.into()),
        ("accept_subdomain".into(), sub.into()),
    ];
    node.execute(&Query::Insert { table: "domain".into(), row }).unwrap();
}

fn node(params: &str, route: &str) -> TestNode {
    let script = format!("{MODULE_LINES}{params}route {{ {route} }}");
    let node = TestNode::with_database(&script, MODULES, |db| {
        insert(db, "from.test", None, 0);
        insert(db, "uri.test", Some("a=1"), 0);
        insert(db, "sub.test", Some("s"), 1);
    });
    node.unwrap()
}

/// What a condition and its `$avp(x)` come to, in both modes, which must agree.
fn asked(call: &str) -> String {
    let route = format!("{call}; xlog(\"L_NOTICE\", \"$rc $avp(x)\");");
    let one = |params: &str| {
        let mut node = node(&format!("{URL}{params}"), &route);
        node.udp("127.0.0.9:5060", REQUEST);
        node.logs().pop().unwrap().1
    };
    let (asking, cached) = (one(""), one(CACHED));
    assert_eq!(asking, cached, "{call}");
    cached
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_domain::MODULE,
        &[
            ("param db_url", database),
            ("param db_mode", modes),
            ("param domain_table", names),
            ("param domain_col", names),
            ("param attrs_col", names),
            ("param accept_subdomain_col", names),
            ("function is_from_local", from),
            ("function is_uri_host_local", uri),
            ("function is_domain_local", domains),
            ("mi domain:reload", reload),
            ("mi domain:dump", dump),
        ],
    );
}

fn database() {
    let errors = TestNode::try_new(&format!("{MODULE_LINES}route {{ exit; }}"), MODULES).err();
    assert!(errors.unwrap().contains("domain needs a database"));
    let mut node = node(
        "db_default_url = \"sqlite:///tmp/x.db\"\n",
        "is_domain_local(\"uri.test\"); xlog(\"L_NOTICE\", \"$rc\");",
    );
    node.udp("127.0.0.9:5060", REQUEST);
    assert_eq!(node.logs()[0].1, "1");
}

fn modes() {
    let route = "is_domain_local(\"new.test\"); xlog(\"L_NOTICE\", \"$rc\");";
    let after_insert = |params: &str| {
        let mut node = node(&format!("{URL}{params}"), route);
        insert(&mut node.db, "new.test", None, 0);
        node.udp("127.0.0.9:5060", REQUEST);
        node.logs()[0].1.clone()
    };
    assert_eq!((&*after_insert(""), &*after_insert(CACHED)), ("1", "-1"));
    let wrong = "modparam(\"domain\", \"db_mode\", 2)\n";
    let script = format!("{MODULE_LINES}{URL}{wrong}route {{ exit; }}");
    assert!(TestNode::try_new(&script, MODULES).is_err());
}

fn names() {
    let code = |params: &str, call: &str| {
        let route = format!("{call}; xlog(\"L_NOTICE\", \"$rc $avp(x)\");");
        let mut node = node(&format!("{URL}{params}"), &route);
        node.udp("127.0.0.9:5060", REQUEST);
        node.logs().pop().unwrap().1
    };
    let ask = "is_domain_local(\"uri.test\", $avp(x))";
    assert_eq!(code("", ask), "1 a=1");
    let set = |name: &str, value: &str| format!("modparam(\"domain\", \"{name}\", \"{value}\")\n");
    assert_eq!(code(&set("attrs_col", "domain"), ask), "1 uri.test");
    assert_eq!(code(&set("domain_col", "attrs"), ask), "-1 <null>");
    assert_eq!(code(&set("domain_table", "nosuch"), ask), "-1 <null>");
    let sub = "is_domain_local(\"x.sub.test\", $avp(x))";
    assert_eq!(code("", sub), "1 s");
    assert_eq!(code(&set("accept_subdomain_col", "attrs"), sub), "-1 <null>");
}

fn from() {
    assert_eq!(asked("is_from_local()"), "1 <null>");
    assert_eq!(asked("is_from_local($avp(x))"), "1 <null>");
}

fn uri() {
    assert_eq!(asked("is_uri_host_local()"), "1 <null>");
    assert_eq!(asked("is_uri_host_local($avp(x))"), "1 a=1");
    assert_eq!(asked("sethost(\"other.test\"); is_uri_host_local()"), "-1 <null>");
}

fn domains() {
    assert_eq!(asked("is_domain_local(\"URI.test\", $avp(x))"), "1 a=1");
    assert_eq!(asked("is_domain_local(\"a.b.sub.test\", $avp(x))"), "1 s");
    assert_eq!(asked("is_domain_local(\"a.uri.test\")"), "-1 <null>");
    assert_eq!(asked("is_domain_local(\"\")"), "-1 <null>");
    assert_eq!(asked("is_domain_local($td)"), "-1 <null>");
}

fn reload() {
    let mut node = node(
        &format!("{URL}{CACHED}"),
        "is_domain_local(\"new.test\"); \
         xlog(\"L_NOTICE\", \"$rc\");",
    );
    insert(&mut node.db, "new.test", None, 0);
    assert_eq!(node.mi("domain:reload", Json::Null)["result"], "OK");
    node.udp("127.0.0.9:5060", REQUEST);
    assert_eq!(node.logs()[0].1, "1");
    let error = self::node(URL, "exit;").mi("domain:reload", Json::Null);
    assert_eq!(error["error"]["code"], 500);
    assert_eq!(error["error"]["message"], "DB is disabled (db_mode=0)");
}

fn dump() {
    let mut node = node(&format!("{URL}{CACHED}"), "exit;");
    let listed = node.mi("domain:dump", Json::Null)["result"].clone();
    let wanted = json!({"Domains": [
        {"name": "from.test"},
        {"name": "sub.test", "attributes": "s"},
        {"name": "uri.test", "attributes": "a=1"},
    ]});
    assert_eq!(listed, wanted);
}
