//! Statistics of the core.

use serde_json::json;
use tandem_engine::testing::{Check, TestNode};

use super::{PHONE, REQUEST, ask, node};

pub(super) fn count(node: &mut TestNode, name: &str) -> u64 {
    let full = format!("core:{name}");
    ask(node, "get_statistics", json!([[full]]))[&full].as_u64().unwrap()
}

pub(super) const CHECKS: &[Check] = &[
    ("statistic rcv_requests", counters),
    ("statistic rcv_replies", counters),
    ("statistic fwd_requests", counters),
    ("statistic fwd_replies", counters),
    ("statistic drop_requests", counters),
    ("statistic drop_replies", counters),
    ("statistic err_requests", counters),
    ("statistic err_replies", counters),
    ("statistic bad_URIs_rcvd", counters),
    ("statistic bad_msg_hdr", counters),
    ("statistic cut_runs", || {
        let mut node = node("max_while_loops = 1000000000", "while (1) { $var(n) = 1; }");
        node.udp(PHONE, REQUEST);
        let told = node.logs();
        let place = |l: &str| l.contains("test.cfg:") && l.contains("too many steps");
        assert!(told.iter().any(|(_, l)| place(l)), "{told:?}");
        assert_eq!(count(&mut node, "cut_runs"), 1);
    }),
    ("statistic slow_messages", super::watch::slow_messages_are_told),
    ("statistic failed_steps", super::watch::a_call_with_a_bug_is_left_alone),
    ("statistic quarantined_messages", super::watch::a_call_with_a_bug_is_left_alone),
    ("statistic net:waiting_udp", || {
        let mut node = node("", "exit;");
        node.node().load.set_waiting_udp(77);
        let all = ask(&mut node, "get_statistics", json!([["net:waiting_udp"]]));
        assert_eq!(all["net:waiting_udp"], 77);
    }),
    ("statistic net:waiting_tcp", || {
        let mut node = node("", "exit;");
        node.node().load.set_waiting_tcp(78);
        let all = ask(&mut node, "get_statistics", json!([["net:"]]));
        assert_eq!((&all["net:waiting_tcp"], &all["net:waiting_tls"]), (&json!(78), &json!(0)));
    }),
    ("statistic net:waiting_tls", || nothing("net:waiting_tls")),
    ("statistic shmem:fragments", || nothing("shmem:fragments")),
    ("statistic rpmem:rpm_total_size", || nothing("rpmem:rpm_total_size")),
    ("statistic rpmem:rpm_used_size", || nothing("rpmem:rpm_used_size")),
    ("statistic rpmem:rpm_real_used_size", || nothing("rpmem:rpm_real_used_size")),
    ("statistic rpmem:rpm_max_used_size", || nothing("rpmem:rpm_max_used_size")),
    ("statistic rpmem:rpm_free_size", || nothing("rpmem:rpm_free_size")),
    ("statistic rpmem:rpm_fragments", || nothing("rpmem:rpm_fragments")),
    ("statistic timestamp", || {
        let mut node = node("", "exit;");
        node.advance_ms(7_000);
        assert_eq!(count(&mut node, "timestamp"), 7);
    }),
    ("statistic shmem:total_size", memory),
    ("statistic shmem:max_used_size", memory),
    ("statistic shmem:free_size", memory),
    ("statistic shmem:used_size", memory),
    ("statistic shmem:real_used_size", memory),
    ("statistic load:load", load),
    ("statistic load:load1m", load),
    ("statistic load:load10m", load),
    ("statistic load:load-all", load),
    ("statistic load:load1m-all", load),
    ("statistic load:load10m-all", load),
    ("statistic load:processes_number", load),
];

/// What a node has none of is there as 0, for those who ask for all that they know.
fn nothing(name: &str) {
    let mut node = node("", "exit;");
    node.node().memory.set_used(70);
    let all = ask(&mut node, "get_statistics", json!([[name]]));
    assert_eq!(all, json!({ name: 0 }));
}

fn memory() {
    let mut node = node("", "exit;");
    node.node().memory.set_total(100);
    node.node().memory.set_used(70);
    node.node().memory.set_used(60);
    let all = ask(&mut node, "get_statistics", json!([["shmem:"]]));
    let expected = json!({
        "shmem:total_size": 100,
        "shmem:max_used_size": 70,
        "shmem:free_size": 40,
        "shmem:used_size": 60,
        "shmem:real_used_size": 60,
        "shmem:fragments": 0,
    });
    assert_eq!(all, expected);
}

fn load() {
    let mut node = node("", "exit;");
    node.advance_ms(10_000);
    let now = node.now().mono_ns;
    node.node().load.busy(0, now, 500_000_000);
    node.advance_ms(1_000);
    let all = ask(&mut node, "get_statistics", json!([["load:"]]));
    // A test node has worker 0 alone, which takes no datagrams in a server.
    let sip = ["load:load", "load:load1m", "load:load10m"].map(|n| all[n].as_u64());
    assert_eq!(sip, [Some(0); 3]);
    let whole = ["load:load-all", "load:load1m-all", "load:load10m-all", "load:load-proc-0"];
    assert_eq!(whole.map(|n| all[n].as_u64()), [Some(50), Some(4), Some(4), Some(50)]);
    assert_eq!(all["load:processes_number"], 1);
}

pub(super) fn counters() {
    let route = "if ($fU == \"drop\") drop; $du = \"sip:127.0.0.8\"; forward(); }
        onreply_route { if ($rs == \"180\") drop;";
    let mut node = node("disable_stateless_fwd=no", route);
    let reply = |vias: &str| {
        format!(
            "SIP/2.0 200 OK\n{vias}From: <sip:a@a>;tag=f\nTo: <sip:b@b>;tag=t\nCall-ID: c\n\
             CSeq: 1 INVITE\nContent-Length: 0\n\n"
        )
    };
    let ours = "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKo\n";
    let below = "Via: SIP/2.0/UDP 127.0.0.8:5068;branch=z9hG4bKp\n";
    node.udp(PHONE, REQUEST);
    node.udp(PHONE, &REQUEST.replace("sip:al@", "sip:drop@"));
    node.sent();
    node.udp(PHONE, &reply(&format!("{ours}{below}")));
    let sent = node.sent();
    assert_eq!(sent[0].0.to_string(), "127.0.0.8:5068", "forwarded by its second Via");
    assert!(!sent[0].1.contains("z9hG4bKo"), "without our Via");
    node.udp(PHONE, &reply(below));
    node.udp(PHONE, &reply(&format!("{ours}{below}")).replace("200 OK", "180 Ringing"));
    node.udp(PHONE, &REQUEST.replace("sip:bob@example.org:5070", "sip:bob@example.org:x"));
    node.udp(PHONE, "this is no SIP message at all, whatever it is");
    for (name, expected) in [
        ("rcv_requests", 3),
        ("rcv_replies", 3),
        ("fwd_requests", 1),
        ("fwd_replies", 1),
        ("drop_requests", 1),
        ("drop_replies", 1),
        ("err_requests", 2),
        ("err_replies", 1),
        ("bad_URIs_rcvd", 1),
        ("bad_msg_hdr", 1),
    ] {
        assert_eq!(count(&mut node, name), expected, "{name}");
    }
}
