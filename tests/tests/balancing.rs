//! Destinations of dispatcher and of load_balancer that die and come back, before two nodes; and
//! their tables on MariaDB and PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tandem_db::{Query, Select};
use tandem_tests::routes::{at, row};
use tandem_tests::{DbServer, Kind, PATIENCE, Phone, Process, Site, mi, now, program, wait_until};

const DATABASE: &str = "opensips";
const PROBING_S: u64 = 2;
/// The last numbers of the addresses of destinations, the best first.
const HOSTS: [u8; 3] = [21, 22, 23];

/// How a module deals calls out.
struct Module {
    name: &'static str,
    params: &'static str,
    /// Chooses the first destination.
    first: &'static str,
    /// Notes that one has failed.
    failed: &'static str,
    next: &'static str,
}

const DISPATCHER: Module = Module {
    name: "dispatcher",
    params: "modparam(\"dispatcher\", \"ds_ping_interval\", 2)\n\
             modparam(\"dispatcher\", \"ds_probing_mode\", 1)\n\
             modparam(\"dispatcher\", \"ds_probing_threshold\", 1)\n",
    first: "ds_select_dst(1, 8, \"f\")",
    failed: "ds_mark_dst(\"p\");",
    next: "ds_next_dst()",
};
const BALANCER: Module = Module {
    name: "load_balancer",
    params: "modparam(\"load_balancer\", \"probing_interval\", 2)\n",
    first: "lb_start(1, \"calls\")",
    failed: "lb_disable_dst();",
    next: "lb_next()",
};

impl Module {
    fn rows(&self, site: &Site) -> Vec<Query> {
        let one = |(n, host): (usize, &u8)| {
            let uri = format!("sip:{}", at(site.net.ip(*host)));
            match self.name {
                "dispatcher" => row(
                    "dispatcher",
                    &[
                        ("setid", 1.into()),
                        ("destination", uri.into()),
                        ("priority", (9 - n as i64).into()),
                    ],
                ),
                _ => row(
                    "load_balancer",
                    &[
                        ("group_id", 1.into()),
                        ("dst_uri", uri.into()),
                        ("resources", format!("calls={}", 30 - 10 * n).into()),
                        ("probe_mode", 2.into()),
                    ],
                ),
            }
        };
        HOSTS.iter().enumerate().map(one).collect()
    }

    fn script(&self, site: &Site, id: u8) -> String {
        let other = 3 - id;
        let (own, theirs) = (site.net.ip(id), site.net.ip(other));
        let (state, seed) = if id == 1 { ("active", ", flags=seed") } else { ("backup", "") };
        let dir = site.dir().display();
        let modules = ["proto_udp", "proto_bin", "db_sqlite", "clusterer", "sl", "tm", "rr"];
        let more = ["sipmsgops", "mi_fifo", "dialog", self.name];
        let modules = modules.iter().chain(&more);
        let modules: String = modules.map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
        let Self { name, params, first, failed, next } = self;
        format!(
            "log_level=3\nsocket=udp:{own}:5060\nsocket=bin:{own}:5566\n{modules}\
             modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo{id}\")\n\
             modparam(\"clusterer\", \"my_node_id\", {id})\n\
             modparam(\"clusterer\", \"db_mode\", 0)\n\
             modparam(\"clusterer\", \"my_node_info\", \
             \"cluster_id=1, url=bin:{own}:5566{seed}\")\n\
             modparam(\"clusterer\", \"neighbor_node_info\", \
             \"cluster_id=1, node_id={other}, url=bin:{theirs}:5566\")\n\
             modparam(\"clusterer\", \"sharing_tag\", \"vip/1={state}\")\n\
             modparam(\"clusterer\", \"ping_interval\", 1)\n\
             modparam(\"clusterer\", \"ping_timeout\", 500)\n\
             modparam(\"tm\", \"fr_timeout\", 1)\n\
             modparam(\"dialog\", \"dialog_replication_cluster\", 1)\n\
             modparam(\"{name}\", \"db_url\", \"sqlite://{dir}/tandem.sqlite\")\n\
             modparam(\"{name}\", \"cluster_id\", 1)\n\
             modparam(\"{name}\", \"cluster_sharing_tag\", \"vip\")\n{params}\
             route {{\n\
             if (has_totag()) {{ loose_route(); t_relay(); exit; }}\n\
             record_route();\n\
             if (!{first}) {{ sl_send_reply(503, \"No Destination\"); exit; }}\n\
             t_on_failure(\"next\"); t_relay(); }}\n\
             failure_route[next] {{\n\
             if (t_check_status(\"408|477|5..\")) {{ {failed} \
             if ({next}) {{ t_on_failure(\"next\"); t_relay(); }} }} }}\n"
        )
    }

    /// Whether each destination can be used, as a list says.
    fn up(&self, list: &Json) -> Vec<bool> {
        let result = &list["result"];
        let (all, key, word) = match self.name {
            "dispatcher" => {
                (&result["PARTITIONS"][0]["SETS"][0]["Destinations"], "state", "Active")
            }
            _ => (&result["Destinations"], "enabled", "yes"),
        };
        all.as_array().into_iter().flatten().map(|row| row[key] == word).collect()
    }
}

struct Pair {
    module: Module,
    site: Site,
    nodes: [Option<Process>; 2],
    starts: u32,
}

impl Pair {
    fn new(module: Module) -> Self {
        let site = Site::bare(&format!("pair-{}", module.name));
        let rows = module.rows(&site);
        let mut pair = Self { module, site: site.filled(rows), nodes: [None, None], starts: 0 };
        pair.start(0);
        pair.start(1);
        for at in [0, 1] {
            wait_until("the nodes to be in step", PATIENCE, || {
                let caps = pair.ask(at, "clusterer_list_cap").to_string();
                caps.contains("-status-repl") && !caps.contains("not synced")
            });
        }
        pair
    }

    fn start(&mut self, at: usize) {
        let id = at as u8 + 1;
        let text = self.module.script(&self.site, id);
        let script = self.site.write(&format!("node{id}.cfg"), &text);
        let script = script.to_string_lossy().into_owned();
        self.starts += 1;
        let log = self.site.dir().join(format!("node{id}-{}.log", self.starts));
        let state = format!("state{id}");
        let args = ["-F", "-f", &script, "--state-dir", &state];
        let name = format!("node {id}");
        let mut node = Process::start(&name, &program(), &args, self.site.dir(), &log);
        node.wait_for_output("ready", PATIENCE);
        self.nodes[at] = Some(node);
    }

    fn ask_with(&self, at: usize, method: &str, params: Json) -> Json {
        mi(&self.site.dir().join(format!("fifo{}", at + 1)), method, params)
    }

    fn ask(&self, at: usize, method: &str) -> Json {
        self.ask_with(at, method, Json::Null)
    }

    fn list(&self, at: usize) -> Json {
        self.ask(at, &format!("{}:list", self.module.name))
    }

    fn wait_for(&self, at: usize, up: [bool; 3], within: Duration) {
        let what = format!("{up:?} on node {}", at + 1);
        wait_until(&what, within, || self.module.up(&self.list(at)) == up);
    }

    fn sip(&self, at: usize) -> SocketAddr {
        (self.site.net.ip(at as u8 + 1), 5060).into()
    }

    fn phone(&self, n: usize) -> Phone {
        Phone::new("u", (self.site.net.ip(HOSTS[n]), 5060))
    }

    /// The probes that a destination has got from a node.
    fn probes(&self, phone: &Phone, at: usize) -> usize {
        let from = IpAddr::from(self.site.net.ip(at as u8 + 1)).to_string();
        let probes = phone.messages().into_iter().filter(|m| m.method() == Some("OPTIONS"));
        probes.filter(|m| m.want("Via").contains(&from)).count()
    }

    fn loads(&self, at: usize) -> Vec<i64> {
        let list = self.list(at)["result"]["Destinations"].clone();
        let all = list.as_array().unwrap().iter();
        all.map(|row| row["Resources"][0]["load"].as_i64().unwrap()).collect()
    }
}

fn story(module: Module) {
    let mut pair = Pair::new(module);
    let (first, second, third) = (pair.phone(0), pair.phone(1), pair.phone(2));
    let alice = Phone::new("alice", (pair.site.net.ip(10), 5060));
    for at in [0, 1] {
        pair.wait_for(at, [true; 3], PATIENCE);
    }
    let call = alice.call(pair.sip(0), "a");
    assert_eq!(first.requests("INVITE", &call.call_id).len(), 1);

    // Two die. The call that finds out goes on to the third; the script says so to both nodes.
    drop((first, second));
    let call = alice.call(pair.sip(0), "b");
    assert_eq!(third.requests("INVITE", &call.call_id).len(), 1);
    for at in [0, 1] {
        pair.wait_for(at, [false, false, true], PATIENCE);
    }
    wait_until("the holder of the tag to probe", PATIENCE, || pair.probes(&third, 0) > 0);
    assert_eq!(pair.probes(&third, 1), 0, "and nobody else");
    if pair.module.name == "load_balancer" {
        for at in [0, 1] {
            wait_until("both know the loads", PATIENCE, || pair.loads(at) == [1, 0, 1]);
        }
    }

    // The backup knows who is dead from its first call.
    pair.nodes[0].take().unwrap().kill();
    let begun = now();
    let call = alice.call(pair.sip(1), "c");
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!(third.requests("INVITE", &call.call_id).len(), 1);
    if pair.module.name == "load_balancer" {
        assert_eq!(pair.loads(1), [1, 0, 2], "the loads are those of the calls");
    }

    // It takes the tag, and soon knows what has changed meanwhile.
    let taken = pair.ask_with(1, "clusterer_shtag_set_active", json!(["vip/1"]));
    assert!(taken["result"].is_string(), "{taken}");
    let first = pair.phone(0);
    pair.wait_for(1, [true, false, true], Duration::from_secs(2 * PROBING_S + 2));
    let probed = pair.probes(&first, 1);
    assert!((1..=3).contains(&probed), "no storm: {probed}");
    let call = alice.call(pair.sip(1), "d");
    assert_eq!(first.requests("INVITE", &call.call_id).len(), 1);

    // The dead node comes back, as backup, and learns the states of today.
    pair.start(0);
    pair.wait_for(0, [true, false, true], PATIENCE);
}

#[test]
fn dispatcher_goes_around_the_dead_on_both_nodes() {
    story(DISPATCHER);
}

#[test]
fn load_balancer_goes_around_the_dead_on_both_nodes() {
    story(BALANCER);
}

fn state_in_row(server: &DbServer) -> Option<i64> {
    let columns = vec!["state".into(), "destination".into()];
    let select = Select { table: "dispatcher".into(), columns, ..Select::default() };
    let rows = server.ask(DATABASE, Query::Select(select)).ok()?;
    let host = format!(".{}:5060", HOSTS[0]);
    let is_first =
        |row: &&Vec<tandem_db::Value>| row[1].as_str().is_some_and(|u| u.contains(&host));
    rows.rows.iter().find(is_first)?.first()?.as_int()
}

fn on_server(test: &str, kind: Kind) {
    let site = Site::bare(test);
    let Some(mut server) = DbServer::start(&site, kind) else { return };
    let url = server.url(DATABASE);
    for tables in ["dispatcher", "load_balancer"] {
        let args = ["ctl", "--db", &url, "db", "create", tables];
        assert!(Command::new(program()).args(args).status().unwrap().success(), "{tables}");
    }
    for row in [DISPATCHER.rows(&site), BALANCER.rows(&site)].concat() {
        server.ask(DATABASE, row).unwrap();
    }
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let db = if kind == Kind::MariaDb { "db_mysql" } else { "db_postgres" };
    let modules = ["proto_udp", db, "sl", "tm", "mi_fifo", "dialog", "dispatcher", "load_balancer"];
    let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let text = format!(
        "log_level=3\nsocket=udp:{ip}:5060\ndb_default_url=\"{url}\"\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\nroute {{ exit; }}\n"
    );
    site.write("node.cfg", &text);
    let start = |n: u8| {
        let log = site.dir().join(format!("node-{n}.log"));
        let args = ["-F", "-f", "node.cfg", "--state-dir", "state"];
        let mut node = Process::start("node", &program(), &args, site.dir(), &log);
        node.wait_for_output("ready", PATIENCE);
        node
    };
    let ask = |method: &str, params: Json| mi(&site.dir().join("fifo"), method, params);
    let mut node = start(1);
    let ups = || {
        let lists = [ask("ds_list", Json::Null), ask("lb_list", Json::Null)];
        (DISPATCHER.up(&lists[0]), BALANCER.up(&lists[1]))
    };
    assert_eq!(ups(), (vec![true; 3], vec![true; 3]));
    let uri = format!("sip:{}", at(site.net.ip(HOSTS[0])));
    assert_eq!(ask("ds_set_state", json!(["i", "1", uri]))["result"], "OK");
    wait_until("the state is written", PATIENCE, || state_in_row(&server) == Some(1));
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());

    // It is there after a restart; without the server the tables stay as they are.
    let mut node = start(2);
    assert_eq!(ups().0, [false, true, true]);
    for reload in ["ds_reload", "lb_reload"] {
        assert_eq!(ask(reload, Json::Null)["result"], "OK", "{reload}");
    }
    server.kill();
    for (reload, why) in [("ds_reload", "ERROR Reloading data"), ("lb_reload", "Failed to reload")]
    {
        assert_eq!(ask(reload, Json::Null)["error"]["message"], why);
    }
    assert_eq!(ups(), (vec![false, true, true], vec![true; 3]));
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
}

#[test]
fn destinations_come_from_mariadb() {
    on_server("balancing-mariadb", Kind::MariaDb);
}

#[test]
fn destinations_come_from_postgresql() {
    on_server("balancing-postgresql", Kind::Postgres);
}
