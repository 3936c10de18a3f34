//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

#[path = "../../pua_dialoginfo/tests/common/mod.rs"]
mod common;

use common::*;
use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Select, Value};
use tandem_engine::testing::evidence::note;
use tandem_engine::testing::{Nodes, TestNode, cover};

const SET: &str = "dialoginfo_set();";
const NOW_S: i64 = 1_800_000_000;

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_pua::MODULE,
        &[
            ("param hash_size", there_is_no_table_to_size),
            ("param db_url", records_outlive_a_restart),
            ("param db_table", records_are_in_the_table_of_that_name),
            ("param min_expires", short_times_are_not_asked_for),
            ("param default_expires", what_has_no_end_is_asked_for_in_steps),
            ("param update_period", records_are_refreshed_before_their_end),
            ("param cluster_id", another_node_ends_what_this_one_began),
            ("param cluster_sharing_tag", the_holder_of_the_tag_refreshes),
            ("function pua_update_contact", a_subscription_follows_its_other_side),
        ],
    );
}

fn there_is_no_table_to_size() {
    let row = tandem_pua::MODULE.params.iter().find(|p| p.name == "hash_size").unwrap();
    assert!(row.moot.is_some());
    note("hash_size");
    assert!(TestNode::try_new(&script(&set("pua", "hash_size", "11"), SET), MODULES).is_ok());
}

fn rows(db: &mut MemoryDb, table: &'static str) -> usize {
    let all = Select { table: table.into(), ..Select::default() };
    db.execute(&Query::Select(all)).unwrap().rows.len()
}

const DB: &str = "modparam(\"pua\", \"db_url\", \"sqlite:///pua\")\n";

/// A node with a call that rings and is published.
fn ringing(params: &str) -> (TestNode, Server, Phones) {
    let (mut node, mut server) = (node(params, SET), Server { most: 600, ..Server::default() });
    let phones = Phones::dial(&mut node, "c1");
    node.udp(CALLEE, &phones.reply(180));
    assert_eq!(states(&server.serve(&mut node)), both("early"));
    (node, server, phones)
}

fn records_outlive_a_restart() {
    let (mut node, _, _) = ringing(DB);
    assert_eq!(rows(&mut node.db, "pua"), 0);
    node.advance_ms(101_000);
    assert_eq!(rows(&mut node.db, "pua"), 2);
    let db = std::mem::replace(&mut node.db, MemoryDb::new(0));
    let mut node = node_with(DB, SET, |empty| *empty = db);
    // Whoever starts goes on with the ETags that it finds.
    node.advance_ms(590_000);
    let all = Server::default().serve(&mut node);
    let mut etags: Vec<_> = all.iter().map(|p| p.header("SIP-If-Match").to_owned()).collect();
    etags.sort();
    etags.dedup();
    assert_eq!(etags, ["e1", "e2"]);
    let (mut node, _, _) = ringing("");
    node.advance_ms(101_000);
    assert_eq!(rows(&mut node.db, "pua"), 0);
}

fn records_are_in_the_table_of_that_name() {
    let mut other = tandem_db::schema::table("pua").unwrap().clone();
    other.name = "lamps".into();
    let params = format!("{DB}{}", set("pua", "db_table", "\"lamps\""));
    let mut node = node_with(&params, SET, |db| db.create(&other));
    let phones = Phones::dial(&mut node, "c1");
    node.udp(CALLEE, &phones.reply(180));
    Server::default().serve(&mut node);
    node.advance_ms(101_000);
    assert_eq!((rows(&mut node.db, "lamps"), rows(&mut node.db, "pua")), (2, 0));
    let wrong = script(&set("pua", "db_table", "\"a b\""), SET);
    assert!(TestNode::try_new(&wrong, MODULES).is_err());
}

fn short_times_are_not_asked_for() {
    let expires = |params: &str| {
        let mut node = node(params, "$DLG_timeout = 60; dialoginfo_set();");
        let phones = Phones::dial(&mut node, "c1");
        node.udp(CALLEE, &phones.reply(180));
        Server::default().serve(&mut node)[0].header("Expires").to_owned()
    };
    assert_eq!(expires(""), "300");
    assert_eq!(expires(&set("pua", "min_expires", "10")), "60");
}

/// A row of a publication.
fn row(expires_s: i64, desired_s: i64) -> impl Fn(&mut MemoryDb) {
    move |db| {
        let row = vec![
            ("pres_uri".into(), Value::from("sip:row@a.test")),
            ("pres_id".into(), Value::from("call.0")),
            ("event".into(), Value::Int(64)),
            ("flag".into(), Value::Int(1024)),
            ("etag".into(), Value::from("e9")),
            ("expires".into(), Value::Int(NOW_S + expires_s)),
            ("desired_expires".into(), Value::Int(desired_s)),
        ];
        db.execute(&Query::Insert { table: "pua".into(), row }).unwrap();
    }
}

/// Seconds after which a row is refreshed for the first time, and the Expires of that.
fn refreshed(params: &str, desired_s: i64) -> Option<(i64, String)> {
    let mut node = node_with(&format!("{DB}{params}"), SET, row(600, desired_s));
    (1..700).find_map(|second| {
        node.advance_ms(1000);
        let all = Server::default().serve(&mut node);
        let first = all.first()?;
        assert_eq!((first.header("SIP-If-Match"), &*first.state), ("e9", ""));
        Some((second, first.header("Expires").to_owned()))
    })
}

fn what_has_no_end_is_asked_for_in_steps() {
    let expires = |params: &str| refreshed(params, 0).unwrap().1;
    assert_eq!(expires(""), "3600");
    assert_eq!(expires(&set("pua", "default_expires", "900")), "900");
}

fn records_are_refreshed_before_their_end() {
    let at = |params: &str| refreshed(params, 0).map(|(second, _)| second);
    assert!(at("").is_some_and(|s| (500..504).contains(&s)), "{:?}", at(""));
    let early = at(&set("pua", "update_period", "200"));
    assert!(early.is_some_and(|s| (400..404).contains(&s)), "{early:?}");
    assert_eq!(at(&set("pua", "update_period", "0")), None);
}

/// The script of one of two nodes.
fn clustered(id: u32, params: &str) -> String {
    let other = 3 - id;
    let (seed, tag) = if id == 1 { (", flags=seed", "active") } else { ("", "backup") };
    let head = format!(
        "log_level = 3\nsocket = udp:127.0.9.1:5060\nsocket = bin:127.0.1.{id}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\nloadmodule \"clusterer.so\"\n\
         loadmodule \"sl.so\"\nloadmodule \"tm.so\"\nloadmodule \"rr.so\"\n\
         loadmodule \"sipmsgops.so\"\nloadmodule \"db_sqlite.so\"\nloadmodule \"dialog.so\"\n\
         loadmodule \"pua.so\"\nloadmodule \"pua_dialoginfo.so\"\n\
         modparam(\"pua_dialoginfo\", \"presence_server\", \"sip:127.0.0.5:5070\")\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \
         \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"vip/1={tag}\")\n\
         modparam(\"dialog\", \"dialog_replication_cluster\", 1)\n"
    );
    let initial = "create_dialog(); set_dlg_sharing_tag(\"vip\"); dialoginfo_set();";
    format!("{head}{params}\n{}", routes(initial, ""))
}

/// Two nodes, with a call over the first that was answered and published.
fn pair(params: &str) -> (Nodes, Server, Phones) {
    let scripts = vec![clustered(1, params), clustered(2, params)];
    let mut nodes = Nodes::new(MODULES, scripts);
    nodes.advance_ms(12_000);
    let mut server = Server { most: 400, ..Server::default() };
    nodes.datagrams.clear();
    nodes.udp(0, CALLER, &Phones::request("c1"));
    let sent = nodes.datagrams.drain(..).map(|(.., text)| text).collect();
    let phones = Phones::of("c1", sent);
    nodes.udp(0, CALLEE, &phones.reply(200));
    nodes.udp(0, CALLER, &phones.within("ACK", 7));
    assert_eq!(serve(&mut nodes, &mut server).len(), 2);
    nodes.advance_ms(200);
    (nodes, server, phones)
}

/// Takes what the nodes have published, with who did it, and answers it.
fn serve(nodes: &mut Nodes, server: &mut Server) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    loop {
        let sent: Vec<_> = nodes.datagrams.drain(..).collect();
        let mine = sent.into_iter().filter(|(.., text)| text.starts_with("PUBLISH "));
        let mine: Vec<_> = mine.collect();
        if mine.is_empty() {
            return all;
        }
        for (at, _, text) in mine {
            let reply = server.answer(&text);
            all.push((at, text));
            nodes.udp(at, SERVER, &reply);
        }
    }
}

fn another_node_ends_what_this_one_began() {
    let ended = |params: &str| {
        let (mut nodes, mut server, phones) = pair(params);
        nodes.kill(0);
        nodes.mi(1, "clusterer:shtag_set_active", serde_json::json!(["vip/1"]));
        nodes.advance_ms(300);
        nodes.udp(1, CALLER, &phones.within("BYE", 8));
        let all = serve(&mut nodes, &mut server);
        let mut etags: Vec<_> = all
            .into_iter()
            .inspect(|(at, text)| assert!(*at == 1 && text.contains("terminated"), "{text}"))
            .map(|(_, text)| header(&text, "SIP-If-Match").to_owned())
            .collect();
        etags.sort();
        etags
    };
    assert_eq!(ended(&set("pua", "cluster_id", "1")), ["e1", "e2"]);
    // Without the records of the other it is said all the same, as news.
    assert_eq!(ended(""), ["", ""]);
}

fn the_holder_of_the_tag_refreshes() {
    let params = set("pua", "cluster_id", "1") + &set("pua", "cluster_sharing_tag", "\"vip\"");
    let (mut nodes, mut server, _) = pair(&params);
    let refreshed_by = |nodes: &mut Nodes, server: &mut Server| {
        nodes.advance_ms(310_000);
        let mut all: Vec<_> = serve(nodes, server).into_iter().map(|(at, _)| at).collect();
        all.dedup();
        all
    };
    assert_eq!(refreshed_by(&mut nodes, &mut server), [0]);
    nodes.mi(1, "clusterer:shtag_set_active", serde_json::json!(["vip/1"]));
    nodes.advance_ms(300);
    assert_eq!(refreshed_by(&mut nodes, &mut server), [1]);
    let alone = script(&set("pua", "cluster_sharing_tag", "\"vip\""), SET);
    assert!(TestNode::try_new(&alone, MODULES).is_err());
}

fn a_subscription_follows_its_other_side() {
    let fill = |db: &mut MemoryDb| {
        let text = |name: &'static str, value: &str| (name.into(), Value::from(value));
        let row = vec![
            text("pres_uri", "sip:bob@127.0.0.5:5070"),
            text("pres_id", "s"),
            ("event".into(), Value::Int(1)),
            ("flag".into(), Value::Int(256)),
            ("expires".into(), Value::Int(NOW_S + 600)),
            ("desired_expires".into(), Value::Int(0)),
            text("watcher_uri", "sip:me@a.test"),
            text("to_uri", "sip:bob@127.0.0.5:5070"),
            text("call_id", "sub1"),
            text("to_tag", "ps"),
            text("from_tag", "me"),
            ("cseq".into(), Value::Int(11)),
            text("contact", "sip:me@127.0.0.1:5060"),
            text("remote_contact", "sip:127.0.0.5:5070"),
        ];
        db.execute(&Query::Insert { table: "pua".into(), row }).unwrap();
    };
    let routes = "route { if (pua_update_contact()) xlog(\"L_NOTICE\", \"#yes\"); \
                  else xlog(\"L_NOTICE\", \"#no\"); }";
    let text = format!("{MODULE_LINES}{DB}\n{routes}\n");
    let mut node = TestNode::with_database(&text, MODULES, fill).unwrap();
    let notify = |to_tag: &str, contact: &str| {
        format!(
            "NOTIFY sip:me@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.5:5070;branch=z9hG4bK1\n\
             From: <sip:bob@127.0.0.5:5070>;tag=ps\nTo: <sip:me@a.test>;tag={to_tag}\n\
             Call-ID: sub1\nCSeq: 1 NOTIFY\nContact: <{contact}>\nContent-Length: 0\n\n"
        )
    };
    node.udp(SERVER, &notify("other", "sip:127.0.0.7:5070"));
    node.udp(SERVER, &notify("me", "sip:127.0.0.6:5070"));
    let said: Vec<_> = node.logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(said, ["#no", "#yes"]);
    node.sent();
    node.advance_ms(510_000);
    let (to, subscribe) = node.sent().into_iter().next().unwrap();
    assert_eq!(to.to_string(), "127.0.0.6:5070");
    assert!(subscribe.starts_with("SUBSCRIBE sip:127.0.0.6:5070 "), "{subscribe}");
    assert_eq!(header(&subscribe, "CSeq"), "12 SUBSCRIBE");
    assert_eq!(header(&subscribe, "To"), "<sip:bob@127.0.0.5:5070>;tag=ps");
    // A dialog that the server has forgotten is begun anew.
    node.udp("127.0.0.6:5070", &reply_to(&subscribe, 481, "ps", ""));
    let (_, again) = node.sent().into_iter().next().unwrap();
    assert_ne!(header(&again, "Call-ID"), "sub1");
    assert_eq!(header(&again, "To"), "<sip:bob@127.0.0.5:5070>");
}
