//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

#[path = "exports/world.rs"]
mod world;

use serde_json::{Value as Json, json};
use tandem_db::Value;
use tandem_engine::testing::{TestNode, cover};
use world::{
    CALLER, MODULES, URL, begin, fill, limit, node, node_with, refused_call, reply, script, set,
    slow_call, strict, told,
};

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_qrouting::MODULE,
        &[
            ("param db_url", database),
            ("param table_name", table),
            ("param algorithm", algorithm),
            ("param history_span", span),
            ("param sampling_interval", windows),
            ("param extra_stats", extra),
            ("param min_samples_asr", asr),
            ("param min_samples_ccr", ccr),
            ("param min_samples_pdd", pdd),
            ("param min_samples_ast", ast),
            ("param min_samples_acd", acd),
            ("param event_bad_dst_threshold", bad_destination),
            ("param decimal_digits", digits),
            ("function qr_set_xstat", extra),
            ("function qr_disable_dst", in_script),
            ("function qr_enable_dst", in_script),
            ("mi qrouting:status", status),
            ("mi qrouting:reload", reload),
            ("mi qrouting:disable_dst", disable),
            ("mi qrouting:enable_dst", disable),
            ("event E_QROUTING_BAD_DST", bad_destination),
        ],
    );
}

const FIRST: &str = "127.0.1.21:5060";
const SECOND: &str = "127.0.1.22:5060";

fn starts(params: &str) -> Result<TestNode, String> {
    TestNode::with_database(&script(params, ""), MODULES, fill)
}

fn database() {
    let missing = starts("").err().unwrap();
    assert!(missing.contains("qrouting needs a database") && missing.contains("db_url"));
    assert!(starts(URL).is_ok());
}

fn table() {
    let missing = starts(&format!("{URL}{}", set("table_name", "nosuch"))).err().unwrap();
    assert!(missing.contains("nosuch"), "{missing}");
    assert!(starts(&format!("{URL}{}", set("table_name", "a b"))).is_err());
}

fn algorithm() {
    let firsts = |algorithm: &str| {
        let mut node = node(&set("algorithm", algorithm));
        let calls = (0..40).map(|n| begin(&mut node, "401", &format!("c{n}")).0);
        let calls: Vec<String> = calls.collect();
        calls.iter().filter(|to| *to == FIRST).count()
    };
    assert_eq!(firsts("best-dest-first"), 40, "all are as good: the order of the list");
    assert!((8..33).contains(&firsts("dynamic-weights")), "by chance");
    assert!(starts(&format!("{URL}{}", set("algorithm", "best"))).is_err());
}

/// The gateway of a second call, after a bad one by the first gateway, with the least number of
/// samples and with more.
fn judged(stat: &str, bad: impl Fn(&mut TestNode)) {
    let second = |params: &str| {
        let mut node = node_with(params, |db| {
            fill(db);
            for other in ["asr", "ccr", "pdd", "ast", "acd"].iter().filter(|o| **o != stat) {
                let column: &'static str = format!("warn_threshold_{other}").leak();
                limit(db, column, -1.0);
            }
        });
        bad(&mut node);
        begin(&mut node, "401", "second").0
    };
    assert_eq!(second(&strict(stat)), SECOND, "{stat}");
    let more = strict(stat).replace(", 1)", ", 5)");
    assert_eq!(second(&more), FIRST, "{stat}: too few samples");
}

fn asr() {
    judged("asr", |node| {
        let (to, invite) = begin(node, "401", "c");
        node.udp(&to, &reply(&invite, 404));
        assert_eq!(told(node, "gw1", "ASR"), "0.00");
        assert_eq!(told(node, "gw1", "CCR"), "1.00", "the gateway has dealt with it");
    });
}

fn ccr() {
    judged("ccr", |node| {
        let (to, invite) = begin(node, "401", "c");
        node.udp(&to, &reply(&invite, 503));
        assert_eq!(told(node, "gw1", "CCR"), "0.00");
    });
    // Nobody answers: the same.
    let mut node = node(&strict("ccr"));
    begin(&mut node, "401", "c");
    node.advance_ms(40_000);
    assert_eq!(told(&mut node, "gw1", "CCR"), "0.00");
    assert_eq!(told(&mut node, "gw1", "ASR"), "0.00");
}

fn pdd() {
    judged("pdd", |node| {
        assert_eq!(slow_call(node, "401", "c"), FIRST);
        assert_eq!(told(node, "gw1", "PDD"), "1000.00");
    });
}

fn ast() {
    judged("ast", |node| {
        slow_call(node, "401", "c");
        assert_eq!(told(node, "gw1", "AST"), "2000.00");
        assert_eq!(told(node, "gw1", "ASR"), "1.00");
    });
}

fn acd() {
    judged("acd", |node| {
        slow_call(node, "401", "c");
        assert_eq!(told(node, "gw1", "ACD"), "1.00");
    });
}

fn span() {
    let after = |params: &str, ms: u64| {
        let mut node = node(params);
        slow_call(&mut node, "401", "c");
        let dynamic = told(&mut node, "gw1", "ASR") == "1.00";
        node.advance_ms(ms);
        told(&mut node, if dynamic { "gw1" } else { "gw2" }, "ASR")
    };
    assert_eq!(after(&set("history_span", "1"), 50_000), "1.00");
    assert_eq!(after(&set("history_span", "1"), 70_000), "-1.00");
    assert_eq!(after("", 70_000), "1.00");
    assert_eq!(after("", 1_900_000), "-1.00");
    assert!(starts(&format!("{URL}{}", set("history_span", "0"))).is_err());
}

fn windows() {
    let after = |interval: &str| {
        let params = set("history_span", "1") + &set("sampling_interval", interval);
        let mut node = node(&(params + &set("algorithm", "best-dest-first")));
        slow_call(&mut node, "401", "c");
        // The node's clock starts in the middle of a minute.
        node.advance_ms(30_000);
        told(&mut node, "gw1", "ASR")
    };
    assert_eq!(after("5"), "1.00");
    assert_eq!(after("60"), "-1.00", "a window is forgotten at once");
    assert!(starts(&format!("{URL}{}", set("sampling_interval", "0"))).is_err());
}

fn digits() {
    let after = |digits: &str| {
        let mut node = node(&(set("decimal_digits", digits) + &strict("asr")));
        slow_call(&mut node, "401", "c");
        told(&mut node, "gw1", "PDD")
    };
    assert_eq!((after("0"), after("3")), ("1000".into(), "1000.000".into()));
    assert!(starts(&format!("{URL}{}", set("decimal_digits", "99"))).is_err());
}

fn extra() {
    let missing = starts(&format!("{URL}{}", set("extra_stats", "mos"))).err().unwrap();
    assert!(missing.contains("qr_profiles"), "the table has no column for it: {missing}");
    assert!(starts(&format!("{URL}{}", set("extra_stats", "a b"))).is_err());
    let route = "timer_route[feed, 1] { \
         qr_set_xstat(1, \"gw1\", \"mos\", \"4.5\"); xlog(\"L_NOTICE\", \"# set $rc\"); \
         qr_set_xstat(1, \"gw1\", \"mos\", \"1.5\", \"Default\", 2); \
         if (!qr_set_xstat(9, \"gw1\", \"mos\", \"1\")) xlog(\"L_NOTICE\", \"# no rule\"); \
         if (!qr_set_xstat(1, \"gw1\", \"asr\", \"1\")) xlog(\"L_NOTICE\", \"# no stat\"); }";
    let params = format!("{URL}{}{}", set("extra_stats", "mos/2"), set("table_name", "qr_more"));
    let mut node = TestNode::with_database(&script(&params, route), MODULES, |db| {
        fill(db);
        db.create(&with_columns("mos"));
        let row = [("profile_name", "voice".into()), ("warn_threshold_mos", Value::Float(3.0))];
        world::insert(db, "qr_more", &row);
    })
    .unwrap();
    node.advance_ms(1_500);
    assert_eq!(told(&mut node, "gw1", "mos"), "2.00", "6 in 3 samples");
    let said: Vec<String> = node.logs().into_iter().map(|(_, text)| text).collect();
    for words in ["# set 1", "# no rule", "# no stat"] {
        assert!(said.iter().any(|line| line == words), "{words}: {said:?}");
    }
}

/// The table of profiles with the columns of an extra statistic.
fn with_columns(stat: &str) -> tandem_db::schema::Table {
    let mut table = tandem_db::schema::table("qr_profiles").unwrap().clone();
    table.name = "qr_more".into();
    let more = table.columns.clone().into_iter().filter_map(|mut column| {
        column.name = format!("{}{stat}", column.name.strip_suffix("asr")?);
        Some(column)
    });
    let more: Vec<_> = more.collect();
    table.columns.extend(more);
    table
}

fn bad_destination() {
    let events = |params: &str| {
        let mut node = node(&(params.to_owned() + &strict("asr")));
        for n in 0..3 {
            refused_call(&mut node, "401", &format!("c{n}"), 500);
        }
        let said =
            node.logs().into_iter().filter_map(|(_, t)| t.strip_prefix("# ").map(str::to_owned));
        said.collect::<Vec<String>>()
    };
    assert_eq!(
        events(&set("event_bad_dst_threshold", "0.6")),
        ["Default 1 gw1", "Default 1 gw2"],
        "once for each"
    );
    assert!(events("").is_empty());
    assert!(starts(&format!("{URL}{}", set("event_bad_dst_threshold", "2"))).is_err());
}

fn in_script() {
    let route = "timer_route[off, 2] { qr_disable_dst(1, \"gw1\"); \
         if (!qr_disable_dst(1, \"nosuch\")) xlog(\"L_NOTICE\", \"# none\"); }\n\
         timer_route[on, 3] { qr_enable_dst(1, \"gw1\", \"Default\"); \
         xlog(\"L_NOTICE\", \"# on $rc\"); }";
    let params = format!("{URL}{}", strict("asr"));
    let mut node = TestNode::with_database(&script(&params, route), MODULES, fill).unwrap();
    node.advance_ms(2_100);
    assert_eq!(begin(&mut node, "401", "a").0, SECOND);
    assert!(node.logs().iter().any(|(_, text)| text == "# none"));
    node.advance_ms(1_000);
    assert_eq!(begin(&mut node, "401", "b").0, FIRST);
    assert!(node.logs().iter().any(|(_, text)| text == "# on 1"));
}

fn disable() {
    let mut node = node(&strict("asr"));
    let args = |rule: i64, name: &str| json!({"rule_id": rule, "dst_name": name});
    assert_eq!(node.mi("qrouting:disable_dst", args(1, "gw1"))["result"], "OK");
    assert_eq!(begin(&mut node, "401", "a").0, SECOND);
    assert_eq!(told(&mut node, "gw1", "Disabled"), "yes");
    let explained = node.mi("drouting:explain", json!({"number": "401", "group_id": 0}));
    assert!(explained.to_string().contains("qrouting has disabled it"), "{explained}");
    // The whole list is off.
    node.mi("qr_disable_dst", args(1, "gw2"));
    node.udp(CALLER, &world::request("INVITE", "sip:401@h", "b", ""));
    assert!(node.sent().iter().any(|(_, text)| text.starts_with("SIP/2.0 503")));
    let named = json!({"partition": "Default", "rule_id": 1, "dst_name": "gw1"});
    assert_eq!(node.mi("qrouting:enable_dst", named)["result"], "OK");
    assert_eq!(begin(&mut node, "401", "c").0, FIRST);
    // A carrier.
    assert_eq!(node.mi("qr_disable_dst", args(2, "c1"))["result"], "OK");
    assert_eq!(begin(&mut node, "411", "d").0, SECOND);
    let error = |node: &mut TestNode, args: Json| {
        node.mi("qr_enable_dst", args)["error"]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(error(&mut node, args(3, "gw1")), "Rule Not Found", "it is not by quality");
    assert_eq!(error(&mut node, args(1, "gw9")), "GW/Carrier Not Found");
    let other = json!({"partition": "x", "rule_id": 1, "dst_name": "gw1"});
    assert_eq!(error(&mut node, other), "Partition Not Found");
}

fn status() {
    let mut node = node(&strict("asr"));
    refused_call(&mut node, "411", "a", 486);
    let all = node.mi("qrouting:status", Json::Null)["result"].clone();
    let rules = all["Partitions"][0]["Rules"].as_array().unwrap();
    let ids: Vec<&Json> = rules.iter().map(|rule| &rule["Id"]).collect();
    assert_eq!(
        (ids, &all["Partitions"][0]["Name"]),
        (vec![&json!(1), &json!(2)], &json!("Default"))
    );
    let fresh = json!({
        "GWID": "gw1", "ASR": "-1.00", "CCR": "-1.00", "PDD": "-1.00", "AST": "-1.00",
        "ACD": "-1.00",
    });
    assert_eq!(rules[0]["Destinations"][0]["Gateway"], fresh, "statistics are those of a rule");
    let carrier = &rules[1]["Destinations"][0]["Carrier"];
    assert_eq!((&carrier["CRID"], &carrier["ASR"]), (&json!("c1"), &json!("0.00")));
    assert_eq!(carrier["Gateways"][0]["GWID"], "gw1");
    assert_eq!(carrier["Gateways"][0]["CCR"], "1.00");
    let error = |node: &mut TestNode, args: Json| {
        node.mi("qr_status", args)["error"]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(error(&mut node, json!(["x"])), "Partition Not Found");
    assert_eq!(error(&mut node, json!(["Default", 3])), "Rule Not Found");
    assert_eq!(error(&mut node, json!(["Default", 1, "gw9"])), "GW/Carrier Not Found");
}

fn reload() {
    let mut node = node(&strict("asr"));
    refused_call(&mut node, "401", "a", 500);
    slow_call(&mut node, "401", "b");
    limit(&mut node.db, "warn_threshold_asr", 0.2);
    limit(&mut node.db, "warn_threshold_ccr", 0.2);
    assert_eq!(node.mi("qrouting:reload", Json::Null)["result"], "OK");
    assert_eq!(begin(&mut node, "401", "c").0, FIRST, "a half is good enough now");
    // What cannot be read leaves the profiles as they are.
    let broken = vec![("warn_penalty_asr".into(), Value::Float(7.0))];
    let ask = tandem_db::Query::Update { table: "qr_profiles".into(), set: broken, conds: vec![] };
    node.db.execute(&ask).unwrap();
    assert_eq!(node.mi("qr_reload", Json::Null)["result"], "OK");
    assert!(node.logs().iter().any(|(_, text)| text.contains("profile 1: a penalty")));
}

#[test]
fn calls_of_other_rules_are_not_counted() {
    let mut node = node(&strict("asr"));
    refused_call(&mut node, "421", "uncounted", 500);
    assert_eq!(told(&mut node, "gw1", "ASR"), "-1.00");
    let dialogs = node.mi("dialog:list", Json::Null).to_string();
    assert!(!dialogs.contains("uncounted"), "{dialogs}");
    // The first gateway fails, the next one answers: each has its own.
    let (to, invite) = begin(&mut node, "401", "b");
    node.udp(&to, &reply(&invite, 503));
    let (next, invite) = world::invite(&mut node).unwrap();
    assert_eq!((to.as_str(), next.as_str()), (FIRST, SECOND));
    node.udp(&next, &reply(&invite, 200));
    assert_eq!(
        (told(&mut node, "gw1", "ASR"), told(&mut node, "gw2", "ASR")),
        ("0.00".into(), "1.00".into())
    );
    // A rule that is gone is forgotten.
    let delete = tandem_db::Query::Delete {
        table: "dr_rules".into(),
        conds: vec![tandem_db::Cond::eq("ruleid", 1)],
    };
    node.db.execute(&delete).unwrap();
    assert_eq!(node.mi("dr_reload", Json::Null)["result"], "OK");
    let gone = node.mi("qr_status", json!(["Default", 1]));
    assert_eq!(gone["error"]["message"], "Rule Not Found");
}
