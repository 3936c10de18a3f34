//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_db::Query;
use tandem_db::memory::MemoryDb;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{DbState, TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_dialplan::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\nloadmodule \"dialplan.so\"\n";
const URL: &str = "modparam(\"dialplan\", \"db_url\", \"sqlite:///tmp/x.db\")\n";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";

fn rule(db: &mut MemoryDb, texts: &[(&'static str, &str)], numbers: &[(&'static str, i64)]) {
    let mut row = Vec::new();
    for (name, value) in [("dpid", 1), ("pr", 1), ("match_op", 1), ("match_flags", 0)] {
        let given = numbers.iter().find(|(n, _)| *n == name).map_or(value, |(_, v)| *v);
        row.push((name.into(), given.into()));
    }
    let disabled = numbers.iter().find(|(n, _)| *n == "disabled").map_or(0, |(_, v)| *v);
    row.push(("disabled".into(), disabled.into()));
    row.extend(texts.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    db.execute(&Query::Insert { table: "dialplan".into(), row }).unwrap();
}

fn fill(db: &mut MemoryDb) {
    let number = [("match_exp", "^00"), ("subst_exp", "^00(.*)"), ("repl_exp", "+\\1")];
    rule(db, &[&number[..], &[("attrs", "abroad")]].concat(), &[("pr", 5)]);
    let never = ("timerec", "20200101T000000||PT1H");
    rule(db, &[("match_exp", "^0"), ("repl_exp", "never"), never], &[("pr", 1)]);
    rule(db, &[("match_exp", "^0"), ("repl_exp", "off")], &[("pr", 2), ("disabled", 1)]);
    let any_case = [("match_op", 0), ("match_flags", 1), ("dpid", 2)];
    rule(db, &[("match_exp", "Hot"), ("repl_exp", "112"), ("attrs", "x")], &any_case);
}

fn node(params: &str, route: &str) -> Result<TestNode, String> {
    let script = format!("{MODULE_LINES}{params}route {{ {route} }}");
    TestNode::with_database(&script, MODULES, fill)
}

/// The return code of a call, `$avp(x)` and `$avp(y)`.
fn asked(params: &str, call: &str) -> String {
    let tell = "xlog(\"L_NOTICE\", \"$rc $avp(x) $avp(y)\");";
    let mut node = node(params, &format!("{call}; {tell}")).unwrap();
    node.udp("127.0.0.9:5060", REQUEST);
    node.logs().pop().unwrap().1
}

const ABROAD: &str = "dp_translate(1, \"0043\", $avp(x), $avp(y))";

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"dialplan\", \"{name}\", \"{value}\")\n")
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_dialplan::MODULE,
        &[
            ("param partition", partitions),
            ("param db_url", database),
            ("param table_name", names),
            ("param dpid_col", names),
            ("param pr_col", names),
            ("param match_op_col", names),
            ("param match_exp_col", names),
            ("param match_flags_col", names),
            ("param subst_exp_col", names),
            ("param repl_exp_col", names),
            ("param attrs_col", names),
            ("param timerec_col", names),
            ("param disabled_col", names),
            ("function dp_translate", translate),
            ("mi dialplan:reload", reload),
            ("mi dialplan:translate", mi_translate),
            ("mi dialplan:show_partition", show),
        ],
    );
}

fn database() {
    assert_eq!(asked("", ABROAD), "-1 <null> <null>");
    assert_eq!(asked("db_default_url = \"sqlite:///tmp/x.db\"\n", ABROAD), "1 +43 abroad");
    assert_eq!(asked(URL, ABROAD), "1 +43 abroad");
}

fn translate() {
    assert_eq!(asked(URL, ABROAD), "1 +43 abroad");
    assert_eq!(asked(URL, "dp_translate(2, \"hOT\", $avp(x), $avp(y))"), "1 112 x");
    assert_eq!(asked(URL, "dp_translate(1, \"43\", $avp(x))"), "-1 <null> <null>");
    assert_eq!(asked(URL, "dp_translate(3, \"0043\", $avp(x))"), "-1 <null> <null>");
    assert_eq!(
        asked(
            URL,
            "$var(i) = 1; dp_translate($var(i), \"00$rU\", $var(o)); \
        $avp(x) = $var(o)"
        ),
        "1 +u <null>"
    );
    assert_eq!(asked(URL, "dp_translate(1, \"0043\")"), "1 <null> <null>");
}

fn names() {
    let is = |name: &str, value: &str, call: &str, wanted: &str| {
        assert_eq!(asked(&format!("{URL}{}", set(name, value)), call), wanted, "{name}");
    };
    is("attrs_col", "match_exp", ABROAD, "1 +43 ^00");
    is("repl_exp_col", "attrs", ABROAD, "1 abroad abroad");
    is("subst_exp_col", "match_exp", ABROAD, "1 + abroad");
    is(
        "match_exp_col",
        "attrs",
        ABROAD,
        "1 off <null>".replace("1 off <null>", "-1 <null> <null>").as_str(),
    );
    is("timerec_col", "subst_exp", "dp_translate(1, \"01\", $avp(x))", "1 never <null>");
    is("disabled_col", "match_flags", "dp_translate(1, \"01\", $avp(x))", "1 off <null>");
    is("dpid_col", "pr", "dp_translate(5, \"0043\", $avp(x))", "1 +43 <null>");
    is("match_op_col", "dpid", "dp_translate(1, \"0043\", $avp(x))", "1 +43 <null>");
    is("match_op_col", "disabled", ABROAD, "-1 <null> <null>");
    is("match_flags_col", "disabled", "dp_translate(2, \"hot\", $avp(x))", "-1 <null> <null>");
    let both = format!("{}{}", set("timerec_col", "attrs"), set("pr_col", "id"));
    assert_eq!(asked(&format!("{URL}{}", set("pr_col", "id")), ABROAD), "1 +43 abroad");
    assert!(asked(&format!("{URL}{both}"), "dp_translate(1, \"0043\", $avp(x))").starts_with('1'));
    let missing = node(&format!("{URL}{}", set("table_name", "nosuch")), "exit;");
    assert!(missing.err().unwrap().contains("nosuch"));
}

fn partitions() {
    let pstn = set("partition", "pstn: db_url=sqlite:///tmp/y.db; table_name=dialplan");
    let call = "dp_translate(1, \"0043\", $avp(x), $avp(y), \"pstn\")";
    assert_eq!(asked(&pstn, call), "1 +43 abroad");
    assert_eq!(asked(URL, call), "-1 <null> <null>");
    assert_eq!(asked(&pstn, ABROAD), "-1 <null> <null>");
    let default = format!("{pstn}{}", set("partition", "default: pstn"));
    assert_eq!(asked(&default, ABROAD), "1 +43 abroad");
    assert!(node(&set("partition", "default: nosuch"), "exit;").is_err());
}

fn reload() {
    let route = "dp_translate(7, \"1\", $avp(x)); xlog(\"L_NOTICE\", \"$rc\");";
    let mut node = node(URL, route).unwrap();
    node.udp("127.0.0.9:5060", REQUEST);
    rule(&mut node.db, &[("match_exp", "1")], &[("dpid", 7)]);
    assert_eq!(node.mi("dp_reload", Json::Null)["result"], "OK");
    node.udp("127.0.0.9:5060", REQUEST);
    let codes: Vec<String> = node.logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(codes, ["-1", "1"]);
    assert_eq!(node.mi("dialplan:reload", json!(["default"]))["result"], "OK");
    assert_eq!(node.mi("dialplan:reload", json!(["x"]))["error"]["code"], 400);
    node.db_state = DbState::Down;
    assert!(node.mi("dialplan:reload", Json::Null)["error"].is_object());
}

fn mi_translate() {
    let mut node = node(URL, "exit;").unwrap();
    let mut ask = |args: Json| node.mi("dialplan:translate", args);
    let result = ask(json!({"dpid": "1", "input": "0043"}))["result"].clone();
    assert_eq!(result, json!({"Output": "+43", "ATTRIBUTES": "abroad"}));
    for (args, why) in [
        (json!(["", "1"]), "Empty id parameter"),
        (json!(["x", "1"]), "Wrong id parameter"),
        (json!(["1", ""]), "Empty input parameter"),
        (json!(["9", "1"]), "No information available for dpid"),
        (json!(["1", "9"]), "No translation"),
        (json!(["1", "9", "nosuch"]), "Partition not found"),
    ] {
        assert_eq!(ask(args)["error"]["message"], why);
    }
    let none = self::node("", "exit;").unwrap().mi("dialplan:translate", json!(["1", "2"]));
    assert_eq!(none["error"]["message"], "'default' partition not found");
}

fn show() {
    let mut node = node(URL, "exit;").unwrap();
    let all = node.mi("dialplan:show_partition", Json::Null)["result"].clone();
    let row = &all["Partitions"][0];
    assert_eq!((&row["name"], &row["table"]), (&json!("default"), &json!("dialplan")));
    assert_eq!(row["db_url"], "sqlite:///tmp/x.db");
    let one = node.mi("dialplan:show_partition", json!(["default"]))["result"].clone();
    assert_eq!((&one["Partition"], &one["Table"]), (&json!("default"), &json!("dialplan")));
    assert_eq!(node.mi("dialplan:show_partition", json!(["x"]))["error"]["code"], 404);
}
