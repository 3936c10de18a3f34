//! Commands.

use serde_json::{Value as Json, json};

use crate::common::*;

const CREATE: &str = "create_dialog();";
const JOIN: &str = "create_dialog(); set_dlg_profile(\"caller/b\", \"$fU\"); \
    set_dlg_profile(\"inbound\");";

fn params() -> String {
    format!(
        "{}{}",
        set("profiles_with_value", "\"caller/b;gw\""),
        set("profiles_no_value", "\"inbound;shared/s\"")
    )
}

fn failure(answer: &Json) -> (i64, String) {
    let error = &answer["error"];
    (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())
}

pub(crate) fn end() {
    let mut node = node("", CREATE, "");
    for (n, field) in ["ID", "db_id", "callid"].into_iter().enumerate() {
        let call_id = format!("c{n}");
        Phones::talk(&mut node, &call_id);
        let entry = node.mi("dialog:list", json!({"callid": call_id}))["result"]["Dialog"].clone();
        let extra = "X-Why: test\r\n";
        let answer = node.mi("dlg_end_dlg", json!([entry[field], extra]));
        assert_eq!(answer["result"], "OK", "{answer}");
        let sent = node.sent();
        let byes: Vec<_> = sent.iter().filter(|(_, text)| text.starts_with("BYE ")).collect();
        assert_eq!(byes.len(), 2);
        let to = |addr: &str| &byes.iter().find(|(to, _)| to.to_string() == addr).unwrap().1;
        let (caller, callee) = (to(CALLER), to(CALLEE));
        assert_eq!(first_line(caller), "BYE sip:alice@127.0.0.9:5060 SIP/2.0");
        assert_eq!(header(caller, "From"), "<sip:bob@b.test>;tag=t");
        assert_eq!(header(caller, "To"), "<sip:alice@a.test>;tag=f");
        assert_eq!(header(caller, "CSeq"), "1 BYE");
        assert_eq!(header(callee, "CSeq"), "8 BYE");
        assert_eq!(header(callee, "From"), "<sip:alice@a.test>;tag=f");
        assert!(caller.contains(extra) && callee.contains(extra));
        assert_eq!(header(callee, "Call-ID"), call_id);
        let entry = node.mi("dialog:list", json!({"callid": call_id}))["result"]["Dialog"].clone();
        assert_eq!(entry["state"], 5);
    }
    let gone = node.mi("dialog:end_dlg", json!(["nosuch"]));
    assert_eq!(failure(&gone), (404, "Requested Dialog not found".into()));
    let phones = Phones::dial(&mut node, "early");
    node.udp(CALLEE, &reply_to(&phones.invite, 180, "t", "", ""));
    node.sent();
    assert_eq!(node.mi("dialog:end_dlg", json!(["early"]))["result"], "OK");
    assert!(sent_to(&mut node, CALLEE).iter().any(|text| text.starts_with("CANCEL ")));
    node.udp(CALLEE, &reply_to(&phones.invite, 487, "t", "", ""));
    assert!(sent_to(&mut node, CALLER).iter().any(|text| text.starts_with("SIP/2.0 487")));
}

pub(crate) fn push() {
    let mut node = node("", CREATE, "");
    Phones::talk(&mut node, "c");
    let params = json!({"dlg_val_name": "k", "dlg_val_value": "v", "DID": ["c"]});
    assert_eq!(node.mi("dialog:push_var", params)["result"], "OK");
    let context = node.mi("dialog:list_ctx", json!({"callid": "c"}));
    assert_eq!(context["result"]["Dialog"]["context"]["values"], json!([{"k": "v"}]));
    let params = json!({"dlg_val_name": "k", "dlg_val_value": "v", "DID": ["x"]});
    let gone = node.mi("dlg_push_var", params);
    assert_eq!(failure(&gone), (404, "Requested Dialog not found".into()));
}

pub(crate) fn send() {
    let mut node = node("", CREATE, "");
    Phones::talk(&mut node, "c");
    let ask = |node: &mut tandem_engine::testing::TestNode, params: Json| {
        node.mi("dialog:send_sequential", params)
    };
    let wrong = |params: Json| (params, ());
    for (params, code, text) in [
        (json!({"callid": "c", "mode": "x"}), 400, "Invalid mode"),
        (json!({"callid": "c", "body": "x"}), 400, "Invalid body mode"),
        (json!({"callid": "c", "method": "ACK"}), 406, "Not Acceptable"),
        (json!({"callid": "nosuch"}), 404, "Dialog Not Found"),
    ] {
        let answer = ask(&mut node, wrong(params).0);
        assert_eq!(failure(&answer), (code, text.into()));
    }
    let mut number = 100;
    let mut later = |node: &mut tandem_engine::testing::TestNode, params: Json| {
        number += 1;
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": "dialog:send_sequential",
            "params": params});
        let text = text.to_string().into();
        node.step(tandem_engine::effect::Input::Mi { request: number, text });
        number
    };
    let request = later(&mut node, json!({"callid": "c", "method": "INFO", "mode": "callee"}));
    let info = sent_to(&mut node, CALLEE).pop().unwrap();
    assert_eq!(first_line(&info), "INFO sip:bob@127.0.0.2:5060 SIP/2.0");
    node.udp(CALLEE, &reply_to(&info, 200, "t", "", ""));
    assert!(node.mi_text(request).unwrap().contains("\"200 x\""));
    // The answer of one side is brought to the other.
    let request = later(&mut node, json!({"callid": "c", "mode": "challenge"}));
    let invite = sent_to(&mut node, CALLER).pop().unwrap();
    assert!(invite.starts_with("INVITE ") && invite.contains("127.0.0.2\r\ns="), "{invite}");
    let contact = "Contact: <sip:alice@127.0.0.9:5060>\n";
    node.udp(CALLER, &reply_to(&invite, 200, "f", contact, &SDP_A.replace("1 1", "1 9")));
    let invite = sent_to(&mut node, CALLEE).pop().unwrap();
    assert!(invite.starts_with("INVITE ") && invite.contains("o=- 1 9 "), "{invite}");
    node.udp(CALLEE, &reply_to(&invite, 488, "t", "", ""));
    assert!(node.mi_text(request).unwrap().contains("\"488 x\""));
}

pub(crate) fn profiles() {
    let mut node = node(&params(), JOIN, "");
    Phones::talk(&mut node, "c1");
    Phones::talk(&mut node, "c2");
    let size = node.mi("dialog:profile_get_size", json!(["caller/b"]));
    let wanted = json!({"Profile": {"name": "caller", "value": null, "count": 2, "shared": "no",
        "replicated": "yes"}});
    assert_eq!(size["result"], wanted);
    let size = node.mi("dialog:profile_get_size", json!(["caller/b", "alice"]));
    assert_eq!(size["result"]["Profile"]["count"], 2);
    assert_eq!(size["result"]["Profile"]["value"], "alice");
    let values = node.mi("dialog:profile_get_values", json!(["caller/b"]));
    assert_eq!(values["result"], json!([{"value": "alice", "count": 2}]));
    let shared = node.mi("dialog:profile_get_values", json!(["shared/s"]));
    assert_eq!(failure(&shared), (405, "Unsupported command for shared profiles".into()));
    let list = node.mi("dialog:profile_list_dlgs", json!(["caller/b"]));
    assert_eq!(list["result"]["Dialogs"].as_array().unwrap().len(), 2);
    for command in ["profile_get_size", "profile_get_values", "profile_list_dlgs"] {
        let gone = node.mi(command, json!(["caller"]));
        assert_eq!(failure(&gone), (404, "Profile not found".into()), "{command}");
    }
    let all = node.mi("dialog:list_all_profiles", Json::Null);
    let wanted = json!({"Profiles": [
        {"name": "caller", "has value": true}, {"name": "gw", "has value": true},
        {"name": "inbound", "has value": false}, {"name": "shared", "has value": false},
    ]});
    assert_eq!(all["result"], wanted);
}

pub(crate) fn ends_profile() {
    let mut node = node(&params(), JOIN, "");
    Phones::talk(&mut node, "c1");
    Phones::talk(&mut node, "c2");
    node.sent();
    let answer = node.mi("dialog:profile_end_dlgs", json!(["caller/b", "alice"]));
    assert_eq!(answer["result"], "OK");
    let byes = node.sent().into_iter().filter(|(_, text)| text.starts_with("BYE ")).count();
    assert_eq!((byes, stat(&mut node, "active_dialogs")), (4, 0));
}

pub(crate) fn edits() {
    let mut node = node(&params(), CREATE, "");
    Phones::talk(&mut node, "c");
    let size = |node: &mut tandem_engine::testing::TestNode, params: Json| {
        node.mi("dialog:profile_get_size", params)["result"]["Profile"]["count"].clone()
    };
    for value in ["a", "b"] {
        let answer = node.mi("dialog:set_profile", json!(["c", "gw", value]));
        assert_eq!(answer["result"], "OK");
    }
    assert_eq!(size(&mut node, json!(["gw"])), 2);
    node.mi("dlg_set_profile", json!(["c", "gw", "z", 1]));
    assert_eq!(size(&mut node, json!(["gw"])), 1);
    assert_eq!(node.mi("dialog:unset_profile", json!(["c", "gw", "z"]))["result"], "OK");
    assert_eq!(size(&mut node, json!(["gw"])), 0);
    let answer = node.mi("dialog:unset_profile", json!(["c", "gw", "z"]));
    assert_eq!(failure(&answer), (403, "Dialog Error".into()));
    let answer = node.mi("dialog:set_profile", json!(["c", "nosuch"]));
    assert_eq!(failure(&answer), (400, "Bad param".into()));
    let answer = node.mi("dialog:set_profile", json!(["x", "gw", "a"]));
    assert_eq!(failure(&answer), (404, "Dialog Not Found".into()));
}
