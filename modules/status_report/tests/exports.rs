//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::testing::{Check, TestNode, cover};

static MODULES: Modules = &[&CORE, &tandem_proto_udp::MODULE, &tandem_status_report::MODULE];
const REQUEST: &str = "OPTIONS sip:b@example.org SIP/2.0\n\
    Via: SIP/2.0/UDP 127.0.0.9:5999;branch=z9hG4bKx\nFrom: <sip:al@a.org>;tag=f\n\
    To: <sip:bo@b.org>\nCall-ID: c1\nCSeq: 7 OPTIONS\nContent-Length: 0\n\n";

/// A node that has seen one request.
fn node(group: &str, route: &str) -> Result<TestNode, String> {
    let script = format!(
        "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"status_report.so\"\n\
         modparam(\"status_report\", \"script_sr_group\", \"{group}\")\nroute {{ {route} }}"
    );
    let mut node = TestNode::try_new(&script, MODULES)?;
    node.udp("127.0.0.9:5062", REQUEST);
    Ok(node)
}

const CHECKS: &[Check] = &[
    ("param script_sr_group", || {
        let mut declared = node("mine", "exit;").unwrap();
        let names = declared.mi("sr_list_identifiers", json!(["mine"]));
        assert_eq!(names["result"], json!({"Group": "mine", "Identifiers": ["main"]}));
        let error = node("core", "exit;").err().unwrap();
        assert!(error.contains("name of its own"), "{error}");
    }),
    ("function sr_set_status", || {
        let route = "sr_set_status(\"mine\", -3, \"loading\"); \
             if (!sr_check_status(\"mine\")) xlog(\"L_NOTICE\", \"not ready\"); \
             if (!sr_set_status(\"other\", 1)) xlog(\"L_NOTICE\", \"refused\");";
        let mut node = node("mine", route).unwrap();
        let lines: Vec<String> = node.logs().into_iter().map(|l| l.1).collect();
        assert_eq!(lines[0], "not ready");
        assert!(lines[1].contains("`other` is no script_sr_group"));
        assert_eq!(lines[2], "refused");
        let status = node.mi("sr_get_status", json!(["mine"]))["result"].clone();
        assert_eq!(status, json!({"Readiness": false, "Status": -3, "Details": "loading"}));
    }),
    ("function sr_add_report", || {
        let mut node = node("mine", "sr_add_report(\"mine\", \"$rm came\");").unwrap();
        let all = node.mi("sr_list_reports", Json::Null)["result"].clone();
        let of_mine = all.as_array().unwrap().iter().find(|g| g["Name"] == "mine").unwrap();
        assert_eq!(of_mine["Identifiers"][0]["Reports"][0]["Log"], "OPTIONS came");
    }),
];

#[test]
fn every_entry_has_a_check() {
    cover(&tandem_status_report::MODULE, CHECKS);
}
