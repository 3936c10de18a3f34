//! Lamps of phones (BLF): a call turns them on and off, on real processes, also when the node
//! that has told of the call dies while it goes on.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tandem_tests::{
    Message, PATIENCE, Phone, Process, Site, mi, program, sipp, start_sipp, wait_until,
};

const MODULES: [&str; 14] = [
    "proto_udp",
    "proto_bin",
    "mi_fifo",
    "clusterer",
    "sl",
    "tm",
    "rr",
    "signaling",
    "sipmsgops",
    "dialog",
    "presence",
    "presence_dialoginfo",
    "pua",
    "pua_dialoginfo",
];

/// A node of a pair; each publishes to itself, over the network.
fn script(site: &Site, id: u8) -> String {
    let other = 3 - id;
    let (own, theirs, callee) = (site.net.ip(id), site.net.ip(other), site.net.ip(11));
    let dir = site.dir().display();
    let (seed, state) = if id == 1 { (", flags=seed", "active") } else { ("", "backup") };
    let modules: String = MODULES.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    format!(
        "socket=udp:{own}:5060\nsocket=bin:{own}:5566\nalias=udp:{theirs}:5060\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo{id}\")\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\nmodparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:{own}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:{theirs}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"vip/1={state}\")\n\
         modparam(\"clusterer\", \"ping_interval\", 1)\n\
         modparam(\"clusterer\", \"ping_timeout\", 500)\n\
         modparam(\"dialog\", \"dialog_replication_cluster\", 1)\n\
         modparam(\"presence\", \"cluster_id\", 1)\n\
         modparam(\"pua\", \"cluster_id\", 1)\n\
         modparam(\"pua\", \"cluster_sharing_tag\", \"vip\")\n\
         modparam(\"pua_dialoginfo\", \"presence_server\", \"sip:{own}:5060\")\n\
         route {{\n\
         if ($rm == \"PUBLISH\") {{ handle_publish(); exit; }}\n\
         if ($rm == \"SUBSCRIBE\") {{ handle_subscribe( , \"vip\"); exit; }}\n\
         if (has_totag()) {{ if (!loose_route()) {{ sl_send_reply(404, \"Not here\"); exit; }}\n\
         t_relay(); exit; }}\n\
         create_dialog(); set_dlg_sharing_tag(\"vip\"); dialoginfo_set();\n\
         record_route(); $du = \"sip:{callee}:5060\"; t_relay(); }}\n"
    )
}

struct Pair {
    site: Site,
    nodes: [Option<Process>; 2],
}

impl Pair {
    fn new(test: &str) -> Self {
        let site = Site::bare(test);
        let nodes = [1, 2].map(|id| Some(start(&site, id)));
        let pair = Self { site, nodes };
        for at in [0, 1] {
            wait_until("the nodes to have the same calls and lamps", PATIENCE, || {
                let caps = pair.ask(at, "clusterer_list_cap", Json::Null).to_string();
                caps.contains("\"pua\"") && !caps.contains("not synced")
            });
        }
        pair
    }

    fn ask(&self, at: usize, method: &str, params: Json) -> Json {
        mi(&self.site.dir().join(format!("fifo{}", at + 1)), method, params)
    }

    fn count(&self, at: usize, command: &str) -> usize {
        let answer = self.ask(at, command, Json::Null);
        answer["result"].as_array().map_or(0, Vec::len)
    }

    fn sip(&self, at: usize) -> SocketAddr {
        (self.site.net.ip(at as u8 + 1), 5060).into()
    }

    fn kill(&mut self, at: usize) {
        let mut node = self.nodes[at].take().unwrap();
        node.signal(Signal::KILL);
        node.wait(PATIENCE);
    }
}

fn start(site: &Site, id: u8) -> Process {
    let name = format!("node{id}");
    let script = site.write(&format!("{name}.cfg"), &script(site, id));
    let script = script.to_string_lossy().into_owned();
    let state = site.dir().join(format!("state{id}")).to_string_lossy().into_owned();
    let args = ["-F", "-f", &script, "--state-dir", &state];
    let log = site.dir().join(format!("{name}.log"));
    let mut node = Process::start(&name, &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

/// Watches somebody; the Call-ID of the subscription.
fn watch(watcher: &Phone, node: SocketAddr, whom: &str) -> String {
    let (at, host) = (watcher.shown, node.ip());
    let call_id = format!("lamp-{whom}");
    let subscribe = format!(
        "SUBSCRIBE sip:{whom}@{host} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {at};rport;branch=z9hG4bK{call_id}\r\nMax-Forwards: 70\r\n\
         From: <sip:{user}@{host}>;tag=w\r\nTo: <sip:{whom}@{host}>\r\nCall-ID: {call_id}\r\n\
         CSeq: 1 SUBSCRIBE\r\nContact: <sip:{user}@{at}>\r\nEvent: dialog\r\nExpires: 300\r\n\
         Accept: application/dialog-info+xml\r\nContent-Length: 0\r\n\r\n",
        user = watcher.user,
    );
    let reply = watcher.transact(node, &subscribe, &call_id, "1 SUBSCRIBE");
    assert_eq!(reply.code(), Some(200), "{reply:?}");
    call_id
}

/// What a lamp was told last.
fn lamp(watcher: &Phone, call_id: &str) -> Option<Message> {
    watcher.requests("NOTIFY", call_id).pop()
}

fn wait_for_lamp(watcher: &Phone, call_id: &str, state: &str) {
    let wanted = format!("<state>{state}</state>");
    wait_until(&format!("{call_id} to be told {state}"), PATIENCE, || {
        lamp(watcher, call_id).is_some_and(|notify| notify.body.contains(&wanted))
    });
}

/// Numbers of CSeq and versions of the document rise from NOTIFY to NOTIFY.
fn assert_in_order(watcher: &Phone, call_id: &str) {
    let cseq = |m: &Message| m.want("CSeq").split(' ').next().unwrap().parse::<u32>().unwrap();
    let version = |m: &Message| {
        let (_, rest) = m.body.split_once("<dialog-info").unwrap();
        let (_, rest) = rest.split_once(" version=\"").unwrap();
        rest.split_once('"').unwrap().0.parse::<u32>().unwrap()
    };
    let told = watcher.requests("NOTIFY", call_id);
    // Before the first call there is nothing to say.
    let told: Vec<_> = told.iter().filter(|m| !m.body.is_empty()).collect();
    // A NOTIFY that was sent again is the same.
    let mut order: Vec<_> = told.iter().map(|m| (cseq(m), version(m))).collect();
    order.dedup();
    let rises = |w: &[(u32, u32)]| w[0].0 < w[1].0 && w[0].1 < w[1].1;
    assert!(order.windows(2).all(rises), "{order:?}");
}

#[test]
fn a_lamp_goes_out_when_the_node_that_lit_it_has_died() {
    let mut pair = Pair::new("blf-pair");
    let watcher = Phone::new("watcher", (pair.site.net.ip(12), 5060));
    let alice = Phone::new("alice", (pair.site.net.ip(10), 5060));
    let _bob = Phone::new("bob", (pair.site.net.ip(11), 5060));
    let lamps = ["alice", "bob"].map(|whom| watch(&watcher, pair.sip(0), whom));
    let call = alice.call(pair.sip(0), "bob");
    lamps.iter().for_each(|lamp| wait_for_lamp(&watcher, lamp, "confirmed"));
    wait_until("the backup to know who watches and who talks", PATIENCE, || {
        pair.count(1, "presence:subs_phtable_list") == 2
            && pair.count(1, "presence:phtable_list") == 2
            && pair.ask(1, "dialog:list", Json::Null).to_string().contains(&call.call_id)
    });
    pair.kill(0);
    let answer = pair.ask(1, "clusterer_shtag_set_active", json!(["vip/1"]));
    assert!(answer["result"].as_str().unwrap_or("").starts_with("OK"), "{answer}");
    let reply = call.request_via(pair.sip(1), "BYE");
    assert_eq!(reply.code(), Some(200), "{reply:?}");
    for call_id in &lamps {
        wait_for_lamp(&watcher, call_id, "terminated");
        assert_in_order(&watcher, call_id);
    }
    wait_until("nothing to be published any more", PATIENCE, || {
        pair.count(1, "presence:phtable_list") == 0
    });
}

#[test]
fn calls_of_sipp_turn_a_lamp_on_and_off() {
    let pair = Pair::new("blf-sipp");
    let watcher = Phone::new("watcher", (pair.site.net.ip(12), 5060));
    let lamp_of_bob = watch(&watcher, pair.sip(0), "bob");
    let more = ["-m", "10", "-r", "5"];
    let mut callee = start_sipp(&pair.site, "callee", pair.site.net.ip(11), &more);
    let service = ["-s", "bob"];
    let words: Vec<&str> = more.iter().chain(&service).copied().collect();
    let called = sipp(&pair.site, "caller", pair.site.net.ip(10), pair.sip(0), &words);
    assert_eq!(called.status, 0, "{}{}", called.stdout, called.stderr);
    callee.wait(PATIENCE);
    wait_until("bob's lamp to be out", PATIENCE, || {
        lamp(&watcher, &lamp_of_bob)
            .is_some_and(|notify| !["confirmed", "early"].iter().any(|on| notify.body.contains(on)))
            && pair.count(0, "presence:phtable_list") == 0
    });
    let told = watcher.requests("NOTIFY", &lamp_of_bob);
    assert!(told.iter().any(|notify| notify.body.contains("<state>confirmed</state>")));
    assert_in_order(&watcher, &lamp_of_bob);
}
