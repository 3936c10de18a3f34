//! Management commands.

use serde_json::{Value as Json, json};
use tandem_engine::testing::{DbState, TestNode};

use crate::world::{self, LINES, MODULES, URL, fill, node, node_with, request, rule, said, set};

const ROUTE: &str = "route { do_routing(0); xlog(\"L_NOTICE\", \"# $rc $ru\"); }";

fn routed(node: &mut TestNode, user: &str) -> String {
    node.udp("127.0.0.9:5060", &request(&format!("sip:{user}@here.test")));
    said(node).pop().unwrap()
}

pub(crate) fn reload() {
    let mut node = node(URL, ROUTE).unwrap();
    assert_eq!(routed(&mut node, "4077"), "1 sip:9977@127.0.1.21:5060");
    rule(&mut node.db, "0", "4077", "gw2", &[]);
    assert_eq!(routed(&mut node, "4077"), "1 sip:9977@127.0.1.21:5060");
    assert_eq!(node.mi("dr_reload", Json::Null)["result"], "OK");
    assert_eq!(routed(&mut node, "4077"), "1 sip:4077@127.0.1.22");
    // States stay, unless they are not wanted.
    node.mi("drouting:gw_status", json!({"gw_id": "gw2", "status": 0}));
    node.mi("drouting:reload", json!({"partition_name": "Default"}));
    assert_eq!(routed(&mut node, "4077"), "-2 sip:4077@here.test");
    node.mi("drouting:reload", json!({"inherit_state": 0}));
    assert_eq!(routed(&mut node, "4077"), "1 sip:4077@127.0.1.22");
    assert_eq!(
        node.mi("drouting:reload", json!({"partition_name": "nosuch"}))["error"]["code"],
        404
    );
    // What cannot be read leaves the old tables.
    node.db_state = DbState::Down;
    let failed = node.mi("drouting:reload", Json::Null);
    assert_eq!(failed["error"]["message"], "Failed to reload");
    assert_eq!(routed(&mut node, "4077"), "1 sip:4077@127.0.1.22");
}

pub(crate) fn one_reload() {
    let params = format!("{URL}{}", set("no_concurrent_reload", "1"));
    let second = |params: &str| {
        let mut node = node(params, ROUTE).unwrap();
        node.db_state = DbState::Slow;
        assert_eq!(node.mi("drouting:reload", Json::Null), Json::Null, "it waits");
        node.mi("drouting:reload", Json::Null)
    };
    assert_eq!(second(&params)["error"]["message"], "Reload in progress");
    assert_eq!(second(URL), Json::Null);
}

pub(crate) fn gateways() {
    let mut node = node(URL, ROUTE).unwrap();
    let all = node.mi("drouting:gw_status", Json::Null)["result"]["Gateways"].clone();
    let first = json!({
        "ID": "gw1", "IP": "127.0.1.21:5060", "ATTRS": "cost=1", "State": "Active"
    });
    assert_eq!((&all[0], all.as_array().unwrap().len()), (&first, 4));
    assert_eq!(node.mi("drouting:gw_status", json!(["gw1"]))["error"]["code"], -32602);
    let mut ask = |args: Json| node.mi("drouting:gw_status", args);
    assert_eq!(ask(json!({"gw_id": "gw1", "status": 0}))["result"], "OK");
    let state = json!({"ATTRS": "cost=1", "State": "Disabled MI"});
    assert_eq!(ask(json!({"gw_id": "gw1"}))["result"], state);
    assert_eq!(ask(json!({"gw_id": "gw1", "status": 1}))["result"], "OK");
    assert_eq!(
        ask(json!({"partition_name": "Default", "gw_id": "gw1"}))["result"]["State"],
        "Active"
    );
    ask(json!({"gw_id": "gw3", "status": 2}));
    assert_eq!(ask(json!({"gw_id": "gw3"}))["result"]["State"], "Probing");
    assert_eq!(ask(json!({"gw_id": "zz"}))["error"]["message"], "GW ID not found");
    assert_eq!(ask(json!({"partition_name": "zz"}))["error"]["message"], "Partition not found");
}

pub(crate) fn carriers() {
    let mut node = node(URL, ROUTE).unwrap();
    let all = node.mi("drouting:carrier_status", Json::Null)["result"]["Carriers"].clone();
    assert_eq!(all[0], json!({"ID": "c1", "ATTRS": "of c1", "Enabled": "yes"}));
    assert_eq!(routed(&mut node, "33"), "1 sip:33@127.0.1.22");
    let mut ask = |args: Json| node.mi("dr_carrier_status", args);
    assert_eq!(ask(json!({"carrier_id": "c1", "status": 0}))["result"], "OK");
    assert_eq!(ask(json!({"carrier_id": "c1"}))["result"]["Enabled"], "no");
    assert_eq!(ask(json!({"carrier_id": "zz"}))["error"]["message"], "Carrier ID not found");
    assert_eq!(routed(&mut node, "33"), "-2 sip:33@here.test");
}

pub(crate) fn numbers() {
    let mut node = node(URL, ROUTE).unwrap();
    let mut ask = |args: Json| node.mi("drouting:number_routing", args)["result"].clone();
    assert_eq!(ask(json!({"number": "4012345"})), "No match", "no group");
    let default = json!({
        "Matched Prefix": "", "GW List": [{"CARRIER": "c1"}], "ATTRS": "rule"
    });
    assert_eq!(ask(json!({"group_id": 0, "number": "33123"})), default);
    let of_40 = ask(json!({"partition_name": "Default", "group_id": 7, "number": "4012"}));
    assert_eq!(of_40["Matched Prefix"], "40");
    assert_eq!(of_40["GW List"], json!([{"GW": "gw1"}, {"GW": "gw2"}]));
    let with_group = format!("{URL}{}", set("default_group", "0"));
    let mut node = world::node(&with_group, ROUTE).unwrap();
    let found = node.mi("drouting:number_routing", json!({"number": "33123"}));
    assert_eq!(found["result"], default);
}

pub(crate) fn reloads() {
    let mut node = node(URL, ROUTE).unwrap();
    let date = node.mi("drouting:reload_status", Json::Null)["result"].clone();
    assert_eq!(date, json!({"Date": "Fri Jan 15 08:00:00 2027"}));
    node.advance_ms(2_000);
    node.mi("drouting:reload", Json::Null);
    let later = node.mi("drouting:reload_status", json!(["Default"]))["result"].clone();
    assert_eq!(later, json!({"Date": "Fri Jan 15 08:00:02 2027"}));
    let unknown = node.mi("drouting:reload_status", json!(["zz"]));
    assert_eq!(unknown["error"]["message"], "Partition not found");
}

pub(crate) fn sums() {
    let sums = format!("{URL}{}", set("generate_data_checksum", "1"));
    let hash = |node: &mut TestNode| {
        let status = node.mi("drouting:reload_status", Json::Null);
        status["result"]["Hash"].as_str().unwrap_or_default().to_owned()
    };
    let mut one = node_with(&sums, ROUTE, fill).unwrap();
    let before = hash(&mut one);
    assert_eq!((before.len(), hash(&mut node(URL, ROUTE).unwrap()).len()), (32, 0));
    one.mi("drouting:reload", Json::Null);
    assert_eq!(hash(&mut one), before, "the same data");
    rule(&mut one.db, "0", "1", "gw1", &[]);
    one.mi("drouting:reload", Json::Null);
    assert_ne!(hash(&mut one), before);
    let text = format!("{LINES}{sums}{ROUTE}");
    assert!(TestNode::try_new(&text, MODULES).is_ok(), "empty tables are no fault");
}
