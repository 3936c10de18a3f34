//! A node whose process stood still while its service address moved to another machine.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use rustix::process::Signal;
use serde_json::Value as Json;
use tandem_tests::{
    Lan, PATIENCE, Phone, SERVICE, Site, contacts, is_root, mi, program, uptime_ms, wait_until,
};

const PHONE: u8 = 20;

fn script(site: &Site) -> String {
    format!(
        r#"log_level = 3
socket = udp:{SERVICE}:5060
socket = udp:10.77.0.1:5060
socket = bin:10.77.0.1:5566
loadmodule "proto_udp.so"
loadmodule "proto_bin.so"
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "sipmsgops.so"
loadmodule "mi_fifo.so"
loadmodule "clusterer.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("mi_fifo", "fifo_name", "{}")
modparam("clusterer", "db_mode", 0)
modparam("clusterer", "my_node_id", 1)
modparam("clusterer", "my_node_info", "cluster_id=1, url=bin:10.77.0.1:5566, flags=seed")
modparam("usrloc", "use_domain", 0)
route {{
	save("location");
}}
"#,
        site.fifo(1).display()
    )
}

#[test]
fn what_was_sent_to_an_address_that_has_moved_is_left_out() {
    if !is_root() {
        eprintln!("not run: making hosts takes root");
        return;
    }
    let site = Site::bare("stood_still");
    let lan = Lan::new(&[1, PHONE]);
    let address = |what: &str| {
        let words = ["ip", "addr", what, &format!("{SERVICE}/24"), "dev", "eth0"];
        assert_eq!(lan.run(1, &words).status, 0);
    };
    address("add");
    site.write("node.cfg", &script(&site));
    let args = ["-f", "node.cfg", "--state-dir", "state"];
    let mut node = lan.start(1, &program(), &args, site.dir(), "node.log");
    node.wait_for_output("ready", PATIENCE);
    let register = |user: &str, host: &str| {
        let to = format!("sip:{user}@{host}");
        let contact = format!("sip:{user}@10.77.0.{PHONE}:5070");
        let words = ["timeout", "1", "sipsak", "-U", "-s", &to, "-C", &contact, "-x", "600"];
        lan.run(PHONE, &words).status == 0
    };
    let knows = |user: &str| {
        let all = mi(&site.fifo(1), "ul_dump", Json::Null)["result"].clone();
        contacts(&all).iter().any(|c| c["AOR"] == *user)
    };
    wait_until("it serves", PATIENCE, || register("alice", SERVICE));
    node.signal(Signal::STOP);
    assert!(!register("bob", SERVICE) && !register("carol", "10.77.0.1"));
    assert!(!register("bob", SERVICE), "it stands still for longer than it ever sleeps");
    address("del");
    node.signal(Signal::CONT);
    node.wait_for_output("the node stood still", PATIENCE);
    // What was sent to an address that is still here is answered.
    wait_until("carol is registered", PATIENCE, || knows("carol"));
    assert!(knows("alice") && !knows("bob"));
    address("add");
    wait_until("it serves again", PATIENCE, || register("bob", SERVICE));
}

#[test]
fn what_was_sent_to_an_address_of_the_loopback_is_read_after_it_stood_still() {
    let site = Site::pair("stood_still_here");
    let mut node = site.start(1);
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    node.process.signal(Signal::STOP);
    let (call_id, at, sip) = ("while-it-stands", alice.at, node.sip);
    let request = format!(
        "OPTIONS sip:{sip} SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bKstands\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@{sip}>;tag=a\r\nTo: <sip:{sip}>\r\n\
         Call-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    alice.send(sip, request.as_bytes());
    let from_ms = uptime_ms();
    wait_until("it to stand still for longer than it ever sleeps", PATIENCE, || {
        uptime_ms() > from_ms + 3_000
    });
    node.process.signal(Signal::CONT);
    node.process.wait_for_output("the node stood still", PATIENCE);
    // All of 127.0.0.0/8 is here, whatever the interface lists.
    wait_until("the answer", PATIENCE, || !alice.replies(call_id, "1 OPTIONS").is_empty());
}
