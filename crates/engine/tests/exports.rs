//! Every entry of the table of `core`, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::testing::{Check, TestNode, cover};

static MODULES: Modules = &[&CORE, &tandem_proto_udp::MODULE, &tandem_sl::MODULE];
const HEAD: &str = "socket=udp:127.0.0.1:5060 tag lan\nalias=\"sip.example.org\"\n\
    loadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\n";
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
    let all = [PARAMS, FUNCTIONS, VARIABLES, COMMANDS, STATISTICS].concat();
    cover(&CORE, &all);
}

const PARAMS: &[Check] = &[
    ("param log_level", || {
        for (level, lines) in [(2, 0), (4, 1)] {
            let mut node = node(&format!("log_level={level}"), "xlog(\"L_DBG\", \"x\");");
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
    ("param tcp_workers", || accepted("tcp_workers=2", "tcp_workers")),
    ("param timer_workers", || accepted("timer_workers=2", "timer_workers")),
    ("param auto_aliases", || accepted("auto_aliases=no", "auto_aliases")),
    ("param xlog_level", || accepted("xlog_level=3", "xlog_level")),
    ("param syslog_enabled", || accepted("syslog_enabled=no", "syslog_enabled")),
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

const FUNCTIONS: &[Check] = &[
    ("function setflag", || flag("setflag(\"F\");", "isflagset(\"F\")", "set")),
    ("function resetflag", || {
        flag("setflag(\"F\"); resetflag(\"F\");", "isflagset(\"F\")", "not");
    }),
    ("function isflagset", || flag("setflag(\"G\");", "isflagset(\"F\")", "not")),
    ("function setbflag", || flag("setbflag(\"F\");", "isbflagset(\"F\")", "set")),
    ("function resetbflag", || {
        flag("setbflag(\"F\"); resetbflag(\"F\");", "isbflagset(\"F\")", "not");
    }),
    ("function isbflagset", || flag("setbflag(\"G\");", "isbflagset(\"F\")", "not")),
    ("function sethost", || target("sethost(\"h.org\");", "$ru", "sip:bob@h.org:5070;x=1")),
    ("function sethostport", || target("sethostport(\"h:1\");", "$ru", "sip:bob@h:1;x=1")),
    ("function setuser", || target("setuser(\"u\");", "$ru", "sip:u@example.org:5070;x=1")),
    ("function setport", || target("setport(\"9\");", "$ru", "sip:bob@example.org:9;x=1")),
    ("function seturi", || target("seturi(\"sip:z@z\");", "$ru", "sip:z@z")),
    ("function prefix", || target("prefix(\"00\");", "$rU", "00bob")),
    ("function strip", || target("strip(1);", "$rU", "ob")),
    ("function strip_tail", || target("strip_tail(1);", "$rU", "bo")),
    ("function revert_uri", || target("setuser(\"u\"); revert_uri();", "$rU", "bob")),
    ("function setdsturi", || target("setdsturi(\"sip:d\");", "$du", "sip:d")),
    ("function resetdsturi", || target("setdsturi(\"sip:d\"); resetdsturi();", "$du", "<null>")),
    ("function isdsturiset", || flag("setdsturi(\"sip:d\");", "isdsturiset()", "set")),
    ("function append_msg_branch", || {
        flag("", "append_msg_branch(\"sip:b@b\", \"0.5\")", "set");
        flag("", "append_msg_branch(\"nonsense\")", "not");
    }),
    ("function force_rport", || {
        for (route, port) in [("", 5999), ("force_rport();", 5062)] {
            let mut node = node("", &format!("{route} sl_send_reply(200, \"OK\");"));
            node.udp(PHONE, REQUEST);
            assert_eq!(node.sent()[0].0.port(), port);
        }
    }),
    ("function force_send_socket", || {
        flag("", "force_send_socket(\"udp:127.0.0.1:5060\")", "set");
        flag("", "force_send_socket(\"udp:127.0.0.1:1\")", "not");
    }),
    ("function is_myself", || {
        flag("", "is_myself(\"sip.example.org\")", "set");
        flag("", "is_myself(\"127.0.0.1\", 5060)", "set");
        flag("", "is_myself(\"example.org\")", "not");
    }),
];

const VARIABLES: &[Check] = &[
    ("variable avp", || target("$avp(a) = 1; $avp(a) = 2;", "$(avp(a)[*])", "2, 1")),
    ("variable hdr", || is("$hdr(User-Agent)", "ua/1")),
    ("variable hdrcnt", || is("$hdrcnt(Via)", "1")),
    ("variable ci", || is("$ci", "c1")),
    ("variable cs", || is("$cs", "7")),
    ("variable ct", || is("$ct", "<sip:al@127.0.0.9>")),
    ("variable cl", || is("$cl", "2")),
    ("variable cT", || is("$cT", "text/plain")),
    ("variable rb", || is("$rb", "hi")),
    ("variable mb", || assert!(said("", "$mb").starts_with("MESSAGE sip:bob@"))),
    ("variable ml", || assert!(said("", "$ml").parse::<usize>().is_ok_and(|n| n > 200))),
    ("variable mf", || target("setflag(\"F\");", "$mf", "1")),
    ("variable ua", || is("$ua", "ua/1")),
    ("variable rm", || is("$rm", "MESSAGE")),
    ("variable rs", || is("$rs", "<null>")),
    ("variable rr", || is("$rr", "<null>")),
    ("variable fu", || is("$fu", "sip:al@a.org")),
    ("variable fU", || is("$fU", "al")),
    ("variable fd", || is("$fd", "a.org")),
    ("variable fn", || assert!(said("", "$fn").contains("Al"))),
    ("variable ft", || is("$ft", "f")),
    ("variable tu", || is("$tu", "sip:bo@b.org")),
    ("variable tU", || is("$tU", "bo")),
    ("variable td", || is("$td", "b.org")),
    ("variable tn", || is("$tn", "Bo")),
    ("variable tt", || is("$tt", "t")),
    ("variable si", || is("$si", "127.0.0.9")),
    ("variable sp", || is("$sp", "5062")),
    ("variable Ts", || is("$Ts", "1800000000")),
    ("variable ou", || target("seturi(\"sip:z@z\");", "$ou", "sip:bob@example.org:5070;x=1")),
    ("variable oU", || target("seturi(\"sip:z@z\");", "$oU", "bob")),
    ("variable od", || target("seturi(\"sip:z@z\");", "$od", "example.org")),
    ("variable ru", || target("$ru = \"sip:n@n\";", "$ru", "sip:n@n")),
    ("variable rU", || target("$rU = \"n\";", "$ru", "sip:n@example.org:5070;x=1")),
    ("variable rd", || target("$rd = \"n\";", "$ru", "sip:bob@n:5070;x=1")),
    ("variable rp", || target("$rp = NULL;", "$ru $rp", "sip:bob@example.org;x=1 5060")),
    ("variable ru_q", || target("$ru_q = 700;", "$ru_q", "700")),
    ("variable du", || target("$du = \"sip:d:9\";", "$du", "sip:d:9")),
    ("variable dd", || target("$du = \"sip:d:9\";", "$dd", "d")),
    ("variable bf", || target("setbflag(\"F\");", "$bf", "1")),
    ("variable socket_in", || {
        is("$socket_in(ip) $socket_in(port) $socket_in(proto)", "127.0.0.1 5060 udp");
        is("$socket_in(tag)", "lan");
    }),
    ("variable stat", || is("$stat(rcv_requests)", "1")),
    ("variable err.rcode", bad_requests_reach_the_error_route),
    ("variable err.rreason", bad_requests_reach_the_error_route),
    ("variable err.info", bad_requests_reach_the_error_route),
];

fn bad_requests_reach_the_error_route() {
    let line = "xlog(\"L_NOTICE\", \"$err.rcode|$err.rreason|$err.info\");";
    let mut node = node("", &format!("exit; }}\nerror_route {{ {line}"));
    node.udp(PHONE, &REQUEST.replace("Call-ID: c1\n", ""));
    let line = node.logs().pop().unwrap().1;
    assert_eq!(line, "400|Missing Call-ID header|Missing Call-ID header");
}

const COMMANDS: &[Check] = &[
    ("mi statistics:get", counters),
    ("mi statistics:list", || {
        let list = ask(&mut node("", "exit;"), "statistics:list", json!([["core:rcv_requests"]]));
        assert_eq!(list, json!({"core:rcv_requests": "incremental"}));
    }),
    ("mi statistics:reset", || {
        let mut node = node("", "exit;");
        node.udp(PHONE, REQUEST);
        let refused = ask(&mut node, "statistics:reset", json!([["core:rcv_requests"]]));
        assert_eq!(refused, json!({"code": 404, "message": "Statistics Not Found"}));
        assert_eq!(ask(&mut node, "statistics:reset", json!([["rcv_requests"]])), "OK");
        assert_eq!(count(&mut node, "rcv_requests"), 0);
    }),
    ("mi statistics:reset_all", || {
        let mut node = node("", "exit;");
        node.udp(PHONE, REQUEST);
        assert_eq!(ask(&mut node, "reset_all_statistics", Json::Null), "OK");
        assert_eq!(count(&mut node, "rcv_requests"), 0);
    }),
    ("mi core:uptime", || {
        let mut node = node("", "exit;");
        node.advance_ms(3_000);
        assert_eq!(ask(&mut node, "uptime", Json::Null)["Up time"], "3 [sec]");
    }),
    ("mi core:version", || {
        let version = ask(&mut node("", "exit;"), "version", Json::Null);
        assert!(version["Server"].as_str().unwrap().starts_with("Tandem ("));
    }),
    ("mi core:arg", || assert_eq!(ask(&mut node("", "exit;"), "arg", Json::Null), json!([]))),
    ("mi core:which", || {
        let mut node = node("", "exit;");
        let all = ask(&mut node, "which", Json::Null);
        assert!(all.as_array().unwrap().contains(&json!("core:which")));
        assert_eq!(ask(&mut node, "which", json!(["nosuch"]))["code"], 404);
    }),
    ("mi core:help", || {
        let help = ask(&mut node("", "exit;"), "help", json!(["uptime"]));
        assert_eq!(help["Exported by"], "core");
    }),
    ("mi core:log_level", || {
        let mut node = node("", "exit;");
        assert_eq!(ask(&mut node, "log_level", json!([4])), json!({"Log level": 4}));
        assert_eq!(ask(&mut node, "log_level", Json::Null), json!({"Log level": 4}));
    }),
    ("mi tandem:status", || {
        let status = ask(&mut node("", "exit;"), "tandem:status", Json::Null);
        assert_eq!((&status["node"], &status["ready"]), (&json!(0), &json!("yes")));
        assert_eq!(status["sockets"][0]["socket"], "udp:127.0.0.1:5060");
    }),
];

fn count(node: &mut TestNode, name: &str) -> u64 {
    let full = format!("core:{name}");
    ask(node, "get_statistics", json!([[full]]))[&full].as_u64().unwrap()
}

const STATISTICS: &[Check] = &[
    ("statistic rcv_requests", counters),
    ("statistic rcv_replies", counters),
    ("statistic fwd_replies", counters),
    ("statistic err_replies", counters),
    ("statistic bad_msg_hdr", counters),
];

fn counters() {
    let mut node = node("", "exit;");
    let reply = |vias: &str| {
        format!(
            "SIP/2.0 200 OK\n{vias}From: <sip:a@a>;tag=f\nTo: <sip:b@b>;tag=t\nCall-ID: c\n\
             CSeq: 1 INVITE\nContent-Length: 0\n\n"
        )
    };
    let ours = "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKo\n";
    let below = "Via: SIP/2.0/UDP 127.0.0.8:5068;branch=z9hG4bKp\n";
    node.udp(PHONE, REQUEST);
    node.udp(PHONE, &reply(&format!("{ours}{below}")));
    let sent = node.sent();
    assert_eq!(sent[0].0.to_string(), "127.0.0.8:5068", "forwarded by its second Via");
    assert!(!sent[0].1.contains("z9hG4bKo"), "without our Via");
    node.udp(PHONE, &reply(below));
    node.udp(PHONE, "this is no SIP message at all, whatever it is");
    for name in ["rcv_requests", "fwd_replies", "err_replies", "bad_msg_hdr"] {
        assert_eq!(count(&mut node, name), 1, "{name}");
    }
    assert_eq!(count(&mut node, "rcv_replies"), 2);
}
