//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_cluster::BridgeConfig;
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
        &tandem_ratelimit::MODULE,
    ];
    ALL
};
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"cachedb_local.so\"\n\
     loadmodule \"ratelimit.so\"\n";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"ratelimit\", \"{name}\", {value})\n")
}

fn node(params: &str, route: &str) -> TestNode {
    TestNode::new(&format!("{MODULE_LINES}{params}route {{ {route} }}"), MODULES)
}

/// How many of so many calls passed.
fn passed(node: &mut TestNode, n: usize) -> usize {
    (0..n).for_each(|_| node.udp("127.0.0.9:5060", REQUEST));
    node.logs().iter().filter(|(_, text)| text == "1").count()
}

fn check(args: &str) -> String {
    format!("rl_check({args}); xlog(\"L_NOTICE\", \"$rc\");")
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_ratelimit::MODULE,
        &[
            ("param timer_interval", intervals),
            ("param expire_time", expire),
            ("param hash_size", intervals),
            ("param default_algorithm", algorithms),
            ("param repl_buffer_threshold", replicated),
            ("param repl_timer_interval", replicated),
            ("param bridge_replication", bridges),
            ("param bridge_repl_timer_interval", bridges),
            ("param bridge_repl_timer_expire", bridges),
            ("param repl_timer_expire", replicated),
            ("param pipe_replication_cluster", replicated),
            ("param window_size", window),
            ("param slot_period", window),
            ("param limit_per_interval", intervals),
            ("param cachedb_url", store),
            ("param db_prefix", store),
            ("function rl_check", algorithms),
            ("function rl_dec_count", counts),
            ("function rl_reset_count", counts),
            ("function rl_values", values),
            ("variable rl_count", counts),
            ("mi ratelimit:list", list),
            ("mi ratelimit:reset_pipe", reset),
            ("mi ratelimit:set_pid", pid),
            ("mi ratelimit:get_pid", pid),
            ("mi ratelimit:dump_pipe", dump),
        ],
    );
}

fn intervals() {
    let two = check("\"p\", 2");
    let interval = set("timer_interval", "5");
    let sized = format!("{interval}{}", set("hash_size", "64"));
    assert_eq!(passed(&mut node(&sized, &two), 30), 10, "two a second, for five");
    let per = format!("{interval}{}", set("limit_per_interval", "1"));
    let mut node = node(&per, &two);
    assert_eq!(passed(&mut node, 30), 2);
    node.advance_ms(5_100);
    assert_eq!(passed(&mut node, 30), 2);
}

fn expire() {
    let known = |params: &str| {
        let mut node = node(&format!("{}{params}", set("timer_interval", "1")), &check("\"p\", 2"));
        passed(&mut node, 1);
        node.advance_ms(5_000);
        node.mi("ratelimit:list", json!({"pipe": "p"}))["error"].is_null()
    };
    assert!(known("") && !known(&set("expire_time", "2")));
}

fn algorithms() {
    let base = format!("{}{}", set("timer_interval", "1"), set("limit_per_interval", "1"));
    // RED refuses evenly what was too much in the last interval.
    let red = |node: &mut TestNode| {
        passed(node, 40);
        node.advance_ms(1_000);
        passed(node, 40)
    };
    assert_eq!(red(&mut node(&base, &check("\"p\", 10, \"RED\""))), 10);
    let default = format!("{base}{}", set("default_algorithm", "\"RED\""));
    assert_eq!(red(&mut node(&default, &check("\"p\", 10"))), 10);
    assert_eq!(passed(&mut node(&base, &check("\"p\", 3")), 9), 3);
    assert_eq!(passed(&mut node(&base, &check("\"p\", 50, \"FEEDBACK\"")), 9), 9);
    // NETWORK looks at what waited when the interval began.
    let mut network = node(&base, &check("\"p\", 500, \"NETWORK\""));
    for (waiting, passes) in [(400, 9), (501, 0), (500, 9)] {
        network.node().load.set_waiting_udp(waiting);
        network.advance_ms(1_000);
        assert_eq!(passed(&mut network, 9), passes, "{waiting}");
    }
    let script = format!("{MODULE_LINES}route {{ {} }}", check("\"p\", 1, \"LUCK\""));
    assert!(TestNode::try_new(&script, MODULES).is_err());
}

/// A pipe whose count is in a store, for all who use that.
fn store() {
    let base = format!("{}{}", set("timer_interval", "5"), set("limit_per_interval", "1"));
    assert_eq!(passed(&mut node(&base, &check("\"p/s\", 9")), 2), 0, "there is no store");
    let stored = format!("{base}{}", set("cachedb_url", "\"local://\""));
    let mut node = node(&stored, &check("\"p/s\", 3"));
    assert_eq!(passed(&mut node, 2), 2);
    let count = |node: &mut TestNode, key: &str| {
        node.mi("cache:fetch", json!(["local", key]))["result"]["value"].clone()
    };
    assert_eq!(count(&mut node, "rl_pipe_p"), json!("2"));
    // Somebody else counts, too.
    node.mi("cache:store", json!(["local", "rl_pipe_p", "3", 5]));
    assert_eq!(passed(&mut node, 4), 0);
    node.advance_ms(6_000);
    assert_eq!(passed(&mut node, 4), 3, "another interval");
    let named = format!("{stored}{}", set("db_prefix", "\"mine:\""));
    let mut node = self::node(&named, &check("\"p/s\", 3"));
    passed(&mut node, 1);
    assert_eq!(count(&mut node, "mine:p"), json!("1"));
}

fn window() {
    let sbt = check("\"p\", 3, \"SBT\"");
    let after = |params: &str, ms: u64| {
        let mut node = node(params, &sbt);
        assert_eq!(passed(&mut node, 9), 3);
        node.advance_ms(ms);
        passed(&mut node, 9)
    };
    assert_eq!((after("", 5_000), after("", 10_300)), (0, 3));
    assert_eq!(after(&set("window_size", "2"), 2_300), 3);
    let slots = format!("{}{}", set("window_size", "2"), set("slot_period", "2000"));
    let mut node = node(&slots, &sbt);
    passed(&mut node, 2);
    let dumped = node.mi("ratelimit:dump_pipe", json!(["p"]))["result"].clone();
    assert_eq!(dumped["Window"]["Window Size"], 1);
    let wrong = format!("{MODULE_LINES}{}route {{ exit; }}", set("slot_period", "20000"));
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn counts() {
    let told = |line: &str| {
        let route = format!(
            "rl_check(\"p\", 9); rl_check(\"p\", 9); {line}; $var(r) = $rc; \
             xlog(\"L_NOTICE\", \"$var(r) $rl_count(p) $rl_count(none)\");"
        );
        let mut node = node("", &route);
        node.udp("127.0.0.9:5060", REQUEST);
        node.logs().pop().unwrap().1
    };
    assert_eq!(told("rl_dec_count(\"p\")"), "1 1 <null>");
    assert_eq!(told("rl_reset_count(\"p\")"), "1 0 <null>");
    assert_eq!(told("rl_dec_count(\"none\")"), "-1 2 <null>");
    assert_eq!(told("rl_reset_count(\"none\")"), "-1 2 <null>");
}

fn values() {
    let told = |args: &str| {
        let route = format!(
            "rl_check(\"ab\", 9); rl_check(\"bc\", 9); rl_values({args}); \
             xlog(\"L_NOTICE\", \"$rc $(avp(x)[*])\");"
        );
        let mut node = node("", &route);
        node.udp("127.0.0.9:5060", REQUEST);
        node.logs().pop().unwrap().1
    };
    assert_eq!(told("$avp(x)"), "1 bc, ab");
    assert_eq!(told("$avp(x), \"^a\""), "1 ab");
}

fn two_pipes() -> TestNode {
    let mut node = node("", "rl_check(\"ab\", 9); rl_check(\"bc\", 8, \"SBT\");");
    node.udp("127.0.0.9:5060", REQUEST);
    node
}

fn list() {
    let mut node = two_pipes();
    let ab = json!({"id": "ab", "algorithm": "TAILDROP", "limit": 9, "counter": 1});
    let bc = json!({"id": "bc", "algorithm": "SBT", "limit": 8, "counter": 1});
    let mut list = |params: Json| node.mi("ratelimit:list", params)["result"].clone();
    assert_eq!(list(Json::Null), json!({"Pipes": [ab, bc], "drop_rate": 0}));
    assert_eq!(list(json!({"pipe": "ab"})), json!({"Pipe": ab}));
    assert_eq!(list(json!({"filter": "a*"}))["Pipes"], json!([ab]));
    assert_eq!(list(json!({"filter_out": "a*"}))["Pipes"], json!([bc]));
    let missing = node.mi("rl_list", json!({"pipe": "x"}))["error"]["message"].clone();
    assert_eq!(missing, "Pipe Not Found");
}

fn reset() {
    let mut node = two_pipes();
    assert_eq!(node.mi("ratelimit:reset_pipe", json!(["ab"]))["result"], "OK");
    assert_eq!(node.mi("ratelimit:list", json!({"pipe": "ab"}))["result"]["Pipe"]["counter"], 0);
    assert_eq!(node.mi("ratelimit:reset_pipe", json!(["x"]))["error"]["code"], 500);
}

fn pid() {
    let mut node = two_pipes();
    assert_eq!(node.mi("ratelimit:set_pid", json!(["0.5", "1", "0"]))["result"], "OK");
    let got = node.mi("ratelimit:get_pid", Json::Null)["result"].clone();
    assert_eq!(got, json!({"PID": {"ki": "0.500", "kp": "1.000", "kd": "0.000"}}));
    assert_eq!(node.mi("ratelimit:set_pid", json!(["x", "1", "0"]))["error"]["code"], 400);
}

fn dump() {
    let mut node = two_pipes();
    let dumped = node.mi("ratelimit:dump_pipe", json!(["bc"]))["result"].clone();
    assert_eq!((&dumped["Counter"], &dumped["Total"]), (&json!(1), &json!(1)));
    assert_eq!(dumped["Window"]["Buckets"], json!([{"Index": 0, "Count": 1}]));
    let missing = node.mi("ratelimit:dump_pipe", json!(["x"]))["error"]["message"].clone();
    assert_eq!(missing, "Pipe not found");
}

/// Node `id` of a cluster of two.
fn member(id: u32, more: &str) -> String {
    let other = 3 - id;
    let seed = if id == 1 { ", flags=seed" } else { "" };
    format!(
        "socket = udp:127.0.1.{id}:5060\nsocket = bin:127.0.1.{id}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\n\
         loadmodule \"clusterer.so\"\nloadmodule \"ratelimit.so\"\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \
         \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"ratelimit\", \"pipe_replication_cluster\", 1)\n\
         {more}route {{ rl_check(\"p/b\", 9, \"SBT\"); rl_check(\"other/b\", 9, \"SBT\"); }}\n"
    )
}

/// A node of one of two clusters; those of the same one are neighbours on addresses 2 and 3.
fn edge(id: usize, cluster: usize, more: &str) -> String {
    let other = 5 - id;
    format!(
        "socket = udp:127.0.1.{id}:5060\nsocket = bin:127.0.1.{id}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\n\
         loadmodule \"clusterer.so\"\nloadmodule \"ratelimit.so\"\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \
         \"cluster_id={cluster}, url=bin:127.0.1.{id}:5566\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id={cluster}, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"edge/{cluster}=active\")\n\
         modparam(\"ratelimit\", \"pipe_replication_cluster\", {cluster})\n\
         modparam(\"ratelimit\", \"timer_interval\", 60)\n\
         {more}route {{ rl_check(\"p/b\", 9); rl_check(\"q/b\", 9, \"RED\"); }}\n"
    )
}

/// Node 1 with a bridge to node 2.
fn over_bridge(scripts: Vec<String>) -> Nodes {
    let mut nodes = Nodes::new(MODULES, scripts);
    let address = "127.0.1.2:5566".parse().unwrap();
    let bridge = BridgeConfig { from: 1, to: 2, tag: "edge".into(), addresses: vec![address] };
    nodes.node(0).membership().with(|machine, out| machine.set_bridges(vec![bridge], out));
    nodes.advance_ms(12_000);
    nodes
}

/// What a node of cluster 2 counts of one request at the node of cluster 1, so many milliseconds
/// after it; then the two lose each other for some seconds.
fn bridged(params: [&str; 2], ms: u64, then_cut_s: u64) -> Json {
    let on = set("bridge_replication", "1");
    let scripts = [1, 2].map(|id| edge(id, id, &format!("{on}{}", params[id - 1])));
    let mut nodes = over_bridge(scripts.to_vec());
    nodes.udp(0, "127.0.0.9:5060", REQUEST);
    nodes.advance_ms(ms);
    if then_cut_s > 0 {
        nodes.cut();
        nodes.advance_ms(then_cut_s * 1_000);
    }
    let red = nodes.mi(1, "ratelimit:dump_pipe", json!(["q"]));
    assert!(red["error"].is_object(), "only TAILDROP crosses a bridge: {red}");
    nodes.mi(1, "ratelimit:dump_pipe", json!(["p"]))["result"]["Total"].clone()
}

fn bridges() {
    assert_eq!(bridged(["", ""], 600, 0), 1);
    let off = set("bridge_replication", "0");
    assert_eq!(bridged(["", &off], 600, 0), Json::Null, "it is not heard");
    assert_eq!(bridged([&off, ""], 600, 0), Json::Null, "it is not told");
    assert_eq!(bridged([&set("bridge_repl_timer_interval", "9000"), ""], 600, 0), Json::Null);
    assert_eq!(bridged(["", ""], 600, 5), 1);
    assert_eq!(bridged(["", &set("bridge_repl_timer_expire", "2")], 600, 5), 0);
    passed_on();
}

/// A node that does not count what a bridge brings tells it to those that do.
fn passed_on() {
    let on = set("bridge_replication", "1");
    let mut nodes = over_bridge(vec![edge(1, 1, &on), edge(2, 2, ""), edge(3, 2, &on)]);
    nodes.udp(0, "127.0.0.9:5060", REQUEST);
    nodes.advance_ms(600);
    let total = |nodes: &mut Nodes, at: usize| {
        nodes.mi(at, "ratelimit:dump_pipe", json!(["p"]))["result"]["Total"].clone()
    };
    assert_eq!((total(&mut nodes, 1), total(&mut nodes, 2)), (Json::Null, 1.into()));
}

/// What node 2 knows of the count of node 1, so many milliseconds after it.
fn told(more: &str, ms: u64, then_cut_s: u64) -> Json {
    let window = set("window_size", "60");
    let more = format!("{window}{more}");
    let mut nodes = Nodes::new(MODULES, vec![member(1, &more), member(2, &more)]);
    nodes.advance_ms(12_000);
    nodes.udp(0, "127.0.0.9:5060", REQUEST);
    nodes.advance_ms(ms);
    if then_cut_s > 0 {
        nodes.cut();
        nodes.advance_ms(then_cut_s * 1_000);
    }
    nodes.mi(1, "ratelimit:dump_pipe", json!(["p"]))["result"]["Replication Nodes"].clone()
}

fn replicated() {
    let known = json!([{"MachineID": 1, "NodeCounter": 1}]);
    assert_eq!(told("", 500, 0), known);
    assert_eq!(told(&set("repl_timer_interval", "9000"), 500, 0), Json::Null);
    assert_eq!(told("", 500, 5), known);
    assert_eq!(told(&set("repl_timer_expire", "2"), 500, 5), json!([]));
    // Small packets come to the same.
    assert_eq!(told(&set("repl_buffer_threshold", "100"), 500, 0), known);
    let alone =
        member(1, "").replace("pipe_replication_cluster\", 1", "pipe_replication_cluster\", 0");
    let mut nodes = Nodes::new(MODULES, vec![alone, member(2, "")]);
    nodes.advance_ms(12_000);
    nodes.udp(0, "127.0.0.9:5060", REQUEST);
    nodes.advance_ms(500);
    assert!(nodes.mi(1, "ratelimit:dump_pipe", json!(["p"]))["error"].is_object());
}
