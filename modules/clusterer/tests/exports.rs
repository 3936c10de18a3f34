//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_db::{Query, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::effect::{BinInput, Input};
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_proto_bin::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_clusterer::MODULE,
];
const HEAD: &str = "log_level=4\nsocket=udp:127.0.0.1:5060\nsocket=bin:127.0.0.1:5566\n\
    loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\nloadmodule \"db_sqlite.so\"\n\
    loadmodule \"clusterer.so\"\n";

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"clusterer\", \"{name}\", {value})\n")
}

/// Node 1 and a neighbour that is not there, described by parameters.
fn parameters() -> String {
    set("my_node_id", "1")
        + &set("db_mode", "0")
        + &set("my_node_info", "\"cluster_id=1,url=bin:127.0.0.1:5566,flags=seed\"")
        + &set("neighbor_node_info", "\"cluster_id=1,node_id=2,url=bin:127.0.0.2:5566\"")
        + &set("sharing_tag", "\"service/1=active\"")
}

fn try_node(settings: &str, route: &str) -> Result<TestNode, String> {
    TestNode::try_new(&format!("{HEAD}{settings}\nroute {{ {route} }}"), MODULES)
}

fn node(settings: &str) -> TestNode {
    let mut node = try_node(settings, "exit;").unwrap_or_else(|e| panic!("{e}"));
    node.advance_ms(1_500);
    node
}

fn ask(node: &mut TestNode, method: &str, params: Json) -> Json {
    let answer = node.mi(method, params);
    answer.get("result").or(answer.get("error")).cloned().unwrap_or(Json::Null)
}

fn refused(settings: &str, text: &str) {
    let errors = try_node(settings, "exit;").err().unwrap_or_default();
    assert!(errors.contains(text), "{errors}");
}

#[test]
fn every_entry_has_a_check() {
    let mut checks: Vec<(&'static str, fn())> = vec![
        ("param my_node_id", || refused(&set("db_mode", "0"), "needs an id of 1 or more")),
        ("param db_mode", || refused(&set("my_node_id", "1"), "needs the database")),
        ("param db_url", nodes_come_from_rows),
        ("param db_table", nodes_come_from_rows),
        ("param my_node_info", nodes_come_from_parameters),
        ("param neighbor_node_info", nodes_come_from_parameters),
        ("param sharing_tag", tags_have_their_state),
        ("param ping_interval", timing_is_judged),
        ("param ping_timeout", timing_is_judged),
        ("param node_timeout", timing_is_judged),
        ("param seed_fallback_interval", timing_is_judged),
        ("param sync_timeout", timing_is_judged),
        ("param sync_packet_size", timing_is_judged),
        ("param discovery", discovery_is_a_switch),
        ("param db_bridges_table", bridges),
        ("param dispatch_jobs", moot_parameters_say_so),
        // What these four change is seen with several nodes, in `cluster.rs`.
        ("param enable_rerouting", switches_are_taken),
        ("param enable_stats", switches_are_taken),
        ("param mi_commands", a_command_of_a_peer_needs_the_list),
        ("function cluster_send_req", nobody_is_there),
        ("function cluster_send_rpl", nobody_is_there),
        ("function cluster_broadcast_req", nobody_is_there),
        ("function cluster_check_addr", nobody_is_there),
        ("mi tandem:cluster_diff", alone_nothing_differs),
        ("mi clusterer:reload", reload_needs_a_database),
        ("mi clusterer:remove_node", a_node_is_removed),
        ("mi clusterer:send_mi", commands_for_others_are_judged),
        ("mi clusterer:broadcast_mi", commands_for_others_are_judged),
        ("event E_CLUSTERER_REQ_RECEIVED", a_broadcast_comes_back_to_us),
        ("event E_CLUSTERER_RPL_RECEIVED", a_broadcast_comes_back_to_us),
        ("param replication_gate", the_gate_is_judged),
        ("variable cluster.sh_tag", the_variable_shows_and_takes_a_tag),
        ("mi clusterer:list", nodes_come_from_parameters),
        ("mi clusterer:list_topology", commands_have_the_shapes_of_the_field),
        ("mi clusterer:list_cap", commands_have_the_shapes_of_the_field),
        ("mi clusterer:list_shtags", tags_have_their_state),
        ("mi clusterer:shtag_set_active", a_tag_is_taken_by_command),
        ("mi clusterer:set_status", a_node_is_disabled),
        ("mi clusterer:set_cap_status", commands_have_the_shapes_of_the_field),
        ("statistic clusterer_nodes", links_are_counted),
        ("statistic clusterer_nodes_up", links_are_counted),
        ("statistic clusterer_nodes_down", links_are_counted),
        ("statistic refused_packets", garbage_is_counted_and_its_source_named),
        ("event E_CLUSTERER_NODE_STATE_CHANGED", events_reach_their_routes),
        ("event E_CLUSTERER_SHARING_TAG_CHANGED", events_reach_their_routes),
    ];
    for column in [
        "param id_col",
        "param cluster_id_col",
        "param node_id_col",
        "param url_col",
        "param state_col",
        "param no_ping_retries_col",
        "param priority_col",
        "param sip_addr_col",
        "param flags_col",
        "param description_col",
    ] {
        checks.push((column, columns_can_have_other_names));
    }
    cover(&tandem_clusterer::MODULE, &checks);
}

fn nodes_come_from_parameters() {
    let nodes = ask(&mut node(&parameters()), "clusterer_list", Json::Null);
    let expected = json!({"Clusters": [{"cluster_id": 1, "Nodes": [{
        "node_id": 2, "db_id": 0, "url": "bin:127.0.0.2:5566", "link_state": "Probe",
        "state": "enabled", "next_hop": "none", "description": ""
    }]}]});
    assert_eq!(nodes, expected);
}

/// A node that reads a table; the row of its own is put there after the start, and the node
/// started again by the query of a second one.
fn from_rows(settings: &str, table: &'static str, columns: &[&'static str; 4]) -> String {
    let script = set("my_node_id", "1") + &set("db_url", "\"sqlite:///x.sqlite\"") + settings;
    let full = format!("{HEAD}{script}\nroute {{ exit; }}");
    let mut node = TestNode::with_database(&full, MODULES, |db| {
        let row = [
            (columns[0].into(), Value::Int(1)),
            (columns[1].into(), Value::Int(1)),
            (columns[2].into(), Value::Str("bin:127.0.0.1:5566".into())),
            (columns[3].into(), Value::Int(1)),
        ];
        let _ = db.execute(&Query::Insert { table: table.into(), row: row.into() });
    });
    match &mut node {
        Ok(node) => ask(node, "clusterer_list", Json::Null).to_string(),
        Err(text) => text.clone(),
    }
}

fn nodes_come_from_rows() {
    let columns = ["cluster_id", "node_id", "url", "state"];
    let listed = from_rows("", "clusterer", &columns);
    assert_eq!(listed, json!({"Clusters": [{"cluster_id": 1, "Nodes": []}]}).to_string());
    let missing = from_rows(&set("db_table", "\"elsewhere\""), "clusterer", &columns);
    assert!(missing.contains("table elsewhere cannot be read"), "{missing}");
}

fn columns_can_have_other_names() {
    for column in [
        "id",
        "cluster_id",
        "node_id",
        "url",
        "state",
        "no_ping_retries",
        "priority",
        "sip_addr",
        "flags",
        "description",
    ] {
        let other = set(&format!("{column}_col"), "\"no_such_column\"");
        let columns = ["cluster_id", "node_id", "url", "state"];
        let text = from_rows(&other, "clusterer", &columns);
        assert!(text.contains("cannot be read"), "{column}: {text}");
    }
}

fn tags_have_their_state() {
    for state in ["active", "backup"] {
        let settings = parameters().replace("service/1=active", &format!("service/1={state}"));
        let tags = ask(&mut node(&settings), "clusterer_list_shtags", Json::Null);
        assert_eq!(tags, json!([{"Tag": "service", "Cluster": 1, "State": state}]));
    }
    refused(&(parameters() + &set("sharing_tag", "\"x=active\"")), "name/cluster_id");
}

fn timing_is_judged() {
    for name in [
        "ping_interval",
        "ping_timeout",
        "node_timeout",
        "seed_fallback_interval",
        "sync_timeout",
        "sync_packet_size",
    ] {
        refused(&(parameters() + &set(name, "0")), "not a positive number");
        assert!(try_node(&(parameters() + &set(name, "7")), "exit;").is_ok(), "{name}");
    }
}

fn discovery_is_a_switch() {
    for value in ["0", "1"] {
        assert!(try_node(&(parameters() + &set("discovery", value)), "exit;").is_ok());
    }
}

fn the_gate_is_judged() {
    refused(&(parameters() + &set("replication_gate", "\"maybe\"")), "write off, sent or acked");
    assert!(try_node(&(parameters() + &set("replication_gate", "\"sent\"")), "exit;").is_ok());
}

fn the_variable_shows_and_takes_a_tag() {
    let settings = parameters().replace("=active", "=backup");
    let route =
        "xlog(\"L_NOTICE\", \"#$cluster.sh_tag(service/1)\"); $cluster.sh_tag(service/1) = 1;";
    let mut node = try_node(&settings, route).unwrap_or_else(|e| panic!("{e}"));
    node.advance_ms(1_500);
    let ping = "OPTIONS sip:127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
        From: <sip:f@h>;tag=f\nTo: <sip:a@h>\nCall-ID: c\nCSeq: 1 OPTIONS\nContent-Length: 0\n\n";
    let mut shown = Vec::new();
    for _ in 0..2 {
        node.logs();
        node.udp("127.0.0.9:5060", ping);
        shown.extend(node.logs().into_iter().map(|l| l.1).filter(|l| l.starts_with('#')));
        node.advance_ms(1_500);
    }
    assert_eq!(shown, ["#0", "#1"]);
}

fn commands_have_the_shapes_of_the_field() {
    let mut node = node(&parameters());
    let topology = ask(&mut node, "clusterer_list_topology", Json::Null);
    assert_eq!(topology["Clusters"][0]["cluster_id"], 1);
    assert_eq!(topology["Clusters"][0]["Nodes"][0]["node_id"], 1);
    let capabilities = ask(&mut node, "clusterer_list_cap", Json::Null);
    assert_eq!(capabilities["Clusters"][0]["Capabilities"], json!([]));
    let refused = ask(&mut node, "clusterer_set_cap_status", json!([1, "nothing", 0]));
    assert_eq!(refused, json!({"code": 404, "message": "Capability not found"}));
}

fn a_tag_is_taken_by_command() {
    let mut node = node(&parameters().replace("=active", "=backup"));
    let take =
        |node: &mut TestNode, tag: &str| ask(node, "clusterer_shtag_set_active", json!([tag]));
    assert_eq!(take(&mut node, "bad")["message"], "Bad tag format <name/cluster_id>");
    assert_eq!(take(&mut node, "service/x")["message"], "Bad cluster ID in tag");
    assert_eq!(take(&mut node, "service/9")["message"], "Cluster ID not found");
    assert_eq!(take(&mut node, "servise/1")["data"], "did you mean service/1?");
    assert_eq!(take(&mut node, "service/1"), "OK, activated alone: node 2 not told");
    let tags = ask(&mut node, "clusterer_list_shtags", Json::Null);
    assert_eq!(tags[0]["State"], "active");
    let forced = json!({"tag": "new/1", "force": 1});
    assert_eq!(
        ask(&mut node, "clusterer_shtag_set_active", forced),
        "OK, activated alone: node 2 not told"
    );
}

fn a_node_is_disabled() {
    let mut node = node(&parameters());
    let answer = ask(&mut node, "clusterer_set_status", json!([1, 2, 0]));
    assert_eq!(answer, "OK");
    let nodes = ask(&mut node, "clusterer_list", Json::Null);
    assert_eq!(nodes["Clusters"][0]["Nodes"][0]["state"], "disabled");
    let answer = ask(&mut node, "clusterer_set_status", json!([7, 2, 0]));
    assert_eq!(answer["message"], "Cluster id not found");
    let answer = ask(&mut node, "clusterer_set_status", json!([1, 9, 0]));
    assert_eq!(answer["message"], "Node id not found");
}

fn links_are_counted() {
    let mut node = node(&parameters());
    let all = ask(&mut node, "get_statistics", json!([["clusterer:"]]));
    let expected = json!({"clusterer:clusterer_nodes": 1, "clusterer:clusterer_nodes_up": 0,
        "clusterer:clusterer_nodes_down": 1, "clusterer:refused_packets": 0});
    assert_eq!(all, expected);
}

fn garbage_is_counted_and_its_source_named() {
    let mut node = node(&parameters());
    let conn = tandem_cluster::ConnId::Accepted(1);
    let peer = "127.0.0.9:4000".parse().unwrap();
    node.step(Input::Bin(BinInput::Accepted { conn, peer }));
    node.step(Input::Bin(BinInput::Data { conn, bytes: "GET / HTTP/1.0".into() }));
    let all = ask(&mut node, "get_statistics", json!([["clusterer:refused_packets"]]));
    assert_eq!(all["clusterer:refused_packets"], 1);
    let logs = node.logs();
    assert!(logs.iter().any(|(_, line)| line.contains("127.0.0.9")), "{logs:?}");
}

fn events_reach_their_routes() {
    let routes = "event_route[E_CLUSTERER_SHARING_TAG_CHANGED] {\n\
        xlog(\"L_NOTICE\", \"#$param(name)/$param(cluster) $param(state) by $param(reason)\"); }\n\
        event_route[E_CLUSTERER_NODE_STATE_CHANGED] {\n\
        xlog(\"L_NOTICE\", \"#node $param(node_id) $param(new_state)\"); }";
    let settings = parameters().replace("=active", "=backup") + routes;
    let mut node = node(&settings);
    ask(&mut node, "clusterer_shtag_set_active", json!(["service/1"]));
    let lines: Vec<String> =
        node.logs().into_iter().map(|l| l.1).filter(|l| l.starts_with('#')).collect();
    assert_eq!(lines, ["#service/1 active by MI command"]);
    // The other event needs a second node; it is checked with the pair of real processes.
}

fn bridges() {
    let told = |table: &str| {
        let script = set("my_node_id", "1") + &set("db_url", "\"sqlite:///x.sqlite\"") + table;
        let full = format!("{HEAD}{script}\nroute {{ exit; }}");
        let mut node = TestNode::with_database(&full, MODULES, |db| {
            let row = vec![
                ("cluster_id".into(), 1.into()),
                ("node_id".into(), 1.into()),
                ("url".into(), "bin:127.0.0.1:5566".into()),
                ("state".into(), 1.into()),
            ];
            db.execute(&Query::Insert { table: "clusterer".into(), row }).unwrap();
            let row = vec![
                ("cluster_a".into(), 1.into()),
                ("cluster_b".into(), 0.into()),
                ("send_shtag".into(), "edge".into()),
                ("dst_node_csv".into(), "bin:127.0.0.9:5566".into()),
            ];
            db.execute(&Query::Insert { table: "clusterer_bridge".into(), row }).unwrap();
        })
        .unwrap();
        node.logs()
            .into_iter()
            .filter(|(_, l)| l.contains("bridge"))
            .map(|l| l.1)
            .collect::<Vec<_>>()
    };
    assert_eq!(told(""), ["clusterer: bridge 1 is left out: 0 is no cluster"]);
    let own = told(&set("db_bridges_table", "\"own_bridges\""));
    assert!(own.iter().all(|line| !line.contains("left out")), "another table is read: {own:?}");
}

fn moot_parameters_say_so() {
    let param = tandem_clusterer::MODULE.params.iter().find(|p| p.name == "dispatch_jobs");
    assert!(param.unwrap().moot.is_some());
    assert!(try_node(&(parameters() + &set("dispatch_jobs", "0")), "exit;").is_ok());
}

fn switches_are_taken() {
    let off = parameters() + &set("enable_stats", "0") + &set("enable_rerouting", "0");
    let all = ask(&mut node(&off), "get_statistics", json!([["clusterer:"]]));
    assert_eq!(all["clusterer:clusterer_nodes"], 0);
}

fn a_command_of_a_peer_needs_the_list() {
    let param = tandem_clusterer::MODULE.params.iter().find(|p| p.name == "mi_commands").unwrap();
    assert!(!param.default.unwrap().contains("kill"));
    assert!(try_node(&(parameters() + &set("mi_commands", "\"\"")), "exit;").is_ok());
}

const PING: &str = "OPTIONS sip:127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
    From: <sip:f@h>;tag=f\nTo: <sip:a@h>\nCall-ID: c\nCSeq: 1 OPTIONS\nContent-Length: 0\n\n";

fn said(route: &str, more: &str) -> Vec<String> {
    let mut node = try_node(&(parameters() + more), route).unwrap_or_else(|e| panic!("{e}"));
    node.advance_ms(1_500);
    node.logs();
    node.udp("127.0.0.9:5060", PING);
    node.advance_ms(10);
    node.logs().into_iter().map(|l| l.1).filter(|l| l.starts_with('#')).collect()
}

fn nobody_is_there() {
    let route = "cluster_send_req(1, 2, \"x\", $var(tag)); xlog(\"#$rc\");\n\
        cluster_send_rpl(1, 2, \"x\", $var(tag)); xlog(\"#$rc\");\n\
        cluster_broadcast_req(1, \"x\"); xlog(\"#$rc\");\n\
        cluster_check_addr(1, \"127.0.0.2\", \"bin\"); xlog(\"#$rc\");\n\
        cluster_check_addr(1, \"127.0.0.3\", \"bin\"); xlog(\"#$rc\");";
    assert_eq!(said(route, ""), ["#-2", "#-2", "#-2", "#1", "#-1"]);
}

fn a_broadcast_comes_back_to_us() {
    let events = "event_route[E_CLUSTERER_REQ_RECEIVED] { xlog(\"#got $param(msg)\"); }\n\
        event_route[E_CLUSTERER_RPL_RECEIVED] { xlog(\"#reply\"); }\n";
    let route = "cluster_broadcast_req(1, \"hello\", $var(tag), 1); xlog(\"#$rc\");";
    assert_eq!(said(route, events), ["#-2", "#got hello"]);
}

fn reload_needs_a_database() {
    let answer = ask(&mut node(&parameters()), "clusterer_reload", Json::Null);
    assert_eq!(answer, json!({"code": 400, "message": "Non-DB mode"}));
}

fn a_node_is_removed() {
    let mut node = node(&parameters());
    assert_eq!(ask(&mut node, "clusterer_remove_node", json!([1, 2])), "OK");
    let nodes = ask(&mut node, "clusterer_list", Json::Null);
    assert_eq!(nodes["Clusters"][0]["Nodes"], json!([]));
}

fn commands_for_others_are_judged() {
    let mut node = node(&parameters());
    let answer = ask(&mut node, "cluster_send_mi", json!([1, 2, "pwd"]));
    assert_eq!(answer["message"], "Destination down");
    let answer = ask(&mut node, "cluster_broadcast_mi", json!([1, "version"]));
    assert!(answer["Server"].is_string());
}

fn alone_nothing_differs() {
    assert_eq!(ask(&mut node(&parameters()), "tandem:cluster_diff", Json::Null), json!([]));
}
