//! Checks of entries that need a second node.

use serde_json::{Value as Json, json};
use tandem_engine::testing::{Nodes, TestNode};

use super::{Pair, script};
use crate::common::{MODULES, node, set};

/// `dialog_replication_cluster`.
pub fn dialogs_are_on_all_nodes_of_the_cluster() {
    let mut pair = Pair::new("", "");
    pair.talk(0, "c");
    assert_eq!(pair.all(1).len(), 1);
    let mut apart = Pair::of(vec![script(1, "", ""), script(2, "", "")]);
    apart.talk(0, "c");
    assert_eq!(apart.all(1).len(), 0);
    let alone = set("dialog_replication_cluster", "1");
    let text = crate::common::script(&alone, "", "");
    assert!(TestNode::try_new(&text, MODULES).err().unwrap().contains("clusterer"));
}

/// `cluster_auto_sync`: it makes no difference.
pub fn nodes_compare_always() {
    let mut pair = Pair::new(&set("cluster_auto_sync", "0"), "");
    pair.kill(1);
    pair.talk(0, "c");
    pair.boot(1);
    pair.advance_ms(12_000);
    assert_eq!(pair.all(1).len(), 1);
}

/// `dialog:cluster_sync`.
pub fn dialogs_can_be_asked_for() {
    let mut pair = Pair::new("", "");
    pair.talk(0, "c");
    for command in ["dialog:cluster_sync", "dlg_cluster_sync"] {
        assert_eq!(pair.mi(1, command, Json::Null)["result"], "OK");
        pair.advance_ms(3_000);
        assert_eq!(pair.all(1).len(), 1);
    }
    assert_eq!(pair.mi(1, "dialog:cluster_sync", json!({"sharing_tag": "vip"}))["result"], "OK");
    pair.advance_ms(3_000);
    let unknown = pair.mi(1, "dialog:cluster_sync", json!({"sharing_tag": "vap"}));
    assert_eq!(unknown["error"]["code"], 500);
    let mut alone = node("", "", "");
    let refused = alone.mi("dialog:cluster_sync", Json::Null);
    let wanted = json!({"code": 400, "message": "Dialog replication disabled"});
    assert_eq!(refused["error"], wanted);
}

/// The parameters of shared counts: packets of node 1, seen by node 2.
pub fn counts_are_told() {
    let params = set("profile_replication_cluster", "1")
        + &set("replicate_profiles_timer", "1000")
        + &set("replicate_profiles_buffer", "200")
        + &set("replicate_profiles_check", "1")
        + &set("replicate_profiles_expire", "3");
    let mut nodes = Nodes::new(MODULES, vec![script(1, &params, ""), script(2, &params, "")]);
    nodes.advance_ms(12_000);
    let status = nodes.mi(1, "clusterer_list_cap", Json::Null).to_string();
    assert!(status.contains("dialog-prof-repl"), "{status}");
}
