//! Nodes that replicate to each other, restart and lose each other, in memory.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tandem_clock::{Chance, MS, Now};
use tandem_cluster::ConnId;
use tandem_db::memory::MemoryDb;
use tandem_engine::build::NodeOptions;
use tandem_engine::catalogue::{Modules, Tables};
use tandem_engine::core::CORE;
use tandem_engine::effect::{BinInput, Effect, Input, Out};
use tandem_engine::module::ModuleDef;
use tandem_engine::node::Node;
use tandem_engine::testing::Files;
use tandem_engine::worker::Worker;
use tandem_usrloc::Usrloc;

const MODULES: Modules = {
    static ALL: &[&ModuleDef] = &[
        &CORE,
        &tandem_proto_udp::MODULE,
        &tandem_proto_bin::MODULE,
        &tandem_db_sqlite::MODULE,
        &tandem_clusterer::MODULE,
        &tandem_sl::MODULE,
        &tandem_signaling::MODULE,
        &tandem_usrloc::MODULE,
        &tandem_registrar::MODULE,
    ];
    ALL
};

/// One end of a BIN stream: the node and its name for it.
type End = (usize, ConnId);

/// Nodes joined by streams that can be cut.
struct World {
    now: Now,
    nodes: Vec<Option<Worker>>,
    scripts: Vec<String>,
    streams: BTreeMap<End, End>,
    accepted: u64,
    answers: BTreeMap<u64, Json>,
    cut: bool,
    db: MemoryDb,
    logs: Vec<String>,
    /// Replies, with the contacts that each node had when they left.
    sent: Vec<(String, Vec<usize>)>,
}

impl World {
    fn new(scripts: Vec<String>) -> Self {
        Self::at(1_800_000_000_000, scripts)
    }

    fn at(unix_ms: u64, scripts: Vec<String>) -> Self {
        let now = Now { mono_ns: 1_000_000 * MS, unix_ms };
        let mut world = Self {
            now,
            nodes: scripts.iter().map(|_| None).collect(),
            scripts,
            streams: BTreeMap::new(),
            accepted: 0,
            answers: BTreeMap::new(),
            cut: false,
            db: MemoryDb::with_tables(tandem_db::schema::tables()),
            logs: Vec::new(),
            sent: Vec::new(),
        };
        // An empty script stands for a node that the test plays itself.
        for at in 0..world.nodes.len() {
            if !world.scripts[at].is_empty() {
                world.boot(at);
            }
        }
        world
    }

    fn boot(&mut self, at: usize) {
        let mut files = Files([("t.cfg".to_owned(), self.scripts[at].clone())].into());
        let (program, diags, map) =
            Tables::new(MODULES).with(|c| tandem_script::compile(&mut files, "t.cfg", c));
        let render = |d: &[_]| tandem_script::diag::render_all(d, &map);
        let program = program.unwrap_or_else(|| panic!("{}", render(&diags)));
        let mut chance = Chance::from_number(self.now.unix_ms + at as u64);
        let options = NodeOptions {
            chance: chance.fork(),
            now: self.now,
            workers: 1,
            command_line: Vec::new(),
        };
        let node =
            Node::build(program, MODULES, options).unwrap_or_else(|d| panic!("{}", render(&d)));
        let mut worker = Worker::new(node, 0, chance, self.now);
        let mut out = Out::default();
        worker.start(self.now, &mut out);
        self.nodes[at] = Some(worker);
        self.carry_out(at, out);
    }

    /// The node is gone at once; its streams break.
    fn kill(&mut self, at: usize) {
        self.nodes[at] = None;
        let broken: Vec<(End, End)> =
            self.streams.iter().filter(|(a, _)| a.0 == at).map(|(a, b)| (*a, *b)).collect();
        for (mine, theirs) in broken {
            self.streams.remove(&mine);
            self.streams.remove(&theirs);
            self.step(theirs.0, Input::Bin(BinInput::Closed { conn: theirs.1 }));
        }
    }

    /// All streams break, and no new ones come up.
    fn cut(&mut self) {
        self.cut = true;
        for end in std::mem::take(&mut self.streams).into_keys() {
            self.step(end.0, Input::Bin(BinInput::Closed { conn: end.1 }));
        }
    }

    fn heal(&mut self) {
        self.cut = false;
    }

    fn step(&mut self, at: usize, input: Input) {
        let mut out = Out::default();
        let Some(worker) = self.nodes[at].as_mut() else { return };
        worker.step(self.now, input, &mut out);
        worker.finish(self.now, &mut out);
        self.carry_out(at, out);
    }

    fn carry_out(&mut self, at: usize, out: Out) {
        for effect in out.effects {
            match effect {
                Effect::BinConnect { conn, peer, .. } => self.connect(at, conn, peer),
                Effect::BinWrite { conn, bytes } => {
                    if let Some(&(to, other)) = self.streams.get(&(at, conn)) {
                        self.step(to, Input::Bin(BinInput::Data { conn: other, bytes }));
                    }
                }
                Effect::BinClose { conn } => {
                    if let Some(other) = self.streams.remove(&(at, conn)) {
                        self.streams.remove(&other);
                        self.step(other.0, Input::Bin(BinInput::Closed { conn: other.1 }));
                    }
                }
                Effect::MiReply { request, text } => {
                    self.answers.insert(request, serde_json::from_slice(&text).unwrap());
                }
                Effect::ReadFile { token, .. } => {
                    self.step(at, Input::FileRead { token, result: Ok(None) });
                }
                Effect::WriteFile { token, .. } => {
                    self.step(at, Input::FileWritten { token, result: Ok(()) });
                }
                Effect::Db { query, ask, .. } => {
                    let result = self.db.execute(&ask);
                    self.step(at, Input::Db { query, result });
                }
                Effect::Log { text, .. } => self.logs.push(format!("{}: {text}", at + 1)),
                Effect::Fatal { text } => panic!("{text}"),
                Effect::Send(send) => {
                    let had = self.nodes.iter().map(|n| n.as_ref().map_or(0, stored)).collect();
                    self.sent.push((String::from_utf8_lossy(&send.payload).into_owned(), had));
                }
                _ => {}
            }
        }
    }

    fn connect(&mut self, at: usize, conn: ConnId, peer: SocketAddr) {
        let to = self.nodes.iter().position(|n| {
            n.as_ref().is_some_and(|w| w.node().sockets.iter().any(|(_, s)| s.addr == peer))
        });
        let Some(to) = to.filter(|_| !self.cut) else {
            self.step(at, Input::Bin(BinInput::ConnectFailed { conn }));
            return;
        };
        self.accepted += 1;
        let other = ConnId::Accepted(self.accepted);
        self.streams.insert((at, conn), (to, other));
        self.streams.insert((to, other), (at, conn));
        let from = SocketAddr::from(([127, 0, 1, at as u8 + 1], 40_000));
        self.step(to, Input::Bin(BinInput::Accepted { conn: other, peer: from }));
        self.step(at, Input::Bin(BinInput::Connected { conn }));
    }

    fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.now = self.now.plus_ns(10 * MS);
            (0..self.nodes.len()).for_each(|at| self.step(at, Input::Tick));
        }
    }

    fn mi(&mut self, at: usize, method: &str, params: Json) -> Json {
        let request = 7;
        let mut object = json!({"jsonrpc": "2.0", "id": 1, "method": method});
        if !params.is_null() {
            object["params"] = params;
        }
        self.step(at, Input::Mi { request, text: Bytes::from(object.to_string()) });
        self.answers.remove(&request).unwrap_or(Json::Null)
    }

    fn add(&mut self, at: usize, user: &str, uri: &str, expires_s: u32) {
        let params =
            json!(["location", format!("{user}@x"), uri, expires_s, "0.5", 0, "NAT SIP_PING", 0]);
        assert_eq!(self.mi(at, "usrloc:add", params)["result"], "OK");
    }

    fn remove(&mut self, at: usize, user: &str) {
        self.mi(at, "usrloc:rm", json!(["location", format!("{user}@x")]));
    }

    /// What a node lists, without what is local to it.
    fn contacts(&mut self, at: usize) -> Vec<String> {
        let dump = self.mi(at, "usrloc:dump", Json::Null);
        let mut all = Vec::new();
        for aor in dump["result"]["Domains"][0]["AORs"].as_array().into_iter().flatten() {
            for contact in aor["Contacts"].as_array().into_iter().flatten() {
                let mut contact = contact.clone();
                contact.as_object_mut().unwrap().remove("Socket");
                all.push(format!("{} {contact}", aor["AOR"]));
            }
        }
        all.sort();
        all
    }

    fn users(&mut self, at: usize) -> Vec<String> {
        let all = self.contacts(at);
        all.iter().map(|c| c[1..].split('@').next().unwrap().to_owned()).collect()
    }
}

/// Contacts of a node.
fn stored(worker: &Worker) -> usize {
    let (_, usrloc) = worker.node().find::<Usrloc>().unwrap();
    usrloc.tables().iter().map(|t| t.domain.contact_count()).sum()
}

fn clustered(id: u32) -> String {
    clustered_with(id, "modparam(\"usrloc\", \"pinging_mode\", \"cooperation\")")
}

fn clustered_with(id: u32, more: &str) -> String {
    let other = 3 - id;
    let seed = if id == 1 { ", flags=seed" } else { "" };
    format!(
        "log_level = 3\nsocket = udp:127.0.1.{id}:5060\nsocket = bin:127.0.1.{id}:5566\n\
         loadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\nloadmodule \"clusterer.so\"\n\
         loadmodule \"sl.so\"\nloadmodule \"signaling.so\"\n\
         loadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\n\
         modparam(\"clusterer\", \"my_node_id\", {id})\n\
         modparam(\"clusterer\", \"db_mode\", 0)\n\
         modparam(\"clusterer\", \"my_node_info\", \
         \"cluster_id=1, url=bin:127.0.1.{id}:5566{seed}\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1, node_id={other}, url=bin:127.0.1.{other}:5566\")\n\
         modparam(\"usrloc\", \"working_mode_preset\", \"full-sharing-cluster\")\n\
         {more}\n\
         modparam(\"usrloc\", \"location_cluster\", 1)\n\
         route {{ save(\"location\", , , \"service\"); }}\n"
    )
}

fn pair() -> World {
    let mut world = World::new(vec![clustered(1), clustered(2)]);
    world.run_ms(12_000);
    world
}

#[test]
fn a_contact_is_on_the_other_node_at_once_and_equal_in_every_field() {
    let mut world = pair();
    world.add(0, "alice", "sip:a@10.0.0.9", 600);
    world.run_ms(10);
    let there = world.contacts(1);
    assert_eq!(there, world.contacts(0), "{:#?}", world.logs);
    assert_eq!(there.len(), 1);
    world.add(1, "alice", "sip:a@10.0.0.9", 900);
    world.add(1, "alice", "sip:b@10.0.0.9", 900);
    world.run_ms(10);
    assert_eq!(world.contacts(0).len(), 2);
    assert_eq!(world.contacts(0), world.contacts(1));
    world.remove(0, "alice");
    world.run_ms(10);
    assert!(world.contacts(1).is_empty());
}

/// Feeds a REGISTER to a node.
fn register(world: &mut World, at: usize, cseq: u32) {
    let text = format!(
        "REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5070;branch=z9hG4bK{cseq}\r\n\
         From: <sip:alice@x>;tag=1\r\nTo: <sip:alice@x>\r\nCall-ID: c\r\n\
         CSeq: {cseq} REGISTER\r\nContact: <sip:alice@10.0.0.9:5070>\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let worker = world.nodes[at].as_ref().unwrap();
    let (socket, found) = worker.node().sockets.iter().next().unwrap();
    let input = Input::Datagram {
        socket,
        source: "10.0.0.9:5070".parse().unwrap(),
        local_ip: found.addr.ip(),
        payload: Bytes::from(text),
    };
    world.step(at, input);
}

#[test]
fn a_phone_hears_of_its_registration_when_the_peer_has_it() {
    let mut world = pair();
    register(&mut world, 0, 1);
    world.run_ms(30);
    let (reply, had) = world.sent.remove(0);
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    assert_eq!(had, [1, 1], "the peer has it when the reply leaves");
    world.kill(1);
    world.run_ms(10_000);
    register(&mut world, 0, 2);
    world.run_ms(30);
    assert!(world.sent.remove(0).0.starts_with("SIP/2.0 200"), "phones never wait for a peer");
}

#[test]
fn each_node_shows_its_own_socket_for_a_replicated_contact() {
    let mut world = pair();
    register(&mut world, 0, 1);
    world.run_ms(30);
    for at in [0, 1] {
        let show = json!(["location", "alice@x"]);
        let answer = world.mi(at, "usrloc:show_contact", show);
        let socket = &answer["result"]["Contacts"][0]["Socket"];
        assert_eq!(socket, &json!(format!("udp:127.0.1.{}:5060", at + 1)));
    }
    assert_eq!(world.contacts(0), world.contacts(1));
}

/// A captured packet of a stock node 1 to node 2.
fn captured(name: &str) -> Bytes {
    let path = format!("{}/../../crates/bin/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let digits: String =
        text.lines().filter(|l| !l.starts_with('#')).flat_map(str::chars).collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[test]
fn packets_of_a_stock_node_are_applied_by_its_rules() {
    // The captures are from this second.
    let mut world = World::at(1_795_421_892_000, vec![String::new(), clustered(2)]);
    world.run_ms(1000);
    let conn = ConnId::Accepted(77);
    let peer = SocketAddr::from(([127, 0, 1, 1], 5000));
    world.step(1, Input::Bin(BinInput::Accepted { conn, peer }));
    let feed = |world: &mut World, name: &str| {
        world.step(1, Input::Bin(BinInput::Data { conn, bytes: captured(name) }));
    };
    feed(&mut world, "052-usrloc-contact-repl-01-urecord-insert.hex");
    feed(&mut world, "055-usrloc-contact-repl-03-ucontact-insert.hex");
    let show = || json!(["location", "alice@127.0.77.11"]);
    let shown = world.mi(1, "usrloc:show_contact", show());
    let contact = &shown["result"]["Contacts"][0];
    assert_eq!(contact["ContactID"], "241646267506106979", "{:#?}", world.logs);
    assert_eq!((&contact["Cseq"], &contact["Q"]), (&json!(1), &json!("0.7")));
    feed(&mut world, "061-usrloc-contact-repl-04-ucontact-update.hex");
    let shown = world.mi(1, "usrloc:show_contact", show());
    assert_eq!(shown["result"]["Contacts"][0]["Cseq"], 2);
    feed(&mut world, "055-usrloc-contact-repl-03-ucontact-insert.hex");
    let shown = world.mi(1, "usrloc:show_contact", show());
    assert_eq!(shown["result"]["Contacts"][0]["Cseq"], 2, "an older CSeq is ignored");
    feed(&mut world, "064-usrloc-contact-repl-05-ucontact-delete.hex");
    let shown = world.mi(1, "usrloc:show_contact", show());
    assert_eq!(shown["error"]["code"], 404);
}

#[test]
fn a_node_that_starts_again_gets_everything_and_expiry_is_silent() {
    let mut world = pair();
    for n in 0..50 {
        world.add(0, &format!("user{n}"), "sip:a@10.0.0.9", 600);
    }
    world.add(0, "brief", "sip:a@10.0.0.9", 60);
    world.kill(1);
    world.run_ms(1000);
    world.boot(1);
    world.run_ms(10_000);
    assert_eq!(world.contacts(1).len(), 51, "{:#?}", world.logs);
    assert_eq!(world.contacts(0), world.contacts(1));
    world.run_ms(60_000);
    assert_eq!((world.contacts(0).len(), world.contacts(1).len()), (50, 50));
    let answer = world.mi(1, "usrloc:cluster_sync", Json::Null);
    assert_eq!(answer["result"], "OK");
    world.run_ms(5000);
    assert_eq!(world.contacts(0), world.contacts(1));
}

#[test]
fn nodes_that_lost_each_other_agree_again_deletes_included() {
    let mut world = pair();
    world.add(0, "stays", "sip:a@10.0.0.9", 600);
    world.add(0, "leaves", "sip:a@10.0.0.9", 600);
    world.run_ms(100);
    world.cut();
    world.run_ms(2000);
    world.remove(1, "leaves");
    world.add(1, "late", "sip:b@10.0.0.9", 600);
    world.add(0, "early", "sip:c@10.0.0.9", 600);
    world.run_ms(5000);
    assert_eq!(world.users(0), ["early", "leaves", "stays"]);
    assert_eq!(world.users(1), ["late", "stays"]);
    world.heal();
    world.run_ms(90_000);
    assert_eq!(world.users(0), ["early", "late", "stays"], "{:#?}", world.logs);
    assert_eq!(world.contacts(0), world.contacts(1));
}

#[test]
fn rows_of_sql_come_back_when_the_node_starts_again() {
    let script = "log_level = 3\nsocket = udp:127.0.0.1:5060\nloadmodule \"proto_udp.so\"\n\
                  loadmodule \"db_sqlite.so\"\nloadmodule \"usrloc.so\"\n\
                  modparam(\"usrloc\", \"working_mode_preset\", \
                  \"single-instance-sql-write-through\")\n\
                  modparam(\"usrloc\", \"db_url\", \"sqlite:///x.db\")\nroute { exit; }\n";
    let mut world = World::new(vec![script.to_owned()]);
    world.add(0, "alice", "sip:a@10.0.0.9", 600);
    world.add(0, "bob", "sip:b@10.0.0.9", 0);
    world.add(0, "brief", "sip:c@10.0.0.9", 60);
    let before = world.contacts(0);
    world.kill(0);
    world.boot(0);
    let without_state = |all: &[String]| -> Vec<String> {
        all.iter().map(|c| c.replace("CS_NEW", "").replace("CS_SYNC", "")).collect()
    };
    assert_eq!(without_state(&world.contacts(0)), without_state(&before), "{:#?}", world.logs);
    world.kill(0);
    world.now = world.now.plus_ns(61_000 * MS);
    world.boot(0);
    assert_eq!(world.users(0), ["alice", "bob"]);
    let left = tandem_db::Select { table: "location".into(), ..tandem_db::Select::default() };
    let rows = world.db.execute(&tandem_db::Query::Select(left)).unwrap();
    assert_eq!(rows.rows.len(), 2, "what ended while the node was down is deleted");
}

/// The AoRs that each node may ping now.
fn pinged(world: &World) -> Vec<Vec<String>> {
    let of = |worker: &Worker| {
        let node = Arc::clone(worker.node());
        let (_, usrloc) = node.find::<Usrloc>().unwrap();
        let table = usrloc.table("location").unwrap();
        let tags = node.membership().tags().map(|t| &**t);
        let mut mine: Vec<String> = (0..3)
            .flat_map(|part| usrloc.part(&table, part, 3, world.now))
            .filter(|(contact, _)| usrloc.leave_to_ping(tags, contact).is_some())
            .map(|(contact, _)| String::from_utf8_lossy(contact.aor()).into_owned())
            .collect();
        mine.sort();
        mine
    };
    world.nodes.iter().flatten().map(of).collect()
}

#[test]
fn cooperating_nodes_share_the_pinging() {
    let mut world = pair();
    for n in 0..40 {
        world.add(0, &format!("user{n}"), "sip:a@10.0.0.9", 600);
    }
    world.run_ms(100);
    let by_node = pinged(&world);
    assert!(by_node.iter().all(|mine| !mine.is_empty()), "both nodes share the work");
    let mut all = by_node.concat();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), by_node.concat().len()), (40, 40), "each contact is pinged once");
}

#[test]
fn tagged_contacts_are_pinged_by_the_holder_of_the_tag() {
    let tag = "modparam(\"clusterer\", \"sharing_tag\", \"service/1=active\")\n";
    let ownership = "modparam(\"usrloc\", \"pinging_mode\", \"ownership\")\n";
    for mode in ["", ownership] {
        let first = clustered_with(1, &format!("{tag}{mode}"));
        let mut world = World::new(vec![first, clustered_with(2, mode)]);
        world.run_ms(12_000);
        register(&mut world, 0, 1);
        world.run_ms(100);
        assert_eq!(pinged(&world), [vec!["alice@x"], vec![]], "mode {mode:?}");
        world.mi(1, "clusterer:shtag_set_active", json!(["service/1"]));
        world.run_ms(100);
        assert_eq!(pinged(&world), [vec![], vec!["alice@x"]], "mode {mode:?}");
        world.add(0, "untagged", "sip:b@10.0.0.9", 600);
        world.run_ms(100);
        let everywhere = pinged(&world).concat().iter().filter(|a| *a == "untagged@x").count();
        assert_eq!(everywhere, if mode.is_empty() { 1 } else { 2 }, "mode {mode:?}");
    }
}
