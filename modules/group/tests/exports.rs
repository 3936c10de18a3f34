//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use tandem_db::Query;
use tandem_db::memory::MemoryDb;
use tandem_engine::catalogue::Modules;
use tandem_engine::client::{ClientAsk, ClientEvent, ClientNews};
use tandem_engine::effect::Input;
use tandem_engine::testing::{DbState, TestNode, cover};
use tandem_radius::packet::{Avp, Code, Packet, reply};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_aaa_radius::MODULE,
    &tandem_group::MODULE,
];
const MODULE_LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\nloadmodule \"group.so\"\n";
const URL: &str = "modparam(\"group\", \"db_url\", \"sqlite:///tmp/x.db\")\n";
const REQUEST: &str = "OPTIONS sip:u@uri.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9\n\
     From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: c\nCSeq: 1 OPTIONS\n\
     Content-Length: 0\n\n";

fn fill(db: &mut MemoryDb) {
    for (user, domain, group) in [
        ("u", "uri.test", "voicemail"),
        ("f", "from.test", "pstn"),
        ("a", "to.test", "free"),
        ("x", "x.test", "u"),
    ] {
        let row = vec![
            ("username".into(), user.into()),
            ("domain".into(), domain.into()),
            ("grp".into(), group.into()),
        ];
        db.execute(&Query::Insert { table: "grp".into(), row }).unwrap();
    }
    for (expression, group) in [("^sip:u@", 5), ("test$", 9), ("(", 10)] {
        let row = vec![("reg_exp".into(), expression.into()), ("group_id".into(), group.into())];
        db.execute(&Query::Insert { table: "re_grp".into(), row }).unwrap();
    }
}

fn node(params: &str, call: &str) -> TestNode {
    let route = format!("{call}; xlog(\"L_NOTICE\", \"$rc $(avp(x)[*])\");");
    let script = format!("{MODULE_LINES}{params}route {{ {route} }}");
    TestNode::with_database(&script, MODULES, fill).unwrap()
}

/// The return code of a call, and all of `$avp(x)`.
fn asked(params: &str, call: &str) -> String {
    let mut node = node(params, call);
    node.udp("127.0.0.9:5060", REQUEST);
    node.logs().pop().unwrap().1
}

fn set(name: &str, value: &str) -> String {
    format!("{URL}modparam(\"group\", \"{name}\", {value})\n")
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_group::MODULE,
        &[
            ("param aaa_url", radius),
            ("function aaa_is_user_in", radius),
            ("param db_url", database),
            ("param table", names),
            ("param user_column", names),
            ("param domain_column", names),
            ("param group_column", names),
            ("param use_domain", domains),
            ("param re_table", expressions),
            ("param re_exp_column", expressions),
            ("param re_gid_column", expressions),
            ("param multiple_gid", expressions),
            ("function db_is_user_in", is_in),
            ("function db_get_user_group", expressions),
        ],
    );
}

fn database() {
    let script = format!("{MODULE_LINES}route {{ exit; }}");
    assert!(TestNode::try_new(&script, MODULES).err().unwrap().contains("group needs a database"));
    let global = "db_default_url = \"sqlite:///tmp/x.db\"\n";
    assert_eq!(asked(global, "db_is_user_in(\"From\", \"pstn\")"), "1 <null>");
}

fn names() {
    let call = "db_is_user_in(\"From\", \"pstn\")";
    assert_eq!(asked(URL, call), "1 <null>");
    for (name, value) in [
        ("table", "re_grp"),
        ("user_column", "grp"),
        ("domain_column", "username"),
        ("group_column", "username"),
    ] {
        assert_eq!(asked(&set(name, &format!("\"{value}\"")), call), "-1 <null>", "{name}");
    }
}

fn domains() {
    let call = "db_is_user_in(\"sip:u@elsewhere.test\", \"voicemail\")";
    assert_eq!(asked(URL, call), "-1 <null>");
    assert_eq!(asked(&set("use_domain", "0"), call), "1 <null>");
}

fn is_in() {
    for (uri, group) in [("Request-URI", "voicemail"), ("From", "pstn"), ("To", "free")] {
        assert_eq!(asked(URL, &format!("db_is_user_in(\"{uri}\", \"{group}\")")), "1 <null>");
        assert_eq!(asked(URL, &format!("db_is_user_in(\"{uri}\", \"x\")")), "-1 <null>");
    }
    assert_eq!(asked(URL, "db_is_user_in(\"sip:x@x.test\", \"u\")"), "1 <null>");
    assert_eq!(asked(URL, "db_is_user_in(\"Credentials\", \"pstn\")"), "-1 <null>");
    assert_eq!(asked(URL, "db_is_user_in(\"sip:x.test\", \"pstn\")"), "-1 <null>");
    let mut down = node(URL, "db_is_user_in(\"From\", \"pstn\")");
    down.db_state = DbState::Down;
    down.udp("127.0.0.9:5060", REQUEST);
    assert_eq!(down.logs().pop().unwrap().1, "-1 <null>");
}

fn expressions() {
    let call = "db_get_user_group(\"Request-URI\", $avp(x))";
    assert_eq!(asked(URL, call), "-1 <null>", "no table is loaded");
    let on = set("re_table", "\"re_grp\"");
    assert_eq!(asked(&on, call), "2 9, 5");
    assert_eq!(asked(&on, "db_get_user_group(\"From\", $avp(x))"), "1 9");
    assert_eq!(asked(&on, "db_get_user_group(\"sip:a@b\", $avp(x))"), "-1 <null>");
    let first = format!("{on}{}", set("multiple_gid", "0"));
    assert_eq!(asked(&first, call), "1 5");
    let column = format!("{on}{}", set("re_gid_column", "\"id\""));
    assert_eq!(asked(&column, call), "2 2, 1");
    let swapped = format!("{on}{}", set("re_exp_column", "\"group_id\""));
    assert_eq!(asked(&swapped, call), "3 10, 9, 5", "numbers are no expressions: all match");
}

const AAA: &str = "loadmodule \"aaa_radius.so\"\n\
     modparam(\"group\", \"aaa_url\", \"radius:/etc/r/conf\")\n";
const DICTIONARY: &str = "ATTRIBUTE User-Name 1 string\nATTRIBUTE Service-Type 6 integer\n\
     VALUE Service-Type Group-Check 12\nATTRIBUTE Sip-Group 211 string\n\
     ATTRIBUTE SIP-AVP 225 string\n";
const CONF: &str = "authserver 10.0.0.9:1812:s3cret\ndictionary dictionary\nradius_timeout 2\n\
     radius_retries 0\n";

/// A node that asks a RADIUS server with these files.
fn radius_node(params: &str, dictionary: &str, call: &str) -> Result<TestNode, String> {
    let lines = MODULE_LINES.replace("loadmodule \"group.so\"\n", "");
    let lines = lines.replace("loadmodule \"db_sqlite.so\"\n", "");
    let route = format!("{call}; xlog(\"L_NOTICE\", \"$rc $(avp(x)[*])\");");
    let script = format!("{lines}loadmodule \"group.so\"\n{AAA}{params}route {{ {route} }}");
    let files = [("/etc/r/conf", CONF), ("/etc/r/dictionary", dictionary)];
    TestNode::with_files(&script, MODULES, &files)
}

/// What the server is asked, as text; it answers so.
fn answer(node: &mut TestNode, code: Code, avps: &[Avp]) -> Vec<(u8, String)> {
    let mut asked = None;
    while let Some((token, ask)) = node.clients.pop() {
        let event = match ask {
            ClientAsk::OpenDatagrams { peer, .. } => {
                assert_eq!(peer.to_string(), "10.0.0.9:1812");
                ClientEvent::Opened
            }
            ClientAsk::Write(bytes) => {
                asked = Some(Packet::parse(&bytes).unwrap().avps());
                ClientEvent::Bytes(reply(code, &bytes, b"s3cret", avps).into())
            }
            other => panic!("{other:?}"),
        };
        node.step(Input::Client(ClientNews { token, event }));
    }
    let text = |avp: Avp| (avp.number, String::from_utf8_lossy(&avp.value).into_owned());
    let asked = asked.expect("a question").into_iter().map(text);
    asked.filter(|(number, _)| [1, 6, 211].contains(number)).collect()
}

fn radius() {
    let call = "aaa_is_user_in(\"From\", \"pstn\")";
    let rate = Avp { vendor: 0, number: 225, value: b"x:gold".to_vec(), hidden: false };
    let mut node = radius_node("", DICTIONARY, call).unwrap();
    for (code, said) in [(Code::AccessAccept, "1 gold"), (Code::AccessReject, "-1 <null>")] {
        node.udp("127.0.0.9:5060", REQUEST);
        assert!(node.logs().is_empty(), "the script waits");
        let avps = if code == Code::AccessAccept { std::slice::from_ref(&rate) } else { &[] };
        let asked = answer(&mut node, code, avps);
        let expected = [(1, "f@from.test"), (211, "pstn"), (6, "\0\0\0\u{c}")];
        assert_eq!(asked, expected.map(|(number, text)| (number, text.to_owned())));
        assert_eq!(node.logs().pop().unwrap().1, said);
    }
    let mut node = radius_node(&set_only("use_domain", "0"), DICTIONARY, call).unwrap();
    node.udp("127.0.0.9:5060", REQUEST);
    assert_eq!(answer(&mut node, Code::AccessAccept, &[])[0], (1, "f".to_owned()));
    // Nobody answers.
    let mut node = radius_node("", DICTIONARY, call).unwrap();
    node.udp("127.0.0.9:5060", REQUEST);
    node.advance_ms(2_100);
    let logs = node.logs();
    let warnings = logs.iter().filter(|(_, text)| text.contains("does not answer")).count();
    assert_eq!((warnings, &*logs.last().unwrap().1), (1, "-1 <null>"), "{logs:?}");
    node.udp("127.0.0.9:5060", REQUEST);
    node.advance_ms(2_100);
    assert_eq!(node.logs().len(), 1, "a silent server is one warning, however many ask");
    wrong_radius(call);
}

fn set_only(name: &str, value: &str) -> String {
    format!("modparam(\"group\", \"{name}\", {value})\n")
}

/// What is missing keeps the node from starting.
fn wrong_radius(call: &str) {
    let error = |params: &str, dictionary: &str| {
        radius_node(params, dictionary, call).err().expect("an error")
    };
    let lacks = error("", &DICTIONARY.replace("Sip-Group", "Sip-Grup"));
    let said = "aaa_is_user_in() of group needs Sip-Group: the dictionary /etc/r/dictionary has \
                no attribute Sip-Group: add a line";
    assert!(lacks.contains(said) && lacks.contains("did you mean Sip-Grup?"), "{lacks}");
    let url = error(&set_only("aaa_url", "\"diameter:x\""), DICTIONARY);
    assert!(url.contains("`diameter:x` is no RADIUS URL"), "{url}");
    let none = TestNode::try_new(&format!("{MODULE_LINES}{URL}route {{ {call}; }}"), MODULES);
    let none = none.err().unwrap();
    assert!(none.contains("aaa_is_user_in() needs a RADIUS server"), "{none}");
    let both = radius_node("", DICTIONARY, "db_is_user_in(\"From\", \"pstn\")").err().unwrap();
    assert!(both.contains("group needs a database"), "{both}");
}
