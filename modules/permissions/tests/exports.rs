//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_db::Query;
use tandem_db::memory::MemoryDb;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_permissions::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\nloadmodule \"permissions.so\"\n";
const URL: &str = "modparam(\"permissions\", \"db_url\", \"sqlite:///tmp/x.db\")\n";
const REQUEST: &str = "REGISTER sip:x@uri.test SIP/2.0\nVia: SIP/2.0/UDP 10.1.2.3;branch=z9hG4bKx\n\
     From: <sip:f@from.test;x=y>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 REGISTER\n\
     Contact: <sip:c1@10.1.2.3>, <sip:c2@10.1.2.3:99>\nContent-Length: 0\n\n";

fn insert(db: &mut MemoryDb, group: i64, ip: &str, mask: i64, more: &[(&'static str, &str)]) {
    let mut row = vec![
        ("grp".into(), group.into()),
        ("ip".into(), ip.into()),
        ("mask".into(), mask.into()),
        ("port".into(), 0.into()),
        ("proto".into(), "any".into()),
    ];
    for (name, value) in more {
        row.retain(|(n, _)| n != name);
        row.push(((*name).into(), (*value).into()));
    }
    db.execute(&Query::Insert { table: "address".into(), row }).unwrap();
}

fn fill(db: &mut MemoryDb) {
    insert(db, 1, "10.1.2.3", 32, &[("context_info", "gw1"), ("pattern", "a*")]);
    insert(db, 2, "10.1.0.0", 16, &[("context_info", "net")]);
    insert(db, 3, "192.0.2.1", 32, &[("port", "5070"), ("proto", "tcp")]);
    insert(db, 0, "192.0.2.9", 32, &[]);
}

fn node(params: &str, route: &str) -> TestNode {
    let script = format!("{MODULE_LINES}{params}route {{ {route} }}");
    TestNode::with_database(&script, MODULES, fill).unwrap()
}

/// The return code of a call and `$avp(x)` behind it.
fn asked(params: &str, call: &str) -> String {
    let mut node = node(params, &format!("{call}; xlog(\"L_NOTICE\", \"$rc $avp(x)\");"));
    node.udp("10.1.2.3:5060", REQUEST);
    node.logs().pop().unwrap().1
}

fn set(name: &str, value: &str) -> String {
    format!("{URL}modparam(\"permissions\", \"{name}\", \"{value}\")\n")
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_permissions::MODULE,
        &[
            ("param default_allow_file", default_files),
            ("param default_deny_file", default_files),
            ("param check_all_branches", branches),
            ("param allow_suffix", suffixes),
            ("param deny_suffix", suffixes),
            ("param partition", partition),
            ("param db_url", database),
            ("param address_table", names),
            ("param ip_col", names),
            ("param proto_col", names),
            ("param pattern_col", names),
            ("param info_col", names),
            ("param grp_col", names),
            ("param mask_col", names),
            ("param port_col", names),
            ("function check_address", check_address),
            ("function check_source_address", check_source),
            ("function get_source_group", get_group),
            ("function allow_routing", default_files),
            ("function allow_register", register),
            ("function allow_uri", allow_uri),
            ("mi permissions:address_reload", reload),
            ("mi permissions:address_dump", dump),
            ("mi permissions:subnet_dump", dump),
            ("mi permissions:allow_uri", mi_allow_uri),
        ],
    );
}

/// A node whose first message waits for files, so that a test can put them there before.
fn with_files(params: &str, route: &str, files: &[(&str, &str)]) -> String {
    let route = format!("$avp(b) = \"b\"; {route}; xlog(\"L_NOTICE\", \"$rc\");");
    let mut node = node(&format!("{URL}{params}"), &route);
    for (name, text) in files {
        node.write_file(name, text);
    }
    node.udp("10.1.2.3:5060", REQUEST);
    node.logs().pop().unwrap().1
}

fn default_files() {
    let started = |params: &str| {
        let script = format!("{MODULE_LINES}{URL}{params}route {{ allow_routing(); }}");
        let mut node = TestNode::with_database(&script, MODULES, fill).unwrap();
        node.mi("permissions:allow_uri", json!(["permissions", "sip:a@b", "sip:c@d"]))
    };
    // Files that are not there refuse nobody.
    assert_eq!(started("")["result"], "OK");
    let params = "modparam(\"permissions\", \"default_allow_file\", \"x.allow\")\n\
        modparam(\"permissions\", \"default_deny_file\", \"x.deny\")\n";
    let call = "allow_routing($avp(b))";
    let all = [("b.deny", "ALL : ALL")];
    assert_eq!(with_files(params, call, &all), "-1");
    let from = [("b.deny", "ALL : ALL"), ("b.allow", "\"^sip:f@from.test$\" : \"@uri.test$\"")];
    assert_eq!(with_files(params, call, &from), "1");
    // The parameters name the files that are read at start.
    let mut node = node(&format!("{URL}{params}"), "allow_routing(); xlog(\"L_NOTICE\", \"$rc\");");
    node.udp("10.1.2.3:5060", REQUEST);
    assert_eq!(node.logs().pop().unwrap().1, "1");
    let folder = std::env::temp_dir();
    let wrong = folder.display();
    assert!(
        TestNode::try_new(
            &format!(
                "{MODULE_LINES}modparam(\"permissions\", \"default_allow_file\", 1)\n# {wrong}\n"
            ),
            MODULES
        )
        .is_err()
    );
}

fn branches() {
    let call = "append_branch_old(\"sip:y@other.test\"); allow_routing($avp(b))";
    let files = [("b.deny", "ALL : \"@other.test\"")];
    assert_eq!(with_files("", call, &files), "-1");
    let off = "modparam(\"permissions\", \"check_all_branches\", 0)\n";
    assert_eq!(with_files(off, call, &files), "1");
}

fn suffixes() {
    let params = "modparam(\"permissions\", \"allow_suffix\", \".yes\")\n\
        modparam(\"permissions\", \"deny_suffix\", \".no\")\n";
    let call = "allow_uri($avp(b), \"sip:a@b\")";
    let no = [("b.no", "ALL : ALL")];
    assert_eq!(with_files("", call, &no), "1");
    assert_eq!(with_files(params, call, &no), "-1");
    assert_eq!(with_files(params, call, &[no[0], ("b.yes", "ALL : ALL")]), "1");
}

fn register() {
    let call = "allow_register($avp(b))";
    let second = [("b.deny", "\"^sip:a@to.test$\" : \"^sip:c2@10.1.2.3$\"")];
    assert_eq!(with_files("", call, &second), "-1");
    let other = [("b.deny", "\"^sip:f@from.test$\" : ALL")];
    assert_eq!(with_files("", call, &other), "1");
}

fn allow_uri() {
    let deny = [("b.deny", "\"@from.test\" EXCEPT \"^sip:boss@\" : \"^sip:00\"")];
    assert_eq!(with_files("", "allow_uri($avp(b), \"sip:0049@x\")", &deny), "-1");
    assert_eq!(with_files("", "allow_uri($avp(b), \"sip:49@x\")", &deny), "1");
    assert_eq!(with_files("", "allow_uri($avp(b), \"no uri\")", &deny), "-1");
}

fn database() {
    assert_eq!(asked(URL, "check_source_address(1)"), "1 <null>");
    let without = asked("", "check_source_address(1)");
    assert_eq!(without, "-1 <null>");
    assert_eq!(
        asked("db_default_url = \"sqlite:///tmp/x.db\"\n", "check_source_address(1)"),
        "1 \
        <null>"
    );
}

fn partition() {
    let pstn = set("partition", "pstn: db_url=sqlite:///tmp/y.db; table_name=address");
    assert_eq!(asked(&pstn, "check_source_address(1, $avp(x), , \"pstn\")"), "1 gw1");
    assert_eq!(asked(URL, "check_source_address(1, $avp(x), , \"pstn\")"), "-1 <null>");
    let wrong = format!("{MODULE_LINES}{}route {{ exit; }}", set("partition", "pstn"));
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn names() {
    let source = "check_source_address(1, $avp(x))";
    assert_eq!(asked(URL, source), "1 gw1");
    assert_eq!(asked(&set("info_col", "pattern"), source), "1 a*");
    assert_eq!(asked(&set("ip_col", "pattern"), source), "-2 <null>");
    assert_eq!(asked(&set("grp_col", "mask"), source), "-2 <null>");
    assert_eq!(asked(&set("grp_col", "mask"), "check_source_address(32, $avp(x))"), "1 gw1");
    let fits = "check_source_address(1, $avp(x), \"nothing\")";
    assert_eq!(asked(URL, fits), "-1 <null>");
    assert_eq!(asked(&set("pattern_col", "proto"), fits), "-1 <null>");
    let proto = set("pattern_col", "proto");
    assert_eq!(asked(&proto, "check_source_address(1, $avp(x), \"any\")"), "1 gw1");
    let net = "check_address(2, \"10.1.9.9\", 0, \"any\", $avp(x))";
    assert_eq!(asked(URL, net), "1 net");
    assert_eq!(asked(&set("mask_col", "port"), net), "1 net", "every row is a net of 0 bits");
    let tcp = "check_address(3, \"192.0.2.1\", 5070, \"udp\")";
    assert_eq!(asked(URL, tcp), "-1 <null>");
    assert_eq!(asked(&set("proto_col", "pattern"), tcp), "1 <null>");
    let port = "check_address(3, \"192.0.2.1\", 5071, \"tcp\")";
    assert_eq!(asked(URL, port), "-1 <null>");
    assert_eq!(
        asked(&set("port_col", "grp"), "check_address(3, \"192.0.2.1\", 3, \"tcp\")"),
        "1 \
        <null>"
    );
    let script = format!("{MODULE_LINES}{}route {{ exit; }}", set("address_table", "nosuch"));
    assert!(TestNode::try_new(&script, MODULES).is_err());
}

fn check_address() {
    let code = |args: &str| asked(URL, &format!("check_address({args})"));
    assert_eq!(code("3, \"192.0.2.1\", 5070, \"TCP\""), "1 <null>");
    assert_eq!(code("3, \"192.0.2.1\", 0, \"ANY\""), "1 <null>");
    assert_eq!(code("3, \"192.0.2.1\", 5071, \"tcp\""), "-1 <null>");
    assert_eq!(code("3, \"192.0.2.2\", 5070, \"tcp\""), "-1 <null>");
    assert_eq!(code("0, \"10.1.2.3\", 1, \"udp\", $avp(x)"), "1 gw1");
    // A row of group 0 is in every group, and so every group is known.
    assert_eq!(code("7, \"192.0.2.9\", 1, \"udp\""), "1 <null>");
    assert_eq!(code("1, \"10.1.2.3\", 1, \"udp\", $avp(x), \"abc\""), "1 gw1");
    assert_eq!(code("1, \"10.1.2.3\", 1, \"udp\", $avp(x), \"xbc\""), "-1 <null>");
    assert_eq!(code("1, \"nowhere\", 1, \"udp\""), "-1 <null>");
    assert_eq!(code("1, \"10.1.2.3\", 70000, \"udp\""), "-1 <null>");
    assert_eq!(code("1, \"10.1.2.3\", 1, \"smoke\""), "-1 <null>");
}

fn check_source() {
    assert_eq!(asked(URL, "check_source_address(1, $avp(x))"), "1 gw1");
    assert_eq!(asked(URL, "check_source_address(2, $avp(x))"), "1 net");
    assert_eq!(asked(URL, "check_source_address(3, $avp(x))"), "-1 <null>");
    let script = format!(
        "{MODULE_LINES}{URL}route {{ check_source_address(9); \
        xlog(\"L_NOTICE\", \"$rc\"); }}"
    );
    let alone = |db: &mut MemoryDb| insert(db, 1, "10.1.2.3", 32, &[]);
    let mut node = TestNode::with_database(&script, MODULES, alone).unwrap();
    node.udp("10.1.2.3:5060", REQUEST);
    assert_eq!(node.logs().pop().unwrap().1, "-2", "nobody is in group 9");
}

fn get_group() {
    assert_eq!(asked(URL, "get_source_group($avp(x))"), "1 1");
    let mut node = node(URL, "get_source_group($avp(x)); xlog(\"L_NOTICE\", \"$rc $avp(x)\");");
    node.udp("10.9.9.9:5060", REQUEST);
    assert_eq!(node.logs().pop().unwrap().1, "-1 <null>");
}

fn reload() {
    let mut node = node(URL, "check_source_address(2); xlog(\"L_NOTICE\", \"$rc\");");
    node.udp("10.8.0.1:5060", REQUEST);
    insert(&mut node.db, 2, "10.8.0.0", 16, &[]);
    assert_eq!(node.mi("address_reload", Json::Null)["result"], "OK");
    node.udp("10.8.0.1:5060", REQUEST);
    let codes: Vec<String> = node.logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(codes, ["-1", "1"]);
    let missing = node.mi("permissions:address_reload", json!({"partition": "x"}));
    assert_eq!(missing["error"]["code"], 404);
    node.db_state = tandem_engine::testing::DbState::Down;
    let failed = node.mi("permissions:address_reload", json!({"partition": "default"}));
    assert_eq!(failed["error"]["message"], "Trusted table reload failed");
}

fn dump() {
    let mut node = node(URL, "exit;");
    let hosts = node.mi("permissions:address_dump", Json::Null)["result"].clone();
    assert_eq!(hosts["Partitions"][0]["name"], "default");
    let first = &hosts["Partitions"][0]["Destinations"][0];
    let wanted = json!({"grp": 1, "ip": "10.1.2.3", "mask": "255.255.255.255", "port": 0,
        "proto": "any", "pattern": "a*", "context_info": "gw1"});
    assert_eq!(*first, wanted);
    let nets = node.mi("permissions:subnet_dump", json!(["default"]))["result"].clone();
    assert_eq!(nets["part"], "default");
    assert_eq!(nets["Destinations"][0]["mask"], "255.255.0.0");
    assert_eq!(nets["Destinations"].as_array().unwrap().len(), 1);
    let missing = node.mi("permissions:subnet_dump", json!(["nosuch"]));
    assert_eq!(missing["error"]["message"], "No such partition");
}

fn mi_allow_uri() {
    let mut node = node(URL, "exit;");
    node.write_file("b.deny", "ALL : \"^sip:00\"");
    let mut ask = |args: Json| node.mi("permissions:allow_uri", args);
    assert_eq!(ask(json!(["b", "sip:a@b", "sip:1@c"]))["result"], "OK");
    let refused = ask(json!(["b", "sip:a@b", "sip:001@c"]));
    assert_eq!(refused["error"], json!({"code": 403, "message": "Forbidden"}));
    let empty = ask(json!(["", "sip:a@b", "sip:1@c"]));
    assert_eq!(empty["error"]["message"], "Basename is empty");
    let long = ask(json!(["b", "sip:a@b", "x".repeat(600)]));
    assert_eq!(long["error"]["message"], "Contact is too long");
}
