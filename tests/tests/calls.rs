//! Calls through the hot standby while machines die, are cut off and come back: what the phones
//! on both ends say became of each.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tandem_db::{Query, Value, schema};
use tandem_drivers::sqlite::{self, SqliteOptions};
use tandem_tests::{ELECTION, Lan, Machine, Process, SERVICE, Site, is_root, mi, wait_until};

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
loadmodule "db_sqlite.so"
loadmodule "dialog.so"
loadmodule "acc.so"
modparam("dialog", "dialog_replication_cluster", 1)
modparam("dialog", "profiles_with_value", "callee/b")
modparam("acc", "db_url", "sqlite://{cdrs}")
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
	if (is_method("INVITE")) {{
		create_dialog("bye-on-timeout");
		set_dlg_sharing_tag("service");
		set_dlg_profile("callee/b", "$rU");
		do_accounting("db", "cdr|missed");
	}}
	record_route();
	if (!lookup("location")) {{
		send_reply(404, "Not Found");
		exit;
	}}
	t_relay();
}}
"#,
        fifo = site.fifo(host).display(),
        cdrs = cdrs(site, host).display(),
    )
}

/// Where a node writes the records of its calls.
fn cdrs(site: &Site, host: u8) -> PathBuf {
    site.dir().join(format!("cdrs{host}.sqlite"))
}

/// The phones of a host of its own.
struct Phones {
    process: Process,
    records: PathBuf,
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

/// What happens to the machine that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// It dies, and comes back with its disk when the calls are over.
    Death,
    /// It is off the network while it lives on, and comes back with what it believed.
    Unplugged,
    /// Its node is restarted by its operator.
    Restart,
    /// Its node is killed and started again at once, as systemd does.
    Killed,
    /// The two machines do not see each other, and both serve.
    Split,
}

struct Pair {
    site: Site,
    lan: Lan,
    machines: [Machine; 2],
}

impl Pair {
    fn start(name: &str) -> Self {
        assert!(is_root(), "making hosts takes root: run the tests as root");
        let site = Site::bare(name);
        let lan = Lan::new(&[1, 2, PHONES]);
        for host in [1, 2] {
            let options = SqliteOptions { create: true, ..SqliteOptions::new(cdrs(&site, host)) };
            let wanted = ["version", "acc", "missed_calls"];
            let tables: Vec<_> = wanted.iter().filter_map(|t| schema::table(t)).collect();
            runtime().block_on(sqlite::create_schema(&options, &tables)).unwrap();
        }
        let one = Machine::start(&site, &lan, 1, 110, &script(&site, 1));
        wait_until("machine 1 serves", ELECTION, || one.serves(&lan));
        let two = Machine::start(&site, &lan, 2, 100, &script(&site, 2));
        for machine in [&one, &two] {
            wait_until("the nodes are in step", ELECTION, || machine.is_in_step());
        }
        Self { site, lan, machines: [one, two] }
    }

    /// Deals the blow, and waits until somebody serves again.
    fn hit(&mut self, blow: Blow) {
        let (lan, site) = (&self.lan, &self.site);
        let [one, two] = &mut self.machines;
        match blow {
            Blow::Death => one.die(lan),
            Blow::Unplugged => lan.unplug(1),
            Blow::Restart => one.restart(site, lan, Signal::TERM),
            Blow::Killed => one.restart(site, lan, Signal::KILL),
            Blow::Split => lan.cut_between(&[1, 2], true),
        }
        if matches!(blow, Blow::Restart | Blow::Killed) {
            wait_until("machine 1 serves again", ELECTION, || one.serves(lan));
        } else {
            wait_until("the other machine serves", ELECTION, || two.serves(lan));
        }
    }

    /// Brings everything back that is away.
    fn mend(&mut self, blow: Blow) {
        let (lan, site) = (&self.lan, &self.site);
        match blow {
            Blow::Death => self.machines[0].boot(site, lan, 110),
            Blow::Unplugged => lan.plug(1),
            Blow::Split => lan.cut_between(&[1, 2], false),
            Blow::Restart | Blow::Killed => {}
        }
        let [one, two] = &self.machines;
        wait_until("one serves and the other stands by", ELECTION, || {
            (one.serves(lan) && two.stands_by(lan)) || (two.serves(lan) && one.stands_by(lan))
        });
    }

    /// How often each call stands in the records of both nodes.
    fn billed(&self) -> BTreeMap<String, usize> {
        let mut billed = BTreeMap::new();
        for host in [1, 2] {
            let sql = "SELECT callid FROM acc".into();
            let options = SqliteOptions::new(cdrs(&self.site, host));
            let rows = runtime().block_on(sqlite::ask(&options, &Query::Raw { sql })).unwrap();
            for row in &rows.rows {
                let Value::Str(call) = &row[0] else { panic!("a Call-ID: {row:?}") };
                let call = call.clone();
                *billed.entry(call).or_default() += 1;
            }
        }
        billed
    }

    /// Dialogs that a node has, ended ones not counted.
    fn dialogs(machine: &Machine) -> u64 {
        let answer = mi(&machine.fifo, "get_statistics", json!([["dialog:active_dialogs"]]));
        answer["result"]["dialog:active_dialogs"].as_u64().unwrap_or(u64::MAX)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The calls that were answered.
fn answered(records: &[Json]) -> BTreeSet<String> {
    let answered = records.iter().filter(|r| !r["answered_ms"].is_null());
    answered.map(|r| r["call"].as_str().unwrap().to_owned()).collect()
}

fn lost(records: &[Json]) -> Vec<&Json> {
    let answered = records.iter().filter(|r| !r["answered_ms"].is_null());
    answered.filter(|r| r["ended"] != 200).collect()
}

/// Calls while the blow falls: every answered one ends properly and is billed once, and nothing
/// is left of any.
fn story(name: &str, blow: Blow) {
    let mut pair = Pair::start(name);
    let phones = Phones::start(&pair.site, &pair.lan, 240, 30, Duration::from_secs(4));
    let two = &pair.machines[1];
    wait_until("the contacts are on both", ELECTION, || two.knows("b0") && two.knows("b49"));
    // Some calls are through, some are up, some are still to come.
    wait_until("calls are under way", ELECTION, || phones.placed() >= 90);
    let placed = phones.placed();
    pair.hit(blow);
    if blow == Blow::Split {
        wait_until("more calls are placed", ELECTION, || phones.placed() >= 180);
        pair.mend(blow);
    }
    let records = phones.outcome(Duration::from_secs(120));
    if blow != Blow::Split {
        pair.mend(blow);
    }
    let answered = answered(&records);
    assert!(answered.len() > 100, "{} of {} calls were answered", answered.len(), records.len());
    let lost = lost(&records);
    assert!(lost.is_empty(), "{} answered calls are lost: {lost:?}", lost.len());
    let bills = || -> BTreeMap<String, usize> {
        let mut billed = pair.billed();
        for call in &answered {
            billed.entry(call.clone()).or_default();
        }
        billed.retain(|call, times| *times != usize::from(answered.contains(call)));
        // An answer waits for the peer for 20 ms at most: on a busy machine one may leave in the
        // moment of death that nobody else knows of.
        let fresh = |call: &String| {
            let number = call.trim_start_matches("call-").parse::<usize>();
            number.is_ok_and(|n| (placed..placed + 12).contains(&(n + 2)))
        };
        if billed.len() == 1 && billed.iter().all(|(call, times)| *times == 0 && fresh(call)) {
            eprintln!("not billed, since it was answered in the moment of death: {billed:?}");
            billed.clear();
        }
        billed
    };
    wait_until("each answered call is billed", ELECTION, || {
        let wrong = bills();
        if !wrong.is_empty() {
            eprintln!("billed another number of times than once: {wrong:?}");
        }
        wrong.is_empty()
    });
    for machine in &pair.machines {
        let host = machine.host;
        wait_until("no dialog is left", ELECTION, || {
            let left = Pair::dialogs(machine);
            if left > 0 {
                eprintln!("machine {host}: {left} dialogs are left");
            }
            left == 0
        });
    }
}

#[test]
fn calls_outlive_the_machine_that_set_them_up() {
    story("calls-death", Blow::Death);
}

#[test]
fn calls_outlive_a_machine_that_is_cut_off_and_comes_back() {
    story("calls-unplugged", Blow::Unplugged);
}

#[test]
fn calls_outlive_a_restart() {
    story("calls-restart", Blow::Restart);
}

#[test]
fn calls_outlive_a_node_that_is_killed_and_started_again() {
    story("calls-killed", Blow::Killed);
}

#[test]
fn calls_outlive_a_split_with_both_machines_serving() {
    story("calls-split", Blow::Split);
}
