//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::effect::Input;
use tandem_engine::testing::{Check, TestNode, cover};

static MODULES: Modules = &[&CORE, &tandem_proto_udp::MODULE, &tandem_cfgutils::MODULE];
const HEAD: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
    loadmodule \"cfgutils.so\"\n";

fn request(user: &str) -> String {
    format!(
        "OPTIONS sip:b@example.org SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9:5999;branch=z9hG4bKx\n\
         From: <sip:{user}@a.org>;tag=f\nTo: <sip:bo@b.org>\nCall-ID: c1\nCSeq: 7 OPTIONS\n\
         Content-Length: 0\n\n"
    )
}

fn try_node(params: &str, route: &str) -> Result<TestNode, String> {
    TestNode::try_new(&format!("{HEAD}{params}\nroute {{ {route} }}"), MODULES)
}

fn node(params: &str, route: &str) -> TestNode {
    try_node(params, route).unwrap_or_else(|e| panic!("{e}"))
}

fn modparam(name: &str, value: &str) -> String {
    format!("modparam(\"cfgutils\", \"{name}\", {value})\n")
}

fn call(node: &mut TestNode, user: &str) -> Vec<String> {
    node.udp("127.0.0.9:5062", &request(user));
    node.logs().into_iter().map(|l| l.1).collect()
}

fn said(params: &str, statements: &str, text: &str) -> String {
    let mut node = node(params, &format!("{statements} xlog(\"L_NOTICE\", \"{text}\");"));
    call(&mut node, "al").pop().unwrap_or_default()
}

fn is(statements: &str, text: &str, expected: &str) {
    assert_eq!(said("", statements, text), expected, "{statements} {text}");
}

fn ask(node: &mut TestNode, method: &str, params: Json) -> Json {
    let answer = node.mi(method, params);
    answer.get("result").or(answer.get("error")).cloned().unwrap_or(Json::Null)
}

const CHECKS: &[Check] = &[
    ("param initial_probability", || {
        let params = modparam("initial_probability", "70");
        assert_eq!(said(&params, "$var(p) = rand_get_prob();", "$var(p)"), "70");
        let error = try_node(&modparam("initial_probability", "101"), "exit;").err().unwrap();
        assert!(error.contains("0 to 100"), "{error}");
    }),
    ("param hash_file", digest),
    ("param shv_hash_size", || {
        assert!(try_node(&modparam("shv_hash_size", "64"), "exit;").is_ok());
    }),
    ("param shvset", || {
        let params = modparam("shvset", "\"open=i:1\"") + &modparam("shvset", "\"who=s:me\"");
        assert_eq!(said(&params, "", "$shv(open) $shv(who)"), "1 me");
        let error = try_node(&modparam("shvset", "\"open\""), "exit;").err().unwrap();
        assert!(error.contains("name=s:text"), "{error}");
    }),
    ("param varset", || {
        let params = modparam("varset", "\"x=s:preset\"");
        assert_eq!(said(&params, "", "$var(x)"), "preset");
    }),
    ("param lock_pool_size", || {
        let test =
            "if (strings_share_lock(\"a\", \"b\")) $var(r) = \"same\"; else $var(r) = \"two\";";
        assert_eq!(said(&modparam("lock_pool_size", "1"), test, "$var(r)"), "same");
        assert_eq!(said(&modparam("lock_pool_size", "4096"), test, "$var(r)"), "two");
    }),
    ("function rand_set_prob", || {
        is("rand_set_prob(30); $var(p) = rand_get_prob();", "$var(p)", "30");
        is("if (!rand_set_prob(101)) $var(r) = \"no\";", "$var(r)", "no");
    }),
    ("function rand_reset_prob", || {
        let set = "rand_set_prob(30); rand_reset_prob(); $var(p) = rand_get_prob();";
        is(set, "$var(p)", "10");
    }),
    ("function rand_get_prob", || is("$var(p) = rand_get_prob();", "$var(p)", "10")),
    ("function rand_event", || {
        let counted = |p: &str| {
            let route = "$var(n) = 0; $var(i) = 0; while ($var(i) < 200) { $var(i) += 1; \
                if (rand_event(P)) $var(n) += 1; }"
                .replace('P', p);
            said("", &route, "$var(n)").parse::<i32>().unwrap()
        };
        assert_eq!((counted("0"), counted("100")), (0, 200));
        assert!((60..140).contains(&counted("50")));
        assert!((1..60).contains(&counted("")), "10 percent");
    }),
    ("function sleep", || waits("sleep(2);", 2_000)),
    ("function usleep", || waits("usleep(1500000);", 1_500)),
    ("function abort", || {
        let mut node = node("", "abort(); xlog(\"L_NOTICE\", \"after\");");
        assert!(call(&mut node, "al").is_empty());
        assert_eq!(node.stopped(), Some(true));
    }),
    ("function pkg_status", || memory("pkg_status();")),
    ("function shm_status", || memory("shm_status();")),
    ("function set_count", || {
        is("$avp(a) = 1; $avp(a) = 2; set_count($avp(a), $var(n));", "$var(n)", "2");
    }),
    ("function set_select_weight", || {
        is("$avp(w) = 0; $avp(w) = 9; $var(i) = set_select_weight($avp(w));", "$var(i)", "1");
        is("$avp(w) = 9; $avp(w) = 0; $var(i) = set_select_weight($avp(w));", "$var(i)", "2");
        is("$var(i) = set_select_weight($avp(none));", "$var(i)", "-1");
    }),
    ("function get_accurate_time", || {
        let set = "get_accurate_time($var(s), $var(u), $var(t));";
        is(set, "$var(s) $var(u) $var(t)", "1800000000 0 1800000000.000000");
    }),
    ("function ts_usec_delta", || {
        is("ts_usec_delta(10, 5, 8, 9, $var(t), $var(n));", "$var(t) $var(n)", "1999996 1999996");
        let far = "if (!ts_usec_delta(90000, 0, 0, 0, $var(t), $var(n))) $var(r) = \"far\";";
        is(far, "$var(t) $var(r)", "90000000000 far");
    }),
    ("function get_static_lock", static_lock),
    ("function release_static_lock", static_lock),
    ("function get_dynamic_lock", dynamic_lock),
    ("function release_dynamic_lock", dynamic_lock),
    ("function strings_share_lock", || {
        let test = "if (strings_share_lock(\"a\", \"a\")) $var(r) = \"same\";";
        is(test, "$var(r)", "same");
    }),
    ("function check_time_rec", || {
        // The clock of a test stands at 2027-01-15 08:00, a Friday.
        let rec = "20260105T080000||PT9H|weekly|||MO,TU,WE,TH,FR";
        is(&format!("$var(r) = check_time_rec(\"{rec}\");"), "$var(r)", "1");
        is(&format!("$var(r) = check_time_rec(\"{rec}\", 1800086400);"), "$var(r)", "-1");
        is("$var(r) = check_time_rec(\"nonsense\");", "$var(r)", "-2");
        is(&format!("$var(r) = check_time_rec(\"{rec}\", -1);"), "$var(r)", "-3");
    }),
    ("function shuffle_avps", || {
        let fill = "$var(i) = 0; while ($var(i) < 9) { $avp(a) = $var(i); $var(i) += 1; }";
        let before = said("", fill, "$(avp(a)[*])");
        let after = said("", &format!("{fill} shuffle_avps($avp(a));"), "$(avp(a)[*])");
        assert_ne!(before, after);
        let sorted = |text: &str| {
            let mut all: Vec<String> = text.split(", ").map(String::from).collect();
            all.sort();
            all
        };
        assert_eq!(sorted(&before), sorted(&after));
    }),
    ("variable RANDOM", || {
        let text = said("", "", "$RANDOM $RANDOM");
        let (one, two) = text.split_once(' ').unwrap();
        assert!(one.parse::<i32>().unwrap() >= 0 && one != two);
    }),
    ("variable shv", || {
        is("", "$shv(x)", "0");
        let mut node = node("", "$shv(x) = $shv(x) + 1; xlog(\"L_NOTICE\", \"$shv(x)\");");
        assert_eq!(call(&mut node, "al"), ["1"]);
        assert_eq!(call(&mut node, "al"), ["2"]);
    }),
    ("variable ctime", || {
        is("", "$ctime(year)-$ctime(mon)-$ctime(mday) $ctime(hour):$ctime(min)", "2027-1-15 8:0");
        is("", "$ctime(sec) $ctime(wday) $ctime(yday) $ctime(isdst)", "0 6 15 0");
    }),
    ("variable env", || {
        let path = std::env::var("PATH").unwrap();
        is("", "$env(PATH) $env(TANDEM_NO_SUCH)", &format!("{path} <null>"));
    }),
    ("mi cfgutils:rand_set_prob", || {
        let mut node = node("", "exit;");
        assert_eq!(ask(&mut node, "rand_set_prob", json!([55])), "OK");
        assert_eq!(percent(&mut node), 55);
        let refused = ask(&mut node, "cfgutils:rand_set_prob", json!([155]));
        assert_eq!(refused, json!({"code": 400, "message": "Bad parameter value"}));
    }),
    ("mi cfgutils:rand_reset_prob", || {
        let mut node = node("", "exit;");
        ask(&mut node, "rand_set_prob", json!([55]));
        assert_eq!(ask(&mut node, "rand_reset_prob", Json::Null), "OK");
        assert_eq!(percent(&mut node), 10);
    }),
    ("mi cfgutils:rand_get_prob", || assert_eq!(percent(&mut node("", "exit;")), 10)),
    ("mi cfgutils:get_config_hash", digest),
    ("mi cfgutils:check_config_hash", digest),
    ("mi cfgutils:shv_get", shared),
    ("mi cfgutils:shv_set", shared),
];

fn percent(node: &mut TestNode) -> Json {
    ask(node, "rand_get_prob", Json::Null)["actual probability percent"].clone()
}

/// A run waits and other messages do not wait with it.
fn waits(statement: &str, ms: u64) {
    let route = format!("if ($fU == \"slow\") {{ {statement} }} xlog(\"L_NOTICE\", \"$fU\");");
    let mut node = node("", &route);
    assert!(call(&mut node, "slow").is_empty());
    assert_eq!(call(&mut node, "quick"), ["quick"]);
    node.advance_ms(ms - 100);
    assert!(node.logs().is_empty());
    node.advance_ms(200);
    assert_eq!(node.logs().pop().unwrap().1, "slow");
}

fn memory(statement: &str) {
    let mut node = node("", statement);
    node.node().memory.set_used(12_345);
    assert!(call(&mut node, "al")[0].contains("12345 bytes"));
}

fn static_lock() {
    locks("get_static_lock(\"k\")", "release_static_lock(\"k\")");
}

fn dynamic_lock() {
    locks("get_dynamic_lock(\"$rU\")", "release_dynamic_lock(\"$rU\")");
}

/// Runs take a lock one after the other, in the order in which they asked.
fn locks(get: &str, release: &str) {
    let route = format!(
        "{get}; xlog(\"L_NOTICE\", \"+$fU\"); if ($fU == \"forgets\") {{ sleep(1); exit; }} \
         sleep(1); xlog(\"L_NOTICE\", \"-$fU\"); {release}; {release};"
    );
    let mut node = node("", &route);
    assert_eq!(call(&mut node, "a"), ["+a"]);
    assert!(call(&mut node, "forgets").is_empty());
    assert!(call(&mut node, "b").is_empty());
    node.advance_ms(3_500);
    let lines: Vec<String> = node.logs().into_iter().map(|l| l.1).collect();
    assert_eq!(lines, ["-a", "+forgets", "+b", "-b"]);
}

fn digest() {
    let mut without = node("", "exit;");
    for method in ["get_config_hash", "check_config_hash"] {
        let disabled = json!({"code": 404, "message": "Functionality disabled"});
        assert_eq!(ask(&mut without, method, Json::Null), disabled);
    }
    let params = modparam("hash_file", "\"/etc/x.cfg\"");
    let mut node = try_node(&params, "exit;").unwrap();
    let text = node.logs().pop().unwrap().1;
    assert!(text.contains("/etc/x.cfg cannot be read"), "{text}");
    node.write_file("/etc/x.cfg", "abc");
    let slot = 2u64 << 48;
    let found = Ok(Some("abc".into()));
    node.step(Input::FileRead { token: slot, result: found });
    let md5 = "900150983cd24fb0d6963f7d28e17f72";
    assert_eq!(ask(&mut node, "get_config_hash", Json::Null), md5);
    let same = ask(&mut node, "check_config_hash", Json::Null);
    assert!(same.as_str().unwrap().contains("is identical"), "{same}");
    node.write_file("/etc/x.cfg", "abd");
    assert_eq!(ask(&mut node, "check_config_hash", Json::Null)["code"], 400);
}

fn shared() {
    let mut node = node("", "xlog(\"L_NOTICE\", \"$shv(n) $shv(t)\");");
    assert_eq!(ask(&mut node, "shv_set", json!(["n", "int", 3])), "OK");
    assert_eq!(ask(&mut node, "shv_set", json!(["t", "str", "x y"])), "OK");
    assert_eq!(call(&mut node, "al"), ["3 x y"]);
    let one = ask(&mut node, "shv_get", json!(["n"]));
    assert_eq!(one, json!({"VAR": {"type": "integer", "value": 3}}));
    let all = ask(&mut node, "cfgutils:shv_get", Json::Null);
    assert_eq!(all["VARs"][1], json!({"name": "t", "type": "string", "value": "x y"}));
    assert_eq!(ask(&mut node, "shv_get", json!(["none"]))["code"], 404);
    assert_eq!(ask(&mut node, "shv_set", json!(["n", "float", 3]))["message"], "type not found");
    assert_eq!(ask(&mut node, "shv_set", json!(["n", "int", "x"]))["message"], "value not found");
}

#[test]
fn every_entry_has_a_check() {
    cover(&tandem_cfgutils::MODULE, CHECKS);
}
