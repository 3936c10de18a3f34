//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_rr::MODULE,
    &tandem_path::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nsocket=udp:127.0.0.1:5070\n\
     loadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\nloadmodule \"tm.so\"\n\
     loadmodule \"rr.so\"\nloadmodule \"path.so\"\n";

fn register(route: &str) -> String {
    format!(
        "REGISTER sip:127.0.0.2 SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKx\n{route}\
         From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 REGISTER\n\
         Content-Length: 0\n\n"
    )
}

/// The Path headers of what goes to the registrar.
fn paths(params: &str, lines: &str) -> Vec<String> {
    let script = format!("{MODULE_LINES}{params}route {{ {lines}; t_relay(); }}");
    let mut node = TestNode::new(&script, MODULES);
    node.udp("10.0.0.9:6000", &register(""));
    let sent = node.sent().into_iter().rfind(|(to, _)| to.to_string() == "127.0.0.2:5060");
    let text = sent.unwrap().1;
    text.lines().filter(|line| line.starts_with("Path")).map(str::to_owned).collect()
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_path::MODULE,
        &[
            ("param use_received", received),
            ("param enable_double_path", double),
            ("function add_path", add),
            ("function add_path_received", add_received),
        ],
    );
}

fn add() {
    assert_eq!(paths("", "add_path()"), ["Path: <sip:127.0.0.1:5060;lr>"]);
    assert_eq!(paths("", "add_path(\"edge\")"), ["Path: <sip:edge@127.0.0.1:5060;lr>"]);
    assert_eq!(paths("", "add_path(); add_path()").len(), 1);
    assert_eq!(paths("", "add_path(\"a>b\")"), [] as [String; 0]);
}

fn add_received() {
    let wanted = "Path: <sip:e@127.0.0.1:5060;lr;received=sip:10.0.0.9:6000>";
    assert_eq!(paths("", "add_path_received(\"e\")"), [wanted]);
}

fn double() {
    let other = "add_path(); $socket_out = \"udp:127.0.0.1:5070\"";
    let both = ["Path: <sip:127.0.0.1:5070;r2=on;lr>", "Path: <sip:127.0.0.1:5060;r2=on;lr>"];
    assert_eq!(paths("", other), both);
    let params = "modparam(\"path\", \"enable_double_path\", 0)\n";
    assert_eq!(paths(params, other), ["Path: <sip:127.0.0.1:5060;lr>"]);
}

fn received() {
    let route = "Route: <sip:127.0.0.1:5060;lr;received=sip:10.7.7.7:7000%3Btransport%3Dudp>\n";
    let sent_to = |params: &str| {
        let script = format!("{MODULE_LINES}{params}route {{ loose_route(); t_relay(); }}");
        let mut node = TestNode::new(&script, MODULES);
        node.udp("127.0.0.2:5060", &register(route));
        let mut to = node.sent().into_iter().filter(|(_, text)| text.starts_with("REGISTER"));
        to.next().unwrap().0.to_string()
    };
    assert_eq!(sent_to(""), "127.0.0.2:5060");
    assert_eq!(sent_to("modparam(\"path\", \"use_received\", 1)\n"), "10.7.7.7:7000");
    let script = format!(
        "{}modparam(\"path\", \"use_received\", 1)\nroute {{ exit; }}",
        MODULE_LINES.replace("loadmodule \"rr.so\"\n", "")
    );
    assert!(TestNode::try_new(&script, MODULES).err().unwrap().contains("rr"));
}
