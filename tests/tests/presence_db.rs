//! Presence, its rules and its lamps in a database, on MariaDB and PostgreSQL: whom the rules let
//! in, what a crash leaves, and that a lamp goes out which an earlier life of the node has lit.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::SocketAddr;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value as Json;
use tandem_db::{Query, Select, Value};
use tandem_tests::{
    DbServer, Kind, Message, PATIENCE, Phone, Process, Site, mi, program, wait_until,
};

const DATABASE: &str = "opensips";

const PIDF: &str = "<?xml version=\"1.0\"?>\r\n\
    <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:alice@a.test\">\
    <tuple id=\"t\"><status><basic>open</basic></status><note>it's \u{e4} \\ 'note'</note></tuple>\
    </presence>\r\n";

/// Alice lets bob in, and nobody else.
const RULES: &str = "<ruleset xmlns=\"urn:ietf:params:xml:ns:common-policy\"><rule id=\"r\">\
    <conditions><identity><one id=\"sip:bob@a.test\"/></identity></conditions><actions>\
    <sub-handling xmlns=\"urn:ietf:params:xml:ns:pres-rules\">allow</sub-handling></actions>\
    <transformations><provide-services xmlns=\"urn:ietf:params:xml:ns:pres-rules\">\
    <all-services/></provide-services><provide-all-attributes \
    xmlns=\"urn:ietf:params:xml:ns:pres-rules\"/></transformations></rule></ruleset>";

struct Stage {
    site: Site,
    server: DbServer,
    driver: &'static str,
}

impl Stage {
    fn new(name: &str, kind: Kind) -> Option<Self> {
        let site = Site::bare(name);
        let server = DbServer::start(&site, kind)?;
        let url = server.url(DATABASE);
        for part in ["dialog", "presence"] {
            let words = ["ctl", "--db", &url, "db", "create", part];
            let made = Command::new(program()).args(words).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let driver = if kind == Kind::MariaDb { "db_mysql" } else { "db_postgres" };
        Some(Self { site, server, driver })
    }

    fn node(&self) -> SocketAddr {
        (self.site.net.ip(1), 5060).into()
    }

    fn start(&self) -> Process {
        let (ip, dir) = (self.site.net.ip(1), self.site.dir().display());
        let (callee, url) = (self.site.net.ip(11), self.server.url(DATABASE));
        let words = "proto_udp sl tm rr signaling sipmsgops mi_fifo DRIVER dialog presence xcap \
                     presence_xml presence_dialoginfo pua pua_dialoginfo";
        let words = words.replace("DRIVER", self.driver);
        let modules: String =
            words.split_whitespace().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
        let text = format!(
            "log_level=3\nsocket=udp:{ip}:5060\ndb_default_url=\"{url}\"\n{modules}\
             modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
             modparam(\"dialog\", \"db_mode\", 1)\n\
             modparam(\"presence\", \"db_url\", \"{url}\")\n\
             modparam(\"presence\", \"db_update_period\", 1)\n\
             modparam(\"pua\", \"db_url\", \"{url}\")\n\
             modparam(\"pua\", \"update_period\", 1)\n\
             modparam(\"pua_dialoginfo\", \"presence_server\", \"sip:{ip}:5060\")\n\
             route {{\n\
             if ($rm == \"PUBLISH\") {{ handle_publish(); exit; }}\n\
             if ($rm == \"SUBSCRIBE\") {{ handle_subscribe(); exit; }}\n\
             if (has_totag()) {{ if (!loose_route()) {{ sl_send_reply(404, \"Not here\"); exit; }}\n\
             t_relay(); exit; }}\n\
             create_dialog(); dialoginfo_set();\n\
             record_route(); $du = \"sip:{callee}:5060\"; t_relay(); }}\n"
        );
        let script = self.site.write("node.cfg", &text).to_string_lossy().into_owned();
        let log = self.site.dir().join("node.log");
        let before = std::fs::read(&log).unwrap_or_default().len();
        let args = ["-F", "-f", &script, "--state-dir", "state"];
        let mut node = Process::start("node", &program(), &args, self.site.dir(), &log);
        node.wait_for_output_after(before, "ready", PATIENCE);
        node
    }

    fn rows(&self, table: &'static str) -> usize {
        let all = Select { table: table.into(), columns: vec!["id".into()], ..Select::default() };
        self.server.ask(DATABASE, Query::Select(all)).unwrap().rows.len()
    }

    fn wait_for_rows(&self, what: &str, wanted: [(&'static str, usize); 3]) {
        wait_until(what, PATIENCE, || wanted.iter().all(|(table, n)| self.rows(table) == *n));
    }

    fn add_rules(&self) {
        let text = |text: &str| Value::Str(text.to_owned());
        let row = vec![
            ("username".into(), text("alice")),
            ("domain".into(), text("a.test")),
            ("doc".into(), Value::Blob(RULES.into())),
            ("doc_type".into(), Value::Int(2)),
            ("etag".into(), text("e")),
            ("source".into(), Value::Int(0)),
            ("doc_uri".into(), text("index")),
            ("port".into(), Value::Int(0)),
        ];
        self.server.ask(DATABASE, Query::Insert { table: "xcap".into(), row }).unwrap();
    }

    fn subscribe(&self, phone: &Phone, whom: &str, event: &str) -> (String, Option<u16>) {
        let (at, user) = (phone.shown, &phone.user);
        let call_id = format!("{event}-{user}");
        let request = format!(
            "SUBSCRIBE sip:{whom} SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bK{call_id}\
             \r\nMax-Forwards: 70\r\nFrom: <sip:{user}@a.test>;tag=w\r\nTo: <sip:{whom}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 SUBSCRIBE\r\nContact: <sip:{user}@{at}>\r\n\
             Event: {event}\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n"
        );
        let reply = phone.transact(self.node(), &request, &call_id, "1 SUBSCRIBE");
        (call_id, reply.code())
    }

    fn publish(&self, phone: &Phone, n: u32, etag: &str, body: &str) -> Message {
        let at = phone.shown;
        let etag =
            if etag.is_empty() { String::new() } else { format!("SIP-If-Match: {etag}\r\n") };
        let kind = "Content-Type: application/pidf+xml\r\n";
        let kind = if body.is_empty() { "" } else { kind };
        let request = format!(
            "PUBLISH sip:alice@a.test SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bKp{n}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:alice@a.test>;tag=p\r\nTo: <sip:alice@a.test>\r\n\
             Call-ID: p-{n}\r\nCSeq: {n} PUBLISH\r\nEvent: presence\r\nExpires: 600\r\n{etag}{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        phone.transact(self.node(), &request, &format!("p-{n}"), &format!("{n} PUBLISH"))
    }
}

fn last(phone: &Phone, call_id: &str) -> Option<Message> {
    phone.requests("NOTIFY", call_id).pop()
}

fn wait_for(phone: &Phone, call_id: &str, word: &str) {
    let told = || last(phone, call_id).is_some_and(|notify| notify.body.contains(word));
    wait_until(&format!("{call_id} to be told {word}"), PATIENCE, told);
}

fn story(name: &str, kind: Kind) {
    let Some(stage) = Stage::new(name, kind) else { return };
    stage.add_rules();
    let mut node = stage.start();
    let phone = |user: &str, n: u8| Phone::new(user, (stage.site.net.ip(n), 5060));
    let (alice, callee) = (phone("alice", 10), phone("dave", 11));
    let (bob, carol) = (phone("bob", 12), phone("carol", 13));

    // The rules let bob see, and carol wait.
    let published = stage.publish(&alice, 1, "", PIDF);
    assert_eq!(published.code(), Some(200), "{published:?}");
    let (watch, code) = stage.subscribe(&bob, "alice@a.test", "presence");
    assert_eq!(code, Some(200));
    wait_for(&bob, &watch, "open");
    let (waits, code) = stage.subscribe(&carol, "alice@a.test", "presence");
    assert_eq!(code, Some(202));
    wait_until("carol to hear that she waits", PATIENCE, || last(&carol, &waits).is_some());
    let told = last(&carol, &waits).unwrap();
    assert!(told.want("Subscription-State").starts_with("pending") && told.body.is_empty());

    // A call is published, and all of it is in the database.
    let host = stage.node().ip();
    let (lamp, code) = stage.subscribe(&bob, &format!("dave@{host}"), "dialog");
    assert_eq!(code, Some(200));
    let call = alice.call(stage.node(), "dave");
    wait_for(&bob, &lamp, "confirmed");
    let all = [("presentity", 3), ("active_watchers", 3), ("pua", 2)];
    stage.wait_for_rows("everything in the database", all);

    // The next life knows it all: the ETag, the watchers, and the lamp.
    node.signal(Signal::KILL);
    let _ = node.wait(PATIENCE);
    let _node = stage.start();
    let etag = published.want("SIP-ETag").to_owned();
    let away = PIDF.replace("open", "closed");
    let again = stage.publish(&alice, 2, &etag, &away);
    assert_eq!(again.code(), Some(200), "{again:?}");
    // Nothing is said to him before the rules have been read again.
    wait_for(&bob, &watch, "closed");
    assert!(last(&bob, &watch).unwrap().body.contains("it's \u{e4} \\ 'note'"));
    let fifo = stage.site.dir().join("fifo");
    let up = || mi(&fifo, "dialog:list", Json::Null).to_string().contains(&call.call_id);
    wait_until("the call is back", PATIENCE, up);
    assert_eq!(call.request("BYE").code(), Some(200));
    wait_for(&bob, &lamp, "terminated");
    let rest = [("presentity", 1), ("active_watchers", 3), ("pua", 0)];
    stage.wait_for_rows("only what alice has published", rest);
    drop(callee);
}

#[test]
fn presence_and_lamps_outlive_a_crash_on_mariadb() {
    story("presence-mariadb", Kind::MariaDb);
}

#[test]
fn presence_and_lamps_outlive_a_crash_on_postgresql() {
    story("presence-postgresql", Kind::Postgres);
}
