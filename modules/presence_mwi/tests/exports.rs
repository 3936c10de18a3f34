//! The one thing the module does: its event is known, and its bodies are judged.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::module::ModuleDef;
use tandem_engine::testing::{TestNode, cover};
use tandem_presence_mwi::MODULE;

const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_sl::MODULE,
        &tandem_tm::MODULE,
        &tandem_signaling::MODULE,
        &tandem_presence::MODULE,
        &MODULE,
    ];
    ALL
};

const SCRIPT: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
    loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"signaling.so\"\n\
    loadmodule \"presence.so\"\nloadmodule \"presence_mwi.so\"\nroute {\n\
    if ($rm == \"PUBLISH\") handle_publish(); else handle_subscribe(); }\n";

fn request(method: &str, n: u32, more: &str, body: &str) -> String {
    format!(
        "{method} sip:bob@a.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK{n}\n\
         From: <sip:bob@a.test>;tag=f\nTo: <sip:bob@a.test>\nCall-ID: c{n}\nCSeq: {n} {method}\n\
         Contact: <sip:bob@127.0.0.9>\nEvent: message-summary\nMax-Forwards: 70\n{more}\
         Content-Length: {}\n\n{body}",
        body.len()
    )
}

#[test]
fn the_table_is_empty_and_the_event_is_known() {
    cover(&MODULE, &[]);
    let mut node = TestNode::new(SCRIPT, MODULES);
    let mut send = |text: &str| {
        node.udp("127.0.0.9:5060", text);
        node.sent().into_iter().map(|(_, text)| text).collect::<Vec<_>>()
    };
    let kind = "Content-Type: application/simple-message-summary\n";
    assert!(send(&request("PUBLISH", 1, kind, "hello"))[0].starts_with("SIP/2.0 400"));
    let other = "Content-Type: text/plain\n";
    let summary = "Messages-Waiting: yes\r\nVoice-Message: 2/8\r\n";
    assert!(send(&request("PUBLISH", 2, other, summary))[0].starts_with("SIP/2.0 415"));
    assert!(send(&request("PUBLISH", 3, kind, "Messages-Waiting: no"))[0].contains(" 200 "));
    assert!(send(&request("PUBLISH", 4, kind, "Messages-Waiting: yes"))[0].contains(" 200 "));
    let sent = send(&request("SUBSCRIBE", 5, "", ""));
    assert!(sent[0].starts_with("SIP/2.0 200"), "{sent:?}");
    assert!(sent[1].contains("Content-Type: application/simple-message-summary\r\n"));
    assert!(sent[1].ends_with("\r\n\r\nMessages-Waiting: yes"), "{}", sent[1]);
}
