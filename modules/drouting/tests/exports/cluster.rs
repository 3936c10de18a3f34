//! Two nodes.

use serde_json::json;
use tandem_engine::testing::Nodes;
use tandem_targets::testing::Case;

use crate::world::{MODULES, fill, gateway};

const CASE: Case = Case {
    module: "drouting",
    modules: MODULES,
    loads: &[],
    fill,
    params: "modparam(\"drouting\", \"persistent_state\", 0)\n\
             modparam(\"drouting\", \"probing_interval\", 0)\n",
    interval: "probing_interval",
    event_route: "event_route[E_DROUTING_STATUS] { \
                  xlog(\"# $param(gwid) $param(status) $param(reason)\"); }",
    targets: ["gw1", "gw2", "gw4"],
    put,
    state,
    words: ["Active", "Disabled MI"],
};

fn put(nodes: &mut Nodes, at: usize, id: &str, up: bool) {
    nodes.mi(at, "drouting:gw_status", json!({"gw_id": id, "status": u8::from(up)}));
}

fn state(nodes: &mut Nodes, at: usize, id: &str) -> String {
    let status = nodes.mi(at, "drouting:gw_status", json!({"gw_id": id}));
    status["result"]["State"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn replicated() {
    CASE.replicated();
    let mut nodes = CASE.start(&CASE.set("cluster_id", "1"));
    put(&mut nodes, 0, "gw2", false);
    nodes.advance_ms(100);
    assert!(nodes.said(1).iter().any(|text| text == "# gw2 disabled MI replicated"));
    nodes.mi(1, "drouting:carrier_status", json!({"carrier_id": "c1", "status": 0}));
    nodes.advance_ms(100);
    let carrier = nodes.mi(0, "drouting:carrier_status", json!({"carrier_id": "c1"}));
    assert_eq!(carrier["result"]["Enabled"], "no");
}

pub(crate) fn holder_tells() {
    CASE.holder_tells();
}

pub(crate) fn who_probes() {
    CASE.who_probes(true);
}

pub(crate) fn split() {
    CASE.split();
}

pub(crate) fn operator() {
    CASE.operator_wins(0);
}

/// A peer that has read the tables before tells the state of a new gateway once.
pub(crate) fn told_before_the_reload() {
    let mut nodes = CASE.start(&CASE.set("cluster_id", "1"));
    gateway(&mut nodes.db, "gw9", 1, "127.0.1.29", &[]);
    nodes.mi(0, "drouting:reload", json!({}));
    nodes.advance_ms(100);
    put(&mut nodes, 0, "gw9", false);
    nodes.advance_ms(100);
    nodes.mi(1, "drouting:reload", json!({}));
    nodes.advance_ms(100);
    assert_eq!(state(&mut nodes, 1, "gw9"), "Disabled MI");
}
