//! A registrar in memory, a phone, and what the two say.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::log::Level;

use tandem_engine::module::{Module, ModuleDef};
use tandem_engine::table::function;
use tandem_engine::testing::TestNode;
use tandem_script::host::Called;
use tandem_script::sig::Routes;

pub const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_proto_tcp::MODULE,
        &tandem_sl::MODULE,
        &tandem_tm::MODULE,
        &tandem_signaling::MODULE,
        &tandem_usrloc::MODULE,
        &tandem_registrar::MODULE,
        &PROBE,
    ];
    ALL
};

/// Shows what no variable shows: the branches of a request.
pub static PROBE: ModuleDef = ModuleDef {
    name: "probe",
    help: "For tests.",
    dependencies: &[],
    params: &[],
    functions: &[function("probe", &[], Routes::ANY, "Logs the branches.", |call| {
        let uris = call.ctx.branches.iter().filter_map(|b| b.uri.as_deref());
        let uris: Vec<_> = uris.map(String::from_utf8_lossy).collect();
        let line = format!("br={}", uris.join(","));
        call.cx.log(Level::Notice, line);
        Called::Returned(1)
    })],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(Probe)),
};

pub struct Probe;

impl Module for Probe {}

pub const PHONE: &str = "10.0.0.9:5070";

/// The script whose route is `body`; `setup` holds modparams.
pub fn script(setup: &str, body: &str) -> String {
    let modules = ["proto_udp", "probe", "sl", "tm", "signaling", "usrloc", "registrar"];
    let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let socket = "log_level = 3\nsocket = udp:127.0.0.1:5060\n";
    format!("{socket}{modules}{setup}\nroute {{\n{body}\n}}\n")
}

pub fn node(setup: &str, body: &str) -> TestNode {
    TestNode::new(&script(setup, body), MODULES)
}

pub fn refused(setup: &str, body: &str) -> String {
    TestNode::try_new(&script(setup, body), MODULES).err().expect("the script is wrong")
}

/// A REGISTER of alice with these further header lines.
pub fn register(call_id: &str, cseq: u32, lines: &str) -> String {
    format!(
        "REGISTER sip:example.org SIP/2.0\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{call_id}{cseq}\n\
         From: <sip:alice@example.org>;tag=1\nTo: <sip:alice@example.org>\nCall-ID: {call_id}\n\
         CSeq: {cseq} REGISTER\nMax-Forwards: 70\n{lines}Content-Length: 0\n\n"
    )
}

pub fn invite(lines: &str) -> String {
    format!(
        "INVITE sip:alice@example.org SIP/2.0\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKinv\n\
         From: <sip:bob@example.org>;tag=1\nTo: <sip:alice@example.org>\nCall-ID: inv\n\
         CSeq: 1 INVITE\nMax-Forwards: 70\n{lines}Content-Length: 0\n\n"
    )
}

/// Sends and gives the one reply.
pub fn ask(node: &mut TestNode, text: &str) -> String {
    node.udp(PHONE, text);
    let mut sent = node.sent();
    assert_eq!(sent.len(), 1, "one reply to:\n{text}\n{:?}", node.logs());
    sent.remove(0).1
}

pub fn code(reply: &str) -> u32 {
    reply.split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0)
}

pub fn header<'a>(reply: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("{name}: ");
    reply.lines().find_map(|l| l.strip_prefix(prefix.as_str()))
}

pub fn contacts(node: &mut TestNode) -> Vec<Json> {
    let answer = node.mi("usrloc:show_contact", json!(["location", "alice@example.org"]));
    answer["result"]["Contacts"].as_array().cloned().unwrap_or_default()
}

pub fn stat(node: &mut TestNode, name: &str) -> u64 {
    let full = format!("registrar:{name}");
    node.mi("get_statistics", json!({"statistics": [full]}))["result"][&full].as_u64().unwrap()
}

pub const SAVE: &str = "save(\"location\");";
