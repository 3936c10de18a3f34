//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_topology_hiding::MODULE,
    &tandem_dialog::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"topology_hiding.so\"\n";
const CALLER: &str = "127.0.0.9:5060";
const CALLEE: &str = "127.0.0.2:5060";
const INVITE: &str = "INVITE sip:bob@127.0.0.2 SIP/2.0\n\
    Via: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKa\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKz\n\
    Record-Route: <sip:127.0.0.9;lr>\nRecord-Route: <sip:10.8.8.8;lr>\n\
    From: <sip:alice@a.test>;tag=f\nTo: <sip:bob@b.test>\nCall-ID: call\nCSeq: 7 INVITE\n\
    Contact: <sip:alice@10.9.9.9:5099;ob;x=1>;+sip.instance=\"i\";expires=5\n\
    Content-Length: 0\n\n";

/// A call under the arguments of topology_hiding(): every message that was sent.
struct CallFlow {
    invite: String,
    ok: String,
    /// The caller's BYE at the callee, and its 200 at the caller.
    bye: String,
    bye_ok: String,
    /// The callee's BYE at the caller.
    back: String,
}

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&*prefix)).unwrap_or("")
}

fn count(text: &str, name: &str) -> usize {
    text.lines().filter(|line| line.starts_with(&format!("{name}:"))).count()
}

fn contact_uri(text: &str) -> &str {
    header(text, "Contact").split(['<', '>']).nth(1).unwrap_or("")
}

fn reply_to(request: &str, code: u16, extra: &str) -> String {
    let mut out = format!("SIP/2.0 {code} x\n");
    for line in request.lines().skip(1).take_while(|line| !line.is_empty()) {
        match line.split(':').next().unwrap() {
            "Via" | "From" | "Call-ID" | "CSeq" => out.push_str(&format!("{line}\n")),
            "To" if line.contains("tag=") => out.push_str(&format!("{line}\n")),
            "To" => out.push_str(&format!("{line};tag=t\n")),
            _ => {}
        }
    }
    format!("{out}{extra}Content-Length: 0\n\n")
}

fn sent_to(node: &mut TestNode, to: &str) -> String {
    let sent = node.sent().into_iter().filter(|(at, _)| at.to_string() == to);
    sent.map(|(_, text)| text).rfind(|text| !text.starts_with("SIP/2.0 100")).unwrap_or_default()
}

fn node(params: &str, args: &str) -> TestNode {
    TestNode::new(
        &format!(
            "{MODULE_LINES}{params}route {{ if ($tt != NULL) {{ \
             if (!topology_hiding_match()) {{ sl_send_reply(481, \"No\"); exit; }} \
             t_relay(); exit; }} topology_hiding({args}); \
             xlog(\"L_NOTICE\", \"$rc $TH_callee_callid\"); t_relay(); }}"
        ),
        MODULES,
    )
}

fn flow(params: &str, args: &str) -> CallFlow {
    let mut node = node(params, args);
    node.udp(CALLER, INVITE);
    let invite = sent_to(&mut node, CALLEE);
    let extra = "Record-Route: <sip:10.7.7.7;lr>\nRecord-Route: <sip:127.0.0.2;lr>\n\
        Contact: <sip:bob@10.6.6.6>\n";
    node.udp(CALLEE, &reply_to(&invite, 200, extra));
    let ok = sent_to(&mut node, CALLER);
    let bye = |uri: &str, from: &str, to: &str, call_id: &str, branch: &str| {
        format!(
            "BYE {uri} SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK{branch}\nFrom: {from}\n\
             To: {to}\nCall-ID: {call_id}\nCSeq: 8 BYE\nContent-Length: 0\n\n"
        )
    };
    let (from, to) = ("<sip:alice@a.test>;tag=f", "<sip:bob@b.test>;tag=t");
    node.udp(CALLER, &bye(contact_uri(&ok), from, to, "call", "b"));
    let bye_out = sent_to(&mut node, CALLEE);
    node.udp(CALLEE, &reply_to(&bye_out, 200, ""));
    let bye_ok = sent_to(&mut node, CALLER);
    let call_id = header(&invite, "Call-ID");
    node.udp(CALLEE, &bye(contact_uri(&invite), to, from, call_id, "c"));
    let back = sent_to(&mut node, CALLER);
    CallFlow { invite, ok, bye: bye_out, bye_ok, back }
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_topology_hiding::MODULE,
        &[
            ("param th_passed_contact_uri_params", passed),
            ("param th_passed_contact_params", passed),
            ("param th_callid_passwd", call_id),
            ("param th_callid_prefix", call_id),
            ("param th_contact_encode_passwd", encoding),
            ("param th_contact_encode_param", encoding),
            ("param th_contact_encode_scheme", encoding),
            ("param force_dialog", dialogs),
            ("param th_contact_caller_username_var", users),
            ("param th_contact_callee_username_var", users),
            ("param th_callid_loop_protection", loops),
            ("function topology_hiding", hiding),
            ("function topology_hiding_match", matching),
            ("variable TH_callee_callid", call_id),
        ],
    );
}

fn hiding() {
    let flow = flow("", "");
    assert_eq!((count(&flow.invite, "Via"), count(&flow.invite, "Record-Route")), (1, 0));
    assert!(contact_uri(&flow.invite).starts_with("sip:127.0.0.1:5060;thinfo="));
    assert!(!flow.invite.contains("10.9.9.9") && !flow.invite.contains("10.8.8.8"));
    assert_eq!((count(&flow.ok, "Via"), count(&flow.ok, "Record-Route")), (2, 0));
    assert!(header(&flow.ok, "Via").contains("branch=z9hG4bKa"), "{}", flow.ok);
    assert!(contact_uri(&flow.ok).starts_with("sip:127.0.0.1:5060;thinfo="));
    assert!(!flow.ok.contains("10.7.7.7") && !flow.ok.contains("10.6.6.6"));
    // Also one that says where the request came from.
    let invite = INVITE.replace("127.0.0.9;branch", "10.9.9.9:5099;rport;branch");
    let mut asks = node("", "");
    asks.udp(CALLER, &invite);
    let out = sent_to(&mut asks, CALLEE);
    assert_eq!(count(&out, "Via"), 1, "{out}");
    let users = super_flow_users();
    assert_eq!(users, ("sip:alice@127.0.0.1:5060".into(), "sip:bob@127.0.0.1:5060".into()));
    let named = self::flow("", ", \"left/right\"");
    assert!(contact_uri(&named.invite).starts_with("sip:right@127.0.0.1:5060;"));
    assert!(contact_uri(&named.ok).starts_with("sip:left@127.0.0.1:5060;"));
    let mut alone = node("", "\"D\"");
    alone.udp(CALLER, INVITE);
    let said: String = alone.logs().into_iter().map(|(_, text)| text + "\n").collect();
    assert!(said.contains("the module dialog is not loaded"), "{said}");
}

/// What flag U shows each side.
fn super_flow_users() -> (String, String) {
    let flow = flow("", "\"U\"");
    let before = |text: &str| contact_uri(text).split(';').next().unwrap().to_owned();
    (before(&flow.invite), before(&flow.ok))
}

fn matching() {
    let flow = flow("", "");
    // The caller's requests take the callee's routes from the far end.
    assert!(flow.bye.starts_with("BYE sip:bob@10.6.6.6 SIP/2.0"), "{}", flow.bye);
    assert_eq!(header(&flow.bye, "Route"), "<sip:127.0.0.2;lr>, <sip:10.7.7.7;lr>");
    assert_eq!(count(&flow.bye, "Via"), 1);
    assert!(header(&flow.bye_ok, "Via").contains("branch=z9hG4bKb"));
    // The callee's take the caller's as they stand.
    assert!(flow.back.starts_with("BYE sip:alice@10.9.9.9:5099;ob;x=1 SIP/2.0"), "{}", flow.back);
    assert_eq!(header(&flow.back, "Route"), "<sip:127.0.0.9;lr>, <sip:10.8.8.8;lr>");
    let mut node = node("", "");
    let stray = INVITE.replace("To: <sip:bob@b.test>", "To: <sip:bob@b.test>;tag=t");
    node.udp(CALLER, &stray);
    assert!(sent_to(&mut node, CALLER).starts_with("SIP/2.0 481"));
    let forged = stray.replace("INVITE sip:bob@127.0.0.2", "INVITE sip:127.0.0.1;thinfo=AAAABBBB");
    node.udp(CALLER, &forged);
    assert!(sent_to(&mut node, CALLER).starts_with("SIP/2.0 481"));
}

fn passed() {
    let params = "modparam(\"topology_hiding\", \"th_passed_contact_uri_params\", \"x;ob\")\n\
        modparam(\"topology_hiding\", \"th_passed_contact_params\", \"expires;none\")\n";
    let plain = flow("", "").invite;
    assert!(!header(&plain, "Contact").contains(";x=1"));
    let invite = flow(params, "").invite;
    assert!(contact_uri(&invite).ends_with(";x=1;ob"), "{invite}");
    assert!(header(&invite, "Contact").ends_with(">;expires=5"), "{invite}");
}

fn call_id() {
    let ids = |params: &str| {
        let flow = flow(params, "\"C\"");
        assert_eq!(header(&flow.ok, "Call-ID"), "call");
        assert_eq!(header(&flow.bye, "Call-ID"), header(&flow.invite, "Call-ID"));
        assert_eq!(header(&flow.bye_ok, "Call-ID"), "call");
        assert_eq!(header(&flow.back, "Call-ID"), "call");
        header(&flow.invite, "Call-ID").to_owned()
    };
    let usual = ids("");
    assert!(usual.starts_with("DLGCH_") && !usual.contains("call"));
    let key = ids("modparam(\"topology_hiding\", \"th_callid_passwd\", \"other\")\n");
    assert!(key.starts_with("DLGCH_") && key != usual);
    let prefix = ids("modparam(\"topology_hiding\", \"th_callid_prefix\", \"X-\")\n");
    assert!(prefix.starts_with("X-"));
    let script = "onreply_route[r] { xlog(\"L_NOTICE\", \"$TH_callee_callid\"); } route { \
         topology_hiding(\"C\"); t_on_reply(\"r\"); xlog(\"L_NOTICE\", \"$rc $TH_callee_callid\"); \
         t_relay(); }";
    let mut node = TestNode::new(&format!("{MODULE_LINES}{script}"), MODULES);
    node.udp(CALLER, INVITE);
    assert_eq!(node.logs().pop().unwrap().1, format!("1 {usual}"), "$TH_callee_callid");
    let invite = sent_to(&mut node, CALLEE);
    node.udp(CALLEE, &reply_to(&invite, 180, ""));
    assert_eq!(node.logs().pop().unwrap().1, usual, "$TH_callee_callid of a reply");
}

fn encoding() {
    let set = |name: &str, value: &str| {
        format!("modparam(\"topology_hiding\", \"{name}\", \"{value}\")\n")
    };
    let usual = contact_uri(&flow("", "").invite).to_owned();
    let named = flow(&set("th_contact_encode_param", "h"), "");
    assert!(contact_uri(&named.invite).contains(";h="));
    assert!(named.bye.starts_with("BYE sip:bob@10.6.6.6 "));
    let key = flow(&set("th_contact_encode_passwd", "k"), "");
    assert!(contact_uri(&key.invite) != usual && key.bye.starts_with("BYE sip:bob@10.6.6.6 "));
    for key in ["", &set("th_contact_encode_passwd", "k")] {
        nobody_else_makes_such_a_contact(key);
    }
    let base32 = flow(&set("th_contact_encode_scheme", "base32"), "");
    let text = contact_uri(&base32.invite).split("thinfo=").nth(1).unwrap();
    assert!(!text.bytes().any(|b| b.is_ascii_uppercase() || b == b'_'), "{text}");
    assert!(base32.back.starts_with("BYE sip:alice@10.9.9.9"));
}

const DIALOG: &str = "loadmodule \"dialog.so\"\n";

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"topology_hiding\", \"{name}\", {value})\n")
}

fn dialogs() {
    let flow = flow(&format!("{DIALOG}{}", set("force_dialog", "1")), "");
    assert!(contact_uri(&flow.invite).contains(";did=") && contact_uri(&flow.ok).contains(";did="));
    assert!(flow.bye.starts_with("BYE sip:bob@10.6.6.6 SIP/2.0"), "{}", flow.bye);
    assert!(flow.back.starts_with("BYE sip:alice@10.9.9.9:5099;ob;x=1 SIP/2.0"), "{}", flow.back);
    let script = format!("{MODULE_LINES}{}route {{ exit; }}", set("force_dialog", "1"));
    assert!(TestNode::try_new(&script, MODULES).err().unwrap().contains("dialog"));
}

fn users() {
    let names =
        [("th_contact_caller_username_var", "left"), ("th_contact_callee_username_var", "right")];
    for (param, user) in names {
        let params = format!("{DIALOG}{}", set(param, "\"kept\""));
        let mut node = node(&params, "\"D\", \"left/right\"");
        node.udp(CALLER, INVITE);
        let all = node.mi("dialog:list_ctx", serde_json::Value::Null).to_string();
        assert!(all.contains(&format!("{{\"kept\":\"{user}\"}}")), "{all}");
    }
}

fn loops() {
    let one = flow(&set("th_callid_loop_protection", "1"), "\"C\"");
    let other = flow("", "\"C\"");
    assert_ne!(header(&one.invite, "Call-ID"), header(&other.invite, "Call-ID"));
    assert_eq!(header(&one.bye, "Call-ID"), header(&one.invite, "Call-ID"));
    assert_eq!(header(&one.back, "Call-ID"), "call");
}

fn nobody_else_makes_such_a_contact(params: &str) {
    let mut node = node(params, "");
    node.udp(CALLER, INVITE);
    let invite = sent_to(&mut node, CALLEE);
    node.udp(CALLEE, &reply_to(&invite, 200, "Contact: <sip:bob@10.6.6.6>\n"));
    let ok = sent_to(&mut node, CALLER);
    let uri = contact_uri(&ok);
    let at = uri.find("thinfo=").unwrap() + 7;
    let bye = |uri: &str, branch: usize| {
        let text = INVITE.replace("INVITE sip:bob@127.0.0.2", &format!("BYE {uri}"));
        let text =
            text.replace("7 INVITE", "8 BYE").replace("z9hG4bKa", &format!("z9hG4bKf{branch}"));
        text.replace("To: <sip:bob@b.test>", "To: <sip:bob@b.test>;tag=t")
    };
    for place in (at + 4..uri.len()).step_by(7) {
        let letter = if uri.as_bytes()[place] == b'A' { "B" } else { "A" };
        let mut forged = uri.to_owned();
        forged.replace_range(place..=place, letter);
        node.udp(CALLER, &bye(&forged, place));
        assert!(sent_to(&mut node, CALLER).starts_with("SIP/2.0 481"), "{forged}");
    }
    node.udp(CALLER, &bye(uri, 0));
    assert!(sent_to(&mut node, "10.6.6.6:5060").starts_with("BYE sip:bob@10.6.6.6"));
}
