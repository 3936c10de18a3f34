//! The same node on MariaDB and on PostgreSQL, which come and go.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value as Json;
use tandem_db::{Query, Select, Value};
use tandem_tests::{
    DbServer, Kind, Message, PATIENCE, Phone, Process, Site, authorization, contacts, mi, now,
    program, wait_until,
};

const DOMAIN: &str = "sip.example.org";
const DATABASE: &str = "opensips";

fn ctl(url: &str, words: &[&str]) -> String {
    let output =
        Command::new(program()).args(["ctl", "--db", url]).args(words).output().expect("ctl");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{words:?}: {text}");
    text
}

fn row(table: &'static str, values: &[(&'static str, &str)]) -> Query {
    let value = |text: &str| Value::Str(text.to_owned());
    let row = values.iter().map(|(name, text)| ((*name).into(), value(text))).collect();
    Query::Insert { table: table.into(), row }
}

/// A registrar with users, domains, aliases and contacts in the database. Bob needs no password.
fn script(site: &Site, kind: Kind, url: &str) -> String {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let (db, timeout) = match kind {
        Kind::MariaDb => ("db_mysql", "timeout_interval"),
        Kind::Postgres => ("db_postgres", "timeout"),
    };
    let modules = ["proto_udp", "sl", "signaling", "tm", "sipmsgops", "mi_fifo", db, "usrloc"];
    let more = ["registrar", "auth", "auth_db", "domain", "alias_db"];
    let load = |m: &&str| format!("loadmodule \"{m}.so\"\n");
    let modules: String = modules.iter().chain(&more).map(load).collect();
    format!(
        "log_level=3\nsocket=udp:{ip}:5060\ndb_default_url=\"{url}\"\n{modules}\
         modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"{db}\", \"{timeout}\", 1)\n\
         modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-sql-write-back\")\n\
         modparam(\"usrloc\", \"timer_interval\", 1)\nmodparam(\"usrloc\", \"use_domain\", 1)\n\
         modparam(\"auth_db\", \"calculate_ha1\", 0)\n\
         modparam(\"auth_db\", \"password_column\", \"ha1\")\n\
         route {{\n\
         \x20 if (is_method(\"OPTIONS\")) {{ sl_send_reply(200, \"OK\"); exit; }}\n\
         \x20 if (!is_method(\"REGISTER\")) {{\n\
         \x20  if (alias_db_lookup(\"dbaliases\")) sl_send_reply(302, \"$rU\");\n\
         \x20  else sl_send_reply(404, \"Not Found\");\n\
         \x20  exit;\n\
         \x20 }}\n\
         \x20 if ($tU == \"bob\") {{ save(\"location\"); exit; }}\n\
         \x20 if (!is_domain_local($td)) {{ sl_send_reply(403, \"Not here\"); exit; }}\n\
         \x20 if (!www_authorize(\"\", \"subscriber\")) {{ www_challenge(\"\", \"auth\"); exit; }}\n\
         \x20 save(\"location\");\n}}\n"
    )
}

fn start(site: &Site) -> Process {
    let log = site.dir().join("node.log");
    let earlier = std::fs::read_to_string(&log).unwrap_or_default().matches("ready").count();
    let args = ["-F", "-f", "db.cfg", "--state-dir", "state"];
    let node = Process::start("node", &program(), &args, site.dir(), &log);
    wait_until("the node is ready", PATIENCE, || node.output().matches("ready").count() > earlier);
    node
}

fn register(phone: &Phone, to: SocketAddr, cseq: u32, domain: &str, more: &str) -> Message {
    let (user, at) = (&phone.user, phone.at);
    let call_id = format!("db-{user}-{at}");
    let request = format!(
        "REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bK{user}{cseq}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@{domain}>;tag=t{cseq}\r\n\
         To: <sip:{user}@{domain}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\
         Contact: <sip:{user}@{at}>\r\nExpires: 600\r\n{more}Content-Length: 0\r\n\r\n"
    );
    phone.transact(to, &request, &call_id, &format!("{cseq} REGISTER"))
}

/// Registers with a password; the code of the last reply.
fn log_in(phone: &Phone, to: SocketAddr, cseq: u32, password: &str) -> Option<u16> {
    let challenged = register(phone, to, cseq, DOMAIN, "");
    if challenged.code() != Some(401) {
        return challenged.code();
    }
    let answer = authorization(&challenged, &format!("sip:{DOMAIN}"), &phone.user, password);
    register(phone, to, cseq + 1, DOMAIN, &answer).code()
}

fn in_memory(site: &Site) -> Vec<String> {
    let dump = mi(&site.dir().join("fifo"), "ul_dump", Json::Null)["result"].clone();
    contacts(&dump).iter().map(|c| c["AOR"].as_str().unwrap().to_owned()).collect()
}

fn in_rows(server: &DbServer) -> Vec<String> {
    let columns = vec!["username".into(), "domain".into()];
    let all = Select { table: "location".into(), columns, ..Select::default() };
    let rows = server.ask(DATABASE, Query::Select(all)).unwrap_or_default().rows;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<String> =
        rows.iter().map(|r| format!("{}@{}", text(&r[0]), text(&r[1]))).collect();
    all.sort();
    all
}

fn story(test: &str, kind: Kind) {
    let site = Site::bare(test);
    let Some(mut server) = DbServer::start(&site, kind) else { return };
    let url = server.url(DATABASE);
    assert!(ctl(&url, &["db", "create"]).contains("tables are there"));
    assert!(ctl(&url, &["db", "create", "alias_db"]).contains("tables are there"));
    ctl(&url, &["user", "add", &format!("alice@{DOMAIN}"), "sec'ret"]);
    assert_eq!(ctl(&url, &["user", "list"]), format!("USER\nalice@{DOMAIN}\n"));
    server.ask(DATABASE, row("domain", &[("domain", DOMAIN)])).unwrap();
    let alias = [
        ("alias_username", "4711"),
        ("alias_domain", DOMAIN),
        ("username", "alice"),
        ("domain", DOMAIN),
    ];
    server.ask(DATABASE, row("dbaliases", &alias)).unwrap();
    site.write("db.cfg", &script(&site, kind, &url));
    let mut node = start(&site);
    let to = SocketAddr::from((site.net.ip(1), 5060));
    let alice = Phone::new("alice", (site.net.ip(10), 5060));
    let bob = Phone::new("bob", (site.net.ip(11), 5060));
    works(&site, &server, to, [&alice, &bob]);

    // What was written is back after a crash of the node.
    node.kill();
    let mut node = start(&site);
    wait_until("the contact is back", PATIENCE, || in_memory(&site).len() == 1);

    server.kill();
    costs_lag(&node, to, [&alice, &bob]);
    server.up();
    wait_until("users are known again", 2 * PATIENCE, || {
        log_in(&alice, to, next(), "sec'ret") == Some(200)
    });
    let both = [format!("alice@{DOMAIN}"), "bob@elsewhere.org".to_owned()];
    wait_until("bob's row is written late", PATIENCE, || in_rows(&server) == both);
    assert!(node.output().contains("is connected"), "{}", node.output());

    silent(&mut server, to, &alice);
    node.signal(Signal::TERM);
    assert!(node.wait(PATIENCE).success());
    assert!(!node.output().contains("opensips'rw"), "the password is in the log");
}

/// A CSeq that no request before had.
fn next() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(100);
    NEXT.fetch_add(2, Ordering::Relaxed)
}

fn works(site: &Site, server: &DbServer, to: SocketAddr, [alice, bob]: [&Phone; 2]) {
    assert_eq!(log_in(alice, to, next(), "guessed"), Some(401));
    assert_eq!(log_in(alice, to, next(), "sec'ret"), Some(200));
    let elsewhere = register(alice, to, next(), "elsewhere.org", "");
    assert_eq!(elsewhere.code(), Some(403), "{elsewhere:?}");
    assert_eq!(in_memory(site), [format!("alice@{DOMAIN}")]);
    wait_until("the row is written", PATIENCE, || in_rows(server) == [format!("alice@{DOMAIN}")]);
    for (user, expected) in [("4711", "SIP/2.0 302 alice"), ("4712", "SIP/2.0 404 Not Found")] {
        let call_id = format!("alias-{user}");
        let request = format!(
            "MESSAGE sip:{user}@{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{user}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:bob@{DOMAIN}>;tag=a\r\nTo: <sip:{user}@{DOMAIN}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n",
            at = bob.at
        );
        assert_eq!(bob.transact(to, &request, &call_id, "1 MESSAGE").start, expected);
    }
}

/// While the server is gone phones are served as far as they do not need it, and at once.
fn costs_lag(node: &Process, to: SocketAddr, [alice, bob]: [&Phone; 2]) {
    let code = log_in(alice, to, next(), "sec'ret");
    assert_ne!(code, Some(200), "nobody can tell alice's password");
    for _ in 0..20 {
        let begun = now();
        assert_eq!(bob.options(to).code(), Some(200));
        assert!(now() - begun < Duration::from_secs(1), "a worker waited for the database");
    }
    assert_eq!(register(bob, to, next(), "elsewhere.org", "").code(), Some(200));
    wait_until("the loss is told", PATIENCE, || node.output().contains("is lost"));
}

/// A server that neither answers nor closes.
fn silent(server: &mut DbServer, to: SocketAddr, alice: &Phone) {
    let process = server.process.as_mut().expect("it runs");
    process.signal_all(Signal::STOP);
    let code = log_in(alice, to, next(), "sec'ret");
    assert_ne!(code, Some(200));
    let begun = now();
    assert_eq!(alice.options(to).code(), Some(200));
    assert!(now() - begun < Duration::from_secs(1), "a worker waited for the database");
    process.signal_all(Signal::CONT);
    wait_until("it answers again", 2 * PATIENCE, || {
        log_in(alice, to, next(), "sec'ret") == Some(200)
    });
}

#[test]
fn a_registrar_lives_on_mariadb() {
    story("mariadb", Kind::MariaDb);
}

#[test]
fn a_registrar_lives_on_postgresql() {
    story("postgresql", Kind::Postgres);
}
