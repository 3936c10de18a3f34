//! Nodes that route by number: their tables and their scripts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value as Json, json};
use tandem_db::{Query, Value};

use crate::{PATIENCE, Process, Site, mi, program};

/// A row of a table.
#[must_use]
pub fn row(table: &'static str, values: &[(&'static str, Value)]) -> Query {
    let row = values.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    Query::Insert { table: table.into(), row }
}

/// A gateway.
#[must_use]
pub fn gateway(id: &str, address: &str, probe_mode: i64) -> Query {
    let values = [
        ("gwid", id.into()),
        ("type", 1.into()),
        ("address", address.into()),
        ("probe_mode", probe_mode.into()),
    ];
    row("dr_gateways", &values)
}

/// A rule of group 0.
#[must_use]
pub fn rule(prefix: &str, list: &str) -> Query {
    let values = [
        ("groupid", "0".into()),
        ("prefix", prefix.into()),
        ("timerec", "".into()),
        ("gwlist", list.into()),
    ];
    row("dr_rules", &values)
}

/// How a node routes.
#[derive(Clone, Debug)]
pub struct Router {
    /// Its number, 1 or 2.
    pub id: u8,
    /// Where its tables are.
    pub url: String,
    /// Lines before the routes.
    pub more: String,
    /// What is done before `t_relay()`.
    pub before: String,
    /// What a failure route does with a gateway that fails.
    pub failed: String,
    /// Words of `env` before the program.
    pub env: Vec<String>,
}

impl Router {
    /// A node on the database of the site that disables gateways which do not answer, and waits a
    /// second for each.
    #[must_use]
    pub fn new(site: &Site, id: u8) -> Self {
        Self {
            id,
            url: format!("sqlite://{}/tandem.sqlite", site.dir().display()),
            more: String::new(),
            before: String::new(),
            failed: "dr_disable();".into(),
            env: Vec::new(),
        }
    }

    fn script(&self, site: &Site) -> String {
        let (ip, fifo) = (site.net.ip(self.id), self.fifo(site));
        let db = match self.url.split(':').next() {
            Some("mysql") => "db_mysql",
            Some("postgres") => "db_postgres",
            _ => "db_sqlite",
        };
        let modules = ["proto_udp", db, "sl", "tm", "rr", "sipmsgops", "mi_fifo", "drouting"];
        let modules: String = modules.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
        let Self { url, more, before, failed, .. } = self;
        format!(
            "log_level=3\nsocket=udp:{ip}:5060\n{modules}\
             modparam(\"mi_fifo\", \"fifo_name\", \"{}\")\n\
             modparam(\"tm\", \"fr_timeout\", 1)\n\
             modparam(\"drouting\", \"db_url\", \"{url}\")\n{more}\
             route {{\n\
             if (has_totag()) {{ loose_route(); t_relay(); exit; }}\n\
             if (is_method(\"CANCEL\")) {{ t_relay(); exit; }}\n\
             record_route();\n\
             if (!do_routing(0)) {{ sl_send_reply(503, \"No Gateway\"); exit; }}\n\
             {before} t_on_failure(\"next\");\n\
             if (!t_relay(\"no-auto-477\") && use_next_gw()) {{ {before} t_relay(); }} }}\n\
             failure_route[next] {{\n\
             if (t_check_status(\"408|5..\")) {{ {failed} \
             if (use_next_gw()) {{ {before} t_on_failure(\"next\"); t_relay(); }} }} }}\n",
            fifo.display()
        )
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn start(&self, site: &Site) -> Process {
        let mut node = self.launch(site);
        node.wait_for_output("ready", PATIENCE);
        node
    }

    /// Starts one that ends at once: what it says.
    ///
    /// # Panics
    /// If it goes on.
    #[must_use]
    pub fn refused(&self, site: &Site) -> String {
        let mut node = self.launch(site);
        assert!(!node.wait(PATIENCE).success(), "it should not start");
        node.output()
    }

    fn launch(&self, site: &Site) -> Process {
        let name = format!("routes{}.cfg", self.id);
        let script = site.write(&name, &self.script(site)).to_string_lossy().into_owned();
        let program = program().to_string_lossy().into_owned();
        let state = format!("state{}", self.id);
        let mut args: Vec<&str> = self.env.iter().map(String::as_str).collect();
        args.extend([&program, "-F", "-f", &script, "--state-dir", &state]);
        let log = (0..100).map(|n| site.dir().join(format!("node{}-{n}.log", self.id)));
        let log = { log }.find(|log| !log.exists()).expect("not so many starts");
        let name = format!("node {}", self.id);
        Process::start(&name, "/usr/bin/env".as_ref(), &args, site.dir(), &log)
    }

    /// Its FIFO.
    #[must_use]
    pub fn fifo(&self, site: &Site) -> PathBuf {
        site.dir().join(format!("fifo{}", self.id))
    }

    /// Where phones reach it.
    #[must_use]
    pub fn sip(&self, site: &Site) -> SocketAddr {
        (site.net.ip(self.id), 5060).into()
    }

    /// The answer to a management command.
    #[must_use]
    pub fn mi(&self, site: &Site, method: &str, params: Json) -> Json {
        mi(&self.fifo(site), method, params)
    }

    /// The state of a gateway as this node sees it.
    #[must_use]
    pub fn state(&self, site: &Site, gateway: &str) -> String {
        let answer = self.mi(site, "drouting:gw_status", json!({ "gw_id": gateway }));
        answer["result"]["State"].as_str().unwrap_or_default().to_owned()
    }

    /// What `tandem ctl` says to these words.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn ctl(&self, site: &Site, words: &[&str]) -> String {
        let fifo = self.fifo(site);
        let mut command = Command::new(program());
        let output = command.arg("ctl").arg("--fifo").arg(&fifo).args(words).output();
        let output = output.expect("tandem ctl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {text}{error}");
        text
    }
}

/// An address with the port of SIP, as tables have it.
#[must_use]
pub fn at(ip: Ipv4Addr) -> String {
    format!("{ip}:5060")
}
