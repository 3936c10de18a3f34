//! Destinations that are named: a call fails over from one address of a name to the next, and a
//! reload finds those that have moved.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tandem_tests::routes::{gateway, row, rule};
use tandem_tests::{DnsServer, PATIENCE, Phone, Process, Said, Site, mi, now, program, wait_until};

const FR_TIMEOUT_S: u64 = 2;
const NAME: &str = "gw.example.test:5060";

/// Numbers with 4 go by drouting, others by dispatcher; both to the same name.
fn start(site: &Site, dns: &DnsServer) -> Process {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let modules = ["proto_udp", "db_sqlite", "sl", "tm", "rr", "sipmsgops", "mi_fifo"];
    let modules = modules.iter().chain(&["drouting", "dispatcher"]);
    let modules: String = modules.map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let text = format!(
        "socket=udp:{ip}:5060\ndns_retr_time=1\ndns_retr_no=1\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"tm\", \"fr_timeout\", {FR_TIMEOUT_S})\n\
         modparam(\"drouting|dispatcher\", \"db_url\", \"sqlite://{dir}/tandem.sqlite\")\n\
         modparam(\"drouting\", \"probing_interval\", 0)\n\
         modparam(\"dispatcher\", \"ds_define_blacklist\", \"known= 1\")\n\
         route {{\n\
         if (has_totag()) {{ loose_route(); t_relay(); exit; }}\n\
         if (is_method(\"CANCEL\")) {{ t_relay(); exit; }}\n\
         record_route();\n\
         if ($rU =~ \"^4\") do_routing(0); else ds_select_dst(1, 8);\n\
         t_relay(); }}\n"
    );
    let script = site.write("names.cfg", &text).to_string_lossy().into_owned();
    let servers = format!("TANDEM_NAMESERVERS={}", dns.addr);
    let program = program().to_string_lossy().into_owned();
    let args = [servers.as_str(), &program, "-F", "-f", &script, "--state-dir", "state"];
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", "/usr/bin/env".as_ref(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

#[test]
fn a_name_with_several_addresses_fails_over_and_one_that_moves_is_found() {
    let destination = [("setid", 1.into()), ("destination", format!("sip:{NAME}").into())];
    let rows = vec![gateway("gw", NAME, 0), rule("4", "gw"), row("dispatcher", &destination)];
    let site = Site::bare("routing-names").filled(rows);
    let [dead, live, moved] = [21, 22, 23].map(|host| site.net.ip(host));
    let dns = DnsServer::start(site.net.ip(9), &[("gw.example.test", Said::Ips(vec![dead, live]))]);
    let _node = start(&site, &dns);
    let (proxy, fifo): (SocketAddr, _) = ((site.net.ip(1), 5060).into(), site.dir().join("fifo"));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let phone = Phone::new("live", (live, 5060));
    for number in ["40123", "50123"] {
        let begun = now();
        let call = alice.call(proxy, number);
        let took = now() - begun;
        assert_eq!(phone.requests("INVITE", &call.call_id).len(), 1, "{number}");
        let limit = Duration::from_secs(FR_TIMEOUT_S + 2);
        assert!(took < limit, "{number}: {took:?}");
    }
    let known = || {
        let list = mi(&fifo, "dispatcher:list", json!({"full": 1}));
        let row = &list["result"]["PARTITIONS"][0]["SETS"][0]["Destinations"][0];
        let gateways = mi(&fifo, "drouting:gw_status", Json::Null);
        let gateway = gateways["result"]["Gateways"][0]["IP"].as_str().unwrap().to_owned();
        (row["resolved_addresses"].clone(), gateway)
    };
    let reload = || {
        for command in ["dispatcher:reload", "drouting:reload"] {
            assert_eq!(mi(&fifo, command, Json::Null)["result"], "OK");
        }
    };
    assert_eq!(known().0, json!([dead.to_string(), live.to_string()]));
    dns.set("gw.example.test", Said::Ips(vec![moved]));
    let wanted = (json!([moved.to_string()]), format!("{moved}:5060"));
    wait_until("a reload to find it", PATIENCE, || {
        reload();
        known() == wanted
    });
    wait_until("the blacklist to have it alone", PATIENCE, || {
        let lists = mi(&fifo, "blacklists:list", Json::Null).to_string();
        lists.contains(&moved.to_string()) && !lists.contains(&live.to_string())
    });
    // Nobody answers for the name any more: what is known of it stays.
    dns.set("gw.example.test", Said::Nothing);
    let asked = dns.asked();
    wait_until("the name to be asked for", PATIENCE, || {
        reload();
        dns.asked() > asked + 2
    });
    assert_eq!(known(), wanted);
}
