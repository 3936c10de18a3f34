//! Records that a RADIUS server gets.

use std::collections::BTreeMap;

use tandem_engine::client::{ClientAsk, ClientEvent, ClientNews};
use tandem_engine::effect::Input;
use tandem_engine::testing::TestNode;
use tandem_radius::dictionary::Dictionary;
use tandem_radius::packet::{Code, Packet, reply};
use tandem_radius::value::{Value, decode};

use crate::common::{self, CALLEE, CALLER, call, dial, hang_up, modparam, script, within};

const SECRET: &[u8] = b"s3cret";
pub(crate) const CONF: &str = "acctserver 10.0.0.9:1813:s3cret\ndictionary dictionary\nradius_timeout 2\n\
    radius_retries 0\n";
pub(crate) const DICTIONARY: &str = "ATTRIBUTE Service-Type 6 integer\nATTRIBUTE NAS-IP-Address 4 ipaddr\n\
    ATTRIBUTE Calling-Station-Id 31 string\nATTRIBUTE Called-Station-Id 30 string\n\
    ATTRIBUTE Acct-Status-Type 40 integer\nATTRIBUTE Acct-Delay-Time 41 integer\n\
    ATTRIBUTE Acct-Session-Id 44 string\nATTRIBUTE Acct-Session-Time 46 integer\n\
    ATTRIBUTE Event-Timestamp 55 date\nATTRIBUTE Sip-Method 204 integer\n\
    ATTRIBUTE Sip-Response-Code 205 integer\nATTRIBUTE Sip-From-Tag 206 string\n\
    ATTRIBUTE Sip-To-Tag 207 string\nATTRIBUTE Sip-Call-Duration 227 integer\n\
    ATTRIBUTE Sip-Call-Setuptime 228 integer\nATTRIBUTE Sip-Call-Created 229 integer\n\
    ATTRIBUTE Sip-Call-MSDuration 230 integer\nATTRIBUTE Tandem-Cdr-Id 240 string\n";
const URL: &str = "modparam(\"acc\", \"aaa_url\", \"radius:/etc/r/conf\")\n";

type Attributes = BTreeMap<String, String>;

/// The script with a RADIUS server.
pub(crate) fn with_radius(script: &str) -> String {
    let load = "loadmodule \"acc.so\"\n";
    script.replace(load, &format!("loadmodule \"aaa_radius.so\"\n{load}{URL}"))
}

/// A node that accounts to a RADIUS server and has no database.
fn started(script: &str, dictionary: &str) -> Result<TestNode, String> {
    let script = with_radius(&script.replace("modparam(\"acc\", \"db_url\"", "#"));
    let files = [("/etc/r/conf", CONF), ("/etc/r/dictionary", dictionary)];
    TestNode::with_files(&script, common::MODULES, &files)
}

fn node(params: &str, routes: &str) -> TestNode {
    started(&script(params, routes), DICTIONARY).unwrap()
}

fn with_dialogs(params: &str, flags: &str) -> TestNode {
    let initial = format!("create_dialog(); do_accounting(\"aaa\", \"{flags}\");");
    started(&common::dialog_script(params, &initial, ""), DICTIONARY).unwrap()
}

/// The records that come to the server, which takes them; `false`: it is not there.
fn served(node: &mut TestNode, is_there: bool) -> Vec<Attributes> {
    let mut all = Vec::new();
    node.advance_ms(30);
    loop {
        let asks = std::mem::take(&mut node.clients);
        if asks.is_empty() {
            return all;
        }
        for (token, ask) in asks {
            let event = match ask {
                ClientAsk::OpenDatagrams { .. } if !is_there => {
                    ClientEvent::Closed("nobody listens there".into())
                }
                ClientAsk::OpenDatagrams { .. } => ClientEvent::Opened,
                ClientAsk::Write(bytes) if is_there => {
                    all.push(read(&bytes));
                    let answer = reply(Code::AccountingResponse, &bytes, SECRET, &[]);
                    ClientEvent::Bytes(answer.into())
                }
                _ => continue,
            };
            node.step(Input::Client(ClientNews { token, event }));
        }
    }
}

fn read(bytes: &[u8]) -> Attributes {
    let packet = Packet::parse(bytes).unwrap();
    assert_eq!(packet.code, Code::AccountingRequest);
    let known = Dictionary::of("d", DICTIONARY);
    let mut all = Attributes::new();
    for avp in packet.avps() {
        let attribute = known.attribute_numbered(avp.vendor, avp.number).expect("a known one");
        let value = match decode(attribute, &avp.value) {
            Value::Int(number) => number.to_string(),
            Value::Text(text) => String::from_utf8(text).unwrap(),
        };
        let said = all.entry(attribute.name.clone()).or_default();
        *said = if said.is_empty() { value } else { format!("{said},{value}") };
    }
    all
}

fn some(of: &Attributes, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| of.get(*name).cloned().unwrap_or_default()).collect()
}

const CORE: [&str; 8] = [
    "Acct-Status-Type",
    "Service-Type",
    "Sip-Response-Code",
    "Sip-Method",
    "Event-Timestamp",
    "Sip-From-Tag",
    "Sip-To-Tag",
    "Acct-Session-Id",
];

pub(crate) fn aaa_url() {
    let routes = "route { do_accounting(\"aaa\", \"failed\"); t_relay(); }";
    for (method, code, status, number) in [
        ("INVITE", 200, "1", "1"),
        ("INVITE", 486, "15", "1"),
        ("BYE", 200, "2", "8"),
        ("MESSAGE", 202, "3", "256"),
    ] {
        let mut node = node("", routes);
        call(&mut node, method, code);
        let got = served(&mut node, true);
        assert_eq!(got.len(), 1, "{method} {code}: {got:?}");
        let code = code.to_string();
        let expected = [status, "15", &code, number, "1800000000", "f", "t", "c"];
        assert_eq!(some(&got[0], &CORE), expected);
        assert_eq!(got[0]["NAS-IP-Address"], "127.0.0.1");
    }
    let wrong = |params: &str, dictionary: &str| {
        started(&script(params, routes), dictionary).err().expect("an error")
    };
    let lacks = wrong("", &DICTIONARY.replace("Sip-To-Tag", "Sip-Tag"));
    assert!(
        lacks.contains(
            "the type aaa of acc needs Sip-To-Tag: the dictionary /etc/r/dictionary has no"
        ),
        "{lacks}"
    );
    let extra = wrong(&modparam("extra_fields", "aaa: a->Nothing"), DICTIONARY);
    assert!(extra.contains("extra_fields of acc needs Nothing"), "{extra}");
    let url = wrong(&modparam("aaa_url", "x"), DICTIONARY);
    assert!(url.contains("`x` is no RADIUS URL"), "{url}");
}

pub(crate) fn service_type() {
    let routes = "route { do_accounting(\"aaa\"); t_relay(); }";
    let of = |params: &str, dictionary: &str| {
        let mut node = started(&script(params, routes), dictionary).unwrap();
        call(&mut node, "INVITE", 200);
        served(&mut node, true)[0]["Service-Type"].clone()
    };
    assert_eq!(of("", DICTIONARY), "15");
    let named = format!("{DICTIONARY}VALUE Service-Type Sip-Session 19\n");
    assert_eq!(of("", &named), "19");
    assert_eq!(of(&modparam("service_type", "7"), &named), "7");
}

pub(crate) fn acc_aaa_request() {
    let routes = "route { acc_aaa_request(\"404 Not found\"); sl_send_reply(404, \"No\"); }";
    let mut with = node("", routes);
    with.udp(CALLER, &common::request("INVITE", "a", ""));
    let got = served(&mut with, true);
    let expected = ["15", "15", "404", "1", "1800000000", "f", "", "c"];
    assert_eq!(some(&got[0], &CORE), expected);
    let without = common::errors("", routes);
    assert!(without.contains("set aaa_url of acc"), "{without}");
}

#[test]
fn a_missed_call_is_told_once() {
    let mut node = node("", "route { do_accounting(\"aaa\", \"missed\"); t_relay(); }");
    call(&mut node, "INVITE", 486);
    let got = served(&mut node, true);
    assert_eq!(got.len(), 1);
    assert_eq!(some(&got[0], &CORE)[..3], ["15", "15", "486"]);
}

#[test]
fn fields_are_attributes_of_their_own() {
    let params = modparam("extra_fields", "aaa: who->Calling-Station-Id; none->Acct-Session-Time")
        + &modparam("leg_fields", "aaa: to->Called-Station-Id");
    let routes = "route { $acc_extra(who) = $fU; $acc_leg(to) = \"one\"; acc_new_leg(); \
        $acc_leg(to) = \"two\"; do_accounting(\"aaa\"); t_relay(); }";
    let mut with = node(&params, routes);
    call(&mut with, "INVITE", 200);
    let got = served(&mut with, true);
    let names = ["Calling-Station-Id", "Called-Station-Id", "Acct-Session-Time"];
    assert_eq!(some(&got[0], &names), ["alice", "one,two", ""]);
    // What does not fit is cut, what has no sense is left out, and the record comes.
    let routes = routes.replace("$fU", "$(hdr(Long))");
    let routes = routes.replace("do_acc", "$acc_extra(none) = \"soon\"; do_acc");
    let mut with = node(&params, &routes);
    let invite = common::request("INVITE", "a", &format!("Long: {}\n", "x".repeat(300)));
    let forwarded = common::forward(&mut with, &invite);
    with.udp(CALLEE, &common::reply_to(&forwarded, 200, ""));
    let got = served(&mut with, true);
    assert_eq!(got[0]["Calling-Station-Id"].len(), 253);
    assert!(!got[0].contains_key("Acct-Session-Time"));
    assert!(with.logs().iter().any(|(_, text)| text.contains("goes without Acct-Session-Time")));
}

fn ended(node: &mut TestNode, call_id: &str) {
    let invite = common::dial_as(node, call_id);
    node.advance_ms(1_500);
    let ok = common::answer(node, &invite);
    node.udp(CALLER, &within(&ok, "ACK", 1));
    node.advance_ms(10_321);
    hang_up(node, &ok);
}

#[test]
fn a_call_has_one_record_at_its_end() {
    let mut node = with_dialogs("", "cdr");
    let invite = dial(&mut node);
    node.advance_ms(1_500);
    let ok = common::answer(&mut node, &invite);
    node.udp(CALLER, &within(&ok, "ACK", 1));
    assert!(served(&mut node, true).is_empty(), "nothing is told when a call is answered");
    node.advance_ms(10_291);
    hang_up(&mut node, &ok);
    let got = served(&mut node, true);
    assert_eq!(got.len(), 1);
    let expected = ["2", "15", "200", "1", "1800000011", "f", "t", "c"];
    assert_eq!(some(&got[0], &CORE), expected);
    let figures = [
        "Acct-Session-Time",
        "Sip-Call-Duration",
        "Sip-Call-MSDuration",
        "Sip-Call-Setuptime",
        "Sip-Call-Created",
    ];
    assert_eq!(some(&got[0], &figures), ["11", "11", "10321", "1", "1800000000"]);
    assert_eq!(got[0]["Tandem-Cdr-Id"].len(), 32);
    node.advance_ms(5_000);
    assert!(served(&mut node, true).is_empty() && node.spool.files.is_empty());
}

#[test]
fn records_wait_for_a_server_that_is_away() {
    let mut node = with_dialogs("", "cdr");
    ended(&mut node, "one");
    assert!(served(&mut node, false).is_empty());
    let waits = node.mi("tandem:cdr_spool", serde_json::Value::Null)["result"].clone();
    assert_eq!((&waits["radius"], &waits["waiting"]), (&"away".into(), &1.into()));
    assert_eq!(waits["Records"][0]["callid"], "one");
    ended(&mut node, "two");
    node.advance_ms(3_000);
    assert!(served(&mut node, false).is_empty());
    let logs = node.logs();
    let said = |what: &str| logs.iter().filter(|(_, text)| text.contains(what)).count();
    assert_eq!(
        said("records cannot be written: no server answers; they wait in the spool"),
        1,
        "{logs:?}"
    );
    assert_eq!(said("nobody listens there"), 1);
    // The node is started again before the server is.
    let mut node = node.after_restart(60_000);
    node.advance_ms(2_000);
    let logs = node.logs();
    assert!(!logs.iter().any(|(_, text)| text.contains("goes without")), "{logs:?}");
    let mut got = served(&mut node, true);
    node.advance_ms(2_000);
    got.extend(served(&mut node, true));
    let mut calls: Vec<_> = got.iter().map(|all| all["Acct-Session-Id"].clone()).collect();
    calls.sort();
    assert_eq!(calls, ["one", "two"]);
    let delay: u32 = got[0]["Acct-Delay-Time"].parse().unwrap();
    assert!((60..120).contains(&delay), "{delay}");
    node.advance_ms(5_000);
    assert!(served(&mut node, true).is_empty() && node.spool.files.is_empty());
}

/// As [`served`] by a server that never answers the records of one call: whose records came.
fn served_but(node: &mut TestNode, mute: &str) -> Vec<String> {
    let mut all = Vec::new();
    node.advance_ms(30);
    loop {
        let asks = std::mem::take(&mut node.clients);
        if asks.is_empty() {
            return all;
        }
        for (token, ask) in asks {
            let event = match ask {
                ClientAsk::OpenDatagrams { .. } => ClientEvent::Opened,
                ClientAsk::Write(bytes) => {
                    let id = read(&bytes)["Acct-Session-Id"].clone();
                    all.push(id.clone());
                    if id == mute {
                        continue;
                    }
                    let answer = reply(Code::AccountingResponse, &bytes, SECRET, &[]);
                    ClientEvent::Bytes(answer.into())
                }
                _ => continue,
            };
            node.step(Input::Client(ClientNews { token, event }));
        }
    }
}

fn served_for(node: &mut TestNode, seconds: u32, mute: &str) -> Vec<String> {
    let second = |_| {
        node.advance_ms(1_000);
        served_but(node, mute)
    };
    (0..seconds).flat_map(second).collect()
}

#[test]
fn a_record_that_is_never_answered_stops_no_other() {
    let mut node = with_dialogs("", "cdr");
    ended(&mut node, "mute");
    assert_eq!(served_for(&mut node, 20, "mute").first(), Some(&"mute".to_owned()));
    for (call, seconds) in [("a", 10), ("b", 10), ("c", 1), ("d", 1), ("e", 1), ("f", 1)] {
        ended(&mut node, call);
        // When others were taken twice, it is not the server.
        let got = served_for(&mut node, seconds, "mute");
        assert!(got.contains(&call.to_owned()), "{call} {got:?}");
        served_for(&mut node, 10, "mute");
    }
    // It was set aside after some of them, and is said and kept.
    assert!(served_for(&mut node, 60, "mute").is_empty());
    let logs = node.logs();
    let said = logs.iter().filter(|(_, text)| text.contains("never answers"));
    let said: Vec<_> = said.map(|(_, text)| text).collect();
    assert!(matches!(said[..], [one] if one.contains("\"mute\"")), "{logs:?}");
    let names: Vec<_> = node.spool.files.keys().cloned().collect();
    assert!(matches!(&names[..], [one] if one.starts_with("aaa-refused-")), "{names:?}");
    let mut node = node.after_restart(60_000);
    assert_eq!(served_for(&mut node, 10, "none"), ["mute"]);
    node.advance_ms(5_000);
    assert!(node.spool.files.is_empty());
}

#[test]
fn what_was_taken_does_not_come_again_after_a_restart() {
    let mut node = with_dialogs("", "cdr");
    for call in ["mute", "a", "b", "c"] {
        let invite = common::dial_as(&mut node, call);
        let ok = common::answer(&mut node, &invite);
        node.udp(CALLER, &within(&ok, "ACK", 1));
        hang_up(&mut node, &ok);
    }
    let mut got = served_but(&mut node, "mute");
    got.sort();
    assert_eq!(got, ["a", "b", "c", "mute"]);
    node.advance_ms(10);
    assert_eq!(node.spool.files.len(), 1);
    let mut node = node.after_restart(60_000);
    assert_eq!(served_for(&mut node, 10, "none"), ["mute"]);
    let logs = node.logs();
    assert!(!logs.iter().any(|(_, text)| text.contains("no records")), "{logs:?}");
    assert!(node.spool.files.is_empty());
}
