//! Two nodes.

use serde_json::json;
use tandem_engine::testing::Nodes;

use crate::world::{MODULES, fill, set};

/// Node `id` of a cluster of two; the first begins as holder of the tag `vip`.
fn script(id: usize, params: &str) -> String {
    let (other, seed) = (3 - id, if id == 1 { ", flags=seed" } else { "" });
    let state = if id == 1 { "active" } else { "backup" };
    format!(
        "socket=udp:127.0.0.{id}:5060\nsocket=bin:127.0.1.{id}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\nloadmodule \"db_sqlite.so\"\n\
         loadmodule \"clusterer.so\"\nloadmodule \"tm.so\"\nloadmodule \"drouting.so\"\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \
         \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"vip/1={state}\")\n\
         modparam(\"drouting\", \"db_url\", \"sqlite:///tmp/x.db\")\n\
         {}{params}\
         route {{ exit; }}\n\
         event_route[E_DROUTING_STATUS] {{ \
         xlog(\"# $param(gwid) $param(status) $param(reason)\"); }}",
        set("persistent_state", "0"),
    )
}

fn start(params: &str) -> Nodes {
    let scripts = [1, 2].map(|id| script(id, params)).to_vec();
    let mut nodes = Nodes::asleep(MODULES, scripts);
    fill(&mut nodes.db);
    nodes.boot_all();
    nodes.advance_ms(10_000);
    nodes
}

fn state(nodes: &mut Nodes, at: usize, id: &str) -> String {
    let status = nodes.mi(at, "drouting:gw_status", json!({"gw_id": id}));
    status["result"]["State"].as_str().unwrap_or_default().to_owned()
}

fn disable(nodes: &mut Nodes, at: usize, id: &str) {
    nodes.mi(at, "drouting:gw_status", json!({"gw_id": id, "status": 0}));
    nodes.advance_ms(100);
}

pub(crate) fn replicated() {
    let off = set("probing_interval", "0");
    let mut nodes = start(&format!("{off}{}", set("cluster_id", "1")));
    disable(&mut nodes, 0, "gw2");
    assert_eq!(state(&mut nodes, 1, "gw2"), "Disabled MI");
    assert!(nodes.said(1).iter().any(|text| text == "# gw2 disabled MI replicated"));
    nodes.mi(1, "drouting:carrier_status", json!({"carrier_id": "c1", "status": 0}));
    nodes.advance_ms(100);
    let carrier = nodes.mi(0, "drouting:carrier_status", json!({"carrier_id": "c1"}));
    assert_eq!(carrier["result"]["Enabled"], "no");
    // A node that comes back is told.
    nodes.kill(1);
    disable(&mut nodes, 0, "gw4");
    nodes.boot(1);
    nodes.advance_ms(10_000);
    assert_eq!(state(&mut nodes, 1, "gw4"), "Disabled MI");
    let mut alone = start(&off);
    disable(&mut alone, 0, "gw2");
    assert_eq!(state(&mut alone, 1, "gw2"), "Active");
}

pub(crate) fn holder_tells() {
    let params =
        [set("probing_interval", "0"), set("cluster_id", "1"), set("cluster_sharing_tag", "vip")];
    let mut nodes = start(&params.concat());
    disable(&mut nodes, 0, "gw2");
    assert_eq!(state(&mut nodes, 1, "gw2"), "Disabled MI");
    disable(&mut nodes, 1, "gw4");
    assert_eq!(state(&mut nodes, 0, "gw4"), "Active", "the backup does not tell");
    // What differs is found, and repaired.
    nodes.advance_ms(30_000);
    assert_eq!(state(&mut nodes, 0, "gw4"), state(&mut nodes, 1, "gw4"));
}

/// Which nodes have sent probes.
fn probers(params: &str) -> Vec<usize> {
    let mut nodes = start(&[set("probing_interval", "5"), params.to_owned()].concat());
    nodes.datagrams.clear();
    nodes.advance_ms(6_000);
    let probes = nodes.datagrams.iter().filter(|(.., text)| text.starts_with("OPTIONS"));
    let who: std::collections::BTreeSet<usize> = probes.map(|(at, ..)| *at).collect();
    who.into_iter().collect()
}

pub(crate) fn who_probes() {
    let shared = [set("cluster_id", "1"), set("cluster_sharing_tag", "vip")].concat();
    assert_eq!(probers(&shared), [0, 1], "all is the default");
    let mode = |name: &str| format!("{shared}{}", set("cluster_probing_mode", name));
    assert_eq!(probers(&mode("by-shtag")), [0]);
    assert_eq!(probers(&mode("distributed")).len(), 1, "one of them has the only gateway");
    assert!(std::panic::catch_unwind(|| start(&set("cluster_probing_mode", "x"))).is_err());
}

pub(crate) fn split() {
    let params = [set("probing_interval", "0"), set("cluster_id", "1")].concat();
    let mut nodes = start(&params);
    nodes.cut();
    nodes.advance_ms(1_000);
    disable(&mut nodes, 0, "gw1");
    disable(&mut nodes, 1, "gw2");
    disable(&mut nodes, 1, "gw1");
    nodes.mi(1, "drouting:gw_status", json!({"gw_id": "gw1", "status": 1}));
    assert_ne!(state(&mut nodes, 0, "gw1"), state(&mut nodes, 1, "gw1"));
    nodes.heal();
    nodes.advance_ms(60_000);
    for at in [0, 1] {
        assert_eq!(state(&mut nodes, at, "gw1"), "Active", "the later change wins");
        assert_eq!(state(&mut nodes, at, "gw2"), "Disabled MI");
    }
}
