//! Tables that outlive a restart.

use serde_json::{Value as Json, json};
use tandem_db::{Query, Value};
use tandem_engine::testing::{DbState, TestNode};

use crate::world::{LINES, MODULES, URL, insert, node, node_with, request, said, set};

const ROUTE: &str = "route { do_routing(0); xlog(\"L_NOTICE\", \"# $rc $ru\"); }";

fn routed(node: &mut TestNode) -> String {
    node.udp("127.0.0.9:5060", &request("sip:4012345@here.test"));
    said(node).pop().unwrap_or_default()
}

pub(crate) fn restart() {
    let keeps = format!("{URL}{}", set("enable_restart_persistency", "1"));
    let away = |params: &str| {
        let node = node(params, ROUTE).unwrap();
        let mut node = node.after_restart_with(1_000, DbState::Slow);
        routed(&mut node)
    };
    assert_eq!(away(&keeps), "1 sip:9912345@127.0.1.21:5060");
    assert_eq!(away(URL), "", "a request waits for the tables");

    // What the database says counts as soon as it can be read; if it cannot, the file stays.
    let mut first = node(&keeps, ROUTE).unwrap();
    let update = Query::Update {
        table: "dr_gateways".into(),
        set: vec![("address".into(), Value::Str("127.0.1.99".into()))],
        conds: Vec::new(),
    };
    first.db.execute(&update).unwrap();
    let mut later = first.after_restart_with(1_000, DbState::Slow);
    assert_eq!(routed(&mut later), "1 sip:9912345@127.0.1.21:5060", "before the answer");
    assert!(later.fatal().is_none());
    later.db_state = DbState::Up;
    while later.answer_queries() > 0 {}
    assert_eq!(routed(&mut later), "1 sip:9912345@127.0.1.99");
    let mut away = later.after_restart_with(1_000, DbState::Down);
    assert!(away.fatal().is_none());
    let words: Vec<String> = away.logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(routed(&mut away), "1 sip:9912345@127.0.1.99");
    assert!(words.iter().any(|w| w.contains("partition Default:")), "{words:?}");

    // States are those of before the restart, too.
    let mut first = node(&keeps, ROUTE).unwrap();
    first.mi("drouting:gw_status", json!({"gw_id": "gw1", "status": 0}));
    let mut later = first.after_restart_with(1_000, DbState::Down);
    assert_eq!(routed(&mut later), "1 sip:4012345@127.0.1.22");

    // A file that is no whole one is none.
    let mut broken = node(&keeps, ROUTE).unwrap();
    broken.write_file("drouting-Default-noname", "x");
    assert_eq!(broken.mi("drouting:reload", Json::Null)["result"], "OK");
    assert_eq!(routed(&mut broken), "1 sip:9912345@127.0.1.21:5060");
}

pub(crate) fn partitions() {
    let params = format!(
        "{}{}{}",
        set("use_partitions", "1"),
        set("db_partitions_url", "sqlite:///tmp/x.db"),
        set("enable_restart_persistency", "1")
    );
    let route = "route { do_routing(0, , , , , , \"west\"); xlog(\"L_NOTICE\", \"# $rc $ru\"); }";
    let mut node = node_with(&params, route, |db| {
        crate::world::fill(db);
        let row = vec![("partition_name", "west".into()), ("db_url", "sqlite:///tmp/x.db".into())];
        insert(db, "dr_partitions", row);
    })
    .unwrap_or_else(|e| panic!("{LINES} {} {e}", MODULES.len()));
    assert_eq!(routed(&mut node), "1 sip:9912345@127.0.1.21:5060");
    let mut away = node.after_restart_with(1_000, DbState::Down);
    assert!(away.fatal().is_none());
    assert_eq!(routed(&mut away), "1 sip:9912345@127.0.1.21:5060");
    let told = away.mi("drouting:refused", json!({"partition_name": "west"}));
    assert_eq!(told["result"]["Rules"], 6);
}
