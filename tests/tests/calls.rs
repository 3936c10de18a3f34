//! Calls through the hot standby while machines die, are cut off and come back: what the phones
//! on both ends say became of each.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::time::Duration;

use serde_json::Value as Json;
use tandem_tests::{ELECTION, Lan, Machine, Process, SERVICE, Site, is_root, wait_until};

const PHONES: u8 = 20;

/// The hot standby for calls: both nodes in the script, the service address on both.
fn script(site: &Site, host: u8) -> String {
    let (other, state) = if host == 1 { (2, "active") } else { (1, "backup") };
    let flags = if host == 1 { ", flags=seed" } else { "" };
    format!(
        r#"log_level = 3
socket = udp:{SERVICE}:5060
socket = bin:10.77.0.{host}:5566
loadmodule "proto_udp.so"
loadmodule "proto_bin.so"
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "sipmsgops.so"
loadmodule "mi_fifo.so"
loadmodule "clusterer.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("mi_fifo", "fifo_name", "{fifo}")
modparam("clusterer", "db_mode", 0)
modparam("clusterer", "my_node_id", {host})
modparam("clusterer", "my_node_info", "cluster_id=1, url=bin:10.77.0.{host}:5566{flags}")
modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id={other}, url=bin:10.77.0.{other}:5566")
modparam("clusterer", "ping_interval", 1)
modparam("clusterer", "ping_timeout", 300)
modparam("clusterer", "node_timeout", 2)
modparam("clusterer", "sharing_tag", "service/1={state}")
modparam("usrloc", "working_mode_preset", "full-sharing-cluster")
modparam("usrloc", "location_cluster", 1)
modparam("usrloc", "use_domain", 0)
modparam("usrloc", "pinging_mode", "ownership")
route {{
	if (has_totag()) {{
		if (loose_route()) {{
			t_relay();
			exit;
		}}
		if (is_method("ACK")) {{
			if (t_check_trans()) t_relay();
			exit;
		}}
		send_reply(404, "Not Here");
		exit;
	}}
	if (is_method("CANCEL")) {{
		if (t_check_trans()) t_relay();
		exit;
	}}
	if (is_method("REGISTER")) {{
		save("location", , , "service");
		exit;
	}}
	t_check_trans();
	record_route();
	if (!lookup("location")) {{
		send_reply(404, "Not Found");
		exit;
	}}
	t_relay();
}}
"#,
        fifo = site.fifo(host).display()
    )
}

/// The phones of a host of its own.
struct Phones {
    process: Process,
    records: std::path::PathBuf,
}

impl Phones {
    fn start(site: &Site, lan: &Lan, calls: u32, per_second: u32, hold: Duration) -> Self {
        let records = site.dir().join("records.json");
        let (at, service) = (format!("10.77.0.{PHONES}:5070"), format!("{SERVICE}:5060"));
        let numbers = [calls.to_string(), per_second.to_string(), hold.as_millis().to_string()];
        let file = records.display().to_string();
        let args =
            [&at, &service, &numbers[0], &numbers[1], &numbers[2], &file].map(String::as_str);
        let program = env!("CARGO_BIN_EXE_phones");
        let program = std::path::Path::new(program);
        let mut process = lan.start(PHONES, program, &args, site.dir(), "phones.log");
        process.wait_for_output("registered", ELECTION);
        Self { process, records }
    }

    /// Calls placed so far.
    fn placed(&self) -> usize {
        self.process.output().lines().filter(|line| line.starts_with("placed ")).count() * 10
    }

    /// What became of the calls.
    fn outcome(mut self, patience: Duration) -> Vec<Json> {
        assert!(self.process.wait(patience).success());
        let text = std::fs::read_to_string(&self.records).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn lost(records: &[Json]) -> Vec<&Json> {
    let answered = records.iter().filter(|r| !r["answered_ms"].is_null());
    answered.filter(|r| r["ended"] != 200).collect()
}

#[test]
fn answered_calls_end_through_the_machine_that_lives() {
    if !is_root() {
        panic!("making hosts takes root: run the tests as root");
    }
    let site = Site::bare("calls");
    let lan = Lan::new(&[1, 2, PHONES]);
    let mut one = Machine::start(&site, &lan, 1, 110, &script(&site, 1));
    wait_until("machine 1 serves", ELECTION, || one.serves(&lan));
    let two = Machine::start(&site, &lan, 2, 100, &script(&site, 2));
    let phones = Phones::start(&site, &lan, 300, 30, Duration::from_secs(4));
    wait_until("the contacts are on both", ELECTION, || two.knows("b0") && two.knows("b49"));
    // A third of the calls is through, a third is up, a third is still to come.
    wait_until("calls are under way", ELECTION, || phones.placed() >= 100);
    one.die(&lan);
    wait_until("the other machine serves", ELECTION, || two.serves(&lan));
    let records = phones.outcome(Duration::from_secs(150));
    assert_eq!(records.len(), 300);
    let answered = records.iter().filter(|r| !r["answered_ms"].is_null()).count();
    assert!(answered > 100, "{answered} calls were answered");
    let lost = lost(&records);
    assert!(lost.is_empty(), "{} of {answered} answered calls are lost: {lost:?}", lost.len());
}
