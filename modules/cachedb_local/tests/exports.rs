//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::module::ModuleDef;
use tandem_engine::testing::{Nodes, TestNode, cover};

const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_proto_bin::MODULE,
        &tandem_clusterer::MODULE,
        &tandem_sl::MODULE,
        &tandem_cachedb_local::MODULE,
    ];
    ALL
};
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"cachedb_local.so\"\n";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"cachedb_local\", \"{name}\", {value})\n")
}

/// A node with the collections `one` and, shared, `two`.
fn node(params: &str, route: &str) -> TestNode {
    TestNode::new(&script(params, route), MODULES)
}

fn script(params: &str, route: &str) -> String {
    let collections = set("cache_collections", "\"one; two/r = 4\"");
    let urls = format!(
        "{}{}",
        set("cachedb_url", "\"local:one:///one\""),
        set("cachedb_url", "\"local:two:///two\"")
    );
    format!("{MODULE_LINES}{collections}{urls}{params}route {{ {route} }}")
}

fn last(node: &mut TestNode) -> String {
    node.udp("127.0.0.9:5060", REQUEST);
    node.logs().pop().unwrap().1
}

/// Node `id` of a cluster of two, with a shared collection.
fn member(id: u32, more: &str) -> String {
    let other = 3 - id;
    let seed = if id == 1 { ", flags=seed" } else { "" };
    format!(
        "socket = udp:127.0.1.{id}:5060\nsocket = bin:127.0.1.{id}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\n\
         loadmodule \"clusterer.so\"\nloadmodule \"cachedb_local.so\"\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \
         \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"cachedb_local\", \"cluster_id\", 1)\n\
         modparam(\"cachedb_local\", \"cache_collections\", \"two/r; own\")\n\
         modparam(\"cachedb_local\", \"cachedb_url\", \"local:two:///two\")\n\
         modparam(\"cachedb_local\", \"cachedb_url\", \"local:own:///own\")\n\
         {more}route {{ exit; }}\n"
    )
}

fn store(nodes: &mut Nodes, at: usize, system: &str, key: &str, value: &str) {
    let answer = nodes.mi(at, "cache:store", json!([system, key, value]));
    assert_eq!(answer["result"], "OK", "{answer}");
}

fn fetch(nodes: &mut Nodes, at: usize, system: &str, key: &str) -> Json {
    nodes.mi(at, "cache:fetch", json!([system, key]))["result"]["value"].clone()
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_cachedb_local::MODULE,
        &[
            ("param cache_clean_period", clean_period),
            ("param exec_threshold", accepted),
            ("param cache_collections", collections),
            ("param cachedb_url", urls),
            ("param enable_restart_persistency", restarts),
            ("param cluster_id", replicated),
            ("param cluster_persistency", persistency),
            ("function cache_remove_chunk", remove_chunk),
            ("mi cachedb_local:remove_chunk", mi_remove_chunk),
            ("mi cachedb_local:fetch_chunk", fetch_chunk),
        ],
    );
}

fn accepted() {
    assert_eq!(last(&mut node(&set("exec_threshold", "9"), "xlog(\"L_NOTICE\", \"x\");")), "x");
}

fn clean_period() {
    let route = "cache_store(\"local\", \"k\", \"v\", 5); cache_fetch(\"local\", \"k\", $avp(x)); \
        xlog(\"L_NOTICE\", \"$rc\");";
    let mut node = node(&set("cache_clean_period", "1"), route);
    assert_eq!(last(&mut node), "1");
    node.advance_ms(7_000);
    let gone = node.mi("cache:fetch", json!(["local", "k"]))["error"].clone();
    assert_eq!(gone, json!({"code": 400, "message": "Value not found"}));
    let wrong = script(&set("cache_clean_period", "-1"), "exit;");
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn collections() {
    let script =
        format!("{MODULE_LINES}{}route {{ exit; }}", set("cache_collections", "\"a b/c\""));
    assert!(TestNode::try_new(&script, MODULES).is_err());
    let mut node = node("", "exit;");
    assert_eq!(
        node.mi("cachedb_local:fetch_chunk", json!(["*", "one"]))["result"]["keys"],
        json!([])
    );
    let unknown = node.mi("cachedb_local:fetch_chunk", json!(["*", "three"]));
    assert_eq!(unknown["error"]["message"], "Internal Error");
}

fn urls() {
    let route = "cache_store(\"local:one\", \"k\", \"v\"); cache_fetch(\"local\", \"k\", $avp(x)); \
        $var(a) = $rc; cache_fetch(\"local:one\", \"k\", $avp(x)); \
        xlog(\"L_NOTICE\", \"$var(a) $rc $avp(x)\");";
    assert_eq!(last(&mut node("", route)), "-2 1 v");
    let whole = set("cachedb_url", "\"local:///one\"");
    assert_eq!(last(&mut node(&whole, route)), "1 1 v");
    let missing = script(&set("cachedb_url", "\"local:x:///nosuch\""), "exit;");
    assert!(TestNode::try_new(&missing, MODULES).err().unwrap().contains("no collection `nosuch`"));
}

fn replicated() {
    let mut nodes = Nodes::new(MODULES, vec![member(1, ""), member(2, "")]);
    nodes.advance_ms(12_000);
    store(&mut nodes, 0, "local:two", "k", "v");
    store(&mut nodes, 0, "local:own", "k", "v");
    nodes.advance_ms(100);
    assert_eq!(fetch(&mut nodes, 1, "local:two", "k"), "v");
    assert_eq!(fetch(&mut nodes, 1, "local:own", "k"), Json::Null);
    nodes.mi(1, "cache:remove", json!(["local:two", "k"]));
    nodes.advance_ms(100);
    assert_eq!(fetch(&mut nodes, 0, "local:two", "k"), Json::Null);
    // What happens on both sides of a cut is brought together.
    nodes.cut();
    store(&mut nodes, 0, "local:two", "a", "1");
    store(&mut nodes, 1, "local:two", "b", "2");
    nodes.advance_ms(1_000);
    store(&mut nodes, 1, "local:two", "a", "3");
    nodes.heal();
    nodes.advance_ms(40_000);
    for at in [0, 1] {
        let both =
            (fetch(&mut nodes, at, "local:two", "a"), fetch(&mut nodes, at, "local:two", "b"));
        assert_eq!(both, ("3".into(), "2".into()), "node {}", at + 1);
    }
}

fn persistency() {
    let asks = |more: &str| {
        let mut nodes = Nodes::new(MODULES, vec![member(1, ""), member(2, more)]);
        nodes.advance_ms(12_000);
        store(&mut nodes, 0, "local:two", "k", "v");
        nodes.advance_ms(100);
        nodes.kill(1);
        nodes.advance_ms(1_000);
        nodes.boot(1);
        nodes.advance_ms(5_000);
        fetch(&mut nodes, 1, "local:two", "k")
    };
    assert_eq!(asks(""), "v");
    let wrong = script(&set("cluster_persistency", "\"sometimes\""), "exit;");
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
    // Digests repair it later all the same: the parameter is about the start.
    let _ = asks(&set("cluster_persistency", "\"none\""));
}

const THREE: &str = "cache_store(\"local\", \"a1\", \"x\"); cache_store(\"local\", \"a2\", \"y\"); \
    cache_store(\"local\", \"b1\", \"z\");";

fn remove_chunk() {
    let route = |glob: &str| {
        let tell = "cache_fetch(\"local\", \"a1\", $avp(x)); $var(a) = $rc; \
            cache_fetch(\"local\", \"b1\", $avp(x)); xlog(\"L_NOTICE\", \"$var(c) $var(a) $rc\");";
        format!("{THREE} cache_remove_chunk({glob}); $var(c) = $rc; {tell}")
    };
    assert_eq!(last(&mut node("", &route(", \"a*\""))), "1 -2 1");
    assert_eq!(last(&mut node("", &route("\"one\", \"a*\""))), "1 1 1");
    assert_eq!(last(&mut node("", &route("\"nosuch\", \"a*\""))), "-1 1 1");
}

fn mi_remove_chunk() {
    let mut node = node("", &format!("{THREE} xlog(\"L_NOTICE\", \"x\");"));
    last(&mut node);
    assert_eq!(node.mi("cachedb_local:remove_chunk", json!(["a?"]))["result"], "OK");
    assert_eq!(node.mi("cache:fetch", json!(["local", "a1"]))["error"]["code"], 400);
    assert_eq!(node.mi("cache:fetch", json!(["local", "b1"]))["result"]["value"], "z");
    let unknown = node.mi("cachedb_local:remove_chunk", json!(["a?", "nosuch"]));
    assert_eq!(unknown["error"]["message"], "Internal error");
}

fn fetch_chunk() {
    let mut node = node("", &format!("{THREE} xlog(\"L_NOTICE\", \"x\");"));
    last(&mut node);
    let found = node.mi("cachedb_local:fetch_chunk", json!(["a*"]))["result"].clone();
    let wanted = json!({"keys": [{"name": "a1", "value": "x"}, {"name": "a2", "value": "y"}]});
    assert_eq!(found, wanted);
}

fn restarts() {
    let put = "cache_store(\"local:one\", \"k\", \"kept\"); cache_store(\"local\", \"e\", \"x\", 60); \
        cache_store(\"local\", \"gone\", \"x\", 20); cache_remove(\"local\", \"never\");";
    let value = |node: &mut TestNode, system: &str, key: &str| {
        node.mi("cache:fetch", json!([system, key]))["result"]["value"].clone()
    };
    for (params, kept) in [(String::new(), false), (set("enable_restart_persistency", "1"), true)] {
        let mut old = node(&params, put);
        old.udp("127.0.0.9:5060", REQUEST);
        let mut new = old.after_restart(30_000);
        let expected = if kept { json!("kept") } else { Json::Null };
        assert_eq!(value(&mut new, "local:one", "k"), expected);
        assert_eq!(value(&mut new, "local", "gone"), Json::Null, "its time was over meanwhile");
        assert_eq!(value(&mut new, "local", "e") == json!("x"), kept);
        new.advance_ms(31_000);
        assert_eq!(value(&mut new, "local", "e"), Json::Null, "the rest of its time");
        let mut last = new.after_restart(1_000);
        assert_eq!(value(&mut last, "local:one", "k") == json!("kept"), kept);
    }
}
