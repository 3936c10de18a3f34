//! Calls from the INVITE to the end, as the messages go by.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod common;

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
