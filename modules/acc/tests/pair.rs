//! The records of calls that meet the end of a node: two nodes with one service address and one
//! database.

use serde_json::{Value as Json, json};
use tandem_db::memory::MemoryDb;
use tandem_engine::testing::Nodes;

use crate::common::{CALLEE, CALLER, MODULES, reply_to, request, within};
use crate::radius::{CONF, DICTIONARY, with_radius};

fn script(id: u32) -> String {
    let other = 3 - id;
    let (seed, tag) = if id == 1 { (", flags=seed", "active") } else { ("", "backup") };
    let modules = [
        "proto_udp",
        "proto_bin",
        "db_sqlite",
        "clusterer",
        "sl",
        "tm",
        "rr",
        "signaling",
        "sipmsgops",
        "dialog",
        "acc",
    ];
    let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    format!(
        "socket=udp:127.0.9.1:5060\nsocket=bin:127.0.1.{id}:5566\nlog_level=3\n{modules}\
         modparam(\"acc\", \"db_url\", \"sqlite:///x\")\n\
         modparam(\"dialog\", \"dialog_replication_cluster\", 1)\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\nmodparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"vip/1={tag}\")\n\
         route {{ if (has_totag()) {{ loose_route(); t_relay(); exit; }} create_dialog(); \
         set_dlg_sharing_tag(\"vip\"); do_accounting(\"log\", \"cdr\"); record_route(); t_relay(); }}\n"
    )
}

pub(crate) fn pair() -> Nodes {
    pair_with("")
}

/// The same with further parameters.
pub(crate) fn pair_with(params: &str) -> Nodes {
    let script = |id| script(id).replace("route {", &format!("{params}\nroute {{"));
    let mut nodes = Nodes::asleep(MODULES, vec![script(1), script(2)]);
    nodes.boot_all();
    nodes.advance_ms(12_000);
    nodes
}

/// What a node sent to an address since the last call.
fn sent_to(pair: &mut Nodes, at: usize, to: &str) -> Vec<String> {
    let sent = std::mem::take(&mut pair.datagrams);
    let mine = sent.into_iter().filter(|(n, addr, _)| *n == at && addr.to_string() == to);
    mine.map(|(.., text)| text).collect()
}

/// A call that rings on a node; the INVITE as the callee got it.
pub(crate) fn ring(pair: &mut Nodes, at: usize) -> String {
    let contact = format!("Contact: <sip:alice@{CALLER}>\n");
    pair.udp(at, CALLER, &request("INVITE", "c", &contact));
    let invite = sent_to(pair, at, CALLEE).pop().unwrap();
    pair.udp(at, CALLEE, &reply_to(&invite, 180, ""));
    pair.advance_ms(200);
    invite
}

/// The callee answers over a node, the caller acknowledges and hangs up after a while.
fn answer_and_hang_up(pair: &mut Nodes, at: usize, invite: &str, hold_ms: u64) {
    let contact = format!("Contact: <sip:bob@{CALLEE}>\nContent-Length");
    let ok = reply_to(invite, 200, "").replace("Content-Length", &contact);
    pair.udp(at, CALLEE, &ok);
    let ok = sent_to(pair, at, CALLER).pop().unwrap();
    assert!(ok.starts_with("SIP/2.0 200"), "{ok}");
    pair.udp(at, CALLER, &within(&ok, "ACK", 1));
    pair.advance_ms(hold_ms);
    pair.udp(at, CALLER, &within(&ok, "BYE", 2));
}

pub(crate) fn records(pair: &Nodes) -> Vec<&str> {
    let lines = pair.logs.iter().map(|(_, text)| text.as_str());
    lines.filter(|text| text.contains("ACC: call ended")).collect()
}

#[test]
fn a_call_that_rang_when_its_node_was_started_again_has_a_record_however_short_it_is() {
    for (before_ms, hold_ms) in [(0, 0), (0, 5), (100, 0), (100, 5), (600, 5), (2_000, 0)] {
        let mut pair = pair();
        let invite = ring(&mut pair, 0);
        pair.kill(0);
        pair.boot(0);
        pair.advance_ms(before_ms);
        answer_and_hang_up(&mut pair, 0, &invite, hold_ms);
        pair.advance_ms(10_000);
        assert_eq!(records(&pair).len(), 1, "{before_ms} {hold_ms}: {:#?}", pair.logs);
    }
}

#[test]
fn a_holder_that_is_started_again_hears_of_the_bye_that_it_saw_before() {
    for down_ms in [0, 110, 350, 590, 1_300] {
        let mut pair = pair();
        let invite = ring(&mut pair, 1);
        answer_and_hang_up(&mut pair, 0, &invite, 0);
        pair.kill(0);
        pair.advance_ms(down_ms);
        pair.boot(0);
        pair.advance_ms(10_000);
        assert_eq!(records(&pair).len(), 1, "{down_ms}: {:#?}", pair.logs);
    }
}

#[test]
fn a_call_whose_bye_passed_a_moment_before_its_nodes_met_has_its_true_duration() {
    let mut pair = pair();
    let invite = ring(&mut pair, 0);
    let contact = format!("Contact: <sip:bob@{CALLEE}>\nContent-Length");
    pair.udp(0, CALLEE, &reply_to(&invite, 200, "").replace("Content-Length", &contact));
    let ok = sent_to(&mut pair, 0, CALLER).pop().unwrap();
    pair.udp(0, CALLER, &within(&ok, "ACK", 1));
    pair.mi(1, "clusterer_shtag_set_active", json!(["vip/1"]));
    pair.advance_ms(1_000);
    pair.kill(0);
    pair.cut();
    pair.boot(0);
    pair.advance_ms(2_000);
    pair.udp(0, CALLER, &within(&ok, "BYE", 2));
    pair.heal();
    pair.advance_ms(20_000);
    let records = records(&pair);
    assert_eq!(records.len(), 1, "{:#?}", pair.logs);
    assert!(records[0].contains("ms_duration=3000;"), "{records:?}");
}

#[test]
fn a_call_that_a_radius_server_has_to_hear_of_is_told_by_the_heir_whatever_database_it_has() {
    let of = |id| with_radius(&script(id).replace("\"log\", \"cdr\"", "\"aaa\", \"cdr\""));
    let mut pair = Nodes::asleep(MODULES, vec![of(1), of(2)]);
    let files = [("/etc/r/conf", CONF), ("/etc/r/dictionary", DICTIONARY)];
    pair.files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    pair.boot(0);
    pair.advance_ms(1_000);
    // The second node has a database of its own.
    pair.db = MemoryDb::with_tables(tandem_db::schema::tables());
    pair.boot(1);
    pair.advance_ms(12_000);
    let invite = ring(&mut pair, 0);
    answer_and_hang_up(&mut pair, 0, &invite, 1_000);
    pair.advance_ms(1_000);
    let mut waits = |at| {
        let spool = pair.mi(at, "tandem:cdr_spool", Json::Null)["result"].clone();
        spool["radius_spool"]["waiting"].clone()
    };
    assert_eq!((waits(0), waits(1)), (1.into(), 0.into()));
    pair.kill(0);
    pair.mi(1, "clusterer_shtag_set_active", serde_json::json!(["vip/1"]));
    pair.advance_ms(5_000);
    let spool = pair.mi(1, "tandem:cdr_spool", Json::Null)["result"].clone();
    assert_eq!(spool["radius_spool"]["waiting"], 1, "{spool} {:#?}", pair.logs);
}
