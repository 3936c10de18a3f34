//! Two nodes.

use serde_json::{Value as Json, json};
use tandem_engine::testing::Nodes;
use tandem_targets::testing::Case;

use crate::world::{MODULES, fill, states};

const CASE: Case = Case {
    module: "dispatcher",
    modules: MODULES,
    loads: &[],
    fill,
    params: "modparam(\"dispatcher\", \"persistent_state\", 0)\n\
             modparam(\"dispatcher\", \"ds_probing_mode\", 1)\n",
    interval: "ds_ping_interval",
    event_route: "event_route[E_DISPATCHER_STATUS] { \
                  xlog(\"# $param(address) $param(status)\"); }",
    targets: TARGETS,
    put,
    state,
    words: ["Active", "Inactive"],
};
const TARGETS: [&str; 3] = ["sip:127.0.2.1:5080", "sip:127.0.2.2", "sip:127.0.2.3"];

fn put(nodes: &mut Nodes, at: usize, uri: &str, up: bool) {
    let wanted = if up { "a" } else { "i" };
    nodes.mi(at, "dispatcher:set_state", json!([wanted, "1", uri]));
}

fn state(nodes: &mut Nodes, at: usize, uri: &str) -> String {
    let which = TARGETS.iter().position(|target| *target == uri).unwrap();
    states(&nodes.mi(at, "dispatcher:list", Json::Null))[which].clone()
}

pub(crate) fn replicated() {
    CASE.replicated();
    let mut nodes = CASE.start(&CASE.set("cluster_id", "1"));
    nodes.mi(1, "dispatcher:set_state", json!(["p", "1", TARGETS[2]]));
    nodes.advance_ms(100);
    assert_eq!(state(&mut nodes, 0, TARGETS[2]), "Probing");
    // Two changes in a split: the later one wins on both.
    nodes.cut();
    nodes.advance_ms(1_000);
    put(&mut nodes, 0, TARGETS[1], false);
    nodes.mi(1, "dispatcher:set_state", json!(["p", "1", TARGETS[1]]));
    nodes.heal();
    nodes.advance_ms(60_000);
    for at in [0, 1] {
        assert_eq!(state(&mut nodes, at, TARGETS[1]), "Probing");
    }
}

pub(crate) fn split() {
    CASE.split();
}

pub(crate) fn holder_tells() {
    CASE.holder_tells();
}

pub(crate) fn who_probes() {
    CASE.who_probes(true);
}

pub(crate) fn operator() {
    CASE.operator_wins(0);
}
