//! A folder, a network, and the hot standby pair of the examples living there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tandem_db::{Query, Value, schema};
use tandem_drivers::sqlite::{self, SqliteOptions};
use tokio::sync::mpsc;

use crate::{Network, Node, program};

/// The script of the pair's active node.
pub const NODE_1: &str = include_str!("../../examples/hot-standby/node1.cfg");
/// The script of the pair's backup node.
pub const NODE_2: &str = include_str!("../../examples/hot-standby/node2.cfg");

/// Seconds between two pings to a phone behind NAT, in the scripts of the tests.
const PING_INTERVAL_S: &str = "2";

/// Tables of the database of a site.
const TABLES: &[&str] = &[
    "version",
    "clusterer",
    "location",
    "subscriber",
    "domain",
    "uri",
    "acc",
    "missed_calls",
    "dr_gateways",
    "dr_carriers",
    "dr_rules",
    "qr_profiles",
    "dr_groups",
    "dispatcher",
    "load_balancer",
    "presentity",
    "active_watchers",
    "watchers",
    "xcap",
    "pua",
];

/// Where one test happens. The folder is removed at the end, unless the test fails.
#[derive(Debug)]
pub struct Site {
    /// Addresses: .1 and .2 are the nodes, the rest is for phones.
    pub net: Network,
    dir: PathBuf,
}

impl Site {
    /// A site without nodes: a folder and a network.
    ///
    /// # Panics
    /// If the folder cannot be made.
    #[must_use]
    pub fn bare(test: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-e2e-{test}-{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        Self { net: Network::take(), dir }
    }

    /// A site with the scripts, the links and the database of the pair; nothing runs yet.
    ///
    /// # Panics
    /// If the files cannot be made.
    #[must_use]
    pub fn pair(test: &str) -> Self {
        Self::of_scripts(test, [NODE_1, NODE_2], Vec::new())
    }

    /// A site with these scripts for nodes 1 and 2, on a database with the tables of a registrar;
    /// `rows` go into it beside the two nodes.
    ///
    /// # Panics
    /// If the files cannot be made.
    #[must_use]
    pub fn of_scripts(test: &str, scripts: [&str; 2], rows: Vec<Query>) -> Self {
        let site = Self::bare(test);
        for (id, script) in (1..).zip(scripts) {
            site.write_node(id, &site.rewrite(script));
        }
        site.make_database(rows).unwrap_or_else(|e| panic!("cannot make the database: {e}"));
        site
    }

    /// Makes the database with these rows beside the two nodes.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn filled(self, rows: Vec<Query>) -> Self {
        self.make_database(rows).unwrap_or_else(|e| panic!("cannot make the database: {e}"));
        self
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file into the folder and says where it is.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Starts node 1 or 2 and waits until it serves.
    #[must_use]
    pub fn start(&self, id: u8) -> Node {
        Node::start(self, id)
    }

    /// The script of a node with the addresses, FIFOs and intervals of this site.
    #[must_use]
    pub fn rewrite(&self, script: &str) -> String {
        let interval = r#"modparam("nathelper", "natping_interval", "#;
        let (_, rest) = script.split_once(interval).expect("the scripts ping");
        let (given, _) = rest.split_once(')').expect("a parameter ends");
        let slow = format!("{interval}{given})");
        let mut text = script.replace(&slow, &format!("{interval}{PING_INTERVAL_S})"));
        for id in [1, 2] {
            let fifo = self.fifo(id).display().to_string();
            text = text
                .replace(&format!("127.0.1.{id}"), &self.net.ip(id).to_string())
                .replace(&format!("/tmp/tandem_fifo_{id}"), &fifo);
        }
        text
    }

    /// The management FIFO of a node.
    #[must_use]
    pub fn fifo(&self, id: u8) -> PathBuf {
        self.dir.join(format!("fifo_{id}"))
    }

    /// The folder of a node: script, state, links to the command line.
    #[must_use]
    pub fn node_dir(&self, id: u8) -> PathBuf {
        self.dir.join(format!("node{id}"))
    }

    fn write_node(&self, id: u8, script: &str) {
        let dir = self.node_dir(id);
        let make = || -> std::io::Result<()> {
            fs::create_dir_all(&dir)?;
            fs::write(dir.join("node.cfg"), script)?;
            let rc = format!("OSIPS_FIFO=\"{}\"\n", self.fifo(id).display());
            fs::write(dir.join("tandemctlrc"), rc)?;
            symlink(program(), dir.join("tandemctl"))?;
            symlink(program(), dir.join("opensipsctl"))
        };
        make().unwrap_or_else(|e| panic!("cannot make {}: {e}", dir.display()));
    }

    fn make_database(&self, mut rows: Vec<Query>) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| e.to_string())?.block_on(async {
            let path = self.dir.join("tandem.sqlite");
            let options = SqliteOptions { create: true, ..SqliteOptions::new(path) };
            let tables: Vec<_> = TABLES.iter().filter_map(|t| schema::table(t)).collect();
            sqlite::create_schema(&options, &tables).await.map_err(|e| e.to_string())?;
            let (completions, mut done) = mpsc::channel(1);
            let here = tokio::runtime::Handle::current();
            let db = sqlite::Sqlite::spawn(&here, options, completions);
            rows.extend([1, 2].map(|id| self.cluster_row(id)));
            db.submit(1, Query::Batch(rows)).map_err(|e| e.to_string())?;
            let answer = done.recv().await.ok_or("the database went away")?;
            db.close().await;
            answer.result.map(drop).map_err(|e| e.to_string())
        })
    }

    fn cluster_row(&self, id: u8) -> Query {
        let text = |s: &str| Value::Str(s.to_owned());
        let int = |n: u8| Value::Int(i64::from(n));
        let values = [
            ("cluster_id", int(1)),
            ("node_id", int(id)),
            ("url", text(&format!("bin:{}:5566", self.net.ip(id)))),
            ("state", int(1)),
            ("no_ping_retries", int(3)),
            ("priority", int(50)),
            ("flags", if id == 1 { text("seed") } else { Value::Null }),
            ("description", text(&format!("node {id}"))),
        ];
        Query::Insert {
            table: "clusterer".into(),
            row: values.into_iter().map(|(n, v)| (n.into(), v)).collect(),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the files of the test are in {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
