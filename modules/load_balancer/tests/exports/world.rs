//! A node with destinations.

use serde_json::{Value as Json, json};
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
        &tandem_rr::MODULE,
        &tandem_sipmsgops::MODULE,
        &tandem_dialog::MODULE,
        &tandem_freeswitch::MODULE,
        &tandem_load_balancer::MODULE,
    ];
    ALL
};
pub(crate) const LINES: &str = "socket=udp:127.0.0.1:5060\n\
     loadmodule \"proto_udp.so\"\nloadmodule \"db_sqlite.so\"\nloadmodule \"sl.so\"\n\
     loadmodule \"tm.so\"\nloadmodule \"rr.so\"\n\
     loadmodule \"sipmsgops.so\"\nloadmodule \"dialog.so\"\n\
     loadmodule \"freeswitch.so\"\n\
     loadmodule \"load_balancer.so\"\n";
pub(crate) const URL: &str = "modparam(\"load_balancer\", \"db_url\", \"sqlite:///tmp/x.db\")\n";
pub(crate) const URIS: [&str; 4] =
    ["sip:127.0.2.1:5080", "sip:127.0.2.2", "sip:127.0.2.3", "sip:127.0.2.4"];

pub(crate) fn set(name: &str, value: &str) -> String {
    match value.parse::<i64>() {
        Ok(_) => format!("modparam(\"load_balancer\", \"{name}\", {value})\n"),
        Err(_) => format!("modparam(\"load_balancer\", \"{name}\", \"{value}\")\n"),
    }
}

pub(crate) fn destination(
    db: &mut MemoryDb,
    group: i64,
    uri: &str,
    resources: &str,
    (probe_mode, attrs): (i64, &str),
) {
    let row: Vec<(tandem_db::Name, Value)> = vec![
        ("group_id".into(), group.into()),
        ("dst_uri".into(), uri.into()),
        ("resources".into(), resources.into()),
        ("probe_mode".into(), probe_mode.into()),
        ("attrs".into(), attrs.into()),
    ];
    db.execute(&Query::Insert { table: "load_balancer".into(), row }).unwrap();
}

/// Group 1: three, never probed, while it is disabled, always. Group 2: one that is always probed.
pub(crate) fn fill(db: &mut MemoryDb) {
    destination(db, 1, URIS[0], "pstn=2;transcoding=1", (0, "first"));
    destination(db, 1, URIS[1], "pstn=10", (1, ""));
    destination(db, 1, URIS[2], "pstn=5; transcoding = 5", (2, "third"));
    destination(db, 2, URIS[3], "conf=1", (2, ""));
}

pub(crate) fn node_with(
    params: &str,
    routes: &str,
    fill: impl FnOnce(&mut MemoryDb),
) -> Result<TestNode, String> {
    TestNode::with_database(&format!("{LINES}{params}{routes}"), MODULES, fill)
}

pub(crate) fn node(params: &str, routes: &str) -> Result<TestNode, String> {
    node_with(&format!("{URL}{params}"), routes, fill)
}

pub(crate) fn invite(call_id: &str) -> String {
    format!(
        "INVITE sip:u@here.test SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bK{call_id}\n\
         From: <sip:f@from.test>;tag=f\nTo: <sip:a@to.test>\nCall-ID: {call_id}\n\
         CSeq: 1 INVITE\nContact: <sip:f@127.0.0.9>\nMax-Forwards: 70\nContent-Length: 0\n\n"
    )
}

pub(crate) fn call(node: &mut TestNode, call_id: &str) {
    node.udp("127.0.0.9:5060", &invite(call_id));
}

/// What a script says, line by line.
pub(crate) fn said(node: &mut TestNode) -> Vec<String> {
    let said = node.logs().into_iter();
    said.filter_map(|(_, text)| text.strip_prefix("# ").map(str::to_owned)).collect()
}

/// A route that says something after some code.
pub(crate) fn saying(code: &str, text: &str) -> String {
    format!("route {{ {code} xlog(\"L_NOTICE\", \"# {text}\"); }}")
}

/// What a script says after some code, for one call.
pub(crate) fn tells(code: &str, text: &str) -> String {
    let mut node = node("", &saying(code, text)).unwrap();
    call(&mut node, "c");
    said(&mut node).pop().unwrap()
}

pub(crate) fn destinations(node: &mut TestNode) -> Vec<Json> {
    node.mi("load_balancer:list", Json::Null)["result"]["Destinations"].as_array().unwrap().clone()
}

/// The loads of a resource, of the destinations that have it.
pub(crate) fn loads(node: &mut TestNode, name: &str) -> Vec<i64> {
    loads_in(&destinations(node), name)
}

pub(crate) fn loads_in(destinations: &[Json], name: &str) -> Vec<i64> {
    let resources = destinations.iter().flat_map(|d| d["Resources"].as_array().unwrap());
    let named = resources.filter(|resource| resource["name"] == json!(name));
    named.map(|resource| resource["load"].as_i64().unwrap()).collect()
}

/// Whether each destination is enabled.
pub(crate) fn enabled(node: &mut TestNode) -> Vec<String> {
    let all = destinations(node).into_iter();
    all.map(|row| row["enabled"].as_str().unwrap().to_owned()).collect()
}
