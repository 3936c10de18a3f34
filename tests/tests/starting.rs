//! What a node answers while it starts: nothing before it can tell the truth.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;

use tandem_db::Query;
use tandem_drivers::sqlite::{self, SqliteOptions};
use tandem_tests::{PATIENCE, Phone, Process, Site, program, wait_for, wait_until};

/// Contacts in the database: some seconds of loading in a debug build.
const CONTACTS: u32 = 40_000;

fn stored_contacts(site: &Site) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let path = site.dir().join("location.sqlite");
    let options = SqliteOptions { create: true, ..SqliteOptions::new(path) };
    let tables: Vec<_> = tandem_db::schema::table("location").into_iter().collect();
    let domain = site.net.ip(1);
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {CONTACTS}) \
         INSERT INTO location (contact_id, username, domain, contact, expires, q, callid, cseq, \
         last_modified, flags, methods, user_agent) SELECT i, 'u' || i, '{domain}', \
         'sip:u' || i || '@192.0.2.1:5060', strftime('%s', 'now') + 3600, 1.0, 'c' || i, 1, \
         '2026-01-01 00:00:00', 0, 8191, 'phone' FROM n"
    );
    runtime.block_on(async {
        sqlite::create_schema(&options, &tables).await.unwrap();
        sqlite::ask(&options, &Query::Raw { sql }).await.unwrap();
    });
}

fn start(site: &Site, name: &str, text: &str) -> Process {
    let script = site.write(&format!("{name}.cfg"), text).to_string_lossy().into_owned();
    let args = ["-F", "-f", &script, "--state-dir", name];
    std::fs::create_dir_all(site.dir().join(name)).unwrap();
    Process::start(name, &program(), &args, site.dir(), &site.dir().join(format!("{name}.log")))
}

fn modules(names: &[&str]) -> String {
    names.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect()
}

/// The codes that an OPTIONS for a user gets, sent again and again until a final one has come and
/// the node says that it is ready.
fn codes(phone: &Phone, node: SocketAddr, user: &str, process: &mut Process) -> Vec<u16> {
    let call_id = format!("asks-for-{user}");
    let text = format!(
        "OPTIONS sip:{user}@{node} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK-{user}\r\n\
         From: <sip:a@{node}>;tag=o\r\nTo: <sip:{user}@{node}>\r\nCall-ID: {call_id}\r\n\
         CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        at = phone.at,
    );
    let codes = || phone.replies(&call_id, "1 OPTIONS").iter().filter_map(|r| r.code()).collect();
    wait_until("an answer of a node that is ready", PATIENCE, || {
        phone.send(node, text.as_bytes());
        let codes: Vec<u16> = codes();
        !codes.is_empty() && process.output().contains("ready")
    });
    codes()
}

#[test]
fn a_node_that_loads_its_contacts_answers_when_they_are_there() {
    let site = Site::bare("starting-slowly");
    stored_contacts(&site);
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let text = format!(
        "socket=udp:{ip}:5060\n{}\
         modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-sql-write-back\")\n\
         modparam(\"usrloc\", \"db_url\", \"sqlite://{dir}/location.sqlite\")\n\
         modparam(\"usrloc\", \"regen_broken_contactid\", 1)\n\
         modparam(\"usrloc\", \"use_domain\", 1)\n\
         route {{ if (lookup(\"location\")) sl_send_reply(200, \"Here\"); \
         else sl_send_reply(404, \"Nobody\"); }}\n",
        modules(&["proto_udp", "sl", "signaling", "db_sqlite", "usrloc", "registrar"])
    );
    let phone = Phone::new("asker", (site.net.ip(2), 5060));
    let mut node = start(&site, "node", &text);
    let last = format!("u{CONTACTS}");
    let codes = codes(&phone, (ip, 5060).into(), &last, &mut node);
    assert!(codes.iter().all(|code| *code == 200), "{codes:?}: {}", node.output());
}

#[test]
fn a_node_whose_peer_is_not_there_does_not_wait_for_it() {
    let site = Site::bare("starting-alone");
    let (ip, peer) = (site.net.ip(1), site.net.ip(2));
    let text = format!(
        "socket=udp:{ip}:5060\nsocket=bin:{ip}:5555\n{}\
         modparam(\"clusterer\", \"db_mode\", 0)\nmodparam(\"clusterer\", \"my_node_id\", 1)\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1,url=bin:{ip}:5555\")\n\
         modparam(\"clusterer\", \"neighbor_node_info\", \
         \"cluster_id=1,node_id=2,url=bin:{peer}:5555\")\n\
         modparam(\"usrloc\", \"working_mode_preset\", \"full-sharing-cluster\")\n\
         modparam(\"usrloc\", \"location_cluster\", 1)\n\
         route {{ sl_send_reply(200, \"Here\"); }}\n",
        modules(&["proto_udp", "proto_bin", "sl", "signaling", "clusterer", "usrloc", "registrar"])
    );
    let phone = Phone::new("asker", (site.net.ip(3), 5060));
    let mut node = start(&site, "node", &text);
    node.wait_for_output("ready", PATIENCE);
    let asked = tandem_tests::now();
    let found = wait_for("an answer", PATIENCE, || phone.options((ip, 5060).into()).code());
    let took = tandem_tests::now() - asked;
    assert_eq!(found, 200);
    assert!(took.as_millis() < 450, "it took {took:?}");
}
