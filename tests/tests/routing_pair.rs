//! Two nodes and their gateways: what one knows the other knows, and one of them probes.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tandem_bin::{Packet, Trailer, drouting as wire};
use tandem_tests::routes::{Router, at, gateway, rule};
use tandem_tests::{PATIENCE, Phone, Process, Site, now, stream, wait_until};

const PROBING_S: u64 = 2;

fn router(site: &Site, id: u8) -> Router {
    let other = 3 - id;
    let (own, theirs) = (site.net.ip(id), site.net.ip(other));
    let (state, seed) = if id == 1 { ("active", ", flags=seed") } else { ("backup", "") };
    let mut router = Router::new(site, id);
    router.more = format!(
        "socket=bin:{own}:5566\nloadmodule \"proto_bin.so\"\nloadmodule \"clusterer.so\"\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:{own}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:{theirs}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"vip/1={state}\")\n\
         modparam(\"clusterer\", \"ping_interval\", 1)\n\
         modparam(\"clusterer\", \"ping_timeout\", 500)\n\
         modparam(\"drouting\", \"cluster_id\", 1)\n\
         modparam(\"drouting\", \"cluster_sharing_tag\", \"vip\")\n\
         modparam(\"drouting\", \"cluster_probing_mode\", \"by-shtag\")\n\
         modparam(\"drouting\", \"probing_interval\", {PROBING_S})\n"
    );
    router
}

struct Pair {
    site: Site,
    routers: [Router; 2],
    nodes: [Option<Process>; 2],
}

fn start(test: &str) -> Pair {
    let site = Site::bare(test);
    let rows = vec![
        gateway("flaps", &at(site.net.ip(21)), 2),
        gateway("dies", &at(site.net.ip(22)), 2),
        gateway("steady", &at(site.net.ip(23)), 2),
        rule("40", "flaps,dies,steady"),
    ];
    let site = site.filled(rows);
    let routers = [router(&site, 1), router(&site, 2)];
    let nodes = routers.each_ref().map(|router| Some(router.start(&site)));
    let pair = Pair { site, routers, nodes };
    for at in [0, 1] {
        wait_until("the nodes to be in step", PATIENCE, || {
            let caps = pair.routers[at].mi(&pair.site, "clusterer_list_cap", Json::Null);
            let caps = caps["result"]["Clusters"][0]["Capabilities"].to_string();
            caps.contains("\"Ok\"") && caps.contains("drouting-status-repl")
        });
    }
    pair
}

impl Pair {
    fn wait_for(&self, at: usize, gateway: &str, state: &str, within: Duration) {
        let what = format!("{gateway} to be {state} on node {}", at + 1);
        wait_until(&what, within, || self.routers[at].state(&self.site, gateway) == state);
    }

    fn sip(&self, at: usize) -> SocketAddr {
        self.routers[at].sip(&self.site)
    }

    fn phone(&self, last: u8) -> Phone {
        Phone::new("gw", (self.site.net.ip(last), 5060))
    }

    /// The probes that a gateway has got from a node.
    fn probes(&self, phone: &Phone, at: usize) -> usize {
        let from = IpAddr::from(self.site.net.ip(at as u8 + 1)).to_string();
        let probes = phone.messages().into_iter().filter(|m| m.method() == Some("OPTIONS"));
        probes.filter(|m| m.want("Via").contains(&from)).count()
    }
}

#[test]
fn the_backup_knows_which_gateways_are_dead_from_its_first_call() {
    let mut pair = start("routing-pair");
    let steady = pair.phone(23);
    let (flaps, dies) = (pair.phone(21), pair.phone(22));
    let alice = Phone::new("alice", (pair.site.net.ip(10), 5060));
    for gateway in ["flaps", "dies", "steady"] {
        pair.wait_for(0, gateway, "Active", PATIENCE);
        pair.wait_for(1, gateway, "Active", PATIENCE);
    }
    let call = alice.call(pair.sip(0), "40123");
    assert_eq!(flaps.requests("INVITE", &call.call_id).len(), 1);

    // Both die; the active finds out by its probes and tells the backup.
    drop((flaps, dies));
    for gateway in ["flaps", "dies"] {
        pair.wait_for(0, gateway, "Inactive", PATIENCE);
        pair.wait_for(1, gateway, "Inactive", PATIENCE);
    }
    assert!(pair.probes(&steady, 0) > 0, "the holder of the tag probes");
    assert_eq!(pair.probes(&steady, 1), 0, "and nobody else");

    pair.nodes[0].take().unwrap().kill();
    let begun = now();
    let call = alice.call(pair.sip(1), "40124");
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!(steady.requests("INVITE", &call.call_id).len(), 1);

    // It takes the tag, as keepalived would have it, and soon knows what has changed meanwhile.
    let taken = pair.routers[1].mi(&pair.site, "clusterer_shtag_set_active", json!(["vip/1"]));
    assert!(taken["result"].is_string(), "{taken}");
    let flaps = pair.phone(21);
    let one_interval = Duration::from_secs(2 * PROBING_S + 2);
    pair.wait_for(1, "flaps", "Active", one_interval);
    let probed = pair.probes(&flaps, 1);
    assert!((1..=3).contains(&probed), "no storm: {probed}");
    assert_eq!(pair.routers[1].state(&pair.site, "dies"), "Inactive");
    let call = alice.call(pair.sip(1), "40125");
    assert_eq!(flaps.requests("INVITE", &call.call_id).len(), 1);

    // The dead node comes back, as backup, and learns the states of today.
    drop(flaps);
    pair.wait_for(1, "flaps", "Inactive", PATIENCE);
    pair.nodes[0] = Some(pair.routers[0].start(&pair.site));
    pair.wait_for(0, "flaps", "Inactive", PATIENCE);
    pair.wait_for(0, "steady", "Active", PATIENCE);
}

#[test]
fn a_state_that_was_set_by_hand_is_everywhere_at_once() {
    let pair = start("routing-hand");
    let _steady = pair.phone(23);
    let (_flaps, _dies) = (pair.phone(21), pair.phone(22));
    let set = |at: usize, status: u8| {
        let args = json!({"gw_id": "steady", "status": status});
        let answer = pair.routers[at].mi(&pair.site, "drouting:gw_status", args);
        assert_eq!(answer["result"], "OK", "{answer}");
    };
    set(0, 0);
    pair.wait_for(1, "steady", "Disabled MI", PATIENCE);
    // Probes leave it alone.
    let flaps_up = || pair.routers[1].state(&pair.site, "flaps") == "Active";
    wait_until("probes", PATIENCE, flaps_up);
    assert_eq!(pair.routers[0].state(&pair.site, "steady"), "Disabled MI");
    set(0, 1);
    pair.wait_for(1, "steady", "Active", PATIENCE);
}

/// Tells node 1, from the address of node 2 and in the language of the field, of a state that
/// node 2 does not know.
fn plant(pair: &Pair, kind: u32, id: &'static str, flags: i32) {
    let status = wire::Status { partition: "Default".into(), id: id.into(), flags };
    let packet = Packet {
        capability: wire::CAPABILITY.into(),
        packet_type: kind,
        version: wire::VERSION,
        payload: status.encode().unwrap(),
        trailer: Some(Trailer::new(1, 2, 1)),
    };
    let ip = |node| pair.site.net.ip(node);
    let mut stream = stream(ip(2), (ip(1), 5566).into());
    stream.write_all(&packet.encode().unwrap()).unwrap();
}

#[test]
fn a_planted_difference_is_found_by_the_digests_and_settled() {
    let pair = start("routing-digest");
    let phones = [21, 22, 23].map(|last| pair.phone(last));
    let says = |at: usize, word: &str| {
        let text = pair.routers[at].ctl(&pair.site, &["status"]);
        text.lines().any(|l| l.contains("drouting-status-repl") && l.contains(word))
    };
    for at in [0, 1] {
        pair.wait_for(at, "steady", "Active", PATIENCE);
        let what = format!("node {} has compared", at + 1);
        wait_until(&what, 2 * PATIENCE, || says(at, " equal "));
    }
    // Held, so that no probe mends it.
    plant(&pair, wire::GATEWAY, "steady", wire::GATEWAY_DISABLED | wire::GATEWAY_HELD);
    pair.wait_for(0, "steady", "Disabled MI", PATIENCE);
    assert_eq!(pair.routers[1].state(&pair.site, "steady"), "Active");
    wait_until("the difference is named", 2 * PATIENCE, || {
        pair.routers[0].ctl(&pair.site, &["cluster", "diff"]).contains("steady")
    });
    pair.wait_for(1, "steady", "Disabled MI", 3 * PATIENCE);
    for at in [0, 1] {
        let what = format!("node {} is equal", at + 1);
        wait_until(&what, 2 * PATIENCE, || says(at, " equal "));
        let diff = pair.routers[at].ctl(&pair.site, &["cluster", "diff"]);
        assert_eq!(diff, "nothing differs\n");
    }
    drop(phones);
}
