//! What is told of the work of workers and scripts.

use serde_json::json;
use tandem_engine::testing::{Check, TestNode};

use super::{PHONE, REQUEST, ask, node};

pub(super) const CHECKS: &[Check] = &[
    ("mi core:profiling_proc", || {
        let mut node = node("", "exit;");
        node.node().set_pid(7);
        let ask = |node: &mut _, params| ask(node, "core:profiling_proc", params);
        let shown = |level: u8| {
            json!({"Processes": [
                {"ID": 0, "PID": 7, "Profiling level": level, "Type": "attendant"},
            ]})
        };
        assert_eq!(ask(&mut node, json!(null)), shown(0));
        assert_eq!(ask(&mut node, json!({"id": 0, "level": 2})), "OK");
        assert_eq!(ask(&mut node, json!({"pid": 7})), shown(2));
        assert_eq!(ask(&mut node, json!({"level": 0})), "OK");
        assert_eq!(ask(&mut node, json!({"id": 0})), shown(0));
        for wrong in [json!({"id": 5}), json!({"pid": 8}), json!({"level": -1})] {
            assert_eq!(ask(&mut node, wrong)["code"], -32602);
        }
    }),
    ("event E_PROFILING_SCRIPT", || {
        let mut node = told(
            "E_PROFILING_SCRIPT",
            "$param(verb) $param(type) $param(name) \
            $param(depth) $param(line) $param(status)",
        );
        set(&mut node, 1);
        node.udp(PHONE, REQUEST);
        assert!(lines(&mut node).is_empty(), "scripts are told of from level 2 on");
        set(&mut node, 2);
        node.udp(PHONE, REQUEST);
        let expected = [
            "# start route  0 7 0",
            "# start route sub 1 9 0",
            "# start function is_myself 2 9 0",
            "# end function is_myself 2 9 -1",
            "# end route sub 1 9 -1",
            "# end route  0 7 -1",
        ];
        assert_eq!(lines(&mut node), expected);
    }),
];

pub(super) fn inputs_are_told() {
    let mut node = told("E_PROFILING_PROC", "$param(verb) $param(name) $param(sec).$param(usec)");
    node.udp(PHONE, REQUEST);
    assert!(lines(&mut node).is_empty());
    set(&mut node, 1);
    lines(&mut node);
    node.took(0);
    lines(&mut node);
    node.udp(PHONE, REQUEST);
    node.took(250);
    let now = node.now();
    let at = |us: u64| format!("{}.{}", now.unix_ms / 1_000, now.unix_ms % 1_000 * 1_000 + us);
    let expected =
        [format!("# start UDP message {}", at(0)), format!("# end UDP message {}", at(250))];
    assert_eq!(lines(&mut node), expected);
}

/// A node that writes the values of an event.
fn told(event: &str, values: &str) -> TestNode {
    let route = format!(
        "\nroute(sub); }}\nroute[sub] {{ is_myself(\"nobody.invalid\"); }}\n\
         event_route[{event}] {{ xlog(\"L_NOTICE\", \"# {values}\"); "
    );
    node("", &route)
}

fn set(node: &mut TestNode, level: u8) {
    assert_eq!(ask(node, "profiling_proc", json!({"level": level})), "OK");
}

fn lines(node: &mut TestNode) -> Vec<String> {
    let logs = node.logs().into_iter().map(|(_, l)| l);
    logs.filter(|l| l.starts_with('#')).collect()
}
