//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_regex::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"regex.so\"\n";
const FILE: &str = "modparam(\"regex\", \"file\", \"groups\")\n";
const GROUPS: &str = "[0]\n^a\n^b b$\n[1]\nx.y\n^z\n";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";

/// A node whose file of groups is there.
fn node(params: &str, call: &str, groups: &str) -> Result<TestNode, String> {
    let route = format!("{call}; xlog(\"L_NOTICE\", \"$rc\");");
    let script = format!("{MODULE_LINES}{params}route {{ {route} }}");
    TestNode::with_files(&script, MODULES, &[("groups", groups)])
}

fn asked(params: &str, call: &str) -> String {
    let mut node = node(params, call, GROUPS).unwrap();
    node.udp("127.0.0.9:5060", REQUEST);
    node.logs().pop().unwrap().1
}

fn set(name: &str, value: i32) -> String {
    format!("{FILE}modparam(\"regex\", \"{name}\", {value})\n")
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_regex::MODULE,
        &[
            ("param file", file),
            ("param max_groups", limits),
            ("param group_max_size", limits),
            ("param pcre_caseless", flags),
            ("param pcre_multiline", flags),
            ("param pcre_dotall", flags),
            ("param pcre_extended", flags),
            ("function pcre_match", pcre_match),
            ("function pcre_match_group", file),
            ("mi regex:reload", reload),
            ("mi regex:match", mi_match),
            ("mi regex:match_group", mi_match_group),
        ],
    );
}

fn file() {
    assert_eq!(asked(FILE, "pcre_match_group(\"abc\")"), "1");
    assert_eq!(asked(FILE, "pcre_match_group(\"cba\", 0)"), "-1");
    assert_eq!(asked(FILE, "pcre_match_group(\"axxyb\", 1)"), "1");
    assert_eq!(asked(FILE, "pcre_match_group(\"abc\", 9)"), "-1");
    assert_eq!(asked("", "pcre_match_group(\"abc\")"), "-1");
    let missing = FILE.replace("groups", "nosuch");
    assert!(node(&missing, "exit", GROUPS).err().unwrap().contains("no such file"));
}

fn limits() {
    assert!(node(&set("max_groups", 1), "exit", GROUPS).err().unwrap().contains("max_groups"));
    let small = node(&set("group_max_size", 8), "exit", GROUPS);
    assert!(small.err().unwrap().contains("group_max_size"));
    assert!(node(&set("group_max_size", 0), "exit", GROUPS).is_err());
}

fn flags() {
    let differs = |name: &str, call: &str| {
        assert_eq!(asked(FILE, call), "-1", "{name}");
        assert_eq!(asked(&set(name, 1), call), "1", "{name}");
    };
    differs("pcre_caseless", "pcre_match_group(\"ABC\")");
    differs("pcre_multiline", "pcre_match_group(\"q\\nz\", 1)");
    differs("pcre_dotall", "pcre_match_group(\"x\\ny\", 1)");
    differs("pcre_extended", "pcre_match_group(\"bb\")");
    // The expressions of the script and of operators are read the same way.
    differs("pcre_caseless", "pcre_match(\"ABC\", \"^abc\")");
    differs("pcre_dotall", "pcre_match(\"x\\ny\", \"x.y\")");
    for (setting, verdict) in [("", "Not Match"), (&*set("pcre_caseless", 1), "Match")] {
        let mut node = node(setting, "exit", GROUPS).unwrap();
        let params = json!({ "string": "ABC", "pcre_regex": "^abc" });
        assert_eq!(node.mi("regex:match", params)["result"], verdict);
    }
}

fn pcre_match() {
    assert_eq!(asked("", "pcre_match(\"abab\", \"^(ab)\\\\1$\")"), "1");
    assert_eq!(asked("", "pcre_match(\"abac\", \"^(ab)\\\\1$\")"), "-1");
    assert_eq!(asked("", "pcre_match($rU, \"^u$\")"), "1");
    assert_eq!(asked("", "$var(e) = \"(\"; pcre_match(\"a\", $var(e))"), "-1");
    assert!(node("", "pcre_match(\"a\", \"(\")", "").is_err());
}

fn reload() {
    let mut node = node(FILE, "pcre_match_group(\"new\")", GROUPS).unwrap();
    node.udp("127.0.0.9:5060", REQUEST);
    node.write_file("groups", "[0]\nnew");
    assert_eq!(node.mi("regex_reload", Json::Null)["result"], "OK");
    node.udp("127.0.0.9:5060", REQUEST);
    let codes: Vec<String> = node.logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(codes, ["-1", "1"]);
    node.write_file("groups", "no group");
    assert_eq!(node.mi("regex:reload", Json::Null)["error"]["message"], "Internal error");
    let mut off = self::node("", "exit", "").unwrap();
    assert_eq!(off.mi("regex:reload", Json::Null)["error"]["code"], 403);
}

fn mi_match() {
    let mut node = node("", "exit", "").unwrap();
    assert_eq!(node.mi("regex:match", json!(["abc", "^a"]))["result"], "Match");
    assert_eq!(node.mi("regex:match", json!(["abc", "^b"]))["result"], "Not Match");
    let error = node.mi("regex:match", json!(["abc", "("]))["error"]["message"].clone();
    assert_eq!(error, "Error pcre_re compilation");
}

fn mi_match_group() {
    let mut node = node(FILE, "exit", GROUPS).unwrap();
    assert_eq!(node.mi("regex:match_group", json!(["abc", "0"]))["result"], "Match");
    assert_eq!(node.mi("regex:match_group", json!(["cab", 0]))["result"], "Not Match");
    let error = node.mi("regex:match_group", json!(["a", "7"]))["error"]["message"].clone();
    assert_eq!(error, "Error invalid pcre index");
    let mut off = self::node("", "exit", "").unwrap();
    let error = off.mi("regex:match_group", json!(["a", "0"]))["error"]["message"].clone();
    assert_eq!(error, "Error group matching is disabled");
}
