//! Dialogs in a database, on SQLite, MariaDB and PostgreSQL: what of them a crash and an orderly
//! end leave, and that a call goes on after either.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value as Json;
use tandem_db::{Query, Rows, Select};
use tandem_drivers::sqlite::{self, SqliteOptions};
use tandem_tests::{DbServer, Kind, PATIENCE, Phone, Process, Site, mi, program, wait_until};

const DATABASE: &str = "opensips";

/// One of the three.
enum Store {
    File(SqliteOptions),
    Server(Box<DbServer>),
}

impl Store {
    fn url(&self) -> String {
        match self {
            Self::File(options) => format!("sqlite://{}", options.path.display()),
            Self::Server(server) => server.url(DATABASE),
        }
    }

    fn module(&self, kind: Option<Kind>) -> &'static str {
        match kind {
            None => "db_sqlite",
            Some(Kind::MariaDb) => "db_mysql",
            Some(Kind::Postgres) => "db_postgres",
        }
    }

    /// The states of the dialogs that it has.
    fn rows(&self) -> Rows {
        let columns = vec!["state".into()];
        let all = Select { table: "dialog".into(), columns, ..Select::default() };
        let all = Query::Select(all);
        match self {
            Self::Server(server) => server.ask(DATABASE, all).unwrap(),
            Self::File(options) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(sqlite::ask(options, &all)).unwrap()
            }
        }
    }
}

struct Stage {
    site: Site,
    store: Store,
    driver: &'static str,
}

impl Stage {
    fn new(name: &str, kind: Option<Kind>) -> Option<Self> {
        let site = Site::bare(name);
        let store = match kind {
            None => Store::File(SqliteOptions::new(site.dir().join("dialogs.sqlite"))),
            Some(kind) => Store::Server(Box::new(DbServer::start(&site, kind)?)),
        };
        let url = store.url();
        let words = ["ctl", "--db", &url, "db", "create", "dialog"];
        let made = Command::new(program()).args(words).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let driver = store.module(kind);
        Some(Self { site, store, driver })
    }

    fn start(&self, mode: u8) -> Process {
        let (ip, dir) = (self.site.net.ip(1), self.site.dir().display());
        let (callee, url, driver) = (self.site.net.ip(11), self.store.url(), self.driver);
        let modules = ["proto_udp", "sl", "tm", "rr", "sipmsgops", "mi_fifo", driver, "dialog"];
        let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
        let text = format!(
            "log_level=3\nsocket=udp:{ip}:5060\n{modules}\
             modparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
             modparam(\"dialog\", \"db_mode\", {mode})\n\
             modparam(\"dialog\", \"db_url\", \"{url}\")\n\
             modparam(\"dialog\", \"db_update_period\", 1)\n\
             modparam(\"dialog\", \"profiles_with_value\", \"caller\")\n\
             route {{\n\
             if (has_totag()) {{ if (!loose_route()) {{ sl_send_reply(404, \"Not here\"); exit; }}\n\
             t_relay(); exit; }}\n\
             create_dialog(\"bye-on-timeout\"); $dlg_val(word) = \"it's; a|b#c\\\\d\";\n\
             set_dlg_profile(\"caller\", $fU);\n\
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

    fn shown(&self, call_id: &str) -> Json {
        let list = mi(&self.site.dir().join("fifo"), "dlg_list_ctx", Json::Null);
        let all = list["result"]["Dialogs"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|d| d["callid"] == call_id).unwrap_or(Json::Null)
    }

    fn wait_for_rows(&self, what: &str, rows: usize) {
        wait_until(what, PATIENCE, || self.store.rows().rows.len() == rows);
    }

    /// A call before the node goes and after it is back.
    fn story(&self, mode: u8, goes: Signal) {
        let mut node = self.start(mode);
        let alice = Phone::new("alice", (self.site.net.ip(10), 5060));
        let bob = Phone::new("bob", (self.site.net.ip(11), 5060));
        let call = alice.call((self.site.net.ip(1), 5060).into(), "bob");
        wait_until("the ACK", PATIENCE, || self.shown(&call.call_id)["state"] == 4);
        let before = self.shown(&call.call_id);
        let rows_while_up = usize::from(mode != 3);
        self.wait_for_rows("the row of a call that is up", rows_while_up);
        if mode != 3 {
            let confirmed = || self.store.rows().rows[0][0].as_int() == Some(4);
            wait_until("its state in the row", PATIENCE, confirmed);
        }
        node.signal(goes);
        let _ = node.wait(PATIENCE);
        self.wait_for_rows("the row that is left", 1);
        let mut node = self.start(mode);
        wait_until("the call is back", PATIENCE, || self.shown(&call.call_id)["state"] == 4);
        let after = self.shown(&call.call_id);
        for field in ["ID", "from_uri", "to_uri", "timestart", "timeout", "context"] {
            assert_eq!(after[field], before[field], "mode {mode}: {field}");
        }
        // The standard table has no place for the bodies.
        for field in ["callee_tag", "callee_contact", "callee_route_set", "callee_bind_addr"] {
            let of = |shown: &Json| shown["CALLEES"][0][field].clone();
            assert_eq!(of(&after), of(&before), "mode {mode}: {field}");
        }
        let other = bob.answered(&call.call_id);
        assert_eq!(other.request("INFO").code(), Some(200));
        call.hang_up();
        if mode != 3 {
            self.wait_for_rows("no row of a call that is over", 0);
        }
        node.signal(Signal::TERM);
        assert!(node.wait(PATIENCE).success());
        self.wait_for_rows("nothing is left", 0);
    }
}

/// The three modes: at once, now and then, at the end.
fn stories(name: &str, kind: Option<Kind>) {
    let Some(stage) = Stage::new(name, kind) else { return };
    stage.story(1, Signal::KILL);
    stage.story(1, Signal::TERM);
    stage.story(2, Signal::KILL);
    stage.story(2, Signal::TERM);
    stage.story(3, Signal::TERM);
}

#[test]
fn calls_outlive_a_restart_on_sqlite() {
    stories("dialog-sqlite", None);
}

#[test]
fn calls_outlive_a_restart_on_mariadb() {
    stories("dialog-mariadb", Some(Kind::MariaDb));
}

#[test]
fn calls_outlive_a_restart_on_postgresql() {
    stories("dialog-postgresql", Some(Kind::Postgres));
}
