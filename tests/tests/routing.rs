//! Calls by number, on real processes with real gateways.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use rustix::process::Signal;
use serde_json::json;
use tandem_db::{Query, Value};
use tandem_tests::{PATIENCE, Phone, Process, Site, mi, program, wait_until};

fn row(table: &'static str, values: &[(&'static str, Value)]) -> Query {
    let row = values.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    Query::Insert { table: table.into(), row }
}

fn gateway(id: &str, address: String, probe_mode: i64) -> Query {
    let values = [
        ("gwid", id.into()),
        ("type", 1.into()),
        ("address", address.into()),
        ("probe_mode", probe_mode.into()),
    ];
    row("dr_gateways", &values)
}

/// A node that routes to a gateway where nobody listens, then to one that answers.
fn start(site: &Site) -> Process {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let modules = ["proto_udp", "db_sqlite", "sl", "tm", "rr", "sipmsgops", "mi_fifo", "drouting"];
    let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let text = format!(
        "socket=udp:{ip}:5060\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"tm\", \"fr_timeout\", 1)\n\
         modparam(\"drouting\", \"db_url\", \"sqlite://{dir}/tandem.sqlite\")\n\
         modparam(\"drouting\", \"probing_interval\", 1)\n\
         route {{\n\
         if (has_totag()) {{ loose_route(); t_relay(); exit; }}\n\
         if (is_method(\"CANCEL\")) {{ t_relay(); exit; }}\n\
         record_route();\n\
         if (!do_routing(0)) {{ sl_send_reply(503, \"No Gateway\"); exit; }}\n\
         t_on_failure(\"next\"); t_relay(); }}\n\
         failure_route[next] {{\n\
         if (t_check_status(\"408|5..\")) {{ dr_disable(); \
         if (use_next_gw()) {{ t_on_failure(\"next\"); t_relay(); }} }} }}\n"
    );
    let script = site.write("routing.cfg", &text).to_string_lossy().into_owned();
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), &["-F", "-f", &script], site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

#[test]
fn a_call_finds_the_gateway_that_lives_and_probes_bring_the_other_back() {
    let rule = |site: &Site| {
        [
            gateway("dead", format!("{}:5060", site.net.ip(21)), 1),
            gateway("live", format!("{}:5060", site.net.ip(22)), 0),
            row(
                "dr_rules",
                &[
                    ("groupid", "0".into()),
                    ("prefix", "40".into()),
                    ("timerec", "".into()),
                    ("gwlist", "dead,live".into()),
                ],
            ),
        ]
    };
    let site = Site::bare("routing");
    let rows = rule(&site);
    let site = site.filled(rows.to_vec());
    let mut node = start(&site);
    let (proxy, fifo) = ((site.net.ip(1), 5060).into(), site.dir().join("fifo"));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let live = Phone::new("live", (site.net.ip(22), 5060));
    let call = alice.call(proxy, "40123");
    let invite = live.requests("INVITE", &call.call_id);
    assert_eq!(invite.len(), 1);
    let state = || {
        let answer = mi(&fifo, "drouting:gw_status", json!({"gw_id": "dead"}));
        answer["result"]["State"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(state(), "Probing");
    // The next call does not wait for it.
    let second = alice.call(proxy, "40124");
    assert_eq!(live.requests("INVITE", &second.call_id).len(), 1);
    let back = Phone::new("dead", (site.net.ip(21), 5060));
    wait_until("a probe to find it alive", PATIENCE, || state() == "Active");
    let third = alice.call(proxy, "40125");
    assert_eq!(back.requests("INVITE", &third.call_id).len(), 1);
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
}
