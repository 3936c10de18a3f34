//! Two nodes.

use serde_json::{Value as Json, json};
use tandem_engine::testing::Nodes;

use crate::world::{MODULES, fill, set, states};

/// Node `id` of a cluster of two; the first begins as holder of the tag `vip`.
fn script(id: usize, params: &str) -> String {
    let (other, seed) = (3 - id, if id == 1 { ", flags=seed" } else { "" });
    let state = if id == 1 { "active" } else { "backup" };
    format!(
        "socket=udp:127.0.0.{id}:5060\nsocket=bin:127.0.1.{id}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\nloadmodule \"db_sqlite.so\"\n\
         loadmodule \"clusterer.so\"\nloadmodule \"tm.so\"\nloadmodule \"dispatcher.so\"\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \
         \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"vip/1={state}\")\n\
         modparam(\"dispatcher\", \"db_url\", \"sqlite:///tmp/x.db\")\n\
         {}{params}\
         route {{ exit; }}\n\
         event_route[E_DISPATCHER_STATUS] {{ \
         xlog(\"# $param(address) $param(status)\"); }}",
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

fn state(nodes: &mut Nodes, at: usize, which: usize) -> String {
    states(&nodes.mi(at, "dispatcher:list", Json::Null))[which].clone()
}

fn change(nodes: &mut Nodes, at: usize, to: &str, uri: &str) {
    nodes.mi(at, "dispatcher:set_state", json!([to, "1", uri]));
    nodes.advance_ms(100);
}

pub(crate) fn replicated() {
    let mut nodes = start(&set("cluster_id", "1"));
    change(&mut nodes, 0, "i", "sip:127.0.2.2");
    assert_eq!(state(&mut nodes, 1, 1), "Inactive");
    assert!(nodes.said(1).iter().any(|text| text == "# sip:127.0.2.2 inactive"));
    change(&mut nodes, 1, "a", "sip:127.0.2.2");
    change(&mut nodes, 1, "p", "sip:127.0.2.3");
    assert_eq!(
        (state(&mut nodes, 0, 1), state(&mut nodes, 0, 2)),
        ("Active".into(), "Probing".into())
    );
    // A node that comes back is told.
    nodes.kill(1);
    change(&mut nodes, 0, "i", "sip:127.0.2.1:5080");
    nodes.boot(1);
    nodes.advance_ms(10_000);
    assert_eq!(state(&mut nodes, 1, 0), "Inactive");
    // Two changes in a split: the later one wins on both.
    nodes.cut();
    nodes.advance_ms(1_000);
    change(&mut nodes, 0, "i", "sip:127.0.2.2");
    change(&mut nodes, 1, "p", "sip:127.0.2.2");
    nodes.heal();
    nodes.advance_ms(60_000);
    assert_eq!(
        (state(&mut nodes, 0, 1), state(&mut nodes, 1, 1)),
        ("Probing".into(), "Probing".into())
    );
    let mut alone = start("");
    change(&mut alone, 0, "i", "sip:127.0.2.2");
    assert_eq!(state(&mut alone, 1, 1), "Active");
}

pub(crate) fn holder_tells() {
    let mut nodes = start(&[set("cluster_id", "1"), set("cluster_sharing_tag", "vip")].concat());
    change(&mut nodes, 0, "i", "sip:127.0.2.2");
    assert_eq!(state(&mut nodes, 1, 1), "Inactive");
    change(&mut nodes, 1, "i", "sip:127.0.2.3");
    assert_eq!(state(&mut nodes, 0, 2), "Active", "the backup does not tell");
    // What differs is found, and repaired.
    nodes.advance_ms(30_000);
    assert_eq!(state(&mut nodes, 0, 2), state(&mut nodes, 1, 2));
}

/// How many probes each node has sent within an interval.
fn probers(params: &str) -> [usize; 2] {
    let all = [set("ds_ping_interval", "5"), set("ds_probing_mode", "1"), params.to_owned()];
    let mut nodes = start(&all.concat());
    nodes.datagrams.clear();
    nodes.advance_ms(6_000);
    let probes = nodes.datagrams.iter().filter(|(.., text)| text.starts_with("OPTIONS"));
    let who: Vec<usize> = probes.map(|(at, ..)| *at).collect();
    [0, 1].map(|at| who.iter().filter(|n| **n == at).count())
}

pub(crate) fn who_probes() {
    let shared = [set("cluster_id", "1"), set("cluster_sharing_tag", "vip")].concat();
    let [one, two] = probers(&shared);
    assert!(one > 0 && two > 0, "all is the default");
    let mode = |name: &str| format!("{shared}{}", set("cluster_probing_mode", name));
    let [one, two] = probers(&mode("by-shtag"));
    assert!(one > 0 && two == 0);
    let [shared_one, shared_two] = probers(&mode("distributed"));
    assert!(shared_one + shared_two > 0 && shared_one.max(shared_two) <= one);
    assert!(std::panic::catch_unwind(|| start(&set("cluster_probing_mode", "x"))).is_err());
}
