//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::endpoint::HttpAsk;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_httpd::MODULE,
    &tandem_prometheus::MODULE,
];
/// The place of prometheus in the list.
const SLOT: u16 = 4;
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"httpd.so\"\nloadmodule \"prometheus.so\"\n";
const ROUTE: &str = "route { exit; }";

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"prometheus\", \"{name}\", {value})\n")
}

fn shown() -> String {
    set("statistics", "\"rcv_requests\"")
}

fn answer(params: &str, routes: &str, method: &str) -> (u16, String) {
    let mut node = TestNode::new(&format!("{MODULE_LINES}{params}{routes}"), MODULES);
    let ask = HttpAsk {
        method: method.to_owned(),
        path: "/metrics".to_owned(),
        query: String::new(),
        body: "".into(),
    };
    let answer = node.http(SLOT, ask).unwrap();
    (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
}

fn page(params: &str) -> String {
    answer(params, ROUTE, "GET").1
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_prometheus::MODULE,
        &[
            ("param root", root),
            ("param prefix", names),
            ("param delimiter", names),
            ("param group_prefix", names),
            ("param group_label", names),
            ("param group_mode", names),
            ("param statistics", statistics),
            ("param labels", labels),
            ("param script_route", script),
            ("function prometheus_declare_stat", script),
            ("function prometheus_push_stat", script),
        ],
    );
}

fn root() {
    let mut node = TestNode::new(&format!("{MODULE_LINES}{ROUTE}"), MODULES);
    let pages = node.mi("httpd:list_root_path", serde_json::Value::Null)["result"].clone();
    assert_eq!(pages[0]["http_root"], "metrics");
    let script = format!("{MODULE_LINES}{}{ROUTE}", set("root", "\"numbers\""));
    let mut node = TestNode::new(&script, MODULES);
    let pages = node.mi("httpd:list_root_path", serde_json::Value::Null)["result"].clone();
    assert_eq!(pages[0]["http_root"], "numbers");
    let wrong = format!("{MODULE_LINES}{}{ROUTE}", set("root", "\"a/b\""));
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
    assert_eq!(answer("", ROUTE, "POST").0, 405);
}

fn statistics() {
    assert_eq!(page(""), "");
    let one = "# TYPE opensips_rcv_requests counter\nopensips_rcv_requests 0\n";
    assert_eq!(page(&shown()), one);
    assert_eq!(page(&set("statistics", "\"core:rcv_requests nosuch\"")), one);
    let group = page(&set("statistics", "\"core:\""));
    assert!(group.contains(one) && !group.contains("sent_replies"), "{group}");
    assert!(page(&set("statistics", "\"all\"")).contains("opensips_sent_replies 0\n"));
    let two = format!("{}{}", shown(), set("statistics", "\"sl:sent_replies\""));
    assert_eq!(page(&two).lines().count(), 4);
}

fn names() {
    let last =
        |params: &str| page(&format!("{}{params}", shown())).lines().last().unwrap().to_owned();
    assert_eq!(last(&set("prefix", "\"tandem\"")), "tandem_rcv_requests 0");
    assert_eq!(last(&set("delimiter", "\"__\"")), "opensips__rcv_requests 0");
    let mode = |n: i32| set("group_mode", &n.to_string());
    assert_eq!(last(&mode(1)), "opensips_core_rcv_requests 0");
    let prefixed = format!("{}{}", mode(1), set("group_prefix", "\"g\""));
    assert_eq!(last(&prefixed), "opensips_gcore_rcv_requests 0");
    assert_eq!(last(&mode(2)), "opensips_rcv_requests{group=\"core\"} 0");
    let labelled = format!("{}{}", mode(2), set("group_label", "\"of\""));
    assert_eq!(last(&labelled), "opensips_rcv_requests{of=\"core\"} 0");
    let wrong = format!("{MODULE_LINES}{}{ROUTE}", mode(3));
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn labels() {
    let rule = set("labels", "\"core: /^rcv_(.*)$/received:what=\\\"\\1\\\"/\"");
    let wanted = "# TYPE opensips_received counter\nopensips_received{what=\"requests\"} 0\n";
    assert_eq!(page(&format!("{}{rule}", shown())), wanted);
    let wrong = format!("{MODULE_LINES}{}{ROUTE}", set("labels", "\"core\""));
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn script() {
    let routes = "route { prometheus_push_stat(1); } route[more] { \
        prometheus_declare_stat(\"calls\", \"counter\", \"Calls, by way.\"); \
        prometheus_push_stat(3, \"way\", \"in\"); prometheus_push_stat(4, \"way\", \"out\"); \
        prometheus_declare_stat(\"free\"); prometheus_push_stat(9); }";
    let params = set("script_route", "\"more\"");
    let wanted = "# HELP opensips_calls Calls, by way.\n# TYPE opensips_calls counter\n\
        opensips_calls{way=\"in\"} 3\nopensips_calls{way=\"out\"} 4\n\
        # TYPE opensips_free gauge\nopensips_free 9\n";
    assert_eq!(answer(&params, routes, "GET").1, wanted);
    let outside = "route { prometheus_declare_stat(\"x\"); xlog(\"L_NOTICE\", \"$rc\"); \
        prometheus_push_stat(1); xlog(\"L_NOTICE\", \"$rc\"); }";
    let mut node = TestNode::new(&format!("{MODULE_LINES}{outside}"), MODULES);
    node.udp(
        "127.0.0.9:5060",
        "OPTIONS sip:u@h SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKx\n\
         From: <sip:f@h>;tag=f\nTo: <sip:a@h>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
         Content-Length: 0\n\n",
    );
    let codes: Vec<String> = node.logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(codes, ["-2", "-2"]);
    let wrong = format!("{MODULE_LINES}{params}{ROUTE}");
    assert!(TestNode::try_new(&wrong, MODULES).err().unwrap().contains("no route[more]"));
}
