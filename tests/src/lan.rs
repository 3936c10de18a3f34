//! A small network of hosts of its own: network namespaces on one bridge. Needs root.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::ctl::run;
use crate::{Answer, Process};

/// Hosts on one Ethernet. They and the bridge are removed at the end.
#[derive(Debug)]
pub struct Lan {
    name: String,
    hosts: Vec<u8>,
}

impl Lan {
    /// A network with these hosts; host `n` has the address 10.77.0.n/24.
    ///
    /// # Panics
    /// If namespaces cannot be made: that takes root and the `ip` command.
    #[must_use]
    pub fn new(hosts: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let lan = Self { name: format!("tandem-{}-{n}", std::process::id()), hosts: hosts.into() };
        let switch = lan.namespace(0);
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        for host in hosts {
            lan.plug_in(*host);
        }
        lan
    }

    fn plug_in(&self, host: u8) {
        let (switch, namespace, port) = (self.namespace(0), self.namespace(host), port(host));
        ip(&["netns", "add", &namespace]);
        let ends = ["link", "add", &port, "netns", &switch, "type", "veth", "peer", "name", "eth0"];
        ip(&[&ends[..], &["netns", &namespace]].concat());
        ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        ip(&["-n", &namespace, "addr", "add", &format!("10.77.0.{host}/24"), "dev", "eth0"]);
        ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
    }

    fn namespace(&self, host: u8) -> String {
        format!("{}-{host}", self.name)
    }

    /// Starts a program on a host.
    #[must_use]
    pub fn start(&self, host: u8, program: &Path, args: &[&str], dir: &Path, log: &str) -> Process {
        let namespace = self.namespace(host);
        let program = program.display().to_string();
        let words = [&["netns", "exec", &namespace, &program], args].concat();
        Process::start(log, Path::new("/usr/sbin/ip"), &words, dir, &dir.join(log))
    }

    /// Runs a command on a host to its end.
    #[must_use]
    pub fn run(&self, host: u8, words: &[&str]) -> Answer {
        run(Command::new("ip").args(["netns", "exec", &self.namespace(host)]).args(words))
    }

    /// Whether a host holds an address.
    #[must_use]
    pub fn holds(&self, host: u8, address: &str) -> bool {
        let shown = self.run(host, &["ip", "-4", "-o", "addr", "show", "dev", "eth0"]);
        shown.stdout.contains(&format!("inet {address}/"))
    }

    /// Cuts (or mends) the way between these hosts; each still reaches every other host, and no
    /// host sees its own link go down.
    pub fn cut_between(&self, hosts: &[u8], cut: bool) {
        let state = if cut { "on" } else { "off" };
        for host in hosts {
            let port = port(*host);
            ip(&[
                "-n",
                &self.namespace(0),
                "link",
                "set",
                "dev",
                &port,
                "type",
                "bridge_slave",
                "isolated",
                state,
            ]);
        }
    }

    /// The Ethernet address of a host.
    ///
    /// # Panics
    /// If there is no such host.
    #[must_use]
    pub fn mac(&self, host: u8) -> String {
        let shown = self.run(host, &["ip", "-o", "link", "show", "dev", "eth0"]).stdout;
        let words = shown.split_whitespace().skip_while(|word| *word != "link/ether");
        words.skip(1).map(str::to_owned).next().unwrap_or_else(|| panic!("no address: {shown}"))
    }

    /// From now on a host finds an address at this Ethernet address, whatever anybody says;
    /// `None`: it asks again.
    pub fn pin(&self, host: u8, address: &str, mac: Option<&str>) {
        let namespace = self.namespace(host);
        let entry = ["-n", &namespace, "neigh"];
        match mac {
            Some(mac) => {
                let rest = ["replace", address, "lladdr", mac, "nud", "permanent", "dev", "eth0"];
                ip(&[&entry[..], &rest].concat());
            }
            None => {
                let rest = ["del", address, "dev", "eth0"];
                // There may be none.
                let _ = run(Command::new("ip").args([&entry[..], &rest].concat()));
            }
        }
    }

    /// The words before a command that runs it on a host.
    pub(crate) fn words(&self, host: u8) -> Vec<String> {
        ["/usr/sbin/ip", "netns", "exec", &self.namespace(host)].map(str::to_owned).to_vec()
    }

    /// Puts a host back on the network.
    pub fn plug(&self, host: u8) {
        ip(&["-n", &self.namespace(0), "link", "set", &port(host), "up"]);
    }

    /// Takes a host off the network, as when its machine dies.
    pub fn unplug(&self, host: u8) {
        ip(&["-n", &self.namespace(0), "link", "set", &port(host), "down"]);
    }
}

/// A network behind a host of a [`Lan`], with one host of its own, 192.168.7.10. It ends with the
/// Lan's host.
#[derive(Debug)]
pub struct Inside {
    namespace: String,
}

impl Lan {
    /// Puts a network behind a host, which is its router.
    ///
    /// # Panics
    /// As [`Lan::new`].
    #[must_use]
    pub fn behind(&self, router: u8) -> Inside {
        let (outer, namespace) = (self.namespace(router), format!("{}-in", self.name));
        ip(&["netns", "add", &namespace]);
        let ends = ["link", "add", "in0", "netns", &outer, "type", "veth", "peer", "name", "eth0"];
        ip(&[&ends[..], &["netns", &namespace]].concat());
        ip(&["-n", &outer, "addr", "add", "192.168.7.1/24", "dev", "in0"]);
        ip(&["-n", &outer, "link", "set", "in0", "up"]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        ip(&["-n", &namespace, "addr", "add", "192.168.7.10/24", "dev", "eth0"]);
        ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        ip(&["-n", &namespace, "route", "add", "default", "via", "192.168.7.1"]);
        Inside { namespace }
    }
}

impl Inside {
    /// Starts a program on its host.
    #[must_use]
    pub fn start(&self, program: &Path, args: &[&str], dir: &Path, log: &str) -> Process {
        let program = program.display().to_string();
        let words = [&["netns", "exec", &self.namespace, &program], args].concat();
        Process::start(log, Path::new("/usr/sbin/ip"), &words, dir, &dir.join(log))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in self.hosts.iter().chain(&[0]) {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(*host)]).status();
        }
    }
}

fn port(host: u8) -> String {
    format!("port{host}")
}

/// Whether this process may make namespaces.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a test waits for that depends on the intervals of keepalived.
pub const ELECTION: Duration = Duration::from_secs(30);

fn ip(words: &[&str]) {
    let answer = run(Command::new("ip").args(words));
    assert_eq!(answer.status, 0, "ip {}: {}", words.join(" "), answer.stderr);
}
