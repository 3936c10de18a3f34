//! What a node with a database knows after it died or ended, on real processes.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value as Json, json};
use tandem_drivers::sqlite::{self, SqliteOptions};
use tandem_tests::{Crowd, PATIENCE, Phone, Process, Site, contacts, mi, program, wait_until};

const PHONES: u16 = 40;
const CROWD: u32 = 1_500;

fn make_database(site: &Site) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let path = site.dir().join("location.sqlite");
        let options = SqliteOptions { create: true, ..SqliteOptions::new(path) };
        let tables: Vec<_> = tandem_db::schema::table("location").into_iter().collect();
        sqlite::create_schema(&options, &tables).await.expect("the schema");
    });
}

fn start(site: &Site, preset: &str) -> Process {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let modules = ["proto_udp", "sl", "signaling", "db_sqlite", "usrloc", "registrar", "mi_fifo"];
    let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    let text = format!(
        "socket=udp:{ip}:5060\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-sql-{preset}\")\n\
         modparam(\"usrloc\", \"db_url\", \"sqlite://{dir}/location.sqlite\")\n\
         modparam(\"usrloc\", \"timer_interval\", 3600)\n\
         route {{ save(\"location\"); }}\n"
    );
    let script = site.write("restart.cfg", &text).to_string_lossy().into_owned();
    let log = site.dir().join("node.log");
    let _ = std::fs::remove_file(&log);
    let mut node = Process::start("node", &program(), &["-F", "-f", &script], site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

fn users(fifo: &Path) -> Vec<String> {
    let dump = mi(fifo, "ul_dump", Json::Null)["result"].clone();
    let aor = |c: &Json| c["AOR"].as_str().unwrap_or_default().to_owned();
    contacts(&dump).iter().map(aor).collect()
}

fn phones(site: &Site) -> Vec<Phone> {
    let at = |n: u16| (site.net.ip(2), 6000 + n);
    (0..PHONES).map(|n| Phone::new(&format!("u{n}"), at(n))).collect()
}

#[test]
fn every_contact_that_was_acknowledged_is_back_after_a_kill_in_write_through() {
    let site = Site::bare("restart-through");
    make_database(&site);
    let mut node = start(&site, "write-through");
    let registrar = (site.net.ip(1), 5060).into();
    let phones = phones(&site);
    phones.iter().for_each(|phone| phone.register_ok(registrar));
    let gone = phones[0].register(registrar, 0);
    assert_eq!(gone.code(), Some(200));
    node.kill();
    let mut node = start(&site, "write-through");
    let fifo = site.dir().join("fifo");
    let back = users(&fifo);
    assert_eq!(back.len(), usize::from(PHONES) - 1, "{back:?}");
    assert!(!back.iter().any(|aor| aor.starts_with("u0@")), "it was removed before");
    let shown = mi(&fifo, "ul_show_contact", json!(["location", back[0]]));
    assert_eq!(shown["result"]["Contacts"][0]["State"], "CS_SYNC", "{shown}");
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
}

#[test]
fn what_waits_to_be_written_back_is_written_at_an_orderly_end() {
    let site = Site::bare("restart-back");
    make_database(&site);
    let mut node = start(&site, "write-back");
    let registrar = (site.net.ip(1), 5060).into();
    // More than a few batches of writes.
    Crowd::new((site.net.ip(2), 6000), registrar).register(0..CROWD);
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
    let _node = start(&site, "write-back");
    let fifo = site.dir().join("fifo");
    wait_until("all contacts are back", PATIENCE, || users(&fifo).len() == CROWD as usize);
}
