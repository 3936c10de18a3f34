//! What needs several nodes: messages, commands over the cluster, reload, removal.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use serde_json::{Value as Json, json};
use tandem_db::{Query, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::Nodes;

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_proto_bin::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_clusterer::MODULE,
];

const EVENTS: &str = "event_route[E_CLUSTERER_REQ_RECEIVED] {\n\
    xlog(\"#request $param(msg) of $param(src_id)/$param(cluster_id), tag $param(tag)\");\n\
    if ($param(src_id) != $var(me)) {\n\
      cluster_send_rpl($param(cluster_id), $param(src_id), \"pong\", $param(tag));\n\
      xlog(\"#replied $rc\"); } }\n\
    event_route[E_CLUSTERER_RPL_RECEIVED] {\n\
    xlog(\"#reply $param(msg) of $param(src_id)/$param(cluster_id), tag $param(tag)\"); }\n\
    event_route[E_CLUSTERER_NODE_STATE_CHANGED] {\n\
    xlog(\"#node $param(node_id)/$param(cluster_id) $param(new_state)\"); }\n";

/// A command to a node, counted from 1: its result or its error.
fn ask(nodes: &mut Nodes, node: usize, method: &str, params: Json) -> Json {
    let answer = nodes.mi(node - 1, method, params);
    answer.get("result").or(answer.get("error")).cloned().unwrap_or(Json::Null)
}

/// An OPTIONS to a node, which runs its route.
fn options(nodes: &mut Nodes, node: usize) {
    let text = "OPTIONS sip:x SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
        From: <sip:f@h>;tag=f\nTo: <sip:a@h>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
        Content-Length: 0\n\n";
    nodes.udp(node - 1, "127.0.0.9:5060", text);
}

/// Takes the lines of a node that begin with `#`.
fn lines(nodes: &mut Nodes, node: usize) -> Vec<String> {
    nodes.said(node - 1)
}

fn head(n: usize) -> String {
    format!(
        "log_level=4\nsocket=udp:127.0.0.{n}:5060\nsocket=bin:127.0.0.{n}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\nloadmodule \"db_sqlite.so\"\n\
         loadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"my_node_id\", {n})\n"
    )
}

/// Node `n` of `of`, with all others as configured neighbours.
fn script(n: usize, of: usize, more: &str) -> String {
    let mut text = head(n) + "modparam(\"clusterer\", \"db_mode\", 0)\n";
    let seed = if n == 1 { ",flags=seed" } else { "" };
    text += &format!(
        "modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1,url=bin:127.0.0.{n}:5566,\
         sip_addr=127.0.0.{n}:5060{seed}\")\n"
    );
    for other in (1..=of).filter(|other| *other != n) {
        text += &format!(
            "modparam(\"clusterer\", \"neighbor_node_info\", \"cluster_id=1,node_id={other},\
             url=bin:127.0.0.{other}:5566,sip_addr=127.0.0.{other}:5060\")\n"
        );
    }
    text + more
}

fn cluster(of: usize, more: &str) -> Nodes {
    let scripts: Vec<String> = (1..=of).map(|n| script(n, of, more)).collect();
    let mut nodes = Nodes::new(MODULES, scripts);
    nodes.advance_ms(3000);
    nodes.logs.clear();
    nodes
}

fn with_route(route: &str) -> String {
    format!("route {{ {route} }}\n{EVENTS}").replace("$var(me)", "99")
}

#[test]
fn a_request_and_its_reply_travel_with_one_tag() {
    let route = "cluster_send_req(1, 2, \"ping\", $var(tag)); xlog(\"#sent $rc $var(tag)\");";
    let mut nodes = cluster(2, &with_route(route));
    options(&mut nodes, 1);
    let said = lines(&mut nodes, 1);
    let tag = said[0].strip_prefix("#sent 1 ").unwrap().to_owned();
    assert!(tag.starts_with("1-1-") && tag.len() == 28, "{tag}");
    nodes.advance_ms(40);
    let request = format!("#request ping of 1/1, tag {tag}");
    assert_eq!(lines(&mut nodes, 2), [request, "#replied 1".into()]);
    let reply = format!("#reply pong of 2/1, tag {tag}");
    assert_eq!([said, lines(&mut nodes, 1)].concat()[1..], [reply]);
}

#[test]
fn return_codes_tell_why_nothing_was_sent() {
    let route = "cluster_send_req(1, 2, \"x\"); xlog(\"#$rc\");\n\
        cluster_send_req(1, 7, \"x\"); xlog(\"#$rc\");\n\
        cluster_send_req(9, 2, \"x\"); xlog(\"#$rc\");\n\
        cluster_send_rpl(1, 2, \"x\", \"tag\"); xlog(\"#$rc\");\n\
        cluster_broadcast_req(1, \"x\"); xlog(\"#$rc\");\n\
        cluster_broadcast_req(9, \"x\"); xlog(\"#$rc\");";
    let mut nodes = cluster(2, &format!("route {{ {route} }}"));
    options(&mut nodes, 1);
    assert_eq!(lines(&mut nodes, 1), ["#1", "#-2", "#-3", "#1", "#1", "#-4"]);
    nodes.cut();
    nodes.advance_ms(6000);
    options(&mut nodes, 1);
    assert_eq!(lines(&mut nodes, 1), ["#-2", "#-2", "#-3", "#-2", "#-2", "#-4"]);
    ask(&mut nodes, 1, "clusterer:set_status", json!([1, 0]));
    options(&mut nodes, 1);
    assert_eq!(lines(&mut nodes, 1), ["#-1", "#-1", "#-3", "#-1", "#-1", "#-4"]);
}

#[test]
fn a_broadcast_reaches_all_nodes_and_this_one_if_it_wants() {
    let route = "cluster_broadcast_req(1, \"all\", $var(tag), 1); xlog(\"#sent $rc\");";
    let mut nodes = cluster(3, &with_route(route));
    options(&mut nodes, 1);
    nodes.advance_ms(40);
    for node in [2, 3] {
        let said = lines(&mut nodes, node);
        assert!(said[0].starts_with("#request all of 1/1, tag 1-1-"), "{said:?}");
    }
    let said = lines(&mut nodes, 1);
    assert_eq!(said[0], "#sent 1");
    assert_eq!(said.iter().filter(|s| s.starts_with("#request all of 1/1")).count(), 1);
    assert_eq!(said.iter().filter(|s| s.starts_with("#reply pong")).count(), 2);
}

#[test]
fn addresses_of_nodes_are_known_by_sip_and_by_bin() {
    let route = "cluster_check_addr(1, \"127.0.0.2\"); xlog(\"#$rc\");\n\
        cluster_check_addr(1, \"127.0.0.9\"); xlog(\"#$rc\");\n\
        cluster_check_addr(1, \"127.0.0.2\", \"bin\"); xlog(\"#$rc\");\n\
        cluster_check_addr(1, \"127.0.0.9\", \"bin\"); xlog(\"#$rc\");\n\
        cluster_check_addr(2, \"127.0.0.2\", \"sip\"); xlog(\"#$rc\");\n\
        cluster_check_addr(1, \"host\"); xlog(\"#$rc\");";
    let mut nodes = cluster(2, &format!("route {{ {route} }}"));
    options(&mut nodes, 1);
    assert_eq!(lines(&mut nodes, 1), ["#1", "#-1", "#1", "#-1", "#-1", "#-1"]);
}

#[test]
fn nodes_that_come_and_go_raise_an_event() {
    let mut nodes = cluster(2, &with_route("exit;"));
    nodes.cut();
    nodes.advance_ms(8000);
    assert_eq!(lines(&mut nodes, 1), ["#node 2/1 0"]);
    nodes.heal();
    nodes.advance_ms(62_000);
    assert_eq!(lines(&mut nodes, 1), ["#node 2/1 1"]);
    let up = ask(&mut nodes, 1, "get_statistics", json!([["clusterer_nodes_up"]]));
    assert_eq!(up, json!({"clusterer:clusterer_nodes_up": 1}));
}

#[test]
fn statistics_can_be_switched_off() {
    let more = "modparam(\"clusterer\", \"enable_stats\", 0)\nroute { exit; }";
    let mut nodes = cluster(2, more);
    let up = ask(&mut nodes, 1, "get_statistics", json!([["clusterer_nodes_up"]]));
    assert_eq!(up, json!({"clusterer:clusterer_nodes_up": 0}));
}

fn logged(nodes: &Nodes, node: usize, text: &str) -> bool {
    nodes.logs.iter().any(|(n, line)| *n + 1 == node && line.contains(text))
}

#[test]
fn a_command_runs_on_another_node_if_its_list_has_it() {
    let mut nodes = cluster(2, "route { exit; }");
    assert_eq!(ask(&mut nodes, 1, "clusterer:send_mi", json!([1, 2, "version"])), "OK");
    assert!(logged(&nodes, 2, "node 1 ran version: {\"Server\""), "{:?}", nodes.logs);
    let params = json!({"cluster_id": 1, "destination": 2, "cmd_name": "log_level",
        "cmd_params": ["3"]});
    assert_eq!(ask(&mut nodes, 1, "cluster_send_mi", params), "OK");
    assert!(logged(&nodes, 2, "node 1 ran log_level"), "{:?}", nodes.logs);
    // A packet carries texts, where the command has a list.
    let statistics = json!([1, 2, "get_statistics", ["clusterer_nodes_up"]]);
    assert_eq!(ask(&mut nodes, 1, "clusterer:send_mi", statistics), "OK");
    let told = "node 1 ran get_statistics: {\"clusterer:clusterer_nodes_up\":1}";
    assert!(logged(&nodes, 2, told), "{:?}", nodes.logs);
    assert_eq!(ask(&mut nodes, 1, "clusterer:send_mi", json!([1, 2, "kill"])), "OK");
    assert!(logged(&nodes, 2, "command \"kill\" of node 1 refused"));
    let remove = json!([1, 2, "clusterer:remove_node", ["1", "1"]]);
    assert_eq!(ask(&mut nodes, 1, "clusterer:send_mi", remove), "OK");
    assert!(logged(&nodes, 2, "of node 1 refused: it is not in mi_commands"));
    let errors = [
        (json!([1, 1, "pwd"]), "Local node specified as destination"),
        (json!([9, 2, "pwd"]), "Bad value for 'cluster_id'"),
        (json!([1, 0, "pwd"]), "Bad value for 'destination'"),
        (json!([1, 7, "pwd"]), "Destination down"),
    ];
    for (params, text) in errors {
        let answer = ask(&mut nodes, 1, "clusterer:send_mi", params);
        assert_eq!(answer, json!({"code": 400, "message": text}));
    }
}

#[test]
fn a_command_for_all_runs_here_too_and_answers_from_here() {
    let mut nodes = cluster(3, "route { exit; }");
    let answer = ask(&mut nodes, 1, "clusterer:broadcast_mi", json!([1, "uptime"]));
    assert!(answer["Up since"].is_string(), "{answer}");
    assert!(logged(&nodes, 2, "node 1 ran uptime") && logged(&nodes, 3, "node 1 ran uptime"));
    let answer = ask(&mut nodes, 1, "cluster_broadcast_mi", json!([1, "log_level", ["3"]]));
    assert!(answer.to_string().contains("log level\":3"), "{answer}");
    assert!(logged(&nodes, 3, "node 1 ran log_level"));
    let answer = ask(&mut nodes, 1, "clusterer:broadcast_mi", json!([1, "no_such_thing"]));
    assert_eq!(answer["message"], "Command to be run not found");
    let answer = ask(&mut nodes, 1, "clusterer:broadcast_mi", json!([9, "uptime"]));
    assert_eq!(answer["message"], "Bad value for 'cluster_id'");
}

#[test]
fn the_list_of_commands_is_a_parameter() {
    let more = "modparam(\"clusterer\", \"mi_commands\", \"uptime\")\nroute { exit; }";
    let mut nodes = cluster(2, more);
    ask(&mut nodes, 1, "clusterer:send_mi", json!([1, 2, "version"]));
    ask(&mut nodes, 1, "clusterer:send_mi", json!([1, 2, "uptime"]));
    assert!(logged(&nodes, 2, "\"version\" of node 1 refused"));
    assert!(logged(&nodes, 2, "node 1 ran uptime"));
}

#[test]
fn a_node_is_removed_everywhere_and_falls_silent() {
    let mut nodes = cluster(3, "route { exit; }");
    assert_eq!(ask(&mut nodes, 1, "clusterer:remove_node", json!([1, 3])), "OK");
    nodes.advance_ms(3000);
    for node in [1, 2] {
        let listed = ask(&mut nodes, node, "clusterer:list", Json::Null);
        let listed = listed["Clusters"][0]["Nodes"].as_array().unwrap();
        assert!(listed.iter().all(|n| n["node_id"] != 3), "{listed:?}");
    }
    let errors = [
        (json!([0, 2]), "Bad value for 'cluster_id'"),
        (json!([9, 2]), "Unknown cluster id"),
        (json!([1, 0]), "Bad value for 'node_id'"),
        (json!([1, 3]), "Unknown node id"),
    ];
    for (params, text) in errors {
        let answer = ask(&mut nodes, 1, "clusterer_remove_node", params);
        assert_eq!(answer, json!({"code": 400, "message": text}));
    }
    assert_eq!(ask(&mut nodes, 1, "clusterer:reload", Json::Null)["message"], "Non-DB mode");
}

fn row(node: u32, description: &str) -> Query {
    let text = |s: &str| Value::Str(s.to_owned());
    let row = [
        ("cluster_id", Value::Int(1)),
        ("node_id", Value::Int(i64::from(node))),
        ("url", text(&format!("bin:127.0.0.{node}:5566"))),
        ("state", Value::Int(1)),
        ("no_ping_retries", Value::Int(3)),
        ("priority", Value::Int(50)),
        ("flags", if node == 1 { text("seed") } else { Value::Null }),
        ("description", text(description)),
    ];
    let row = row.into_iter().map(|(name, value)| (name.into(), value)).collect();
    Query::Insert { table: "clusterer".into(), row }
}

#[test]
fn the_table_is_read_again_by_command() {
    let script = |n| {
        head(n) + "modparam(\"clusterer\", \"db_url\", \"sqlite:///x.sqlite\")\nroute { exit; }"
    };
    let mut nodes = Nodes::asleep(MODULES, vec![script(1), script(2)]);
    nodes.db.execute(&row(1, "first")).unwrap();
    nodes.db.execute(&row(2, "second")).unwrap();
    nodes.boot_all();
    nodes.advance_ms(3000);
    let list = |nodes: &mut Nodes| {
        let listed = ask(nodes, 1, "clusterer:list", Json::Null);
        listed["Clusters"][0]["Nodes"].as_array().unwrap().clone()
    };
    let before = list(&mut nodes);
    let expected = json!([{"node_id": 2, "db_id": 2, "url": "bin:127.0.0.2:5566",
        "link_state": "Up", "state": "enabled", "next_hop": "2", "description": "second"}]);
    assert_eq!(json!(before), expected);
    nodes.db.execute(&row(3, "third")).unwrap();
    assert_eq!(ask(&mut nodes, 1, "clusterer:reload", Json::Null), "OK");
    let after = list(&mut nodes);
    assert_eq!((after.len(), &after[0]["link_state"]), (2, &json!("Up")));
    assert_eq!((&after[1]["node_id"], &after[1]["link_state"]), (&json!(3), &json!("Probe")));
    assert_eq!(
        ask(&mut nodes, 1, "clusterer:remove_node", json!([1, 2]))["message"],
        "Running in DB mode"
    );
}

#[test]
fn the_status_of_the_cluster_is_reported_in_the_words_of_the_field() {
    let mut nodes = cluster(2, "route { exit; }");
    let status = ask(&mut nodes, 1, "status_report:status", json!(["clusterer"]));
    assert_eq!(
        status,
        json!([
            {"Name": "sharing_tags", "Readiness": true, "Status": 1},
            {"Name": "node_states", "Readiness": true, "Status": 1},
        ])
    );
    let reports = ask(&mut nodes, 1, "status_report:reports", json!(["clusterer", "node_states"]));
    assert_eq!(reports[0]["Reports"][0]["Log"], "Node [2], cluster [1] is UP");
    ask(&mut nodes, 1, "clusterer:shtag_set_active", json!({"tag": "vip/1", "force": 1}));
    let reports = ask(&mut nodes, 1, "status_report:reports", json!(["clusterer", "sharing_tags"]));
    assert!(reports[0]["Reports"][0]["Log"].as_str().unwrap().contains("vip/1"), "{reports}");
}
