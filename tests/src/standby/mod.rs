//! The hot standby for calls on hosts of its own: two machines with keepalived, phones on further
//! hosts, and the database on the machines or on a host beside them.

mod blow;
mod crowd;
mod script;
mod small;
mod store;
mod tally;

pub use blow::Blow;
pub use crowd::Phones;
pub use store::Store;
pub use tally::{Deed, Tally};

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::{ELECTION, Lan, Machine, SERVICE, Site, contacts, is_root, mi, wait_until};
use small::Small;
use store::Kept;

/// The hosts of the phones.
pub const PHONES: [u8; 2] = [20, 21];
/// The host of the shared database.
const DATABASE: u8 = 30;
/// Priorities of the two machines in keepalived.
const PRIORITIES: [u8; 2] = [110, 100];

/// Two machines and what they serve. Needs root.
#[derive(Debug)]
pub struct Standby {
    pub machines: [Machine; 2],
    kept: Kept,
    /// The disk of each machine's spool.
    spools: [Small; 2],
    pub lan: Lan,
    pub site: Site,
    /// The machine that was dealt a blow, by its place.
    hit: usize,
}

impl Standby {
    /// Starts both and waits until the first serves and they are in step. `None`, and a line that
    /// says why, where the system has no such database.
    ///
    /// # Panics
    /// Without root, or if something does not start.
    #[must_use]
    pub fn start(name: &str, store: Store) -> Option<Self> {
        assert!(is_root(), "making hosts takes root: run this as root");
        let site = Site::bare(name);
        let lan = Lan::new(&[1, 2, PHONES[0], PHONES[1], DATABASE]);
        let kept = Kept::make(&site, &lan, store)?;
        let spool = |host: u8| Small::mount(site.dir().join(format!("state{host}/spool")), 1);
        let spools = [spool(1), spool(2)];
        let start = |host: u8| {
            let text = script::of(&site, host, &kept.url(host), kept.module());
            Machine::start(&site, &lan, host, PRIORITIES[usize::from(host) - 1], &text)
        };
        let one = start(1);
        wait_until("machine 1 serves", ELECTION, || one.serves(&lan));
        let machines = [one, start(2)];
        let standby = Self { machines, kept, spools, lan, site, hit: 0 };
        standby.wait_in_step();
        Some(standby)
    }

    /// Waits until each has what the other has.
    ///
    /// # Panics
    /// If they do not get there.
    pub fn wait_in_step(&self) {
        for machine in &self.machines {
            wait_until("the nodes are in step", ELECTION, || machine.is_in_step());
        }
    }

    /// The place of the machine that has the address and the tag.
    #[must_use]
    pub fn serving(&self) -> Option<usize> {
        self.machines.iter().position(|m| m.serves(&self.lan))
    }

    /// Whether one serves and the other stands by.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let [one, two] = &self.machines;
        let lan = &self.lan;
        (one.serves(lan) && two.stands_by(lan)) || (two.serves(lan) && one.stands_by(lan))
    }

    /// The records of calls: each Call-ID with the milliseconds of its rows.
    #[must_use]
    pub fn billed(&self) -> BTreeMap<String, Vec<u64>> {
        self.kept.rows()
    }

    /// Whether each machine has a database of its own.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        matches!(self.kept, Kept::Files(_))
    }

    /// Stops the database, or brings it back.
    pub fn stop_database(&mut self, stop: bool) {
        self.kept.stop(stop);
    }

    /// Fills the disk of both spools, or makes room again.
    pub fn fill_spools(&self, fill: bool) {
        self.spools.iter().for_each(|spool| spool.fill(fill));
    }

    /// What is wrong with the two when all calls are over: dialogs that are left, contacts that
    /// differ, profiles that count, records that wait.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for machine in &self.machines {
            let host = machine.host;
            let dialogs = dialogs(machine);
            if dialogs != 0 {
                let all = machine.ask("dlg_list");
                let all = all["Dialogs"].as_array().into_iter().flatten();
                let lives = all.filter(|d| d["state"].as_u64() != Some(ENDED));
                let names: Vec<_> =
                    lives.map(|d| format!("{} ({})", d["callid"], d["state"])).collect();
                found.push(format!("machine {host}: {dialogs} dialogs are left: {names:?}"));
            }
            let size = mi(&machine.fifo, "profile_get_size", json!(["callee/b"]));
            let size = &size["result"]["Profile"]["count"];
            if size.as_u64().is_some_and(|n| n != 0) {
                found.push(format!("machine {host}: the profile counts {size}"));
            }
            let spool = mi(&machine.fifo, "tandem:cdr_spool", Json::Null);
            let waiting = &spool["result"]["waiting"];
            if *waiting != 0 {
                found.push(format!("machine {host}: {waiting} records wait"));
            }
        }
        let names = |m: &Machine| -> Vec<String> {
            contacts(&m.ask("ul_dump")).iter().map(|c| c["AOR"].to_string()).collect()
        };
        let [one, two] = [&self.machines[0], &self.machines[1]].map(names);
        if one != two {
            found.push(format!("{} and {} contacts differ", one.len(), two.len()));
        }
        if !self.is_whole() {
            found.push("not exactly one has the address and the tag".into());
        }
        found
    }
}

/// The state of a dialog that is over, as `dlg_list` shows it.
const ENDED: u64 = 5;

/// Dialogs that a node has, ended ones not counted.
fn dialogs(machine: &Machine) -> u64 {
    let answer = mi(&machine.fifo, "get_statistics", json!([["dialog:active_dialogs"]]));
    answer["result"]["dialog:active_dialogs"].as_u64().unwrap_or(u64::MAX)
}
