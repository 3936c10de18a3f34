//! Requests that wait for phones: RFC 8599.

use tandem_engine::testing::TestNode;

use super::common::*;

const PUSH: &str = "modparam(\"registrar\", \"pn_enable\", 1)\n\
                    modparam(\"registrar\", \"pn_providers\", \"fcm\")\n";
const BODY: &str = "if ($rm == \"REGISTER\") { save(\"location\"); exit; }\n\
                    t_on_failure(\"none\");\n\
                    lookup(\"location\"); $var(rc) = $rc; xlog(\"rc=$var(rc) ru=$ru\\n\");\n\
                    if ($var(rc) < 0) { t_reply(404, \"Not Found\"); exit; }\n\
                    t_relay();";
const ROUTES: &str = "failure_route[none] { xlog(\"failed $T_reply_code\\n\"); }\n\
    event_route[E_UL_CONTACT_REFRESH] {\n\
        xlog(\"push $param(uri) $param(reason) $param(req_callid)\\n\"); }\n";

fn push_node(setup: &str, body: &str) -> TestNode {
    let text = script(&format!("{PUSH}{setup}"), body) + ROUTES;
    TestNode::new(&text, MODULES)
}

/// A contact that is woken, reached at this port.
fn contact(port: u16) -> String {
    format!("sip:a@10.0.0.9:{port};pn-provider=fcm;pn-prid=1;pn-param=x")
}

fn come(node: &mut TestNode, cseq: u32, port: u16) {
    let lines = format!("Contact: <{}>;expires=600\n", contact(port));
    node.udp(PHONE, &register("phone", cseq, &lines));
}

fn lines(node: &mut TestNode) -> String {
    let logs = node.logs();
    logs.iter().map(|(_, l)| l.trim()).collect::<Vec<_>>().join("|")
}

/// Addresses and first lines of what left.
fn sent(node: &mut TestNode) -> Vec<String> {
    let sent = node.sent();
    let first = |(to, text): &(_, String)| format!("{to} {}", text.lines().next().unwrap());
    sent.iter().map(first).collect()
}

#[test]
fn a_request_waits_for_the_phone_that_it_wakes() {
    let mut node = push_node("", BODY);
    come(&mut node, 1, 5070);
    node.advance_ms(60_000);
    node.sent();
    node.logs();
    node.udp("10.0.0.7:5060", &invite(""));
    let told = lines(&mut node);
    let push = format!("push {} ini-INVITE inv", contact(5070));
    assert!(told.contains("rc=2") && told.contains(&push), "{told}");
    assert_eq!(sent(&mut node), ["10.0.0.7:5070 SIP/2.0 100 Giving it a try"]);
    node.udp("10.0.0.7:5060", &invite(""));
    assert!(!lines(&mut node).contains("push"), "a retransmission wakes nobody");
    node.sent();
    come(&mut node, 2, 7777);
    let left = sent(&mut node);
    assert!(left.iter().any(|l| l.starts_with("10.0.0.9:5070 SIP/2.0 200")), "{left:?}");
    let invite = format!("10.0.0.9:7777 INVITE {} SIP/2.0", contact(7777));
    assert!(left.contains(&invite), "it goes where the phone is now: {left:?}");
    come(&mut node, 3, 7777);
    let left = sent(&mut node);
    assert!(!left.iter().any(|l| l.contains("INVITE")), "once: {left:?}");
}

#[test]
fn others_ring_while_a_phone_is_woken() {
    let mut node = push_node("", BODY);
    let both = format!("Contact: <{}>, <sip:desk@10.0.0.8>\n", contact(5070));
    node.udp(PHONE, &register("phone", 1, &both));
    node.advance_ms(60_000);
    node.sent();
    node.logs();
    node.udp("10.0.0.7:5060", &invite(""));
    assert!(lines(&mut node).contains("rc=1 ru=sip:desk@10.0.0.8"));
    let left = sent(&mut node);
    assert!(left.iter().any(|l| l.starts_with("10.0.0.8:5060 INVITE")), "{left:?}");
    come(&mut node, 2, 7777);
    let left = sent(&mut node);
    assert!(left.iter().any(|l| l.starts_with("10.0.0.9:7777 INVITE")), "{left:?}");
}

pub(super) fn a_phone_that_does_not_come_is_not_waited_for() {
    let mut node = push_node("modparam(\"registrar\", \"pn_refresh_timeout\", 3)", BODY);
    come(&mut node, 1, 5070);
    node.advance_ms(60_000);
    node.udp("10.0.0.7:5060", &invite(""));
    node.sent();
    node.logs();
    node.advance_ms(2_900);
    assert!(sent(&mut node).is_empty());
    node.advance_ms(200);
    let (left, told) = (sent(&mut node), lines(&mut node));
    assert!(told.contains("failed"), "the failure route sees it: {told}");
    assert!(left.iter().any(|l| l.contains("SIP/2.0 4")), "{left:?}");
    come(&mut node, 2, 5070);
    let left = sent(&mut node);
    assert!(!left.iter().any(|l| l.contains("INVITE")), "too late: {left:?}");
}

#[test]
fn a_caller_who_gives_up_sends_nothing_to_the_phone() {
    let mut node = push_node("", BODY);
    come(&mut node, 1, 5070);
    node.advance_ms(60_000);
    node.udp("10.0.0.7:5060", &invite(""));
    let cancel = invite("").replace("INVITE", "CANCEL");
    let with_cancel = BODY.replacen("if (", "if ($rm == \"CANCEL\") { t_relay(); exit; }\nif (", 1);
    let mut node = push_node("", &with_cancel);
    come(&mut node, 1, 5070);
    node.advance_ms(60_000);
    node.udp("10.0.0.7:5060", &invite(""));
    node.sent();
    node.udp("10.0.0.7:5060", &cancel);
    assert!(sent(&mut node).iter().any(|l| l.contains("487")));
    come(&mut node, 2, 5070);
    assert!(!sent(&mut node).iter().any(|l| l.contains("INVITE")));
}

pub(super) fn a_phone_that_has_just_registered_is_awake() {
    let mut node = push_node("modparam(\"registrar\", \"pn_skip_pn_interval\", 30)", BODY);
    come(&mut node, 1, 5070);
    node.advance_ms(29_000);
    node.logs();
    node.udp("10.0.0.7:5060", &invite(""));
    assert!(lines(&mut node).contains("rc=1 ru=sip:a@10.0.0.9:5070"));
    node.advance_ms(2_000);
    node.udp("10.0.0.7:5060", &invite("").replace("inv", "inv2"));
    assert!(lines(&mut node).contains("rc=2"));
}

pub(super) fn a_request_of_a_dialog_wakes_its_phone() {
    let body = "if ($rm == \"REGISTER\") { save(\"location\"); exit; }\n\
                async(pn_process_purr(\"location\"), woken);";
    let setup = "modparam(\"registrar\", \"pn_enable_purr\", 1)";
    let text = script(&format!("{PUSH}{setup}"), body)
        + ROUTES
        + "route[woken] { xlog(\"woken $rc\\n\"); }\n";
    let mut node = TestNode::new(&text, MODULES);
    come(&mut node, 1, 5070);
    let reply = node.sent().remove(0).1;
    let purr = reply.split("+sip.pnspurr=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let bye = |n: u32, purr: &str| {
        let uri = format!("{};pn-purr={purr}", contact(5070));
        let text = invite("").replacen("sip:alice@example.org", &uri, 1);
        text.replace("INVITE", "BYE").replace("inv", &format!("inv{n}"))
    };
    node.logs();
    node.udp("10.0.0.7:5060", &bye(1, &purr));
    let told = lines(&mut node);
    assert!(told.contains("mid-BYE inv1") && !told.contains("woken"), "{told}");
    come(&mut node, 2, 5071);
    assert!(lines(&mut node).contains("woken 1"));
    node.udp("10.0.0.7:5060", &bye(2, &purr));
    node.advance_ms(6_100);
    assert!(lines(&mut node).contains("woken -2"), "it did not come");
    let without = bye(3, &purr).replace(&format!(";pn-purr={purr}"), "");
    node.udp("10.0.0.7:5060", &without);
    assert!(lines(&mut node).contains("woken 2"), "there is nothing to do");
    node.udp("10.0.0.7:5060", &bye(4, "0000000000000001"));
    assert!(lines(&mut node).contains("woken -1"), "nobody has this name");
}
