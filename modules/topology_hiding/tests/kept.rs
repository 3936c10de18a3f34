//! Calls whose hidden sides a dialog keeps.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::json;
use tandem_engine::catalogue::Modules;
use tandem_engine::testing::TestNode;

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_dialog::MODULE,
    &tandem_topology_hiding::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nlog_level=2\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"dialog.so\"\n\
     loadmodule \"topology_hiding.so\"\n";
const CALLER: &str = "127.0.0.9:5060";
const CALLEE: &str = "127.0.0.2:5060";
const INVITE: &str = "INVITE sip:bob@127.0.0.2 SIP/2.0\n\
    Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKa\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKz\n\
    Record-Route: <sip:127.0.0.9;lr>\nRecord-Route: <sip:10.8.8.8;lr>\n\
    From: <sip:alice@a.test>;tag=f\nTo: <sip:bob@b.test>\nCall-ID: call\nCSeq: 7 INVITE\n\
    Contact: <sip:alice@10.9.9.9:5099>\nContent-Length: 0\n\n";
const FROM: &str = "<sip:alice@a.test>;tag=f";
const TO: &str = "<sip:bob@b.test>;tag=t";

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&*prefix)).unwrap_or("")
}

fn contact_uri(text: &str) -> &str {
    header(text, "Contact").split(['<', '>']).nth(1).unwrap_or("")
}

fn reply_to(request: &str, code: u16, extra: &str) -> String {
    let mut out = format!("SIP/2.0 {code} x\n");
    for line in request.lines().skip(1).take_while(|line| !line.is_empty()) {
        match line.split(':').next().unwrap() {
            "Via" | "From" | "Call-ID" | "CSeq" => out.push_str(&format!("{line}\n")),
            "To" if line.contains("tag=") => out.push_str(&format!("{line}\n")),
            "To" => out.push_str(&format!("{line};tag=t\n")),
            _ => {}
        }
    }
    format!("{out}{extra}Content-Length: 0\n\n")
}

fn sent_to(node: &mut TestNode, to: &str) -> String {
    let sent = node.sent().into_iter().filter(|(at, _)| at.to_string() == to);
    sent.map(|(_, text)| text).rfind(|text| !text.starts_with("SIP/2.0 100")).unwrap_or_default()
}

fn node(params: &str, initial: &str) -> TestNode {
    TestNode::new(
        &format!(
            "{MODULE_LINES}{params}route {{ if ($tt != NULL) {{ \
             if (!topology_hiding_match()) {{ sl_send_reply(481, \"No\"); exit; }} \
             xlog(\"L_NOTICE\", \"$rm $DLG_status $DLG_dir\"); t_relay(); exit; }} \
             {initial} t_relay(); }}"
        ),
        MODULES,
    )
}

/// INVITE at the callee and 200 at the caller.
fn talk(node: &mut TestNode) -> (String, String) {
    node.udp(CALLER, INVITE);
    let invite = sent_to(node, CALLEE);
    let extra = "Record-Route: <sip:10.7.7.7;lr>\nRecord-Route: <sip:127.0.0.2;lr>\n\
        Contact: <sip:bob@10.6.6.6>\n";
    node.udp(CALLEE, &reply_to(&invite, 200, extra));
    let ok = sent_to(node, CALLER);
    (invite, ok)
}

fn request(method: &str, uri: &str, (from, to): (&str, &str), call_id: &str, n: u32) -> String {
    format!(
        "{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK{method}{n}\n\
         From: {from}\nTo: {to}\nCall-ID: {call_id}\nCSeq: {n} {method}\n\
         Contact: <sip:alice@10.9.9.9:5099>\nContent-Length: 0\n\n"
    )
}

fn hidden_call(params: &str, initial: &str) {
    let mut node = node(params, initial);
    let (invite, ok) = talk(&mut node);
    let id = node.mi("dialog:list", json!(null))["result"]["Dialogs"][0]["ID"].clone();
    let id = id.as_str().unwrap();
    assert_eq!(contact_uri(&invite), format!("sip:127.0.0.1:5060;did={id}"));
    assert_eq!(contact_uri(&ok), format!("sip:127.0.0.1:5060;did={id}"));
    assert!(!invite.contains("10.9.9.9") && !invite.contains("Record-Route"), "{invite}");
    assert!(!ok.contains("10.7.7.7") && !ok.contains("10.6.6.6"), "{ok}");
    let call_id = header(&invite, "Call-ID").to_owned();
    node.udp(CALLER, &request("ACK", contact_uri(&ok), (FROM, TO), "call", 7));
    let ack = sent_to(&mut node, CALLEE);
    assert!(ack.starts_with("ACK sip:bob@10.6.6.6 "), "{ack}");
    assert_eq!(header(&ack, "Call-ID"), call_id);
    node.udp(CALLER, &request("INFO", contact_uri(&ok), (FROM, TO), "call", 8));
    let info = sent_to(&mut node, CALLEE);
    assert_eq!(header(&info, "Route"), "<sip:127.0.0.2;lr>,<sip:10.7.7.7;lr>");
    assert_eq!(contact_uri(&info), contact_uri(&invite), "hidden again");
    node.udp(CALLEE, &request("INFO", contact_uri(&invite), (TO, FROM), &call_id, 1));
    let info = sent_to(&mut node, CALLER);
    assert!(info.starts_with("INFO sip:alice@10.9.9.9:5099 "), "{info}");
    assert_eq!(header(&info, "Route"), "<sip:127.0.0.9;lr>,<sip:10.8.8.8;lr>");
    assert_eq!(header(&info, "Call-ID"), "call");
    // The node's own BYEs look to each side like the other's.
    node.mi("dialog:end_dlg", json!(["call"]));
    let sent = node.sent();
    let bye = |uri: &str| {
        let start = format!("BYE {uri} ");
        sent.iter().find(|(_, text)| text.starts_with(&start)).unwrap().1.clone()
    };
    assert_eq!(header(&bye("sip:bob@10.6.6.6"), "Call-ID"), call_id);
    assert_eq!(header(&bye("sip:alice@10.9.9.9:5099"), "Call-ID"), "call");
}

#[test]
fn a_call_with_a_dialog_names_it_in_its_contacts() {
    hidden_call("", "create_dialog(); topology_hiding();");
}

#[test]
fn flag_d_and_force_dialog_make_the_dialog() {
    hidden_call("", "topology_hiding(\"D\");");
    hidden_call("modparam(\"topology_hiding\", \"force_dialog\", 1)\n", "topology_hiding();");
}

#[test]
fn call_ids_are_encoded_with_a_dialog_too() {
    hidden_call("", "topology_hiding(\"DC\");");
    let protects = "modparam(\"topology_hiding\", \"th_callid_loop_protection\", 1)\n";
    hidden_call(protects, "topology_hiding(\"DC\");");
}

#[test]
fn strangers_do_not_get_into_a_hidden_call() {
    let mut node = node("", "topology_hiding(\"D\");");
    let (_, ok) = talk(&mut node);
    for (from, to) in [(FROM, "<sip:bob@b.test>;tag=x"), ("<sip:e@e>;tag=e", TO)] {
        node.udp(CALLER, &request("BYE", contact_uri(&ok), (from, to), "call", 8));
        assert!(sent_to(&mut node, CALLER).starts_with("SIP/2.0 481"));
    }
    node.udp(CALLER, &request("BYE", contact_uri(&ok), (FROM, TO), "other", 8));
    assert!(sent_to(&mut node, CALLER).starts_with("SIP/2.0 481"));
    let state = node.mi("dialog:list", json!(null))["result"]["Dialogs"][0]["state"].clone();
    assert_eq!(state, 3);
}

#[test]
fn users_of_contacts_are_values_of_the_dialog() {
    let mut node = node("", "topology_hiding(\"D\", \"left/right\");");
    let (invite, ok) = talk(&mut node);
    assert!(contact_uri(&invite).starts_with("sip:right@127.0.0.1"));
    assert!(contact_uri(&ok).starts_with("sip:left@127.0.0.1"));
    node.udp(CALLER, &request("INFO", contact_uri(&ok), (FROM, TO), "call", 8));
    assert!(contact_uri(&sent_to(&mut node, CALLEE)).starts_with("sip:right@127.0.0.1"));
}
