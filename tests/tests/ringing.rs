//! Calls that ring when their node is killed, or when the operator moves address and tag to its
//! peer, with sipp at both ends: the caller gives up, and a callee answers whose side is hidden.
//! Both go on at the other node, which has the address then.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tandem_tests::{
    ELECTION, Lan, PATIENCE, Process, SERVICE, Site, is_root, mi, program, repository, wait_until,
};

/// Who gives up and who rings, who is answered and who answers.
const PHONES: [(&str, u8); 4] =
    [("gives-up", 20), ("rings", 21), ("caller-hidden", 22), ("callee", 23)];
/// How long it rings, in milliseconds: over the death of the node and what follows.
const RINGS_MS: &str = "6000";
const SIPP: Duration = Duration::from_secs(40);

fn script(site: &Site, host: u8) -> String {
    let (other, state) = if host == 1 { (2, "active") } else { (1, "backup") };
    let flags = if host == 1 { ", flags=seed" } else { "" };
    let fifo = site.fifo(host).display().to_string();
    let modules = ["proto_udp", "proto_bin", "clusterer", "sl", "tm", "rr", "sipmsgops"];
    let modules = modules.iter().chain(&["mi_fifo", "dialog", "topology_hiding"]);
    let modules: String = modules.map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    format!(
        r#"socket = udp:{SERVICE}:5060
socket = bin:10.77.0.{host}:5566
{modules}
modparam("mi_fifo", "fifo_name", "{fifo}")
modparam("clusterer", "db_mode", 0)
modparam("clusterer", "my_node_id", {host})
modparam("clusterer", "my_node_info", "cluster_id=1, url=bin:10.77.0.{host}:5566{flags}")
modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id={other}, url=bin:10.77.0.{other}:5566")
modparam("clusterer", "sharing_tag", "service/1={state}")
modparam("dialog", "dialog_replication_cluster", 1)
route {{
	if (has_totag()) {{
		if (!topology_hiding_match())
			loose_route();
		t_relay();
		exit;
	}}
	if (is_method("CANCEL")) {{
		if (t_check_trans())
			t_relay();
		exit;
	}}
	create_dialog();
	set_dlg_sharing_tag("service");
	if ($rU == "hidden") {{
		topology_hiding("UC");
		$ru = "sip:hidden@10.77.0.23";
	}} else {{
		record_route();
		$ru = "sip:rings@10.77.0.21";
	}}
	t_relay();
}}
"#
    )
}

struct Pair {
    site: Site,
    lan: Lan,
    nodes: Vec<Process>,
}

impl Pair {
    fn start(name: &str) -> Self {
        let site = Site::bare(name);
        let hosts: Vec<u8> = [1, 2].into_iter().chain(PHONES.map(|(_, host)| host)).collect();
        let lan = Lan::new(&hosts);
        let node = |host: u8| {
            site.write(&format!("node{host}.cfg"), &script(&site, host));
            let (cfg, state) = (format!("node{host}.cfg"), format!("state{host}"));
            let (log, args) = (format!("node{host}.log"), ["-f", &cfg, "--state-dir", &state]);
            let mut node = lan.start(host, &program(), &args, site.dir(), &log);
            node.wait_for_output("ready", PATIENCE);
            node
        };
        let nodes = vec![node(1), node(2)];
        let pair = Self { site, lan, nodes };
        pair.give(1);
        for host in [1, 2] {
            wait_until("the nodes are in step", ELECTION, || {
                pair.ask(host, "clusterer_list_cap", Json::Null).contains("\"state\":\"Ok\"")
            });
        }
        pair
    }

    fn ask(&self, host: u8, method: &str, params: Json) -> String {
        mi(&self.site.fifo(host), method, params).to_string()
    }

    /// Gives a host the service address, and tells the others as keepalived does.
    fn give(&self, host: u8) {
        self.run(host, &["ip", "addr", "add", &format!("{SERVICE}/24"), "dev", "eth0"]);
        for (_, phone) in PHONES {
            self.run(phone, &["ip", "neigh", "flush", "all"]);
        }
    }

    fn run(&self, host: u8, words: &[&str]) {
        let answer = self.lan.run(host, words);
        assert_eq!(answer.status, 0, "{words:?}: {}", answer.stderr);
    }

    fn sipp(&self, (scenario, host): (&str, u8), more: &[&str]) -> Process {
        let (at, file) = (format!("10.77.0.{host}"), format!("{scenario}.xml"));
        let common = ["-sf", &file, "-i", &at, "-p", "5060", "-m", "1", "-nostdin"];
        let bounds = ["-timeout", "30", "-timeout_error", "-trace_err", "-error_file"];
        let errors = format!("{scenario}.errors");
        let words = [more, &common, &bounds, &[&errors]].concat();
        let log = format!("{scenario}.log");
        self.lan.start(host, Path::new("/usr/bin/sipp"), &words, self.site.dir(), &log)
    }

    /// State numbers of the dialogs of a node.
    fn dialogs(&self, host: u8) -> Vec<u64> {
        let listed = mi(&self.site.fifo(host), "dialog:list", Json::Null);
        let all = listed["result"]["Dialogs"].as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|d| d["state"].as_u64()).collect()
    }
}

#[test]
fn calls_that_ring_when_their_node_is_killed_are_given_up_or_answered_at_the_other() {
    let pair = calls_go_on("ringing", |pair| pair.nodes[0].kill());
    let log = pair.nodes[1].output();
    assert_eq!(log.matches("that rings on a node that is gone goes on here").count(), 2, "{log}");
}

#[test]
fn calls_that_ring_when_address_and_tag_are_moved_are_given_up_or_answered_at_the_other() {
    let pair = calls_go_on("ringing-moved", |_| {});
    let logs = [0, 1].map(|n| pair.nodes[n].output());
    let [from, to] = &logs;
    assert_eq!(from.matches("rings here goes on at another node").count(), 2, "{from}");
    assert_eq!(to.matches("another node has given away goes on here").count(), 2, "{to}");
    // What nobody answered is known to nobody else.
    assert_eq!((pair.dialogs(1), pair.dialogs(2)), (vec![5], vec![5, 5]));
}

/// Two calls ring on the first node, a blow falls, and address and tag move.
fn calls_go_on(name: &str, blow: impl FnOnce(&mut Pair)) -> Pair {
    assert!(is_root(), "making hosts takes root: run the tests as root");
    let mut pair = Pair::start(name);
    let read = |name: &str| {
        std::fs::read_to_string(repository().join(format!("tests/sipp/{name}.xml"))).unwrap()
    };
    for name in ["gives-up", "rings", "callee"] {
        pair.site.write(&format!("{name}.xml"), &read(name));
    }
    // With a hidden side there is no recorded route.
    let caller = read("caller");
    let route = caller.find("    <action>").unwrap()..caller.find("  <send>").unwrap();
    let hidden = caller.replace(&caller[route], "  </recv>\n");
    pair.site.write("caller-hidden.xml", &hidden);

    let [gives_up, rings, caller, callee] = PHONES;
    let mut phones = vec![pair.sipp(rings, &[]), pair.sipp(callee, &["-d", RINGS_MS])];
    let service = format!("{SERVICE}:5060");
    phones.push(pair.sipp(gives_up, &[&service, "-s", "rings", "-d", RINGS_MS]));
    phones.push(pair.sipp(caller, &[&service, "-s", "hidden"]));
    wait_until("both calls ring", PATIENCE, || pair.dialogs(1) == [2, 2]);

    blow(&mut pair);
    pair.run(1, &["ip", "addr", "del", &format!("{SERVICE}/24"), "dev", "eth0"]);
    pair.give(2);
    let told = pair.ask(2, "clusterer_shtag_set_active", json!(["service/1"]));
    assert!(told.contains("OK"), "{told}");
    wait_until("both ring at the other node", PATIENCE, || pair.dialogs(2) == [2, 2]);

    for phone in &mut phones {
        let ended = phone.wait(SIPP);
        assert!(ended.success(), "{}", phone.output());
    }
    wait_until("no call is left", PATIENCE, || pair.dialogs(2).iter().all(|state| *state == 5));
    pair
}
