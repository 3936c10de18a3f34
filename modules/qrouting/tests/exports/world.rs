//! A node that routes to two gateways by a rule that is sorted by quality, with calls.

use serde_json::{Value as Json, json};
use tandem_db::memory::MemoryDb;
use tandem_db::{Cond, Query, Value};
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::testing::TestNode;

pub(crate) static MODULES: Modules = &[
    &CORE,
    &tandem_proto_udp::MODULE,
    &tandem_db_sqlite::MODULE,
    &tandem_sl::MODULE,
    &tandem_tm::MODULE,
    &tandem_rr::MODULE,
    &tandem_sipmsgops::MODULE,
    &tandem_dialog::MODULE,
    &tandem_drouting::MODULE,
    &tandem_qrouting::MODULE,
];

pub(crate) const DRURL: &str = "modparam(\"drouting\", \"db_url\", \"sqlite:///tmp/x.db\")\n";
pub(crate) const URL: &str = "modparam(\"qrouting\", \"db_url\", \"sqlite:///tmp/x.db\")\n";
pub(crate) const CALLER: &str = "127.0.0.9:5060";

pub(crate) fn set(name: &str, value: &str) -> String {
    match value.parse::<i64>() {
        Ok(_) => format!("modparam(\"qrouting\", \"{name}\", {value})\n"),
        Err(_) => format!("modparam(\"qrouting\", \"{name}\", \"{value}\")\n"),
    }
}

/// One call is bad as soon as there is one; the best comes first.
pub(crate) fn strict(stat: &str) -> String {
    set(&format!("min_samples_{stat}"), "1") + &set("algorithm", "best-dest-first")
}

pub(crate) fn insert(db: &mut MemoryDb, table: &'static str, row: &[(&'static str, Value)]) {
    let row = row.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    db.execute(&Query::Insert { table: table.into(), row }).unwrap();
}

/// The limits of the profile.
pub(crate) fn limit(db: &mut MemoryDb, column: &'static str, value: f64) {
    let set = vec![(column.into(), Value::Float(value))];
    let conds = vec![Cond::eq("id", 1)];
    db.execute(&Query::Update { table: "qr_profiles".into(), set, conds }).unwrap();
}

pub(crate) fn fill(db: &mut MemoryDb) {
    for (id, address) in [("gw1", "127.0.1.21"), ("gw2", "127.0.1.22")] {
        let row = [("gwid", id.into()), ("type", 1.into()), ("address", address.into())];
        insert(db, "dr_gateways", &row);
    }
    let carrier = [("carrierid", "c1".into()), ("gwlist", "gw1,gw2".into())];
    insert(db, "dr_carriers", &carrier);
    let rule = |prefix: &str, list: &str, sort: &str| {
        [
            ("groupid", Value::from("0")),
            ("prefix", prefix.into()),
            ("gwlist", list.into()),
            ("sort_alg", sort.into()),
            ("sort_profile", 1.into()),
        ]
    };
    insert(db, "dr_rules", &rule("40", "gw1=10,gw2=10", "Q"));
    insert(db, "dr_rules", &rule("41", "#c1,gw2", "Q"));
    insert(db, "dr_rules", &rule("42", "gw1,gw2", "N"));
    insert(db, "qr_profiles", &[("profile_name", "strict".into())]);
    for column in ["warn_threshold_pdd", "warn_threshold_ast"] {
        limit(db, column, 500.0);
    }
    for column in ["warn_threshold_asr", "warn_threshold_ccr"] {
        limit(db, column, 0.9);
    }
    limit(db, "warn_threshold_acd", 100.0);
}

pub(crate) fn script(params: &str, routes: &str) -> String {
    let modules = ["proto_udp", "db_sqlite", "sl", "tm", "rr", "sipmsgops", "dialog"];
    let modules = modules.iter().chain(&["drouting", "qrouting"]);
    let modules: String = modules.map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    format!(
        "socket=udp:127.0.0.1:5060\nlog_level=3\n{modules}{DRURL}{params}\n\
         route {{ if (has_totag()) {{ loose_route(); t_relay(); exit; }}\n\
         record_route();\n\
         if (!do_routing(0)) {{ sl_send_reply(503, \"No\"); exit; }}\n\
         t_on_failure(\"next\"); t_relay(); }}\n\
         failure_route[next] {{ if (use_next_gw()) {{ t_on_failure(\"next\"); t_relay(); }} }}\n\
         event_route[E_QROUTING_BAD_DST] {{ xlog(\"L_NOTICE\", \
         \"# $param(partition) $param(rule_id) $param(dst_name)\"); }}\n{routes}"
    )
}

pub(crate) fn node_with(params: &str, fill: impl FnOnce(&mut MemoryDb)) -> TestNode {
    TestNode::with_database(&script(&format!("{URL}{params}"), ""), MODULES, fill).unwrap()
}

pub(crate) fn node(params: &str) -> TestNode {
    node_with(params, fill)
}

pub(crate) fn request(method: &str, uri: &str, call: &str, extra: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK{method}{call}\n\
         Max-Forwards: 70\nFrom: <sip:alice@h>;tag=f\nTo: <sip:bob@h>{extra}\nCall-ID: {call}\n\
         CSeq: 1 {method}\nContent-Length: 0\n\n"
    )
}

/// A reply to a request as it was forwarded.
pub(crate) fn reply(request: &str, code: u16) -> String {
    let mut out = format!("SIP/2.0 {code} Text\n");
    for line in request.lines() {
        match line.split(':').next().unwrap_or_default() {
            "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => out += &format!("{line}\n"),
            "To" if line.contains("tag=") => out += &format!("{line}\n"),
            "To" => out += &format!("{line};tag=t\n"),
            _ => {}
        }
    }
    out + "Contact: <sip:gw@127.0.1.21>\nContent-Length: 0\n\n"
}

/// The last INVITE that went out, and the address it went to.
pub(crate) fn invite(node: &mut TestNode) -> Option<(String, String)> {
    let sent = node.sent().into_iter().rev();
    let mut sent = sent.filter(|(_, text)| text.starts_with("INVITE"));
    sent.next().map(|(to, text)| (to.to_string(), text))
}

/// Begins a call; the gateway that it goes to.
pub(crate) fn begin(node: &mut TestNode, number: &str, call: &str) -> (String, String) {
    node.udp(CALLER, &request("INVITE", &format!("sip:{number}@h"), call, ""));
    invite(node).unwrap_or_else(|| panic!("no INVITE: {:?}", node.logs()))
}

/// A call that rings after a second, is answered after another and ends after a third; the gateway
/// that it went to.
pub(crate) fn slow_call(node: &mut TestNode, number: &str, call: &str) -> String {
    let (to, invite) = begin(node, number, call);
    node.advance_ms(1_000);
    node.udp(&to, &reply(&invite, 180));
    node.advance_ms(1_000);
    node.udp(&to, &reply(&invite, 200));
    node.advance_ms(1_000);
    node.udp(CALLER, &bye(call, "BYE", &invite));
    node.advance_ms(100);
    to
}

fn bye(call: &str, method: &str, invite: &str) -> String {
    let routes: Vec<&str> =
        invite.lines().filter_map(|line| line.strip_prefix("Record-Route: ")).collect();
    let text = request(method, "sip:gw@127.0.1.21", call, ";tag=t");
    text.replace("Max-Forwards", &format!("Route: {}\nMax-Forwards", routes.join(", ")))
}

/// A call that is refused everywhere; the gateways in order.
pub(crate) fn refused_call(
    node: &mut TestNode,
    number: &str,
    call: &str,
    code: u16,
) -> Vec<String> {
    let (mut to, mut text) = begin(node, number, call);
    let mut all = vec![to.clone()];
    loop {
        node.udp(&to, &reply(&text, code));
        let Some(next) = invite(node) else { return all };
        (to, text) = next;
        all.push(to.clone());
    }
}

/// What is told of a gateway in rule 1.
pub(crate) fn told(node: &mut TestNode, gateway: &str, name: &str) -> String {
    let args = json!({"partition": "Default", "rule_id": 1, "dst_name": gateway});
    let answer = node.mi("qrouting:status", args);
    let rule = &answer["result"]["Partitions"][0]["Rules"][0];
    let row: &Json = &rule["Destinations"][0]["Gateway"];
    assert_eq!(row["GWID"], gateway, "{answer}");
    row[name].as_str().unwrap_or("absent").to_owned()
}
