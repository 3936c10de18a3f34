//! Checks of entries that need a second node.

use serde_json::{Value as Json, json};
use tandem_engine::testing::TestNode;

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

/// The statistics about replication.
pub fn changes_are_counted() {
    let mut pair = Pair::new("", "");
    let phones = pair.talk(0, "c");
    let figures = |pair: &mut Pair, at: usize, names: [&str; 3]| {
        let full = names.map(|name| format!("dialog:{name}"));
        let answer = pair.mi(at, "statistics:get", json!({ "statistics": full }));
        full.map(|name| answer["result"][name].as_u64().unwrap())
    };
    let sent = ["create_sent", "update_sent", "delete_sent"];
    let received = ["create_recv", "update_recv", "delete_recv"];
    let [created, updated, deleted] = figures(&mut pair, 0, sent);
    assert_eq!((created, deleted), (1, 0));
    assert!(updated >= 1);
    assert_eq!(figures(&mut pair, 1, received), [1, updated, 0]);
    pair.hang_up(0, &phones);
    assert_eq!(figures(&mut pair, 0, sent)[2], 1);
    assert_eq!(figures(&mut pair, 1, received)[2], 1);
}

/// The parameters of shared counts: what node 2 believes of node 1.
pub fn counts_are_told() {
    let base = set("profile_replication_cluster", "1") + &set("profiles_with_value", "\"in/b\"");
    let size = |nodes: &mut Pair, at: usize| {
        let size = nodes.mi(at, "dialog:profile_get_size", json!({"profile": "in/b"}));
        size["result"]["Profile"]["count"].as_u64().unwrap()
    };
    let initial = "set_dlg_profile(\"in/b\", \"$ci\");";
    let mut pair = Pair::new(&(base.clone() + &set("replicate_profiles_check", "1")), initial);
    pair.talk(0, "c1");
    pair.advance_ms(300);
    assert_eq!((size(&mut pair, 0), size(&mut pair, 1)), (1, 1));
    // Alone, each counts its own; told rarely, the other knows later.
    let mut apart = Pair::new(&set("profiles_with_value", "\"in/b\""), initial);
    apart.talk(0, "c1");
    apart.advance_ms(300);
    assert_eq!((size(&mut apart, 0), size(&mut apart, 1)), (1, 0));
    let rarely = base.clone() + &set("replicate_profiles_timer", "9000");
    let mut pair = Pair::new(&rarely, initial);
    pair.talk(0, "c1");
    pair.advance_ms(1_000);
    assert_eq!(size(&mut pair, 1), 0);
    pair.advance_ms(9_000);
    assert_eq!(size(&mut pair, 1), 1);
    // What was told is believed for as long as it says.
    let shortly = rarely + &set("replicate_profiles_expire", "2");
    let mut pair = Pair::new(&shortly, initial);
    pair.talk(0, "c1");
    let mut seen = Vec::new();
    for _ in 0..20 {
        pair.advance_ms(500);
        seen.push(size(&mut pair, 1));
    }
    assert!(seen.contains(&1) && seen.last() == Some(&0), "{seen:?}");
    // Small packets say the same.
    let small = base + &set("replicate_profiles_buffer", "100");
    let mut pair = Pair::new(&small, initial);
    (0..6).for_each(|n| drop(pair.talk(0, &format!("call-with-a-long-name-{n}"))));
    pair.advance_ms(300);
    assert_eq!(size(&mut pair, 1), 6);
}
