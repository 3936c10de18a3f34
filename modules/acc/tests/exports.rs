//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::{common, radius};

use common::{
    CALLEE, CALLER, call, errors, field, forward, lines, modparam, node, reply_to, request, row,
    rows, sent_to, text,
};
use serde_json::{Value as Json, json};
use tandem_engine::testing::{DbState, TestNode, cover};

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_acc::MODULE,
        &[
            ("param early_media", early_media),
            ("param report_cancels", report_cancels),
            ("param detect_direction", detect_direction),
            ("param log_level", log_level),
            ("param log_facility", log_facility),
            ("param extra_fields", extra_fields),
            ("param leg_fields", leg_fields),
            ("param aaa_url", radius::aaa_url),
            ("param service_type", radius::service_type),
            ("function acc_aaa_request", radius::acc_aaa_request),
            ("param db_url", db_url),
            ("param db_table_acc", db_table_acc),
            ("param db_table_missed_calls", db_table_missed_calls),
            ("param db_table_avp", db_table_avp),
            ("param acc_method_column", || column("acc_method_column")),
            ("param acc_from_tag_column", || column("acc_from_tag_column")),
            ("param acc_to_tag_column", || column("acc_to_tag_column")),
            ("param acc_callid_column", || column("acc_callid_column")),
            ("param acc_sip_code_column", || column("acc_sip_code_column")),
            ("param acc_sip_reason_column", || column("acc_sip_reason_column")),
            ("param acc_time_column", time_column),
            ("function do_accounting", do_accounting),
            ("function drop_accounting", drop_accounting),
            ("function acc_log_request", acc_log_request),
            ("function acc_db_request", acc_db_request),
            ("function acc_evi_request", acc_evi_request),
            ("function acc_new_leg", legs),
            ("function acc_load_ctx_from_dlg", dialog_fields),
            ("function acc_unload_ctx_from_dlg", dialog_fields),
            ("mi tandem:cdr_spool", spool),
            ("mi tandem:cdr_claim", claim),
            ("variable acc_extra", acc_extra),
            ("variable acc_leg", legs),
            ("variable acc_current_leg", legs),
            ("event E_ACC_CDR", cdr_event),
            ("event E_ACC_EVENT", event),
            ("event E_ACC_MISSED_EVENT", missed_event),
        ],
    );
}

const LOG: &str = "route { do_accounting(\"log\"); t_relay(); }";
const DB: &str = "route { do_accounting(\"db\", \"missed\"); t_relay(); }";

fn early_media() {
    for (value, expected) in [("1", 1), ("0", 0)] {
        let mut node = node(&modparam("early_media", value), LOG);
        let forwarded = forward(&mut node, &request("INVITE", "a", ""));
        node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
        node.udp(CALLEE, &reply_to(&forwarded, 183, "v=0\r\n"));
        let lines = lines(&mut node);
        assert_eq!(lines.len(), expected, "{lines:?}");
        assert!(lines.iter().all(|l| field(l, "code") == Some("183")));
    }
}

fn report_cancels() {
    for (value, expected) in [("1", 1), ("0", 0)] {
        let mut node = node(&modparam("report_cancels", value), LOG);
        forward(&mut node, &request("INVITE", "a", ""));
        node.udp(CALLER, &request("CANCEL", "a", ""));
        let lines = lines(&mut node);
        assert_eq!(lines.len(), expected, "{lines:?}");
        assert!(lines.iter().all(|l| field(l, "method") == Some("CANCEL")));
    }
}

fn detect_direction() {
    let routes = "route { loose_route(); do_accounting(\"log\"); t_relay(); }";
    let bye = |tag: &str| {
        let route = "Route: <sip:127.0.0.1;lr;ftag=f>\n";
        let text = request("BYE", "b", route);
        text.replace("tag=f\n", &format!("tag={tag}\n")).replace("bob@h>\n", "bob@h>;tag=x\n")
    };
    for (value, tag, expected) in
        [("1", "f", ("f", "x")), ("1", "g", ("x", "g")), ("0", "g", ("g", "x"))]
    {
        let mut node = node(&modparam("detect_direction", value), routes);
        let forwarded = forward(&mut node, &bye(tag));
        node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
        let lines = lines(&mut node);
        let tags = (field(&lines[0], "from_tag").unwrap(), field(&lines[0], "to_tag").unwrap());
        assert_eq!(tags, expected, "{value} {tag}");
    }
}

fn log_level() {
    let level = |value: &str| {
        let mut node = node(&modparam("log_level", value), LOG);
        call(&mut node, "INVITE", 200);
        let logs = node.logs();
        logs.into_iter().find(|(_, text)| text.starts_with("ACC: ")).map(|(level, _)| level)
    };
    assert_eq!(level("1"), Some(tandem_engine::log::Level::Warning));
    assert_eq!(level("4"), None, "above the node's own level");
}

fn log_facility() {
    let mut node = node(&modparam("log_facility", "LOG_LOCAL0"), LOG);
    call(&mut node, "INVITE", 200);
    assert_eq!(lines(&mut node).len(), 1, "it goes where the node's log goes");
}

fn extra_fields() {
    let params = modparam("extra_fields", "log: who; gw->gateway")
        + &modparam("extra_fields", "db: who->sip_reason2");
    let route = "route { $acc_extra(who) = $fU; do_accounting(\"log\"); t_relay(); }";
    let mut node = node(&params, route);
    call(&mut node, "INVITE", 200);
    let lines = lines(&mut node);
    assert!(lines[0].ends_with(";who=alice;gateway="), "{lines:?}");
    for wrong in ["who", "bd: x", "aa: x", "db: a b"] {
        let params = modparam("extra_fields", wrong);
        assert!(errors(&params, LOG).contains("extra_fields"), "{wrong}");
    }
}

fn leg_fields() {
    let params = modparam("leg_fields", "log: to->callee");
    let route = "route { $acc_leg(to) = $rU; do_accounting(\"log\"); t_relay(); }";
    let mut with = node(&params, route);
    call(&mut with, "INVITE", 200);
    assert!(lines(&mut with)[0].ends_with(";callee=bob"));
    assert!(errors(&modparam("leg_fields", "x"), LOG).contains("leg_fields"));
}

fn db_url() {
    let mut with = node("", DB);
    call(&mut with, "INVITE", 200);
    assert_eq!(rows(&mut with, "acc").rows.len(), 1);
    let without = common::script("", DB).replace("modparam(\"acc\", \"db_url\"", "#");
    let errors = TestNode::try_new(&without, common::MODULES).err().unwrap();
    assert!(errors.contains("set db_url"), "{errors}");
}

/// A table with the columns of acc stands in for one with another name.
fn db_table_acc() {
    let mut node = node(&modparam("db_table_acc", "missed_calls"), DB);
    call(&mut node, "INVITE", 200);
    assert_eq!(rows(&mut node, "missed_calls").rows.len(), 1);
    assert_eq!(rows(&mut node, "acc").rows.len(), 0);
}

fn db_table_missed_calls() {
    let mut node = node(&modparam("db_table_missed_calls", "acc"), DB);
    call(&mut node, "INVITE", 486);
    assert_eq!(rows(&mut node, "acc").rows.len(), 1);
    assert!(errors(&modparam("db_table_missed_calls", "a b"), DB).contains("no table"));
}

fn db_table_avp() {
    let route = "route { $avp(t) = \"missed_calls\"; do_accounting(\"db\"); t_relay(); }";
    let mut node = node(&modparam("db_table_avp", "$avp(t)"), route);
    call(&mut node, "INVITE", 200);
    assert_eq!(rows(&mut node, "missed_calls").rows.len(), 1);
}

/// The value goes into `sip_reason` and the reason into the column of the value.
fn column(param: &str) {
    let standard = param.strip_prefix("acc_").unwrap().strip_suffix("_column").unwrap();
    let swapped = if standard == "callid" { "method" } else { "callid" };
    let plain = value_of("", standard);
    let other = format!("acc_{swapped}_column");
    let params = modparam(param, swapped) + &modparam(&other, standard);
    assert_eq!(value_of(&params, swapped), plain, "{param}");
    assert!(!plain.is_empty() && value_of("", swapped) != plain);
}

fn value_of(params: &str, column: &str) -> String {
    let mut node = node(params, DB);
    call(&mut node, "INVITE", 200);
    row(&mut node, "acc", &[column]).remove(0)
}

fn time_column() {
    let now = value_of("", "time");
    assert_eq!(now, "1800000000");
    // A column of dates holds what the clock of the host shows.
    let mut abroad = node("", DB);
    abroad.node().zone.set("America/New_York").unwrap();
    call(&mut abroad, "INVITE", 200);
    assert_eq!(row(&mut abroad, "acc", &["time", "created"]), ["1799982000", "1799982000"]);
    let mut node = node(&modparam("acc_time_column", "created2"), DB);
    call(&mut node, "INVITE", 200);
    let refused = node.logs().into_iter().any(|(_, t)| t.contains("no such column: created2"));
    assert!(refused && rows(&mut node, "acc").rows.is_empty());
    assert_eq!(node.spool.files.keys().filter(|n| n.starts_with("refused-")).count(), 1);
}

fn do_accounting() {
    let mut node = node("", "route { do_accounting(\"log|db\", \"failed\"); t_relay(); }");
    let forwarded = forward(&mut node, &request("INVITE", "a", ""));
    node.advance_ms(2_000);
    node.udp(CALLEE, &reply_to(&forwarded, 200, ""));
    node.advance_ms(30);
    let said = lines(&mut node);
    assert_eq!(
        said,
        ["ACC: transaction answered: timestamp=1800000002;created=1800000000;setuptime=2;\
             method=INVITE;from_tag=f;to_tag=t;call_id=c;code=200;reason=Text200"]
    );
    let columns =
        ["method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason", "time", "duration"];
    let values = row(&mut node, "acc", &columns);
    assert_eq!(values, ["INVITE", "f", "t", "c", "200", "Text200", "1800000002", "0"]);
    assert_eq!(row(&mut node, "acc", &["setuptime", "created"]), ["2", "1800000000"]);

    let route =
        |flags: &str| format!("route {{ do_accounting(\"log\", \"{flags}\"); t_relay(); }}");
    for (flags, code, expected) in [
        ("", 486, &[][..]),
        ("failed", 486, &["transaction answered"]),
        ("missed", 486, &["call missed"]),
        ("missed|failed", 486, &["call missed", "transaction answered"]),
        ("missed", 200, &["transaction answered"]),
        ("cdr", 200, &["transaction answered"]),
    ] {
        let mut node = common::node("", &route(flags));
        call(&mut node, "INVITE", code);
        let kinds: Vec<String> =
            lines(&mut node).iter().map(|l| l.split(": ").nth(1).unwrap().to_owned()).collect();
        assert_eq!(kinds, expected, "{flags} {code}");
    }
    let aaa = errors("", "route { do_accounting(\"aaa\"); }");
    assert!(aaa.contains("accounts to a RADIUS server, and there is none"), "{aaa}");
    assert!(errors("", "route { do_accounting(\"log\", \"mised\"); }").contains("missed"));
}

fn drop_accounting() {
    for (args, expected) in [
        ("", [false, false]),
        ("\"log\"", [false, true]),
        ("\"log|db\", \"missed\"", [true, true]),
        (", \"failed\"", [true, true]),
    ] {
        let route = format!(
            "route {{ do_accounting(\"log|db\", \"missed\"); drop_accounting({args}); t_relay(); }}"
        );
        let mut node = node("", &route);
        call(&mut node, "INVITE", 200);
        let seen = [lines(&mut node).len() == 1, rows(&mut node, "acc").rows.len() == 1];
        assert_eq!(seen, expected, "drop_accounting({args})");
    }
}

fn acc_log_request() {
    let mut node = node(
        "",
        "route { acc_log_request(\"404 Not found\"); do_accounting(\"log\"); \
         acc_log_request(\"some text\"); sl_send_reply(404, \"x\"); }",
    );
    node.udp(CALLER, &request("INVITE", "a", ""));
    let said = lines(&mut node);
    assert_eq!(
        said[0],
        "ACC: request accounted: timestamp=1800000000;method=INVITE;from_tag=f;to_tag=;\
         call_id=c;code=404;reason=Not found"
    );
    assert_eq!(field(&said[1], "created"), Some("1800000000"));
    assert_eq!((field(&said[1], "code"), field(&said[1], "reason")), (Some(""), Some("some text")));
    assert_eq!(said.len(), 2, "a request without a transaction has no other record");
}

fn acc_db_request() {
    let mut node = node("", "route { acc_db_request(\"403 No\", \"missed_calls\"); }");
    node.udp(CALLER, &request("INVITE", "a", ""));
    node.advance_ms(30);
    let columns = ["sip_code", "sip_reason", "setuptime", "created"];
    assert_eq!(row(&mut node, "missed_calls", &columns), ["403", "No", "0", "1800000000"]);
}

fn acc_evi_request() {
    let mut node = node(
        "",
        "route { acc_evi_request(\"403 No\"); }\n\
         event_route[E_ACC_EVENT] { xlog(\"L_NOTICE\", \"plain $param(sip_code)\"); }\n\
         event_route[E_ACC_MISSED_EVENT] { xlog(\"L_NOTICE\", \"missed $param(sip_code) \
         $param(created) $param(setuptime)\"); }",
    );
    node.udp(CALLER, &request("INVITE", "a", ""));
    node.udp(CALLER, &request("MESSAGE", "b", ""));
    let said: Vec<String> = node.logs().into_iter().map(|(_, t)| t).collect();
    assert_eq!(said, ["missed 403 1800000000 0", "plain 403"]);
}

fn acc_extra() {
    let params =
        modparam("extra_fields", "db: who->from_tag2; n") + &modparam("extra_fields", "log: n");
    let routes = "route { t_on_failure(\"f\"); $acc_extra(n) = 7; do_accounting(\"log\"); \
         xlog(\"L_NOTICE\", \"$acc_extra(n) $acc_extra(who)\"); t_relay(); }\n\
         failure_route[f] { do_accounting(\"log\", \"failed\"); \
         $acc_extra(n) = \"was \" + $acc_extra(n); }";
    let mut node = node(&params, routes);
    call(&mut node, "INVITE", 486);
    let said: Vec<String> = node.logs().into_iter().map(|(_, t)| t).collect();
    assert_eq!(said[0], "7 <null>");
    assert!(said[1].ends_with(";n=was 7"), "{said:?}");
    let route = "route { $acc_extra(m) = 1; }";
    let unknown = errors(&params, route);
    assert!(unknown.contains("$acc_extra(m)") && unknown.contains("did you mean"), "{unknown}");
}

fn legs() {
    let params =
        modparam("leg_fields", "log: to; note") + &modparam("leg_fields", "db: to->method2");
    let route = "route { $acc_leg(to) = \"a\"; acc_new_leg(); $acc_leg(to) = \"b\"; \
         $(acc_leg(note)[0]) = \"first\"; \
         xlog(\"L_NOTICE\", \"$acc_current_leg $(acc_leg(to)[0]) $acc_leg(to) $acc_leg(note)\"); \
         do_accounting(\"log\"); t_relay(); }";
    let mut with = node(&params, route);
    call(&mut with, "INVITE", 200);
    let said: Vec<String> = with.logs().into_iter().map(|(_, t)| t).collect();
    assert_eq!(said[0], "1 a b <null>");
    assert!(said[1].ends_with(";to=a;note=first;to=b;note="), "{said:?}");

    // One row for each leg.
    let params = modparam("leg_fields", "db: to->sip_code2");
    let swap = modparam("acc_sip_code_column", "method") + &modparam("acc_method_column", "to_tag");
    let swap = swap + &modparam("acc_to_tag_column", "sip_code");
    let params = params.replace("sip_code2", "sip_reason");
    let swap = swap + &modparam("acc_sip_reason_column", "duration");
    let route =
        route.replace("$(acc_leg(note)[0]) = \"first\"; ", "").replace("$acc_leg(note)", "");
    let mut node = node(&(params + &swap), &route.replace("\"log\"", "\"db\""));
    call(&mut node, "INVITE", 200);
    let rows = rows(&mut node, "acc");
    let all: Vec<String> = (0..2).map(|n| text(rows.get(n, "sip_reason").unwrap())).collect();
    assert_eq!((all, rows.rows.len()), (vec!["a".to_owned(), "b".to_owned()], 2));

    // And one event; a database that shows none of their fields has one row.
    let params = modparam("leg_fields", "evi: to->callee");
    let routes = "route { $acc_leg(to) = \"a\"; acc_new_leg(); $acc_leg(to) = \"b\"; \
         do_accounting(\"db|evi\"); t_relay(); } event_route[E_ACC_EVENT] { \
         xlog(\"L_NOTICE\", \"$param(sip_code) $param(callee)\"); }";
    let mut node = common::node(&params, routes);
    call(&mut node, "INVITE", 200);
    let said: Vec<String> = node.logs().into_iter().map(|(_, t)| t).collect();
    assert_eq!(said, ["200 a", "200 b"]);
    assert_eq!(common::rows(&mut node, "acc").rows.len(), 1);
}

const EVENTS: &str = "event_route[E_ACC_EVENT] { xlog(\"L_NOTICE\", \"event \
     $param(method) $param(from_tag) $param(to_tag) $param(callid) $param(sip_code) \
     $param(sip_reason) $param(time) $param(source) $param(created)\"); }\n\
     event_route[E_ACC_MISSED_EVENT] { xlog(\"L_NOTICE\", \"missed \
     $param(sip_code) $param(created) $param(setuptime)\"); }";

fn event() {
    let routes = format!(
        "route {{ $acc_extra(src) = $si; do_accounting(\"evi\", \"missed\"); t_relay(); }}\n{EVENTS}"
    );
    let mut node = node(&modparam("extra_fields", "evi: src->source"), &routes);
    call(&mut node, "INVITE", 200);
    let said: Vec<String> = node.logs().into_iter().map(|(_, t)| t).collect();
    // E_ACC_EVENT has neither created nor setuptime.
    assert_eq!(said, ["event INVITE f t c 200 Text200 1800000000 127.0.0.9 <null>"]);
}

fn missed_event() {
    let routes = format!(
        "route {{ t_on_failure(\"f\"); do_accounting(\"evi\", \"missed\"); t_relay(); }}\n\
         failure_route[f] {{ do_accounting(\"evi\", \"missed\"); t_relay(); }}\n{EVENTS}"
    );
    let mut node = node("", &routes);
    let first = forward(&mut node, &request("INVITE", "a", ""));
    node.udp(CALLEE, &reply_to(&first, 486, ""));
    let sent = sent_to(&mut node, CALLEE);
    let second = sent.iter().find(|m| m.starts_with("INVITE")).unwrap();
    node.advance_ms(3_000);
    node.udp(CALLEE, &reply_to(second, 404, ""));
    let said: Vec<String> = node.logs().into_iter().map(|(_, t)| t).collect();
    // E_ACC_MISSED_EVENT comes for each failure that was marked.
    assert_eq!(said, ["missed 486 1800000000 0", "missed 404 1800000000 3"]);
}

fn cdr_event() {
    let initial = "create_dialog(); $acc_extra(who) = $fU; do_accounting(\"evi\", \"cdr\");";
    let params = modparam("extra_fields", "evi: who");
    let routes = "event_route[E_ACC_CDR] { xlog(\"L_NOTICE\", \"cdr $param(sip_code) $param(who) \
         $param(duration) $param(ms_duration) $param(setuptime) $param(created)\"); }";
    let mut node = common::with_dialogs_and(&params, initial, "", routes);
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    node.advance_ms(1_001);
    common::hang_up(&mut node, &ok);
    let said: Vec<String> = node.logs().into_iter().map(|(_, t)| t).collect();
    assert_eq!(said, ["cdr 200 alice 2 1001 0 1800000000"]);
}

fn dialog_fields() {
    let within = "if (acc_load_ctx_from_dlg()) xlog(\"L_NOTICE\", \"in $acc_extra(who)\"); \
         if (acc_unload_ctx_from_dlg()) xlog(\"L_NOTICE\", \"out $acc_extra(who)\"); \
         if (!acc_unload_ctx_from_dlg()) xlog(\"L_NOTICE\", \"twice\");";
    let initial = "create_dialog(); $acc_extra(who) = $fU; do_accounting(\"db\", \"cdr\");";
    let mut node = common::with_dialogs(&modparam("extra_fields", "log: who"), initial, within);
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    common::hang_up(&mut node, &ok);
    let said: Vec<String> = node.logs().into_iter().map(|(_, t)| t).collect();
    assert_eq!(said, ["in alice", "out alice", "twice"]);
}

fn spool() {
    let mut node = node("", DB);
    let empty = node.mi("tandem:cdr_spool", Json::Null);
    assert_eq!(empty["result"]["waiting"], 0);
    node.db_state = DbState::Down;
    call(&mut node, "INVITE", 200);
    let shown = node.mi("tandem:cdr_spool", Json::Null)["result"].clone();
    assert_eq!((&shown["waiting"], &shown["database"]), (&json!(1), &json!("away")));
    assert_eq!(shown["Records"][0]["callid"], "c");
}

fn claim() {
    let initial = "create_dialog(); do_accounting(\"db\", \"cdr\");";
    let mut node = common::with_dialogs(CLUSTER, initial, "");
    node.advance_ms(10);
    node.db_state = DbState::Slow;
    let invite = common::dial(&mut node);
    let ok = common::answer(&mut node, &invite);
    common::hang_up(&mut node, &ok);
    node.advance_ms(40);
    // Node 1 is this one: it owes the record itself.
    assert_eq!(node.mi("tandem:cdr_claim", json!({"of": 7}))["result"]["Claimed"], 0);
    assert_eq!(node.mi("tandem:cdr_claim", json!({"of": 1}))["result"]["Claimed"], 1);
    node.db_state = DbState::Up;
    node.advance_ms(40);
    node.answer_queries();
    node.advance_ms(40);
    assert_eq!(rows(&mut node, "acc").rows.len(), 1, "claimed or not, it is written once");
    assert_eq!(node.mi("tandem:cdr_claim", json!({"of": 1}))["result"]["Claimed"], 0);
    assert!(node.mi("tandem:cdr_claim", json!({"of": "x"}))["error"].is_object());
}

/// A node of a cluster whose other node is not there.
const CLUSTER: &str = "socket=bin:127.0.0.1:5566\nloadmodule \"proto_bin.so\"\n\
     loadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"db_mode\", 0)\n\
     modparam(\"clusterer\", \"my_node_id\", 1)\n\
     modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:127.0.0.1:5566\")\n\
     modparam(\"clusterer\", \"neighbor_node_info\", \
     \"cluster_id=1, node_id=2, url=bin:127.0.0.2:5566\")\n\
     modparam(\"dialog\", \"dialog_replication_cluster\", 1)\n";
