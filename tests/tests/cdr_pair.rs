//! The rows of calls whose node dies, written by the one that lives: both nodes of a pair with
//! one MariaDB.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value as Json, json};
use tandem_db::{Query, Select};
use tandem_tests::radius::{FreeRadius, client_files};
use tandem_tests::{DbServer, Kind, PATIENCE, Phone, Process, Site, mi, program, wait_until};

const DATABASE: &str = "opensips";
const CALLS: usize = 8;

struct Pair {
    site: Site,
    /// Where records go: the type, its module, and a line for acc.
    sink: (&'static str, &'static str, String),
    nodes: [Option<Process>; 2],
    starts: u32,
}

impl Pair {
    fn start(&mut self, at: usize) {
        let id = at as u8 + 1;
        let other = 3 - id;
        let (own, theirs) = (self.site.net.ip(id), self.site.net.ip(other));
        let (dir, callee) = (self.site.dir().display(), self.site.net.ip(11));
        let (kind, module, place) = &self.sink;
        let (seed, state) = if id == 1 { (", flags=seed", "active") } else { ("", "backup") };
        let modules = ["proto_udp", "proto_bin", module, "clusterer", "sl", "tm", "rr"];
        let modules = modules.iter().chain(&["sipmsgops", "mi_fifo", "dialog", "acc"]);
        let modules: String = modules.map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
        let text = format!(
            "log_level=3\nsocket=udp:{own}:5060\nsocket=bin:{own}:5566\n\
             alias=udp:{theirs}:5060\n{modules}\
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
             modparam(\"dialog\", \"dialog_replication_cluster\", 1)\n\
             {place}\n\
             route {{\n\
             if (has_totag()) {{ if (!loose_route()) {{ sl_send_reply(404, \"Not here\"); exit; }}\n\
             t_relay(); exit; }}\n\
             create_dialog(); set_dlg_sharing_tag(\"vip\"); do_accounting(\"{kind}\", \"cdr\");\n\
             record_route(); $du = \"sip:{callee}:5060\"; t_relay(); }}\n",
        );
        let script = self.site.write(&format!("node{id}.cfg"), &text);
        let script = script.to_string_lossy().into_owned();
        let state = self.site.dir().join(format!("state{id}"));
        let state = state.to_string_lossy().into_owned();
        self.starts += 1;
        let log = self.site.dir().join(format!("node{id}-{}.log", self.starts));
        let args = ["-F", "-f", &script, "--state-dir", &state];
        let name = format!("node {id}");
        let mut node = Process::start(&name, &program(), &args, self.site.dir(), &log);
        node.wait_for_output("ready", PATIENCE);
        self.nodes[at] = Some(node);
    }

    fn kill(&mut self, at: usize) {
        self.nodes[at].take().unwrap().kill();
    }

    fn sip(&self, at: usize) -> SocketAddr {
        (self.site.net.ip(at as u8 + 1), 5060).into()
    }

    fn ask(&self, at: usize, method: &str, params: Json) -> Json {
        mi(&self.site.dir().join(format!("fifo{}", at + 1)), method, params)
    }

    fn wait_joined(&self) {
        for at in [0, 1] {
            wait_until("the nodes to have the same dialogs", PATIENCE, || {
                let caps = self.ask(at, "clusterer_list_cap", Json::Null).to_string();
                caps.contains("dialog-dlg-repl") && !caps.contains("not synced")
            });
        }
    }

    fn wait_for_state(&self, at: usize, call_id: &str, state: u64) {
        let what = format!("{call_id} to be in state {state} on node {}", at + 1);
        wait_until(&what, PATIENCE, || {
            let answer = self.ask(at, "dialog:list", json!({ "callid": call_id }));
            answer["result"]["Dialog"]["state"].as_u64() == Some(state)
        });
    }

    fn spool(&self, at: usize) -> Json {
        self.ask(at, "tandem:cdr_spool", Json::Null)["result"].clone()
    }
}

/// The Call-IDs of the rows, in order.
fn rows(server: &DbServer) -> Vec<String> {
    let columns = vec!["callid".into()];
    let all = Query::Select(Select { table: "acc".into(), columns, ..Select::default() });
    let rows = server.ask(DATABASE, all).unwrap_or_default().rows;
    let mut all: Vec<String> =
        rows.iter().map(|r| r[0].as_str().unwrap_or_default().to_owned()).collect();
    all.sort();
    all
}

fn begin(test: &str) -> Option<(DbServer, Pair)> {
    let site = Site::bare(test);
    let server = DbServer::start(&site, Kind::MariaDb)?;
    let url = server.url(DATABASE);
    let args = ["ctl", "--db", &url, "db", "create", "acc"];
    assert!(Command::new(program()).args(args).status().unwrap().success());
    let place = format!("modparam(\"acc\", \"db_url\", \"{url}\")");
    Some((server, joined(site, ("db", "db_mysql", place))))
}

fn joined(site: Site, sink: (&'static str, &'static str, String)) -> Pair {
    let mut pair = Pair { site, sink, nodes: [None, None], starts: 0 };
    pair.start(0);
    pair.start(1);
    pair.wait_joined();
    pair
}

/// What records go to.
trait Place {
    /// It is away from now on.
    fn leave(&mut self);
    /// It is there again.
    fn come_back(&mut self);
    /// The Call-IDs of what it got, in order.
    fn got(&self) -> Vec<String>;
}

impl Place for DbServer {
    fn leave(&mut self) {
        self.kill();
    }

    fn come_back(&mut self) {
        self.up();
    }

    fn got(&self) -> Vec<String> {
        rows(self)
    }
}

impl Place for FreeRadius {
    fn leave(&mut self) {
        self.kill();
    }

    fn come_back(&mut self) {
        self.up();
    }

    fn got(&self) -> Vec<String> {
        told(self)
    }
}

/// What a RADIUS server got of calls, in order.
fn told(server: &FreeRadius) -> Vec<String> {
    let records = server.records();
    let id = |record: &String| {
        let (_, rest) = record.split_once("Acct-Session-Id = \"")?;
        rest.split_once('"').map(|(id, _)| id.to_owned())
    };
    let mut all: Vec<String> = records.iter().filter_map(id).collect();
    all.sort();
    all
}

fn begin_radius(test: &str) -> Option<(FreeRadius, Pair)> {
    let site = Site::bare(test);
    let ip = site.net.ip(30);
    let server = FreeRadius::start(&site, ip, "reject")?;
    client_files(&site, ip);
    let conf = site.dir().join("radiusclient.conf");
    let place = format!("modparam(\"acc\", \"aaa_url\", \"radius:{}\")", conf.display());
    Some((server, joined(site, ("aaa", "aaa_radius", place))))
}

/// Half of the calls are over when their node dies, the others end at its heir. `before` is what is
/// waited for before it dies.
fn each_call_is_told_once(place: &impl Place, pair: &mut Pair, before: impl FnOnce(&Pair)) {
    let alice = Phone::new("alice", (pair.site.net.ip(10), 5060));
    let _bob = Phone::new("bob", (pair.site.net.ip(11), 5060));
    let calls: Vec<_> = (0..CALLS).map(|_| alice.call(pair.sip(0), "bob")).collect();
    let mut ids: Vec<String> = calls.iter().map(|c| c.call_id.clone()).collect();
    ids.iter().for_each(|id| pair.wait_for_state(1, id, 4));
    let (here, there) = calls.split_at(CALLS / 2);
    for call in here {
        assert_eq!(call.request("BYE").code(), Some(200));
    }
    before(pair);
    pair.kill(0);
    for call in there {
        let reply = call.request_via(pair.sip(1), "BYE");
        assert_eq!(reply.code(), Some(200), "{reply:?}");
    }
    pair.ask(1, "clusterer_shtag_set_active", json!(["vip/1"]));
    ids.sort();
    wait_until("each call is told", 2 * PATIENCE, || place.got().len() >= CALLS);
    // The dead one comes back with what it had not heard to be written.
    pair.start(0);
    pair.wait_joined();
    for at in [0, 1] {
        wait_until("nothing waits", PATIENCE, || pair.spool(at)["waiting"] == 0);
    }
    assert_eq!(place.got(), ids);
}

/// The place is away when the calls end, and their node dies owing their records, which its heir
/// brings. `word` is what the spool calls the place, `after` what is looked at when all is told.
fn what_a_dead_node_owed_is_told_once(
    place: &mut impl Place,
    pair: &mut Pair,
    word: &str,
    after: impl FnOnce(&mut Pair),
) {
    let alice = Phone::new("alice", (pair.site.net.ip(10), 5060));
    let _bob = Phone::new("bob", (pair.site.net.ip(11), 5060));
    let calls: Vec<_> = (0..CALLS).map(|_| alice.call(pair.sip(0), "bob")).collect();
    let mut ids: Vec<String> = calls.iter().map(|c| c.call_id.clone()).collect();
    ids.iter().for_each(|id| pair.wait_for_state(1, id, 4));
    place.leave();
    for call in &calls {
        assert_eq!(call.request("BYE").code(), Some(200));
    }
    ids.iter().for_each(|id| pair.wait_for_state(1, id, 5));
    wait_until("the dead one's records wait", PATIENCE, || pair.spool(0)[word] == "away");
    pair.kill(0);
    pair.ask(1, "clusterer_shtag_set_active", json!(["vip/1"]));
    wait_until("the heir owes them", PATIENCE, || pair.spool(1)["waiting"] == CALLS);
    place.come_back();
    ids.sort();
    wait_until("each call is told", 2 * PATIENCE, || place.got().len() >= CALLS);
    after(pair);
    assert_eq!(place.got(), ids);
}

#[test]
fn calls_of_a_dead_node_are_billed_once_by_the_other() {
    let Some((server, mut pair)) = begin("cdr-pair-kill") else { return };
    each_call_is_told_once(&server, &mut pair, |_| {});
}

#[test]
fn what_a_dead_node_owed_a_database_that_was_away_is_written_once() {
    let Some((mut server, mut pair)) = begin("cdr-pair-away") else { return };
    what_a_dead_node_owed_is_told_once(&mut server, &mut pair, "database", |pair| {
        pair.start(0);
        wait_until("the dead one has seen that they are there", PATIENCE, || {
            let shown = pair.spool(0);
            shown["were_written_before"] == CALLS && shown["waiting"] == 0
        });
    });
}

#[test]
fn a_radius_server_hears_of_the_calls_of_a_dead_node_from_the_other() {
    let Some((server, mut pair)) = begin_radius("cdr-pair-radius") else { return };
    // What was answered is paid, and not told again by the heir.
    each_call_is_told_once(&server, &mut pair, |pair| {
        wait_until("the first ones are told", PATIENCE, || pair.spool(0)["written"] == CALLS / 2);
    });
}

#[test]
fn what_a_dead_node_owed_a_radius_server_that_was_away_is_told_by_the_other() {
    let Some((mut server, mut pair)) = begin_radius("cdr-pair-radius-away") else { return };
    what_a_dead_node_owed_is_told_once(&mut server, &mut pair, "radius", |pair| {
        wait_until("nothing waits", PATIENCE, || pair.spool(1)["waiting"] == 0);
    });
}
