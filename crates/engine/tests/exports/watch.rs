//! What the node tells of itself.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;
use tandem_engine::testing::Check;

use super::statistics::count;
use super::{PHONE, REQUEST, ask, node, said};

pub(super) const CHECKS: &[Check] = &[
    ("param exec_msg_threshold", slow_messages_are_told),
    ("event E_CORE_THRESHOLD", slow_messages_are_told),
    ("param event_shm_threshold", memory_that_runs_short_is_told),
    ("event E_CORE_SHM_THRESHOLD", memory_that_runs_short_is_told),
    ("param log_event_enabled", lines_become_events),
    ("param log_event_level_filter", lines_become_events),
    ("event E_CORE_LOG", lines_become_events),
    ("param event_pkg_threshold", memory_that_runs_short_is_told),
    ("event E_CORE_PKG_THRESHOLD", memory_that_runs_short_is_told),
    ("event E_CORE_PROC_AUTO_SCALE", helpers_are_told_of),
    ("event E_PROFILING_PROC", super::profiling::inputs_are_told),
    ("mi core:log_level_filter", || {
        let mut node = node("stderror_level_filter = 2", "exit;");
        let filter = |node: &mut _, params| ask(node, "core:log_level_filter", params);
        assert_eq!(filter(&mut node, json!(["stderror"])), json!({"Log level filter": 2}));
        assert_eq!(filter(&mut node, json!(["syslog"])), json!({"Log level filter": 0}));
        let warning = tandem_engine::log::Level::Warning;
        assert!(node.node().writes_stderr_at(warning));
        assert_eq!(filter(&mut node, json!(["stderror", -1])), json!("OK"));
        assert!(!node.node().writes_stderr_at(warning));
        assert_eq!(filter(&mut node, json!(["printer"]))["code"], 404);
        assert_eq!(filter(&mut node, json!(["syslog", 9]))["code"], -32602);
    }),
    ("mi core:log_mute_state", || {
        let mut node = node("", "exit;");
        let mute = |node: &mut _, params| ask(node, "log_mute_state", params);
        assert_eq!(mute(&mut node, json!(["syslog"])), json!({"mute state": 0}));
        assert_eq!(mute(&mut node, json!(["syslog", 1])), json!("OK"));
        assert_eq!(mute(&mut node, json!(["syslog"])), json!({"mute state": 1}));
        let error = tandem_engine::log::Level::Error;
        assert!(!node.node().log_outputs().syslog.takes(error));
        assert!(node.node().log_outputs().stderr.takes(error));
        assert_eq!(mute(&mut node, json!(["printer"]))["code"], 404);
    }),
    ("variable argv", || {
        assert_eq!(said("", "$argv(site)"), "here");
        assert_eq!(said("", "$argv(other)"), "<null>");
    }),
];

pub(super) fn slow_messages_are_told() {
    let route = "exit; }\nevent_route[E_CORE_THRESHOLD] { \
        xlog(\"L_NOTICE\", \"# $param(source) $param(time)\");";
    for (limit, told) in [(0, 0), (500, 1), (2_000, 0)] {
        let mut node = node(&format!("exec_msg_threshold = {limit}"), route);
        node.took(1_000);
        let logs = node.logs();
        let said = logs.iter().filter(|(_, l)| l == "# msg processing 1000").count();
        assert_eq!((said, count(&mut node, "slow_messages")), (told, told as u64), "{logs:?}");
    }
}

fn memory_that_runs_short_is_told() {
    let line = "xlog(\"L_NOTICE\", \"# $param(usage) $param(threshold) $param(used) $param(size)";
    let route = format!(
        "exit; }}\nevent_route[E_CORE_SHM_THRESHOLD] {{ {line}\"); }}\n\
         event_route[E_CORE_PKG_THRESHOLD] {{ {line} $param(pid)\");"
    );
    let told = |threshold: &str| {
        let mut node = node(threshold, &route);
        node.node().set_pid(7);
        node.node().memory.set_total(200);
        for used in [100, 180, 180, 190, 100, 100] {
            node.node().memory.set_used(used);
            node.advance_ms(1_000);
        }
        let logs = node.logs().into_iter().map(|(_, l)| l);
        logs.filter(|l| l.starts_with('#')).collect::<Vec<_>>()
    };
    let expected = ["# 90 80 180 200", "# 95 80 190 200", "# 50 80 100 200"];
    assert_eq!(told("event_shm_threshold = 80"), expected);
    assert_eq!(told("event_pkg_threshold = 80"), expected.map(|line| format!("{line} 7")));
    assert!(told("").is_empty());
}

fn helpers_are_told_of() {
    let route = "exit; }\nevent_route[E_CORE_PROC_AUTO_SCALE] { xlog(\"L_NOTICE\", \
        \"# $param(group_type) $param(group_filter) $param(scale) $param(process_id)\");";
    let mut node = node("", route);
    node.scaled(2, true);
    node.scaled(2, false);
    let logs: Vec<_> = node.logs().into_iter().map(|(_, l)| l).collect();
    assert_eq!(logs, ["up", "down"].map(|way| format!("# UDP udp:127.0.0.1:5060 {way} 2")));
}

fn lines_become_events() {
    let route = "xlog(\"L_NOTICE\", \"one\"); xlog(\"L_ERR\", \"two\"); }\n\
        event_route[E_CORE_LOG] { \
        xlog(\"L_NOTICE\", \"# $param(level) $param(prefix)$param(message)\");";
    let told = |globals: &str| {
        let mut node = node(globals, route);
        node.logs();
        node.udp(PHONE, REQUEST);
        let logs = node.logs().into_iter().map(|(_, l)| l);
        logs.filter(|l| l.starts_with('#')).collect::<Vec<_>>()
    };
    assert!(told("").is_empty());
    assert_eq!(told("log_event_enabled = 1"), ["# NOTICE one", "# ERROR two"]);
    let filtered = "log_event_enabled = 1\nlog_event_level_filter = -1\nlog_prefix = \"p:\"";
    assert_eq!(told(filtered), ["# ERROR p:two"]);
}

pub(super) fn a_call_with_a_bug_is_left_alone() {
    let mut node = node("", "xlog(\"L_NOTICE\", \"# $ci\"); if ($ci == \"bad\") panic(); ");
    let bad = REQUEST.replace("Call-ID: c1", "Call-ID: bad");
    assert!(catch_unwind(AssertUnwindSafe(|| node.udp(PHONE, &bad))).is_err());
    node.failed();
    node.udp(PHONE, &bad);
    node.udp(PHONE, REQUEST);
    let logs: Vec<_> = node.logs().into_iter().map(|(_, l)| l).collect();
    assert_eq!(logs, ["# c1"], "what the failed step said is lost, and the others are served");
    assert_eq!(count(&mut node, "failed_steps"), 1);
    assert_eq!(count(&mut node, "quarantined_messages"), 1);
    node.advance_ms(65_000);
    assert!(
        catch_unwind(AssertUnwindSafe(|| node.udp(PHONE, &bad))).is_err(),
        "it is let in again"
    );
}
