//! Two nodes.

use serde_json::{Value as Json, json};
use tandem_engine::testing::Nodes;
use tandem_targets::testing::Case;

use crate::world::{MODULES, URIS, fill};

pub(crate) const CASE: Case = Case {
    module: "load_balancer",
    modules: MODULES,
    loads: &["rr", "sipmsgops", "dialog"],
    fill,
    params: "modparam(\"load_balancer\", \"probing_interval\", 0)\n",
    interval: "probing_interval",
    event_route: "event_route[E_LOAD_BALANCER_STATUS] { \
                  xlog(\"# $param(uri) $param(status)\"); }",
    targets: [URIS[0], URIS[1], URIS[2]],
    put,
    state,
    words: ["yes", "no"],
};

fn put(nodes: &mut Nodes, at: usize, uri: &str, up: bool) {
    let id = URIS.iter().position(|known| *known == uri).unwrap() + 1;
    nodes.mi(at, "load_balancer:status", json!([id, u8::from(up)]));
}

fn state(nodes: &mut Nodes, at: usize, uri: &str) -> String {
    let list = nodes.mi(at, "load_balancer:list", Json::Null)["result"]["Destinations"].clone();
    let row = list.as_array().unwrap().iter().find(|row| row["uri"] == json!(uri)).unwrap();
    row["enabled"].as_str().unwrap().to_owned()
}

pub(crate) fn replicated() {
    CASE.replicated();
}

pub(crate) fn holder_tells() {
    CASE.holder_tells();
}

pub(crate) fn who_probes() {
    CASE.who_probes(false);
}

pub(crate) fn split() {
    CASE.split();
}

pub(crate) fn operator() {
    CASE.operator_wins(2);
}
