//! Parameters.

use serde_json::{Value as Json, json};
use tandem_db::memory::MemoryDb;
use tandem_engine::client::{ClientEvent, ClientNews};
use tandem_engine::effect::Input;
use tandem_engine::testing::TestNode;

use crate::world::{LINES, MODULES, URL};
use crate::world::{destination, fill, node, node_with, request, said, set, states, tells};

const ROUTE: &str = "route { exit; }";

pub(crate) fn database() {
    assert!(node("", ROUTE).err().unwrap().contains("database"));
    assert!(node("db_default_url = \"sqlite:///tmp/x.db\"\n", ROUTE).is_ok());
    assert_eq!(tells("", "ds_select_dst(1, 8);", "$rc"), "1");
}

pub(crate) fn names() {
    for name in [
        "table_name",
        "setid_col",
        "destination_col",
        "socket_col",
        "state_col",
        "weight_col",
        "priority_col",
        "attrs_col",
        "description_col",
        "probe_mode_col",
    ] {
        let missing = node(&format!("{URL}{}", set(name, "nosuch")), ROUTE).err().unwrap();
        assert!(missing.contains("nosuch"), "{name}: {missing}");
        assert!(node(&format!("{URL}{}", set(name, "a b")), ROUTE).is_err());
    }
    let swapped = set("attrs_col", "description");
    let call = "ds_select_dst(1, 8);";
    assert_eq!(tells(&format!("{swapped}{}", set("attrs_avp", "$avp(a)")), call, "$avp(a)"), "A");
}

pub(crate) fn avps() {
    let params = [
        set("dst_avp", "$avp(d)"),
        set("grp_avp", "$avp(g)"),
        set("cnt_avp", "$avp(c)"),
        set("sock_avp", "$avp(s)"),
        set("attrs_avp", "$avp(a)"),
        set("script_attrs_avp", "$avp(x)"),
    ];
    let code = "ds_push_script_attrs(\"mine\", \"127.0.2.1\", 0); ds_select_dst(1, 8, \"f\");";
    let text = "$avp(d)|$avp(g)|$avp(c)|$avp(s)|$avp(a)|$avp(x)";
    assert_eq!(tells(&params.concat(), code, text), "sip:127.0.2.1:5080|1|3|-|first|mine");
    let usual = "$avp(ds_dst_failover)|$avp(ds_grp_failover)|$avp(ds_sock_failover)";
    assert_eq!(tells("", "ds_select_dst(2, 8);", usual), "sip:127.0.2.4|2|udp:127.0.0.1:5070");
    assert!(node(&format!("{URL}{}", set("dst_avp", "d")), ROUTE).is_err());
}

pub(crate) fn partitions() {
    let east = set(
        "partition",
        "east: db_url=sqlite:///tmp/y.db; table_name=dispatcher; \
         dst_avp=$avp(e); ds_define_blacklist=b= 1",
    );
    let code = "ds_select_dst(1, 8, , \"east\");";
    assert_eq!(tells(&east, code, "$rc $avp(e)"), "1 sip:127.0.2.1:5080");
    assert_eq!(tells("", code, "$rc"), "-1");
    let mut node = node(&format!("{URL}{east}"), ROUTE).unwrap();
    let list = node.mi("ds_list", Json::Null)["result"]["PARTITIONS"].clone();
    assert_eq!((&list[0]["name"], &list[1]["name"]), (&json!("default"), &json!("east")));
    let of_all = format!("db_default_url = \"sqlite:///x.db\"\n{east}");
    let mut shared = self::node(&of_all, ROUTE).unwrap();
    let list = shared.mi("ds_list", Json::Null)["result"]["PARTITIONS"].clone();
    assert_eq!(list.as_array().unwrap().len(), 2, "the default one has the database of all");
    let one = node.mi("ds_list", json!({"partition": "east"}))["result"]["PARTITIONS"].clone();
    assert_eq!(one.as_array().unwrap().len(), 1);
    assert_eq!(node.mi("ds_set_state", json!(["i", "east:2", "sip:127.0.2.4"]))["result"], "OK");
    assert!(node.mi("list_blacklists", Json::Null).to_string().contains("127.0.2.3"));
    for wrong in ["east", "east: x=1", "east: dst_avp=y", "east: table_name=a b"] {
        assert!(self::node(&format!("{URL}{}", set("partition", wrong)), ROUTE).is_err());
    }
    assert!(self::node(&format!("{URL}{east}{east}"), ROUTE).is_err(), "twice");
}

pub(crate) fn blacklists() {
    let mut node = node(&format!("{URL}{}", set("ds_define_blacklist", "bad= 2")), ROUTE).unwrap();
    let lists = node.mi("list_blacklists", Json::Null).to_string();
    assert!(lists.contains("127.0.2.4") && !lists.contains("127.0.2.1"), "{lists}");
    destination(&mut node.db, 2, "sip:127.0.2.40", &[]);
    node.mi("ds_reload", Json::Null);
    assert!(node.mi("list_blacklists", Json::Null).to_string().contains("127.0.2.40"));
    assert!(self::node(&format!("{URL}{}", set("ds_define_blacklist", "bad")), ROUTE).is_err());
}

pub(crate) fn persistence() {
    let after = |params: &str| {
        let mut one = node(&format!("{URL}{params}"), ROUTE).unwrap();
        one.mi("ds_set_state", json!(["i", "1", "sip:127.0.2.1:5080"]));
        one.mi("ds_set_state", json!(["p", "1", "sip:127.0.2.2"]));
        one.advance_ms(6_000);
        let db = one.db.clone();
        let mut two = node_with(URL, ROUTE, |of| *of = db).unwrap();
        states(&two.mi("ds_list", Json::Null))
    };
    assert_eq!(after(""), ["Inactive", "Probing", "Active"]);
    assert_eq!(after(&set("persistent_state", "0")), ["Active", "Active", "Active"]);
}

/// The probes of so many seconds.
fn probes(node: &mut TestNode, seconds: u64) -> Vec<(String, String)> {
    node.advance_ms(seconds * 1_000);
    let sent = node.sent().into_iter().map(|(to, text)| (to.to_string(), text));
    sent.filter(|(_, text)| text.contains("CSeq: 10 ")).collect()
}

fn whom(probes: &[(String, String)]) -> Vec<String> {
    let all: std::collections::BTreeSet<_> = probes.iter().map(|(to, _)| to.clone()).collect();
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

pub(crate) fn probing() {
    let with = |params: &str| {
        let interval = set("ds_ping_interval", "5");
        node(&format!("{URL}{interval}{params}"), ROUTE).unwrap()
    };
    let mut quiet = with("");
    assert!(probes(&mut quiet, 10).is_empty(), "all are active");
    quiet.mi("ds_set_state", json!(["p", "1", "sip:127.0.2.2"]));
    let sent = probes(&mut quiet, 5);
    assert_eq!(whom(&sent), ["127.0.2.2:5060"]);
    answer(&mut quiet, &sent[0], 503);
    assert_eq!(states(&quiet.mi("ds_list", Json::Null))[1], "Probing");
    let sent = probes(&mut quiet, 5);
    answer(&mut quiet, sent.last().unwrap(), 200);
    assert_eq!(states(&quiet.mi("ds_list", Json::Null))[1], "Active");
    let mut none = node(URL, ROUTE).unwrap();
    none.mi("ds_set_state", json!(["p", "1", "sip:127.0.2.2"]));
    assert!(probes(&mut none, 20).is_empty(), "no interval");
    // All are probed; nobody answers.
    let after = |params: &str, seconds: u64| {
        let mut node = with(&format!("{}{params}", set("ds_probing_mode", "1")));
        assert_eq!(whom(&probes(&mut node, 5)).len(), 4);
        probes(&mut node, seconds);
        states(&node.mi("ds_list", Json::Null))
    };
    assert_eq!(after("", 32), ["Active", "Active", "Active"], "one failure is not enough");
    assert_eq!(after("", 60), ["Probing", "Probing", "Probing"]);
    let once = set("ds_probing_threshold", "1");
    assert_eq!(after(&once, 38), ["Probing", "Probing", "Probing"]);
    let accepts = |params: &str| {
        let mut node = with(params);
        node.mi("ds_set_state", json!(["p", "1", "sip:127.0.2.2"]));
        let sent = probes(&mut node, 5);
        answer(&mut node, &sent[0], 404);
        states(&node.mi("ds_list", Json::Null))[1].clone()
    };
    assert_eq!(accepts(""), "Probing");
    assert_eq!(accepts(&set("options_reply_codes", "501,404")), "Active");
}

pub(crate) fn probes_of(params: &str) -> Vec<(String, String)> {
    let all = format!("{}{}", set("ds_ping_interval", "5"), set("ds_probing_mode", "1"));
    probes(&mut node(&format!("{URL}{all}{params}"), ROUTE).unwrap(), 5)
}

pub(crate) fn requests() -> String {
    probes_of(&set("ds_probing_list", "1,1"))[0].1.clone()
}

pub(crate) fn probes_differ() {
    let plain = requests();
    assert!(plain.starts_with("OPTIONS sip:127.0.2.") && plain.contains("Max-Forwards: 70"));
    assert!(plain.contains("From: <sip:dispatcher@localhost>;tag="), "{plain}");
    let own = [
        set("ds_ping_method", "INFO"),
        set("ds_ping_from", "sip:me@here.test"),
        set("ds_ping_maxfwd", "3"),
        set("ds_probing_sock", "udp:127.0.0.1:5070"),
        set("ds_probing_list", "1,1"),
    ];
    let own = probes_of(&own.concat());
    assert_eq!(whom(&own).len(), 3, "set 2 is not probed");
    let own = &own[0].1;
    assert!(own.starts_with("INFO sip:") && own.contains("Max-Forwards: 3\r\n"), "{own}");
    assert!(own.contains("From: <sip:me@here.test>") && own.contains("127.0.0.1:5070"), "{own}");
    let wrong = format!("{URL}{}", set("ds_probing_sock", "udp:10.9.9.9:1"));
    assert!(node(&wrong, ROUTE).is_err());
}

pub(crate) fn hostile() {
    let mut node = node_with(
        URL,
        "route { ds_select_dst(1, 8, \"f\"); xlog(\"L_NOTICE\", \
         \"# $(avp(ds_dst_failover)[*])\"); }",
        |db| {
            fill(db);
            destination(db, 1, "nonsense", &[]);
            destination(db, 1, "tel:123", &[]);
            destination(db, 1, "sip:127.0.2.9;transport=sctp", &[]);
            destination(db, 1, "sip:127.0.2.9", &[("weight", "fs://x".into())]);
            destination(db, 1, "sip:127.0.2.3", &[]);
            destination(db, 1, "sip:127.0.2.8", &[("weight", "x".into())]);
            destination(db, 1, "sips:127.0.2.8", &[]);
            destination(db, 1, "sip:127.0.2.8\r\nERROR all is lost", &[]);
        },
    )
    .unwrap();
    let logs = node.logs();
    assert_eq!(logs.iter().filter(|(_, text)| text.contains("left out")).count(), 8, "{logs:?}");
    assert!(logs.iter().all(|(_, text)| !text.contains(['\r', '\n'])), "{logs:?}");
    let counted = "dispatcher: partition default: 4 destinations loaded, 8 rows refused, 0 taken \
                   in part";
    assert!(logs.iter().any(|(_, text)| text == counted), "{logs:?}");
    node.udp("127.0.0.9:5060", &request("c", ""));
    assert_eq!(said(&mut node), ["sip:127.0.2.1:5080, sip:127.0.2.2, sip:127.0.2.3"]);
}

pub(crate) fn refused() {
    let text = |of: &str| tandem_db::Value::from(of);
    let rows = |db: &mut MemoryDb| {
        destination(db, 1, "sip:127.0.2.1", &[("socket", text("5070"))]);
        destination(db, 1, "sip:127.0.2.2", &[("socket", text("udp:192.0.2.1:5060"))]);
        destination(db, 1, "sip:127.0.2.3", &[("state", text("on")), ("priority", text("high"))]);
        destination(db, 1, "sip:127.0.2.4", &[("state", 7.into()), ("probe_mode", 3.into())]);
        destination(db, 1, "sip:127.0.2.5", &[("weight", text("much"))]);
        destination(db, 1, "sip:127.0.2.1", &[]);
        destination(db, 2, "sip:127.0.2.6", &[("state", 2.into()), ("probe_mode", 2.into())]);
    };
    let keeps = set("persistent_state", "1");
    let mut node = node_with(&format!("{URL}{keeps}"), ROUTE, rows).unwrap();
    let told = node.mi("dispatcher:refused", Json::Null)["result"]["PARTITIONS"][0].clone();
    assert!(told["Date"].is_string(), "{told}");
    let counts = ["Sets", "Destinations", "Refused", "Taken in part"].map(|name| &told[name]);
    assert_eq!(counts, [&json!(2), &json!(5), &json!(2), &json!(3)], "{told}");
    let row = |row: &Json| {
        format!("{}: {}", row["Verdict"].as_str().unwrap(), row["Why"].as_str().unwrap())
    };
    let told: Vec<String> = told["Rows"].as_array().unwrap().iter().map(row).collect();
    let of = |n: u8| format!("set 1, destination `sip:127.0.2.{n}`");
    let none = "is none of 0, 1 and 2: it begins as active";
    let unprobed = "is none of 0, 1 and 2: it is not probed while it is active";
    let wanted = [
        format!(
            "taken in part: {}: socket `5070` is none such as udp:192.0.2.1:5060: any is used",
            of(1)
        ),
        format!("taken in part: {}: state `on` {none}", of(3)),
        format!("taken in part: {}: priority `high` is no number: it has priority 0", of(3)),
        format!("taken in part: {}: state `7` {none}", of(4)),
        format!("taken in part: {}: probe_mode `3` {unprobed}", of(4)),
        format!("refused: {}: its weight is no number", of(5)),
        "refused: set 1: sip:127.0.2.1 is there twice".to_owned(),
    ];
    assert_eq!(told, wanted);
    let logged = node.logs().iter().filter(|(_, text)| text.contains("taken in part: ")).count();
    assert_eq!(logged, 5);
    let unknown = node.mi("dispatcher:refused", json!({"partition": "x"}));
    assert_eq!(unknown["error"]["message"], "ERROR Unknown partition");
    // Nobody reads the states of a table that keeps none.
    let mut node =
        node_with(&format!("{URL}{}", set("persistent_state", "0")), ROUTE, rows).unwrap();
    let told = node.mi("dispatcher:refused", json!({"partition": "default"}));
    let told = told["result"]["PARTITIONS"][0]["Rows"].to_string();
    assert!(!told.contains("state `") && told.contains("priority `high`"), "{told}");
}

/// Looking for a row among all others takes minutes here.
pub(crate) fn many() {
    let rows = |db: &mut MemoryDb| {
        for n in 0..50_000 {
            destination(db, 1, &format!("sip:u{n}@127.0.2.1"), &[]);
        }
    };
    let mut node = node_with(URL, ROUTE, rows).unwrap();
    assert_eq!(node.mi("dispatcher:reload", Json::Null)["result"], "OK");
    let told = node.mi("dispatcher:refused", Json::Null)["result"]["PARTITIONS"][0].clone();
    assert_eq!(told["Destinations"], 50_000);
}

/// Weights of a set whose first destination is a FreeSWITCH with a quarter of its sessions in use
/// and half of its processor.
fn told(params: &str) -> (Vec<i64>, Vec<i64>) {
    let all = format!("{URL}{}{params}", set("fetch_freeswitch_stats", "1"));
    let mut node = node_with(&all, ROUTE, |db| {
        destination(db, 1, "sip:127.0.2.1", &[("weight", "fs://:pw@10.0.0.1".into())]);
        destination(db, 1, "sip:127.0.2.2", &[("weight", "5".into())]);
    })
    .unwrap();
    let weights = |node: &mut TestNode| {
        let list = node.mi("ds_list", json!({"full": 1}));
        let all = list["result"]["PARTITIONS"][0]["SETS"][0]["Destinations"].clone();
        all.as_array().unwrap().iter().map(|row| row["weight"].as_i64().unwrap()).collect()
    };
    let before = weights(&mut node);
    let (token, _) = node.clients[0].clone();
    let body = "Event-Name: HEARTBEAT\nSession-Count: 250\nMax-Sessions: 1000\nIdle-CPU: 50\n";
    let text = format!(
        "Content-Type: auth/request\n\nContent-Type: command/reply\nReply-Text: +OK\n\n\
         Content-Type: command/reply\nReply-Text: +OK\n\n\
         Content-Type: text/event-plain\nContent-Length: {}\n\n{body}",
        body.len()
    );
    let event = ClientEvent::Bytes(text.into());
    node.step(Input::Client(ClientNews { token, event }));
    (before, weights(&mut node))
}

pub(crate) fn freeswitch() {
    assert_eq!(told(""), (vec![100, 5], vec![38, 5]));
    assert_eq!(told(&set("max_freeswitch_weight", "50")), (vec![50, 5], vec![19, 5]));
    let with = |name: &str, value: &str| node(&format!("{URL}{}", set(name, value)), ROUTE);
    assert!(with("fetch_freeswitch_stats", "0").is_ok());
    assert!(with("max_freeswitch_weight", "-1").is_err());
    // Without it, who would tell?
    let lines = format!("{URL}{}route {{ exit; }}", set("fetch_freeswitch_stats", "1"));
    let script = format!("{LINES}{lines}").replace("loadmodule \"freeswitch.so\"\n", "");
    let why = TestNode::try_new(&script, MODULES).err().unwrap();
    assert!(why.contains("module dispatcher needs module freeswitch"), "{why}");
    let script = script.replace("stats\", 1", "stats\", 0");
    assert!(TestNode::try_new(&script, MODULES).is_ok(), "0 needs nobody");
}
