//! The rows of calls in real databases that go away, from a node that is killed: one for each
//! answered call, counted against what the phones say.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;
use tandem_db::{DbUrl, Query, Rows, Select, Value};
use tandem_drivers::sqlite::{self, SqliteOptions};
use tandem_tests::{
    DbServer, Kind, PATIENCE, Process, Site, is_root, mi, program, uptime_ms, wait_until,
};

const DATABASE: &str = "opensips";

/// A registrar that accounts the calls of its phones.
fn script(site: &Site, module: &str, url: &str) -> String {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let modules = ["proto_udp", "sl", "signaling", "tm", "rr", "sipmsgops", "mi_fifo", "usrloc"];
    let more = ["registrar", module, "dialog", "acc"];
    let load = |m: &&str| format!("loadmodule \"{m}.so\"\n");
    let modules: String = modules.iter().chain(&more).map(load).collect();
    format!(
        r#"log_level=3
socket=udp:{ip}:5060
{modules}
modparam("mi_fifo", "fifo_name", "{dir}/fifo")
modparam("usrloc", "use_domain", 0)
modparam("acc", "db_url", "{url}")
modparam("acc", "extra_fields", "log: src_ip->source")
route {{
	if (has_totag()) {{
		loose_route();
		t_relay();
		exit;
	}}
	if (is_method("REGISTER")) {{
		save("location");
		exit;
	}}
	if (is_method("CANCEL")) {{
		t_relay();
		exit;
	}}
	if (is_method("INVITE")) {{
		create_dialog();
		$acc_extra(src_ip) = $si;
		do_accounting("db|log", "cdr|missed");
	}}
	record_route();
	if (!lookup("location")) {{
		send_reply(404, "Not Found");
		exit;
	}}
	t_relay();
}}
"#
    )
}

fn start(site: &Site, life: u32) -> Process {
    let log = site.dir().join(format!("node-{life}.log"));
    let args = ["-F", "-f", "cdr.cfg", "--state-dir", "state"];
    let node = Process::start("node", &program(), &args, site.dir(), &log);
    wait_until("the node is ready", PATIENCE, || node.output().contains("ready"));
    node
}

/// Calls placed by a process of their own.
struct Phones {
    process: Process,
    records: PathBuf,
}

impl Phones {
    fn start(site: &Site, port: u16, calls: u32, per_second: u32, hold_ms: u32) -> Self {
        let records = site.dir().join(format!("records-{port}.json"));
        let words = [
            format!("{}:{port}", site.net.ip(20)),
            format!("{}:5060", site.net.ip(1)),
            calls.to_string(),
            per_second.to_string(),
            hold_ms.to_string(),
            records.display().to_string(),
        ];
        let words = words.each_ref().map(String::as_str);
        let log = site.dir().join(format!("phones-{port}.log"));
        let phones = Path::new(env!("CARGO_BIN_EXE_phones"));
        let mut process = Process::start("phones", phones, &words, site.dir(), &log);
        process.wait_for_output("registered", PATIENCE);
        Self { process, records }
    }

    /// The calls that were answered, in order.
    fn answered(mut self) -> Vec<String> {
        assert!(self.process.wait(8 * PATIENCE).success(), "{}", self.process.output());
        let text = std::fs::read_to_string(&self.records).unwrap();
        let all = text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        let answered = all.filter(|r| !r["answered_ms"].is_null());
        let mut ids: Vec<String> =
            answered.map(|r| r["call"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

/// The Call-IDs of the rows of `acc`, in order.
fn written(rows: &Rows) -> Vec<String> {
    let text = |row: &Vec<Value>| row[0].as_str().unwrap_or_default().trim().to_owned();
    let mut all: Vec<String> = rows.rows.iter().map(text).collect();
    all.sort();
    all
}

fn all_calls() -> Query {
    let columns = vec!["callid".into(), "duration".into(), "ms_duration".into()];
    Query::Select(Select { table: "acc".into(), columns, ..Select::default() })
}

fn make_tables(url: &str) {
    for group in ["acc", "usrloc"] {
        let args = ["ctl", "--db", url, "db", "create", group];
        let made = Command::new(program()).args(args).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// What `tandemctl cdr spool` says.
fn spool(site: &Site) -> Json {
    mi(&site.dir().join("fifo"), "tandem:cdr_spool", Json::Null)["result"].clone()
}

/// Calls go on while the database is away; then the node dies with what it has not written.
fn story(test: &str, kind: Kind) {
    let site = Site::bare(test);
    let Some(mut server) = DbServer::start(&site, kind) else { return };
    let url = server.url(DATABASE);
    make_tables(&url);
    let module = if kind == Kind::MariaDb { "db_mysql" } else { "db_postgres" };
    site.write("cdr.cfg", &script(&site, module, &url));
    let mut node = start(&site, 1);
    let count = |server: &DbServer| {
        server.ask(DATABASE, all_calls()).map(|rows| written(&rows)).unwrap_or_default()
    };

    let phones = Phones::start(&site, 5070, 120, 40, 300);
    wait_until("rows are written", PATIENCE, || count(&server).len() > 10);
    server.kill();
    wait_until("records wait", PATIENCE, || spool(&site)["database"] == "away");
    let mut expected = phones.answered();
    assert_eq!(expected.len(), 120, "every call is answered");
    assert!(spool(&site)["waiting"].as_u64().unwrap() > 0, "{}", spool(&site));

    // It dies with records that nobody but its disk has.
    node.kill();
    let mut node = start(&site, 2);
    server.up();
    wait_until("each call has its row", 2 * PATIENCE, || count(&server).len() >= expected.len());
    assert_eq!(count(&server), expected);

    // The next calls are those of the same phones: each row is another one.
    let phones = Phones::start(&site, 5071, 40, 40, 1_200);
    let again = phones.answered();
    expected.extend(again);
    expected.sort();
    wait_until("the later calls as well", PATIENCE, || count(&server).len() >= expected.len());
    assert_eq!(count(&server), expected);
    wait_until("nothing waits", PATIENCE, || spool(&site)["waiting"] == 0);

    let rows = server.ask(DATABASE, all_calls()).unwrap();
    for row in &rows.rows {
        let (s, ms) = (row[1].as_int().unwrap(), row[2].as_int().unwrap());
        assert_eq!(s, (ms + 999) / 1000, "duration {s} of {ms} ms");
    }
    let longest = rows.rows.iter().filter_map(|r| r[2].as_int()).max();
    assert!(longest >= Some(1_200), "{longest:?}");
    node.signal(rustix::process::Signal::TERM);
    assert!(node.wait(PATIENCE).success());
    let lines = node.output().matches("ACC: call ended: ").count();
    assert_eq!(lines, 40, "the log has each call as well");
}

#[test]
fn each_call_has_one_row_in_mariadb() {
    story("cdr-mariadb", Kind::MariaDb);
}

#[test]
fn each_call_has_one_row_in_postgresql() {
    story("cdr-postgresql", Kind::Postgres);
}

#[test]
fn each_call_has_one_row_in_sqlite_whatever_is_missing_at_first() {
    let site = Site::bare("cdr-sqlite");
    let path = site.dir().join("calls.sqlite");
    let url = DbUrl::parse(&format!("sqlite://{}", path.display())).unwrap().to_string();
    make_tables(&url);
    // An existing database knows nothing of identities: the node makes the table.
    ask(&path, &Query::Raw { sql: "DROP TABLE tandem_cdr".into() });
    site.write("cdr.cfg", &script(&site, "db_sqlite", &url));
    let mut node = start(&site, 1);
    let phones = Phones::start(&site, 5070, 60, 60, 200);
    let answered = phones.answered();
    assert_eq!(answered.len(), 60);
    wait_until("each call has its row", PATIENCE, || {
        written(&ask(&path, &all_calls())).len() >= 60
    });
    assert_eq!(written(&ask(&path, &all_calls())), answered);
    let fifo = site.dir().join("fifo").display().to_string();
    let args = ["ctl", "--fifo", &fifo, "cdr", "spool"];
    let shown = Command::new(program()).args(args).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("written_how: once") && shown.contains("Records: none"), "{shown}");
    // What was written before is not written again.
    node.kill();
    let _node = start(&site, 2);
    wait_until("it has looked", PATIENCE, || {
        let shown = spool(&site);
        shown["were_written_before"].as_u64() > Some(0) && shown["waiting"] == 0
    });
    assert_eq!(written(&ask(&path, &all_calls())), answered);
}

/// What became of the calls of a process of phones.
fn records(path: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A node is told to end amid calls that end.
fn end_amid_calls(round: u32) {
    let site = Site::bare(&format!("cdr-end-{round}"));
    let path = site.dir().join("calls.sqlite");
    let url = DbUrl::parse(&format!("sqlite://{}", path.display())).unwrap().to_string();
    make_tables(&url);
    site.write("cdr.cfg", &script(&site, "db_sqlite", &url));
    let mut node = start(&site, 1);
    let phones = Phones::start(&site, 5070, 200, 200, 100 + 30 * round);
    wait_until("calls end", PATIENCE, || !written(&ask(&path, &all_calls())).is_empty());
    node.signal(rustix::process::Signal::TERM);
    assert!(node.wait(PATIENCE).success(), "{}", node.output());
    let ended_ms = uptime_ms();
    let _node = start(&site, 2);
    let Phones { mut process, records: file } = phones;
    assert!(process.wait(8 * PATIENCE).success(), "{}", process.output());
    // The node keeps no dialogs: what ends later has no row.
    let in_time = |r: &Json| {
        r["ended"] == 200 && r["bye_ms"].is_u64() && r["ended_ms"].as_u64() <= Some(ended_ms)
    };
    let ended = records(&file).into_iter().filter(in_time);
    let ended: Vec<String> = ended.map(|r| r["call"].as_str().unwrap().to_owned()).collect();
    assert!(!ended.is_empty());
    let rows = || written(&ask(&path, &all_calls()));
    let missing = || {
        let rows = rows();
        ended.iter().filter(|call| !rows.contains(*call)).count()
    };
    wait_until("each call has its row", PATIENCE, || missing() == 0);
    wait_until("nothing waits", PATIENCE, || spool(&site)["waiting"] == 0);
    assert!(rows().windows(2).all(|two| two[0] != two[1]), "a call has two rows");
}

#[test]
fn a_call_that_ends_while_the_node_ends_has_its_row() {
    (1..=4).for_each(end_amid_calls);
}

/// A small disk where the spool is, for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let words = ["-t", "tmpfs", "-o", "size=64k", "none"];
        let mounted = Command::new("mount").args(words).arg(&at).status().unwrap();
        assert!(mounted.success(), "mounting takes root");
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is still open goes with its process.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_costs_no_row() {
    if !is_root() {
        panic!("a disk of its own takes root: run the tests as root");
    }
    let site = Site::bare("cdr-disk");
    let Some(mut server) = DbServer::start(&site, Kind::MariaDb) else { return };
    let url = server.url(DATABASE);
    make_tables(&url);
    site.write("cdr.cfg", &script(&site, "db_mysql", &url));
    let _disk = SmallDisk::mount(site.dir().join("state/node-0/spool"));
    let node = start(&site, 1);
    server.kill();
    let phones = Phones::start(&site, 5070, 300, 100, 200);
    let answered = phones.answered();
    assert_eq!(answered.len(), 300, "phones notice nothing");
    assert!(node.output().contains("records cannot be added to the spool"), "{}", node.output());
    server.up();
    let count = || server.ask(DATABASE, all_calls()).map(|rows| written(&rows)).unwrap_or_default();
    wait_until("each call has its row", 2 * PATIENCE, || count().len() >= answered.len());
    assert_eq!(count(), answered);
}

fn ask(path: &Path, query: &Query) -> Rows {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = SqliteOptions::new(path);
    runtime.block_on(sqlite::ask(&options, query)).unwrap()
}
