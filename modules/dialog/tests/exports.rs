//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;
#[path = "exports/data.rs"]
mod data;
#[path = "exports/management.rs"]
mod management;
use crate::pair;
#[path = "exports/requests.rs"]
mod requests;
use crate::stored;

use common::*;
use pair::checks::*;
use serde_json::{Value as Json, json};
use stored::*;
use tandem_engine::testing::{TestNode, cover};

/// Entries about other nodes and databases.
const WITH_OTHERS: &[(&str, fn())] = &[
    ("param dialog_replication_cluster", dialogs_are_on_all_nodes_of_the_cluster),
    ("param profile_replication_cluster", counts_are_told),
    ("param replicate_profiles_timer", counts_are_told),
    ("param replicate_profiles_check", counts_are_told),
    ("param replicate_profiles_buffer", counts_are_told),
    ("param replicate_profiles_expire", counts_are_told),
    ("param cluster_auto_sync", nodes_compare_always),
    ("param db_url", written_at_once),
    ("param db_mode", written_at_once),
    ("param db_update_period", written_by_the_timer),
    ("param db_flush_vals_profiles", values_are_written),
    ("param timer_bulk_del_no", deletes_are_gathered),
    ("param table_name", another_table),
    ("statistic create_sent", changes_are_counted),
    ("statistic update_sent", changes_are_counted),
    ("statistic delete_sent", changes_are_counted),
    ("statistic create_recv", changes_are_counted),
    ("statistic update_recv", changes_are_counted),
    ("statistic delete_recv", changes_are_counted),
    ("mi dialog:db_sync", rows_are_read_again),
    ("mi dialog:restore_db", rows_are_written_again),
    ("mi dialog:cluster_sync", dialogs_can_be_asked_for),
];

#[test]
fn every_entry_has_a_check() {
    let mut checks: Vec<(&str, fn())> = vec![
        ("param enable_stats", enable_stats),
        ("param hash_size", hash_size),
        ("param log_profile_hash_size", moot),
        ("param rr_param", rr_param),
        ("param default_timeout", default_timeout),
        ("param options_ping_interval", requests::options_pings),
        ("param reinvite_ping_interval", requests::reinvite_pings),
        ("param delete_delay", delete_delay),
        ("param dlg_extra_hdrs", requests::extra_headers),
        ("param dlg_match_mode", match_mode),
        ("param race_condition_timeout", requests::race),
        ("param auto_prack_hangup_on_failure", requests::prack),
        ("param auto_prack_fr_timeout", requests::prack),
        ("param profiles_with_value", data::profiles),
        ("param profiles_no_value", data::profiles),
        ("param cachedb_url", data::shared),
        ("param profile_value_prefix", data::shared),
        ("param profile_no_value_prefix", data::shared),
        ("param profile_size_prefix", data::shared),
        ("param profile_timeout", data::shared_ends),
        ("function create_dialog", create),
        ("function match_dialog", matched),
        ("function validate_dialog", requests::validated),
        ("function fix_route_dialog", requests::fixed),
        ("function set_dlg_profile", data::profiles),
        ("function unset_dlg_profile", data::profiles),
        ("function is_in_profile", data::profiles),
        ("function get_profile_size", data::profiles),
        ("function set_dlg_flag", data::flags),
        ("function test_and_set_dlg_flag", data::flags),
        ("function reset_dlg_flag", data::flags),
        ("function is_dlg_flag_set", data::flags),
        ("function store_dlg_value", data::values),
        ("function fetch_dlg_value", data::values),
        ("function get_dialog_info", data::info),
        ("function get_dialog_vals", data::info),
        ("function get_dialogs_by_val", data::info),
        ("function get_dialogs_by_profile", data::info),
        ("function set_dlg_sharing_tag", data::tag),
        ("function unload_dialog_ctx", data::unloaded),
        ("function dlg_on_answer", data::routes),
        ("function dlg_on_timeout", data::routes),
        ("function dlg_on_hangup", data::routes),
        ("function dlg_send_sequential", requests::sequential),
        ("function dlg_inc_cseq", requests::counted_up),
        ("variable DLG_count", data::variables),
        ("variable DLG_lifetime", data::variables),
        ("variable DLG_flags", data::flags),
        ("variable dlg_val", data::values),
        ("variable DLG_end_reason", data::variables),
        ("variable DLG_timeout", data::timeout),
        ("variable DLG_json", data::variables),
        ("variable DLG_ctx_json", data::variables),
        ("variable DLG_del_delay", data::deletion),
        ("variable DLG_status", within),
        ("variable DLG_did", within),
        ("variable DLG_dir", within),
        ("mi dialog:list", list),
        ("mi dialog:list_ctx", list),
        ("mi dialog:end_dlg", management::end),
        ("mi dialog:push_var", management::push),
        ("mi dialog:send_sequential", management::send),
        ("mi dialog:profile_get_size", management::profiles),
        ("mi dialog:profile_list_dlgs", management::profiles),
        ("mi dialog:profile_get_values", management::profiles),
        ("mi dialog:list_all_profiles", management::profiles),
        ("mi dialog:profile_end_dlgs", management::ends_profile),
        ("mi dialog:set_profile", management::edits),
        ("mi dialog:unset_profile", management::edits),
        ("statistic active_dialogs", statistics),
        ("statistic early_dialogs", statistics),
        ("statistic processed_dialogs", statistics),
        ("statistic expired_dialogs", statistics),
        ("statistic failed_dialogs", statistics),
        ("event E_DLG_STATE_CHANGED", states),
    ];
    checks.extend(WITH_OTHERS);
    let columns = tandem_dialog::MODULE.params.iter().map(|p| p.name);
    for name in columns.filter(|name| name.ends_with("_column")) {
        let name: &'static str = format!("param {name}").leak();
        checks.push((name, columns_follow_their_parameters));
    }
    cover(&tandem_dialog::MODULE, &checks);
}

fn enable_stats() {
    for (value, seen) in [("0", 0), ("1", 1)] {
        let mut node = node(&set("enable_stats", value), CREATE, "");
        Phones::talk(&mut node, "c");
        assert_eq!(stat(&mut node, "processed_dialogs"), seen);
        assert_eq!(stat(&mut node, "active_dialogs"), seen);
    }
}

fn hash_size() {
    let mut node = node(&set("hash_size", "1"), CREATE, "");
    Phones::talk(&mut node, "c");
    assert!(listed(&mut node)["ID"].as_str().unwrap().starts_with("0."));
    let wrong = TestNode::try_new(&script(&set("hash_size", "3"), CREATE, ""), MODULES);
    assert!(wrong.err().unwrap().contains("4 is the next one"));
}

fn moot() {
    node(&set("log_profile_hash_size", "5"), CREATE, "");
}

fn rr_param() {
    let mut node =
        node(&set("rr_param", "\"xid\""), CREATE, "xlog(\"L_NOTICE\", \"$DLG_status\");");
    let phones = Phones::talk(&mut node, "c");
    assert!(header(&phones.invite, "Record-Route").contains(";xid="));
    node.udp(CALLER, &phones.within("INFO", 8, ""));
    assert_eq!(said(&mut node).last().unwrap(), "4");
}

fn default_timeout() {
    let mut node = node(&set("default_timeout", "10"), CREATE, "");
    node.advance_ms(1);
    Phones::talk(&mut node, "c");
    let entry = listed(&mut node);
    let lives = entry["timeout"].as_u64().unwrap() - entry["timestart"].as_u64().unwrap();
    assert_eq!(lives, 10);
    node.advance_ms(8_000);
    assert_eq!(state(&mut node), 4);
    node.advance_ms(4_000);
    assert_eq!(state(&mut node), 5);
    assert_eq!(stat(&mut node, "expired_dialogs"), 1);
}

fn delete_delay() {
    let mut node = node(&set("delete_delay", "60"), CREATE, "");
    let phones = Phones::talk(&mut node, "c");
    node.udp(CALLER, &phones.within("BYE", 8, ""));
    node.advance_ms(58_000);
    let entry = listed(&mut node);
    assert_eq!((&entry["state"], &entry["timeout"]), (&json!(5), &json!(0)));
    assert!(entry.get("dateout").is_none());
    node.advance_ms(4_000);
    assert_eq!(listed(&mut node), Json::Null);
}

fn match_mode() {
    let strip = |text: String| {
        let at = text.find(";did=").unwrap();
        let end = at + text[at..].find('>').unwrap();
        format!("{}{}", &text[..at], &text[end..])
    };
    for (mode, with_did, without) in [("0", "4", "<null>"), ("1", "4", "4"), ("2", "4", "4")] {
        let mut node =
            node(&set("dlg_match_mode", mode), CREATE, "xlog(\"L_NOTICE\", \"$DLG_status\");");
        let phones = Phones::talk(&mut node, "c");
        assert_eq!(phones.invite.contains(";did="), mode != "2");
        said(&mut node);
        node.udp(CALLER, &phones.within("INFO", 8, ""));
        assert_eq!(said(&mut node), [with_did], "mode {mode}");
        let info = phones.within("INFO", 9, "");
        node.udp(CALLER, &if mode == "2" { info } else { strip(info) });
        assert_eq!(said(&mut node), [without], "mode {mode}");
    }
}

fn create() {
    let twice = "create_dialog(); create_dialog(\"bye-on-timeout\"); xlog(\"L_NOTICE\", \"$rc\");";
    let mut node = node("", twice, "create_dialog(); xlog(\"L_NOTICE\", \"$rc\");");
    let phones = Phones::talk(&mut node, "c");
    assert_eq!(said(&mut node), ["1", "1"], "the ACK has it");
    assert_eq!(
        node.mi("dialog:list", Json::Null)["result"]["Dialogs"].as_array().unwrap().len(),
        1
    );
    node.udp(CALLER, &phones.within("INFO", 8, ""));
    assert_eq!(said(&mut node), ["1"], "it has one");
    // The letters up to 3.6 go on working.
    for flags in ["B", "bye-on-timeout"] {
        let create = format!("create_dialog(\"{flags}\");");
        let mut node = common::node(&set("default_timeout", "5"), &create, "");
        Phones::talk(&mut node, "c");
        node.advance_ms(7_000);
        assert!(sent_to(&mut node, CALLEE).iter().any(|text| text.starts_with("BYE ")), "{flags}");
    }
    let wrong = TestNode::try_new(&script("", "create_dialog(\"bye-on-timout\");", ""), MODULES);
    assert!(wrong.err().unwrap().contains("did you mean `bye-on-timeout`?"));
}

fn matched() {
    let text = format!(
        "{MODULE_LINES}route {{ if (has_totag()) {{ match_dialog(\"DID_NONE\"); \
         xlog(\"L_NOTICE\", \"$rc $DLG_status\"); t_relay(); exit; }} {CREATE} \
         record_route(); t_relay(); }}"
    );
    let mut node = TestNode::new(&text, MODULES);
    let mut phones = Phones::talk(&mut node, "c");
    assert_eq!(said(&mut node), ["1 4"]);
    phones.call_id = "other".to_owned();
    node.udp(CALLER, &phones.within("INFO", 8, ""));
    assert_eq!(said(&mut node), ["-1 <null>"]);
}

fn within() {
    let mut node = node("", CREATE, "xlog(\"L_NOTICE\", \"$DLG_did $DLG_status $DLG_dir\");");
    let phones = Phones::talk(&mut node, "c");
    let id = listed(&mut node)["ID"].as_str().unwrap().to_owned();
    said(&mut node);
    node.udp(CALLER, &phones.within("INFO", 8, ""));
    node.udp(CALLEE, &phones.back("INFO", 1, ""));
    assert_eq!(said(&mut node), [format!("{id} 4 downstream"), format!("{id} 4 upstream")]);
}

fn list() {
    let mut node = node("", CREATE, "");
    Phones::talk(&mut node, "c1");
    Phones::talk(&mut node, "c2");
    for command in ["dialog:list", "dialog:list_ctx", "dlg_list", "dlg_list_ctx"] {
        let all = node.mi(command, Json::Null);
        assert_eq!(all["result"]["Dialogs"].as_array().unwrap().len(), 2);
        assert_eq!(all["result"]["Dialogs"][0].get("context").is_some(), command.ends_with("ctx"));
        let one = node.mi(command, json!({"callid": "c1"}));
        assert_eq!(one["result"]["Dialog"]["callid"], "c1");
        let one = node.mi(command, json!({"callid": "c1", "from_tag": "f"}));
        assert_eq!(one["result"]["Dialog"]["callid"], "c1");
        let none = node.mi(command, json!({"callid": "c1", "from_tag": "x"}));
        assert_eq!(none["error"], json!({"code": 404, "message": "No such dialog"}));
        let page = node.mi(command, json!({"index": 1, "counter": 5}));
        assert_eq!(page["result"]["count"], 2);
        assert_eq!(page["result"]["Dialogs"].as_array().unwrap().len(), 1);
        let numbered = node.mi(command, json!([0, 10]));
        assert_eq!(numbered["error"]["data"], "Command only supports named parameters");
    }
}

fn statistics() {
    let mut node = node("", CREATE, "");
    let mut phones = Phones::dial(&mut node, "c");
    let figures = |node: &mut TestNode| {
        [
            "active_dialogs",
            "early_dialogs",
            "processed_dialogs",
            "failed_dialogs",
            "expired_dialogs",
        ]
        .map(|name| stat(node, name))
    };
    assert_eq!(figures(&mut node), [0, 0, 1, 0, 0]);
    phones.ring(&mut node);
    assert_eq!(figures(&mut node), [0, 1, 1, 0, 0]);
    phones.answer(&mut node);
    assert_eq!(figures(&mut node), [1, 0, 1, 0, 0]);
    phones.ack(&mut node);
    node.udp(CALLER, &phones.within("BYE", 8, ""));
    assert_eq!(figures(&mut node), [0, 0, 1, 0, 0]);
    let phones = Phones::dial(&mut node, "c2");
    node.udp(CALLEE, &reply_to(&phones.invite, 404, "t", "", ""));
    assert_eq!(figures(&mut node), [0, 0, 2, 1, 0]);
}

fn states() {
    let event = "event_route[E_DLG_STATE_CHANGED] { xlog(\"L_NOTICE\", \"$param(id) \
        $param(db_id) $param(callid) $param(from_tag) $param(to_tag) $param(old_state) \
        $param(new_state)\"); }\n";
    let mut node = node(event, CREATE, "");
    let phones = Phones::talk(&mut node, "c");
    let entry = listed(&mut node);
    let (id, number) = (entry["ID"].as_str().unwrap(), entry["db_id"].as_str().unwrap());
    node.udp(CALLEE, &phones.back("BYE", 1, ""));
    let line = |old: u8, new: u8| format!("{id} {number} c f t {old} {new}");
    assert_eq!(said(&mut node), [line(1, 2), line(2, 3), line(3, 4), line(4, 5)]);
}
