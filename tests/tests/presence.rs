//! Presence on real processes: phones of others, and a pair whose active dies between a PUBLISH
//! and its NOTIFY.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tandem_tests::{Message, PATIENCE, Phone, Process, Site, mi, program, sipp, wait_until};

const MODULES: &str = "loadmodule \"proto_udp.so\"\nloadmodule \"sl.so\"\nloadmodule \"tm.so\"\n\
    loadmodule \"signaling.so\"\nloadmodule \"mi_fifo.so\"\n";
const PRESENCE: &str = "loadmodule \"presence.so\"\nloadmodule \"presence_mwi.so\"\n";

fn start(site: &Site, name: &str, text: &str) -> Process {
    let script = site.write(&format!("{name}.cfg"), text);
    let script = script.to_string_lossy().into_owned();
    let state = site.dir().join(format!("state-{name}")).to_string_lossy().into_owned();
    let args = ["-F", "-f", &script, "--state-dir", &state];
    let log = site.dir().join(format!("{name}.log"));
    let mut node = Process::start(name, &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

#[test]
fn a_hundred_mailboxes_of_sipp_are_watched_and_published() {
    let site = Site::bare("presence-sipp");
    let (ip, dir) = (site.net.ip(1), site.dir().display().to_string());
    let script = format!(
        "socket=udp:{ip}:5060\n{MODULES}{PRESENCE}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         route {{ if ($rm == \"PUBLISH\") handle_publish();\n\
         else if ($rm == \"SUBSCRIBE\") handle_subscribe(); }}\n"
    );
    let _node = start(&site, "node", &script);
    let node = SocketAddr::from((ip, 5060));
    let phones = sipp(&site, "watch", site.net.ip(20), node, &["-m", "100", "-r", "50"]);
    assert_eq!(phones.status, 0, "{}{}", phones.stdout, phones.stderr);
    let list = mi(&site.dir().join("fifo"), "presence:phtable_list", Json::Null);
    assert_eq!(list["result"].as_array().unwrap().len(), 100);
}

struct Pair {
    site: Site,
    nodes: [Option<Process>; 2],
}

impl Pair {
    fn new(test: &str) -> Self {
        let site = Site::bare(test);
        let nodes = [1, 2].map(|id| Some(start(&site, &format!("node{id}"), &script(&site, id))));
        let mut pair = Self { site, nodes };
        if let Some(node) = &mut pair.nodes[0] {
            node.wait_for_output("node 2 of cluster 1 is up", PATIENCE);
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
}

fn script(site: &Site, id: u8) -> String {
    let other = 3 - id;
    let (own, theirs) = (site.net.ip(id), site.net.ip(other));
    let dir = site.dir().display();
    let (seed, state) = if id == 1 { (", flags=seed", "active") } else { ("", "backup") };
    format!(
        "socket=udp:{own}:5060\nsocket=bin:{own}:5566\n{MODULES}loadmodule \"proto_bin.so\"\n\
         loadmodule \"clusterer.so\"\n{PRESENCE}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo{id}\")\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\nmodparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:{own}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:{theirs}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"vip/1={state}\")\n\
         modparam(\"clusterer\", \"ping_interval\", 1)\n\
         modparam(\"clusterer\", \"ping_timeout\", 500)\n\
         modparam(\"presence\", \"cluster_id\", 1)\n\
         route {{ if ($rm == \"PUBLISH\") handle_publish();\n\
         else if ($rm == \"SUBSCRIBE\") handle_subscribe( , \"vip\"); }}\n"
    )
}

fn request(phone: &Phone, method: &str, n: u32, extra: &str, body: &str) -> String {
    let at = phone.shown;
    format!(
        "{method} sip:box@a.test SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bK{method}{n}\
         \r\nMax-Forwards: 70\r\nFrom: <sip:{user}@a.test>;tag=f\r\nTo: <sip:box@a.test>\r\n\
         Call-ID: {method}-{user}\r\nCSeq: {n} {method}\r\nContact: <sip:{user}@{at}>\r\n\
         Event: message-summary\r\n{extra}Content-Length: {length}\r\n\r\n{body}",
        user = phone.user,
        length = body.len(),
    )
}

const KIND: &str = "Expires: 300\r\nContent-Type: application/simple-message-summary\r\n";

fn cseq(notify: &Message) -> u32 {
    notify.want("CSeq").split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_heir_tells_what_the_killed_active_could_not() {
    let mut pair = Pair::new("presence-pair");
    let watcher = Phone::new("watcher", (pair.site.net.ip(10), 5060));
    let mailbox = Phone::new("box", (pair.site.net.ip(11), 5060));
    let subscribe = request(&watcher, "SUBSCRIBE", 1, "Expires: 300\r\n", "");
    let call_id = "SUBSCRIBE-watcher";
    let reply = watcher.transact(pair.sip(0), &subscribe, call_id, "1 SUBSCRIBE");
    assert_eq!(reply.code(), Some(200), "{reply:?}");
    let told = || watcher.requests("NOTIFY", call_id);
    wait_until("the first NOTIFY", PATIENCE, || told().len() == 1);
    wait_until("the backup to have the subscription", PATIENCE, || {
        pair.count(1, "presence:subs_phtable_list") == 1
    });
    // The active stands still: it is told of the PUBLISH at the backup and can say nothing.
    pair.nodes[0].as_mut().unwrap().signal(Signal::STOP);
    let publish = request(&mailbox, "PUBLISH", 1, KIND, "Messages-Waiting: yes\r\n");
    let reply = mailbox.transact(pair.sip(1), &publish, "PUBLISH-box", "1 PUBLISH");
    assert_eq!(reply.code(), Some(200), "{reply:?}");
    assert_eq!(told().len(), 1, "a backup notifies nobody");
    let mut killed = pair.nodes[0].take().unwrap();
    killed.signal(Signal::KILL);
    killed.wait(PATIENCE);
    let answer = pair.ask(1, "clusterer_shtag_set_active", json!(["vip/1"]));
    assert!(answer["result"].as_str().unwrap_or("").starts_with("OK"), "{answer}");
    wait_until("the heir to tell the state", PATIENCE, || told().len() > 1);
    let (first, second) = (&told()[0], &told()[1]);
    assert_eq!(second.body, "Messages-Waiting: yes\r\n");
    assert!(cseq(second) > cseq(first), "{second:?}");
}
