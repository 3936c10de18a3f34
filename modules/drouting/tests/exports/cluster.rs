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

/// The answers to the first probes after a takeover go to the host of before.
pub(crate) fn first_probes() {
    let params = CASE.set("cluster_id", "1")
        + &CASE.set("cluster_sharing_tag", "vip")
        + &CASE.set("cluster_probing_mode", "by-shtag")
        + &CASE.set("probing_interval", "2")
        + "modparam(\"tm\", \"fr_timeout\", 2)\n";
    let mut nodes = CASE.start(&params);
    nodes.kill(0);
    put(&mut nodes, 1, "gw1", true);
    nodes.mi(1, "clusterer_shtag_set_active", json!(["vip/1"]));
    let mut probed = false;
    for tenth in 0..200 {
        nodes.advance_ms(100);
        for (at, to, text) in std::mem::take(&mut nodes.datagrams) {
            if !text.starts_with("OPTIONS ") {
                continue;
            }
            probed |= tenth < 25 && to.to_string() == "127.0.1.21:5060";
            if tenth >= 50 {
                nodes.udp(at, &to.to_string(), &ok(&text));
            }
        }
        assert_eq!(state(&mut nodes, 1, "gw1"), "Active", "after {tenth} tenths");
    }
    assert!(probed, "gw1 is probed early");
    // One that stays silent is out of service after the probes of the first round.
    let mut nodes = CASE.start(&params);
    nodes.kill(0);
    put(&mut nodes, 1, "gw1", true);
    nodes.mi(1, "clusterer_shtag_set_active", json!(["vip/1"]));
    nodes.advance_ms(16_000);
    assert_eq!(state(&mut nodes, 1, "gw1"), "Inactive");
}

fn ok(request: &str) -> String {
    let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let lines: Vec<&str> =
        request.lines().filter(|line| kept.iter().any(|name| line.starts_with(name))).collect();
    format!("SIP/2.0 200 OK\n{}\nContent-Length: 0\n\n", lines.join("\n"))
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
