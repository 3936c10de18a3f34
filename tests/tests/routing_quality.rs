//! Lists that are sorted by what calls were like, with real gateways.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;

use serde_json::json;
use tandem_tests::routes::{at, gateway, row};
use tandem_tests::{PATIENCE, Phone, Process, Site, mi, program};

/// Calls before a gateway is judged.
const SAMPLES: usize = 3;

fn start(site: &Site) -> Process {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let modules = ["proto_udp", "db_sqlite", "sl", "tm", "rr", "sipmsgops", "mi_fifo", "dialog"];
    let modules = modules.iter().chain(&["drouting", "qrouting"]);
    let modules: String = modules.map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let text = format!(
        "log_level=3\nsocket=udp:{ip}:5060\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"drouting|qrouting\", \"db_url\", \"sqlite://{dir}/tandem.sqlite\")\n\
         modparam(\"drouting\", \"probing_interval\", 0)\n\
         modparam(\"qrouting\", \"algorithm\", \"best-dest-first\")\n\
         modparam(\"qrouting\", \"min_samples_asr\", {SAMPLES})\n\
         modparam(\"qrouting\", \"event_bad_dst_threshold\", \"0.1\")\n\
         route {{\n\
         if (has_totag()) {{ loose_route(); t_relay(); exit; }}\n\
         if (is_method(\"CANCEL\")) {{ t_relay(); exit; }}\n\
         record_route();\n\
         if (!do_routing(0)) {{ sl_send_reply(503, \"No Gateway\"); exit; }}\n\
         t_on_failure(\"next\"); t_relay(); }}\n\
         failure_route[next] {{\n\
         if (use_next_gw()) {{ t_on_failure(\"next\"); t_relay(); }} }}\n\
         event_route[E_QROUTING_BAD_DST] {{ \
         xlog(\"L_NOTICE\", \"bad in rule $param(rule_id): $param(dst_name)\"); }}\n"
    );
    let script = site.write("quality.cfg", &text).to_string_lossy().into_owned();
    let log = site.dir().join("node.log");
    let args = ["-F", "-f", &script, "--state-dir", "state"];
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

#[test]
fn a_gateway_that_answers_no_call_is_tried_last() {
    let site = Site::bare("routing-quality");
    let rule = [
        ("groupid", "0".into()),
        ("prefix", "4".into()),
        ("gwlist", "bad,good".into()),
        ("sort_alg", "Q".into()),
        ("sort_profile", 1.into()),
    ];
    let profile = [
        ("profile_name", "answers".into()),
        ("warn_threshold_asr", 0.5.into()),
        ("crit_threshold_asr", 0.2.into()),
        ("warn_penalty_asr", 0.5.into()),
        ("crit_penalty_asr", 0.05.into()),
    ];
    let rows = vec![
        gateway("bad", &at(site.net.ip(21)), 0),
        gateway("good", &at(site.net.ip(22)), 0),
        row("dr_rules", &rule),
        row("qr_profiles", &profile),
    ];
    let site = site.filled(rows);
    let mut node = start(&site);
    let (proxy, fifo): (SocketAddr, _) = ((site.net.ip(1), 5060).into(), site.dir().join("fifo"));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let bad = Phone::out_of_service("bad", (site.net.ip(21), 5060));
    let good = Phone::new("good", (site.net.ip(22), 5060));
    let call = |n: usize| {
        let call = alice.call(proxy, &format!("40{n}"));
        assert_eq!(good.requests("INVITE", &call.call_id).len(), 1, "call {n} is answered");
        bad.requests("INVITE", &call.call_id).len()
    };
    for n in 0..SAMPLES {
        assert_eq!(call(n), 1, "nothing is held against it yet");
    }
    for n in SAMPLES..3 * SAMPLES {
        assert_eq!(call(n), 0, "call {n} goes where calls are answered");
    }
    node.wait_for_output("bad in rule 1: bad", PATIENCE);
    let told = |gateway: &str| {
        let args = json!({"partition": "Default", "rule_id": 1, "dst_name": gateway});
        let answer = mi(&fifo, "qrouting:status", args);
        let rule = &answer["result"]["Partitions"][0]["Rules"][0];
        rule["Destinations"][0]["Gateway"]["ASR"].as_str().unwrap().to_owned()
    };
    assert_eq!((told("bad"), told("good")), ("0.00".to_owned(), "1.00".to_owned()));
}
