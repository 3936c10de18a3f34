//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_dns::{Answer, Name, Question, Record, RecordKind};
use tandem_engine::catalogue::Modules;
use tandem_engine::client::{ClientAsk, ClientEvent, ClientNews};
use tandem_engine::effect::Input;
use tandem_engine::log::Level;
use tandem_engine::testing::{TestNode, WAITING, cover};
use tandem_radius::packet::{Avp, Code, Packet, reply};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_tm::MODULE,
    &tandem_aaa_radius::MODULE,
    &WAITING,
];
const LINES: &str = "socket=udp:127.0.0.1:5060\nlog_level=3\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"tm.so\"\nloadmodule \"aaa_radius.so\"\n";
const CONFIG: &str = "modparam(\"aaa_radius\", \"radius_config\", \"/etc/r/conf\")\n";
const SETS: &str = "modparam(\"aaa_radius\", \"sets\", \
     \"in = ( User-Name = $fU, User-Password=$avp(pw), Calling-Station-Id = $avp(none) )\")\n\
     modparam(\"aaa_radius\", \"sets\", \"out = (Reply-Message = $avp(said), \
     Session-Timeout = $var(most))\")\n";
const CONF: &str = "authserver 10.0.0.9\nacctserver 10.0.0.9\nservers secrets\n\
     dictionary /d/dictionary\nradius_timeout 2\nradius_retries 1\nnas-identifier sip1\n";
const DICTIONARY: &str = "ATTRIBUTE User-Name 1 string\nATTRIBUTE User-Password 2 string\n\
     ATTRIBUTE Reply-Message 18 string\nATTRIBUTE Session-Timeout 27 integer\n\
     ATTRIBUTE Calling-Station-Id 31 string\nATTRIBUTE SIP-AVP 225 string\n";
const SECRET: &[u8] = b"s3cret";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK1\n\
     From: <sip:alice@h>;tag=f\nTo: <sip:b@h>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Max-Forwards: 9\nContent-Length: 0\n\n";
const SHOW: &str = "xlog(\"L_NOTICE\", \"$rc $(avp(said)[*]) $var(most) $avp(rate)\");";

fn started(params: &str, body: &str, conf: &str, dictionary: &str) -> Result<TestNode, String> {
    let script = format!("{LINES}{params}route {{ $avp(pw) = \"pass\"; {body} }}");
    let files = [
        ("/etc/r/conf", conf),
        ("/etc/r/secrets", "10.0.0.9 s3cret\nradius.test s3cret\n"),
        ("/d/dictionary", dictionary),
    ];
    TestNode::with_files(&script, MODULES, &files)
}

fn node(params: &str, call: &str) -> TestNode {
    let body = format!("{call}; {SHOW}");
    started(&format!("{CONFIG}{SETS}{params}"), &body, CONF, DICTIONARY).unwrap()
}

fn avp(number: u8, value: &[u8]) -> Avp {
    Avp { vendor: 0, number, value: value.to_vec(), hidden: false }
}

/// What the servers are asked; they answer so.
fn answer(node: &mut TestNode, code: Code, avps: &[Avp]) -> Vec<Packet> {
    let mut asked = Vec::new();
    while !node.clients.is_empty() {
        for (token, ask) in std::mem::take(&mut node.clients) {
            let event = match ask {
                ClientAsk::OpenDatagrams { .. } => ClientEvent::Opened,
                ClientAsk::Write(bytes) => {
                    asked.push(Packet::parse(&bytes).unwrap());
                    ClientEvent::Bytes(reply(code, &bytes, SECRET, avps).into())
                }
                _ => continue,
            };
            node.step(Input::Client(ClientNews { token, event }));
        }
    }
    asked
}

fn said(node: &mut TestNode) -> Vec<String> {
    let notices = node.logs().into_iter().filter(|(level, _)| *level == Level::Notice);
    notices.map(|(_, text)| text).collect()
}

/// The attributes of an answer that the set `out` asks for.
fn extra() -> Vec<Avp> {
    let more = [avp(27, &[0, 0, 1, 44]), avp(225, b"rate:gold")];
    [avp(18, b"one"), avp(18, b"two")].into_iter().chain(more).collect()
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_aaa_radius::MODULE,
        &[
            ("param sets", sets),
            ("param radius_config", radius_config),
            ("param syslog_name", syslog_name),
            ("param fetch_all_values", fetch_all_values),
            ("function radius_send_auth", radius_send_auth),
            ("function radius_send_acct", radius_send_acct),
        ],
    );
}

const AUTH: &str = "radius_send_auth(\"in\", \"out\")";

fn sets() {
    let mut node = node("", AUTH);
    node.udp("127.0.0.9:5060", REQUEST);
    let asked = answer(&mut node, Code::AccessAccept, &[]);
    let avps = asked[0].avps();
    let numbers: Vec<u8> = avps.iter().map(|avp| avp.number).collect();
    assert_eq!(numbers, [80, 32, 4, 1, 2], "what is null is left out");
    let value = |number| avps.iter().find(|avp| avp.number == number).unwrap().value.clone();
    assert_eq!((value(1), value(32)), (b"alice".to_vec(), b"sip1".to_vec()));
    assert!(value(2).len() == 16 && value(2) != b"pass", "it is hidden");
    let wrong = |sets: &str, dictionary: &str, call: &str| {
        let params = format!("{CONFIG}modparam(\"aaa_radius\", \"sets\", \"{sets}\")\n");
        started(&params, call, CONF, dictionary).err().expect("an error")
    };
    let none = wrong("a = (User-Name = x)", DICTIONARY, "");
    assert!(none.contains("test.cfg:7: it names no variable"), "{none}");
    let lacks = wrong("a = (User-Nam = $fU)", DICTIONARY, "");
    let text = "test.cfg:7: the set `a` needs User-Nam: the dictionary /d/dictionary has no \
                attribute User-Nam: add a line";
    assert!(lacks.contains(text) && lacks.contains("did you mean User-Name?"), "{lacks}");
    let unknown = wrong("abc = (User-Name = $fU)", DICTIONARY, "radius_send_acct(\"abd\");");
    assert!(unknown.contains("there is no set `abd`: did you mean `abc`?"), "{unknown}");
    let variable = wrong("a = (User-Name = $nothing)", DICTIONARY, "");
    assert!(variable.contains("$nothing"), "{variable}");
}

fn radius_config() {
    let error = |params: &str, conf: &str, dictionary: &str| {
        started(params, &format!("{AUTH};"), conf, dictionary).err().expect("an error")
    };
    let none = error(SETS, CONF, DICTIONARY);
    assert!(none.contains("set radius_config of aaa_radius"), "{none}");
    let all = format!("{CONFIG}{SETS}");
    let wrong = error(&all, "authserver 10.0.0.9:x\n", DICTIONARY);
    assert!(wrong.contains("/etc/r/conf:1: `x` is no port"), "{wrong}");
    let secret = error(&all, &CONF.replace("10.0.0.9", "10.0.0.8"), DICTIONARY);
    let text = "/etc/r/conf:1: the server 10.0.0.8 has no secret: add a line `10.0.0.8 SECRET` to \
                /etc/r/secrets";
    assert!(secret.contains(text), "{secret}");
    let missing = error(&all, &CONF.replace("/d/dictionary", "none"), DICTIONARY);
    assert!(missing.contains("/etc/r/none: there is no such file"), "{missing}");
    // A line that cannot be read costs a warning.
    let body = format!("{AUTH};");
    let mut node = started(&all, &body, CONF, &format!("{DICTIONARY}Odd 1\n")).unwrap();
    let logs = node.logs();
    assert!(logs.iter().any(|(_, t)| t.contains("/d/dictionary:7: `Odd` is none of")), "{logs:?}");
}

fn syslog_name() {
    let mut node = node("modparam(\"aaa_radius\", \"syslog_name\", \"x\")\n", AUTH);
    node.udp("127.0.0.9:5060", REQUEST);
    answer(&mut node, Code::AccessReject, &[]);
    assert_eq!(said(&mut node), ["-2 <null> <null> <null>"], "it goes where the node's log goes");
}

fn fetch_all_values() {
    for (value, expected) in [("0", "1 one 300 gold"), ("1", "1 one, two 300 gold")] {
        let param = format!("modparam(\"aaa_radius\", \"fetch_all_values\", {value})\n");
        let mut node = node(&param, AUTH);
        node.udp("127.0.0.9:5060", REQUEST);
        answer(&mut node, Code::AccessAccept, &extra());
        assert_eq!(said(&mut node), [expected]);
    }
}

fn radius_send_auth() {
    for (code, expected) in [
        (Code::AccessAccept, "1 one 300 gold"),
        (Code::AccessReject, "-2 one 300 gold"),
        (Code::AccessChallenge, "-2 one 300 gold"),
    ] {
        let mut node = node("", AUTH);
        node.udp("127.0.0.9:5060", REQUEST);
        assert!(said(&mut node).is_empty(), "the script waits");
        assert_eq!(answer(&mut node, code, &extra()).len(), 1);
        assert_eq!(said(&mut node), [expected]);
    }
    // Asked twice, and never answered.
    let mut silent = node("", AUTH);
    silent.udp("127.0.0.9:5060", REQUEST);
    let (token, _) = silent.clients.remove(0);
    silent.step(Input::Client(ClientNews { token, event: ClientEvent::Opened }));
    silent.advance_ms(3_900);
    let writes = silent.clients.iter().filter(|(_, ask)| matches!(ask, ClientAsk::Write(_)));
    assert_eq!(writes.count(), 2);
    assert!(said(&mut silent).is_empty());
    silent.advance_ms(200);
    assert_eq!(said(&mut silent), ["-1 <null> <null> <null>"]);
    let wrong = "$avp(pw) = \"12345678901234567890123456789012345678901234567890123456789012345\
        67890123456789012345678901234567890123456789012345678901234567890\"; ";
    let mut long = node("", &format!("{wrong}{AUTH}"));
    long.udp("127.0.0.9:5060", REQUEST);
    let logs = long.logs();
    assert!(logs[0].1.contains("User-Password may have 128 bytes, and has 130"), "{logs:?}");
    asynchronous();
}

fn asynchronous() {
    let routes = format!("async({AUTH}, later); }} route[later] {{ {SHOW}");
    let all = format!("{CONFIG}{SETS}");
    let mut node = started(&all, &routes, CONF, DICTIONARY).unwrap();
    node.udp("127.0.0.9:5060", REQUEST);
    answer(&mut node, Code::AccessAccept, &extra());
    assert_eq!(said(&mut node), ["1 one 300 gold"]);
}

fn radius_send_acct() {
    let mut node = node("", "radius_send_acct(\"in\")");
    node.udp("127.0.0.9:5060", REQUEST);
    assert_eq!(answer(&mut node, Code::AccountingResponse, &[])[0].code, Code::AccountingRequest);
    assert_eq!(said(&mut node), ["1 <null> <null> <null>"]);
    // Nobody is there.
    node.udp("127.0.0.9:5060", &REQUEST.replace("z9hG4bK1", "z9hG4bK2"));
    let token = node.clients.remove(0).0;
    let event = ClientEvent::Closed("nobody listens there".into());
    node.step(Input::Client(ClientNews { token, event }));
    let logs = node.logs();
    let warned = |what: &str| logs.iter().filter(|(_, text)| text.contains(what)).count();
    assert_eq!((warned("nobody listens there"), warned("in vain")), (1, 0), "{logs:?}");
    assert!(logs.iter().any(|(_, text)| text == "-1 <null> <null> <null>"));
}

#[test]
fn the_name_of_a_server_is_looked_up() {
    let conf = CONF.replace("10.0.0.9", "radius.test");
    let body = format!("{AUTH}; {SHOW}");
    let mut node = started(&format!("{CONFIG}{SETS}"), &body, &conf, DICTIONARY).unwrap();
    let name = Name::parse(b"radius.test").unwrap();
    let question = Question { name, kind: RecordKind::A };
    let record = Record::Ip([10, 0, 0, 7].into());
    node.zone.insert(question, Answer::of(vec![record], 60));
    node.udp("127.0.0.9:5060", REQUEST);
    let peer = node.clients.iter().find_map(|(_, ask)| match ask {
        ClientAsk::OpenDatagrams { peer, .. } => Some(peer.to_string()),
        _ => None,
    });
    assert_eq!(peer.as_deref(), Some("10.0.0.7:1812"));
    answer(&mut node, Code::AccessAccept, &extra());
    assert_eq!(said(&mut node), ["1 one 300 gold"]);
    let mut loaded = node.node().loaded();
    let (.., module) = loaded.find(|(_, def, _)| def.name == "aaa_radius").unwrap();
    let status = module.status(node.node(), node.now()).unwrap()["servers"].clone();
    assert_eq!(status[0]["server"], "radius.test:1812");
    assert_eq!((&status[0]["state"], &status[1]["state"]), (&"open".into(), &"idle".into()));
}

#[test]
fn sets_mean_the_same_after_a_reload() {
    let mut node = node("", AUTH);
    let other = "$avp(new) = $ru; $var(other) = $tU; $avp(pw)";
    node.script = node.script.replace("$avp(pw) = \"pass\"", &format!("{other} = \"pass\""));
    let said_so = node.mi("reload_routes", serde_json::Value::Null);
    assert!(said_so.get("result").is_some(), "{said_so}");
    node.logs();
    node.udp("127.0.0.9:5060", REQUEST);
    let asked = answer(&mut node, Code::AccessAccept, &extra());
    assert!(asked[0].avps().contains(&avp(1, b"alice")), "{asked:?}");
    assert_eq!(said(&mut node), ["1 one 300 gold"]);
}

#[test]
fn attributes_of_a_vendor_do_not_stand_for_who_we_are() {
    let vendor = "VENDOR Some 9\nBEGIN-VENDOR Some\nATTRIBUTE Some-Address 4 string\n\
        ATTRIBUTE Some-Name 32 string\nEND-VENDOR Some\n";
    let sets =
        "modparam(\"aaa_radius\", \"sets\", \"in = (Some-Address = $fU, Some-Name = $fU)\")\n";
    let dictionary = format!("{DICTIONARY}{vendor}");
    let body = "radius_send_acct(\"in\");";
    let mut node = started(&format!("{CONFIG}{sets}"), body, CONF, &dictionary).unwrap();
    node.udp("127.0.0.9:5060", REQUEST);
    let asked = answer(&mut node, Code::AccountingResponse, &[]);
    let sent: Vec<_> = asked[0].avps().iter().map(|avp| (avp.vendor, avp.number)).collect();
    assert_eq!(sent, [(0, 32), (0, 4), (9, 4), (9, 32)]);
}
