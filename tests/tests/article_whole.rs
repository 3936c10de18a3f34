//! The article, end to end: its own files, unchanged, on SQLite and on MariaDB, in the spelling
//! of 3.0 and of 4.0. Users register, call, publish, subscribe, are routed to gateways and
//! pinged; the active node dies; the hook runs. Each claim of the article is an assertion, made
//! by what the phones and gateways hear and what is in the database.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tandem_db::{Query, Rows, Value};
use tandem_drivers::sqlite::{self, SqliteOptions};
use tandem_tests::{
    DbServer, Kind, Message, PATIENCE, Phone, Process, Site, User, assert_same_contacts, contacts,
    in_own_world, mi, program, repository, wait_until,
};

/// The files ping phones and gateways every 30 s.
const ROUND: Duration = Duration::from_secs(50);
const DOMAIN: &str = "sip.example.org";
/// A number that the rule without prefix takes: carrier car1, first gw1, then gw2.
const ABROAD: &str = "sip:5012345@pstn.example.net";

/// The one database of the two nodes.
enum Store {
    Sqlite(PathBuf),
    MariaDb(DbServer),
}

impl Store {
    fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
            Self::MariaDb(server) => server.url("opensips"),
        }
    }

    fn ask(&self, sql: &str) -> Rows {
        let query = Query::Raw { sql: sql.into() };
        let Self::Sqlite(path) = self else {
            let Self::MariaDb(server) = self else { unreachable!("there are two kinds") };
            return server.ask("opensips", query).unwrap_or_else(|e| panic!("{sql}: {e}"));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = SqliteOptions::new(path);
        runtime.block_on(sqlite::ask(&options, &query)).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// The tables, and the rows that `seed-config.md` lists.
    fn fill(&self) {
        let words = ["ctl", "--db", &self.url(), "db", "create"];
        let made = made_by(Command::new(program()).args(words));
        assert!(made.0, "{}", made.1);
        for sql in ROWS {
            self.ask(sql);
        }
    }

    /// How many records of this call are in the table of calls.
    fn records(&self, call_id: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM acc WHERE callid = '{call_id}'");
        match self.ask(&sql).rows[0][0] {
            Value::Int(n) => n,
            ref other => panic!("a count: {other:?}"),
        }
    }
}

fn made_by(command: &mut Command) -> (bool, String) {
    let done = command.output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&said).into_owned())
}

const ROWS: &[&str] = &[
    "INSERT INTO clusterer (cluster_id,node_id,url,state,no_ping_retries,priority,flags) \
     VALUES (1,1,'bin:127.0.1.1:5566',1,3,50,'seed')",
    "INSERT INTO clusterer (cluster_id,node_id,url,state,no_ping_retries,priority,flags) \
     VALUES (1,2,'bin:127.0.1.2:5566',1,3,50,NULL)",
    "INSERT INTO domain (domain) VALUES ('sip.example.org')",
    "INSERT INTO subscriber (username,domain,password) VALUES ('alice','sip.example.org','a-1')",
    "INSERT INTO subscriber (username,domain,password) VALUES ('bob','sip.example.org','b-1')",
    "INSERT INTO dr_gateways (gwid,type,address,strip,probe_mode,state) \
     VALUES ('gw1',1,'127.0.1.21:5060',0,2,0)",
    "INSERT INTO dr_gateways (gwid,type,address,strip,probe_mode,state) \
     VALUES ('gw2',1,'127.0.1.22:5060',0,2,0)",
    "INSERT INTO dr_carriers (carrierid,gwlist,flags,sort_alg,state) \
     VALUES ('car1','gw1,gw2',0,'N',0)",
    "INSERT INTO dr_rules (groupid,prefix,priority,gwlist) VALUES ('0','',0,'#car1')",
    "INSERT INTO dr_rules (groupid,prefix,priority,gwlist) VALUES ('0','40',5,'gw2,gw1')",
];

/// A node of the article.
struct Node {
    id: u8,
    process: Process,
}

impl Node {
    /// Starts the file as it is.
    fn start(site: &Site, file: &str, id: u8) -> Self {
        let script =
            repository().join("tests/scripts/seed").join(file.replace('#', &id.to_string()));
        let script = script.display().to_string();
        let log = site.dir().join(format!("node{id}.log"));
        let before = std::fs::read(&log).unwrap_or_default().len();
        let args = ["-f", &script];
        let mut process =
            Process::start(&format!("node {id}"), &program(), &args, site.dir(), &log);
        process.wait_for_output_after(before, "ready", PATIENCE);
        Self { id, process }
    }

    fn sip(&self) -> SocketAddr {
        (Ipv4Addr::new(127, 0, 1, self.id), 5060).into()
    }

    fn fifo(&self) -> PathBuf {
        format!("/tmp/opensips_fifo_{}", self.id).into()
    }

    fn ask(&self, method: &str, params: Json) -> Json {
        let answer = mi(&self.fifo(), method, params);
        answer.get("result").cloned().unwrap_or_else(|| panic!("{method}: {answer}"))
    }

    fn tag(&self) -> String {
        self.ask("clusterer_list_shtags", Json::Null)[0]["State"].as_str().unwrap().to_owned()
    }

    fn is_in_step(&self) -> bool {
        let shown = self.ask("clusterer_list_cap", Json::Null).to_string();
        shown.contains("\"Ok\"") && !shown.contains("sync")
    }

    fn gateway_is(&self, id: &str, state: &str) -> bool {
        let shown = self.ask("dr_gw_status", json!({ "gw_id": id })).to_string();
        shown.contains(&format!("\"{state}\""))
    }

    fn dialogs(&self) -> usize {
        let counted =
            self.ask("get_statistics", json!({ "statistics": ["dialog:active_dialogs"] }));
        let text = counted["dialog:active_dialogs"].to_string();
        text.trim_matches('"').parse().unwrap_or_else(|_| panic!("{counted}"))
    }

    /// Whether a message came from this node, as its topmost Via says.
    fn sent(&self, message: &Message) -> bool {
        message.all("Via").first().is_some_and(|v| v.contains(&self.sip().ip().to_string()))
    }

    /// The keepalives of this node among what a phone heard, SIP and short ones.
    fn pings(&self, phone: &Phone) -> usize {
        let by_sip = self.options(phone);
        by_sip + phone.pings_from(self.sip()).len()
    }

    fn options(&self, phone: &Phone) -> usize {
        let all = phone.messages();
        all.iter().filter(|m| m.method() == Some("OPTIONS") && self.sent(m)).count()
    }
}

/// The document of a state of presence (RFC 3863).
fn document(user: &str, note: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\r\n\
         <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:{user}@{DOMAIN}\">\
         <tuple id=\"t1\"><status><basic>open</basic></status><note>{note}</note></tuple>\
         </presence>\r\n"
    )
}

/// The line of the article, as keepalived runs it on this node.
fn run_hook(site: &Site, node: &Node) {
    let link = site.dir().join("opensipsctl");
    let _ = symlink(program(), &link);
    let words = ["fifo", "clusterer_shtag_set_active", "service/1"];
    let ran = made_by(Command::new(&link).args(words).env("OSIPS_FIFO", node.fifo()));
    assert!(ran.0, "{}", ran.1);
}

fn number(notify: &Message) -> u32 {
    notify.want("CSeq").split(' ').next().unwrap().parse().unwrap()
}

/// Plays the article with these files (`#` is the number of the node).
fn play(file: &str, on: Option<Kind>) {
    let site = Site::bare("article-whole");
    let store = match on {
        None => Store::Sqlite("/var/lib/opensips/opensips.sqlite".into()),
        Some(kind) => {
            let server = DbServer::start_at(&site, kind, Ipv4Addr::LOCALHOST, "opensipsrw");
            let Some(server) = server else { return };
            Store::MariaDb(server)
        }
    };
    store.fill();
    let at = |host: u8| SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), 5060));
    let alice = User::new("alice", at(31), DOMAIN, "a-1");
    let bob = User::new("bob", at(32), DOMAIN, "b-1");
    let broken = Phone::out_of_service("gw1", at(21));
    let trunk = Phone::new("gw2", at(22));
    let (mut one, two) = (Node::start(&site, file, 1), Node::start(&site, file, 2));
    wait_until("the nodes are in step", PATIENCE, || one.is_in_step() && two.is_in_step());
    assert_eq!((one.tag(), two.tag()), ("active".into(), "backup".into()));

    // Step one: what is where.
    alice.register(one.sip());
    bob.register(one.sip());
    let dump = |node: &Node| node.ask("ul_dump", Json::Null);
    wait_until("both nodes know both", PATIENCE, || contacts(&dump(&two)).len() == 2);
    assert_same_contacts(&dump(&one), &dump(&two));
    let entity = alice.publish(one.sip(), &document("alice", "at my desk"), None);
    let watching = bob.watch(one.sip(), &alice.uri(), "presence");
    let first = bob.wait_notified(&watching, "at my desk");
    assert!(one.sent(&first), "{first:?}");
    let inside = alice.call(one.sip(), &bob.uri());
    let abroad = bob.call(one.sip(), ABROAD);
    let longest = alice.call(one.sip(), &bob.uri());
    wait_until("both nodes have the calls", PATIENCE, || one.dialogs() == 3 && two.dialogs() == 3);
    assert_eq!(trunk.requests("INVITE", &abroad.call_id).len(), 1, "gw1 refuses, gw2 takes it");
    let ended = longest.call_id.clone();
    longest.hang_up();
    wait_until("the call that has ended is in the table", ROUND, || store.records(&ended) == 1);

    // Step two: who acts.
    wait_until("gw1 is known to be out of service", ROUND, || {
        one.gateway_is("gw1", "Inactive") && two.gateway_is("gw1", "Inactive")
    });
    wait_until("the active node pings", ROUND, || {
        one.pings(&alice.phone) > 0 && one.pings(&bob.phone) > 0 && one.options(&trunk) > 0
    });
    for phone in [&alice.phone, &bob.phone, &trunk] {
        assert_eq!(two.pings(phone), 0, "{} hears the backup", phone.user);
    }

    // The active node dies, and the hook runs.
    one.process.kill();
    run_hook(&site, &two);
    assert_eq!(two.tag(), "active");
    let (calls, old) = ([inside, abroad], one.sip());
    let ids = calls.each_ref().map(|c| c.call_id.clone());
    for call in calls {
        call.moved(old, two.sip()).hang_up();
    }
    for id in &ids {
        wait_until("the call is in the table", ROUND, || store.records(id) == 1);
    }
    assert_eq!(two.dialogs(), 0);
    let before = number(bob.notified(&watching).last().unwrap());
    alice.publish(two.sip(), &document("alice", "on the phone"), Some(&entity));
    let next = bob.wait_notified(&watching, "on the phone");
    assert!(two.sent(&next) && number(&next) > before, "{before}, then {next:?}");
    let again = alice.call(two.sip(), ABROAD);
    assert_eq!(trunk.requests("INVITE", &again.call_id).len(), 1);
    assert!(broken.requests("INVITE", &again.call_id).is_empty(), "the heir knew of gw1");
    wait_until("the heir pings", ROUND, || {
        two.pings(&alice.phone) > 0 && two.pings(&bob.phone) > 0 && two.options(&trunk) > 0
    });

    // The dead node comes back, and stays the backup.
    let back = Node::start(&site, file, 1);
    wait_until("it has everything", ROUND, || {
        back.is_in_step() && contacts(&dump(&back)).len() == 2 && back.dialogs() == 1
    });
    assert_eq!((back.tag(), two.tag()), ("backup".into(), "active".into()));
    assert_same_contacts(&dump(&back), &dump(&two));
    let so_far = [&alice.phone, &bob.phone, &trunk].map(|phone| back.pings(phone));
    let last = again.call_id.clone();
    again.hang_up();
    for id in ids.iter().chain([&ended, &last]) {
        wait_until("each call is there once", ROUND, || store.records(id) == 1);
    }
    let now = [&alice.phone, &bob.phone, &trunk].map(|phone| back.pings(phone));
    assert_eq!(now, so_far, "the backup pings nobody");
}

#[test]
fn the_articles_files_of_3_0_on_sqlite() {
    if in_own_world("the_articles_files_of_3_0_on_sqlite") {
        play("article-node#-sqlite.cfg", None);
    }
}

#[test]
fn the_articles_files_of_3_0_on_mariadb() {
    if in_own_world("the_articles_files_of_3_0_on_mariadb") {
        play("article-node#.cfg", Some(Kind::MariaDb));
    }
}

#[test]
fn the_files_of_4_0_on_sqlite() {
    if in_own_world("the_files_of_4_0_on_sqlite") {
        play("node#.cfg", None);
    }
}

#[test]
fn the_files_of_4_0_on_mariadb() {
    if in_own_world("the_files_of_4_0_on_mariadb") {
        play("node#-mysql.cfg", Some(Kind::MariaDb));
    }
}
