//! Calls from the INVITE to the end, as the messages go by.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use crate::common;

use common::*;
use serde_json::{Value as Json, json};

const CREATE: &str = "create_dialog();";

#[test]
fn a_call_goes_through_all_its_states() {
    let mut node = node("", CREATE, "xlog(\"L_NOTICE\", \"$rm $DLG_status $DLG_dir\");");
    let mut phones = Phones::dial(&mut node, "c1");
    let did = listed(&mut node)["ID"].as_str().unwrap().to_owned();
    assert!(header(&phones.invite, "Record-Route").contains(&format!(";did={did}>")));
    assert_eq!(state(&mut node), 1);
    phones.ring(&mut node);
    assert_eq!(state(&mut node), 2);
    phones.answer(&mut node);
    assert_eq!(state(&mut node), 3);
    phones.ack(&mut node);
    assert_eq!(state(&mut node), 4);
    said(&mut node);
    node.udp(CALLER, &phones.within("BYE", 8, ""));
    assert_eq!(state(&mut node), 5);
    assert_eq!(said(&mut node), ["BYE 5 downstream"]);
    node.advance_ms(6_000);
    assert_eq!(listed(&mut node), Json::Null);
}

#[test]
fn a_listing_has_what_the_field_shows() {
    let mut node = node("", CREATE, "");
    Phones::talk(&mut node, "c1");
    let mut entry = listed(&mut node);
    let sdp = |text: &str| text.replace('\n', "\r\n");
    let id = entry["ID"].clone();
    let number = entry["db_id"].clone();
    assert!(number.as_str().unwrap().parse::<u64>().is_ok());
    for (name, is_date) in
        [("timestart", false), ("datestart", true), ("timeout", false), ("dateout", true)]
    {
        assert_eq!(entry[name].is_string(), is_date, "{name}");
        entry[name] = Json::Null;
    }
    let wanted = json!({
        "ID": id, "db_id": number, "state": 4, "user_flags": "", "timestart": null,
        "datestart": null, "timeout": null, "dateout": null, "callid": "c1",
        "from_uri": "sip:alice@a.test", "to_uri": "sip:bob@b.test", "caller_tag": "f",
        "caller_contact": "sip:alice@127.0.0.9:5060", "callee_cseq": "0",
        "caller_route_set": "", "caller_bind_addr": "udp:127.0.0.1:5060",
        "caller_sdp": sdp(SDP_A),
        "CALLEES": [{
            "callee_tag": "t", "callee_contact": "sip:bob@127.0.0.2:5060", "caller_cseq": "7",
            "callee_route_set": "", "callee_bind_addr": "udp:127.0.0.1:5060",
            "callee_sdp": sdp(SDP_B),
        }],
    });
    assert_eq!(entry, wanted);
    let names: Vec<&String> = entry.as_object().unwrap().keys().collect();
    let order: Vec<&String> = wanted.as_object().unwrap().keys().collect();
    assert_eq!(names, order);
}

#[test]
fn calls_that_nobody_answers_end_as_failed() {
    let mut node = node("", CREATE, "");
    let mut phones = Phones::dial(&mut node, "c1");
    phones.ring(&mut node);
    node.udp(CALLEE, &reply_to(&phones.invite, 486, "t", "", ""));
    assert_eq!(state(&mut node), 5);
    let mut phones = Phones::dial(&mut node, "c2");
    phones.ring(&mut node);
    let cancel =
        Phones::request("c2").replace("INVITE sip", "CANCEL sip").replace("7 INVITE", "7 CANCEL");
    let cancel = cancel.split("Content-Type").next().unwrap().to_owned();
    node.udp(CALLER, &format!("{cancel}Content-Length: 0\n\n"));
    node.udp(CALLEE, &reply_to(&phones.invite, 487, "t", "", ""));
    let found =
        node.mi("dialog:list", json!({"callid": "c2"}))["result"]["Dialog"]["state"].clone();
    assert_eq!(found, 5);
}

#[test]
fn requests_of_the_node_itself_have_their_dialog_in_local_route() {
    let local = "local_route { xlog(\"L_NOTICE\", \"$rm $DLG_dir $dlg_val(x)\"); }\n";
    let mut node = node(local, "create_dialog(); $dlg_val(x) = \"y\";", "");
    Phones::talk(&mut node, "c");
    node.mi("dialog:end_dlg", json!(["c"]));
    assert_eq!(said(&mut node), ["BYE upstream y", "BYE downstream y"]);
}

#[test]
fn an_answer_that_crosses_the_end_by_command_is_hung_up() {
    let mut node = node("", CREATE, "");
    let mut phones = Phones::dial(&mut node, "c");
    phones.ring(&mut node);
    node.mi("dialog:end_dlg", json!(["c"]));
    node.udp(CALLEE, &reply_to(&phones.invite, 200, "t", "Contact: <sip:bob@127.0.0.2>\n", ""));
    let mut byes: Vec<String> = Vec::new();
    for (to, text) in node.sent() {
        if text.starts_with("BYE ") {
            byes.push(to.to_string());
        }
    }
    byes.sort();
    assert_eq!((byes, state(&mut node)), (vec![CALLEE.to_owned(), CALLER.to_owned()], 5));
}

#[test]
fn of_two_phones_that_answer_the_first_one_counts() {
    let mut node = node("", CREATE, "");
    let mut phones = Phones::dial(&mut node, "c");
    phones.answer(&mut node);
    let other = reply_to(&phones.invite, 200, "t2", "Contact: <sip:bob2@127.0.0.2>\n", "");
    node.udp(CALLEE, &other);
    let of_other = |text: String| text.replace("tag=t", "tag=t2");
    node.udp(CALLER, &of_other(phones.within("ACK", 7, "")));
    assert_eq!(state(&mut node), 3);
    phones.ack(&mut node);
    node.udp(CALLER, &of_other(phones.within("BYE", 8, "")));
    assert_eq!(state(&mut node), 4);
    node.udp(CALLER, &phones.within("BYE", 9, ""));
    assert_eq!(state(&mut node), 5);
}

#[test]
fn a_contact_that_the_script_puts_right_is_where_the_node_sends() {
    let fixed = "create_dialog(); remove_hf(\"Contact\"); \
        append_hf(\"Contact: <sip:alice@127.0.0.9:5099>\\r\\n\");";
    let mut node = node("", fixed, "");
    Phones::talk(&mut node, "c");
    assert_eq!(listed(&mut node)["caller_contact"], "sip:alice@127.0.0.9:5099");
}

#[test]
fn routes_of_proxies_behind_this_node_are_kept_in_their_order() {
    let mut node = node("", CREATE, "");
    let phones = Phones::dial(&mut node, "c");
    let far = "Record-Route: <sip:127.0.0.4;lr>\nRecord-Route: <sip:127.0.0.3;lr>\n";
    let reply = reply_to(&phones.invite, 200, "t", "Contact: <sip:bob@127.0.0.2>\n", "");
    node.udp(CALLEE, &reply.replacen("Record-Route", &format!("{far}Record-Route"), 1));
    let routes = listed(&mut node)["CALLEES"][0]["callee_route_set"].clone();
    assert_eq!(routes, "<sip:127.0.0.3;lr>,<sip:127.0.0.4;lr>");
    node.sent();
    node.mi("dialog:end_dlg", json!(["c"]));
    let bye = sent_to(&mut node, "127.0.0.3:5060").pop().unwrap();
    assert_eq!(header(&bye, "Route"), "<sip:127.0.0.3;lr>,<sip:127.0.0.4;lr>");
}

#[test]
fn the_name_is_recorded_whichever_comes_first() {
    let late = format!(
        "{MODULE_LINES}route {{ if (has_totag()) {{ loose_route(); t_relay(); exit; }} \
         record_route(); create_dialog(); t_relay(); }}"
    );
    let mut node = tandem_engine::testing::TestNode::new(&late, MODULES);
    let phones = Phones::dial(&mut node, "c");
    let id = listed(&mut node)["ID"].as_str().unwrap().to_owned();
    assert!(header(&phones.invite, "Record-Route").contains(&format!(";did={id}>")));
}

#[test]
fn the_ack_of_an_answer_that_passed_elsewhere_makes_the_call_one_that_is_answered() {
    let mut node = node("", CREATE, "");
    let mut phones = Phones::dial(&mut node, "c1");
    phones.ring(&mut node);
    // The caller has the 200 from the other node, with the routes that the INVITE collected here.
    phones.ok = format!("Record-Route: {}\n", header(&phones.invite, "Record-Route"));
    let forged = phones.within("ACK", 7, "").replace("tag=f", "tag=x");
    node.udp(CALLER, &forged);
    node.udp(CALLER, &phones.within("BYE", 8, "").replace("tag=f", "tag=x"));
    assert_eq!(state(&mut node), 2, "not the caller's");
    node.sent();
    phones.ack(&mut node);
    assert_eq!(state(&mut node), 4);
    assert!(sent_to(&mut node, CALLEE).iter().any(|m| m.starts_with("ACK ")), "it goes on");
    let callee = listed(&mut node)["CALLEES"][0].clone();
    assert_eq!(callee["callee_tag"], "t");
    assert_eq!(callee["callee_contact"], "sip:bob@127.0.0.2:5060");
    // The transaction does not end the call when its time is over.
    node.advance_ms(200_000);
    assert_eq!(state(&mut node), 4);
    node.udp(CALLEE, &phones.back("BYE", 1, ""));
    assert_eq!(state(&mut node), 5);
    assert_eq!(stat(&mut node, "active_dialogs"), 0);
}

#[test]
fn the_other_phones_of_a_fork_that_was_answered_elsewhere_stop_ringing() {
    const THIRD: &str = "127.0.0.3:5060";
    let initial = "create_dialog(); append_msg_branch(\"sip:bob@127.0.0.3\");";
    let mut node = node("", initial, "");
    node.udp(CALLER, &Phones::request("c1"));
    let sent = node.sent();
    let to = |at: &str| sent.iter().find(|(to, _)| to.to_string() == at).unwrap().1.clone();
    let (invite, third) = (to(CALLEE), to(THIRD));
    let ok = format!("Record-Route: {}\n", header(&invite, "Record-Route"));
    let mut phones = Phones { call_id: "c1".into(), invite, ok };
    phones.ring(&mut node);
    node.udp(THIRD, &reply_to(&third, 180, "t3", "Contact: <sip:x@127.0.0.3>\n", ""));
    node.sent();
    phones.ack(&mut node);
    assert_eq!(state(&mut node), 4);
    let sent = node.sent();
    let cancel = sent.iter().find(|(_, m)| m.starts_with("CANCEL ") && m.contains("127.0.0.3"));
    let (at, cancel) = cancel.expect("the third phone is told");
    assert_eq!(at.to_string(), THIRD);
    assert!(header(cancel, "Reason").contains("Call completed elsewhere"), "{cancel}");
    assert!(!sent.iter().any(|(to, _)| to.to_string() == CALLER), "{sent:?}");
    // Its 487 ends here; the call goes on.
    node.udp(THIRD, &reply_to(&third, 487, "t3", "", ""));
    let sent = node.sent();
    assert!(sent.iter().any(|(to, m)| to.to_string() == THIRD && m.starts_with("ACK ")));
    assert!(!sent.iter().any(|(to, _)| to.to_string() == CALLER), "{sent:?}");
    node.advance_ms(200_000);
    assert_eq!(state(&mut node), 4);
}

/// A phone whose connection is gone refuses at once, and never answers with 408.
#[test]
fn a_side_to_which_no_ping_can_be_sent_is_gone_at_the_second_one() {
    use tandem_engine::effect::{Input, SendError};
    let params = "modparam(\"dialog\", \"options_ping_interval\", 10)\n";
    let mut node = node(params, "create_dialog(\"options-ping-callee\");", "");
    Phones::talk(&mut node, "c1");
    let ping = |node: &mut tandem_engine::testing::TestNode, refused: bool| {
        node.advance_ms(10_000);
        let ticket = node.last_ticket();
        let sent = node.sent();
        let (_, ping) = sent.iter().find(|(_, m)| m.starts_with("OPTIONS ")).expect("a ping");
        if refused {
            node.step(Input::SendFailed { ticket, error: SendError::Refused });
        } else {
            node.udp(CALLEE, &reply_to(ping, 200, "t", "", ""));
        }
    };
    // The first one may be the moment between two connections.
    for refused in [true, false, true] {
        ping(&mut node, refused);
        assert_eq!(state(&mut node), 4);
    }
    ping(&mut node, true);
    assert_eq!(state(&mut node), 5);
    let byes: Vec<_> = node.sent().into_iter().filter(|(_, m)| m.starts_with("BYE ")).collect();
    assert_eq!(byes.len(), 2, "{byes:?}");
}

/// It was late on its way, and the callee has moved since: what it said then is over.
#[test]
fn the_answer_once_more_does_not_bring_an_old_target_back() {
    let mut node = node("", CREATE, "");
    let phones = Phones::talk(&mut node, "c1");
    let moved = phones.back("UPDATE", 20, "Contact: <sip:bob@127.0.0.2:6060>\n");
    node.udp(CALLEE, &moved);
    let update = sent_to(&mut node, CALLER).pop().unwrap();
    node.udp(CALLER, &reply_to(&update, 200, "f", "Contact: <sip:alice@127.0.0.9>\n", ""));
    let contact = |node: &mut _| listed(node)["CALLEES"][0]["callee_contact"].clone();
    assert_eq!(contact(&mut node), "sip:bob@127.0.0.2:6060");
    let was = "Contact: <sip:bob@127.0.0.2:5060>\n";
    node.udp(CALLEE, &reply_to(&phones.invite, 200, "t", was, SDP_B));
    assert!(sent_to(&mut node, CALLER).pop().unwrap().starts_with("SIP/2.0 200"));
    assert_eq!(contact(&mut node), "sip:bob@127.0.0.2:6060");
}
