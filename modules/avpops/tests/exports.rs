//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Rows};
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_avpops::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\nloadmodule \"avpops.so\"\n";
const URL: &str = "modparam(\"avpops\", \"db_url\", \"sqlite:///tmp/x.db\")\n";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";
/// `$avp(x)` is 3, then "Two", then 1; the newest first.
const LIST: &str = "$avp(x) = 1; $avp(x) = \"Two\"; $avp(x) = 3";

fn fill(db: &mut MemoryDb) {
    for (user, domain, attribute) in [("u", "uri.test", "lang"), ("u", "x.test", "lang")] {
        let row = vec![
            ("uuid".into(), "id".into()),
            ("username".into(), user.into()),
            ("domain".into(), domain.into()),
            ("attribute".into(), attribute.into()),
            ("type".into(), 0.into()),
            ("value".into(), domain.into()),
        ];
        db.execute(&Query::Insert { table: "usr_preferences".into(), row }).unwrap();
    }
}

fn node(params: &str, route: &str) -> TestNode {
    let script = format!("{MODULE_LINES}{params}route {{ {route} }}");
    let mut node = TestNode::with_database(&script, MODULES, fill).unwrap();
    let rows = vec![vec!["a".into()], vec!["b".into()]];
    node.sql.insert("select x".into(), Rows { rows, ..Rows::default() });
    node
}

/// The return code of a call, with all of `$avp(x)` and `$avp(y)`.
fn asked(params: &str, call: &str) -> String {
    let tell = "xlog(\"L_NOTICE\", \"$rc $(avp(x)[*]) $(avp(y)[*])\");";
    let mut node = node(&format!("{URL}{params}"), &format!("{call}; {tell}"));
    node.udp("127.0.0.9:5060", REQUEST);
    node.logs().pop().unwrap().1
}

fn on_list(call: &str) -> String {
    asked("", &format!("{LIST}; {call}"))
}

fn refused(call: &str) {
    let script = format!("{MODULE_LINES}{URL}route {{ {call}; }}");
    assert!(TestNode::try_new(&script, MODULES).is_err(), "{call}");
}

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"avpops\", \"{name}\", {value})\n")
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_avpops::MODULE,
        &[
            ("param db_url", query),
            ("param avp_table", layout),
            ("param use_domain", layout),
            ("param uuid_column", layout),
            ("param attribute_column", layout),
            ("param value_column", layout),
            ("param type_column", layout),
            ("param username_column", layout),
            ("param domain_column", layout),
            ("param db_scheme", scheme),
            ("function avp_db_query", query),
            ("function avp_db_load", layout),
            ("function avp_db_delete", delete_preferences),
            ("function avp_db_store", store),
            ("function avp_print", print),
            ("function avp_delete", delete),
            ("function avp_copy", copy),
            ("function avp_shuffle", shuffle),
            ("function avp_pushto", pushto),
            ("function avp_check", check),
            ("function avp_op", op),
            ("function avp_subst", subst),
            ("function is_avp_set", is_set),
        ],
    );
}

fn query() {
    assert_eq!(asked("", "avp_db_query(\"select x\", \"$avp(x)\")"), "1 a, b <null>");
    let second = set("db_url", "\"1 sqlite:///tmp/y.db\"");
    let call = "avp_db_query(\"select x\", \"$avp(x)\", 1)";
    assert_eq!(asked("", call), "-1 <null> <null>");
    assert_eq!(asked(&second, call), "1 a, b <null>");
}

fn layout() {
    let call = "avp_db_load(\"$ru\", \"$avp(lang)\"); $avp(x) = $avp(lang); \
        $avp(y) = $(avp(lang)[1])";
    assert_eq!(asked("", call), "1 uri.test x.test");
    assert_eq!(asked(&set("use_domain", "1"), call), "1 uri.test <null>");
    let nothing = "1 <null> <null>";
    for (name, value) in [
        ("avp_table", "domain"),
        ("attribute_column", "uuid"),
        ("type_column", "nosuch"),
        ("username_column", "domain"),
    ] {
        assert_eq!(asked(&set(name, &format!("\"{value}\"")), call), nothing, "{name}");
    }
    assert_eq!(asked(&set("value_column", "\"uuid\""), call), "1 id id");
    let domain = format!("{}{}", set("use_domain", "1"), set("domain_column", "\"uuid\""));
    assert_eq!(asked(&domain, call), nothing);
    let uuid = "$avp(id) = \"u\"; avp_db_load(\"$avp(id)\", \"a\"); $avp(x) = $avp(lang)";
    assert_eq!(asked("", uuid), nothing);
    assert_eq!(asked(&set("uuid_column", "\"username\""), uuid), "1 uri.test <null>");
}

fn scheme() {
    let params = set("db_scheme", "\"own:value_col=uuid\"");
    let call = "avp_db_load(\"$ru\", \"$avp(x)/$own\")";
    assert_eq!(asked(&params, call), "1 id, id <null>");
    assert_eq!(asked("", call), "-1 <null> <null>");
}

fn delete_preferences() {
    let call = "avp_db_delete(\"$rd/domain\", \"$avp(lang)\"); $avp(y) = $rc; \
        avp_db_load(\"$rU/username\", \"$avp(lang)\"); $avp(x) = $avp(lang)";
    assert_eq!(asked("", call), "1 x.test 1");
}

fn store() {
    let call = "$avp(z) = \"kept\"; avp_db_store(\"$fu\", \"$avp(z)\"); $avp(y) = $rc; \
        avp_delete(\"$avp(z)/g\"); avp_db_load(\"$fu\", \"a\"); $avp(x) = $avp(z)";
    assert_eq!(asked("", call), "1 kept 1");
}

fn print() {
    let mut node = node(URL, "$avp(x) = 5; avp_print();");
    node.udp("127.0.0.9:5060", REQUEST);
    let logs = node.logs();
    // At the level of information, which is not written by default.
    assert!(logs.iter().all(|(_, text)| !text.contains("AVP x")), "{logs:?}");
    let mut node = self::node(&format!("log_level = 3\n{URL}"), "$avp(x) = 5; avp_print();");
    node.udp("127.0.0.9:5060", REQUEST);
    assert!(node.logs().iter().any(|(_, text)| text == "AVP x = 5"));
}

fn delete() {
    assert_eq!(on_list("avp_delete(\"$avp(x)\")"), "1 Two, 1 <null>");
    assert_eq!(on_list("avp_delete(\"$avp(x)/g\")"), "1 <null> <null>");
    assert_eq!(on_list("avp_delete(\"$avp(y)\")"), "-1 3, Two, 1 <null>");
    assert_eq!(on_list("$avp(y) = 5; avp_delete(\"a\")"), "1 3, Two, 1 <null>");
    assert_eq!(on_list("$avp(y) = 5; avp_delete(\"a/g\")"), "1 <null> <null>");
    refused("avp_delete(\"$avp(x)/q\")");
}

fn copy() {
    assert_eq!(on_list("avp_copy(\"$avp(x)\", \"$avp(y)\")"), "1 3, Two, 1 3");
    assert_eq!(on_list("avp_copy(\"$avp(x)\", \"$avp(y)/g\")"), "1 3, Two, 1 3, Two, 1");
    assert_eq!(on_list("avp_copy(\"$avp(x)\", \"$avp(y)/gd\")"), "1 <null> 3, Two, 1");
    assert_eq!(
        on_list("avp_copy(\"$avp(x)\", \"$avp(y)/s\"); is_avp_set(\"$avp(y)/n\")"),
        "-1 3, \
        Two, 1 3"
    );
    let number = "$avp(z) = \"7\"; avp_copy(\"$avp(z)\", \"$avp(y)/n\"); is_avp_set(\"$avp(y)/n\")";
    assert_eq!(asked("", number), "1 <null> 7");
    assert_eq!(on_list("avp_copy(\"$avp(y)\", \"$avp(x)\")"), "-1 3, Two, 1 <null>");
}

fn shuffle() {
    let many = "$var(i) = 0; while ($var(i) < 20) { $avp(x) = $var(i); $var(i) = $var(i) + 1; } \
        $avp(y) = $(avp(x)[*]); avp_shuffle(\"$avp(x)\")";
    let mut node = node(
        URL,
        &format!("{many}; if ($(avp(x)[*]) != $avp(y)) xlog(\"L_NOTICE\", \"$(avp(x)[19])\");"),
    );
    node.udp("127.0.0.9:5060", REQUEST);
    assert!(!node.logs().is_empty(), "twenty values in the old order");
    assert_eq!(asked("", "avp_shuffle(\"$avp(x)\")"), "-1 <null> <null>");
}

fn pushto() {
    let after = |call: &str| {
        let tell = "xlog(\"L_NOTICE\", \"$rc $ru $du $(msg.branch.uri[1]) $(msg.branch.uri[2])\");";
        let mut node = node(
            URL,
            &format!(
                "$avp(x) = \"sip:b@b\"; $avp(x) = \"sip:a@a\"; $avp(h) = \"h\"; {call}; {tell}"
            ),
        );
        node.udp("127.0.0.9:5060", REQUEST);
        node.logs().pop().unwrap().1
    };
    let ru = "sip:u@uri.test";
    assert_eq!(after("avp_pushto(\"$ru\", \"$avp(x)\")"), "1 sip:a@a <null> <null> <null>");
    let user = after("avp_pushto(\"$ru/username\", \"$avp(h)\")");
    assert_eq!(user, "1 sip:h@uri.test <null> <null> <null>");
    assert_eq!(after("avp_pushto(\"$ru/domain\", \"$avp(h)\")"), "1 sip:u@h <null> <null> <null>");
    assert_eq!(after("avp_pushto(\"$du\", \"$avp(x)\")"), format!("1 {ru} sip:a@a <null> <null>"));
    let one = after("avp_pushto(\"$br\", \"$avp(x)\")");
    assert_eq!(one, format!("1 {ru} <null> sip:a@a <null>"));
    let all = after("avp_pushto(\"$br\", \"$avp(x)/g\")");
    assert_eq!(all, format!("1 {ru} <null> sip:a@a sip:b@b"));
    assert!(after("avp_pushto(\"$ru\", \"$avp(none)\")").starts_with("-1"));
    refused("avp_pushto(\"$fu\", \"$avp(x)\")");
}

fn check() {
    let code = |test: &str| on_list(test).split(' ').next().unwrap().to_owned();
    for (test, wanted) in [
        ("avp_check(\"$avp(x)\", \"eq/i:3\")", "1"),
        ("avp_check(\"$avp(x)\", \"eq/1\")", "-1"),
        ("avp_check(\"$avp(x)\", \"eq/1/g\")", "1"),
        ("avp_check(\"$avp(x)\", \"eq/two/g\")", "-1"),
        ("avp_check(\"$avp(x)\", \"eq/two/gi\")", "1"),
        ("avp_check(\"$avp(x)\", \"ne/3\")", "-1"),
        ("avp_check(\"$avp(x)\", \"lt/10\")", "1"),
        ("avp_check(\"$avp(x)\", \"ge/4\")", "-1"),
        ("avp_check(\"$avp(x)\", \"le/3\")", "1"),
        ("avp_check(\"$avp(x)\", \"gt/2\")", "1"),
        ("avp_check(\"$avp(x)\", \"and/2\")", "1"),
        ("avp_check(\"$avp(x)\", \"and/4\")", "-1"),
        ("avp_check(\"$avp(x)\", \"or/0\")", "1"),
        ("avp_check(\"$avp(x)\", \"xor/3\")", "-1"),
        ("avp_check(\"$avp(x)\", \"re/^T.o$/g\")", "1"),
        ("avp_check(\"$avp(x)\", \"fm/T*/g\")", "1"),
        ("avp_check(\"$avp(x)\", \"fm/t*/gi\")", "1"),
        ("avp_check(\"$avp(none)\", \"eq/1\")", "-1"),
        ("avp_check(\"$rU\", \"eq/u\")", "1"),
        ("avp_check(\"$avp(x)\", \"eq/$(avp(x)[0])\")", "1"),
    ] {
        assert_eq!(code(test), wanted, "{test}");
    }
    refused("avp_check(\"$avp(x)\", \"like/1\")");
}

fn op() {
    assert_eq!(on_list("avp_op(\"$avp(x)\", \"add/4\")"), "1 7, Two, 1 <null>");
    assert_eq!(on_list("avp_op(\"$avp(x)\", \"mul/2/g\")"), "1 6, Two, 2 <null>");
    assert_eq!(on_list("avp_op(\"$avp(x)/$avp(y)\", \"sub/5\")"), "1 3, Two, 1 -2");
    assert_eq!(on_list("avp_op(\"$avp(x)/$avp(y)\", \"mod/2/d\")"), "1 Two, 1 1");
    assert_eq!(on_list("avp_op(\"$avp(x)\", \"div/0\")"), "-1 3, Two, 1 <null>");
    assert_eq!(on_list("avp_op(\"$avp(x)\", \"not/0\")"), "1 -4, Two, 1 <null>");
    for (op, wanted) in [("div/2", 1), ("and/1", 1), ("or/4", 7), ("xor/1", 2)] {
        let got = on_list(&format!("avp_op(\"$avp(x)\", \"{op}\")"));
        assert_eq!(got, format!("1 {wanted}, Two, 1 <null>"), "{op}");
    }
    refused("avp_op(\"$avp(x)\", \"pow/2\")");
}

fn subst() {
    let list = "$avp(x) = \"a@b\"; $avp(x) = \"c@d\"";
    let done = |call: &str| asked("", &format!("{list}; {call}"));
    let swap = "\"/(.*)@(.*)/\\2@\\1/\"";
    assert_eq!(done(&format!("avp_subst(\"$avp(x)\", {swap})")), "1 d@c, a@b <null>");
    assert_eq!(done(&format!("avp_subst(\"$avp(x)/g\", {swap})")), "1 d@c, b@a <null>");
    assert_eq!(done(&format!("avp_subst(\"$avp(x)/$avp(y)\", {swap})")), "1 c@d, a@b d@c");
    assert_eq!(done(&format!("avp_subst(\"$avp(x)/$avp(y)/gd\", {swap})")), "1 <null> d@c, b@a");
    assert_eq!(done("avp_subst(\"$avp(x)\", \"/z/y/\")"), "-1 c@d, a@b <null>");
    assert_eq!(done("avp_subst(\"$avp(x)\", \"/@/$rU/\")"), "1 cud, a@b <null>");
}

fn is_set() {
    let code = |call: &str| on_list(call).split(' ').next().unwrap().to_owned();
    assert_eq!(code("is_avp_set(\"$avp(x)\")"), "1");
    assert_eq!(code("is_avp_set(\"$avp(y)\")"), "-1");
    assert_eq!(code("is_avp_set(\"$avp(x)/s\")"), "1");
    assert_eq!(code("is_avp_set(\"$avp(x)/e\")"), "-1");
    assert_eq!(code("$avp(y) = \"\"; is_avp_set(\"$avp(y)/e\")"), "1");
    assert_eq!(code("$avp(y) = \"t\"; is_avp_set(\"$avp(y)/n\")"), "-1");
}
