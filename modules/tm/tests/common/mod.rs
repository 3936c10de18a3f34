//! A caller, a node with a script, and callees.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "what is not as expected fails the test")]

pub(crate) mod moving;

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::module::{Cx, Module, ModuleDef, Timer};
use tandem_engine::table::function;
use tandem_engine::testing::{TestNode, WAITING};
use tandem_proto_udp::MODULE as PROTO_UDP;
use tandem_script::host::Called;
use tandem_script::sig::Routes;
use tandem_signaling::MODULE as SIGNALING;
use tandem_sipmsgops::MODULE as SIPMSGOPS;
use tandem_sl::MODULE as SL;
use tandem_tm::MODULE as TM;

pub(crate) const MODULES: Modules =
    &[&CORE, &PROTO_UDP, &TM, &SL, &WAIT, &SIGNALING, &SIPMSGOPS, &WAITING, &moving::MOVE];

pub(crate) const CALLER: &str = "127.0.0.9:5060";
pub(crate) const CALLEE: &str = "127.0.0.2:5060";
pub(crate) const SECOND: &str = "127.0.0.3:5060";

/// A module whose function keeps a run waiting.
static WAIT: ModuleDef = ModuleDef {
    name: "wait",
    help: "",
    dependencies: &[],
    params: &[],
    functions: &[function("wait_10_s", &[], Routes::ANY, "", |call| {
        let run = call.suspend();
        let at = call.cx.now.after_s(10);
        call.cx.set_timer(at, Timer { kind: 0, id: run });
        Called::Suspended
    })],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(Wait)),
};

struct Wait;

impl Module for Wait {
    fn timer(&self, cx: &mut Cx<'_>, timer: Timer) {
        cx.resume(timer.id, 1);
    }
}

/// A node whose script has these lines before its routes.
pub(crate) fn node_with(params: &str, routes: &str) -> TestNode {
    let script = format!(
        "socket=udp:127.0.0.1:5060\nlog_level=4\nloadmodule \"proto_udp.so\"\n\
         loadmodule \"tm.so\"\nloadmodule \"wait.so\"\nloadmodule \"waiting.so\"\n\
         loadmodule \"signaling.so\"\nloadmodule \"sipmsgops.so\"\n{params}\n{routes}"
    );
    TestNode::new(&script, MODULES)
}

pub(crate) fn node(routes: &str) -> TestNode {
    node_with("", routes)
}

/// A request of the caller to the callee.
pub(crate) fn request(method: &str, branch: &str, extra: &str) -> String {
    format!(
        "{method} sip:bob@{CALLEE} SIP/2.0\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK{branch}\n\
         Max-Forwards: 70\nFrom: <sip:alice@h>;tag=f\nTo: <sip:bob@h>\nCall-ID: c-{branch}\n\
         CSeq: 1 {method}\n{extra}Content-Length: 0\n\n"
    )
}

pub(crate) fn invite() -> String {
    request("INVITE", "a", "")
}

/// The reply of a callee to a request as it got it.
pub(crate) fn reply_to(request: &str, code: u16, extra: &str) -> String {
    let mut out = format!("SIP/2.0 {code} Text{code}\n");
    for line in request.lines() {
        let name = line.split(':').next().unwrap_or_default();
        match name {
            "Via" | "From" | "Call-ID" | "CSeq" => out.push_str(&format!("{line}\n")),
            "To" => out.push_str(&format!("{line};tag=t{code}\n")),
            _ => {}
        }
    }
    out.push_str(extra);
    out.push_str("Content-Length: 0\n\n");
    out
}

/// What was sent, as "address first-line".
pub(crate) fn lines(sent: &[(SocketAddr, String)]) -> Vec<String> {
    sent.iter().map(|(to, text)| format!("{to} {}", text.lines().next().unwrap())).collect()
}

/// First lines of what was sent since the last call.
pub(crate) fn sent_lines(node: &mut TestNode) -> Vec<String> {
    lines(&node.sent())
}

/// The messages that went to an address, of what was sent since the last call.
pub(crate) fn sent_to(node: &mut TestNode, to: &str) -> Vec<String> {
    let to: SocketAddr = to.parse().unwrap();
    node.sent().into_iter().filter(|(addr, _)| *addr == to).map(|(_, text)| text).collect()
}

/// The status codes that the caller got since the last call.
pub(crate) fn codes(node: &mut TestNode) -> Vec<u16> {
    let replies = sent_to(node, CALLER);
    replies.iter().map(|text| text.split(' ').nth(1).unwrap().parse().unwrap()).collect()
}

pub(crate) fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let found = message.lines().find(|line| line.starts_with(&format!("{name}:")));
    found.unwrap_or_else(|| panic!("no {name} in\n{message}"))
}

/// Sends the INVITE in, and gives what went to the callee.
pub(crate) fn start_call(node: &mut TestNode) -> String {
    node.udp(CALLER, &invite());
    let mut forwarded = sent_to(node, CALLEE);
    assert_eq!(forwarded.len(), 1, "one INVITE for the callee");
    forwarded.remove(0)
}

pub(crate) fn stat(node: &mut TestNode, name: &str) -> u64 {
    let full = format!("tm:{name}");
    let answer = node.mi("get_statistics", json!([[full]]));
    answer["result"][&full].as_u64().unwrap_or_else(|| panic!("{name}: {answer}"))
}

/// Whether a line of `xlog` was written since the last call.
pub(crate) fn logged(node: &mut TestNode, text: &str) -> bool {
    let logs = node.logs();
    let found = logs.iter().any(|(_, line)| line.contains(text));
    if !found {
        eprintln!("no {text:?} in {logs:#?}");
    }
    found
}
