//! Requests of the node itself, and requests that are judged.

use tandem_engine::testing::TestNode;

use crate::common::*;

const CREATE: &str = "create_dialog();";

/// Requests of a method among what was sent, with their targets.
fn of_method(node: &mut TestNode, method: &str) -> Vec<(String, String)> {
    let sent = node.sent().into_iter();
    let ours = sent.filter(|(_, text)| text.starts_with(&format!("{method} ")));
    ours.map(|(to, text)| (to.to_string(), text)).collect()
}

pub(crate) fn options_pings() {
    let create = "create_dialog(\"options-ping-caller,options-ping-callee\");";
    let mut node = node(&set("options_ping_interval", "10"), create, "");
    Phones::talk(&mut node, "c");
    for _ in 0..2 {
        node.advance_ms(10_000);
        let pings = of_method(&mut node, "OPTIONS");
        let to: Vec<&str> = pings.iter().map(|(to, _)| to.as_str()).collect();
        assert!(to.contains(&CALLER) && to.contains(&CALLEE), "{to:?}");
        for (to, ping) in &pings {
            node.udp(to, &reply_to(ping, 200, "x", "", ""));
        }
    }
    assert_eq!(state(&mut node), 4);
    node.advance_ms(10_000);
    let pings = of_method(&mut node, "OPTIONS");
    let (to, ping) = pings.iter().find(|(to, _)| to == CALLEE).unwrap();
    assert_eq!(header(ping, "CSeq"), "10 OPTIONS", "7 was the INVITE");
    node.udp(to, &reply_to(ping, 481, "x", "", ""));
    assert_eq!(of_method(&mut node, "BYE").len(), 2);
    assert_eq!(state(&mut node), 5);
}

pub(crate) fn reinvite_pings() {
    let create = "create_dialog(\"reinvite-ping-callee,options-ping-callee\");";
    let over = "route[over] { xlog(\"L_NOTICE\", \"$DLG_end_reason\"); }\n";
    let params = format!("{}{over}", set("reinvite_ping_interval", "20"));
    let mut node = node(&params, &format!("{create} dlg_on_hangup(\"over\");"), "");
    Phones::talk(&mut node, "c");
    node.advance_ms(20_000);
    let pings = of_method(&mut node, "INVITE");
    assert_eq!(pings.len(), 1);
    let (to, ping) = &pings[0];
    assert!(to == CALLEE && ping.contains("o=- 1 1 IN IP4 127.0.0.9"), "{ping}");
    assert_eq!(header(ping, "Contact"), "<sip:alice@127.0.0.9:5060>");
    let contact = "Contact: <sip:bob@127.0.0.2:5060>\n";
    node.udp(CALLEE, &reply_to(ping, 200, "t", contact, SDP_B));
    assert_eq!(of_method(&mut node, "ACK").len(), 1);
    assert_eq!(state(&mut node), 4);
    node.advance_ms(20_000);
    let (_, ping) = of_method(&mut node, "INVITE").remove(0);
    node.udp(CALLEE, &reply_to(&ping, 481, "t", "", ""));
    assert_eq!(said(&mut node), ["Callee ReINVITE Ping Timeout"]);
}

pub(crate) fn extra_headers() {
    let params =
        format!("{}{}", set("dlg_extra_hdrs", "\"X-Extra: 1\\r\\n\""), set("default_timeout", "5"));
    let mut node = node(&params, "create_dialog(\"bye-on-timeout\");", "");
    Phones::talk(&mut node, "c");
    node.advance_ms(7_000);
    let byes = of_method(&mut node, "BYE");
    assert!(byes.len() >= 2 && byes.iter().all(|(_, bye)| bye.contains("X-Extra: 1\r\n")));
    assert_eq!(stat(&mut node, "expired_dialogs"), 1);
    let silent = set("default_timeout", "5");
    let mut node = crate::common::node(&silent, CREATE, "");
    Phones::talk(&mut node, "c");
    node.advance_ms(7_000);
    assert_eq!((of_method(&mut node, "BYE").len(), state(&mut node)), (0, 5));
}

fn cancel(call_id: &str) -> String {
    let request = Phones::request(call_id).replace("INVITE", "CANCEL");
    let head = request.split("Content-Type").next().unwrap();
    format!("{head}Content-Length: 0\n\n")
}

pub(crate) fn race() {
    for (flags, byes) in [("", 0), ("end-on-race-condition", 2)] {
        let create = format!("create_dialog(\"{flags}\");");
        let mut node = node(&set("race_condition_timeout", "3"), &create, "");
        // Late in a second, which must not count as one.
        node.advance_ms(900);
        let mut phones = Phones::dial(&mut node, "c");
        phones.ring(&mut node);
        node.udp(CALLER, &cancel("c"));
        phones.answer(&mut node);
        phones.ack(&mut node);
        assert_eq!(state(&mut node), 4);
        node.advance_ms(2_900);
        assert!(of_method(&mut node, "BYE").is_empty(), "{flags}: too early");
        node.advance_ms(2_100);
        let sent: Vec<String> = of_method(&mut node, "BYE").into_iter().map(|(to, _)| to).collect();
        let mut targets = sent.clone();
        targets.sort();
        targets.dedup();
        assert_eq!(targets.len(), byes, "{flags}");
    }
}

pub(crate) fn prack() {
    for (hangs_up, state_after) in [("0", 2), ("1", 5)] {
        let params = format!(
            "{}{}",
            set("auto_prack_hangup_on_failure", hangs_up),
            set("auto_prack_fr_timeout", "2")
        );
        let mut node = node(&params, "create_dialog(\"auto-prack\");", "");
        let phones = Phones::dial(&mut node, "c");
        let reliable = "Require: 100rel, x\nRSeq: 41\nContact: <sip:bob@127.0.0.2:5060>\n";
        node.udp(CALLEE, &reply_to(&phones.invite, 183, "t", reliable, ""));
        let sent = node.sent();
        // The caller is not asked to do it as well.
        let (_, shown) = sent.iter().find(|(_, text)| text.starts_with("SIP/2.0 183")).unwrap();
        assert_eq!((header(shown, "Require"), header(shown, "RSeq")), ("x", ""));
        let pracks: Vec<_> =
            sent.into_iter().filter(|(_, text)| text.starts_with("PRACK ")).collect();
        assert_eq!(pracks.len(), 1);
        assert_eq!(header(&pracks[0].1, "RAck"), "41 7 INVITE");
        assert_eq!(header(&pracks[0].1, "CSeq"), "8 PRACK");
        node.udp(CALLEE, &reply_to(&phones.invite, 183, "t", reliable, ""));
        assert!(of_method(&mut node, "PRACK").is_empty(), "it was acknowledged");
        node.udp(CALLEE, &reply_to(&pracks[0].1, 200, "t", "", ""));
        node.udp(CALLEE, &reply_to(&phones.invite, 183, "t", &reliable.replace("41", "42"), ""));
        assert_eq!(of_method(&mut node, "PRACK").len(), 1);
        node.advance_ms(3_000);
        assert_eq!(state(&mut node), state_after);
    }
}

pub(crate) fn validated() {
    let within = "validate_dialog(); xlog(\"L_NOTICE\", \"$rc\");";
    let mut node = node("", CREATE, &format!("if ($rm != \"ACK\") {{ {within} }}"));
    let phones = Phones::talk(&mut node, "c");
    let mut says = |request: String| {
        node.udp(CALLER, &request);
        said(&mut node)
    };
    assert_eq!(says(phones.within("INFO", 8, "")), ["1"]);
    assert_eq!(says(phones.within("INFO", 7, "")), ["-1"]);
    let elsewhere =
        phones.within("INFO", 9, "").replace("sip:bob@127.0.0.2:5060", "sip:eve@9.9.9.9");
    assert_eq!(says(elsewhere), ["-2"]);
    assert_eq!(says(phones.within("INFO", 10, "Route: <sip:9.9.9.9;lr>\n")), ["-3"]);
    assert_eq!(says(phones.within("INFO", 11, "").replace("tag=t", "tag=x")), ["-4"]);
}

pub(crate) fn fixed() {
    let mut node = node("", CREATE, "if ($rm == \"INFO\") fix_route_dialog();");
    let phones = Phones::talk(&mut node, "c");
    let wrong = phones.within("INFO", 8, "Route: <sip:9.9.9.9;lr>\n");
    let wrong = wrong.replace("sip:bob@127.0.0.2:5060", "sip:eve@9.9.9.9");
    node.udp(CALLER, &wrong);
    let info = sent_to(&mut node, CALLEE).pop().unwrap();
    assert_eq!(first_line(&info), "INFO sip:bob@127.0.0.2:5060 SIP/2.0");
    assert_eq!(header(&info, "Route"), "");
}

pub(crate) fn sequential() {
    let within = "if ($rm == \"INFO\") dlg_send_sequential(\"MESSAGE\", \"caller\", \"hello\", \
        \"text/plain\", \"X-A: b\\r\\n\");";
    let mut node = node("", CREATE, within);
    let phones = Phones::talk(&mut node, "c");
    node.udp(CALLER, &phones.within("INFO", 8, ""));
    let message = of_method(&mut node, "MESSAGE").remove(0);
    assert_eq!(message.0, CALLER);
    assert_eq!(header(&message.1, "Content-Type"), "text/plain");
    assert!(message.1.contains("X-A: b\r\n") && message.1.ends_with("\r\n\r\nhello"));
    let wrong = script("", "", "dlg_send_sequential(\"INFO\", \"both\");");
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

pub(crate) fn counted_up() {
    let within = "if ($rm == \"INFO\") { dlg_inc_cseq(, 5); }";
    let mut node = node("", CREATE, within);
    let phones = Phones::talk(&mut node, "c");
    node.udp(CALLER, &phones.within("INFO", 8, ""));
    let info = sent_to(&mut node, CALLEE).pop().unwrap();
    assert_eq!(header(&info, "CSeq"), "8 INFO");
    node.udp(CALLEE, &reply_to(&info, 200, "t", "", ""));
    node.sent();
    // 13 was made up; what follows is above it, and its reply has the caller's number again.
    node.udp(CALLER, &phones.within("MESSAGE", 9, ""));
    let message = sent_to(&mut node, CALLEE).pop().unwrap();
    assert_eq!(header(&message, "CSeq"), "14 MESSAGE");
    node.udp(CALLEE, &reply_to(&message, 200, "t", "", ""));
    let ok = sent_to(&mut node, CALLER).pop().unwrap();
    assert_eq!(header(&ok, "CSeq"), "9 MESSAGE");
}
