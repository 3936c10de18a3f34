//! Parameters.

use serde_json::{Value as Json, json};
use tandem_engine::testing::TestNode;

use crate::world::{URIS, URL, destination, enabled, fill, node, node_with, set};

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
    crate::world::call(&mut node, "c");
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

pub(crate) fn freeswitch() {
    assert!(node(&set("fetch_freeswitch_stats", "0"), ROUTE).is_ok());
    let why = node(&set("fetch_freeswitch_stats", "1"), ROUTE).err().unwrap();
    assert!(why.contains("FreeSWITCH"), "{why}");
    assert!(node(&set("initial_freeswitch_load", "200"), ROUTE).is_ok());
}
