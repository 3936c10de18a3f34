//! Who pings after a takeover, how soon, and what the pings of the first seconds mean.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};
use tandem_engine::catalogue::Modules;
use tandem_engine::effect::{Input, SendError};
use tandem_engine::testing::{Nodes, TestNode};

static MODULES: Modules = &[
    &tandem_engine::core::CORE,
    &tandem_proto_udp::MODULE,
    &tandem_proto_bin::MODULE,
    &tandem_clusterer::MODULE,
    &tandem_sl::MODULE,
    &tandem_signaling::MODULE,
    &tandem_usrloc::MODULE,
    &tandem_registrar::MODULE,
    &tandem_nathelper::MODULE,
    &tandem_tm::MODULE,
    &tandem_maxfwd::MODULE,
];

const INTERVAL_S: u64 = 10;

fn script(id: u32, more: &str) -> String {
    let (other, state) = if id == 1 { (2, "active") } else { (1, "backup") };
    let seed = if id == 1 { ", flags=seed" } else { "" };
    format!(
        "log_level=3\nsocket=udp:127.0.1.{id}:5060\nsocket=bin:127.0.1.{id}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\nloadmodule \"clusterer.so\"\n\
         loadmodule \"sl.so\"\nloadmodule \"signaling.so\"\nloadmodule \"usrloc.so\"\n\
         loadmodule \"registrar.so\"\nloadmodule \"nathelper.so\"\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \
         \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"service/1={state}\")\n\
         modparam(\"usrloc\", \"working_mode_preset\", \"full-sharing-cluster\")\n\
         modparam(\"usrloc\", \"location_cluster\", 1)\n\
         modparam(\"nathelper\", \"natping_interval\", {INTERVAL_S})\n\
         modparam(\"nathelper\", \"sipping_bflag\", \"SIP\")\n\
         modparam(\"nathelper\", \"sipping_from\", \"sip:ping@here\")\n\
         modparam(\"nathelper\", \"remove_on_timeout_bflag\", \"RM\")\n\
         modparam(\"nathelper\", \"ping_threshold\", 1)\n{more}\n\
         route {{ setbflag(\"SIP\"); setbflag(\"RM\"); save(\"location\", , , \"service\"); }}"
    )
}

fn register(n: u32) -> String {
    format!(
        "REGISTER sip:x SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.{n}:5060;branch=z9hG4bK{n}\n\
         From: <sip:u{n}@a>;tag=f\nTo: <sip:u{n}@a>\nCall-ID: {n}\nCSeq: 1 REGISTER\n\
         Contact: <sip:u{n}@10.0.0.{n}:5060>\nExpires: 3600\nContent-Length: 0\n\n"
    )
}

/// A pair in step, with so many phones.
fn pair(phones: u32, more: &str) -> Nodes {
    let mut nodes = Nodes::new(MODULES, vec![script(1, more), script(2, more)]);
    nodes.advance_ms(12_000);
    for n in 1..=phones {
        nodes.udp(0, &format!("10.0.0.{n}:5060"), &register(n));
        nodes.advance_ms(10);
    }
    pings(&mut nodes, 1, true);
    nodes
}

/// The pings of the next seconds: node, phone, and the tenth of a second it left in. Each is
/// answered by phones that still live.
fn pings(nodes: &mut Nodes, seconds: u64, answers: bool) -> Vec<(usize, String, u64)> {
    let mut all = Vec::new();
    for tenth in 0..seconds * 10 {
        nodes.advance_ms(100);
        for (at, to, text) in std::mem::take(&mut nodes.datagrams) {
            if !text.starts_with("OPTIONS ") {
                continue;
            }
            if answers {
                nodes.udp(at, &to.to_string(), &ok(&text));
            }
            all.push((at, to.to_string(), tenth));
        }
    }
    all
}

fn ok(request: &str) -> String {
    let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let lines = request.lines().filter(|l| kept.iter().any(|k| l.starts_with(k)));
    let lines: Vec<&str> = lines.collect();
    format!("SIP/2.0 200 OK\n{}\nContent-Length: 0\n\n", lines.join("\n"))
}

fn contacts(nodes: &mut Nodes, at: usize) -> usize {
    let dump = nodes.mi(at, "usrloc:dump", Json::Null);
    dump["result"]["Domains"][0]["AORs"].as_array().map_or(0, Vec::len)
}

#[test]
fn the_new_owner_pings_each_contact_within_an_interval_spread_and_alone() {
    let mut nodes = pair(200, "");
    let before = pings(&mut nodes, INTERVAL_S, true);
    assert!(before.iter().all(|(at, ..)| *at == 0), "the holder alone pings");
    assert_eq!(before.len(), 200);
    nodes.kill(0);
    nodes.mi(1, "clusterer:shtag_set_active", json!(["service/1"]));
    let after = pings(&mut nodes, INTERVAL_S, true);
    let pinged: BTreeSet<&String> = after.iter().map(|(_, to, _)| to).collect();
    assert_eq!((pinged.len(), after.len()), (200, 200), "each once within one interval");
    let mut by_second: BTreeMap<u64, usize> = BTreeMap::new();
    after.iter().for_each(|(.., tenth)| *by_second.entry(tenth / 10).or_default() += 1);
    assert!(by_second.values().all(|n| *n <= 24), "{by_second:?}");
    // The dead node comes back as backup and leaves the phones alone.
    nodes.boot(0);
    nodes.advance_ms(2_000);
    nodes.datagrams.clear();
    let later = pings(&mut nodes, 2 * INTERVAL_S, true);
    assert!(later.iter().all(|(at, ..)| *at == 1));
    assert_eq!(later.len(), 400);
}

#[test]
fn counts_of_lost_pings_start_afresh_with_each_owner() {
    let mut nodes = pair(5, "modparam(\"nathelper\", \"max_pings_lost\", 2)");
    // Each of them has lost one ping here.
    pings(&mut nodes, INTERVAL_S + 1, false);
    assert_eq!(contacts(&mut nodes, 0), 5);
    nodes.mi(1, "clusterer:shtag_set_active", json!(["service/1"]));
    pings(&mut nodes, 1, false);
    nodes.mi(0, "clusterer:shtag_set_active", json!(["service/1"]));
    // The first loss of a new time is the first one, wherever it happens.
    pings(&mut nodes, INTERVAL_S, false);
    assert_eq!(contacts(&mut nodes, 0), 5);
    pings(&mut nodes, 2 * INTERVAL_S, false);
    assert_eq!((contacts(&mut nodes, 0), contacts(&mut nodes, 1)), (0, 0), "they were silent");
}

#[test]
fn what_is_lost_in_the_first_seconds_ends_nothing() {
    let mut nodes = pair(40, "modparam(\"nathelper\", \"max_pings_lost\", 1)");
    // Every phone answers the first owner; no answer reaches the second one at first.
    pings(&mut nodes, INTERVAL_S, true);
    nodes.kill(0);
    nodes.mi(1, "clusterer:shtag_set_active", json!(["service/1"]));
    pings(&mut nodes, 4, false);
    pings(&mut nodes, 2 * INTERVAL_S, true);
    assert_eq!(contacts(&mut nodes, 1), 40);
    pings(&mut nodes, INTERVAL_S + 2, false);
    assert_eq!(contacts(&mut nodes, 1), 0, "later it counts");
}

fn single(more: &str) -> TestNode {
    let script = format!(
        "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\n\
         loadmodule \"signaling.so\"\nloadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\n\
         loadmodule \"nathelper.so\"\n\
         modparam(\"nathelper\", \"natping_interval\", {INTERVAL_S})\n\
         modparam(\"nathelper\", \"sipping_bflag\", \"SIP\")\n\
         modparam(\"nathelper\", \"sipping_from\", \"sip:ping@here\")\n\
         modparam(\"nathelper\", \"remove_on_timeout_bflag\", \"RM\")\n\
         modparam(\"nathelper\", \"max_pings_lost\", 1)\n{more}\n\
         route {{ setbflag(\"SIP\"); setbflag(\"RM\"); save(\"location\"); }}"
    );
    let mut node = TestNode::new(&script, MODULES);
    for n in 1..=20 {
        node.udp(&format!("10.0.0.{n}:5060"), &register(n));
    }
    node.sent();
    node
}

#[test]
fn pings_wait_for_the_address_and_come_as_soon_as_it_is_here() {
    let mut node = single("");
    let held = |held| Input::Addresses(vec![("127.0.0.1".parse().unwrap(), held)]);
    node.step(held(false));
    node.advance_ms(6_000);
    assert_eq!(node.sent().len(), 0, "nothing leaves from an address that is elsewhere");
    node.step(held(true));
    node.advance_ms(1_000);
    let sent = node.sent().len();
    assert!(sent >= 12, "{sent}: those whose turn has passed are pinged now");
    node.advance_ms(3_100);
    assert_eq!(sent + node.sent().len(), 20, "and all of them within the interval");
}

#[test]
fn a_ping_that_could_not_be_sent_says_nothing_about_the_phone() {
    for (error, left) in
        [(None, 0), (Some(SendError::NotHolder), 20), (Some(SendError::Refused), 20)]
    {
        let mut node = single("");
        for _ in 0..2 * INTERVAL_S * 100 {
            node.advance_ms(10);
            for ticket in node.tickets() {
                if let Some(error) = error {
                    node.step(Input::SendFailed { ticket, error });
                }
            }
        }
        let dump = node.mi("usrloc:dump", Json::Null);
        let aors = dump["result"]["Domains"][0]["AORs"].as_array().map_or(0, Vec::len);
        assert_eq!(aors, left, "{error:?}");
    }
}

#[test]
fn pings_that_are_sent_before_the_last_one_is_lost_count_each() {
    // Whoever waits longer for an answer than until the next ping.
    let mut node = single("modparam(\"nathelper\", \"ping_threshold\", 15)");
    let aors = |node: &mut TestNode| {
        let dump = node.mi("usrloc:dump", Json::Null);
        dump["result"]["Domains"][0]["AORs"].as_array().map_or(0, Vec::len)
    };
    for _ in 0..4 * INTERVAL_S {
        node.advance_ms(1_000);
        for (to, text) in node.sent() {
            // One is silent; the others answer at once.
            if to.to_string() != "10.0.0.7:5060" {
                node.udp(&to.to_string(), &ok(&text));
            }
        }
    }
    assert_eq!(aors(&mut node), 19);
    // An answer that comes late, behind the next ping, is an answer, too.
    let mut late = Vec::new();
    for _ in 0..4 * INTERVAL_S {
        node.advance_ms(1_000);
        let now = std::mem::take(&mut late);
        late.extend(node.sent().into_iter().map(|sent| (11, sent)));
        for (left, (to, text)) in now {
            match left {
                0 => node.udp(&to.to_string(), &ok(&text)),
                left => late.push((left - 1, (to, text))),
            }
        }
    }
    assert_eq!(aors(&mut node), 19);
}

#[test]
fn settings_that_do_nothing_are_told_at_the_start() {
    let warnings = |from: &str, to: &str| {
        let script = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
             loadmodule \"sl.so\"\nloadmodule \"signaling.so\"\nloadmodule \"usrloc.so\"\n\
             loadmodule \"registrar.so\"\nloadmodule \"nathelper.so\"\n\
             modparam(\"usrloc\", \"nat_bflag\", \"NAT\")\n\
             modparam(\"nathelper\", \"natping_interval\", 10)\n\
             modparam(\"nathelper\", \"ping_nated_only\", 1)\n\
             modparam(\"nathelper\", \"sipping_bflag\", \"SIP\")\n\
             modparam(\"nathelper\", \"sipping_from\", \"sip:ping@here\")\n\
             modparam(\"nathelper\", \"remove_on_timeout_bflag\", \"RM\")\n\
             modparam(\"nathelper\", \"sipping_latency_flag\", \"LAT\")\n\
             route { setbflag(\"NAT\"); setbflag(\"SIP\"); save(\"location\"); }";
        assert!(script.contains(from));
        let mut node = TestNode::new(&script.replace(from, to), MODULES);
        let logs = node.logs().into_iter().map(|(_, text)| text);
        logs.filter(|text| text.starts_with("nathelper: ")).collect::<Vec<_>>()
    };
    assert_eq!(warnings("route", "route"), [""; 0]);
    let told = warnings("modparam(\"usrloc\", \"nat_bflag\", \"NAT\")", "");
    assert_eq!(told, ["nathelper: nobody is pinged: ping_nated_only needs nat_bflag of usrloc"]);
    let told =
        warnings("modparam(\"nathelper\", \"sipping_from\", \"sip:ping@here\")", "").join("\n");
    for word in ["sipping_bflag needs sipping_from", "remove_on_timeout_bflag does", "latency"] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn a_contact_that_leads_to_the_server_itself_is_not_pinged_but_counted() {
    let mut node = single("");
    let text = register(30).replace("10.0.0.30:5060>", "127.0.0.1:5060>");
    node.udp("10.0.0.30:5060", &text);
    node.sent();
    node.advance_ms(INTERVAL_S * 1_000);
    let sent = node.sent();
    assert_eq!(sent.len(), 20);
    assert!(sent.iter().all(|(to, _)| to.to_string() != "127.0.0.1:5060"));
    let status = node.mi("tandem:status", Json::Null);
    assert_eq!(status["result"]["nathelper"]["to_self"], 1);
}

#[test]
fn a_call_to_a_contact_that_leads_to_the_server_itself_ends() {
    let script = "socket=udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\n\
         loadmodule \"signaling.so\"\nloadmodule \"tm.so\"\nloadmodule \"maxfwd.so\"\n\
         loadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\nloadmodule \"nathelper.so\"\n\
         route {\n if (!mf_process_maxfwd_header(10)) {\n\
         sl_send_reply(483, \"Too Many Hops\"); exit; }\n\
         if ($rm == \"REGISTER\") { save(\"location\"); exit; }\n\
         lookup(\"location\"); t_relay(); }";
    let mut node = TestNode::new(script, MODULES);
    node.udp("10.0.0.30:5060", &register(30).replace("10.0.0.30:5060>", "127.0.0.1:5060>"));
    node.sent();
    let invite = register(30).replace("REGISTER sip:x", "INVITE sip:u30@127.0.0.1");
    node.udp("10.0.0.31:5060", &invite.replace("REGISTER", "INVITE"));
    let mut turns = 0;
    let mut answered = false;
    loop {
        let sent = node.sent();
        answered |= sent
            .iter()
            .any(|(to, m)| to.to_string() == "10.0.0.31:5060" && m.starts_with("SIP/2.0 483"));
        let own = sent.into_iter().filter(|(to, _)| to.to_string() == "127.0.0.1:5060");
        let own: Vec<String> = own.map(|(_, text)| text).collect();
        if own.is_empty() {
            break;
        }
        turns += own.len();
        assert!(turns < 200, "it goes round and round");
        own.iter().for_each(|text| node.udp("127.0.0.1:5060", text));
    }
    assert!(answered, "the caller is told");
}
