//! Checks of what reaches key-value stores.

use super::*;

pub(crate) const CHECKS: &[Check] = &[
    ("function cache_store", store),
    ("function cache_remove", remove),
    ("function cache_fetch", store),
    ("function cache_counter_fetch", counters),
    ("function cache_add", counters),
    ("function cache_sub", counters),
    ("function cache_raw_query", raw_query),
    ("mi cache:store", commands),
    ("mi cache:fetch", commands),
    ("mi cache:remove", commands),
];

fn node_with_cache(route: &str) -> TestNode {
    node("loadmodule \"cachedb_local.so\"", route)
}

/// What a text comes to behind some statements.
fn told(statements: &str, text: &str) -> String {
    let mut node = node_with_cache(&format!("{statements} xlog(\"L_NOTICE\", \"{text}\");"));
    node.udp(PHONE, REQUEST);
    node.logs().pop().unwrap().1
}

fn store() {
    let put = "cache_store(\"local\", \"k$rU\", \"v$rU\"); ";
    let get = "cache_fetch(\"local\", \"kbob\", $avp(x));";
    assert_eq!(told(&format!("{put}{get}"), "$rc $avp(x)"), "1 vbob");
    assert_eq!(told(get, "$rc $avp(x)"), "-2 <null>");
    assert_eq!(told("cache_fetch(\"nosuch\", \"k\", $avp(x));", "$rc"), "-1");
    assert_eq!(told("cache_store(\"local\", \"\", \"v\");", "$rc"), "-1");
    let short = "if (cache_fetch(\"local\", \"k\", $avp(x))) xlog(\"L_NOTICE\", \"there\"); \
        else cache_store(\"local\", \"k\", \"v\", 2);";
    let mut node = node_with_cache(short);
    let mut there = |ms: u64| {
        node.advance_ms(ms);
        node.udp(PHONE, REQUEST);
        node.logs().iter().any(|(_, text)| text == "there")
    };
    assert!(!there(0) && there(1_000) && !there(1_500));
}

fn remove() {
    let lines = "cache_store(\"local\", \"k\", \"v\"); cache_remove(\"local\", \"k\"); \
        $var(r) = $rc; cache_fetch(\"local\", \"k\", $avp(x));";
    assert_eq!(told(lines, "$var(r) $rc"), "1 -2");
    assert_eq!(told("cache_remove(\"nosuch\", \"k\");", "$rc"), "-1");
}

fn counters() {
    let lines = "cache_add(\"local\", \"n\", 5, 0); cache_add(\"local\", \"n\", 2, 0, $avp(a)); \
        cache_sub(\"local\", \"n\", 10, 0, $avp(b)); cache_counter_fetch(\"local\", \"n\", $avp(c));";
    assert_eq!(told(lines, "$rc $avp(a) $avp(b) $avp(c)"), "1 7 -3 -3");
    let none = "cache_counter_fetch(\"local\", \"n\", $avp(c));";
    assert_eq!(told(none, "$rc"), "-2");
    let text = "cache_store(\"local\", \"n\", \"x\"); ";
    assert_eq!(told(&format!("{text}cache_add(\"local\", \"n\", 1, 0);"), "$rc"), "-1");
    assert_eq!(told(&format!("{text}{none}"), "$rc"), "-1");
}

fn raw_query() {
    // The local store has no language of its own.
    assert_eq!(told("cache_raw_query(\"local\", \"KEYS\", \"$avp(x)\");", "$rc"), "-1");
}

fn commands() {
    let mut node = node_with_cache("exit;");
    let mut run = |method: &str, params: Json| ask(&mut node, method, params);
    assert_eq!(run("cache:store", json!(["local", "k", "v", "60"])), "OK");
    assert_eq!(run("cache_fetch", json!(["local", "k"])), json!({"key": "k", "value": "v"}));
    assert_eq!(run("cache:remove", json!(["local", "k"])), "OK");
    assert_eq!(run("cache:fetch", json!(["local", "k"]))["message"], "Value not found");
    for (method, message) in [
        ("cache:fetch", "Cache fetch command failed"),
        ("cache:remove", "Cache remove command failed"),
    ] {
        let refused = run(method, json!(["nosuch", "k"]));
        assert_eq!(refused, json!({"code": 500, "message": message}));
    }
    let refused = run("cache:store", json!(["nosuch", "k", "v"]));
    assert_eq!(refused["message"], "Cache store command failed");
    assert_eq!(run("cache:store", json!(["local", "k", "v", "soon"]))["code"], -32602);
}
