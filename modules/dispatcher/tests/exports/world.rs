//! A node with sets of destinations.

use tandem_db::memory::MemoryDb;
use tandem_db::{Query, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::module::ModuleDef;
use tandem_engine::testing::TestNode;

pub(crate) const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_proto_bin::MODULE,
        &tandem_db_sqlite::MODULE,
        &tandem_clusterer::MODULE,
        &tandem_sl::MODULE,
        &tandem_tm::MODULE,
        &tandem_freeswitch::MODULE,
        &tandem_dispatcher::MODULE,
    ];
    ALL
};
pub(crate) const LINES: &str = "socket=udp:127.0.0.1:5060\nsocket=udp:127.0.0.1:5070\n\
     loadmodule \"proto_udp.so\"\nloadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\n\
     loadmodule \"tm.so\"\nloadmodule \"freeswitch.so\"\nloadmodule \"dispatcher.so\"\n";
pub(crate) const URL: &str = "modparam(\"dispatcher\", \"db_url\", \"sqlite:///tmp/x.db\")\n";

pub(crate) fn set(name: &str, value: &str) -> String {
    match value.parse::<i64>() {
        Ok(_) => format!("modparam(\"dispatcher\", \"{name}\", {value})\n"),
        Err(_) => format!("modparam(\"dispatcher\", \"{name}\", \"{value}\")\n"),
    }
}

pub(crate) fn destination(db: &mut MemoryDb, set: i64, uri: &str, more: &[(&str, Value)]) {
    let mut row: Vec<(tandem_db::Name, Value)> =
        vec![("setid".into(), set.into()), ("destination".into(), uri.into())];
    row.extend(more.iter().map(|(name, value)| ((*name).to_owned().into(), value.clone())));
    db.execute(&Query::Insert { table: "dispatcher".into(), row }).unwrap();
}

/// Set 1: three of equal weight, in order a, b, c. Set 2: one on a socket of its own.
pub(crate) fn fill(db: &mut MemoryDb) {
    let a = [("priority", 9.into()), ("attrs", "first".into()), ("description", "A".into())];
    destination(db, 1, "sip:127.0.2.2", &[("priority", 5.into()), ("probe_mode", 0.into())]);
    destination(db, 1, "sip:127.0.2.1:5080", &a);
    destination(db, 1, "sip:127.0.2.3", &[]);
    destination(db, 2, "sip:127.0.2.4", &[("socket", "udp:127.0.0.1:5070".into())]);
}

pub(crate) fn node_with(
    params: &str,
    routes: &str,
    fill: impl FnOnce(&mut MemoryDb),
) -> Result<TestNode, String> {
    TestNode::with_database(&format!("{LINES}{params}{routes}"), MODULES, fill)
}

pub(crate) fn node(params: &str, routes: &str) -> Result<TestNode, String> {
    node_with(params, routes, fill)
}

pub(crate) fn request(call_id: &str, more: &str) -> String {
    format!(
        "OPTIONS sip:u@here.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK{call_id}\n\
         From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: {call_id}\n\
         CSeq: 1 OPTIONS\n{more}Content-Length: 0\n\n"
    )
}

/// What a script says, line by line.
pub(crate) fn said(node: &mut TestNode) -> Vec<String> {
    let said = node.logs().into_iter();
    said.filter_map(|(_, text)| text.strip_prefix("# ").map(str::to_owned)).collect()
}

/// What a script says after some code.
pub(crate) fn tells(params: &str, code: &str, text: &str) -> String {
    let route = format!("route {{ {code} xlog(\"L_NOTICE\", \"# {text}\"); }}");
    let mut node = node(&format!("{URL}{params}"), &route).unwrap();
    node.udp("127.0.0.9:5060", &request("c", ""));
    said(&mut node).pop().unwrap()
}

/// The states of the destinations of set 1, in order.
pub(crate) fn states(answer: &serde_json::Value) -> Vec<String> {
    let set = answer["result"]["PARTITIONS"][0]["SETS"][0]["Destinations"].clone();
    let all = set.as_array().unwrap().iter();
    all.map(|row| row["state"].as_str().unwrap().to_owned()).collect()
}
