//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use serde_json::{Value as Json, json};
use tandem_db::Query;
use tandem_engine::catalogue::Modules;
use tandem_engine::client::{ClientAsk, ClientEvent, ClientNews};
use tandem_engine::effect::Input;
use tandem_engine::testing::{TestNode, cover};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_freeswitch::MODULE,
    &tandem_dispatcher::MODULE,
];
const LINES: &str = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
     loadmodule \"db_sqlite.so\"\nloadmodule \"freeswitch.so\"\nloadmodule \"dispatcher.so\"\n\
     modparam(\"dispatcher\", \"db_url\", \"sqlite:///tmp/x.db\")\n\
     modparam(\"dispatcher\", \"fetch_freeswitch_stats\", 1)\n";
const LOGIN: &str = "Content-Type: auth/request\n\nContent-Type: command/reply\nReply-Text: +OK\n\n\
     Content-Type: command/reply\nReply-Text: +OK\n\n";

fn set(name: &str, value: &str) -> String {
    format!("modparam(\"freeswitch\", \"{name}\", {value})\n")
}

/// A node with destinations whose weights are told by these.
fn node(params: &str, urls: &[&str]) -> Result<TestNode, String> {
    let script = format!("{LINES}{params}route {{ exit; }}");
    TestNode::with_database(&script, MODULES, |db| {
        for (n, url) in urls.iter().enumerate() {
            let row = vec![
                ("setid".into(), 1.into()),
                ("destination".into(), format!("sip:127.0.2.{n}").into()),
                ("weight".into(), (*url).into()),
            ];
            db.execute(&Query::Insert { table: "dispatcher".into(), row }).unwrap();
        }
    })
}

fn told(node: &mut TestNode, token: u64, event: ClientEvent) {
    node.step(Input::Client(ClientNews { token, event }));
}

fn says(node: &mut TestNode, token: u64, text: &str) {
    told(node, token, ClientEvent::Bytes(text.to_owned().into()));
}

/// The connection that was asked for last: its token, where to, and how long it may take.
fn opened(node: &mut TestNode) -> (u64, String, u64) {
    let asks = std::mem::take(&mut node.clients).into_iter().rev();
    let open = |(token, ask)| match ask {
        ClientAsk::Open { peer, timeout_ms } => Some((token, peer.to_string(), timeout_ms)),
        _ => None,
    };
    asks.filter_map(open).next().expect("a connection")
}

fn up(node: &mut TestNode) -> u64 {
    let (token, ..) = opened(node);
    told(node, token, ClientEvent::Opened);
    says(node, token, LOGIN);
    node.clients.clear();
    token
}

fn heartbeat(sessions: u32) -> String {
    let body = format!(
        "Event-Name: HEARTBEAT\nSession-Count: {sessions}\nMax-Sessions: 100\nIdle-CPU: 100.0\n\n"
    );
    format!("Content-Length: {}\nContent-Type: text/event-plain\n\n{body}", body.len())
}

fn weights(node: &mut TestNode) -> Vec<i64> {
    let list = node.mi("ds_list", json!({"full": 1}));
    let all = list["result"]["PARTITIONS"][0]["SETS"][0]["Destinations"].clone();
    all.as_array().unwrap().iter().map(|row| row["weight"].as_i64().unwrap()).collect()
}

fn status(node: &TestNode) -> Json {
    let mut loaded = node.node().loaded();
    let (.., module) = loaded.find(|(_, def, _)| def.name == "freeswitch").unwrap();
    module.status(node.node(), node.now()).unwrap()["servers"].clone()
}

/// After how many seconds of silence it is asked whether it is there.
fn asked_after(params: &str) -> u64 {
    let mut node = node(params, &["fs://:pw@10.0.0.1"]).unwrap();
    up(&mut node);
    (1..200)
        .find(|_| {
            node.advance_ms(1_000);
            node.clients.iter().any(|(_, ask)| matches!(ask, ClientAsk::Write(_)))
        })
        .unwrap()
}

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_freeswitch::MODULE,
        &[
            ("param event_heartbeat_interval", heartbeat_interval),
            ("param esl_connect_timeout", connect_timeout),
            ("param esl_cmd_timeout", command_timeout),
            ("param esl_cmd_polling_itv", polling),
        ],
    );
}

fn heartbeat_interval() {
    assert_eq!((asked_after(""), asked_after(&set("event_heartbeat_interval", "20"))), (10, 60));
    assert!(node(&set("event_heartbeat_interval", "0"), &[]).is_err());
}

fn connect_timeout() {
    let of = |params: &str| opened(&mut node(params, &["fs://:pw@[::1]:9"]).unwrap());
    let (_, peer, timeout_ms) = of("");
    assert_eq!((peer.as_str(), timeout_ms), ("[::1]:9", 5_000));
    assert_eq!(of(&set("esl_connect_timeout", "300")).2, 300);
    assert!(node(&set("esl_connect_timeout", "-1"), &[]).is_err());
}

fn command_timeout() {
    let after = |params: &str| {
        let mut node = node(params, &["fs://:pw@10.0.0.1"]).unwrap();
        let (token, ..) = opened(&mut node);
        told(&mut node, token, ClientEvent::Opened);
        let gives_up = |node: &TestNode| node.clients.iter().any(|(_, a)| *a == ClientAsk::Close);
        (1..100u64).find(|_| {
            node.advance_ms(1_000);
            gives_up(&node)
        })
    };
    assert_eq!(after(""), Some(10), "5 s for the connection, and 5 s for the answers");
    assert_eq!(after(&set("esl_cmd_timeout", "1000")), Some(6));
}

fn polling() {
    assert!(node(&set("esl_cmd_polling_itv", "50"), &[]).is_ok());
}

#[test]
fn a_node_follows_its_servers() {
    let mut node = node("", &["fs://:pw@10.0.0.1", "7", "fs://u:pw@fs.test:9"]).unwrap();
    assert_eq!(weights(&mut node), [100, 7, 100]);
    let first = up(&mut node);
    says(&mut node, first, &heartbeat(25));
    assert_eq!(weights(&mut node), [75, 7, 100]);
    let all = status(&node);
    assert_eq!(
        (all[0]["server"].as_str(), all[0]["state"].as_str()),
        (Some("10.0.0.1:8021"), Some("connected"))
    );
    assert_eq!((all[0]["sessions"].as_i64(), all[1]["state"].as_str()), (Some(25), Some("lost")));

    // The name gets an address; an attempt finds it, when it is not known any more that there is
    // none.
    node.host("fs.test", &["10.0.0.2"]);
    let is_open = |(_, ask): &(u64, ClientAsk)| matches!(ask, ClientAsk::Open { .. });
    while !node.clients.iter().any(is_open) {
        node.advance_ms(3_000);
        says(&mut node, first, &heartbeat(25));
    }
    let (second, peer, _) = opened(&mut node);
    assert_eq!(peer, "10.0.0.2:9");
    says(&mut node, second, "Content-Type: auth/request\n\n");
    let (_, ask) = node.clients.pop().unwrap();
    assert_eq!(ask, ClientAsk::Write("userauth u:pw\n\n".into()));

    // A reload keeps the connections of those that stay, and closes the others.
    node.db = tandem_db::memory::MemoryDb::with_tables(tandem_db::schema::tables());
    let row = vec![
        ("setid".into(), 1.into()),
        ("destination".into(), "sip:127.0.2.9".into()),
        ("weight".into(), "fs://:pw@10.0.0.1".into()),
    ];
    node.db.execute(&Query::Insert { table: "dispatcher".into(), row }).unwrap();
    assert_eq!(node.mi("ds_reload", Json::Null)["result"], "OK");
    assert_eq!(node.clients, [(second, ClientAsk::Close)]);
    assert_eq!(weights(&mut node), [75], "it has told its load before");
    // What comes late of the other is nobody's.
    says(&mut node, second, &heartbeat(3));
    says(&mut node, first, &heartbeat(99));
    assert_eq!(weights(&mut node), [1]);

    // One that is lost keeps its weight, and what an older connection says is forgotten.
    node.clients.clear();
    told(&mut node, first, ClientEvent::Closed("gone".into()));
    node.advance_ms(2_000);
    says(&mut node, first, &heartbeat(0));
    assert_eq!(weights(&mut node), [1]);
    let again = up(&mut node);
    says(&mut node, again, &heartbeat(50));
    assert_eq!(weights(&mut node), [50]);
}

#[test]
fn no_password_is_ever_shown() {
    let mut node = node("", &["fs://:Geheim@10.0.0.1", "fs://:Geheim@10.0.0.2:x"]).unwrap();
    let (token, ..) = opened(&mut node);
    says(
        &mut node,
        token,
        "Content-Type: auth/request\n\nContent-Type: command/reply\n\
                            Reply-Text: -ERR invalid\n\n",
    );
    let logs = node.logs();
    assert!(logs.iter().any(|(_, text)| text.contains("refuses the password")), "{logs:?}");
    assert!(logs.iter().any(|(_, text)| text.contains("left out")), "{logs:?}");
    let shown = format!("{logs:?}{}{}", status(&node), node.mi("ds_list", json!({"full": 1})));
    assert!(!shown.contains("Geheim"), "{shown}");
}
