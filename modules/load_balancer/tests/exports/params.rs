//! Parameters.

use serde_json::{Value as Json, json};
use tandem_engine::client::{ClientEvent, ClientNews};
use tandem_engine::effect::Input;
use tandem_engine::testing::TestNode;

use crate::world::{LINES, MODULES, URIS, URL, destination, destinations, enabled, fill};
use crate::world::{call, node, node_with, saying, set};

const ROUTE: &str = "route { exit; }";

pub(crate) fn database() {
    assert!(node_with("", ROUTE, fill).err().unwrap().contains("database"));
    let general = "db_default_url = \"sqlite:///tmp/x.db\"\n";
    assert_eq!(enabled(&mut node_with(general, ROUTE, fill).unwrap()).len(), 4);
    assert_eq!(enabled(&mut node_with(URL, ROUTE, fill).unwrap()).len(), 4);
    assert!(node(&set("db_table", "nosuch"), ROUTE).err().unwrap().contains("nosuch"));
    assert!(node(&set("db_table", "a b"), ROUTE).is_err());
}

/// The probes of so many seconds that were sent for the first time.
fn probes(node: &mut TestNode, seconds: u64) -> Vec<(String, String)> {
    node.advance_ms(seconds * 1_000);
    let sent = node.sent().into_iter().map(|(to, text)| (to.to_string(), text));
    let mut seen = std::collections::BTreeSet::new();
    let call_id =
        |text: &str| text.split("Call-ID: ").nth(1).map(|t| t.lines().next().map(str::to_owned));
    sent.filter(|(_, text)| text.contains("CSeq: 10 ") && seen.insert(call_id(text))).collect()
}

fn whom(probes: &[(String, String)]) -> Vec<&str> {
    let all: std::collections::BTreeSet<_> = probes.iter().map(|(to, _)| to.as_str()).collect();
    all.into_iter().collect()
}

/// Answers a probe as its destination would.
fn answer(node: &mut TestNode, probe: &(String, String), code: u16) {
    let keep = |line: &&str| {
        ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name))
    };
    let lines: Vec<&str> = probe.1.lines().filter(keep).collect();
    let text = format!("SIP/2.0 {code} X\n{}\nContent-Length: 0\n\n", lines.join("\n"));
    node.udp(&probe.0, &text);
}

const THIRD: &str = "127.0.2.3:5060";
const FOURTH: &str = "127.0.2.4:5060";

/// A node that probes every ten seconds, and the probe to the third destination.
fn probing_node(params: &str) -> (TestNode, (String, String)) {
    let interval = set("probing_interval", "10");
    let mut node = node(&format!("{interval}{params}"), ROUTE).unwrap();
    let sent = probes(&mut node, 10);
    assert_eq!(whom(&sent), [THIRD, FOURTH], "those that are always probed");
    let third = sent.into_iter().find(|(to, _)| to == THIRD).unwrap();
    (node, third)
}

pub(crate) fn probing() {
    let (mut node, third) = probing_node("");
    answer(&mut node, &third, 503);
    assert_eq!(enabled(&mut node), ["yes", "yes", "no", "yes"]);
    let sent = probes(&mut node, 10);
    answer(&mut node, sent.iter().find(|(to, _)| to == THIRD).unwrap(), 200);
    assert_eq!(enabled(&mut node)[2], "yes", "a probe enables it again");
    // Nobody answers.
    probes(&mut node, 60);
    assert_eq!(enabled(&mut node), ["yes", "yes", "no", "no"]);
    // Disabled by hand: probes do not go there any more.
    node.mi("lb_status", json!([3, 0]));
    probes(&mut node, 40);
    assert_eq!(whom(&probes(&mut node, 20)), [FOURTH]);
    // The second one is probed while it is disabled, and not by hand.
    let disabling = "route { lb_start(1, \"pstn\"); lb_disable_dst(); }";
    let mut node = self::node(&set("probing_interval", "10"), disabling).unwrap();
    call(&mut node, "c");
    let sent = probes(&mut node, 10);
    assert_eq!(whom(&sent), ["127.0.2.2:5060", THIRD, FOURTH]);
    answer(&mut node, sent.iter().find(|(to, _)| to == "127.0.2.2:5060").unwrap(), 200);
    assert_eq!(enabled(&mut node)[1], "yes");
    let mut off = self::node(&set("probing_interval", "0"), ROUTE).unwrap();
    assert!(probes(&mut off, 60).is_empty());
    let mut usual = self::node("", ROUTE).unwrap();
    assert_eq!(probes(&mut usual, 30).len(), 2, "every half minute");
    assert!(self::node(&set("probing_interval", "-1"), ROUTE).is_err());
}

pub(crate) fn verbose() {
    let told = |params: &str| {
        let (mut node, third) = probing_node(params);
        answer(&mut node, &third, 503);
        let logs = node.logs().into_iter().map(|(_, text)| text);
        logs.filter(|text| text.contains("503 to a probe")).collect::<Vec<_>>()
    };
    assert_eq!(told(""), Vec::<String>::new());
    let text = format!("load_balancer: {} of group 1 is disabled: 503 to a probe", URIS[2]);
    assert_eq!(told(&set("probing_verbose", "1")), [text]);
}

pub(crate) fn requests() {
    let plain = probing_node("").1.1;
    assert!(plain.starts_with("OPTIONS sip:127.0.2.3 SIP/2.0\r\n"), "{plain}");
    assert!(plain.contains("From: <sip:prober@localhost>;tag="), "{plain}");
    let own = [set("probing_method", "INFO"), set("probing_from", "sip:me@here.test")];
    let own = probing_node(&own.concat()).1.1;
    assert!(own.starts_with("INFO sip:") && own.contains("From: <sip:me@here.test>"), "{own}");
}

pub(crate) fn codes() {
    let after = |params: &str| {
        let (mut node, third) = probing_node(params);
        answer(&mut node, &third, 404);
        enabled(&mut node)[2].clone()
    };
    assert_eq!(after(""), "no");
    assert_eq!(after(&set("probing_reply_codes", "501, 404")), "yes");
    assert!(node(&set("probing_reply_codes", "x"), ROUTE).is_err());
}

pub(crate) fn blacklists() {
    let mut node = node(&set("lb_define_blacklist", "bad= 2"), ROUTE).unwrap();
    let lists = node.mi("list_blacklists", Json::Null).to_string();
    assert!(lists.contains("127.0.2.4") && !lists.contains("127.0.2.1"), "{lists}");
    destination(&mut node.db, 2, "sip:127.0.2.40", "conf=1", (0, ""));
    node.mi("lb_reload", Json::Null);
    assert!(node.mi("list_blacklists", Json::Null).to_string().contains("127.0.2.40"));
    assert!(self::node(&set("lb_define_blacklist", "bad"), ROUTE).is_err());
}

/// Sizes of the resources of all destinations.
fn sizes(node: &mut TestNode) -> Vec<i64> {
    let all = destinations(node);
    let resources = all.iter().flat_map(|d| d["Resources"].as_array().unwrap().clone());
    resources.map(|resource| resource["max"].as_i64().unwrap()).collect()
}

/// A FreeSWITCH tells what it bears.
fn tells_load(node: &mut TestNode, token: u64, sessions: u32, idle: u32) {
    let body = format!(
        "Event-Name: HEARTBEAT\nSession-Count: {sessions}\nMax-Sessions: 10\nIdle-CPU: {idle}\n"
    );
    let length = body.len();
    let text = format!("Content-Type: text/event-plain\nContent-Length: {length}\n\n{body}");
    let event = ClientEvent::Bytes(text.into());
    node.step(Input::Client(ClientNews { token, event }));
}

/// A node with a FreeSWITCH that has two resources, another one, and one of fixed size; and the
/// tokens of their connections.
fn freeswitch_node(params: &str) -> (TestNode, [u64; 2]) {
    let all = format!("{URL}{}{params}", set("fetch_freeswitch_stats", "1"));
    let route = saying("lb_start(1, \"ch\");", "$rc $du");
    let mut node = node_with(&all, &route, |db| {
        let both = "ch=fs://:pw@10.0.0.1;video=fs://:pw@10.0.0.1";
        destination(db, 1, URIS[0], both, (0, ""));
        destination(db, 1, URIS[1], "ch=fs://:pw@10.0.0.2", (0, ""));
        destination(db, 1, URIS[2], "ch=2", (0, ""));
    })
    .unwrap();
    let tokens: Vec<u64> = node.clients.iter().map(|(token, _)| *token).collect();
    let tokens: [u64; 2] = tokens.try_into().expect("one connection for each");
    for token in tokens {
        let text = "Content-Type: auth/request\n\nContent-Type: command/reply\nReply-Text: +OK\n\n\
                    Content-Type: command/reply\nReply-Text: +OK\n\n";
        let event = ClientEvent::Bytes(text.into());
        node.step(Input::Client(ClientNews { token, event }));
    }
    (node, tokens)
}

pub(crate) fn freeswitch() {
    let (mut node, [first, second]) = freeswitch_node(&set("initial_freeswitch_load", "3"));
    assert_eq!(sizes(&mut node), [3, 3, 3, 2]);
    tells_load(&mut node, first, 4, 50);
    tells_load(&mut node, second, 9, 100);
    assert_eq!(sizes(&mut node), [3, 3, 1, 2], "what is free, by what its processor can do");

    // Our own calls are among the sessions that it tells of: they leave as much room as before.
    (0..2).for_each(|n| call(&mut node, &format!("call{n}")));
    assert_eq!(sizes(&mut node), [3, 3, 1, 2], "nothing changes between HEARTBEATs");
    tells_load(&mut node, second, 9, 100);
    assert_eq!(sizes(&mut node), [3, 3, 1, 2], "nor by the HEARTBEAT of another server");
    tells_load(&mut node, first, 6, 100);
    assert_eq!(sizes(&mut node), [6, 4, 1, 2]);

    // A reload keeps what they told. A size that somebody sets stays until the next HEARTBEAT.
    assert_eq!(node.mi("lb_reload", Json::Null)["result"], "OK");
    assert_eq!(sizes(&mut node), [6, 4, 1, 2]);
    assert_eq!(node.mi("lb_resize", json!([1, "ch", 7]))["result"], "OK");
    assert_eq!(sizes(&mut node), [7, 4, 1, 2]);
    tells_load(&mut node, first, 10, 0);
    assert_eq!(sizes(&mut node), [0, 0, 1, 2], "it is full");

    assert_eq!(sizes(&mut freeswitch_node("").0), [1000, 1000, 1000, 2]);
    assert!(self::node(&set("initial_freeswitch_load", "-1"), ROUTE).is_err());
    // Without it, who would tell?
    let lines = format!("{URL}{}{ROUTE}", set("fetch_freeswitch_stats", "1"));
    let script = format!("{LINES}{lines}").replace("loadmodule \"freeswitch.so\"\n", "");
    let why = TestNode::try_new(&script, MODULES).err().unwrap();
    assert!(why.contains("module load_balancer needs module freeswitch"), "{why}");
    let script = script.replace("stats\", 1", "stats\", 0");
    assert!(TestNode::try_new(&script, MODULES).is_ok(), "0 needs nobody");
}
