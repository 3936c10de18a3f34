//! Requests and replies that do not fit: the state stays whole, and nothing grows.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use std::sync::Arc;

use common::*;
use serde_json::{Value as Json, json};
use tandem_dialog::Dialogs;
use tandem_dialog::record::LEGS_MAX;
use tandem_engine::testing::TestNode;

const CREATE: &str = "create_dialog();";

fn dialogs(node: &TestNode) -> Arc<Dialogs> {
    node.node().find::<Dialogs>().unwrap().1
}

/// The whole listing without what time changes.
fn picture(node: &mut TestNode) -> Json {
    node.mi("dialog:list_ctx", Json::Null)["result"].clone()
}

#[test]
fn requests_of_calls_that_do_not_exist_change_nothing() {
    let mut node = node("", CREATE, "");
    let phones = Phones::talk(&mut node, "c");
    let before = picture(&mut node);
    let size = dialogs(&node).table.len();
    for n in 0..200 {
        let mut stray =
            Phones { call_id: format!("stray{n}"), ok: phones.ok.clone(), invite: String::new() };
        if n % 2 == 0 {
            stray.ok = stray.ok.replace(";did=", ";did=ffff");
        }
        for method in ["BYE", "INFO", "ACK", "INVITE", "UPDATE"] {
            node.udp(CALLER, &stray.within(method, 8, ""));
            node.udp(CALLEE, &stray.back(method, 8, ""));
        }
    }
    assert_eq!(picture(&mut node), before);
    assert_eq!(dialogs(&node).table.len(), size);
}

#[test]
fn a_name_with_the_tags_of_others_opens_no_door() {
    for mode in ["0", "1", "2"] {
        let mut node =
            node(&set("dlg_match_mode", mode), CREATE, "xlog(\"L_NOTICE\", \"$DLG_did\");");
        let phones = Phones::talk(&mut node, "c");
        said(&mut node);
        let before = picture(&mut node);
        let bye = phones.within("BYE", 8, "");
        let forged = [
            bye.replace("tag=t", "tag=T"),
            bye.replace("tag=f", "tag=g"),
            bye.replace(";tag=t", ""),
            bye.replace("Call-ID: c", "Call-ID: d"),
        ];
        for (n, request) in forged.iter().enumerate() {
            node.udp(CALLER, request);
            // Without a tag it is no request of a call.
            let lines: Vec<String> =
                said(&mut node).into_iter().filter(|l| !l.starts_with("test.cfg")).collect();
            assert!(lines.iter().all(|line| line == "<null>"), "{mode} {n}: {lines:?}");
        }
        assert_eq!(picture(&mut node), before);
        let status = node.mi("tandem:status", Json::Null)["result"].to_string();
        assert_eq!(!status.contains("\"refused\":0,"), mode != "2", "{mode}: {status}");
    }
}

#[test]
fn a_record_route_edited_by_a_peer_leads_nowhere_or_home() {
    for (mode, found) in [("0", false), ("1", true)] {
        let mut node =
            node(&set("dlg_match_mode", mode), CREATE, "xlog(\"L_NOTICE\", \"$DLG_status\");");
        let phones = Phones::talk(&mut node, "c1");
        Phones::talk(&mut node, "c2");
        let other =
            node.mi("dialog:list", json!({"callid": "c2"}))["result"]["Dialog"]["ID"].clone();
        let own = node.mi("dialog:list", json!({"callid": "c1"}))["result"]["Dialog"]["ID"].clone();
        said(&mut node);
        let names =
            [other.as_str().unwrap(), "0.0", "zz.zz", "1", "", "ffffffffffffffffff.1", "%00.1"];
        for (n, name) in names.into_iter().enumerate() {
            let request = phones.within("INFO", 8 + n as u32, "");
            node.udp(CALLER, &request.replace(own.as_str().unwrap(), name));
            let wanted = if found { "4" } else { "<null>" };
            assert_eq!(said(&mut node), [wanted], "{mode} {name}");
        }
        let state =
            node.mi("dialog:list", json!({"callid": "c2"}))["result"]["Dialog"]["state"].clone();
        assert_eq!(state, 4);
    }
}

#[test]
fn a_bye_with_an_old_number_ends_nothing() {
    let mut node = node("", CREATE, "");
    let phones = Phones::talk(&mut node, "c");
    node.udp(CALLER, &phones.within("INFO", 20, ""));
    node.udp(CALLER, &phones.within("BYE", 19, ""));
    assert_eq!(state(&mut node), 4);
    assert_eq!(listed(&mut node)["CALLEES"][0]["caller_cseq"], "20");
    node.udp(CALLER, &phones.within("BYE", 21, ""));
    assert_eq!(state(&mut node), 5);
}

#[test]
fn a_crowd_of_callees_is_bounded() {
    let mut node = node("", CREATE, "");
    let phones = Phones::dial(&mut node, "c");
    for n in 0..200 {
        let contact = format!("Contact: <sip:{n}@127.0.0.2>\n");
        node.udp(CALLEE, &reply_to(&phones.invite, 180, &format!("t{n}"), &contact, ""));
    }
    let legs = listed(&mut node)["CALLEES"].as_array().unwrap().len();
    assert_eq!(legs, LEGS_MAX);
    // Who answers is known although there was no room to hear of it.
    node.udp(CALLEE, &reply_to(&phones.invite, 200, "t199", "", ""));
    assert_eq!(state(&mut node), 3);
}

#[test]
fn replies_with_nothing_in_them_are_taken_as_they_are() {
    let mut node = node("", CREATE, "");
    let phones = Phones::dial(&mut node, "c");
    let bare = reply_to(&phones.invite, 183, "t", "", "");
    node.udp(CALLEE, &bare.replace(";tag=t", ""));
    node.udp(CALLEE, &bare.replace("Record-Route: <", "Record-Route: <<"));
    node.udp(CALLEE, &bare.replace("Content-Length", "Contact: nonsense\nContent-Length"));
    assert_eq!(state(&mut node), 2);
    node.udp(CALLEE, &reply_to(&phones.invite, 200, "t", "Contact: *\n", ""));
    assert_eq!(state(&mut node), 3);
    node.mi("dialog:end_dlg", json!(["c"]));
    let byes = node.sent().into_iter().filter(|(_, text)| text.starts_with("BYE ")).count();
    assert!(byes >= 1, "the side that can be reached");
}

#[test]
fn what_scripts_keep_is_bounded() {
    let initial = format!(
        "{CREATE} $var(i) = 0; while ($var(i) < 90) {{ $dlg_val($var(i)) = \"x\"; \
         set_dlg_profile(\"p\", \"$var(i)\"); $var(i) = $var(i) + 1; }} \
         $dlg_val(zz) = $(var(long));"
    );
    let params = set("profiles_with_value", "\"p\"");
    let mut node = node(&params, &initial, "");
    let phones = Phones::talk(&mut node, "c");
    let size = |node: &mut TestNode| {
        node.mi("dialog:profile_get_size", json!(["p"]))["result"]["Profile"]["count"].clone()
    };
    assert_eq!(size(&mut node), 64);
    let (states, memberships) = dialogs(&node).table.recount();
    assert_eq!((states[4], memberships), (1, 64));
    node.udp(CALLER, &phones.within("BYE", 8, ""));
    assert_eq!(size(&mut node), 0);
    node.advance_ms(40_000);
    assert!(dialogs(&node).table.is_empty());
}

#[test]
fn both_byes_at_once_end_a_call_once() {
    let mut node = node(
        "route[over] { xlog(\"L_NOTICE\", \"over\"); }\n",
        &format!("{CREATE} dlg_on_hangup(\"over\");"),
        "",
    );
    let phones = Phones::talk(&mut node, "c");
    node.udp(CALLER, &phones.within("BYE", 8, ""));
    node.udp(CALLEE, &phones.back("BYE", 1, ""));
    let sent = node.sent();
    assert_eq!(sent.iter().filter(|(_, text)| text.starts_with("BYE ")).count(), 2, "both pass");
    assert_eq!(said(&mut node), ["over"]);
    assert_eq!((state(&mut node), stat(&mut node, "active_dialogs")), (5, 0));
}
