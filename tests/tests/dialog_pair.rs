//! Calls that survive their node, on real processes with real phones.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tandem_tests::{PATIENCE, Phone, Process, Site, mi, program, wait_until};

/// Two nodes with the same dialogs. Each knows the other's address as one of its own, as two
/// nodes behind one service address do.
struct Pair {
    site: Site,
    nodes: [Option<Process>; 2],
    starts: u32,
}

impl Pair {
    fn new(test: &str) -> Self {
        let site = Site::bare(test);
        let mut pair = Self { site, nodes: [None, None], starts: 0 };
        pair.start(0);
        pair.start(1);
        pair
    }

    fn start(&mut self, at: usize) {
        let id = at as u8 + 1;
        let other = 3 - id;
        let (own, theirs) = (self.site.net.ip(id), self.site.net.ip(other));
        let (dir, callee) = (self.site.dir().display(), self.site.net.ip(11));
        let seed = if id == 1 { ", flags=seed" } else { "" };
        let modules = ["proto_udp", "proto_bin", "clusterer", "sl", "tm", "rr", "sipmsgops"];
        let modules = modules.iter().chain(&["mi_fifo", "dialog"]);
        let modules: String = modules.map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
        let text = format!(
            "socket=udp:{own}:5060\nsocket=bin:{own}:5566\nalias=udp:{theirs}:5060\n{modules}\
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
             route {{\n\
             if (has_totag()) {{ if (!loose_route()) {{ sl_send_reply(404, \"Not here\"); exit; }}\n\
             t_relay(); exit; }}\n\
             create_dialog(); set_dlg_sharing_tag(\"vip\"); $dlg_val(who) = $fU;\n\
             record_route(); $du = \"sip:{callee}:5060\"; t_relay(); }}\n",
            state = if id == 1 { "active" } else { "backup" },
        );
        let script = self.site.write(&format!("node{id}.cfg"), &text);
        let script = script.to_string_lossy().into_owned();
        let state = self.site.dir().join(format!("state{id}"));
        let state = state.to_string_lossy().into_owned();
        // Each life has a log of its own, or the last one would be heard.
        self.starts += 1;
        let log = self.site.dir().join(format!("node{id}-{}.log", self.starts));
        let args = ["-F", "-f", &script, "--state-dir", &state];
        let name = format!("node {id}");
        let mut node = Process::start(&name, &program(), &args, self.site.dir(), &log);
        node.wait_for_output("ready", PATIENCE);
        self.nodes[at] = Some(node);
    }

    fn kill(&mut self, at: usize) {
        let mut node = self.nodes[at].take().unwrap();
        node.signal(Signal::KILL);
        node.wait(PATIENCE);
    }

    fn sip(&self, at: usize) -> SocketAddr {
        (self.site.net.ip(at as u8 + 1), 5060).into()
    }

    fn ask(&self, at: usize, method: &str, params: Json) -> Json {
        mi(&self.site.dir().join(format!("fifo{}", at + 1)), method, params)
    }

    /// The state of a call on a node; `None`: it is not there.
    fn state(&self, at: usize, call_id: &str) -> Option<u64> {
        let answer = self.ask(at, "dialog:list", json!({ "callid": call_id }));
        answer["result"]["Dialog"]["state"].as_u64()
    }

    fn wait_for_state(&self, at: usize, call_id: &str, state: u64) {
        let what = format!("{call_id} to be in state {state} on node {}", at + 1);
        wait_until(&what, PATIENCE, || self.state(at, call_id) == Some(state));
    }

    fn wait_joined(&self) {
        for at in [0, 1] {
            wait_until("the nodes to have the same dialogs", PATIENCE, || {
                let caps = self.ask(at, "clusterer_list_cap", Json::Null).to_string();
                caps.contains("dialog-dlg-repl") && !caps.contains("not synced")
            });
        }
    }
}

#[test]
fn the_backup_ends_the_calls_of_a_killed_node() {
    let mut pair = Pair::new("dialog-pair-kill");
    pair.wait_joined();
    let alice = Phone::new("alice", (pair.site.net.ip(10), 5060));
    let bob = Phone::new("bob", (pair.site.net.ip(11), 5060));
    let call = alice.call(pair.sip(0), "bob");
    let ended = alice.call(pair.sip(0), "bob");
    pair.wait_for_state(1, &call.call_id, 4);
    pair.wait_for_state(1, &ended.call_id, 4);
    pair.kill(0);
    let reply = call.request_via(pair.sip(1), "BYE");
    assert_eq!(reply.code(), Some(200), "{reply:?}");
    pair.wait_for_state(1, &call.call_id, 5);
    assert_eq!(bob.requests("BYE", &call.call_id).len(), 1);
    // A backup is not asked to end anything; the holder of the tag is.
    let end = json!({ "dialog_id": ended.call_id });
    let refused = pair.ask(1, "dialog:end_dlg", end.clone());
    assert_eq!(refused["error"]["code"], 403, "{refused}");
    let active = pair.ask(1, "clusterer_shtag_set_active", json!(["vip/1"]));
    assert!(active["result"].as_str().is_some_and(|text| text.starts_with("OK")), "{active}");
    let done = pair.ask(1, "dialog:end_dlg", end);
    assert_eq!(done["result"], "OK", "{done}");
    for phone in [&alice, &bob] {
        let got = || !phone.requests("BYE", &ended.call_id).is_empty();
        wait_until("a BYE to each phone", PATIENCE, got);
    }
}

#[test]
fn calls_survive_the_restart_of_one_node_after_the_other() {
    let mut pair = Pair::new("dialog-pair-restart");
    pair.wait_joined();
    let alice = Phone::new("alice", (pair.site.net.ip(10), 5060));
    let _bob = Phone::new("bob", (pair.site.net.ip(11), 5060));
    let call = alice.call(pair.sip(0), "bob");
    pair.wait_for_state(1, &call.call_id, 4);
    for at in [1, 0] {
        pair.kill(at);
        pair.start(at);
        pair.wait_for_state(at, &call.call_id, 4);
    }
    let shown = pair.ask(0, "dialog:list_ctx", json!({ "callid": call.call_id }));
    let values = shown["result"]["Dialog"]["context"]["values"].to_string();
    assert!(values.contains("\"who\":\"alice\""), "{shown}");
    let call_id = call.call_id.clone();
    call.hang_up();
    for at in [0, 1] {
        pair.wait_for_state(at, &call_id, 5);
    }
}
