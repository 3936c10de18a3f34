//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_engine::catalogue::Modules;
use tandem_engine::testing::{TestNode, cover};
use tandem_sip::Algorithm;

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_rr::MODULE,
    &tandem_dialog::MODULE,
    &tandem_uac_auth::MODULE,
    &tandem_uac::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"rr.so\"\nloadmodule \"uac_auth.so\"\n\
     loadmodule \"uac.so\"\nmodparam(\"uac_auth\", \"credential\", \"me:r.test:secret\")\n";
const CALLER: &str = "127.0.0.9:5060";
const CALLEE: &str = "127.0.0.2:5060";
const FROM: &str = "\"A\" <sip:alice@a.test;x=y>;tag=f";

fn node(params: &str, script: &str) -> TestNode {
    TestNode::new(&format!("{MODULE_LINES}{params}\n{script}"), MODULES)
}

fn invite(from: &str) -> String {
    format!(
        "INVITE sip:bob@127.0.0.2 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKa\n\
         From: {from}\nTo: <sip:bob@b.test>\nCall-ID: c\nCSeq: 7 INVITE\n\
         Contact: <sip:alice@127.0.0.9>\nContent-Length: 0\n\n"
    )
}

/// The request that goes to the callee.
fn forwarded(node: &mut TestNode) -> String {
    let sent = node.sent().into_iter().filter(|(to, _)| to.to_string() == CALLEE);
    sent.map(|(_, text)| text).rfind(|text| !text.starts_with("ACK")).unwrap()
}

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| line.strip_prefix(&*prefix)).unwrap_or("")
}

fn reply_to(request: &str, code: u16, extra: &str) -> String {
    let mut out = format!("SIP/2.0 {code} x\n");
    for line in request.lines().skip(1).take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap();
        match name {
            "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => {
                out.push_str(line);
                out.push('\n');
            }
            "To" if line.contains("tag=") => out.push_str(&format!("{line}\n")),
            "To" => out.push_str(&format!("{line};tag=t\n")),
            _ => {}
        }
    }
    format!("{out}{extra}Content-Length: 0\n\n")
}

/// What the INVITE becomes under a script line.
fn changed(params: &str, line: &str) -> String {
    let mut node = node(params, &format!("route {{ {line}; record_route(); t_relay(); }}"));
    node.udp(CALLER, &invite(FROM));
    forwarded(&mut node)
}

/// The requests and replies of a dialog under a script line: INVITE out, 200 back, then the BYE
/// of the caller out, its 200 back, and the BYE of the callee.
fn dialog(params: &str, line: &str) -> [String; 5] {
    let script = format!(
        "route {{ if ($tt != NULL) {{ loose_route(); $var(r) = \"x\"; \
         if ($hdr(X-Restore) != NULL) {{ uac_restore_from(); uac_restore_to(); }} t_relay(); \
         exit; }} {line}; record_route(); t_relay(); }}"
    );
    let mut node = node(params, &script);
    node.udp(CALLER, &invite(FROM));
    let out = forwarded(&mut node);
    let contact = "Contact: <sip:bob@127.0.0.2>\n";
    node.udp(CALLEE, &reply_to(&out, 200, contact));
    let answer = node.sent().pop().unwrap().1;
    let bye = |from: &str, to: &str, target: &str, branch: &str| {
        format!(
            "BYE {target} SIP/2.0\nVia: SIP/2.0/UDP x.test;branch=z9hG4bK{branch}\nFrom: {from}\n\
             To: {to}\nCall-ID: c\nCSeq: 8 BYE\nRoute: {}\nX-Restore: 1\n\
             Content-Length: 0\n\n",
            header(&out, "Record-Route")
        )
    };
    let down = bye(header(&answer, "From"), header(&answer, "To"), "sip:bob@127.0.0.2", "b");
    node.udp(CALLER, &down);
    let bye_out = forwarded(&mut node);
    node.udp(CALLEE, &reply_to(&bye_out, 200, ""));
    let bye_answer = node.sent().pop().unwrap().1;
    let to = format!("{};tag=t", header(&out, "To"));
    let up = bye(&to, header(&out, "From"), "sip:alice@127.0.0.9", "c");
    node.udp(CALLEE, &up);
    let bye_back = node.sent().into_iter().rfind(|(to, _)| to.to_string() == CALLER).unwrap().1;
    [out, answer, bye_out, bye_answer, bye_back]
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_uac::MODULE,
        &[
            ("param rr_from_store_param", store_params),
            ("param rr_to_store_param", store_params),
            ("param restore_mode", modes),
            ("param restore_passwd", password),
            ("param force_dialog", force_dialog),
            ("function uac_replace_from", replace_from),
            ("function uac_restore_from", restore_by_hand),
            ("function uac_replace_to", replace_to),
            ("function uac_restore_to", restore_by_hand),
            ("function uac_auth", auth),
            ("function uac_inc_cseq", inc_cseq),
        ],
    );
}

const FROM_CHANGE: &str = "uac_replace_from(\"Bob\", \"sip:pbx@a-much-longer-name.test\")";

fn store_params() {
    assert!(header(&changed("", FROM_CHANGE), "Record-Route").contains(";vsf="));
    let params = "modparam(\"uac\", \"rr_from_store_param\", \"xf\")\n\
        modparam(\"uac\", \"rr_to_store_param\", \"xt\")";
    let both = format!("{FROM_CHANGE}; uac_replace_to(\"\", \"sip:x@y\")");
    let sent = changed(params, &both);
    let route = header(&sent, "Record-Route");
    assert!(route.contains(";xf=") && route.contains(";xt=") && !route.contains("vs"), "{route}");
    assert!(header(&changed("", &both), "Record-Route").contains(";vst="));
}

fn replace_from() {
    let from = |line: &str| header(&changed("", line), "From").to_owned();
    assert_eq!(from(FROM_CHANGE), "\"Bob\" <sip:pbx@a-much-longer-name.test>;tag=f");
    assert_eq!(from("uac_replace_from(\"\", \"sip:x@y\")"), "<sip:x@y>;tag=f");
    assert_eq!(from("uac_replace_from(, \"sip:x@y\")"), "\"A\" <sip:x@y>;tag=f");
    assert_eq!(from("uac_replace_from(\"B\", \"\")"), "\"B\" <sip:alice@a.test;x=y>;tag=f");
    assert_eq!(from("uac_replace_from(\"B\", \"no uri\")"), FROM);
    let [out, answer, bye, bye_answer, back] = dialog("", FROM_CHANGE);
    assert_eq!(header(&answer, "From"), FROM);
    assert_eq!(header(&answer, "To"), "<sip:bob@b.test>;tag=t");
    assert_eq!(header(&bye, "From"), "\"A\" <sip:pbx@a-much-longer-name.test>;tag=f");
    assert_eq!(header(&bye_answer, "From"), FROM);
    assert_eq!(header(&back, "To"), "\"Bob\" <sip:alice@a.test;x=y>;tag=f");
    assert_eq!(header(&out, "To"), "<sip:bob@b.test>");
    // A bare URI gets brackets, and its parameters stay those of the header.
    let mut node = node("", "route { uac_replace_from(\"B\", \"sip:x@y;a=b\"); t_relay(); }");
    node.udp(CALLER, &invite("sip:alice@a.test;tag=f"));
    assert_eq!(header(&forwarded(&mut node), "From"), "\"B\" <sip:x@y;a=b>;tag=f");
}

fn replace_to() {
    let [out, answer, bye, bye_answer, back] = dialog("", "uac_replace_to(\"\", \"sip:t@t.test\")");
    assert_eq!(header(&out, "To"), "<sip:t@t.test>");
    assert_eq!(header(&answer, "To"), "<sip:bob@b.test>;tag=t");
    assert_eq!(header(&bye, "To"), "<sip:t@t.test>;tag=t");
    assert_eq!(header(&bye_answer, "To"), "<sip:bob@b.test>;tag=t");
    assert_eq!(header(&back, "From"), "<sip:bob@b.test>;tag=t");
    // In a branch route it is the branch alone.
    let script = "route { t_on_branch(\"b\"); record_route(); t_relay(); } \
        branch_route[b] { uac_replace_to(\"\", \"sip:br@t.test\"); }";
    let mut node = node("", script);
    node.udp(CALLER, &invite(FROM));
    let out = forwarded(&mut node);
    assert_eq!(header(&out, "To"), "<sip:br@t.test>");
    assert!(header(&out, "Record-Route").contains(";vst="));
    node.udp(CALLEE, &reply_to(&out, 486, ""));
    let reply = node.sent().into_iter().rfind(|(to, _)| to.to_string() == CALLER).unwrap().1;
    assert_eq!(header(&reply, "To"), "<sip:bob@b.test>;tag=t");
}

fn modes() {
    let mode = |mode: &str| format!("modparam(\"uac\", \"restore_mode\", \"{mode}\")");
    let [out, answer, ..] = dialog(&mode("none"), FROM_CHANGE);
    assert!(!header(&out, "Record-Route").contains("vsf"));
    assert_eq!(header(&answer, "From"), "\"Bob\" <sip:pbx@a-much-longer-name.test>;tag=f");
    let wrong = format!("{MODULE_LINES}{}\nroute {{ exit; }}", mode("sometimes"));
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn force_dialog() {
    let load = "loadmodule \"dialog.so\"\n";
    let dialogs = |params: &str, route: &str| {
        let mut node = node(params, &format!("route {{ {route} record_route(); t_relay(); }}"));
        node.udp(CALLER, &invite(FROM));
        assert!(
            forwarded(&mut node).contains("pbx@a-much-longer"),
            "the name is changed all the same"
        );
        node.node().statistic("dialog:processed_dialogs", node.now())
    };
    let change = format!("{FROM_CHANGE};");
    let forced = format!("{load}modparam(\"uac\", \"force_dialog\", 1)");
    assert_eq!(dialogs(load, &change), Some(0));
    assert_eq!(dialogs(&forced, &change), Some(1));
    assert_eq!(dialogs(&forced, &format!("create_dialog(); {change}")), Some(1));
    let alone = format!("{MODULE_LINES}modparam(\"uac\", \"force_dialog\", 1)\nroute {{ exit; }}");
    let error = TestNode::try_new(&alone, MODULES).err().unwrap();
    assert!(error.contains("load module dialog"), "{error}");
}

fn restore_by_hand() {
    let params = "modparam(\"uac\", \"restore_mode\", \"manual\")";
    let both = format!("{FROM_CHANGE}; uac_replace_to(\"\", \"sip:t@t.test\")");
    let [_, answer, bye, _, back] = dialog(params, &both);
    assert_eq!(header(&answer, "From"), FROM);
    assert_eq!(header(&bye, "From"), "\"A\" <sip:pbx@a-much-longer-name.test>;tag=f");
    assert_eq!(header(&bye, "To"), "<sip:t@t.test>;tag=t");
    assert_eq!(header(&back, "From"), "<sip:bob@b.test>;tag=t");
    // With restore_mode auto it has been done, and the functions fail.
    let mut node = node(
        "",
        "route { uac_restore_from(); xlog(\"L_NOTICE\", \"$rc\"); \
        uac_restore_to(); xlog(\"L_NOTICE\", \"$rc\"); }",
    );
    node.udp(CALLER, &invite(FROM));
    let codes: Vec<String> = node.logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(codes.iter().filter(|text| *text == "-1").count(), 2, "{codes:?}");
}

fn password() {
    let route = |params: &str| header(&changed(params, FROM_CHANGE), "Record-Route").to_owned();
    let params = "modparam(\"uac\", \"restore_passwd\", \"key\")";
    assert_ne!(route(""), route(params));
    let [_, _, bye, ..] = dialog(params, FROM_CHANGE);
    assert_eq!(header(&bye, "From"), "\"A\" <sip:pbx@a-much-longer-name.test>;tag=f");
}

/// A call whose callee asks for credentials with these lines; what is sent then.
fn challenged(args: &str, code: u16, challenge: &str) -> (TestNode, String) {
    let script = format!(
        "route {{ t_on_failure(\"f\"); t_relay(); }} failure_route[f] {{ \
         if (uac_auth({args})) {{ t_on_failure(\"f\"); t_relay(); }} }}"
    );
    let mut node = node("", &script);
    node.udp(CALLER, &invite(FROM));
    let out = forwarded(&mut node);
    node.udp(CALLEE, &reply_to(&out, code, challenge));
    let again = node
        .sent()
        .into_iter()
        .rfind(|(_, t)| t.starts_with("INVITE"))
        .unwrap_or_else(|| (CALLEE.parse().unwrap(), String::new()));
    (node, again.1)
}

fn auth() {
    let ask = "WWW-Authenticate: Digest realm=\"r.test\", nonce=\"n\", opaque=\"o\"\n";
    let (mut node, again) = challenged("", 401, ask);
    let ha1 = Algorithm::Md5.ha1(b"me", b"r.test", b"secret");
    let response = tandem_sip::Response {
        algorithm: Algorithm::Md5,
        method: b"INVITE",
        uri: b"sip:bob@127.0.0.2",
        nonce: b"n",
        qop: b"",
        nc: b"",
        cnonce: b"",
        body: b"",
    };
    let response = String::from_utf8(response.compute(ha1.as_bytes()).as_bytes().to_vec()).unwrap();
    let wanted = format!(
        "Digest username=\"me\", realm=\"r.test\", nonce=\"n\", uri=\"sip:bob@127.0.0.2\", \
         response=\"{response}\", opaque=\"o\""
    );
    assert_eq!(header(&again, "Authorization"), wanted);
    assert_eq!(header(&again, "CSeq"), "8 INVITE");
    // A second challenge counts on, and the caller sees its own CSeq.
    node.udp(CALLEE, &reply_to(&again, 401, ask));
    let third = node.sent().into_iter().rfind(|(_, t)| t.starts_with("INVITE")).unwrap().1;
    assert_eq!(header(&third, "CSeq"), "9 INVITE");
    node.udp(CALLEE, &reply_to(&third, 200, ""));
    let answer = node.sent().pop().unwrap().1;
    assert_eq!(header(&answer, "CSeq"), "7 INVITE");

    let two = "Proxy-Authenticate: Digest realm=\"r.test\", nonce=\"n\", algorithm=SHA-256, \
        qop=\"auth,auth-int\"\nProxy-Authenticate: Digest realm=\"r.test\", nonce=\"n\"\n";
    let (_, again) = challenged("", 407, two);
    let line = header(&again, "Proxy-Authorization");
    assert!(line.contains("algorithm=SHA-256") && line.contains("qop=auth, nc=00000001"), "{line}");
    let (_, again) = challenged("\"MD5\"", 407, two);
    assert!(!header(&again, "Proxy-Authorization").contains("SHA-256"));
    assert!(header(&again, "Proxy-Authorization").contains("username=\"me\""));

    let (mut node, again) = challenged("", 401, &ask.replace("r.test", "other.test"));
    assert_eq!(again, "");
    assert!(node.logs().iter().any(|(_, text)| text.contains("no credentials for the challenge")));
    // Nobody can answer without a nonce (RFC 7616 3.3); the caller gets the challenge.
    let (_, again) = challenged("", 401, &ask.replace(", nonce=\"n\"", ""));
    assert_eq!(again, "");
    let wrong = format!("{MODULE_LINES}route {{ uac_auth(\"MD6\"); }}");
    assert!(TestNode::try_new(&wrong, MODULES).err().unwrap().contains("MD6"));
}

fn inc_cseq() {
    assert_eq!(header(&changed("", "uac_inc_cseq(5)"), "CSeq"), "12 INVITE");
    assert_eq!(header(&changed("", "uac_inc_cseq(5); uac_inc_cseq(1)"), "CSeq"), "13 INVITE");
    assert_eq!(header(&changed("", "uac_inc_cseq(-1)"), "CSeq"), "7 INVITE");
    let [_, answer, ..] = dialog("", "uac_inc_cseq(5)");
    assert_eq!(header(&answer, "CSeq"), "7 INVITE");
}

#[test]
fn everybody_who_asks_in_a_fork_is_answered() {
    let script = "route { t_on_failure(\"f\"); append_msg_branch(\"sip:bob@127.0.0.3\"); t_relay(); } \
                  failure_route[f] { if (uac_auth()) t_relay(); }";
    let params = "modparam(\"uac_auth\", \"credential\", \"you:p.test:word\")\n";
    let mut node = node(params, script);
    let own = "Proxy-Authorization: Digest username=\"x\", realm=\"p.test\", nonce=\"old\", \
               uri=\"sip:b\", response=\"0\"\nCSeq:";
    node.udp(CALLER, &invite(FROM).replace("CSeq:", own));
    let sent = node.sent();
    let to = |at: &str| sent.iter().find(|(to, _)| to.to_string() == at).unwrap().1.clone();
    let asks = |name: &str, realm: &str, more: &str| {
        format!("{name}-Authenticate: Digest realm=\"{realm}\", nonce=\"{realm}\"{more}\n")
    };
    let two = asks("WWW", "r.test", ", algorithm=SHA-256")
        + &asks("WWW", "r.test", "")
        + &asks("WWW", "unknown.test", "");
    node.udp(CALLEE, &reply_to(&to(CALLEE), 401, &two));
    node.udp("127.0.0.3:5060", &reply_to(&to("127.0.0.3:5060"), 407, &asks("Proxy", "p.test", "")));
    let again = forwarded(&mut node);
    let lines: Vec<&str> = again.lines().filter(|line| line.contains("uthorization:")).collect();
    assert_eq!(lines.len(), 2, "one for each realm: {again}");
    assert!(lines[0].starts_with("Authorization: Digest username=\"me\", realm=\"r.test\""));
    assert!(lines[0].contains("algorithm=SHA-256"), "the one that is liked best");
    let proxy = "Proxy-Authorization: Digest username=\"you\", realm=\"p.test\", nonce=\"p.test\"";
    assert!(lines[1].starts_with(proxy), "{lines:?}");
    assert_eq!(header(&again, "CSeq"), "8 INVITE");
}

#[test]
fn the_ack_follows_its_invite_without_a_dialog_too() {
    let script = "route { if ($tt != NULL) { t_relay(); exit; } t_on_failure(\"f\"); t_relay(); } \
                  failure_route[f] { uac_inc_cseq(1); t_relay(); }";
    let mut node = node("", script);
    node.udp(CALLER, &invite(FROM));
    let first = forwarded(&mut node);
    node.udp(CALLEE, &reply_to(&first, 407, ""));
    let sent = node.sent();
    let ack = sent.iter().find(|(_, text)| text.starts_with("ACK")).unwrap();
    assert_eq!(header(&ack.1, "CSeq"), "7 ACK", "to what was refused");
    let again = &sent.iter().find(|(_, text)| text.starts_with("INVITE")).unwrap().1;
    node.udp(CALLEE, &reply_to(again, 200, "Contact: <sip:bob@127.0.0.2>\n"));
    let answer = node.sent().pop().unwrap().1;
    assert_eq!(header(&answer, "CSeq"), "7 INVITE");
    let ack = |to_tag: &str, cseq: u32| {
        format!(
            "ACK sip:bob@127.0.0.2 SIP/2.0\nVia: SIP/2.0/UDP x.test;branch=z9hG4bKack{cseq}\n\
             From: {FROM}\nTo: <sip:bob@b.test>;tag={to_tag}\nCall-ID: c\nCSeq: {cseq} ACK\n\
             Content-Length: 0\n\n"
        )
    };
    let mut passed = |to_tag: &str, cseq: u32| {
        node.udp(CALLER, &ack(to_tag, cseq));
        let text = node.sent().pop().unwrap().1;
        assert!(text.starts_with("ACK sip:bob@127.0.0.2"), "{text}");
        header(&text, "CSeq").to_owned()
    };
    assert_eq!(passed("t", 7), "8 ACK");
    assert_eq!(passed("t", 7), "8 ACK", "each time");
    assert_eq!(passed("t", 9), "9 ACK", "of another INVITE");
    assert_eq!(passed("u", 7), "7 ACK", "of another callee");
    node.advance_ms(40_000);
    let mut passed = |to_tag: &str, cseq: u32| {
        node.udp(CALLER, &ack(to_tag, cseq));
        header(&node.sent().pop().unwrap().1, "CSeq").to_owned()
    };
    assert_eq!(passed("t", 7), "7 ACK", "the transaction is gone");
}

/// A phone refuses what does not count up (RFC 3261 12.2.2), a BYE too.
#[test]
fn what_the_caller_sends_later_counts_on_by_the_record_route() {
    let script = "route { if ($tt != NULL) { loose_route(); t_on_failure(\"f\"); t_relay(); exit; } \
                  t_on_failure(\"f\"); record_route(); t_relay(); } \
                  failure_route[f] { uac_inc_cseq(2); t_on_failure(\"f\"); t_relay(); }";
    let mut node = node("loadmodule \"dialog.so\"\n", script);
    node.udp(CALLER, &invite(FROM));
    let first = forwarded(&mut node);
    assert!(!header(&first, "Record-Route").contains("vsc"), "{first}");
    node.udp(CALLEE, &reply_to(&first, 407, ""));
    let again = forwarded(&mut node);
    let route = header(&again, "Record-Route").to_owned();
    assert!(header(&again, "CSeq") == "9 INVITE" && route.contains(";vsc=2"), "{again}");
    node.udp(CALLEE, &reply_to(&again, 200, "Contact: <sip:bob@127.0.0.2>\n"));
    // The transaction is gone, as after a takeover.
    node.advance_ms(40_000);
    node.sent();
    let within = |method: &str, from: &str, to: &str, cseq: u32, route: &str| {
        format!(
            "{method} sip:x@127.0.0.2 SIP/2.0\nVia: SIP/2.0/UDP x.test;branch=z9hG4bK{method}{cseq}\n\
             From: {from}\nTo: {to}\nCall-ID: c\nCSeq: {cseq} {method}\nRoute: {route}\n\
             Content-Length: 0\n\n"
        )
    };
    let callee = "<sip:bob@b.test>;tag=t";
    let of_caller = |method: &str, cseq| within(method, FROM, callee, cseq, &route);
    node.udp(CALLER, &of_caller("ACK", 7));
    assert_eq!(header(&node.sent().pop().unwrap().1, "CSeq"), "9 ACK");
    node.udp(CALLER, &of_caller("INFO", 8));
    let info = forwarded(&mut node);
    assert_eq!(header(&info, "CSeq"), "10 INFO");
    node.udp(CALLEE, &reply_to(&info, 407, ""));
    let info = forwarded(&mut node);
    assert_eq!(header(&info, "CSeq"), "12 INFO", "it is asked itself");
    node.udp(CALLEE, &reply_to(&info, 200, ""));
    assert_eq!(header(&node.sent().pop().unwrap().1, "CSeq"), "8 INFO");
    node.udp(CALLEE, &within("BYE", callee, FROM, 1, &route));
    assert_eq!(header(&forwarded(&mut node), "CSeq"), "1 BYE", "the callee counts by itself");
    for (cseq, wrong) in (20..).zip(["vsc=0", "vsc=x", "vsc=4294967295"]) {
        let route = route.replace("vsc=2", wrong);
        node.udp(CALLER, &within("INFO", FROM, callee, cseq, &route));
        assert_eq!(header(&forwarded(&mut node), "CSeq"), format!("{cseq} INFO"), "{wrong}");
    }
}

#[test]
fn the_ack_of_a_call_that_was_challenged_follows_its_invite() {
    let script = "route { if ($tt != NULL) { loose_route(); t_on_failure(\"f\"); t_relay(); exit; } \
                  create_dialog(); t_on_failure(\"f\"); record_route(); t_relay(); } \
                  failure_route[f] { uac_inc_cseq(1); t_on_failure(\"f\"); t_relay(); }";
    let mut node = node("loadmodule \"dialog.so\"\n", script);
    node.udp(CALLER, &invite(FROM));
    let first = forwarded(&mut node);
    let number =
        |text: &str| -> u32 { header(text, "CSeq").split(' ').next().unwrap().parse().unwrap() };
    // Once by the proxy, once by the phone.
    node.udp(CALLEE, &reply_to(&first, 407, ""));
    let again = forwarded(&mut node);
    node.udp(CALLEE, &reply_to(&again, 401, ""));
    let again = forwarded(&mut node);
    assert_eq!(number(&again), number(&first) + 2);
    node.udp(CALLEE, &reply_to(&again, 200, "Contact: <sip:bob@127.0.0.2>\n"));
    let answer = node.sent().pop().unwrap().1;
    assert_eq!(number(&answer), number(&first));
    let within = |method: &str, cseq: u32| {
        format!(
            "{method} sip:bob@127.0.0.2 SIP/2.0\nVia: SIP/2.0/UDP x.test;branch=z9hG4bK{method}\n\
             From: {}\nTo: {}\nCall-ID: c\nCSeq: {cseq} {method}\nRoute: {}\n\
             Content-Length: 0\n\n",
            header(&answer, "From"),
            header(&answer, "To"),
            header(&answer, "Record-Route")
        )
    };
    node.udp(CALLER, &within("ACK", number(&first)));
    let ack = node.sent().pop().unwrap().1;
    assert!(ack.starts_with("ACK ") && number(&ack) == number(&again), "{ack}");
    node.udp(CALLER, &within("INFO", number(&first) + 1));
    let info = forwarded(&mut node);
    assert_eq!(number(&info), number(&again) + 1);
    // What is asked for credentials within the call counts on as well.
    node.udp(CALLEE, &reply_to(&info, 407, ""));
    let info = forwarded(&mut node);
    assert_eq!(number(&info), number(&again) + 2);
    node.udp(CALLEE, &reply_to(&info, 200, ""));
    assert_eq!(number(&node.sent().pop().unwrap().1), number(&first) + 1);
    node.udp(CALLER, &within("BYE", number(&first) + 2));
    assert_eq!(number(&forwarded(&mut node)), number(&again) + 3);
}

#[test]
fn a_dialog_restores_names_where_no_route_does() {
    let within = |from: &str, to: &str, target: &str, branch: &str| {
        format!(
            "INFO {target} SIP/2.0\nVia: SIP/2.0/UDP x.test;branch=z9hG4bK{branch}\nFrom: {from}\n\
             To: {to}\nCall-ID: c\nCSeq: 8 INFO\nContent-Length: 0\n\n"
        )
    };
    for (mode, from) in [("auto", "sip:pbx@a-much-longer-name.test"), ("none", "sip:alice@a.test")]
    {
        let script = format!(
            "route {{ if ($tt != NULL) {{ match_dialog(); t_relay(); exit; }} create_dialog(); \
             {FROM_CHANGE}; uac_replace_to(\"\", \"sip:t@t.test\"); t_relay(); }}"
        );
        let params =
            format!("loadmodule \"dialog.so\"\nmodparam(\"uac\", \"restore_mode\", \"{mode}\")\n");
        let mut node = node(&params, &script);
        node.udp(CALLER, &invite("<sip:alice@a.test>;tag=f"));
        let out = forwarded(&mut node);
        node.udp(CALLEE, &reply_to(&out, 200, "Contact: <sip:bob@127.0.0.2>\n"));
        let (asked, got) = ("<sip:alice@a.test>;tag=f", "<sip:bob@b.test>;tag=t");
        node.udp(CALLER, &within(asked, got, "sip:bob@127.0.0.2", "b"));
        let info = forwarded(&mut node);
        assert_eq!(header(&info, "From"), format!("<{from}>;tag=f"));
        node.udp(CALLEE, &reply_to(&info, 200, ""));
        assert_eq!(header(&node.sent().pop().unwrap().1, "From"), asked);
        let to = format!("{};tag=t", header(&out, "To"));
        node.udp(CALLEE, &within(&to, header(&out, "From"), "sip:alice@127.0.0.9", "c"));
        let sent = node.sent();
        let back = &sent.iter().rfind(|(to, _)| to.to_string() == CALLER).unwrap().1;
        let wanted = if mode == "auto" { "sip:alice@a.test" } else { "pbx@a-much-longer-name" };
        assert!(header(back, "To").contains(wanted), "{back}");
    }
}

#[test]
fn a_late_second_answer_leaves_the_names_of_the_first() {
    let script = "route { if ($tt != NULL) { match_dialog(); t_relay(); exit; } create_dialog(); \
                  append_msg_branch(\"sip:bob@127.0.0.3\"); t_on_branch(\"b\"); t_relay(); } \
                  branch_route[b] { uac_replace_from(\"\", \"sip:n$T_branch_idx@x.test\"); }";
    let mut node = node("loadmodule \"dialog.so\"\n", script);
    node.udp(CALLER, &invite(FROM));
    let sent = node.sent();
    let to = |at: &str| sent.iter().find(|(to, _)| to.to_string() == at).unwrap().1.clone();
    let (first, second) = (to(CALLEE), to("127.0.0.3:5060"));
    node.udp(CALLEE, &reply_to(&first, 200, "Contact: <sip:bob@127.0.0.2>\n"));
    let late = reply_to(&second, 200, "Contact: <sip:bob@127.0.0.3>\n").replace("tag=t", "tag=u");
    node.udp("127.0.0.3:5060", &late);
    let info = format!(
        "INFO sip:bob@127.0.0.2 SIP/2.0\nVia: SIP/2.0/UDP x.test;branch=z9hG4bKi\nFrom: {FROM}\n\
         To: <sip:bob@b.test>;tag=t\nCall-ID: c\nCSeq: 8 INFO\nContent-Length: 0\n\n"
    );
    node.udp(CALLER, &info);
    assert_eq!(header(&forwarded(&mut node), "From"), "\"A\" <sip:n0@x.test>;tag=f");
}
