//! What the module brings: events reach subscribers over both kinds of sockets.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::events::Destination;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[&CORE, &tandem_proto_udp::MODULE, &tandem_event_datagram::MODULE];
const HEAD: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n";
const REQUEST: &str = "OPTIONS sip:b@example.org SIP/2.0\n\
    Via: SIP/2.0/UDP 127.0.0.9:5999;branch=z9hG4bKx\nFrom: <sip:al@a.org>;tag=f\n\
    To: <sip:bo@b.org>\nCall-ID: c1\nCSeq: 7 OPTIONS\nContent-Length: 0\n\n";

fn node(route: &str) -> TestNode {
    let script = format!("{HEAD}loadmodule \"event_datagram.so\"\nroute {{ {route} }}");
    TestNode::new(&script, MODULES)
}

fn udp(port: u16) -> Destination {
    Destination::Udp { host: "127.0.0.1".into(), port }
}

#[test]
fn every_entry_has_a_check() {
    cover(&tandem_event_datagram::MODULE, &[]);
}

#[test]
fn a_subscriber_gets_one_notification_for_each_event() {
    let mut node = node(
        "$avp(n) = \"who\"; $avp(v) = $fU; $avp(n) = \"seq\"; $avp(v) = $cs; \
         raise_event(\"E_CALL\", $avp(n), $avp(v)); raise_event(\"E_LIST\", $avp(v)); \
         raise_event(\"E_BARE\");",
    );
    for event in ["E_CALL", "E_LIST", "E_BARE"] {
        let params = json!([event, "udp:127.0.0.1:9999", 60]);
        assert_eq!(node.mi("evi:subscribe", params)["result"], "OK");
    }
    node.udp("127.0.0.9:5062", REQUEST);
    let told = node.notified();
    assert!(told.iter().all(|(to, _)| *to == udp(9999)));
    let texts: Vec<&str> = told.iter().map(|(_, t)| t.as_str()).collect();
    assert_eq!(
        texts,
        [
            r#"{"jsonrpc":"2.0","method":"E_CALL","params":{"who":"al","seq":7}}"#,
            r#"{"jsonrpc":"2.0","method":"E_LIST","params":["al",7]}"#,
            r#"{"jsonrpc":"2.0","method":"E_BARE"}"#,
        ]
    );
}

#[test]
fn a_script_subscribes_for_ever_and_a_command_for_a_time() {
    let mut node = node("subscribe_event(\"E_X\", \"unix:/run/x\");");
    node.udp("127.0.0.9:5062", REQUEST);
    let subscribe = json!({"event": "E_X", "socket": "udp:127.0.0.1:9998"});
    assert_eq!(node.mi("event_subscribe", subscribe)["result"], "OK");
    node.advance_ms(3_000_000);
    assert_eq!(node.mi("raise_event", json!(["E_X", ["a", 2]]))["result"], "OK");
    let told: Vec<Destination> = node.notified().into_iter().map(|(to, _)| to).collect();
    assert_eq!(told, [udp(9998), Destination::Unix("/run/x".into())]);
    node.advance_ms(700_000);
    assert_eq!(node.mi("evi:raise", json!(["E_X"]))["result"], "OK");
    assert_eq!(node.notified().len(), 1, "3600 s are over");
}

#[test]
fn a_socket_of_another_kind_is_refused() {
    let mut node = node("if (!subscribe_event(\"E_X\", \"tcp:127.0.0.1:1\")) exit;");
    let answer = node.mi("evi:subscribe", json!(["E_X", "nosuch:1"]));
    assert_eq!(answer["error"], json!({"code": 400, "message": "Bad parameter value"}));
    node.udp("127.0.0.9:5062", REQUEST);
    assert!(node.logs().iter().any(|(_, t)| t.contains("tcp:127.0.0.1:1 cannot be subscribed")));
    assert_eq!(node.mi("evi:raise", json!(["E_X"]))["error"]["code"], 404);
    assert_eq!(node.mi("evi:list", Json::Null)["result"]["Events"][0]["id"], 0);
}
