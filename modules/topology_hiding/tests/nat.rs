//! Hidden sides behind NAT: what the script puts right in Contact is where they are reached, and
//! what a side is shown is the address of the socket that its messages come from.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use bytes::Bytes;
use tandem_engine::catalogue::Modules;
use tandem_engine::effect::Input;
use tandem_engine::sockets::Proto;
use tandem_engine::testing::TestNode;

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_dialog::MODULE,
    &tandem_nathelper::MODULE,
    &tandem_topology_hiding::MODULE,
];
const CALLER: &str = "127.0.0.9:5060";
const CALLEE: &str = "127.0.0.2:5060";
const FROM: &str = "<sip:alice@a.test>;tag=f";
const TO: &str = "<sip:bob@b.test>;tag=t";

fn node(dialog: &str, initial: &str) -> TestNode {
    let script = format!(
        "socket=udp:127.0.0.1:5060\nsocket=udp:127.0.0.1:5070\nlog_level=2\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\nloadmodule \"tm.so\"\n{dialog}\
         loadmodule \"nathelper.so\"\nloadmodule \"topology_hiding.so\"\n\
         route {{ t_on_reply(\"r\"); if ($tt != NULL) {{ topology_hiding_match(); \
         fix_nated_contact(); t_relay(); exit; }} {initial} t_relay(); }}\n\
         onreply_route[r] {{ fix_nated_contact(); }}"
    );
    TestNode::new(&script, MODULES)
}

fn sent_to(node: &mut TestNode, to: &str) -> String {
    let sent = node.sent().into_iter().filter(|(at, _)| at.to_string() == to);
    sent.map(|(_, text)| text).rfind(|text| !text.starts_with("SIP/2.0 100")).unwrap_or_default()
}

fn contacts(text: &str) -> Vec<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("Contact: "));
    lines.map(|line| line.split(['<', '>']).nth(1).unwrap_or("")).collect()
}

fn request(method: &str, uri: &str, from: &str, to: &str, n: u32) -> String {
    format!(
        "{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP 10.9.9.9:99;rport;branch=z9hG4bK{method}{n}\n\
         From: {from}\nTo: {to}\nCall-ID: call\nCSeq: {n} {method}\n\
         Contact: <sip:user@10.9.9.9:5099>, <sip:other@10.9.9.8>\nContent-Length: 0\n\n"
    )
}

fn reply_to(request: &str) -> String {
    let mut out = "SIP/2.0 200 x\n".to_owned();
    for line in request.lines().skip(1).take_while(|line| !line.is_empty()) {
        match line.split(':').next().unwrap() {
            "Via" | "From" | "Call-ID" | "CSeq" => out.push_str(&format!("{line}\n")),
            "To" if line.contains("tag=") => out.push_str(&format!("{line}\n")),
            "To" => out.push_str(&format!("{line};tag=t\n")),
            _ => {}
        }
    }
    format!("{out}Contact: <sip:user@10.6.6.6:5066>\nContent-Length: 0\n\n")
}

/// An INVITE and its answer, as the callee and the caller see them.
fn invite(node: &mut TestNode, from: &str, request: &str) -> (String, String) {
    let to = if from == CALLER { CALLEE } else { CALLER };
    node.udp(from, request);
    let seen = sent_to(node, to);
    node.udp(to, &reply_to(&seen));
    (seen, sent_to(node, from))
}

#[test]
fn sides_behind_nat_are_reached() {
    let hide = "topology_hiding(\"U\");";
    let orders = [format!("fix_nated_contact(); {hide}"), format!("{hide} fix_nated_contact();")];
    for dialog in ["", "loadmodule \"dialog.so\"\n"] {
        for initial in &orders {
            let begin = if dialog.is_empty() { "" } else { "create_dialog();" };
            let mut node = node(dialog, &format!("{begin} {initial}"));
            let first = request("INVITE", "sip:bob@127.0.0.2", FROM, "<sip:bob@b.test>", 1);
            let (seen, ok) = invite(&mut node, CALLER, &first);
            assert!(!seen.contains("10.9.9") && !ok.contains("10.6.6"), "{seen}\n{ok}");
            assert!(!seen.contains("127.0.0.9"), "{seen}");
            let (to_caller, to_callee) = (contacts(&seen)[0], contacts(&ok)[0]);
            node.udp(CALLER, &request("ACK", to_callee, FROM, TO, 1));
            let ack = sent_to(&mut node, CALLEE);
            assert!(ack.starts_with("ACK sip:user@127.0.0.2:5060"), "{initial}: {ack}");
            node.udp(CALLEE, &request("INFO", to_caller, TO, FROM, 1));
            let info = sent_to(&mut node, CALLER);
            assert!(info.starts_with("INFO sip:user@127.0.0.9:5060"), "{initial}: {info}");
            // What a re-INVITE says of both sides counts from then on.
            let again = request("INVITE", to_callee, FROM, TO, 2);
            let (seen, ok) = invite(&mut node, CALLER, &again);
            let (to_caller, to_callee) = (contacts(&seen)[0], contacts(&ok)[0]);
            node.udp(CALLEE, &request("BYE", to_caller, TO, FROM, 2));
            let bye = sent_to(&mut node, CALLER);
            assert!(bye.starts_with("BYE sip:user@127.0.0.9:5060"), "{initial}: {bye}");
            node.udp(CALLER, &request("BYE", to_callee, FROM, TO, 3));
            let bye = sent_to(&mut node, CALLEE);
            assert!(bye.starts_with("BYE sip:user@127.0.0.2:5060"), "{initial}: {bye}");
        }
    }
}

/// A message of the callee to the second socket.
fn other_side(node: &mut TestNode, text: &str) {
    let second = node.node().sockets.of(Proto::Udp).nth(1);
    let (socket, local_ip) = second.map(|(id, socket)| (id, socket.addr.ip())).unwrap();
    let payload = Bytes::from(text.replace('\n', "\r\n"));
    let source = CALLEE.parse().unwrap();
    node.step(Input::Datagram { socket, source, local_ip, payload });
}

#[test]
fn each_side_sees_the_socket_that_is_on_its_side() {
    let leaves = "fix_nated_contact(); topology_hiding(); $socket_out = \"udp:127.0.0.1:5070\";";
    let begin = format!("create_dialog(); {leaves}");
    for (dialog, initial) in [("", leaves), ("loadmodule \"dialog.so\"\n", &begin)] {
        let mut node = node(dialog, initial);
        let first = request("INVITE", "sip:bob@127.0.0.2", FROM, "<sip:bob@b.test>", 1);
        node.udp(CALLER, &first);
        let seen = sent_to(&mut node, CALLEE);
        other_side(&mut node, &reply_to(&seen));
        let ok = sent_to(&mut node, CALLER);
        let shown = contacts(&seen);
        assert!(shown.len() == 1 && shown[0].starts_with("sip:127.0.0.1:5070;"), "{seen}");
        let to_callee = contacts(&ok)[0];
        assert!(to_callee.starts_with("sip:127.0.0.1:5060;"), "{ok}");
        node.udp(CALLER, &request("BYE", to_callee, FROM, TO, 2));
        let bye = sent_to(&mut node, CALLEE);
        assert!(bye.contains("\nVia: SIP/2.0/UDP 127.0.0.1:5070;"), "{initial}: {bye}");
        other_side(&mut node, &request("BYE", shown[0], TO, FROM, 3));
        let bye = sent_to(&mut node, CALLER);
        assert!(bye.contains("\nVia: SIP/2.0/UDP 127.0.0.1:5060;"), "{initial}: {bye}");
    }
}

#[test]
fn a_branch_of_a_failure_route_is_hidden_as_well() {
    let mut node = TestNode::new(
        "socket=udp:127.0.0.1:5060\nlog_level=2\nloadmodule \"proto_udp.so\"\n\
         loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"topology_hiding.so\"\n\
         route { topology_hiding(); t_on_failure(\"f\"); t_relay(); }\n\
         failure_route[f] { $ru = \"sip:vm@127.0.0.4\"; t_relay(); }",
        MODULES,
    );
    let first = request("INVITE", "sip:bob@127.0.0.2", FROM, "<sip:bob@b.test>", 1);
    node.udp(CALLER, &first);
    let seen = sent_to(&mut node, CALLEE);
    node.udp(CALLEE, &reply_to(&seen).replace("SIP/2.0 200", "SIP/2.0 486"));
    let next = sent_to(&mut node, "127.0.0.4:5060");
    assert!(next.starts_with("INVITE sip:vm@") && !next.contains("10.9.9"), "{next}");
}
