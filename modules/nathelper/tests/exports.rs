//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::effect::Input;
use tandem_engine::stream::{StreamId, StreamInput};
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_proto_tcp::MODULE,
    &tandem_sl::MODULE,
    &tandem_signaling::MODULE,
    &tandem_usrloc::MODULE,
    &tandem_registrar::MODULE,
    &tandem_nathelper::MODULE,
    &tandem_tm::MODULE,
    &tandem_proto_bin::MODULE,
    &tandem_clusterer::MODULE,
];
const HEAD: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
    loadmodule \"sl.so\"\nloadmodule \"signaling.so\"\nloadmodule \"tm.so\"\n\
    loadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\nloadmodule \"nathelper.so\"\n\
    modparam(\"usrloc\", \"nat_bflag\", \"NAT\")\n";
const PHONE: &str = "203.0.113.7:4000";

fn node(settings: &str, route: &str) -> TestNode {
    TestNode::new(&format!("{HEAD}{settings}\nroute {{ {route} }}"), MODULES)
}

fn request(method: &str, extra: &str) -> String {
    format!(
        "{method} sip:127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKx\n\
         From: <sip:a@127.0.0.1>;tag=f\nTo: <sip:a@127.0.0.1>\nCall-ID: c\nCSeq: 1 {method}\n\
         Contact: <sip:a@10.0.0.5:5060>\nExpires: 300\n{extra}Content-Length: 0\n\n"
    )
}

/// Pings of four zero bytes sent within some seconds after a registration.
fn pings(settings: &str, route: &str, seconds: u64) -> usize {
    let mut node = node(settings, route);
    node.udp(PHONE, &request("REGISTER", ""));
    node.sent();
    node.advance_ms(seconds * 1000);
    node.sent().iter().filter(|(to, text)| to.to_string() == PHONE && text == "\0\0\0\0").count()
}

const SAVE: &str = "fix_nated_register(); save(\"location\");";
const SAVE_NAT: &str = "fix_nated_register(); setbflag(\"NAT\"); save(\"location\");";
const AVP: &str = "modparam(\"registrar|nathelper\", \"received_avp\", \"$avp(rcv)\")\n";

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_nathelper::MODULE,
        &[
            ("param natping_interval", the_interval_decides_how_often),
            ("param ping_nated_only", only_phones_behind_nat_are_pinged_if_wanted),
            ("param received_avp", the_source_is_stored),
            ("param nortpproxy_str", bodies_are_rewritten),
            ("param force_socket", sockets_of_pings_are_chosen),
            ("param sipping_ignore_rpl_codes", replies_that_do_not_count_do_not_save_a_contact),
            ("param sipping_from", phones_get_requests_as_pings),
            ("param sipping_method", phones_get_requests_as_pings),
            ("param sipping_bflag", phones_get_requests_as_pings),
            ("param sipping_latency_flag", latency_is_measured_where_it_is_wanted),
            ("param remove_on_timeout_bflag", contacts_that_do_not_answer_are_removed),
            ("param natping_tcp", connections_are_pinged_while_they_last),
            ("param natping_partitions", slices_are_accepted_and_change_nothing),
            ("param natping_socket", sockets_of_pings_are_chosen),
            ("param oldip_skip", bodies_are_rewritten),
            ("param ping_threshold", contacts_that_do_not_answer_are_removed),
            ("param max_pings_lost", contacts_that_do_not_answer_are_removed),
            ("param cluster_id", a_tag_needs_its_cluster),
            ("param cluster_sharing_tag", without_the_tag_nothing_is_pinged),
            ("function nat_uac_test", the_tests_of_nat),
            ("function fix_nated_register", the_source_is_stored),
            ("function fix_nated_contact", contacts_are_rewritten),
            ("function restore_nated_ruri", a_preserved_uri_is_restored),
            ("function fix_nated_sdp", bodies_are_rewritten),
            ("function add_rcv_param", received_is_added),
            ("mi nathelper:enable_ping", pinging_is_switched),
        ],
    );
}

fn interval(seconds: u32) -> String {
    format!("{AVP}modparam(\"nathelper\", \"natping_interval\", {seconds})")
}

fn the_interval_decides_how_often() {
    assert_eq!(pings(AVP, SAVE, 30), 0);
    assert_eq!(pings(&interval(5), SAVE, 30), 6);
    assert_eq!(pings(&interval(10), SAVE, 30), 3);
}

fn only_phones_behind_nat_are_pinged_if_wanted() {
    let settings = format!("{}\nmodparam(\"nathelper\", \"ping_nated_only\", 1)", interval(10));
    assert_eq!(pings(&settings, SAVE, 20), 0);
    assert_eq!(pings(&settings, SAVE_NAT, 20), 2);
}

fn the_source_is_stored() {
    let mut node = node(AVP, "fix_nated_register(); xlog(\"L_NOTICE\", \"$avp(rcv)\");");
    node.udp(PHONE, &request("REGISTER", ""));
    assert_eq!(node.logs().pop().unwrap().1, "sip:203.0.113.7:4000");
}

fn a_tag_needs_its_cluster() {
    let script = format!(
        "{HEAD}modparam(\"nathelper\", \"cluster_sharing_tag\", \"service\")\nroute {{ exit; }}"
    );
    let errors = TestNode::try_new(&script, MODULES).err().unwrap();
    assert!(errors.contains("cluster_sharing_tag needs cluster_id"), "{errors}");
}

fn without_the_tag_nothing_is_pinged() {
    for (state, expected) in [("active", 2), ("backup", 0)] {
        let settings = format!(
            "socket=bin:127.0.0.1:5566\nloadmodule \"proto_bin.so\"\n\
             loadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"my_node_id\", 1)\n\
             modparam(\"clusterer\", \"db_mode\", 0)\n\
             modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1,url=bin:127.0.0.1:5566\")\n\
             modparam(\"clusterer\", \"sharing_tag\", \"service/1={state}\")\n{}\n\
             modparam(\"nathelper\", \"cluster_id\", 1)\n\
             modparam(\"nathelper\", \"cluster_sharing_tag\", \"service\")",
            interval(10)
        );
        assert_eq!(pings(&settings, SAVE, 20), expected, "{state}");
    }
}

fn the_tests_of_nat() {
    let body = "Content-Type: application/sdp\n";
    for (test, expected) in [
        ("private-contact", true),
        ("diff-ip-src-via", true),
        ("private-via", true),
        ("diff-port-src-via", true),
        ("diff-ip-src-contact", true),
        ("diff-port-src-contact", true),
        ("private-sdp", false),
        ("private-sdp,carrier-grade-nat", false),
    ] {
        let route = format!(
            "if (nat_uac_test(\"{test}\")) xlog(\"L_NOTICE\", \"yes\"); else xlog(\"L_NOTICE\", \"no\");"
        );
        let mut node = node("", &route);
        node.udp(PHONE, &request("OPTIONS", body));
        assert_eq!(node.logs().pop().unwrap().1 == "yes", expected, "{test}");
        // Straight from where it says it is, on a public address: no test hits.
        let open = request("OPTIONS", "").replace("10.0.0.5:5060", PHONE);
        node.udp(PHONE, &open);
        assert_eq!(node.logs().pop().unwrap().1, "no", "{test}");
        // A name is no address, but has a port.
        let named = open.replace(&format!("a@{PHONE}"), "a@phone.example.org:5070");
        node.udp(PHONE, &named);
        let hits = test == "diff-port-src-contact";
        assert_eq!(node.logs().pop().unwrap().1 == "yes", hits, "{test}: {named}");
    }
}

fn relayed(route: &str) -> String {
    let mut node = node("", &format!("{route} $du = \"sip:127.0.0.8\"; t_relay();"));
    node.udp(PHONE, &request("OPTIONS", ""));
    node.sent().into_iter().find(|(to, _)| to.to_string() == "127.0.0.8:5060").unwrap().1
}

fn contacts_are_rewritten() {
    let text = relayed("fix_nated_contact(\";nat=yes\");");
    assert!(text.contains("Contact: <sip:a@203.0.113.7:4000;nat=yes>\r\n"), "{text}");
}

fn received_is_added() {
    let text = relayed("add_rcv_param(0);");
    assert!(text.contains(">;received=\"sip:203.0.113.7:4000\"\r\n"), "{text}");
    let text = relayed("add_rcv_param(1);");
    assert!(text.contains("<sip:a@10.0.0.5:5060;received=sip:203.0.113.7:4000>"), "{text}");
}

fn sip_pings(extra: &str) -> String {
    format!(
        "{}\nmodparam(\"nathelper\", \"sipping_from\", \"sip:pinger@example.org\")\n\
         modparam(\"nathelper\", \"sipping_bflag\", \"SIP_PING\")\n{extra}",
        interval(10)
    )
}

const SAVE_SIP: &str = "fix_nated_register(); setbflag(\"SIP_PING\"); setbflag(\"RM\"); \
    setbflag(\"LATENCY\"); save(\"location\");";

/// Lets time pass second by second; gives the requests that were sent, each answered with
/// `code` after `delay_ms`, unless that is 0.
fn answering(node: &mut TestNode, seconds: u64, code: u16, delay_ms: u64) -> Vec<String> {
    let mut requests = Vec::new();
    node.advance_ms(delay_ms);
    for _ in 0..seconds {
        node.advance_ms(1000 - delay_ms);
        let sent = node.sent();
        node.advance_ms(delay_ms);
        for (_, text) in sent.into_iter().filter(|(_, t)| t.contains(" SIP/2.0\r\n")) {
            if code != 0 {
                node.udp(PHONE, &reply(&text, code));
            }
            requests.push(text);
        }
    }
    requests
}

/// The phone's reply to a request.
fn reply(request: &str, code: u16) -> String {
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let lines = head.lines().filter(|l| kept.iter().any(|k| l.starts_with(k)));
    let lines: Vec<&str> = lines.collect();
    format!("SIP/2.0 {code} X\r\n{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n"))
}

fn contact(node: &mut TestNode) -> Json {
    let answer = node.mi("usrloc:show_contact", json!(["location", "a@127.0.0.1"]));
    answer["result"]["Contacts"][0].clone()
}

fn registered(settings: &str, route: &str, extra: &str) -> TestNode {
    let mut node = node(settings, route);
    node.udp(PHONE, &request("REGISTER", extra));
    node.sent();
    node
}

fn phones_get_requests_as_pings() {
    let mut node = registered(&sip_pings(""), SAVE_SIP, "");
    let pings = answering(&mut node, 20, 200, 10);
    assert_eq!(pings.len(), 2, "{pings:?}");
    let ping = &pings[0];
    assert!(ping.starts_with("OPTIONS sip:a@10.0.0.5:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1"));
    assert!(ping.contains("From: <sip:pinger@example.org>;tag="), "{ping}");
    assert!(ping.contains("To: <sip:a@10.0.0.5:5060>\r\n"), "{ping}");
    assert_ne!(pings[0], pings[1], "each has an identity of its own");
    let settings = sip_pings("modparam(\"nathelper\", \"sipping_method\", \"NOTIFY\")");
    let mut notify = registered(&settings, SAVE_SIP, "");
    assert!(answering(&mut notify, 11, 200, 10)[0].starts_with("NOTIFY sip:a@"));
    assert_eq!(self::pings(&sip_pings(""), SAVE, 20), 2, "without the flag they stay plain");
    let path = "Path: <sip:203.0.113.9;lr>\n";
    let route = SAVE_SIP.replace("save(\"location\")", "save(\"location\", \"path-lazy\")");
    let mut behind = self::node(&sip_pings(""), &route);
    behind.udp(PHONE, &request("REGISTER", path));
    behind.sent();
    behind.advance_ms(11_000);
    let (to, text) = behind.sent().remove(0);
    assert_eq!(to.to_string(), "203.0.113.9:5060");
    assert!(text.contains("Route: <sip:203.0.113.9;lr>\r\n"), "{text}");
}

fn contacts_that_do_not_answer_are_removed() {
    let remove = "modparam(\"nathelper\", \"remove_on_timeout_bflag\", \"RM\")\n";
    let one = format!("{remove}modparam(\"nathelper\", \"max_pings_lost\", 1)\n");
    let patient = format!("{one}modparam(\"nathelper\", \"ping_threshold\", 8)");
    for (setup, code, after_s, stays) in [
        // Three pings, 10 s apart, and 3 s for the last one.
        (remove, 0, 22, true),
        (remove, 0, 25, false),
        (remove, 200, 60, true),
        ("", 0, 60, true),
        (&one, 0, 2, true),
        (&one, 0, 4, false),
        (&patient, 0, 7, true),
        (&patient, 0, 9, false),
    ] {
        let mut node = registered(&sip_pings(setup), SAVE_SIP, "");
        while answering(&mut node, 1, code, 10).is_empty() {}
        answering(&mut node, after_s, code, 10);
        assert_eq!(!contact(&mut node).is_null(), stays, "{setup} {code} after {after_s} s");
    }
}

fn replies_that_do_not_count_do_not_save_a_contact() {
    let setup = "modparam(\"nathelper\", \"remove_on_timeout_bflag\", \"RM\")\n\
                 modparam(\"nathelper\", \"sipping_ignore_rpl_codes\", \"404, 480\")\n";
    for (code, stays) in [(404, false), (405, true)] {
        let mut node = registered(&sip_pings(setup), SAVE_SIP, "");
        answering(&mut node, 45, code, 10);
        assert_eq!(!contact(&mut node).is_null(), stays, "{code}");
    }
}

fn latency_is_measured_where_it_is_wanted() {
    let setup = "modparam(\"nathelper\", \"sipping_latency_flag\", \"LATENCY\")\n";
    let mut node = registered(&sip_pings(setup), SAVE_SIP, "");
    answering(&mut node, 12, 200, 40);
    assert_eq!(contact(&mut node)["Ping-Latency"], json!(40_000));
    let mut without = registered(&sip_pings(""), SAVE_SIP, "");
    answering(&mut without, 12, 200, 40);
    assert_eq!(contact(&mut without).get("Ping-Latency"), None);
}

fn connections_are_pinged_while_they_last() {
    for (setup, expected) in [("", 0), ("modparam(\"nathelper\", \"natping_tcp\", 1)", 2)] {
        let tcp = "socket=tcp:127.0.0.1:5060\nloadmodule \"proto_tcp.so\"\n";
        let mut node = node(&format!("{tcp}{}\n{setup}", interval(10)), SAVE);
        let conn = StreamId(1 << 63);
        let (peer, local) = (PHONE.parse().unwrap(), "127.0.0.1:5060".parse().unwrap());
        node.step(Input::Stream(StreamInput::Accepted { conn, peer, local }));
        let text = request("REGISTER", "").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
        let bytes = text.replace('\n', "\r\n").into();
        node.step(Input::Stream(StreamInput::Data { conn, bytes }));
        assert_eq!(contact(&mut node)["Received"], "sip:203.0.113.7:4000;transport=tcp");
        node.written.clear();
        node.advance_ms(20_000);
        let pings = node.written.iter().filter(|(_, text)| text == "\r\n\r\n").count();
        assert_eq!(pings, expected, "{setup}");
        node.step(Input::Stream(StreamInput::Closed { conn }));
        node.written.clear();
        node.advance_ms(20_000);
        assert!(node.written.is_empty() && node.connects.is_empty(), "none is opened for a ping");
    }
}

fn slices_are_accepted_and_change_nothing() {
    let setup = format!("{}\nmodparam(\"nathelper\", \"natping_partitions\", 4)\n", interval(5));
    assert_eq!(pings(&setup, SAVE, 30), 6);
    let row = tandem_nathelper::MODULE.params.iter().find(|p| p.name == "natping_partitions");
    assert!(row.unwrap().moot.is_some());
}

fn sockets_of_pings_are_chosen() {
    let socket = |name: &str, value: &str| {
        format!(
            "socket=udp:127.0.0.2:5070\n{}\nmodparam(\"nathelper\", \"{name}\", \"{value}\")",
            interval(10)
        )
    };
    assert_eq!(pings(&socket("natping_socket", "127.0.0.2:5070"), SAVE, 20), 2);
    let mut foreign = node(&socket("natping_socket", "192.0.2.1:5060"), SAVE);
    assert!(foreign.logs().iter().any(|(_, l)| l.contains("is no socket of this node")));
    assert_eq!(pings(&socket("force_socket", "udp:127.0.0.2:5070"), SAVE, 20), 2);
    let script =
        format!("{HEAD}{}\nroute {{ exit; }}", socket("force_socket", "udp:192.0.2.1:5060"));
    let errors = TestNode::try_new(&script, MODULES).err().unwrap();
    assert!(errors.contains("is no socket of this node"), "{errors}");
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.5\r\ns=-\r\nc=IN IP4 10.0.0.5\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n";

/// The body that leaves after a script function.
fn body(settings: &str, function: &str) -> String {
    let mut node = node(settings, &format!("{function} $du = \"sip:127.0.0.8\"; t_relay();"));
    let head = request("INVITE", "Content-Type: application/sdp\n");
    let head = head.replace("Content-Length: 0", &format!("Content-Length: {}", SDP.len()));
    node.udp(PHONE, &format!("{}{SDP}", head.replace('\n', "\r\n")));
    let relayed = node.sent().into_iter().find(|(to, _)| to.to_string() == "127.0.0.8:5060");
    let relayed = relayed.unwrap().1;
    let (head, body) = relayed.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    body.to_owned()
}

/// The session descriptions of a body of several parts are rewritten, and nothing else of it.
fn sessions_among_other_parts_are_rewritten() {
    let mut node =
        node("", "fix_nated_sdp(\"rewrite-media-ip\"); $du = \"sip:127.0.0.8\"; t_relay();");
    let isup = "\x01c=IN IP4 10.0.0.5\r\n";
    let body = format!(
        "--x\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--x\r\n\
         Content-Type: application/ISUP\r\n\r\n{isup}\r\n--x--\r\n"
    );
    let head = request("INVITE", "Content-Type: multipart/mixed;boundary=x\n");
    let head = head.replace("Content-Length: 0", &format!("Content-Length: {}", body.len()));
    node.udp(PHONE, &format!("{}{body}", head.replace('\n', "\r\n")));
    let relayed = node.sent().into_iter().find(|(to, _)| to.to_string() == "127.0.0.8:5060");
    let relayed = relayed.unwrap().1;
    let (head, sent) = relayed.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", sent.len())), "{head}");
    assert!(head.contains("Content-Type: multipart/mixed;boundary=x"), "{head}");
    let fixed = SDP.replacen("c=IN IP4 10.0.0.5", "c=IN IP4 203.0.113.7", 1);
    let fixed = format!("{fixed}a=oldcip:10.0.0.5\r\n");
    assert_eq!(sent, body.replacen(SDP, &fixed, 1));
}

fn bodies_are_rewritten() {
    sessions_among_other_parts_are_rewritten();
    let media = body("", "fix_nated_sdp(\"rewrite-media-ip\");");
    assert!(media.contains("c=IN IP4 203.0.113.7\r\n") && media.contains("c=IN IP4 0.0.0.0"));
    assert!(media.contains("o=- 1 1 IN IP4 10.0.0.5") && media.contains("a=oldcip:10.0.0.5\r\n"));
    let origin = body("", "fix_nated_sdp(\"rewrite-origin-ip\", \"192.0.2.9\");");
    assert!(origin.contains("o=- 1 1 IN IP4 192.0.2.9\r\n"), "{origin}");
    assert!(origin.contains("a=oldoip:10.0.0.5\r\n"), "{origin}");
    let six = body("", "fix_nated_sdp(\"rewrite-media-ip\", \"2001:db8::1\");");
    assert!(six.contains("c=IN IP6 2001:db8::1\r\n"), "{six}");
    let null = body("", "fix_nated_sdp(\"rewrite-media-ip,rewrite-null-ips\");");
    assert!(!null.contains("c=IN IP4 0.0.0.0"), "{null}");
    let lines = body("", "fix_nated_sdp(\"add-dir-active,add-no-rtpproxy\", , \"a=x:1\");");
    assert!(lines.ends_with("a=direction:active\r\na=nortpproxy:yes\r\na=x:1\r\n"), "{lines}");
    assert_eq!(
        body("", "fix_nated_sdp(\"3\");"),
        body("", "fix_nated_sdp(\"add-dir-active,rewrite-media-ip\");")
    );
    let skip = "modparam(\"nathelper\", \"oldip_skip\", \"oc\")\n\
                modparam(\"nathelper\", \"nortpproxy_str\", \"\")";
    let skipped =
        body(skip, "fix_nated_sdp(\"rewrite-media-ip,rewrite-origin-ip,add-no-rtpproxy\");");
    assert!(!skipped.contains("a=old") && !skipped.contains("nortpproxy"), "{skipped}");
}

fn a_preserved_uri_is_restored() {
    let text = relayed("fix_nated_contact(\";nat=yes\", \"preserve-uri\");");
    let kept = "Contact: <sip:a@203.0.113.7:4000;nat=yes;org=10.0.0.5:5060>\r\n";
    assert!(text.contains(kept), "{text}");
    let text = relayed(
        "$ru = \"sip:a@203.0.113.7:4000;nat=yes;org=10.0.0.5:5060\"; \
         if (!restore_nated_ruri()) exit;",
    );
    assert!(text.starts_with("OPTIONS sip:a@10.0.0.5:5060;nat=yes SIP/2.0\r\n"), "{text}");
}

fn pinging_is_switched() {
    let mut node = node(&interval(5), SAVE);
    node.udp(PHONE, &request("REGISTER", ""));
    let status = |node: &mut TestNode, params: Json| node.mi("nathelper:enable_ping", params);
    assert_eq!(status(&mut node, Json::Null)["result"], json!({"Status": 1}));
    let old = node.mi("nh_enable_ping", Json::Null);
    assert_eq!(old["error"]["code"], json!(-32601), "a name of before 4.0");
    assert_eq!(status(&mut node, json!([0]))["result"], "OK");
    node.sent();
    node.advance_ms(20_000);
    assert_eq!(node.sent(), []);
    status(&mut node, json!([1]));
    node.advance_ms(20_000);
    assert_eq!(node.sent().len(), 4);
}

#[test]
fn a_contact_with_a_name_is_pinged_when_the_name_is_found() {
    let settings = "modparam(\"nathelper\", \"natping_interval\", 10)\n\
        modparam(\"nathelper\", \"sipping_bflag\", \"SIP\")\n\
        modparam(\"nathelper\", \"sipping_from\", \"sip:ping@here\")";
    for (flag, ping) in [("OTHER", "\0\0\0\0"), ("SIP", "OPTIONS sip:a@phone.test")] {
        let mut node = node(settings, &format!("setbflag(\"{flag}\"); save(\"location\");"));
        node.host("phone.test", &["203.0.113.8"]);
        let text = request("REGISTER", "").replace("a@10.0.0.5:5060", "a@phone.test:4001");
        node.udp(PHONE, &text);
        node.sent();
        node.dns_silent = true;
        node.advance_ms(10_000);
        assert!(node.sent().is_empty(), "nobody knows yet where it is");
        assert_eq!(node.answer_names(), 1);
        let sent = node.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].0.to_string(), "203.0.113.8:4001");
        assert!(sent[0].1.starts_with(ping), "{sent:?}");
        node.dns_silent = false;
        node.advance_ms(10_000);
        assert_eq!(node.sent().len(), 1, "and again when its turn comes");
    }
}
