//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_signaling::MODULE,
    &tandem_usrloc::MODULE,
    &tandem_registrar::MODULE,
    &tandem_nathelper::MODULE,
    &tandem_tm::MODULE,
    &tandem_proto_bin::MODULE,
    &tandem_clusterer::MODULE,
];
const HEAD: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
    loadmodule \"sl.so\"\nloadmodule \"signaling.so\"\nloadmodule \"tm.so\"\n\
    loadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\nloadmodule \"nathelper.so\"\n\
    modparam(\"usrloc\", \"nat_bflag\", \"NAT\")\n";
const PHONE: &str = "203.0.113.7:4000";

fn node(settings: &str, route: &str) -> TestNode {
    TestNode::new(&format!("{HEAD}{settings}\nroute {{ {route} }}"), MODULES)
}

fn request(method: &str, extra: &str) -> String {
    format!(
        "{method} sip:127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKx\n\
         From: <sip:a@127.0.0.1>;tag=f\nTo: <sip:a@127.0.0.1>\nCall-ID: c\nCSeq: 1 {method}\n\
         Contact: <sip:a@10.0.0.5:5060>\nExpires: 300\n{extra}Content-Length: 0\n\n"
    )
}

/// Pings of four zero bytes sent within some seconds after a registration.
fn pings(settings: &str, route: &str, seconds: u64) -> usize {
    let mut node = node(settings, route);
    node.udp(PHONE, &request("REGISTER", ""));
    node.sent();
    node.advance_ms(seconds * 1000);
    node.sent().iter().filter(|(to, text)| to.to_string() == PHONE && text == "\0\0\0\0").count()
}

const SAVE: &str = "fix_nated_register(); save(\"location\");";
const SAVE_NAT: &str = "fix_nated_register(); setbflag(\"NAT\"); save(\"location\");";
const AVP: &str = "modparam(\"registrar|nathelper\", \"received_avp\", \"$avp(rcv)\")\n";

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_nathelper::MODULE,
        &[
            ("param natping_interval", the_interval_decides_how_often),
            ("param ping_nated_only", only_phones_behind_nat_are_pinged_if_wanted),
            ("param received_avp", the_source_is_stored),
            ("param cluster_id", a_tag_needs_its_cluster),
            ("param cluster_sharing_tag", without_the_tag_nothing_is_pinged),
            ("function nat_uac_test", the_tests_of_nat),
            ("function fix_nated_register", the_source_is_stored),
            ("function fix_nated_contact", contacts_are_rewritten),
            ("function add_rcv_param", received_is_added),
            ("mi nathelper:enable_ping", pinging_is_switched),
        ],
    );
}

fn interval(seconds: u32) -> String {
    format!("{AVP}modparam(\"nathelper\", \"natping_interval\", {seconds})")
}

fn the_interval_decides_how_often() {
    assert_eq!(pings(AVP, SAVE, 30), 0);
    assert_eq!(pings(&interval(5), SAVE, 30), 6);
    assert_eq!(pings(&interval(10), SAVE, 30), 3);
}

fn only_phones_behind_nat_are_pinged_if_wanted() {
    let settings = format!("{}\nmodparam(\"nathelper\", \"ping_nated_only\", 1)", interval(10));
    assert_eq!(pings(&settings, SAVE, 20), 0);
    assert_eq!(pings(&settings, SAVE_NAT, 20), 2);
}

fn the_source_is_stored() {
    let mut node = node(AVP, "fix_nated_register(); xlog(\"L_NOTICE\", \"$avp(rcv)\");");
    node.udp(PHONE, &request("REGISTER", ""));
    assert_eq!(node.logs().pop().unwrap().1, "sip:203.0.113.7:4000");
}

fn a_tag_needs_its_cluster() {
    let script = format!(
        "{HEAD}modparam(\"nathelper\", \"cluster_sharing_tag\", \"service\")\nroute {{ exit; }}"
    );
    let errors = TestNode::try_new(&script, MODULES).err().unwrap();
    assert!(errors.contains("cluster_sharing_tag needs cluster_id"), "{errors}");
}

fn without_the_tag_nothing_is_pinged() {
    for (state, expected) in [("active", 2), ("backup", 0)] {
        let settings = format!(
            "socket=bin:127.0.0.1:5566\nloadmodule \"proto_bin.so\"\n\
             loadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"my_node_id\", 1)\n\
             modparam(\"clusterer\", \"db_mode\", 0)\n\
             modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1,url=bin:127.0.0.1:5566\")\n\
             modparam(\"clusterer\", \"sharing_tag\", \"service/1={state}\")\n{}\n\
             modparam(\"nathelper\", \"cluster_id\", 1)\n\
             modparam(\"nathelper\", \"cluster_sharing_tag\", \"service\")",
            interval(10)
        );
        assert_eq!(pings(&settings, SAVE, 20), expected, "{state}");
    }
}

fn the_tests_of_nat() {
    let body = "Content-Type: application/sdp\n";
    for (test, expected) in [
        ("private-contact", true),
        ("diff-ip-src-via", true),
        ("private-via", true),
        ("diff-port-src-via", true),
        ("diff-ip-src-contact", true),
        ("diff-port-src-contact", true),
        ("private-sdp", false),
        ("private-sdp,carrier-grade-nat", false),
    ] {
        let route = format!(
            "if (nat_uac_test(\"{test}\")) xlog(\"L_NOTICE\", \"yes\"); else xlog(\"L_NOTICE\", \"no\");"
        );
        let mut node = node("", &route);
        node.udp(PHONE, &request("OPTIONS", body));
        assert_eq!(node.logs().pop().unwrap().1 == "yes", expected, "{test}");
        // Straight from where it says it is, on a public address: no test hits.
        let open = request("OPTIONS", "").replace("10.0.0.5:5060", PHONE);
        node.udp(PHONE, &open);
        assert_eq!(node.logs().pop().unwrap().1, "no", "{test}");
    }
}

fn relayed(route: &str) -> String {
    let mut node = node("", &format!("{route} $du = \"sip:127.0.0.8\"; t_relay();"));
    node.udp(PHONE, &request("OPTIONS", ""));
    node.sent().into_iter().find(|(to, _)| to.to_string() == "127.0.0.8:5060").unwrap().1
}

fn contacts_are_rewritten() {
    let text = relayed("fix_nated_contact(\";nat=yes\");");
    assert!(text.contains("Contact: <sip:a@203.0.113.7:4000;nat=yes>\r\n"), "{text}");
}

fn received_is_added() {
    let text = relayed("add_rcv_param(0);");
    assert!(text.contains(">;received=\"sip:203.0.113.7:4000\"\r\n"), "{text}");
    let text = relayed("add_rcv_param(1);");
    assert!(text.contains("<sip:a@10.0.0.5:5060;received=sip:203.0.113.7:4000>"), "{text}");
}

fn pinging_is_switched() {
    let mut node = node(&interval(5), SAVE);
    node.udp(PHONE, &request("REGISTER", ""));
    let status = |node: &mut TestNode, params: Json| node.mi("nathelper:enable_ping", params);
    assert_eq!(status(&mut node, Json::Null)["result"], json!({"Status": 1}));
    assert_eq!(status(&mut node, json!([0]))["result"], "OK");
    node.sent();
    node.advance_ms(20_000);
    assert_eq!(node.sent(), []);
    status(&mut node, json!([1]));
    node.advance_ms(20_000);
    assert_eq!(node.sent().len(), 4);
}
