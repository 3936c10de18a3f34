//! Rules from MariaDB and PostgreSQL: read, read again, refused, and states written back.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tandem_db::{Cond, Query, Select, Value};
use tandem_tests::routes::{Router, at, gateway, row, rule};
use tandem_tests::{DbServer, Kind, PATIENCE, Phone, Site, program, wait_until};

const DATABASE: &str = "opensips";
/// More than one page.
const RULES: usize = 12_000;

fn state_of(server: &DbServer, id: &str) -> Option<i64> {
    let select = Select {
        table: "dr_gateways".into(),
        columns: vec!["state".into()],
        conds: vec![Cond::eq("gwid", id)],
        ..Select::default()
    };
    let rows = server.ask(DATABASE, Query::Select(select)).ok()?;
    rows.rows.first()?.first()?.as_int()
}

fn fill(server: &DbServer, site: &Site) {
    let rows = [
        gateway("dead", &at(site.net.ip(21)), 1),
        gateway("live", &at(site.net.ip(22)), 0),
        row("dr_carriers", &[("carrierid", "c".into()), ("gwlist", "dead,live".into())]),
        rule("40", "#c"),
        rule("41", "nosuch"),
    ];
    for row in rows {
        server.ask(DATABASE, row).unwrap();
    }
    let columns = ["groupid", "prefix", "timerec", "gwlist", "attrs"].map(Into::into).to_vec();
    let many = (0..RULES).map(|n| {
        let prefix = Value::Str(format!("5{n:05}"));
        vec!["1,2".into(), prefix, Value::Null, "live".into(), Value::Null]
    });
    let many = Query::InsertRows { table: "dr_rules".into(), columns, rows: many.collect() };
    server.ask(DATABASE, many).unwrap();
}

fn story(test: &str, kind: Kind) {
    let site = Site::bare(test);
    let Some(mut server) = DbServer::start(&site, kind) else { return };
    let url = server.url(DATABASE);
    let args = ["ctl", "--db", &url, "db", "create", "drouting"];
    assert!(Command::new(program()).args(args).status().unwrap().success());
    fill(&server, &site);
    let router = Router { url, ..Router::new(&site, 1) };
    let mut node = router.start(&site);
    let live = Phone::new("live", (site.net.ip(22), 5060));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let call = alice.call(router.sip(&site), "40123");
    assert_eq!(live.requests("INVITE", &call.call_id).len(), 1);
    let told = router.mi(&site, "drouting:refused", Json::Null)["result"].clone();
    assert_eq!((&told["Rules"], &told["Refused"]), (&json!(RULES + 1), &json!(1)), "{told}");
    let explain = |number: &str| {
        let args = json!({"number": number, "group_id": 2});
        router.mi(&site, "drouting:explain", args)["result"]["Result"].clone()
    };
    assert!(explain("511999").as_str().unwrap().ends_with("by gateway live"));

    // States go into the table, and rules come out of it.
    wait_until("the state is written", PATIENCE, || state_of(&server, "dead") == Some(2));
    server.ask(DATABASE, rule("6", "live")).unwrap();
    assert_eq!(router.mi(&site, "drouting:reload", Json::Null)["result"], "OK");
    let told = router.mi(&site, "drouting:refused", Json::Null);
    assert_eq!(told["result"]["Rules"], RULES + 2);
    assert_eq!(router.state(&site, "dead"), "Probing");

    // Without the server the tables stay as they are.
    server.kill();
    let answer = router.mi(&site, "drouting:reload", Json::Null);
    assert_eq!(answer["error"]["message"], "Failed to reload", "{answer}");
    let call = alice.call(router.sip(&site), "6");
    assert_eq!(live.requests("INVITE", &call.call_id).len(), 1);
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
}

#[test]
fn rules_come_from_mariadb() {
    story("routing-mariadb", Kind::MariaDb);
}

#[test]
fn rules_come_from_postgresql() {
    story("routing-postgresql", Kind::Postgres);
}
