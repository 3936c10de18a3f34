//! Phones behind a real NAT (nftables, in network namespaces) stay reachable while the pair in
//! front of it fails over again and again, and one node alone pings them.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tandem_tests::{
    ELECTION, Inside, Lan, PATIENCE, Process, SERVICE, Site, contacts, is_root, mi, now, program,
    wait_until,
};

const CALLER: u8 = 20;
const ROUTER: u8 = 30;
const PHONES: u64 = 10;
const FAILOVERS: usize = 10;
/// Shorter than the NAT remembers, as it has to be.
const INTERVAL: Duration = Duration::from_secs(3);
/// What the NAT remembers of UDP. The phones themselves send nothing for far longer.
const MEMORY_S: u32 = 15;
/// The first bytes of OPTIONS, as nft reads them behind the UDP header.
const IS_PING: &str = "udp sport 5060 @th,64,32 0x4f505449";

fn script(site: &Site, host: u8, listens: &str) -> String {
    let (other, state) = if host == 1 { (2, "active") } else { (1, "backup") };
    let flags = if host == 1 { ", flags=seed" } else { "" };
    let (fifo, interval) = (site.fifo(host).display().to_string(), INTERVAL.as_secs());
    format!(
        r#"log_level = 3
socket = udp:{listens}:5060
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
loadmodule "nathelper.so"
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
modparam("usrloc", "nat_bflag", "NAT")
modparam("registrar|nathelper", "received_avp", "$avp(rcv)")
modparam("nathelper", "natping_interval", {interval})
modparam("nathelper", "ping_nated_only", 1)
modparam("nathelper", "sipping_bflag", "SIP_PING")
modparam("nathelper", "sipping_from", "sip:keepalive@sip.example.org")
modparam("nathelper", "remove_on_timeout_bflag", "RM")
modparam("nathelper", "cluster_id", 1)
modparam("nathelper", "cluster_sharing_tag", "service")
route {{
	if (has_totag()) {{
		loose_route();
		t_relay();
		exit;
	}}
	if (is_method("REGISTER")) {{
		if (nat_uac_test("diff-ip-src-via,diff-port-src-via")) {{
			force_rport();
			fix_nated_register();
			setbflag("NAT");
			setbflag("SIP_PING");
			setbflag("RM");
		}}
		save("location", , , "service");
		exit;
	}}
	record_route();
	if (!lookup("location")) {{
		send_reply(404, "Not Found");
		exit;
	}}
	t_on_reply("replies");
	t_relay();
}}
onreply_route[replies] {{
	if (nat_uac_test("diff-ip-src-contact,diff-port-src-contact"))
		fix_nated_contact();
}}
"#
    )
}

/// The pair, without keepalived: the test moves the address and the tag as its hook does.
struct Pair {
    site: Site,
    lan: Lan,
    nodes: [Option<Process>; 2],
    /// Which of them serves: 1 or 2.
    serving: u8,
    _phones: Process,
    _inside: Inside,
}

impl Pair {
    fn start(listens: &str) -> Self {
        let site = Site::bare("nat");
        let lan = Lan::new(&[1, 2, CALLER, ROUTER]);
        let inside = lan.behind(ROUTER);
        nat(&lan);
        for host in [1, 2] {
            site.write(&format!("nat{host}.cfg"), &script(&site, host, listens));
            run(&lan, host, "nft add table ip watch");
            run(&lan, host, "nft add chain ip watch out { type filter hook output priority 0 ; }");
            run(&lan, host, &format!("nft add rule ip watch out {IS_PING} counter"));
        }
        give(&lan, 1);
        let nodes = [1, 2].map(|host| Some(node(&site, &lan, host)));
        let (service, count) = (format!("{SERVICE}:5060"), PHONES.to_string());
        let words = ["keep", "192.168.7.10", &service, &count];
        let mut phones = inside.start(&natted(), &words, site.dir(), "phones.log");
        phones.wait_for_output("registered", ELECTION);
        Self { site, lan, nodes, serving: 1, _phones: phones, _inside: inside }
    }

    fn contacts(&self, host: u8) -> usize {
        contacts(&mi(&self.site.fifo(host), "ul_dump", Json::Null)["result"]).len()
    }

    fn in_step(&self, host: u8) -> bool {
        let shown = mi(&self.site.fifo(host), "clusterer_list_cap", Json::Null).to_string();
        shown.contains("\"state\":\"Ok\"") && self.contacts(host) as u64 == PHONES
    }

    /// The one that serves dies; the other takes the address and the tag.
    fn fail_over(&mut self) {
        let (old, new) = (self.serving, 3 - self.serving);
        self.nodes[usize::from(old) - 1].take().unwrap().kill();
        take(&self.lan, old);
        give(&self.lan, new);
        let told = mi(&self.site.fifo(new), "clusterer_shtag_set_active", json!(["service/1"]));
        assert!(told["result"].to_string().contains("OK"), "{told}");
        self.serving = new;
    }

    fn bring_back(&mut self) {
        let host = 3 - self.serving;
        self.nodes[usize::from(host) - 1] = Some(node(&self.site, &self.lan, host));
        wait_until("the nodes are in step", ELECTION, || self.in_step(host));
    }

    /// Calls every phone.
    fn call_all(&self) {
        let (bin, service) = (natted(), format!("{SERVICE}:5060"));
        let count = PHONES.to_string();
        let bin = bin.display().to_string();
        let answer = self.lan.run(CALLER, &[&bin, "call", "10.77.0.20", &service, &count]);
        assert_eq!(answer.status, 0, "{}{}", answer.stdout, answer.stderr);
    }

    /// SIP pings that a host has put on the wire.
    fn pings(&self, host: u8) -> u64 {
        let shown = self.lan.run(host, &["nft", "list", "chain", "ip", "watch", "out"]).stdout;
        let words: Vec<&str> = shown.split_whitespace().collect();
        let at = words.iter().position(|w| *w == "packets").unwrap_or_else(|| panic!("{shown}"));
        words[at + 1].parse().unwrap()
    }
}

fn natted() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_natted"))
}

fn node(site: &Site, lan: &Lan, host: u8) -> Process {
    let (cfg, state) = (format!("nat{host}.cfg"), format!("state{host}"));
    let log = site.dir().join(format!("node{host}.log"));
    let before = std::fs::read(&log).unwrap_or_default().len();
    let args = ["-f", &cfg, "--state-dir", &state];
    let mut node = lan.start(host, &program(), &args, site.dir(), &format!("node{host}.log"));
    node.wait_for_output_after(before, "ready", PATIENCE);
    node
}

fn run(lan: &Lan, host: u8, words: &str) {
    let answer = lan.run(host, &words.split(' ').collect::<Vec<_>>());
    assert_eq!(answer.status, 0, "{words}: {}", answer.stderr);
}

/// The NAT: everything from inside leaves from the router's address, and what it remembers of a
/// phone ends soon.
fn nat(lan: &Lan) {
    for (name, value) in [
        ("net.ipv4.ip_forward", 1),
        ("net.netfilter.nf_conntrack_udp_timeout", MEMORY_S),
        ("net.netfilter.nf_conntrack_udp_timeout_stream", MEMORY_S),
    ] {
        run(lan, ROUTER, &format!("sysctl -q -w {name}={value}"));
    }
    run(lan, ROUTER, "nft add table ip nat");
    run(lan, ROUTER, "nft add chain ip nat out { type nat hook postrouting priority 100 ; }");
    run(lan, ROUTER, "nft add rule ip nat out oifname eth0 masquerade");
}

fn give(lan: &Lan, host: u8) {
    run(lan, host, &format!("ip addr add {SERVICE}/24 dev eth0"));
    // What keepalived says with gratuitous ARP.
    for other in [CALLER, ROUTER] {
        run(lan, other, "ip neigh flush all");
    }
}

fn take(lan: &Lan, host: u8) {
    run(lan, host, &format!("ip addr del {SERVICE}/24 dev eth0"));
}

#[test]
fn phones_behind_a_nat_stay_reachable_through_ten_failovers_and_one_node_pings() {
    assert!(is_root(), "making hosts takes root: run the tests as root");
    let mut pair = Pair::start(SERVICE);
    wait_until("both know the phones", ELECTION, || pair.in_step(1) && pair.in_step(2));
    pair.call_all();
    let begun = now();
    for n in 0..FAILOVERS {
        pair.fail_over();
        pair.call_all();
        pair.bring_back();
        let (active, backup) = (pair.serving, 3 - pair.serving);
        let (before, silent) = (pair.pings(active), pair.pings(backup));
        wait_until("each phone was pinged", 2 * INTERVAL + PATIENCE, || {
            pair.pings(active) - before >= 2 * PHONES
        });
        assert_eq!(pair.pings(backup), silent, "the backup pings after failover {n}");
        assert_eq!(pair.contacts(active) as u64, PHONES, "after failover {n}");
    }
    let lasted = now() - begun;
    assert!(lasted > Duration::from_secs(u64::from(2 * MEMORY_S)), "{lasted:?}");
    pair.call_all();
    eprintln!("{FAILOVERS} failovers in {lasted:?}, {PHONES} phones reached after each");
}

/// The NAT lets nothing in but what comes from the address that the phones sent to.
#[test]
fn phones_behind_a_nat_reach_a_pair_that_listens_on_every_address() {
    assert!(is_root(), "making hosts takes root: run the tests as root");
    let mut pair = Pair::start("0.0.0.0");
    wait_until("both know the phones", ELECTION, || pair.in_step(1) && pair.in_step(2));
    pair.call_all();
    for n in 0..2 {
        pair.fail_over();
        pair.call_all();
        pair.bring_back();
        let (active, backup) = (pair.serving, 3 - pair.serving);
        let (before, silent) = (pair.pings(active), pair.pings(backup));
        wait_until("each phone was pinged", 2 * INTERVAL + PATIENCE, || {
            pair.pings(active) - before >= 2 * PHONES
        });
        assert_eq!(pair.pings(backup), silent, "the backup pings after failover {n}");
        assert_eq!(pair.contacts(active) as u64, PHONES, "after failover {n}");
    }
    // The address that has come is known as the node's own.
    let shown = mi(&pair.site.fifo(pair.serving), "tandem:status", Json::Null).to_string();
    assert!(shown.contains(&format!("udp:{SERVICE}:5060")), "{shown}");
}

#[test]
fn without_pings_the_nat_forgets_its_phones() {
    assert!(is_root(), "making hosts takes root: run the tests as root");
    let pair = Pair::start(SERVICE);
    wait_until("both know the phones", ELECTION, || pair.in_step(1) && pair.in_step(2));
    let off = mi(&pair.site.fifo(1), "nathelper:enable_ping", json!([0]));
    assert_eq!(off["result"], "OK", "{off}");
    let known = || pair.lan.run(ROUTER, &["cat", "/proc/net/nf_conntrack"]).stdout;
    wait_until("the NAT forgets them", Duration::from_secs(60), || {
        !known().lines().any(|line| line.contains("192.168.7.10"))
    });
}
