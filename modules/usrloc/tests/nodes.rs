//! Nodes that replicate to each other, restart and lose each other, in memory.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value as Json, json};
use tandem_clock::MS;
use tandem_cluster::ConnId;
use tandem_engine::catalogue::Modules;
use tandem_engine::core::CORE;
use tandem_engine::effect::{BinInput, Input};
use tandem_engine::module::ModuleDef;
use tandem_engine::testing::Nodes;
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

/// Nodes that share contacts.
struct World(Nodes);

impl Deref for World {
    type Target = Nodes;

    fn deref(&self) -> &Nodes {
        &self.0
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Nodes {
        &mut self.0
    }
}

impl World {
    fn new(scripts: Vec<String>) -> Self {
        Self::at(1_800_000_000_000, scripts)
    }

    fn at(unix_ms: u64, scripts: Vec<String>) -> Self {
        let mut nodes = Nodes::asleep(MODULES, scripts);
        nodes.now.unix_ms = unix_ms;
        nodes.watch(stored);
        nodes.boot_all();
        Self(nodes)
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
    world.advance_ms(12_000);
    world
}

#[test]
fn a_contact_is_on_the_other_node_at_once_and_equal_in_every_field() {
    let mut world = pair();
    world.add(0, "alice", "sip:a@10.0.0.9", 600);
    world.advance_ms(10);
    let there = world.contacts(1);
    assert_eq!(there, world.contacts(0), "{:#?}", world.logs);
    assert_eq!(there.len(), 1);
    world.add(1, "alice", "sip:a@10.0.0.9", 900);
    world.add(1, "alice", "sip:b@10.0.0.9", 900);
    world.advance_ms(10);
    assert_eq!(world.contacts(0).len(), 2);
    assert_eq!(world.contacts(0), world.contacts(1));
    world.remove(0, "alice");
    world.advance_ms(10);
    assert!(world.contacts(1).is_empty());
}

/// Feeds a REGISTER to a node.
fn register(world: &mut World, at: usize, cseq: u32) {
    let text = format!(
        "REGISTER sip:x SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.9:5070;branch=z9hG4bK{cseq}\n\
         From: <sip:alice@x>;tag=1\nTo: <sip:alice@x>\nCall-ID: c\n\
         CSeq: {cseq} REGISTER\nContact: <sip:alice@10.0.0.9:5070>\n\
         Content-Length: 0\n\n"
    );
    world.udp(at, "10.0.0.9:5070", &text);
}

#[test]
fn a_phone_hears_of_its_registration_when_the_peer_has_it() {
    let mut world = pair();
    register(&mut world, 0, 1);
    world.advance_ms(30);
    let (reply, had) = world.sent.remove(0);
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    assert_eq!(had, [1, 1], "the peer has it when the reply leaves");
    world.kill(1);
    world.advance_ms(10_000);
    register(&mut world, 0, 2);
    world.advance_ms(30);
    assert!(world.sent.remove(0).0.starts_with("SIP/2.0 200"), "phones never wait for a peer");
}

#[test]
fn each_node_shows_its_own_socket_for_a_replicated_contact() {
    let mut world = pair();
    register(&mut world, 0, 1);
    world.advance_ms(30);
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
    world.advance_ms(1000);
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

/// Facts on the wire: the receiver makes the AoR, with the sender's labels; without contacts it
/// goes with the next cleaning.
#[test]
fn an_aor_of_a_stock_node_is_there_before_its_contacts() {
    let mut world = World::at(1_795_421_892_000, vec![String::new(), clustered(2)]);
    world.advance_ms(1000);
    let conn = ConnId::Accepted(77);
    let peer = SocketAddr::from(([127, 0, 1, 1], 5000));
    world.step(1, Input::Bin(BinInput::Accepted { conn, peer }));
    let insert = captured("052-usrloc-contact-repl-01-urecord-insert.hex");
    let told = |world: &mut World| {
        world.step(1, Input::Bin(BinInput::Data { conn, bytes: insert.clone() }));
    };
    let aors = |world: &mut World| {
        let dump = world.mi(1, "usrloc:dump", Json::Null);
        let aors = dump["result"]["Domains"][0]["AORs"].as_array().cloned().unwrap_or_default();
        let names = ["location-users", "location-contacts"];
        let figures = world.mi(1, "statistics:get", json!({ "statistics": names }));
        let figure = |name: &str| figures["result"][format!("usrloc:{name}")].as_u64().unwrap();
        (aors, figure(names[0]), figure(names[1]))
    };
    let user = "alice@127.0.77.11";
    told(&mut world);
    told(&mut world);
    assert_eq!(aors(&mut world), (vec![json!({ "AOR": user, "Contacts": [] })], 1, 0));
    world.advance_ms(62_000);
    assert_eq!(aors(&mut world), (vec![], 0, 0), "no contact came");
    told(&mut world);
    let params = json!(["location", user, "sip:a@10.0.0.9", 600, "0.5", 0, "", 0]);
    assert_eq!(world.mi(1, "usrloc:add", params)["result"], "OK");
    let (all, users, contacts) = aors(&mut world);
    assert_eq!((users, contacts), (1, 1));
    let id: u64 = all[0]["Contacts"][0]["ContactID"].as_str().unwrap().parse().unwrap();
    assert_eq!(id, 241_646_267_506_106_979, "with the labels of the stock node");
    world.mi(1, "usrloc:rm", json!(["location", user]));
    assert_eq!(aors(&mut world), (vec![], 0, 0));
    told(&mut world);
    assert_eq!(world.mi(1, "usrloc:rm", json!(["location", user]))["result"], "OK");
    assert_eq!(aors(&mut world), (vec![], 0, 0), "one without contacts is removed as well");
}

#[test]
fn a_node_that_starts_again_gets_everything_and_expiry_is_silent() {
    let mut world = pair();
    for n in 0..50 {
        world.add(0, &format!("user{n}"), "sip:a@10.0.0.9", 600);
    }
    world.add(0, "brief", "sip:a@10.0.0.9", 60);
    world.kill(1);
    world.advance_ms(1000);
    world.boot(1);
    world.advance_ms(10_000);
    assert_eq!(world.contacts(1).len(), 51, "{:#?}", world.logs);
    assert_eq!(world.contacts(0), world.contacts(1));
    world.advance_ms(60_000);
    assert_eq!((world.contacts(0).len(), world.contacts(1).len()), (50, 50));
    let answer = world.mi(1, "usrloc:cluster_sync", Json::Null);
    assert_eq!(answer["result"], "OK");
    world.advance_ms(5000);
    assert_eq!(world.contacts(0), world.contacts(1));
}

#[test]
fn nodes_that_lost_each_other_agree_again_deletes_included() {
    let mut world = pair();
    world.add(0, "stays", "sip:a@10.0.0.9", 600);
    world.add(0, "leaves", "sip:a@10.0.0.9", 600);
    world.advance_ms(100);
    world.cut();
    world.advance_ms(2000);
    world.remove(1, "leaves");
    world.add(1, "late", "sip:b@10.0.0.9", 600);
    world.add(0, "early", "sip:c@10.0.0.9", 600);
    world.advance_ms(5000);
    assert_eq!(world.users(0), ["early", "leaves", "stays"]);
    assert_eq!(world.users(1), ["late", "stays"]);
    world.heal();
    world.advance_ms(90_000);
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
        let mut leaves = usrloc.leaves(tags);
        let mut mine: Vec<String> = usrloc
            .all(&table, world.now)
            .filter(|(contact, _)| leaves.of(contact).is_some())
            .map(|(contact, _)| String::from_utf8_lossy(contact.aor()).into_owned())
            .collect();
        mine.sort();
        mine
    };
    world.workers.iter().flatten().map(of).collect()
}

#[test]
fn cooperating_nodes_share_the_pinging() {
    let mut world = pair();
    for n in 0..40 {
        world.add(0, &format!("user{n}"), "sip:a@10.0.0.9", 600);
    }
    world.advance_ms(100);
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
        world.advance_ms(12_000);
        register(&mut world, 0, 1);
        world.advance_ms(100);
        assert_eq!(pinged(&world), [vec!["alice@x"], vec![]], "mode {mode:?}");
        world.mi(1, "clusterer:shtag_set_active", json!(["service/1"]));
        world.advance_ms(100);
        assert_eq!(pinged(&world), [vec![], vec!["alice@x"]], "mode {mode:?}");
        world.add(0, "untagged", "sip:b@10.0.0.9", 600);
        world.advance_ms(100);
        let everywhere = pinged(&world).concat().iter().filter(|a| *a == "untagged@x").count();
        assert_eq!(everywhere, if mode.is_empty() { 1 } else { 2 }, "mode {mode:?}");
    }
}
