//! Parameters.

use serde_json::{Value as Json, json};
use tandem_db::{Rows, Value};
use tandem_engine::testing::TestNode;

use crate::world::{
    URL, called, carrier, fill, gateway, insert, node, node_with, request, rule, said, set, tells,
};

const ROUTE: &str = "route { do_routing(0); xlog(\"L_NOTICE\", \"# $rc $ru\"); }";
const RURI: &str = "sip:4012345@here.test";

pub(crate) fn database() {
    assert!(node("", ROUTE).err().unwrap().contains("db_url"));
    assert!(node("db_default_url = \"sqlite:///tmp/x.db\"\n", ROUTE).is_ok());
    assert!(called("", "do_routing(0)", RURI).starts_with("1 "));
}

pub(crate) fn tables() {
    for (name, other) in
        [("drd_table", "dr_gateways"), ("drr_table", "dr_rules"), ("drc_table", "dr_carriers")]
    {
        let missing = node(&format!("{URL}{}", set(name, "nosuch")), ROUTE).err().unwrap();
        assert!(missing.contains("nosuch"), "{name}: {missing}");
        assert!(node(&format!("{URL}{}", set(name, other)), ROUTE).is_ok());
        assert!(node(&format!("{URL}{}", set(name, "a b")), ROUTE).is_err());
    }
}

pub(crate) fn groups() {
    let is = |params: &str, wanted: &str| {
        assert_eq!(called(params, "do_routing()", RURI), wanted, "{params}");
    };
    let (yes, no) = ("1 sip:9912345@127.0.1.21:5060", "-1 sip:4012345@here.test");
    is("", yes);
    is(&set("drg_grpid_col", "id"), no);
    is(&set("drg_user_col", "domain"), no);
    is(&set("drg_domain_col", "username"), no);
    is(&format!("{}{}", set("use_domain", "0"), set("drg_domain_col", "username")), yes);
    is(&set("drg_table", "nosuch"), no);
    is(&format!("{}{}", set("drg_table", "nosuch"), set("default_group", "0")), yes);
}

pub(crate) fn avps() {
    let params = [
        set("ruri_avp", "$avp(u)"),
        set("gw_id_avp", "$avp(i)"),
        set("gw_priprefix_avp", "$avp(p)"),
        set("gw_sock_avp", "$avp(s)"),
        set("rule_id_avp", "$avp(r)"),
        set("rule_prefix_avp", "$avp(x)"),
        set("carrier_id_avp", "$avp(c)"),
    ];
    let text = "$(avp(u)[*])|$(avp(i)[*])|$avp(p)|$(avp(s)[*])|$avp(r)|$avp(x)|$avp(c)";
    let told = tells(&params.concat(), "do_routing(0);", text);
    assert_eq!(told, "sip:4012345@127.0.1.22|gw1, gw2|99|-|2|40|");
    let by_carrier = tells(&params.concat(), "$ru = \"sip:3@x\"; do_routing(0);", text);
    assert!(by_carrier.ends_with("|c1"), "{by_carrier}");
    let usual = "$avp(___dr_ruri__)|$avp(___dr_gw_id__)|$avp(___dr_sock__)";
    assert_eq!(tells("", "do_routing(0);", usual), "sip:4012345@127.0.1.22|gw1|-");
    assert!(node(&format!("{URL}{}", set("ruri_avp", "u")), ROUTE).is_err());
}

pub(crate) fn names() {
    let named = |params: &str, answers: bool| {
        let route = "route { is_from_gw(); xlog(\"L_NOTICE\", \"# $rc\"); }";
        let text = format!("{URL}{params}");
        let mut node = node_with(&text, route, |db| gateway(db, "n", 1, "gw.test", &[])).unwrap();
        node.host("gw.test", &["127.0.3.1", "127.0.3.2"]);
        if answers {
            // That the name is not there is believed for a while.
            node.advance_ms(120_000);
            node.mi("drouting:reload", Json::Null);
        }
        ["127.0.3.1:5060", "127.0.3.2:5060", "127.0.3.3:5060"].map(|from| {
            node.udp(from, &request(RURI));
            said(&mut node).pop().unwrap()
        })
    };
    assert_eq!(named("", true), ["1", "1", "-1"], "several addresses");
    assert_eq!(named("", false), ["-1", "-1", "-1"], "they were not known at the loading");
    keeps_names();
    let lazy = named(&set("force_dns", "0"), false);
    assert_eq!(lazy[2], "-1");
    assert_ne!(lazy, ["-1", "-1", "-1"], "looked up when they are asked for");
}

/// Names that nobody knows are looked up again, and a reload without a DNS forgets no address.
fn keeps_names() {
    let route = "route { is_from_gw(); xlog(\"L_NOTICE\", \"# $rc\"); }";
    let fill = |db: &mut tandem_db::memory::MemoryDb| gateway(db, "n", 1, "gw.test", &[]);
    let mut node = node_with(URL, route, fill).unwrap();
    let is_known = |node: &mut TestNode, from: &str| {
        node.udp(from, &request(RURI));
        said(node).pop().unwrap() == "1"
    };
    node.host("gw.test", &["127.0.3.1", "127.0.3.2"]);
    node.advance_ms(120_000);
    assert!(is_known(&mut node, "127.0.3.1:5060"), "it was looked up again");
    node.zone.clear();
    node.advance_ms(120_000);
    node.mi("drouting:reload", Json::Null);
    assert!(node.logs().iter().any(|(_, text)| text.contains("addresses of before stay")));
    assert!(is_known(&mut node, "127.0.3.1:5060"), "nobody says where it is now");
    node.host("gw.test", &["127.0.3.2"]);
    node.advance_ms(120_000);
    node.mi("drouting:reload", Json::Null);
    let known = ["127.0.3.1:5060", "127.0.3.2:5060"].map(|from| is_known(&mut node, from));
    assert_eq!(known, [false, true], "it has moved");
}

pub(crate) fn blacklists() {
    let params = format!("{URL}{}", set("define_blacklist", "Default:bad= 1,3"));
    let mut node = node(&params, "route { exit; }").unwrap();
    let lists = node.mi("list_blacklists", Json::Null).to_string();
    for ip in ["127.0.1.21", "127.0.1.22", "127.0.1.24"] {
        assert!(lists.contains(ip), "{ip}: {lists}");
    }
    assert!(!lists.contains("127.0.1.23"), "{lists}");
    gateway(&mut node.db, "new", 3, "127.0.1.30", &[]);
    node.mi("drouting:reload", Json::Null);
    assert!(node.mi("list_blacklists", Json::Null).to_string().contains("127.0.1.30"));
    assert!(self::node(&format!("{URL}{}", set("define_blacklist", "x")), ROUTE).is_err());
}

fn stored(node: &TestNode, id: &str) -> Option<i64> {
    let select = tandem_db::Select {
        table: "dr_gateways".into(),
        columns: vec!["state".into()],
        conds: vec![tandem_db::Cond::eq("gwid", id)],
        ..tandem_db::Select::default()
    };
    let rows = node.db.clone().execute(&tandem_db::Query::Select(select)).unwrap();
    rows.rows.first()?.first()?.as_int()
}

pub(crate) fn persistence() {
    let mut one = node(URL, ROUTE).unwrap();
    one.mi("drouting:gw_status", json!({"gw_id": "gw2", "status": 0}));
    one.mi("drouting:gw_status", json!({"gw_id": "gw3", "status": 2}));
    assert_eq!(stored(&one, "gw2"), Some(0));
    one.advance_ms(6_000);
    assert_eq!((stored(&one, "gw2"), stored(&one, "gw3")), (Some(1), Some(2)));
    let db = one.db.clone();
    let state = |params: &str| {
        let db = db.clone();
        let mut node = node_with(&format!("{URL}{params}"), ROUTE, |of| *of = db).unwrap();
        let all = node.mi("drouting:gw_status", Json::Null)["result"]["Gateways"].clone();
        [1, 2].map(|at: usize| all[at]["State"].as_str().unwrap().to_owned())
    };
    assert_eq!(state(""), ["Disabled MI", "Probing"], "after a restart");
    let off = set("persistent_state", "0");
    assert_eq!(state(&off), ["Active", "Active"]);
    let mut other = node(&format!("{URL}{off}"), ROUTE).unwrap();
    other.mi("drouting:gw_status", json!({"gw_id": "gw2", "status": 0}));
    other.advance_ms(6_000);
    assert_eq!(stored(&other, "gw2"), Some(0));
}

pub(crate) fn rule_tables() {
    let sql = "SELECT name FROM tables_of_rules";
    let params = format!("{URL}{}", set("rule_tables_query", &format!("Default: {sql}")));
    let failed = node(&params, ROUTE).err().unwrap();
    assert!(!failed.is_empty(), "the query is asked");
    let mut node = node(URL, ROUTE).unwrap();
    node.script = String::new();
    let names = |names: &[&str]| Rows {
        columns: vec!["name".into()],
        rows: names.iter().map(|name| vec![Value::from(*name)]).collect(),
        ..Rows::default()
    };
    let started = |rows: Rows| {
        let lines = crate::world::LINES;
        let script = format!("{lines}{params}{ROUTE}");
        let mut db = tandem_db::memory::MemoryDb::with_tables(tandem_db::schema::tables());
        fill(&mut db);
        let mut node = TestNode::with_slow_database(&script, crate::world::MODULES, db);
        node.sql.insert(sql.to_owned(), rows);
        while node.answer_queries() > 0 {}
        node
    };
    let mut twice = started(names(&["dr_rules", "dr_rules"]));
    twice.udp("127.0.0.9:5060", &request(RURI));
    assert_eq!(said(&mut twice).pop().unwrap(), "1 sip:9912345@127.0.1.21:5060");
    let mut none = started(names(&[]));
    assert!(none.fatal().unwrap().contains("rule_tables_query"));
}

/// Two partitions in the database of the script, and one in another.
fn partitioned(db: &mut tandem_db::memory::MemoryDb) {
    fill(db);
    let row = |name: &str, url: &str, avp: Value| {
        vec![("partition_name", name.into()), ("db_url", url.into()), ("gw_id_avp", avp)]
    };
    insert(db, "dr_partitions", row("east", "sqlite:///tmp/x.db", Value::Null));
    insert(db, "dr_partitions", row("west", "sqlite:///tmp/x.db", "$avp(gw)".into()));
    insert(db, "dr_partitions", row("far", "sqlite:///tmp/unnamed.db", Value::Null));
}

pub(crate) fn partitions() {
    let params = [
        set("use_partitions", "1"),
        set("db_partitions_url", "sqlite:///tmp/x.db"),
        set("partition_id_pvar", "$avp(part)"),
    ];
    let params = params.concat();
    let asked = |code: &str| {
        let route = format!(
            "route {{ {code} xlog(\"L_NOTICE\", \"# $rc $avp(___dr_gw_id___east) \
             $avp(gw) $avp(part)\"); }}"
        );
        let mut node = node_with(&params, &route, partitioned).unwrap();
        node.udp("127.0.1.21:5060", &request(RURI));
        said(&mut node).pop().unwrap()
    };
    assert_eq!(asked("do_routing(0, , , , , , \"east\");"), "1 gw1 <null> <null>");
    assert_eq!(asked("do_routing(0, , , , , , \"west\");"), "1 <null> gw1 <null>");
    assert_eq!(asked("do_routing(0);"), "-1 <null> <null> <null>", "no partition is named");
    assert_eq!(asked("do_routing(0, , , , , , \"far\");"), "-1 <null> <null> <null>");
    assert_eq!(asked("is_from_gw(, , , , \"*\");"), "1 <null> <null> east");
    let mut node = node_with(&params, ROUTE, partitioned).unwrap();
    assert!(node.logs().iter().any(|(_, text)| text.contains("`far`")), "it is told");
    let missing = node.mi("drouting:gw_status", Json::Null);
    assert_eq!(missing["error"]["message"], "Missing parameter: 'partition_name'");
    let east = node.mi("drouting:gw_status", json!({"partition_name": "east"}));
    assert_eq!(east["result"]["Gateways"].as_array().unwrap().len(), 4);
    let all = node.mi("drouting:reload_status", Json::Null)["result"]["Partitions"].clone();
    assert_eq!((&all[0]["name"], &all[1]["name"]), (&json!("east"), &json!("west")));
    assert_eq!(node.mi("drouting:reload", Json::Null)["result"], "OK");
    let table = format!("{params}{}", set("db_partitions_table", "nosuch"));
    assert!(node_with(&table, ROUTE, partitioned).is_err());
}

pub(crate) fn characters() {
    let with = |params: &str| {
        let mut node = node_with(&format!("{URL}{params}"), ROUTE, |db| {
            gateway(db, "a:b", 1, "127.0.1.40", &[]);
            gateway(db, "ok", 1, "127.0.1.41", &[]);
            rule(db, "0", "*4", "ok", &[]);
            rule(db, "0", "5", "a:b", &[]);
        })
        .unwrap();
        ["*41", "51"].map(|user| {
            node.udp("127.0.0.9:5060", &request(&format!("sip:{user}@here.test")));
            said(&mut node).pop().unwrap().starts_with("1 ")
        })
    };
    assert_eq!(with(""), [false, false]);
    assert_eq!(with(&set("extra_prefix_chars", "*#")), [true, false]);
    assert_eq!(with(&set("extra_id_chars", ":")), [false, true]);
    assert!(node(&format!("{URL}{}", set("extra_prefix_chars", "\u{e4}")), ROUTE).is_err());
}

pub(crate) fn sockets() {
    let with = |mode: &str| {
        let params = format!("{URL}{}", set("gw_socket_filter_mode", mode));
        let route = "route { route_to_gw(\"there\"); xlog(\"L_NOTICE\", \"# $rc\"); \
             route_to_gw(\"gw4\"); xlog(\"L_NOTICE\", \"# $rc $fs\"); }";
        let mut node = node_with(&params, route, |db| {
            fill(db);
            gateway(db, "there", 1, "127.0.1.50", &[("socket", "udp:10.1.2.3:5060".into())]);
        })
        .unwrap();
        node.udp("127.0.0.9:5060", &request(RURI));
        said(&mut node)
    };
    assert_eq!(with("all"), ["1", "1 udp:127.0.0.1:5070"]);
    assert_eq!(with("matched-only"), ["-1", "1 udp:127.0.0.1:5070"]);
    assert_eq!(with("ignore"), ["1", "1 <null>"]);
    assert!(node(&format!("{URL}{}", set("gw_socket_filter_mode", "x")), ROUTE).is_err());
}

/// A rule without a list blocks its prefix.
pub(crate) fn empty_list() {
    let route = "route { do_routing(0); $var(r) = $rc; dr_match(0, , $rU, $avp(a)); \
         xlog(\"L_NOTICE\", \"# $var(r) $rc $avp(a)\"); }";
    let fill = |db: &mut tandem_db::memory::MemoryDb| {
        fill(db);
        rule(db, "0", "4090", "", &[]);
    };
    let mut node = node_with(URL, route, fill).unwrap();
    node.udp("127.0.0.9:5060", &request("sip:40901@here.test"));
    assert_eq!(said(&mut node).pop().unwrap(), "-2 1 rule 4090");
    assert_eq!(node.mi("drouting:refused", Json::Null)["result"]["Refused"], 0);
}

pub(crate) fn hostile() {
    let bad = |db: &mut tandem_db::memory::MemoryDb| {
        gateway(db, "ok", 1, "127.0.1.60", &[("attrs", Value::Null), ("pri_prefix", Value::Null)]);
        gateway(db, "g2", 1, "sip:u@127.0.1.61", &[]);
        gateway(db, "g3", 1, "", &[]);
        gateway(db, "g 4", 1, "127.0.1.62", &[]);
        gateway(db, "g5", 1, "127.0.1.63;transport=sctp", &[]);
        gateway(db, "g6", 1, "127.0.1.64", &[("strip", (-1).into())]);
        carrier(db, "c1", "nosuch,ok=x,ok", 0, "N");
        carrier(db, "c2", "nosuch", 0, "N");
        carrier(db, "c3", "ok", 0, "Z");
        rule(db, "", "1", "ok", &[]);
        rule(db, "x", "1", "ok", &[]);
        rule(db, "0", "1a", "ok", &[]);
        rule(db, "0", "2", "ok", &[("timerec", "nonsense".into())]);
        rule(db, "0", "3", "nosuch", &[]);
        rule(db, "0", "4", "#c1,nosuch,ok", &[]);
        rule(db, "0", "5", "ok", &[("sort_alg", "Z".into())]);
        rule(db, "0", &"9".repeat(60), "ok", &[("routeid", Value::Null)]);
    };
    let mut node = node_with(URL, ROUTE, bad).unwrap();
    let logs: Vec<String> = node.logs().into_iter().map(|(_, text)| text).collect();
    let all = logs.join("\n");
    for word in [
        "g2",
        "g3",
        "g 4",
        "g5",
        "g6",
        "`nosuch`",
        "c2",
        "c3",
        "rule 1",
        "rule 8",
        "2 rules loaded, 13 rows refused, 2 taken in part",
    ] {
        assert!(all.contains(word) || word.starts_with("rule 8"), "{word}: {all}");
    }
    node.udp("127.0.0.9:5060", &request("sip:41@here.test"));
    assert_eq!(said(&mut node).pop().unwrap(), "1 sip:41@127.0.1.60");
    let told = node.mi("drouting:refused", Json::Null)["result"].clone();
    let counts = ["Gateways", "Carriers", "Rules", "Refused", "Taken in part"];
    assert_eq!(counts.map(|name| told[name].as_u64().unwrap()), [1, 1, 2, 13, 2]);
    let rows = told["Rows"].as_array().unwrap();
    let why = |why: &str| rows.iter().find(|row| row["Why"].as_str().unwrap().contains(why));
    let row = why("rule 4: timerec").unwrap();
    assert_eq!((&row["Table"], &row["Verdict"]), (&json!("rules"), &json!("refused")));
    assert_eq!(why("rule 6: `nosuch`").unwrap()["Verdict"], "taken in part");
    assert_eq!(why("carrier `c1`: `nosuch`").unwrap()["Table"], "carriers");
    // Rules none of which can be used do not take the place of those that can.
    let delete = tandem_db::Query::Delete { table: "dr_rules".into(), conds: Vec::new() };
    node.db.execute(&delete).unwrap();
    rule(&mut node.db, "0", "4", "nosuch", &[]);
    let refused = node.mi("drouting:reload", Json::Null);
    assert_eq!(refused["error"]["message"], "Failed to reload");
    node.udp("127.0.0.9:5060", &request("sip:41@here.test"));
    assert_eq!(said(&mut node).pop().unwrap(), "1 sip:41@127.0.1.60");
}

pub(crate) fn reasons() {
    let bad = |db: &mut tandem_db::memory::MemoryDb| {
        let at = "127.0.1.60";
        gateway(db, "ok", 1, at, &[]);
        gateway(db, "crlf", 1, at, &[("pri_prefix", "1\r\nX: y".into())]);
        gateway(db, "user", 1, at, &[("pri_prefix", "a@b".into())]);
        gateway(db, "sips", 1, "sips:127.0.1.60", &[]);
        gateway(db, "line", 1, "127.0.1.60\r\nERROR all is lost", &[]);
        gateway(db, "sock", 1, at, &[("socket", "garbage".into())]);
        gateway(db, "theirs", 1, at, &[("socket", "udp:192.0.2.9:5060".into())]);
        gateway(db, "mode", 1, at, &[("probe_mode", 7.into())]);
        rule(db, "0", "1", "ok=x,ok", &[]);
        rule(db, "0", "2", "ok", &[("routeid", "nosuch".into())]);
        rule(db, "0", "3", "ok", &[("routeid", "say".into())]);
        rule(db, "0", "4", "ok", &[("timerec", "20260105T080000||PT9H|weekly|||MO /".into())]);
        rule(db, "0", "5", "ok", &[("timerec", "20260230T080000||PT9H".into())]);
    };
    let mut node = node_with(URL, &format!("{ROUTE} route[say] {{ exit; }}"), bad).unwrap();
    assert!(node.logs().iter().all(|(_, text)| !text.contains(['\r', '\n'])));
    let told = node.mi("drouting:refused", Json::Null)["result"].clone();
    let rows = told["Rows"].as_array().unwrap().iter();
    let said: Vec<String> = rows.map(|r| format!("{}: {}", r["Verdict"], r["Why"])).collect();
    let said = said.join("\n").replace('"', "");
    for wanted in [
        "refused: gateway `crlf`: pri_prefix `1\\\\r\\\\nX: y` holds what no user part of a URI holds",
        "refused: gateway `user`: pri_prefix `a@b` holds",
        "refused: gateway `sips`: address `sips:127.0.1.60`: Tandem does not speak its transport",
        "refused: gateway `line`: address `127.0.1.60\\\\r\\\\nERROR all is lost`",
        "taken in part: gateway `sock`: socket `garbage` is none such as",
        "taken in part: gateway `mode`: probe_mode 7 is none of",
        "taken in part: rule 1: `ok=x` is left out: its weight is no number",
        "taken in part: rule 2: routeid `nosuch` is no route",
        "refused: rule 4: timerec: a recurrence is missing",
        "refused: rule 5: timerec: `20260230T080000` is not",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(!said.contains("theirs") && !said.contains("rule 3"), "{said}");
    assert_eq!((&told["Refused"], &told["Taken in part"]), (&json!(6), &json!(4)));
}

pub(crate) fn only_blocking() {
    let mut node = node_with(URL, ROUTE, |db| {
        gateway(db, "ok", 1, "127.0.1.60", &[]);
        rule(db, "0", "4", "ok", &[]);
        rule(db, "0", "5", "", &[]);
    })
    .unwrap();
    // Somebody has emptied the table of gateways: what is left of the rules blocks a prefix.
    let delete = tandem_db::Query::Delete { table: "dr_gateways".into(), conds: Vec::new() };
    node.db.execute(&delete).unwrap();
    let failed = node.mi("drouting:reload", Json::Null);
    assert_eq!(failed["error"]["message"], "Failed to reload");
    node.udp("127.0.0.9:5060", &request("sip:41@here.test"));
    assert_eq!(said(&mut node).pop().unwrap(), "1 sip:41@127.0.1.60");
    // What was told to block alone does.
    let delete = tandem_db::Query::Delete { table: "dr_rules".into(), conds: Vec::new() };
    node.db.execute(&delete).unwrap();
    rule(&mut node.db, "0", "", "", &[]);
    assert_eq!(node.mi("drouting:reload", Json::Null)["result"], "OK");
    node.udp("127.0.0.9:5060", &request("sip:41@here.test"));
    assert_eq!(said(&mut node).pop().unwrap(), "-2 sip:41@here.test");
}
