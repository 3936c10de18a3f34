//! Every entry of the export table, on a node in memory.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::log::Level;

use tandem_engine::module::{Module, ModuleDef};
use tandem_engine::table::function;
use tandem_engine::testing::TestNode;
use tandem_script::host::Called;
use tandem_script::sig::Routes;

const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_sl::MODULE,
        &tandem_signaling::MODULE,
        &tandem_usrloc::MODULE,
        &tandem_registrar::MODULE,
        &PROBE,
    ];
    ALL
};

/// Shows what no variable shows: the branches of a request.
static PROBE: ModuleDef = ModuleDef {
    name: "probe",
    help: "For tests.",
    dependencies: &[],
    params: &[],
    functions: &[function("probe", &[], Routes::ANY, "Logs the branches.", |call| {
        let uris = call.ctx.branches.iter().filter_map(|b| b.uri.as_deref());
        let uris: Vec<_> = uris.map(String::from_utf8_lossy).collect();
        let line = format!("br={}", uris.join(","));
        call.cx.log(Level::Notice, line);
        Called::Returned(1)
    })],
    variables: &[],
    mi: &[],
    statistics: &[],
    events: &[],
    build: |_| Ok(Arc::new(Probe)),
};

struct Probe;

impl Module for Probe {}

const PHONE: &str = "10.0.0.9:5070";

/// The script whose route is `body`; `setup` holds modparams.
fn script(setup: &str, body: &str) -> String {
    let modules = ["proto_udp", "probe", "sl", "signaling", "usrloc", "registrar"];
    let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let socket = "log_level = 3\nsocket = udp:127.0.0.1:5060\n";
    format!("{socket}{modules}{setup}\nroute {{\n{body}\n}}\n")
}

fn node(setup: &str, body: &str) -> TestNode {
    TestNode::new(&script(setup, body), MODULES)
}

fn refused(setup: &str, body: &str) -> String {
    TestNode::try_new(&script(setup, body), MODULES).err().expect("the script is wrong")
}

/// A REGISTER of alice with these further header lines.
fn register(call_id: &str, cseq: u32, lines: &str) -> String {
    format!(
        "REGISTER sip:example.org SIP/2.0\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{call_id}{cseq}\n\
         From: <sip:alice@example.org>;tag=1\nTo: <sip:alice@example.org>\nCall-ID: {call_id}\n\
         CSeq: {cseq} REGISTER\nMax-Forwards: 70\n{lines}Content-Length: 0\n\n"
    )
}

fn invite(lines: &str) -> String {
    format!(
        "INVITE sip:alice@example.org SIP/2.0\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKinv\n\
         From: <sip:bob@example.org>;tag=1\nTo: <sip:alice@example.org>\nCall-ID: inv\n\
         CSeq: 1 INVITE\nMax-Forwards: 70\n{lines}Content-Length: 0\n\n"
    )
}

/// Sends and gives the one reply.
fn ask(node: &mut TestNode, text: &str) -> String {
    node.udp(PHONE, text);
    let mut sent = node.sent();
    assert_eq!(sent.len(), 1, "one reply to:\n{text}\n{:?}", node.logs());
    sent.remove(0).1
}

fn code(reply: &str) -> u32 {
    reply.split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0)
}

fn header<'a>(reply: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("{name}: ");
    reply.lines().find_map(|l| l.strip_prefix(prefix.as_str()))
}

fn contacts(node: &mut TestNode) -> Vec<Json> {
    let answer = node.mi("usrloc:show_contact", json!(["location", "alice@example.org"]));
    answer["result"]["Contacts"].as_array().cloned().unwrap_or_default()
}

fn stat(node: &mut TestNode, name: &str) -> u64 {
    let full = format!("registrar:{name}");
    node.mi("get_statistics", json!({"statistics": [full]}))["result"][&full].as_u64().unwrap()
}

const SAVE: &str = "save(\"location\");";

#[test]
fn save_registers_refreshes_lists_and_removes() {
    let mut node = node("", SAVE);
    let reply = ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9:5070>;q=0.5\n"));
    assert_eq!(code(&reply), 200);
    assert_eq!(header(&reply, "Contact"), Some("<sip:a@10.0.0.9:5070>;q=0.5;expires=3600"));
    node.advance_ms(2000);
    let reply = ask(&mut node, &register("c", 2, ""));
    assert_eq!(header(&reply, "Contact"), Some("<sip:a@10.0.0.9:5070>;q=0.5;expires=3598"));
    let lines = "Expires: 600\nContact: <sip:a@10.0.0.9:5070>, <sip:b@10.0.0.9>\n";
    let reply = ask(&mut node, &register("c", 3, lines));
    let both = "<sip:a@10.0.0.9:5070>;expires=600, <sip:b@10.0.0.9>;expires=600";
    assert_eq!(header(&reply, "Contact"), Some(both));
    let reply = ask(&mut node, &register("c", 4, "Contact: <sip:a@10.0.0.9:5070>;expires=0\n"));
    assert_eq!(header(&reply, "Contact"), Some("<sip:b@10.0.0.9>;expires=600"));
    let reply = ask(&mut node, &register("c", 5, "Contact: *\nExpires: 0\n"));
    assert_eq!((code(&reply), header(&reply, "Contact")), (200, None));
    assert!(contacts(&mut node).is_empty());
}

#[test]
fn save_stores_what_the_request_says_in_the_shape_that_management_shows() {
    let mut node = node("", "save(\"location\", , , \"service\");");
    let lines = "User-Agent: test-ua\nContact: <sip:alice@10.9.9.9:5060>\n";
    ask(&mut node, &register("reg-1", 2, lines));
    let shown = contacts(&mut node).remove(0);
    let names: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "Contact",
            "ContactID",
            "Expires",
            "Q",
            "Callid",
            "Cseq",
            "User-agent",
            "State",
            "Flags",
            "Cflags",
            "Socket",
            "Methods"
        ]
    );
    assert_eq!(shown["Contact"], "sip:alice@10.9.9.9:5060");
    assert_eq!(shown["Callid"], "reg-1");
    assert_eq!((&shown["Cseq"], &shown["Q"]), (&json!(2), &json!("")));
    assert_eq!(shown["User-agent"], "test-ua");
    assert_eq!(shown["Socket"], "udp:127.0.0.1:5060");
    assert_eq!(shown["Methods"], json!(4_294_967_295u32));
}

#[test]
fn save_judges_cseq_as_the_field_does() {
    let contact = "Contact: <sip:a@10.0.0.9>\n";
    for (setup, wait_ms, cseq, expected) in [
        ("", 0, 4, 400),
        ("", 0, 5, 200),
        ("", 30_000, 5, 200),
        ("modparam(\"registrar\", \"allow_dup_cseq\", 0)", 0, 5, 200),
        ("modparam(\"registrar\", \"allow_dup_cseq\", 0)", 30_000, 5, 400),
        ("", 0, 6, 200),
    ] {
        let mut node = node(setup, SAVE);
        ask(&mut node, &register("c", 5, contact));
        node.advance_ms(wait_ms);
        let reply = ask(&mut node, &register("c", cseq, contact));
        assert_eq!(code(&reply), expected, "{setup} after {wait_ms} ms, CSeq {cseq}");
        if expected == 400 {
            assert_eq!(header(&reply, "P-Registrar-Error"), Some("Invalid CSeq number"));
        }
    }
}

#[test]
fn a_retransmission_within_cseq_delay_changes_nothing() {
    let mut node = node("", SAVE);
    ask(&mut node, &register("c", 5, "Contact: <sip:a@10.0.0.9>;expires=100\n"));
    ask(&mut node, &register("c", 5, "Contact: <sip:a@10.0.0.9>;expires=900\n"));
    assert_eq!(contacts(&mut node)[0]["Expires"], json!(100));
}

#[test]
fn save_refuses_with_the_codes_of_the_field() {
    for (lines, expected) in [
        ("Contact: *\n", 400),
        ("Contact: <sip:a@10.0.0.9>;q=7\n", 400),
        ("Contact: <nonsense>\n", 400),
    ] {
        let mut node = node("", "if (!save(\"location\")) xlog(\"failed\\n\");");
        let reply = ask(&mut node, &register("c", 1, lines));
        assert_eq!(code(&reply), expected, "{lines}");
        assert!(header(&reply, "P-Registrar-Error").is_some());
        assert!(node.logs().iter().any(|(_, l)| l.contains("failed")), "save() is false");
        assert_eq!(stat(&mut node, "rejected_regs"), 1);
    }
}

#[test]
fn max_contacts_refuses_or_makes_room() {
    let limit = "modparam(\"registrar\", \"max_contacts\", 1)\n\
                 modparam(\"registrar\", \"retry_after\", 30)";
    let first = register("c", 1, "Contact: <sip:a@10.0.0.9>\n");
    let second = register("d", 1, "Contact: <sip:b@10.0.0.9>\n");
    let mut refusing = node(limit, SAVE);
    ask(&mut refusing, &first);
    let reply = ask(&mut refusing, &second);
    assert_eq!(code(&reply), 503);
    assert_eq!(header(&reply, "P-Registrar-Error"), Some("Too many registered contacts"));
    assert_eq!(header(&reply, "Retry-After"), Some("30"));
    assert_eq!(contacts(&mut refusing).len(), 1);
    let body = "save(\"location\", \"force-registration, max-contacts=1\");";
    let mut forcing = node("", body);
    ask(&mut forcing, &first);
    forcing.advance_ms(1000);
    assert_eq!(code(&ask(&mut forcing, &second)), 200);
    let left = contacts(&mut forcing);
    assert_eq!((left.len(), &left[0]["Contact"]), (1, &json!("sip:b@10.0.0.9")));
}

#[test]
fn lifetimes_are_kept_within_parameters_and_flags() {
    let setup = "modparam(\"registrar\", \"default_expires\", 500)\n\
                 modparam(\"registrar\", \"min_expires\", 100)\n\
                 modparam(\"registrar\", \"max_expires\", 1000)";
    let flags = "save(\"location\", \"min-expires=200, max-expires=300\");";
    for (body, asked, expected) in [
        (SAVE, "", 500),
        (SAVE, ";expires=1", 100),
        (SAVE, ";expires=5000", 1000),
        (flags, ";expires=1", 200),
        (flags, ";expires=5000", 300),
    ] {
        let mut node = node(setup, body);
        ask(&mut node, &register("c", 1, &format!("Contact: <sip:a@10.0.0.9>{asked}\n")));
        assert_eq!(contacts(&mut node)[0]["Expires"], json!(expected), "{body} {asked}");
    }
    let setup = "modparam(\"registrar\", \"expires_max_deviation\", 50)";
    let mut node = node(setup, SAVE);
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>;expires=600\n"));
    let left = contacts(&mut node)[0]["Expires"].as_u64().unwrap();
    assert!((550..=650).contains(&left), "{left}");
}

#[test]
fn default_q_and_lengths_come_from_parameters() {
    let setup = "modparam(\"registrar\", \"default_q\", 300)\n\
                 modparam(\"registrar\", \"max_contact_len\", 30)";
    let mut node = node(setup, SAVE);
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
    assert_eq!(contacts(&mut node)[0]["Q"], "0.3");
    let long = format!("Contact: <sip:{}@10.0.0.9>\n", "a".repeat(40));
    assert_eq!(code(&ask(&mut node, &register("c", 2, &long))), 400);
    for name in ["max_username_len", "max_domain_len", "max_aor_len"] {
        let setup = format!("modparam(\"registrar\", \"{name}\", 3)");
        let mut node = self::node(&setup, SAVE);
        let reply = ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
        assert_eq!(code(&reply), 500, "{name}");
    }
}

#[test]
fn the_key_follows_case_sensitive_and_realm_prefix() {
    let setup = "modparam(\"registrar\", \"case_sensitive\", 0)\n\
                 modparam(\"registrar\", \"realm_prefix\", \"sip.\")";
    let mut node = node(setup, "save(\"location\", , \"sip:ALICE@sip.example.org\");");
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
    assert_eq!(contacts(&mut node).len(), 1, "stored as alice@example.org");
}

#[test]
fn received_attr_flags_and_their_way_back() {
    let setup = "modparam(\"usrloc\", \"nat_bflag\", \"NAT\")\n\
                 modparam(\"registrar\", \"received_avp\", \"$avp(rcv)\")\n\
                 modparam(\"registrar\", \"received_param\", \"rcvd\")\n\
                 modparam(\"registrar\", \"attr_avp\", \"$avp(attr)\")";
    let body = "if (is_method(\"REGISTER\")) { setbflag(\"NAT\"); \
                $avp(rcv) = \"sip:10.0.0.9:5070\"; $avp(attr) = \"x=1\"; save(\"location\"); }\n\
                else { lookup(\"location\"); \
                if (isbflagset(\"NAT\")) xlog(\"ru=$ru du=$du attr=$avp(attr)\\n\"); }";
    let body = body.replace("is_method(\"REGISTER\")", "$rm == \"REGISTER\"");
    let mut node = node(setup, &body);
    let reply = ask(&mut node, &register("c", 1, "Contact: <sip:a@192.168.1.2>\n"));
    let shown = "<sip:a@192.168.1.2>;expires=3600;rcvd=\"sip:10.0.0.9:5070\"";
    assert_eq!(header(&reply, "Contact"), Some(shown));
    let stored = contacts(&mut node).remove(0);
    assert_eq!((&stored["Cflags"], &stored["Attr"]), (&json!("NAT"), &json!("x=1")));
    assert_eq!(stored["Received"], "sip:10.0.0.9:5070");
    node.udp(PHONE, &invite(""));
    let logs = node.logs();
    let line = "ru=sip:a@192.168.1.2 du=sip:10.0.0.9:5070 attr=x=1";
    assert!(logs.iter().any(|(_, l)| l.contains(line)), "{logs:?}");
}

#[test]
fn flags_of_save_do_what_they_say() {
    let contact = "Contact: <sip:a@10.0.0.9>\n";
    let mut quiet = node("", "save(\"location\", \"no-reply\");");
    quiet.udp(PHONE, &register("c", 1, contact));
    assert!(quiet.sent().is_empty());
    assert_eq!(contacts(&mut quiet).len(), 1);
    let mut memory = node("", "save(\"location\", \"memory-only\");");
    ask(&mut memory, &register("c", 1, contact));
    assert_eq!(contacts(&mut memory)[0]["Flags"], json!(1));
    let mut only = node("", "save(\"location\", \"only-request-contacts\");");
    ask(&mut only, &register("c", 1, contact));
    let reply = ask(&mut only, &register("d", 1, "Contact: <sip:b@10.0.0.9>\n"));
    assert_eq!(header(&reply, "Contact"), Some("<sip:b@10.0.0.9>;expires=3600"));
    let setup = "modparam(\"registrar\", \"sock_hdr_name\", \"X-Socket\")";
    let mut socket = node(setup, "save(\"location\", \"socket-header\");");
    let lines = format!("X-Socket: udp:127.0.0.1:5060\n{contact}");
    ask(&mut socket, &register("c", 1, &lines));
    assert_eq!(contacts(&mut socket)[0]["Socket"], "udp:127.0.0.1:5060");
    let mut by_call = node("", "save(\"location\", \"matching-mode=1\");");
    ask(&mut by_call, &register("c", 1, contact));
    ask(&mut by_call, &register("d", 1, contact));
    assert_eq!(contacts(&mut by_call).len(), 2);
}

#[test]
fn letters_of_3_3_still_mean_what_they_meant() {
    let mut node = node("", "save(\"location\", \"c1fo\");");
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
    node.advance_ms(1000);
    let reply = ask(&mut node, &register("d", 1, "Contact: <sip:b@10.0.0.9>\n"));
    assert_eq!(header(&reply, "Contact"), Some("<sip:b@10.0.0.9>;expires=3600"));
    assert_eq!(contacts(&mut node).len(), 1);
}

#[test]
fn path_is_stored_shown_and_used_as_the_flag_says() {
    let path = "Path: <sip:10.0.0.7;lr;received=sip:10.0.0.9:5070>\n";
    let lines = format!("{path}Supported: path\nContact: <sip:a@192.168.1.2>\n");
    let body = "if ($rm == \"REGISTER\") save(\"location\", \"FLAG\");\n\
                else { lookup(\"location\"); xlog(\"du=$du\\n\"); }";
    let mut off = node("", &body.replace("FLAG", "path-off"));
    ask(&mut off, &register("c", 1, &lines));
    assert_eq!(contacts(&mut off)[0].get("Path"), None);
    let mut strict = node("", &body.replace("FLAG", "path-strict"));
    let unsupported = lines.replace("Supported: path\n", "");
    let reply = ask(&mut strict, &register("c", 1, &unsupported));
    assert_eq!((code(&reply), header(&reply, "Unsupported")), (420, Some("path")));
    let mut lazy = node("", &body.replace("FLAG", "path-lazy, path-received"));
    let reply = ask(&mut lazy, &register("c", 1, &lines));
    assert!(header(&reply, "Path").is_some(), "repeated to a client that supports it");
    assert_eq!(contacts(&mut lazy)[0]["Received"], "sip:10.0.0.9:5070");
    lazy.udp(PHONE, &invite(""));
    assert!(lazy.logs().iter().any(|(_, l)| l.contains("du=sip:10.0.0.7;lr")));
}

/// Registers two contacts, looks alice up with `flags`, and gives what the script saw.
fn looked_up(flags: &str) -> String {
    let body = format!(
        "if ($rm == \"REGISTER\") save(\"location\");\n\
         else {{ lookup(\"location\"{flags}); xlog(\"rc=$rc ru=$ru\\n\"); probe(); }}"
    );
    let mut node = node("", &body);
    let one = "User-Agent: Alpha\nAllow: INVITE\nContact: <sip:1@10.0.0.9>;q=0.2\n";
    let two = "User-Agent: beta\nAllow: MESSAGE\nContact: <sip:2@10.0.0.9>;q=0.9\n";
    ask(&mut node, &register("c", 1, one));
    ask(&mut node, &register("d", 1, two));
    node.logs();
    node.udp(PHONE, &invite(""));
    let logs = node.logs();
    let lines: Vec<&str> = logs.iter().map(|(_, l)| l.trim()).collect();
    lines.join(" ")
}

#[test]
fn lookup_takes_the_best_contact_and_branches_the_rest() {
    assert!(looked_up("").contains("rc=1 ru=sip:2@10.0.0.9 br=sip:1@10.0.0.9"));
    let alone = looked_up(", \"no-branches\"");
    assert!(alone.contains("ru=sip:2@10.0.0.9") && !alone.contains("sip:1@"), "{alone}");
    let kept = looked_up(", \"to-branches-only\"");
    assert!(kept.contains("ru=sip:alice@example.org") && kept.contains("sip:2@"), "{kept}");
}

#[test]
fn lookup_filters_by_method_and_user_agent() {
    assert!(looked_up(", \"method-filtering\"").contains("ru=sip:1@10.0.0.9"));
    assert!(looked_up(", \"ua-filtering=^Al\"").contains("ru=sip:1@10.0.0.9"));
    let insensitive = looked_up(", \"ua-filtering=^BETA, case-insensitive, extended-regexp\"");
    assert!(insensitive.contains("ru=sip:2@10.0.0.9"), "{insensitive}");
    assert!(looked_up(", \"ua-filtering=^none\"").contains("rc=-1"));
    assert!(looked_up(", \"max-ping-latency=5, sort-by-latency\"").contains("rc=1"));
}

#[test]
fn lookup_says_why_it_found_nothing() {
    let body = "if ($rm == \"REGISTER\") save(\"location\");\n\
                else { lookup(\"location\", \"method-filtering\", \"$hdr(X-Aor)\"); \
                xlog(\"rc=$rc\\n\"); }";
    let mut node = node("", body);
    let lines = "Allow: MESSAGE\nContact: <sip:1@10.0.0.9>\n";
    ask(&mut node, &register("c", 1, lines));
    for (aor, expected) in [
        ("sip:alice@example.org", "rc=-2"),
        ("sip:nobody@example.org", "rc=-1"),
        ("nonsense", "rc=-3"),
    ] {
        node.udp(PHONE, &invite(&format!("X-Aor: {aor}\n")));
        let logs = node.logs();
        assert!(logs.iter().any(|(_, l)| l.contains(expected)), "{aor}: {logs:?}");
    }
}

#[test]
fn lookup_resolves_branches_and_never_sees_the_expired() {
    let body = "if ($rm == \"REGISTER\") save(\"location\");\n\
                else { append_msg_branch(\"sip:alice@example.org\"); \
                lookup(\"location\", \"branch\", \"sip:alice@example.org\"); \
                xlog(\"rc=$rc\\n\"); probe(); }";
    let mut node = node("", body);
    ask(&mut node, &register("c", 1, "Contact: <sip:1@10.0.0.9>;expires=60\n"));
    node.udp(PHONE, &invite(""));
    let logs = format!("{:?}", node.logs());
    assert!(logs.contains("rc=1") && logs.contains("br=sip:1@10.0.0.9"), "{logs}");
    node.advance_ms(61_000);
    node.udp(PHONE, &invite(""));
    let logs = format!("{:?}", node.logs());
    assert!(logs.contains("rc=-1") && logs.contains("br=sip:alice@example.org"), "{logs}");
    let stats = node.mi("get_statistics", json!({"statistics": ["usrloc:"]}));
    assert_eq!(stats["result"]["usrloc:location-expires"], json!(1));
    assert_eq!(stats["result"]["usrloc:location-contacts"], json!(0));
}

#[test]
fn questions_about_contacts() {
    let body = "if ($rm == \"REGISTER\") { save(\"location\"); exit; }\n\
        $avp(ip) = \"10.0.0.9\"; $avp(port) = 5070;\n\
        if (is_registered(\"location\", \"sip:alice@example.org\")) xlog(\"yes1\\n\");\n\
        if (!is_registered(\"location\")) xlog(\"yes2\\n\");\n\
        if (is_contact_registered(\"location\", \"sip:alice@example.org\", \
        \"sip:a@10.0.0.9:5070\")) xlog(\"yes3\\n\");\n\
        if (is_contact_registered(\"location\", \"sip:alice@example.org\", , \"c\")) \
        xlog(\"yes4\\n\");\n\
        if (!is_contact_registered(\"location\", \"sip:alice@example.org\", , \"d\")) \
        xlog(\"yes5\\n\");\n\
        if (is_ip_registered(\"location\", \"sip:alice@example.org\", $avp(ip), $avp(port))) \
        xlog(\"yes6\\n\");";
    let mut node = node("", body);
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9:5070>\n"));
    node.udp(PHONE, &invite(""));
    let logs = node.logs();
    for n in 1..=6 {
        let line = format!("yes{n}");
        assert!(logs.iter().any(|(_, l)| l.contains(&line)), "{line}: {logs:?}");
    }
}

#[test]
fn remove_takes_what_fits_all_filters() {
    let setup = "modparam(\"usrloc\", \"nat_bflag\", \"NAT\")";
    let instance = "\"<urn:uuid:1>\"";
    for (args, left) in [
        ("", 0),
        (", \"sip:a@10.0.0.9:5070\"", 1),
        (", , \"10.0.0.9\"", 0),
        (", , \"10.0.0.8\"", 2),
        (", , , \"<urn:uuid:1>\"", 1),
        (", , , , \"NAT\"", 2),
        (", \"sip:a@10.0.0.9:5070\", , , \"NAT\"", 2),
    ] {
        let body = format!(
            "if ($rm == \"REGISTER\") save(\"location\");\n\
             else remove(\"location\", \"sip:alice@example.org\"{args});"
        );
        let mut node = node(setup, &body);
        let lines =
            format!("Contact: <sip:a@10.0.0.9:5070>, <sip:b@10.0.0.9>;+sip.instance={instance}\n");
        ask(&mut node, &register("c", 1, &lines));
        node.udp(PHONE, &invite(""));
        assert_eq!(contacts(&mut node).len(), left, "remove(..{args})");
    }
}

#[test]
fn remove_ip_port_takes_what_is_behind_an_address() {
    for (args, left) in [
        ("\"10.0.0.9\", 5070, \"location\"", 1),
        ("\"10.0.0.9\", 5071, \"location\"", 2),
        ("\"10.0.0.9\", 5070, \"location\", \"sip:alice@example.org\"", 1),
        ("\"10.0.0.9\", 5070, \"location\", \"sip:bob@example.org\"", 2),
        ("\"nonsense\", 5070, \"location\"", 2),
    ] {
        let body =
            format!("if ($rm == \"REGISTER\") save(\"location\"); else remove_ip_port({args});");
        let mut node = node("", &body);
        let lines = "Contact: <sip:a@10.0.0.9:5070>, <sip:b@10.0.0.8:5070>\n";
        ask(&mut node, &register("c", 1, lines));
        node.udp(PHONE, &invite(""));
        assert_eq!(contacts(&mut node).len(), left, "remove_ip_port({args})");
    }
}

#[test]
fn add_sock_hdr_is_checked_and_harmless() {
    let mut node = node("", "if (add_sock_hdr(\"X-Socket\")) xlog(\"added\\n\");");
    node.udp(PHONE, &invite(""));
    assert!(node.logs().iter().any(|(_, l)| l.contains("added")));
    let mut node = self::node("", "if (!add_sock_hdr(\"bad name\")) xlog(\"refused\\n\");");
    node.udp(PHONE, &invite(""));
    assert!(node.logs().iter().any(|(_, l)| l.contains("refused")));
}

#[test]
fn statistics_count_registrations_and_show_parameters() {
    let setup = "modparam(\"registrar\", \"max_expires\", 900)\n\
                 modparam(\"registrar\", \"max_contacts\", 4)\n\
                 modparam(\"registrar\", \"default_expires\", 300)";
    let mut node = node(setup, SAVE);
    ask(&mut node, &register("c", 1, "Contact: <sip:a@10.0.0.9>\n"));
    assert_eq!(stat(&mut node, "accepted_regs"), 1);
    assert_eq!(stat(&mut node, "max_expires"), 900);
    assert_eq!(stat(&mut node, "max_contacts"), 4);
    assert_eq!(stat(&mut node, "default_expire"), 300);
}

#[test]
fn wrong_parameters_are_refused_at_load() {
    for (setup, expected) in [
        ("modparam(\"registrar\", \"min_expires\", -1)", "a number from 0 is wanted"),
        ("modparam(\"registrar\", \"default_q\", 2000)", "from 0 to 1000"),
        ("modparam(\"registrar\", \"max_expires\", 10)", "lower than min_expires"),
        ("modparam(\"registrar\", \"gruu_secret\", \"x\")", "not in Tandem yet"),
    ] {
        let errors = refused(setup, SAVE);
        assert!(errors.contains(expected), "{setup}:\n{errors}");
    }
    let errors = refused("", "save(\"location\", \"max-contacts\");");
    assert!(errors.contains("max-contacts"), "{errors}");
}

#[test]
fn order_matching_and_retransmissions_follow_the_parameters_of_usrloc() {
    let contact = "Contact: <sip:a@10.0.0.9>\n";
    let mut by_call = node("modparam(\"usrloc\", \"matching_mode\", 1)", SAVE);
    ask(&mut by_call, &register("c", 1, contact));
    ask(&mut by_call, &register("d", 1, contact));
    assert_eq!(contacts(&mut by_call).len(), 2);
    let setup = "modparam(\"usrloc\", \"cseq_delay\", 0)\n\
                 modparam(\"registrar\", \"allow_dup_cseq\", 0)";
    let mut strict = node(setup, SAVE);
    ask(&mut strict, &register("c", 1, contact));
    assert_eq!(code(&ask(&mut strict, &register("c", 1, contact))), 400);
    let body = "if ($rm == \"REGISTER\") save(\"location\");\n\
                else { lookup(\"location\"); xlog(\"ru=$ru\\n\"); }";
    for (setup, expected) in
        [("", "ru=sip:old@"), ("modparam(\"usrloc\", \"desc_time_order\", 1)", "ru=sip:new@")]
    {
        let mut node = node(setup, body);
        ask(&mut node, &register("c", 1, "Contact: <sip:old@10.0.0.9>;q=0.9\n"));
        node.advance_ms(2000);
        ask(&mut node, &register("d", 1, "Contact: <sip:new@10.0.0.9>;q=0.1\n"));
        node.udp(PHONE, &invite(""));
        let logs = node.logs();
        assert!(logs.iter().any(|(_, l)| l.contains(expected)), "{setup}: {logs:?}");
    }
}
