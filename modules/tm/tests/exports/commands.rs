//! Management commands, and replies to other calls.

use serde_json::{Value as Json, json};
use tandem_engine::events::Destination;
use tandem_engine::testing::{Check, TestNode};

use crate::common::*;

pub(super) const CHECKS: &[Check] = &[
    ("mi tm:uac_dlg", uac_dlg),
    ("mi tm:uac_cancel", uac_cancel),
    ("mi tm:hash", hash),
    ("mi tm:reply", reply),
    ("function t_write_req", write_req),
    ("function t_write_unix", write_unix),
    ("param tw_append", write_unix),
    ("function t_reply_with_body", with_body),
    ("function t_reply_by_callid", by_callid),
];

const PLAIN: &str = "route { t_relay(); }";

/// Puts a command whose answer comes later, and gives its number.
fn begin(node: &mut TestNode, request: u64, params: &Json) {
    let text = json!({"jsonrpc": "2.0", "id": request, "method": "t_uac_dlg", "params": params});
    let text = bytes::Bytes::from(text.to_string());
    node.step(tandem_engine::effect::Input::Mi { request, text });
}

fn answer(node: &mut TestNode, request: u64) -> Json {
    let text = node.mi_text(request).expect("an answer");
    serde_json::from_str(&text).unwrap()
}

fn uac_dlg() {
    let mut node = node(PLAIN);
    let params = json!({
        "method": "OPTIONS",
        "ruri": "sip:alice@127.0.0.3",
        "headers": "From: <sip:a@b>\r\nTo: <sip:alice@c>\r\nX-Mine: 1\r\n",
    });
    begin(&mut node, 100, &params);
    let sent = sent_to(&mut node, SECOND).remove(0);
    assert!(sent.starts_with("OPTIONS sip:alice@127.0.0.3 SIP/2.0\r\nVia: SIP/2.0/UDP"), "{sent}");
    assert!(header(&sent, "From").starts_with("From: <sip:a@b>;tag="));
    assert_eq!(header(&sent, "CSeq"), "CSeq: 10 OPTIONS");
    assert_eq!(header(&sent, "X-Mine"), "X-Mine: 1");
    assert!(node.mi_text(100).is_none(), "the answer comes with the reply");
    node.udp(SECOND, &reply_to(&sent, 100, ""));
    assert!(node.mi_text(100).is_none());
    node.udp(SECOND, &reply_to(&sent, 200, "Contact: <sip:alice@127.0.0.3:5070>\n"));
    let result = answer(&mut node, 100)["result"].clone();
    assert_eq!(result["Status"], "200 Text200");
    assert_eq!(result["RURI"], "sip:alice@127.0.0.3:5070");
    assert_eq!(result["Next-hop"], "sip:alice@127.0.0.3");
    let message = result["Message"].as_str().unwrap();
    assert!(message.starts_with("Via: SIP/2.0/UDP 127.0.0.1:5060;branch="), "{message}");
    // Its own Route leads it.
    let params = json!({
        "method": "OPTIONS",
        "ruri": "sip:alice@127.0.0.3",
        "headers": "From: <sip:a@b>\r\nTo: <sip:alice@c>\r\nRoute: <sip:127.0.0.9:5090;lr>\r\n",
    });
    begin(&mut node, 101, &params);
    assert_eq!(sent_to(&mut node, "127.0.0.9:5090").len(), 1);
    uac_dlg_alone();
    uac_dlg_refused();
    uac_dlg_invite();
}

/// Nobody answers; the command is answered all the same.
fn uac_dlg_alone() {
    let mut node = node(PLAIN);
    let mut params = json!({
        "method": "MESSAGE", "ruri": "sip:alice@127.0.0.3", "next_hop": "sip:127.0.0.4:5099",
        "headers": "From: <sip:a@b>\r\nTo: <sip:c@d>\r\nContent-Type: text/plain\r\n",
        "body": "hi",
    });
    begin(&mut node, 101, &params);
    let sent = sent_to(&mut node, "127.0.0.4:5099").remove(0);
    assert!(sent.ends_with("Content-Length: 2\r\n\r\nhi"), "{sent}");
    node.advance_ms(30_100);
    assert_eq!(answer(&mut node, 101)["result"]["Status"], "408 Request Timeout");
    params["next_hop"] = json!("sip:nowhere.test");
    begin(&mut node, 102, &params);
    let status = answer(&mut node, 102)["result"]["Status"].clone();
    assert_eq!(status, "476 Unresolvable destination (476/TM)");
}

fn uac_dlg_refused() {
    let mut node = node(PLAIN);
    let good = "From: <sip:a@b>\r\nTo: <sip:c@d>\r\n";
    let mut refusal = |change: Json| {
        let mut params = json!({"method": "OPTIONS", "ruri": "sip:a@h", "headers": good});
        for (name, value) in change.as_object().unwrap() {
            params[name] = value.clone();
        }
        let error = node.mi("tm:uac_dlg", params)["error"].clone();
        format!("{} {}", error["code"], error["message"].as_str().unwrap())
    };
    assert_eq!(refusal(json!({"ruri": "nonsense"})), "400 Invalid ruri");
    assert_eq!(refusal(json!({"next_hop": "nonsense"})), "400 Invalid next_hop");
    assert_eq!(refusal(json!({"socket": "udp:1.2.3.4:5"})), "404 Local socket not found");
    assert_eq!(refusal(json!({"headers": "broken"})), "400 Bad headers");
    assert_eq!(refusal(json!({"body": "x"})), "400 Content-Type missing");
    let length = format!("{good}Content-Length: 3\r\n");
    assert_eq!(refusal(json!({"headers": length})), "400 Content-Length disallowed");
    assert_eq!(refusal(json!({"headers": "From: <sip:a@b>\r\n"})), "400 To missing");
    assert_eq!(refusal(json!({"headers": "To: <sip:a@b>\r\n"})), "400 From missing");
    let cseq = format!("{good}CSeq: x OPTIONS\r\n");
    assert_eq!(refusal(json!({"headers": cseq})), "400 Bad CSeq number");
    let cseq = format!("{good}CSeq: 1 INVITE\r\n");
    assert_eq!(refusal(json!({"headers": cseq})), "400 CSeq method mismatch");
}

/// A 2xx to an INVITE of ours is acknowledged.
fn uac_dlg_invite() {
    let mut node = node(PLAIN);
    let params = json!({
        "method": "INVITE", "ruri": "sip:alice@127.0.0.3",
        "headers": "From: <sip:a@b>;tag=x\r\nTo: <sip:c@d>\r\nCall-ID: call-1\r\nCSeq: 5 INVITE\r\n",
    });
    begin(&mut node, 103, &params);
    let sent = sent_to(&mut node, SECOND).remove(0);
    let extra = "Contact: <sip:alice@127.0.0.3:5070>\nRecord-Route: <sip:p1;lr>\n\
                 Record-Route: <sip:p2;lr>\n";
    node.udp(SECOND, &reply_to(&sent, 200, extra));
    let ack = sent_to(&mut node, SECOND).remove(0);
    assert!(ack.starts_with("ACK sip:alice@127.0.0.3:5070 SIP/2.0\r\n"), "{ack}");
    assert_eq!(header(&ack, "CSeq"), "CSeq: 5 ACK");
    assert_eq!(header(&ack, "Route"), "Route: <sip:p2;lr>");
    assert_ne!(header(&ack, "Via"), header(&sent, "Via"));
    assert_eq!(answer(&mut node, 103)["result"]["Status"], "200 Text200");
    node.udp(SECOND, &reply_to(&sent, 200, extra));
    assert_eq!(sent_to(&mut node, SECOND).len(), 1, "and again when it comes again");
}

fn uac_cancel() {
    let mut node = node(PLAIN);
    let forwarded = start_call(&mut node);
    node.udp(CALLEE, &reply_to(&forwarded, 180, ""));
    let none = node.mi("t_uac_cancel", json!(["c-a", "9"]));
    assert_eq!(none["error"]["message"], "No such transaction");
    assert_eq!(none["error"]["code"], 481);
    assert_eq!(node.mi("t_uac_cancel", json!(["c-a", "1"]))["result"], "OK");
    assert!(sent_to(&mut node, CALLEE).iter().any(|text| text.starts_with("CANCEL")));
}

fn hash() {
    let mut node = node(PLAIN);
    assert_eq!(node.mi("t_hash", Json::Null)["result"], json!([]));
    start_call(&mut node);
    let rows = node.mi("tm:hash", Json::Null)["result"].clone();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["Current"], &rows[0]["Total"]), (&json!(1), &json!(1)));
    assert!(rows[0]["index"].is_u64());
}

fn reply() {
    let mut node = node("route { t_newtran(); xlog(\"id=$T_id;\"); t_wait_for_new_branches(); }");
    node.udp(CALLER, &invite());
    let logs = node.logs().into_iter().map(|(_, l)| l).collect::<Vec<_>>().join("\n");
    let id = logs.split("id=").nth(1).and_then(|rest| rest.split(';').next()).unwrap().to_owned();
    node.sent();
    let mut ask = |code: i32, id: &str| {
        node.mi(
            "tm:reply",
            json!({"code": code, "reason": "Gone", "trans_id": id, "to_tag": "mytag",
                   "new_headers": "X-Why: because\r\n"}),
        )
    };
    let message = |answer: Json| answer["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message(ask(99, &id)), "Invalid reply code");
    assert_eq!(message(ask(410, "x:1")), "Invalid index in old trans_id");
    assert_eq!(message(ask(410, "1:x")), "Invalid label in old trans_id");
    assert_eq!(message(ask(410, "nonsense")), "Invalid trans_id");
    assert_eq!(message(ask(410, "1.xyz")), "Invalid label in trans_id");
    assert_eq!(message(ask(410, "1.1")), "Transaction not found");
    assert_eq!(ask(410, &id)["result"], "OK");
    assert_eq!(message(ask(404, &id)), "Reply failed");
    let sent = sent_to(&mut node, CALLER).remove(0);
    assert!(sent.starts_with("SIP/2.0 410 Gone"));
    assert!(header(&sent, "To").ends_with(";tag=mytag"));
    assert_eq!(header(&sent, "X-Why"), "X-Why: because");
}

fn with_body() {
    let mut node = node("route { t_reply_with_body(200, \"OK\", \"some text\"); }");
    node.udp(CALLER, &request("OPTIONS", "a", ""));
    let sent = sent_to(&mut node, CALLER).remove(0);
    assert!(sent.ends_with("\r\n\r\nsome text"), "{sent}");
    assert_eq!(header(&sent, "Content-Length"), "Content-Length: 9");
}

fn by_callid() {
    let mut node = node(
        "route { if ($rm == \"INVITE\") { t_wait_for_new_branches(); exit; } \
         t_reply_by_callid(480, \"Given up\", $hdr(X-Call), $hdr(X-CSeq)); xlog(\"rc $rc\"); }",
    );
    node.udp(CALLER, &invite());
    node.sent();
    node.udp(CALLER, &request("INFO", "b", "X-Call: c-a\nX-CSeq: 7\n"));
    assert!(logged(&mut node, "rc -1"), "another CSeq");
    node.udp(CALLER, &request("INFO", "c", "X-Call: c-a\nX-CSeq: 1\n"));
    assert!(logged(&mut node, "rc 1"));
    assert_eq!(sent_lines(&mut node), [format!("{CALLER} SIP/2.0 480 Given up")]);
    node.udp(CALLER, &request("INFO", "d", "X-Call: c-a\nX-CSeq: 1\n"));
    assert!(logged(&mut node, "rc -1"), "it has its final reply");
}

/// What was written where, since the last look.
fn written(node: &mut TestNode) -> (Destination, String) {
    let mut all = node.notified();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn write_req() {
    let mut node = node(
        "route { t_write_req(\"route/none\", \"/tmp/f\"); xlog(\"rc $rc\"); \
                         t_write_req(\"route\", \"/tmp/f\"); xlog(\"rc $rc\"); }",
    );
    node.udp(CALLER, &invite());
    assert!(logged(&mut node, "rc -1"), "no tw_append has this name");
    let (to, text) = written(&mut node);
    assert_eq!(to, Destination::Fifo("/tmp/f".into()));
    assert!(text.starts_with("tandem 1\naction: route\ntrans_id: "), "{text}");
    assert!(text.contains("\nmethod: INVITE\n") && text.contains(&format!("\nsource: {CALLER}\n")));
    assert!(text.contains("\n\nINVITE sip:bob@"));
    // The other program answers.
    let id = text.lines().find_map(|l| l.strip_prefix("trans_id: ")).unwrap().to_owned();
    let params = json!({"code": 302, "reason": "There", "trans_id": id, "to_tag": "t"});
    assert_eq!(node.mi("tm:reply", params)["result"], "OK");
    assert_eq!(codes(&mut node), [100, 302]);
}

fn write_unix() {
    let append = "modparam(\"tm\", \"tw_append\", \"more: who=$fU; $si\")";
    let mut node = node_with(append, "route { t_write_unix(\"act/more\", \"/run/s\"); }");
    node.udp(CALLER, &invite());
    let (to, text) = written(&mut node);
    assert_eq!(to, Destination::Unix("/run/s".into()));
    assert!(text.contains("\nwho: alice\n$si: 127.0.0.9\n\n"), "{text}");
    node.udp(CALLER, &invite());
    assert!(node.notified().is_empty(), "a retransmission is not told");
    node.advance_ms(121_000);
    assert!(codes(&mut node).contains(&408), "nobody has answered");
}
