//! A machine of the hot standby: a host of its own with a node, and the keepalived beside it as
//! `examples/hot-standby` has it.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value as Json, json};

use crate::{Lan, PATIENCE, Process, Site, contacts, mi, program, repository};

/// The service address, which moves.
pub const SERVICE: &str = "10.77.0.10";

/// One of the two.
#[derive(Debug)]
pub struct Machine {
    /// Its own address is 10.77.0.`host`.
    pub host: u8,
    /// The management FIFO of its node.
    pub fifo: PathBuf,
    /// The node.
    pub node: Process,
    keepalived: Process,
}

impl Machine {
    /// Starts the node with this script, and keepalived with this priority.
    ///
    /// # Panics
    /// If one of them does not start.
    #[must_use]
    pub fn start(site: &Site, lan: &Lan, host: u8, priority: u8, script: &str) -> Self {
        site.write(&format!("lan{host}.cfg"), script);
        let node = Self::start_node(site, lan, host);
        let keepalived = Self::start_keepalived(site, lan, host, priority);
        Self { host, fifo: site.fifo(host), node, keepalived }
    }

    fn start_node(site: &Site, lan: &Lan, host: u8) -> Process {
        let (cfg, state) = (format!("lan{host}.cfg"), format!("state{host}"));
        let log = site.dir().join(format!("node{host}.log"));
        let before = std::fs::read(&log).unwrap_or_default().len();
        let args = ["-f", &cfg, "--state-dir", &state];
        let mut node = lan.start(host, &program(), &args, site.dir(), &format!("node{host}.log"));
        node.wait_for_output_after(before, "ready", PATIENCE);
        node
    }

    /// keepalived with the files of the example; only addresses and places are those of the test.
    fn start_keepalived(site: &Site, lan: &Lan, host: u8, priority: u8) -> Process {
        let example = repository().join("examples/hot-standby");
        let dir = site.dir().display().to_string();
        let _ = symlink(program(), site.dir().join("opensipsctl"));
        let hook = site.write(
            &format!("become-active{host}"),
            &format!(
                "#!/bin/sh\nexport OSIPS_FIFO={} PATH={dir}:$PATH\nexec {}/become-active\n",
                site.fifo(host).display(),
                example.display(),
            ),
        );
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&hook, executable).expect("the file is ours");
        let conf = std::fs::read_to_string(example.join("keepalived.conf")).expect("the example");
        let conf = conf
            .replace("/etc/keepalived/become-active", &hook.display().to_string())
            .replace("priority 100", &format!("priority {priority}"));
        let conf = site.write(&format!("keepalived{host}.conf"), &conf).display().to_string();
        let pid = |option: &str| format!("{dir}/k{host}{option}.pid");
        let (p, r, c) = (pid("-p"), pid("-r"), pid("-c"));
        // One that was killed has left them, and their numbers may be those of others by now.
        for file in [&p, &r, &c] {
            let _ = std::fs::remove_file(file);
        }
        let args = ["-n", "-l", "-P", "-f", &conf, "-p", &p, "-r", &r, "-c", &c];
        let program = Path::new("/usr/sbin/keepalived");
        lan.start(host, program, &args, site.dir(), &format!("keepalived{host}.log"))
    }

    /// Asks a management command, which must succeed.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn ask(&self, method: &str) -> Json {
        let answer = mi(&self.fifo, method, Json::Null);
        answer.get("result").cloned().unwrap_or_else(|| panic!("{method}: {answer}"))
    }

    /// Whether the tag `service` is active here.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.ask("clusterer_list_shtags")[0]["State"] == json!("active")
    }

    /// Whether it has a contact of this user.
    #[must_use]
    pub fn knows(&self, user: &str) -> bool {
        contacts(&self.ask("ul_dump")).iter().any(|c| c["AOR"] == *user)
    }

    /// Whether it has everything that its peer has.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        let shown = self.ask("clusterer_list_cap").to_string();
        shown.contains("\"state\":\"Ok\"") && !shown.contains("sync")
    }

    /// Whether it has the address, and the tag with it.
    #[must_use]
    pub fn serves(&self, lan: &Lan) -> bool {
        lan.holds(self.host, SERVICE) && self.is_active()
    }

    /// Whether it has neither.
    #[must_use]
    pub fn stands_by(&self, lan: &Lan) -> bool {
        !lan.holds(self.host, SERVICE) && !self.is_active()
    }

    /// The machine dies: nothing of it is on the network any more.
    pub fn die(&mut self, lan: &Lan) {
        lan.unplug(self.host);
        self.node.kill();
        self.keepalived.kill();
        // What the kernel of a dead machine knew is gone as well.
        let address = format!("{SERVICE}/24");
        let _ = lan.run(self.host, &["ip", "addr", "del", &address, "dev", "eth0"]);
    }

    /// The machine is back, with what it had on disk.
    ///
    /// # Panics
    /// If the node does not start.
    pub fn boot(&mut self, site: &Site, lan: &Lan, priority: u8) {
        lan.plug(self.host);
        self.node = Self::start_node(site, lan, self.host);
        self.keepalived = Self::start_keepalived(site, lan, self.host, priority);
    }

    /// Nobody watches over the address any more; where it is it stays.
    pub fn kill_keepalived(&mut self) {
        self.keepalived.kill();
    }

    /// The same in order: the address is given away.
    pub fn end_keepalived(&mut self) {
        self.keepalived.signal(Signal::TERM);
        let _ = self.keepalived.wait(PATIENCE);
    }

    /// Somebody does again.
    pub fn restart_keepalived(&mut self, site: &Site, lan: &Lan, priority: u8) {
        self.keepalived = Self::start_keepalived(site, lan, self.host, priority);
    }

    /// Ends the node with this signal and starts it again; the machine and its address stay.
    ///
    /// # Panics
    /// If it does not end, or does not start.
    pub fn restart(&mut self, site: &Site, lan: &Lan, signal: Signal) {
        self.node.signal(signal);
        let _ = self.node.wait(PATIENCE);
        self.node = Self::start_node(site, lan, self.host);
    }
}
