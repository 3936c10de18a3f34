//! Probing.

use serde_json::{Value as Json, json};
use tandem_engine::testing::TestNode;

use crate::world::{URL, node, set};

const ROUTE: &str = "route { exit; }";

/// The probes of so many seconds.
fn probes(node: &mut TestNode, seconds: u64) -> Vec<(String, String)> {
    node.advance_ms(seconds * 1_000);
    let sent = node.sent().into_iter();
    sent.map(|(to, text)| (to.to_string(), text))
        .filter(|(_, text)| text.contains("CSeq: 10 "))
        .collect()
}

/// Different requests among datagrams, some of which are repeated.
fn calls(probes: &[(String, String)]) -> usize {
    let ids = probes.iter().filter_map(|(_, text)| text.split("Call-ID: ").nth(1)?.lines().next());
    ids.collect::<std::collections::BTreeSet<_>>().len()
}

fn state(node: &mut TestNode, id: &str) -> String {
    let status = node.mi("drouting:gw_status", json!({"gw_id": id}));
    status["result"]["State"].as_str().unwrap_or_default().to_owned()
}

/// Answers a probe as its gateway would.
fn answer(node: &mut TestNode, probe: &(String, String), code: u16) {
    let keep = |line: &&str| {
        ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name))
    };
    let lines: Vec<&str> = probe.1.lines().filter(keep).collect();
    let text = format!("SIP/2.0 {code} X\n{}\nContent-Length: 0\n\n", lines.join("\n"));
    node.udp(&probe.0, &text);
}

pub(crate) fn probing() {
    let mut node = node(&format!("{URL}{}", set("probing_interval", "10")), ROUTE).unwrap();
    let sent = probes(&mut node, 10);
    assert_eq!(calls(&sent), 1, "gw1 is the only one that is probed while it is up");
    assert_eq!(sent[0].0, "127.0.1.21:5060");
    answer(&mut node, &sent[0], 200);
    assert_eq!(state(&mut node, "gw1"), "Active");
    let more = probes(&mut node, 10);
    assert_eq!(calls(&more), 1);
    answer(&mut node, more.last().unwrap(), 503);
    assert_eq!(state(&mut node, "gw1"), "Inactive");
    let back = probes(&mut node, 10);
    answer(&mut node, back.last().unwrap(), 200);
    assert_eq!(state(&mut node, "gw1"), "Active");
    // Nobody answers: 408 of this node.
    probes(&mut node, 50);
    assert_eq!(state(&mut node, "gw1"), "Inactive");
    // Held by the operator: not probed at all.
    node.mi("drouting:gw_status", json!({"gw_id": "gw1", "status": 0}));
    probes(&mut node, 40);
    assert_eq!(calls(&probes(&mut node, 20)), 0);
    node.mi("drouting:gw_status", json!({"gw_id": "gw1", "status": 1}));
    assert_eq!(calls(&probes(&mut node, 20)), 2);
    assert_eq!(node.mi("drouting:enable_probing", Json::Null)["result"]["Status"], 1);
    assert_eq!(node.mi("dr_enable_probing", json!([0]))["result"], "OK");
    assert_eq!(node.mi("drouting:enable_probing", Json::Null)["result"]["Status"], 0);
    probes(&mut node, 40);
    assert_eq!(calls(&probes(&mut node, 20)), 0);
    let mut off = self::node(&format!("{URL}{}", set("probing_interval", "0")), ROUTE).unwrap();
    assert_eq!(calls(&probes(&mut off, 40)), 0);
    let refused = off.mi("drouting:enable_probing", Json::Null);
    assert_eq!(refused["error"]["message"], "Gateways probing disabled from script");
}

pub(crate) fn requests() {
    let first =
        |params: &str| probes(&mut node(&format!("{URL}{params}"), ROUTE).unwrap(), 30).remove(0).1;
    let plain = first("");
    assert!(plain.starts_with("OPTIONS sip:127.0.1.21:5060 SIP/2.0\r\n"), "{plain}");
    assert!(plain.contains("From: <sip:prober@localhost>;tag="), "{plain}");
    assert!(plain.contains("127.0.0.1:5060"), "{plain}");
    let own = [
        set("probing_method", "INFO"),
        set("probing_from", "sip:me@here.test"),
        set("probing_socket", "udp:127.0.0.1:5070"),
    ];
    let own = first(&own.concat());
    assert!(own.starts_with("INFO sip:") && own.contains("From: <sip:me@here.test>"), "{own}");
    assert!(own.contains("127.0.0.1:5070"), "{own}");
    let wrong = format!("{URL}{}", set("probing_socket", "udp:10.9.9.9:1"));
    assert!(node(&wrong, ROUTE).is_err());
}

pub(crate) fn codes() {
    let after = |params: &str| {
        let mut node = node(&format!("{URL}{params}"), ROUTE).unwrap();
        let sent = probes(&mut node, 30);
        answer(&mut node, sent.last().unwrap(), 404);
        state(&mut node, "gw1")
    };
    assert_eq!(after(""), "Inactive");
    assert_eq!(after(&set("probing_reply_codes", "501, 404")), "Active");
    assert!(node(&format!("{URL}{}", set("probing_reply_codes", "x")), ROUTE).is_err());
}
