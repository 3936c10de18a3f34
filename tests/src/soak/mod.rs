//! A node under everything that phones do, long enough to see whether it forgets what is over.
//!
//! A [`Soak`] is a node with a proxy, a registrar, dialogs with records and presence, and phones
//! that call, ring, cancel, fall silent, hang up or do not, register and watch. After a while
//! nothing is asked any more: when all timers have run out, every table has to be empty, and the
//! process as large as it was at the same point before.

mod callee;
mod kind;
mod phones;
mod script;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

pub use phones::Counts;
use phones::Phones;

use crate::{PATIENCE, Process, Site, mi, now, program};

/// A node and its phones.
#[derive(Debug)]
pub struct Soak {
    node: Process,
    phones: Phones,
    fifo: PathBuf,
    begun: Instant,
    site: Site,
}

/// The state of the node at one time.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Seconds since the start.
    pub at_s: u64,
    /// Transactions that the phones have begun by then.
    pub begun: u64,
    pub rss_kb: u64,
    pub threads: u64,
    pub files: u64,
    /// What is alive, by name.
    pub alive: BTreeMap<&'static str, u64>,
    /// What it has done, by name.
    pub done: BTreeMap<&'static str, u64>,
}

/// Statistics of what is alive.
const ALIVE: &[&str] = &[
    "tm:inuse_transactions",
    "dialog:active_dialogs",
    "dialog:early_dialogs",
    "usrloc:registered_users",
    "usrloc:location-contacts",
];
/// Statistics of what was done.
const DONE: &[&str] = &[
    "tm:UAS_transactions",
    "tm:UAC_transactions",
    "tm:timeout_finalresponse",
    "tm:timeout_finalresponse_inv",
    "tm:dropped_events",
    "dialog:processed_dialogs",
    "dialog:expired_dialogs",
    "dialog:failed_dialogs",
    "registrar:accepted_regs",
    "core:err_requests",
    "core:err_replies",
    "core:failed_steps",
    "core:quarantined_messages",
];
/// After the last request, the longest that anything lives by the script: a dialog that nobody
/// ends, then its BYEs that nobody answers, and what a transaction lingers.
pub const RUN_OUT: Duration = Duration::from_secs(15);

impl Soak {
    /// Starts the node.
    ///
    /// # Panics
    /// If it does not serve.
    #[must_use]
    pub fn start(name: &str) -> Self {
        let site = Site::bare(name).filled(Vec::new());
        let service = (site.net.ip(1), 5060).into();
        let at = (site.net.ip(20), 5060).into();
        site.write("soak.cfg", &script::of(&site, at));
        let args = ["-F", "-f", "soak.cfg", "--state-dir", "state"];
        let log = site.dir().join("node.log");
        let mut node = Process::start("node", &program(), &args, site.dir(), &log);
        node.wait_for_output("ready", PATIENCE);
        let (fifo, phones) = (site.dir().join("fifo"), Phones::new(at, service));
        Self { node, phones, fifo, begun: now(), site }
    }

    /// The phones begin so many transactions, about so many a second.
    pub fn run(&mut self, transactions: u64, per_second: u32) {
        self.phones.run(transactions, per_second);
    }

    /// Waits until nothing is alive, and says what is after [`RUN_OUT`].
    pub fn run_out(&mut self) -> Reading {
        let fifo = self.fifo.clone();
        self.phones.rest(RUN_OUT, || alive(&fifo).values().all(|n| *n == 0));
        self.reading()
    }

    /// The state of the node.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let kb = self.node.proc_status("VmRSS");
        let number = |text: &str| text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.node.pid()));
        Reading {
            at_s: self.begun.elapsed().as_secs(),
            begun: self.phones.counts.begun,
            rss_kb: number(&kb),
            threads: number(&self.node.proc_status("Threads")),
            files: files.map_or(0, Iterator::count) as u64,
            alive: alive(&self.fifo),
            done: statistics(&self.fifo, DONE),
        }
    }

    /// What has come back to the phones.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.phones.counts
    }

    /// The log of the node.
    #[must_use]
    pub fn log(&self) -> String {
        self.node.output()
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.site.dir().to_owned()
    }
}

impl Reading {
    /// What is still alive.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let left = self.alive.iter().filter(|(_, n)| **n > 0);
        left.map(|(name, n)| format!("{name}: {n}")).collect()
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_s, begun, rss_kb, threads, files, .. } = self;
        write!(
            f,
            "after {at_s} s, {begun} transactions: {rss_kb} kB resident, {threads} threads, \
             {files} files"
        )?;
        for (name, n) in self.alive.iter().chain(&self.done) {
            write!(f, "\n    {name:32} {n}")?;
        }
        Ok(())
    }
}

fn alive(fifo: &Path) -> BTreeMap<&'static str, u64> {
    let mut alive = statistics(fifo, ALIVE);
    let ask = |method: &str, params: Json| mi(fifo, method, params)["result"].clone();
    let length = |list: &Json| list.as_array().map_or(0, Vec::len) as u64;
    let size = ask("profile_get_size", json!(["callee"]));
    let status = ask("tandem:status", Json::Null);
    let cached = ask("cachedb_local:fetch_chunk", json!(["call-*"]));
    let more = [
        ("members of a profile", size["Profile"]["count"].as_u64().unwrap_or(0)),
        ("presentities", length(&ask("presence:phtable_list", Json::Null))),
        ("subscriptions", length(&ask("presence:subs_phtable_list", Json::Null))),
        ("records that wait", ask("tandem:cdr_spool", Json::Null)["waiting"].as_u64().unwrap_or(0)),
        ("replies at a gate", status["gates"]["waiting"].as_u64().unwrap_or(0)),
        ("values of a key", length(&cached["keys"])),
    ];
    alive.extend(more);
    alive
}

fn statistics(fifo: &Path, names: &[&'static str]) -> BTreeMap<&'static str, u64> {
    let told = mi(fifo, "get_statistics", json!([names]));
    let one = |name: &&'static str| {
        let value = told["result"][*name].as_u64();
        (*name, value.unwrap_or_else(|| panic!("no statistic {name}: {told}")))
    };
    names.iter().map(one).collect()
}
