//! Destinations that are FreeSWITCH servers: what they tell is their weight and their size, and
//! whatever becomes of one, the node goes on.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tandem_tests::freeswitch::{FreeSwitch, Manner, PASSWORD};
use tandem_tests::routes::{at, row};
use tandem_tests::{PATIENCE, Phone, Process, Site, mi, now, program, wait_until};

const HOSTS: [u8; 2] = [21, 22];

/// A node with two servers behind it. A call to 1.. goes by dispatcher, others by load_balancer.
struct World {
    site: Site,
    node: Process,
    servers: [FreeSwitch; 2],
}

impl World {
    fn start(test: &str, manners: [Manner; 2]) -> Self {
        let site = Site::bare(test);
        let urls = HOSTS.map(|host| format!("fs://:{PASSWORD}@{}", site.net.ip(host)));
        let uris = HOSTS.map(|host| format!("sip:{}", at(site.net.ip(host))));
        let rows = uris.iter().zip(&urls).flat_map(|(uri, url)| {
            let resources = format!("ch={url}");
            let set = [
                ("setid", 1.into()),
                ("destination", uri.as_str().into()),
                ("weight", url.as_str().into()),
            ];
            let group = [
                ("group_id", 1.into()),
                ("dst_uri", uri.as_str().into()),
                ("resources", resources.into()),
            ];
            [row("dispatcher", &set), row("load_balancer", &group)]
        });
        let rows = rows.collect();
        let site = site.filled(rows);
        let servers = [0, 1].map(|n| FreeSwitch::start(site.net.ip(HOSTS[n]), manners[n]));
        let node = start(&site);
        Self { site, node, servers }
    }

    fn ask(&self, method: &str, params: Json) -> Json {
        mi(&self.site.dir().join("fifo"), method, params)["result"].clone()
    }

    fn weights(&self) -> Vec<i64> {
        let list = self.ask("ds_list", json!({"full": 1}));
        let all = list["PARTITIONS"][0]["SETS"][0]["Destinations"].clone();
        all.as_array().unwrap().iter().map(|row| row["weight"].as_i64().unwrap()).collect()
    }

    fn sizes(&self) -> Vec<i64> {
        let list = self.ask("lb_list", Json::Null);
        let all = list["Destinations"].as_array().unwrap().iter();
        all.map(|row| row["Resources"][0]["max"].as_i64().unwrap()).collect()
    }

    fn wait_connected(&self, n: usize, load: (u32, u32, f64)) {
        wait_until("somebody to listen", PATIENCE, || {
            self.servers[n].beat(load.0, load.1, load.2) > 0
        });
    }

    fn wait_weights(&self, weights: [i64; 2]) {
        wait_until(&format!("{weights:?}"), PATIENCE, || self.weights() == weights);
    }

    fn proxy(&self) -> SocketAddr {
        (self.site.net.ip(1), 5060).into()
    }
}

fn start(site: &Site) -> Process {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let modules = ["proto_udp", "db_sqlite", "sl", "tm", "rr", "sipmsgops", "mi_fifo", "dialog"];
    let modules = modules.iter().chain(&["freeswitch", "dispatcher", "load_balancer"]);
    let modules: String = modules.map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let text = format!(
        "log_level=3\nsocket=udp:{ip}:5060\ndb_default_url=\"sqlite://{dir}/tandem.sqlite\"\n\
         {modules}modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"freeswitch\", \"esl_connect_timeout\", 300)\n\
         modparam(\"freeswitch\", \"esl_cmd_timeout\", 300)\n\
         modparam(\"dispatcher|load_balancer\", \"fetch_freeswitch_stats\", 1)\n\
         modparam(\"load_balancer\", \"initial_freeswitch_load\", 7)\n\
         modparam(\"load_balancer\", \"probing_interval\", 0)\n\
         route {{\n\
         if (has_totag()) {{ loose_route(); t_relay(); exit; }}\n\
         record_route();\n\
         if ($rU =~ \"^1\") $var(found) = ds_select_dst(1, 4); \
         else $var(found) = lb_start(1, \"ch\");\n\
         if ($var(found) < 0) {{ sl_send_reply(503, \"No Destination\"); exit; }}\n\
         t_relay(); }}\n"
    );
    site.write("node.cfg", &text);
    let log = site.dir().join("node.log");
    let args = ["-F", "-f", "node.cfg", "--state-dir", "state"];
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

#[test]
fn calls_go_where_servers_say_that_there_is_room() {
    let world = World::start("freeswitch", [Manner::Good; 2]);
    assert_eq!((world.weights(), world.sizes()), (vec![100, 100], vec![7, 7]));
    world.wait_connected(0, (100, 100, 100.0));
    world.wait_connected(1, (25, 100, 50.0));
    world.wait_weights([0, 38]);
    assert_eq!(world.sizes(), [0, 38]);

    let alice = Phone::new("alice", (world.site.net.ip(10), 5060));
    let phones = HOSTS.map(|host| Phone::new("u", (world.site.net.ip(host), 5060)));
    for number in ["1", "2", "10", "20"] {
        let call = alice.call(world.proxy(), number);
        assert_eq!(phones[1].requests("INVITE", &call.call_id).len(), 1, "{number}");
    }

    // Two of its calls are ours: they take nothing away that others could use.
    world.servers[1].beat(27, 100, 100.0);
    world.wait_weights([0, 73]);
    assert_eq!(world.sizes(), [0, 75]);

    // One that goes keeps what it told last, and tells anew when it is back.
    world.servers[1].becomes(Manner::Gone);
    wait_until("it to be tried again", PATIENCE, || world.servers[1].connects() > 2);
    assert_eq!(world.weights(), [0, 73]);
    world.servers[1].becomes(Manner::Good);
    world.wait_connected(1, (90, 100, 100.0));
    world.wait_weights([0, 10]);
    let said = world.node.output();
    assert!(said.contains("it has closed the connection; the last load that it told"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
}

#[test]
fn servers_that_misbehave_cost_a_warning() {
    let mut world = World::start("freeswitch-bad", [Manner::Silent, Manner::Babbling]);
    world.node.wait_for_output("says nothing: is an event socket there?", PATIENCE);
    world.node.wait_for_output("8192 bytes without a blank line", PATIENCE);
    // Meanwhile calls go on, and what is asked is answered.
    let alice = Phone::new("alice", (world.site.net.ip(10), 5060));
    let _phones = HOSTS.map(|host| Phone::new("u", (world.site.net.ip(host), 5060)));
    let begun = now();
    (0..20).for_each(|n| drop(alice.call(world.proxy(), &format!("{n}"))));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!((world.weights(), world.sizes()), (vec![100, 100], vec![7, 7]));
    world.servers[0].becomes(Manner::Refusing);
    world.node.wait_for_output("refuses the password: -ERR invalid", PATIENCE);
    // Each comes to its senses.
    for n in [0, 1] {
        world.servers[n].becomes(Manner::Good);
        world.wait_connected(n, (50, 100, 100.0));
    }
    world.wait_weights([50, 50]);
}
