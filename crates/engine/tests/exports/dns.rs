//! Names and blacklists.

use serde_json::{Value as Json, json};
use tandem_dns::{Answer, Name, Question, Record, RecordKind};
use tandem_engine::testing::{Check, TestNode};

use super::{PHONE, REQUEST, ask, node, try_node};

/// A node that forwards to a name.
fn forwarding(globals: &str, to: &str) -> TestNode {
    node(globals, &format!("forward(\"{to}\"); xlog(\"L_NOTICE\", \"rc $rc\");"))
}

/// Where the one message went.
fn went(node: &mut TestNode) -> Vec<String> {
    node.udp(PHONE, REQUEST);
    node.sent().iter().map(|(to, _)| to.to_string()).collect()
}

fn question(name: &str, kind: RecordKind) -> Question {
    Question::new(&Name::parse(name.as_bytes()).unwrap(), kind)
}

fn stat(node: &mut TestNode, name: &str) -> u64 {
    ask(node, "get_statistics", json!([[name]]))[name].as_u64().unwrap()
}

const LIST: &str = "dst_blacklist = gw/expire : { (udp, 10.1.0.0/16, 5060, \"\"), (10.9.9.9) }\n\
    dst_blacklist = fixed/read-only : { (10.2.2.2) }\n";

#[test]
fn the_table_of_the_host_answers_at_once() {
    let body = "$var(n) = \"box\"; xlog(\"L_NOTICE\", \"at $(var(n){ip.resolve})\");";
    let mut node = node("", body);
    node.node().dns.set_hosts(tandem_dns::Hosts::parse(b"127.0.0.9 box"));
    node.udp(PHONE, REQUEST);
    let logs = node.logs();
    assert!(logs.iter().any(|(_, line)| line.contains("at 127.0.0.9")), "{logs:?}");
}

pub(super) const CHECKS: &[Check] = &[
    ("param dns_try_naptr", || {
        for (value, expected) in [(1, "127.0.0.7:5060"), (0, "127.0.0.8:5060")] {
            let mut node = forwarding(&format!("dns_try_naptr={value}"), "d.test");
            let record = Record::Naptr {
                order: 1,
                preference: 1,
                flags: "s".into(),
                service: "SIP+D2U".into(),
                replacement: Name::parse(b"_sip._udp.other.test").unwrap(),
            };
            let answer = Answer::of(vec![record], 9);
            node.zone.insert(question("d.test", RecordKind::Naptr), answer);
            let target = Name::parse(b"a.test").unwrap();
            let record = Record::Srv { priority: 1, weight: 1, port: 5060, target };
            let servers = question("_sip._udp.other.test", RecordKind::Srv);
            node.zone.insert(servers, Answer::of(vec![record], 9));
            node.host("a.test", &["127.0.0.7"]);
            node.host("d.test", &["127.0.0.8"]);
            assert_eq!(went(&mut node), [expected]);
        }
    }),
    ("param dns_try_ipv6", || {
        for (value, sent) in [(0, 0), (1, 1)] {
            let globals = format!("socket=udp:[::1]:5060\ndns_try_ipv6={value}");
            let mut node = forwarding(&globals, "six.test");
            let ip = Record::Ip("::1".parse().unwrap());
            let six = question("six.test", RecordKind::Aaaa);
            node.zone.insert(six, Answer::of(vec![ip], 9));
            assert_eq!(went(&mut node).len(), sent);
        }
    }),
    ("param dns_retr_time", || {
        let node = node("dns_retr_time=3\ndns_retr_no=4", "exit;");
        assert_eq!(node.node().dns.settings.patience(), (3, 4));
    }),
    ("param dns_retr_no", || {
        let mut node = forwarding("dns_retr_time=1\ndns_retr_no=1", "d.test:5060");
        node.dns_silent = true;
        node.udp(PHONE, REQUEST);
        node.advance_ms(2_900);
        assert!(node.logs().is_empty(), "it waits");
        node.advance_ms(200);
        assert!(node.logs().iter().any(|(_, l)| l.contains("rc -1")));
    }),
    ("param dns_servers_no", || {
        let settings = |text: &str| node(text, "exit;").node().dns.settings.servers_max;
        assert_eq!((settings(""), settings("dns_servers_no=1")), (None, Some(1)));
    }),
    ("param dns_use_search_list", || {
        let settings = |text: &str| node(text, "exit;").node().dns.settings.search_list;
        assert!(settings("") && !settings("dns_use_search_list=0"));
    }),
    ("param disable_dns_failover", || {
        let settings = |text: &str| node(text, "exit;").node().dns.settings.failover;
        assert!(settings("") && !settings("disable_dns_failover=1"));
    }),
    ("param disable_dns_blacklist", || {
        for (value, lists) in [(1, 0), (0, 1)] {
            let mut node = node(&format!("disable_dns_blacklist={value}"), "exit;");
            let all = ask(&mut node, "list_blacklists", Json::Null);
            assert_eq!(all["Lists"].as_array().unwrap().len(), lists);
        }
    }),
    ("param exec_dns_threshold", slow),
    ("statistic dns:dns_slow_queries", slow),
    ("statistic dns:dns_total_queries", || {
        let mut node = forwarding("", "d.test:5060");
        node.host("d.test", &["127.0.0.8"]);
        assert_eq!(went(&mut node), ["127.0.0.8:5060"]);
        assert_eq!(stat(&mut node, "dns:dns_total_queries"), 1);
        assert_eq!(went(&mut node), ["127.0.0.8:5060"]);
        assert_eq!(stat(&mut node, "dns:dns_total_queries"), 1, "it is known by now");
        node.advance_ms(61_000);
        went(&mut node);
        assert_eq!(stat(&mut node, "dns:dns_total_queries"), 2);
    }),
    ("param dst_blacklist", || {
        let mut node = node(
            "dst_blacklist = bad/default: { (any, 127.0.0.8, 0, \"*MESSAGE*\") }",
            "forward(\"127.0.0.8\"); forward(\"127.0.0.7\");",
        );
        assert_eq!(went(&mut node), ["127.0.0.7:5060"]);
        let error = try_node("dst_blacklist = x : { (nowhere) }", "exit;").err().unwrap();
        assert!(error.contains("no address and no net"), "{error}");
    }),
    ("function use_blacklist", || {
        let globals = "dst_blacklist = bad: { (127.0.0.8) }";
        let mut node = node(
            globals,
            "forward(\"127.0.0.8\"); use_blacklist(\"bad\"); forward(\"127.0.0.8:9\"); \
             if (!use_blacklist(\"other\")) forward(\"127.0.0.7\");",
        );
        assert_eq!(went(&mut node), ["127.0.0.8:5060", "127.0.0.7:5060"]);
    }),
    ("function unuse_blacklist", || {
        let globals = "dst_blacklist = bad/default: { (127.0.0.8) }";
        for (name, sent) in [("bad", 1), ("all", 1), ("other", 0)] {
            let route = format!("unuse_blacklist(\"{name}\"); forward(\"127.0.0.8\");");
            assert_eq!(went(&mut node(globals, &route)).len(), sent, "{name}");
        }
    }),
    ("function check_blacklist_rule", || {
        let says = |arguments: &str| {
            let route = format!("check_blacklist_rule({arguments}); xlog(\"L_NOTICE\", \"$rc\");");
            let mut node = node(LIST, &route);
            node.udp(PHONE, REQUEST);
            node.logs().pop().unwrap().1
        };
        assert_eq!(says("\"gw\", \"10.1.2.3\""), "1");
        assert_eq!(says("\"gw\", \"10.1.2.3\", 5060, \"udp\""), "1");
        assert_eq!(says("\"gw\", \"10.1.2.3\", 5061, \"udp\""), "-1");
        assert_eq!(says("\"gw\", \"10.1.2.3\", 5060, \"tcp\""), "-1");
        assert_eq!(says("\"none\", \"10.1.2.3\""), "-1");
    }),
    ("function add_blacklist_rule", || {
        let mut node = node(
            LIST,
            "add_blacklist_rule(\"gw\", \"10.5.0.0/16\", 0, , , 60); \
             if (!add_blacklist_rule(\"fixed\", \"10.5.0.1\")) xlog(\"L_NOTICE\", \"fixed\");",
        );
        node.udp(PHONE, REQUEST);
        assert!(node.logs().iter().any(|(_, l)| l == "fixed"));
        let check = json!(["gw", "udp", "10.5.1.1", 5060]);
        let rule = ask(&mut node, "check_blacklist", check.clone());
        assert_eq!((&rule["Mask"], &rule["Expire"]), (&json!("255.255.0.0"), &json!(60)));
        node.advance_ms(60_100);
        assert_eq!(ask(&mut node, "check_blacklist", check)["message"], "Not Matched");
    }),
    ("function del_blacklist_rule", || {
        let mut node = node(
            LIST,
            "del_blacklist_rule(\"gw\", \"10.9.9.9\"); xlog(\"L_NOTICE\", \"$rc\"); \
             del_blacklist_rule(\"gw\", \"10.9.9.9\"); xlog(\"L_NOTICE\", \"$rc\");",
        );
        node.udp(PHONE, REQUEST);
        let codes: Vec<String> = node.logs().into_iter().map(|l| l.1).collect();
        assert_eq!(codes, ["1", "-1"]);
    }),
    ("mi blacklists:list", || {
        let mut empty = node("", "exit;");
        assert_eq!(ask(&mut empty, "list_blacklists", Json::Null), json!({"Lists": []}));
        assert_eq!(ask(&mut empty, "list_blacklists", json!(["x"]))["message"], "Unknown name");
        let mut node = node(LIST, "exit;");
        let list = ask(&mut node, "list_blacklists", json!(["gw"]));
        let rules = json!([
            {"flags": 0, "IP": "10.1.0.0", "Mask": "255.255.0.0", "Proto": "udp", "Port": 5060},
            {"flags": 0, "IP": "10.9.9.9", "Mask": "255.255.255.255", "Proto": "any", "Port": 0},
        ]);
        let expected = json!({"name": "gw", "owner": "core", "flags": ["expire"], "Rules": rules});
        assert_eq!(list, expected);
        let all = ask(&mut node, "list_blacklists", Json::Null);
        assert_eq!(all["Lists"][1]["flags"], json!(["readonly"]));
    }),
    ("mi blacklists:check_all", || {
        let mut node = node(LIST, "exit;");
        assert_eq!(ask(&mut node, "check_blacklists", json!(["10.1.0.1"])), json!(["gw"]));
        assert_eq!(ask(&mut node, "check_blacklists", json!(["10.3.0.1"])), json!([]));
        assert_eq!(ask(&mut node, "check_blacklists", json!(["udp", "x"]))["code"], 400);
        assert_eq!(ask(&mut node, "check_blacklists", json!(["x", "10.1.0.1"]))["code"], 404);
    }),
    ("mi blacklists:check", || {
        let mut node = node(LIST, "exit;");
        let none = json!({"code": 400, "message": "Missing or bad blacklist name"});
        assert_eq!(ask(&mut node, "check_blacklist", json!(["x", "10.0.0.1"])), none);
        let bad = ask(&mut node, "check_blacklist", json!(["gw", "udp", "ten"]));
        assert_eq!(bad["message"], "Missing or bad IP");
        assert_eq!(ask(&mut node, "check_blacklist", json!(["gw", "10.9.9.9"]))["IP"], "10.9.9.9");
    }),
    ("mi blacklists:add_rule", || {
        let mut node = node(LIST, "exit;");
        let mut add = |rule: Json| ask(&mut node, "add_blacklist_rule", rule);
        let message = |answer: Json| answer["message"].as_str().unwrap().to_owned();
        assert_eq!(add(json!(["gw", "(tcp,10.7.7.7,5061)", 60])), "OK");
        assert_eq!(message(add(json!(["x", "r", 60]))), "Missing or bad blacklist name");
        assert_eq!(message(add(json!(["gw", "(nowhere)"]))), "Bad rule");
        assert_eq!(message(add(json!(["gw", "10.0.0.1", -1]))), "Bad expire value");
        let fixed = add(json!(["fixed", "10.0.0.1"]));
        assert_eq!(message(fixed), "Cannot modify read-only blacklist");
        let found = ask(&mut node, "check_blacklists", json!(["tcp", "10.7.7.7", 5061]));
        assert_eq!(found, json!(["gw"]));
    }),
    ("mi blacklists:del_rule", || {
        let mut node = node(LIST, "exit;");
        let mut del = |rule: Json| ask(&mut node, "del_blacklist_rule", rule);
        assert_eq!(del(json!(["gw", "10.9.9.9"])), "OK");
        assert_eq!(del(json!(["gw", "10.9.9.9"]))["message"], "Rule not found");
        assert_eq!(del(json!(["x", "r"]))["message"], "Missing or bad blacklist name");
    }),
];

fn slow() {
    for (threshold, slow) in [(0, 0), (1_000, 1)] {
        let mut node = forwarding(&format!("exec_dns_threshold={threshold}"), "d.test:5060");
        node.host("d.test", &["127.0.0.8"]);
        node.dns_silent = true;
        node.udp(PHONE, REQUEST);
        node.advance_ms(50);
        node.answer_names();
        assert_eq!(stat(&mut node, "dns:dns_slow_queries"), slow);
        assert_eq!(node.sent().len(), 1);
    }
}
