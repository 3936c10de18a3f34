//! Parameters about matching, and those without a meaning here.

use tandem_engine::testing::{Check, TestNode};
use tandem_tm::MODULE as TM;

use crate::common::*;

pub(super) const CHECKS: &[Check] = &[
    ("param ruri_matching", || old_match("ruri_matching", |text| text.replace("bob", "carol"))),
    ("param via1_matching", || old_match("via1_matching", |text| text.replace("5060;", "5099;"))),
    ("param tm_replication_cluster", anycast),
    ("param cluster_param", anycast),
    ("param cluster_auto_cancel", anycast),
    ("function t_anycast_replicate", anycast),
    ("statistic cluster_reply_sent", anycast),
    ("statistic cluster_request_sent", anycast),
    ("statistic cluster_cancel_sent", anycast),
    ("statistic cluster_reply_recv", anycast),
    ("statistic cluster_request_recv", anycast),
    ("statistic cluster_cancel_recv", anycast),
    ("param delete_timer", || moot("delete_timer")),
    ("param unix_tx_timeout", || moot("unix_tx_timeout")),
    ("param pass_provisional_replies", || moot("pass_provisional_replies")),
    ("param syn_branch", || moot("syn_branch")),
    ("param timer_partitions", || moot("timer_partitions")),
];

/// What needs two nodes is in `tests/anycast.rs`; alone nothing is handed on.
fn anycast() {
    let mut node = node("route { t_anycast_replicate(); xlog(\"rc $rc\"); }");
    node.udp(CALLER, &request("CANCEL", "a", ""));
    assert!(logged(&mut node, "rc -2"));
    for name in
        ["reply_sent", "request_sent", "cancel_sent", "reply_recv", "request_recv", "cancel_recv"]
    {
        assert_eq!(stat(&mut node, &format!("cluster_{name}")), 0);
    }
    let script = |params: &str| {
        format!(
            "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"tm.so\"\n\
             {params}\nroute {{ exit; }}"
        )
    };
    let alone = script("modparam(\"tm\", \"tm_replication_cluster\", 1)");
    let errors = TestNode::try_new(&alone, MODULES).err().unwrap();
    assert!(errors.contains("clusterer"), "{errors}");
    let named = script("modparam(\"tm\", \"cluster_param\", \"a b\")");
    assert!(TestNode::try_new(&named, MODULES).err().unwrap().contains("no name of a Via"));
    let off = script("modparam(\"tm\", \"cluster_auto_cancel\", 0)");
    assert!(TestNode::try_new(&off, MODULES).is_ok());
}

/// Without the cookie, two requests that differ in one thing are the same or not.
fn old_match(param: &str, change: fn(&str) -> String) {
    for (value, created) in [(1, 2), (0, 1)] {
        let params = format!("modparam(\"tm\", \"{param}\", {value})");
        let mut node = node_with(&params, "route { t_reply(200, \"OK\"); }");
        let first = request("OPTIONS", "a", "").replace(";branch=z9hG4bKa", ";branch=1");
        node.udp(CALLER, &first);
        // The To would tell as well.
        let second = change(&first).replace("<sip:carol@h>", "<sip:bob@h>");
        assert_ne!(first, second);
        node.udp(CALLER, &second);
        assert_eq!(stat(&mut node, "UAS_transactions"), created, "{param} {value}");
    }
}

/// It is taken, and the table says why it does nothing.
fn moot(param: &str) {
    let row = TM.params.iter().find(|p| p.name == param).unwrap();
    assert!(row.moot.is_some());
    let script = format!(
        "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"tm.so\"\n\
         modparam(\"tm\", \"{param}\", 1)\nroute {{ exit; }}"
    );
    assert!(TestNode::try_new(&script, MODULES).is_ok());
}
