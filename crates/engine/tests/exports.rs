//! Every entry of the table of `core`, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::module::{Module, ModuleDef};
use tandem_engine::table::function;
use tandem_engine::testing::{Check, TestNode, cover};
use tandem_script::sig::Routes;

#[path = "exports/cache.rs"]
mod cache;
#[path = "exports/commands.rs"]
mod commands;
#[path = "exports/credentials.rs"]
mod credentials;
#[path = "exports/dns.rs"]
mod dns;
#[path = "exports/events.rs"]
mod events;
#[path = "exports/functions.rs"]
mod functions;
#[path = "exports/globals.rs"]
mod globals;
#[path = "exports/profiling.rs"]
mod profiling;
#[path = "exports/sdp.rs"]
mod sdp;
#[path = "exports/statistics.rs"]
mod statistics;
#[path = "exports/tcp.rs"]
mod tcp;
#[path = "exports/trace.rs"]
mod trace;
#[path = "exports/variables.rs"]
mod variables;
#[path = "exports/watch.rs"]
mod watch;

static MODULES: Modules = &[
    &CORE,
    &tandem_proto_udp::MODULE,
    &tandem_proto_tcp::MODULE,
    &tandem_sl::MODULE,
    &tandem_cachedb_local::MODULE,
    &PANICS,
];

/// A module with a bug.
static PANICS: ModuleDef = ModuleDef {
    name: "panics",
    help: "For tests.",
    dependencies: &[],
    params: &[],
    functions: &[function("panic", &[], Routes::ANY, "Fails.", |_| panic!("a bug"))],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(Panics)),
};

struct Panics;

impl Module for Panics {}
const HEAD: &str = "socket=udp:127.0.0.1:5060 tag lan\nalias=\"sip.example.org\"\n\
    loadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\nloadmodule \"panics.so\"\n";
const PHONE: &str = "127.0.0.9:5062";
const REQUEST: &str = "MESSAGE sip:bob@example.org:5070;x=1 SIP/2.0\n\
    Via: SIP/2.0/UDP 127.0.0.9:5999;branch=z9hG4bKx\nFrom: \"Al\" <sip:al@a.org>;tag=f\n\
    To: Bo <sip:bo@b.org>;tag=t\nCall-ID: c1\nCSeq: 7 MESSAGE\nContact: <sip:al@127.0.0.9>\n\
    User-Agent: ua/1\nContent-Type: text/plain\nContent-Length: 2\n\nhi";

fn try_node(globals: &str, route: &str) -> Result<TestNode, String> {
    TestNode::try_new(&format!("{HEAD}{globals}\nroute {{ {route} }}"), MODULES)
}

fn node(globals: &str, route: &str) -> TestNode {
    try_node(globals, route).unwrap_or_else(|e| panic!("{e}"))
}

/// What a text with variables looks like behind some statements.
fn said(statements: &str, text: &str) -> String {
    let mut node = node("", &format!("{statements} xlog(\"L_NOTICE\", \"{text}\");"));
    node.udp(PHONE, REQUEST);
    node.logs().pop().map(|l| l.1).unwrap_or_default()
}

fn is(text: &str, expected: &str) {
    assert_eq!(said("", text), expected, "{text}");
}

fn ask(node: &mut TestNode, method: &str, params: Json) -> Json {
    let answer = node.mi(method, params);
    answer.get("result").or(answer.get("error")).cloned().unwrap_or(Json::Null)
}

#[test]
fn every_entry_has_a_check() {
    let all = [
        PARAMS,
        cache::CHECKS,
        globals::CHECKS,
        functions::CHECKS,
        variables::CHECKS,
        credentials::CHECKS,
        sdp::CHECKS,
        watch::CHECKS,
        commands::CHECKS,
        statistics::CHECKS,
        events::CHECKS,
        tcp::CHECKS,
        trace::CHECKS,
        profiling::CHECKS,
        dns::CHECKS,
    ];
    cover(&CORE, &all.concat());
}

const PARAMS: &[Check] = &[
    ("param log_level", || {
        for (level, lines) in [(2, 0), (4, 1)] {
            let mut node = node(&format!("log_level={level}"), "log(4, \"x\");");
            node.udp(PHONE, REQUEST);
            assert_eq!(node.logs().len(), lines);
        }
    }),
    ("param stderror_enabled", || {
        assert!(node("", "exit;").node().writes_stderr());
        assert!(!node("stderror_enabled=no", "exit;").node().writes_stderr());
    }),
    ("param udp_workers", || accepted("udp_workers=3", "udp_workers")),
    ("param server_header", || {
        let mut node = node("server_header=\"Server: me\"", "sl_send_reply(200, \"OK\");");
        node.udp(PHONE, REQUEST);
        assert!(node.sent()[0].1.contains("Server: me\r\n"));
    }),
    ("param server_signature", || {
        let mut node = node("server_signature=no", "sl_send_reply(200, \"OK\");");
        node.udp(PHONE, REQUEST);
        assert!(!node.sent()[0].1.contains("Server:"));
    }),
    ("param db_default_url", || accepted("db_default_url=\"sqlite:///x\"", "db_default_url")),
    ("param state_dir", || accepted("state_dir=\"/run/x\"", "state_dir")),
    ("param max_while_loops", || {
        let route = "$var(n) = 0; while (1) { $var(n) = $var(n) + 1; } \
                     xlog(\"L_NOTICE\", \"$var(n)\");";
        let mut node = node("max_while_loops=5", route);
        node.udp(PHONE, REQUEST);
        assert_eq!(node.logs().pop().unwrap().1, "5");
    }),
    ("param mpath", || accepted("mpath=\"modules/\"", "mpath")),
    ("param syslog_enabled", || accepted("syslog_enabled=no", "syslog_enabled")),
    ("param syslog_facility", || accepted("syslog_facility=LOG_LOCAL0", "syslog_facility")),
    ("param syslog_name", || accepted("syslog_name=\"sip\"", "syslog_name")),
    ("param wdir", || accepted("wdir=\"/tmp\"", "wdir")),
    ("param chroot", || accepted("chroot=\"/srv\"", "chroot")),
];

/// A global that the server reads, or that is taken without a meaning, arrives in the program.
fn accepted(line: &str, name: &str) {
    assert!(node(line, "exit;").node().program.global(name).is_some(), "{line}");
    let errors = try_node(&line.replacen(name, &format!("{name}x"), 1), "exit;").err();
    assert!(errors.unwrap_or_default().contains(&format!("did you mean `{name}`?")), "{name}");
}

fn flag(statement: &str, test: &str, expected: &str) {
    let text = format!("{statement} if ({test}) $var(r) = \"set\"; else $var(r) = \"not\";");
    assert_eq!(said(&text, "$var(r)"), expected, "{statement} {test}");
}

fn target(statement: &str, variable: &str, expected: &str) {
    assert_eq!(said(statement, variable), expected, "{statement}");
}
