//! A node as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value as Json, json};

use crate::{Ctl, Ended, PATIENCE, Process, Site, contacts, mi, program, wait_until};

/// A running server.
#[derive(Debug)]
pub struct Node {
    /// Its number, 1 or 2.
    pub id: u8,
    /// Where phones reach it.
    pub sip: SocketAddr,
    /// The process.
    pub process: Process,
    fifo: PathBuf,
    ctl: PathBuf,
}

impl Node {
    /// Starts a node of the site and waits until it serves.
    pub(crate) fn start(site: &Site, id: u8) -> Self {
        let log = site.dir().join(format!("node{id}.log"));
        // A node that starts again writes to the same log: only new lines count.
        let earlier = std::fs::read_to_string(&log).unwrap_or_default().matches("ready").count();
        let script = format!("node{id}/node.cfg");
        let state = format!("node{id}/state");
        let args = ["-f", &script, "--state-dir", &state];
        let name = format!("node {id}");
        let process = Process::start(&name, &program(), &args, site.dir(), &log);
        let ctl = site.node_dir(id);
        let sip = SocketAddr::from((site.net.ip(id), 5060));
        let mut node = Self { id, sip, process, fifo: site.fifo(id), ctl };
        wait_until(&format!("{name} is ready"), PATIENCE, || {
            if let Some(ended) = node.process.ended() {
                panic!("{name} ended instead of serving: {ended}");
            }
            node.process.output().matches("ready").count() > earlier
        });
        node
    }

    /// The command line of this node, through its link.
    #[must_use]
    pub fn ctl(&self, name: &str) -> Ctl {
        Ctl::new(self.ctl.join(name))
    }

    /// Its management FIFO.
    #[must_use]
    pub fn fifo(&self) -> &Path {
        &self.fifo
    }

    /// The result of a management command.
    ///
    /// # Panics
    /// If the node refuses it or does not answer.
    #[must_use]
    pub fn mi(&self, method: &str, params: Json) -> Json {
        let answer = mi(&self.fifo, method, params.clone());
        let result = answer.get("result").cloned();
        result.unwrap_or_else(|| panic!("node {}: {method} {params}: {answer}", self.id))
    }

    /// `tandem:status`.
    #[must_use]
    pub fn status(&self) -> Json {
        self.mi("tandem:status", Json::Null)
    }

    /// A counter of the gates: `acknowledged`, `ungated` or `waiting`.
    #[must_use]
    pub fn gate(&self, counter: &str) -> u64 {
        self.status()["gates"][counter].as_u64().unwrap_or_else(|| panic!("no gate {counter}"))
    }

    /// The state of the tag `service` as this node sees it.
    #[must_use]
    pub fn tag_state(&self) -> String {
        let tags = self.mi("clusterer_list_shtags", Json::Null);
        let tags = tags.as_array().cloned().unwrap_or_default();
        let tag = tags.iter().find(|t| t["Tag"] == "service").cloned().unwrap_or(json!({}));
        tag["State"].as_str().unwrap_or("absent").to_owned()
    }

    /// Waits until the node holds a contact for each of these users.
    pub fn wait_for_users(&self, users: &[&str]) {
        wait_until(&format!("node {} knows {users:?}", self.id), PATIENCE, || {
            let all = contacts(&self.mi("ul_dump", Json::Null));
            users.iter().all(|user| all.iter().any(|c| c["AOR"] == *user))
        });
    }

    /// Waits until both nodes see the link between them, and the contacts are in step.
    pub fn wait_in_step(&self) {
        wait_until(&format!("node {} is in step", self.id), PATIENCE, || {
            let status = self.status();
            let all = |list: &str, good: &dyn Fn(&Json) -> bool| {
                status[list].as_array().is_some_and(|l| !l.is_empty() && l.iter().all(good))
            };
            all("peers", &|p| p["link"] == "Up" && p["kind"].to_string().contains("Tandem"))
                && self.capability_ok()
        });
    }

    fn capability_ok(&self) -> bool {
        let answer = self.mi("clusterer_list_cap", Json::Null);
        let caps = answer["Clusters"][0]["Capabilities"].as_array().cloned().unwrap_or_default();
        caps.iter().any(|c| c["name"] == "usrloc-contact-repl" && c["state"] == "Ok")
    }

    /// Asks it to end and waits for that.
    pub fn stop(mut self) -> Ended {
        self.process.signal(Signal::TERM);
        self.process.wait(PATIENCE)
    }
}
