//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::json;
use tandem_engine::catalogue::Modules;
use tandem_engine::effect::Input;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_proto_bin::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_clusterer::MODULE,
    &tandem_sl::MODULE,
    &tandem_signaling::MODULE,
    &tandem_tm::MODULE,
    &tandem_rr::MODULE,
    &tandem_usrloc::MODULE,
    &tandem_registrar::MODULE,
    &tandem_dialog::MODULE,
    &tandem_nat_traversal::MODULE,
];
const HEAD: &str = "log_level=3\nsocket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
    loadmodule \"sl.so\"\nloadmodule \"signaling.so\"\nloadmodule \"tm.so\"\n\
    loadmodule \"rr.so\"\nloadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\n\
    modparam(\"registrar\", \"min_expires\", 10)\n";
const DIALOG: &str = "loadmodule \"dialog.so\"\n";
const SELF: &str = "loadmodule \"nat_traversal.so\"\n\
    modparam(\"nat_traversal\", \"keepalive_interval\", 10)\n";
const PHONE: &str = "203.0.113.7:4000";
const CALLEE: &str = "203.0.113.8:4000";
const SAVE: &str = "nat_keepalive(); save(\"location\");";
const CALL: &str = "if ($rm == \"REGISTER\") { nat_keepalive(); save(\"location\"); exit; }\n\
    if ($tt != null) { loose_route(); t_relay(); exit; }\n\
    nat_keepalive(); record_route(); $du = \"sip:203.0.113.8:4000\"; t_relay();";

fn node(settings: &str, route: &str) -> TestNode {
    TestNode::new(&format!("{HEAD}{DIALOG}{SELF}{settings}\nroute {{ {route} }}"), MODULES)
}

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"nat_traversal\", \"{name}\", \"{value}\")\n")
}

fn request(method: &str, extra: &str) -> String {
    format!(
        "{method} sip:a@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKx{method}\n\
         From: <sip:a@127.0.0.1>;tag=f\nTo: <sip:a@127.0.0.1>\nCall-ID: c{method}\n\
         CSeq: 1 {method}\nContact: <sip:a@10.0.0.5:5060>\n{extra}Content-Length: 0\n\n"
    )
}

/// The keepalives of the next seconds: where to, and their text.
fn keepalives(node: &mut TestNode, seconds: u64) -> Vec<(String, String)> {
    node.sent();
    node.advance_ms(seconds * 1000);
    let sent = node.sent().into_iter().map(|(to, text)| (to.to_string(), text));
    sent.filter(|(_, text)| text.contains("\r\nCall-ID: natka-")).collect()
}

fn counts(node: &mut TestNode) -> [u64; 4] {
    let names =
        ["keepalive_endpoints", "registered_endpoints", "subscribed_endpoints", "dialog_endpoints"];
    names.map(|name| {
        let name = format!("nat_traversal:{name}");
        node.mi("get_statistics", json!([[&name]]))["result"][&name].as_u64().unwrap()
    })
}

fn reply(request: &str, status: &str, extra: &str) -> String {
    let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Record-Route:"];
    let lines = request.lines().filter(|l| kept.iter().any(|k| l.starts_with(k)));
    let lines: Vec<String> = lines
        .map(|l| if l.starts_with("To:") { format!("{l};tag=t") } else { l.to_owned() })
        .collect();
    let lines = lines.join("\n");
    format!("SIP/2.0 {status}\n{lines}\n{extra}Content-Length: 0\n\n")
}

/// What left towards an address, the first with this beginning.
fn sent_to(node: &mut TestNode, to: &str, start: &str) -> String {
    let sent = node.sent();
    let found = sent.iter().find(|(t, text)| t.to_string() == to && text.starts_with(start));
    found.unwrap_or_else(|| panic!("no {start} to {to}: {sent:?}")).1.clone()
}

fn registrations_are_kept_alive() {
    let mut node = node("", SAVE);
    node.udp(PHONE, &request("REGISTER", "Expires: 60\n"));
    assert_eq!(counts(&mut node), [1, 1, 0, 0]);
    let sent = keepalives(&mut node, 30);
    assert_eq!(sent.len(), 3);
    let (to, text) = &sent[0];
    assert_eq!(to, PHONE);
    assert!(text.starts_with("NOTIFY sip:203.0.113.7:4000 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1"));
    assert!(text.contains("\r\nFrom: <sip:keepalive@127.0.0.1:5060>;tag="), "{text}");
    assert!(text.contains("\r\nTo: <sip:203.0.113.7:4000>\r\n"), "{text}");
    assert!(text.contains("\r\nEvent: keep-alive\r\n"), "{text}");
    // Its answer ends here: no route sees it, nobody else gets it.
    node.udp(PHONE, &reply(text, "200 OK", ""));
    assert!(node.sent().is_empty());
    assert!(keepalives(&mut node, 60).len() <= 3, "the registration has ended");
    assert_eq!(counts(&mut node), [0; 4]);
    node.udp(PHONE, &request("REGISTER", "Expires: 60\n").replace("1 REG", "2 REG"));
    node.udp(PHONE, &request("REGISTER", "Expires: 0\n").replace("1 REG", "3 REG"));
    assert_eq!(counts(&mut node), [0; 4], "or was ended");
}

fn requests_that_are_refused_keep_nobody_alive() {
    let mut node = node("", "nat_keepalive(); sl_send_reply(403, \"No\");");
    node.udp(PHONE, &request("REGISTER", "Expires: 60\n"));
    node.udp(PHONE, &request("OPTIONS", ""));
    assert_eq!(counts(&mut node), [0; 4]);
    assert!(node.logs().iter().any(|(_, l)| l.contains("is for REGISTER, SUBSCRIBE and INVITE")));
}

fn subscriptions_are_kept_alive() {
    let mut node = node("", "nat_keepalive(); $du = \"sip:203.0.113.8:4000\"; t_relay();");
    node.udp(PHONE, &request("SUBSCRIBE", "Expires: 600\nEvent: x\n"));
    let forwarded = sent_to(&mut node, CALLEE, "SUBSCRIBE");
    assert_eq!(counts(&mut node), [0; 4]);
    node.udp(CALLEE, &reply(&forwarded, "202 Accepted", "Expires: 25\nContact: <sip:x@y>\n"));
    assert_eq!(counts(&mut node), [1, 0, 1, 0]);
    assert_eq!(keepalives(&mut node, 20).len(), 2);
    assert!(keepalives(&mut node, 60).len() <= 1);
}

/// A call from the phone to the callee, which is registered for a while; gives its 200.
fn call(node: &mut TestNode) -> String {
    node.udp(CALLEE, &request("REGISTER", "Expires: 20\n"));
    node.sent();
    node.udp(PHONE, &request("INVITE", ""));
    let invite = sent_to(node, CALLEE, "INVITE");
    node.udp(CALLEE, &reply(&invite, "180 Ringing", "Contact: <sip:b@10.0.0.9>\n"));
    let ok = reply(&invite, "200 OK", "Contact: <sip:b@10.0.0.9>\n");
    node.udp(CALLEE, &ok);
    sent_to(node, "203.0.113.7:5060", "SIP/2.0 200");
    ok
}

fn bye(ok: &str) -> String {
    let line = |name: &str| ok.lines().find(|l| l.starts_with(name)).unwrap();
    let route = line("Record-Route:").replace("Record-Route", "Route");
    format!(
        "BYE sip:b@10.0.0.9 SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKbye\n{route}\n\
         {}\n{}\n{}\nCSeq: 2 BYE\nContent-Length: 0\n\n",
        line("From:"),
        line("To:"),
        line("Call-ID:")
    )
}

fn calls_are_kept_alive_on_both_sides() {
    let mut node = node("", CALL);
    let ok = call(&mut node);
    assert_eq!(counts(&mut node), [2, 1, 0, 2]);
    // The callee's registration ends, the call does not.
    node.advance_ms(30_000);
    assert_eq!(counts(&mut node), [2, 0, 0, 2]);
    let reached: std::collections::BTreeSet<String> =
        keepalives(&mut node, 10).into_iter().map(|(to, _)| to).collect();
    assert_eq!(reached, [PHONE, CALLEE].map(String::from).into());
    node.udp(PHONE, &bye(&ok));
    assert_eq!(counts(&mut node), [0; 4]);
    let mut failed = self::node("", CALL);
    failed.udp(PHONE, &request("INVITE", ""));
    let invite = sent_to(&mut failed, CALLEE, "INVITE");
    failed.udp(CALLEE, &reply(&invite, "486 Busy", ""));
    assert_eq!(counts(&mut failed), [0; 4], "a call that was refused is none");
    let without =
        format!("{HEAD}{SELF}\nroute {{ if (!nat_keepalive()) xlog(\"L_NOTICE\", \"no\"); }}");
    let mut without = TestNode::new(&without, MODULES);
    without.udp(PHONE, &request("INVITE", ""));
    assert_eq!(without.logs().pop().unwrap().1, "no", "calls need the module dialog");
}

fn tracking_is_switched() {
    let variable = "$nat_traversal.track_dialog";
    let route = |value: u8| {
        let tracks = format!("{variable} = {value}; xlog(\"L_NOTICE\", \"{variable}\");");
        CALL.replace("nat_keepalive(); record_route", &format!("{tracks} record_route"))
    };
    let mut node = node("", &route(1));
    call(&mut node);
    assert_eq!(counts(&mut node), [1, 1, 0, 1], "the callee alone");
    assert!(node.logs().iter().any(|(_, l)| l == "1"));
    let mut node = self::node("", &route(0));
    call(&mut node);
    assert_eq!(counts(&mut node), [1, 1, 0, 0]);
}

fn the_interval_decides() {
    for (interval, expected) in [("5", 6), ("0", 0)] {
        let mut node = node(
            &set("keepalive_interval", interval).replace(&format!("\"{interval}\""), interval),
            SAVE,
        );
        node.udp(PHONE, &request("REGISTER", "Expires: 300\n"));
        assert_eq!(keepalives(&mut node, 30).len(), expected, "every {interval} s");
    }
}

fn texts_are_those_of_the_parameters() {
    let settings = set("keepalive_method", "OPTIONS")
        + &set("keepalive_from", "sip:pinger@example.org")
        + &set("keepalive_extra_headers", "User-Agent: x\\r\\nX-A: b\\r\\n");
    let mut node = node(&settings, SAVE);
    node.udp(PHONE, &request("REGISTER", "Expires: 300\n"));
    let (_, text) = keepalives(&mut node, 10).remove(0);
    assert!(text.starts_with("OPTIONS sip:203.0.113.7:4000 SIP/2.0\r\n"), "{text}");
    assert!(text.contains("From: <sip:pinger@example.org>;tag="), "{text}");
    assert!(text.contains("\r\nCSeq: 1 OPTIONS\r\nUser-Agent: x\r\nX-A: b\r\nContent-Length"));
    let bad =
        format!("{HEAD}{SELF}{}route {{ exit; }}", set("keepalive_extra_headers", "nonsense"));
    let errors = TestNode::try_new(&bad, MODULES).err().unwrap();
    assert!(errors.contains("header lines"), "{errors}");
}

fn endpoints_outlive_a_restart() {
    let settings = set("keepalive_state_file", "ways");
    let mut node = node(&settings, SAVE);
    node.udp(PHONE, &request("REGISTER", "Expires: 300\n"));
    node.udp(CALLEE, &request("REGISTER", "Expires: 30\n").replace("sip:a@127", "sip:b@127"));
    node.step(Input::Shutdown);
    let saved = node.file("ways").unwrap();
    assert!(saved.contains("sip:203.0.113.7:4000 udp:127.0.0.1:5060 "), "{saved}");
    let mut next = TestNode::with_files(
        &format!("{HEAD}{DIALOG}{SELF}{settings}\nroute {{ {SAVE} }}"),
        MODULES,
        &[("ways", &(saved + "nonsense\nsip:x 1\n"))],
    )
    .unwrap();
    assert_eq!(counts(&mut next), [2, 2, 0, 0]);
    let sent = keepalives(&mut next, 100);
    assert_eq!(sent.iter().filter(|(to, _)| to == PHONE).count(), 10);
    let few = sent.iter().filter(|(to, _)| to == CALLEE).count();
    assert!(few <= 3, "{few} of a registration for 30 s");
}

fn the_tag_decides_who_sends() {
    for (state, expected) in [("active", 2), ("backup", 0)] {
        let settings = format!(
            "socket=bin:127.0.0.1:5566\nloadmodule \"proto_bin.so\"\n\
             loadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"my_node_id\", 1)\n\
             modparam(\"clusterer\", \"db_mode\", 0)\n\
             modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1,url=bin:127.0.0.1:5566\")\n\
             modparam(\"clusterer\", \"sharing_tag\", \"service/1={state}\")\n\
             modparam(\"nat_traversal\", \"cluster_id\", 1)\n{}",
            set("cluster_sharing_tag", "service")
        );
        let mut node = node(&settings, SAVE);
        node.advance_ms(2_000);
        node.udp(PHONE, &request("REGISTER", "Expires: 300\n"));
        assert_eq!(keepalives(&mut node, 20).len(), expected, "{state}");
    }
    let bad = format!("{HEAD}{SELF}{}route {{ exit; }}", set("cluster_sharing_tag", "service"));
    let errors = TestNode::try_new(&bad, MODULES).err().unwrap();
    assert!(errors.contains("cluster_sharing_tag needs cluster_id"), "{errors}");
}

fn contacts_are_fixed() {
    let mut node = node("", "fix_contact(); $du = \"sip:127.0.0.8\"; t_relay();");
    node.udp(PHONE, &request("OPTIONS", ""));
    let text = sent_to(&mut node, "127.0.0.8:5060", "OPTIONS");
    assert!(text.contains("Contact: <sip:a@203.0.113.7:4000>\r\n"), "{text}");
}

fn clients_are_tested() {
    let open = request("OPTIONS", "").replace("10.0.0.5:5060", PHONE);
    let via = open.replace("UDP 203.0.113.7:4000", "UDP 203.0.113.7:4001");
    let private_via = open.replace("UDP 203.0.113.7:4000", "UDP 10.0.0.5:4000");
    let contact = open.replace("a@203.0.113.7:4000", "a@10.0.0.5");
    for (text, hits) in [
        (&open, vec![]),
        (&contact, vec![1, 3, 5, 7]),
        (&via, vec![2, 3, 6, 7]),
        (&private_via, vec![2, 3, 4, 5, 6, 7]),
    ] {
        for test in 1..=7 {
            let route = format!(
                "if (client_nat_test({test})) xlog(\"L_NOTICE\", \"yes\");\n\
                 else xlog(\"L_NOTICE\", \"no\");"
            );
            let mut node = node("", &route);
            node.udp(PHONE, text);
            let said = node.logs().pop().unwrap().1;
            assert_eq!(said == "yes", hits.contains(&test), "{test}: {text}");
        }
    }
}

fn variables_tell() {
    let route = format!(
        "xlog(\"L_NOTICE\", \"$source_uri|$keepalive.socket(sip:203.0.113.7:4000)\"); {SAVE}"
    );
    let mut node = node("", &route);
    for cseq in ["1 REG", "2 REG"] {
        node.udp(PHONE, &request("REGISTER", "Expires: 300\n").replace("1 REG", cseq));
    }
    let said: Vec<String> = node.logs().into_iter().map(|(_, l)| l).collect();
    let last = &said[said.len() - 2..];
    assert_eq!(last[0], "sip:203.0.113.7:4000|<null>");
    assert_eq!(last[1], "sip:203.0.113.7:4000|udp:127.0.0.1:5060");
}

fn sizes_are_those_of_the_table() {
    registrations_are_kept_alive();
    subscriptions_are_kept_alive();
    calls_are_kept_alive_on_both_sides();
}

fn keepalive() {
    registrations_are_kept_alive();
    requests_that_are_refused_keep_nobody_alive();
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_nat_traversal::MODULE,
        &[
            ("param keepalive_interval", the_interval_decides),
            ("param keepalive_method", texts_are_those_of_the_parameters),
            ("param keepalive_from", texts_are_those_of_the_parameters),
            ("param keepalive_extra_headers", texts_are_those_of_the_parameters),
            ("param keepalive_state_file", endpoints_outlive_a_restart),
            ("param cluster_id", the_tag_decides_who_sends),
            ("param cluster_sharing_tag", the_tag_decides_who_sends),
            ("function nat_keepalive", keepalive),
            ("function fix_contact", contacts_are_fixed),
            ("function client_nat_test", clients_are_tested),
            ("variable keepalive.socket", variables_tell),
            ("variable source_uri", variables_tell),
            ("variable nat_traversal.track_dialog", tracking_is_switched),
            ("statistic keepalive_endpoints", sizes_are_those_of_the_table),
            ("statistic registered_endpoints", sizes_are_those_of_the_table),
            ("statistic subscribed_endpoints", sizes_are_those_of_the_table),
            ("statistic dialog_endpoints", sizes_are_those_of_the_table),
        ],
    );
}

#[test]
fn calls_outlive_a_restart() {
    let settings = "loadmodule \"db_sqlite.so\"\nmodparam(\"dialog\", \"db_mode\", 1)\n\
                    modparam(\"dialog\", \"db_url\", \"sqlite:///x.db\")\n";
    let mut first = node(settings, CALL);
    let ok = call(&mut first);
    first.advance_ms(30_000);
    assert_eq!(counts(&mut first), [2, 0, 0, 2]);
    // It dies: no file is written.
    let script = format!("{HEAD}{DIALOG}{SELF}{settings}\nroute {{ {CALL} }}");
    let old = first.db;
    let mut next = TestNode::with_database(&script, MODULES, |db| *db = old).unwrap();
    next.advance_ms(3_000);
    assert_eq!(counts(&mut next), [2, 0, 0, 2]);
    let reached: std::collections::BTreeSet<String> =
        keepalives(&mut next, 10).into_iter().map(|(to, _)| to).collect();
    assert_eq!(reached, [PHONE, CALLEE].map(String::from).into());
    next.udp(PHONE, &bye(&ok));
    assert_eq!(counts(&mut next), [0; 4]);
}
