//! Network namespaces: each node of a pair is a host of its own, on one bridge with the load.

use std::process::{Command, Stdio};

const BRIDGE: &str = "tbench0";
/// Where the load sends from.
pub(crate) const LOAD: &str = "10.213.7.100";

/// The hosts of the bench; dropping it removes them.
#[derive(Debug)]
pub(crate) struct Network {
    hosts: Vec<String>,
}

impl Network {
    /// A bridge with so many hosts.
    pub(crate) fn new(hosts: usize) -> Result<Self, String> {
        let mut network = Self { hosts: Vec::new() };
        let _ = ip(&format!("link del {BRIDGE}"));
        ip(&format!("link add {BRIDGE} type bridge"))?;
        ip(&format!("addr add {LOAD}/24 dev {BRIDGE}"))?;
        ip(&format!("link set {BRIDGE} up"))?;
        for n in 1..=hosts {
            let host = format!("tbench{n}");
            let (outer, inner) = (format!("tbo{n}"), format!("tbi{n}"));
            let _ = ip(&format!("netns del {host}"));
            ip(&format!("netns add {host}"))?;
            network.hosts.push(host.clone());
            ip(&format!("link add {outer} type veth peer name {inner} netns {host}"))?;
            ip(&format!("link set {outer} master {BRIDGE} up"))?;
            let own = network.address(n);
            ip(&format!("-n {host} addr add {own}/24 dev {inner}"))?;
            ip(&format!("-n {host} link set {inner} up"))?;
            ip(&format!("-n {host} link set lo up"))?;
        }
        Ok(network)
    }

    pub(crate) fn host(&self, n: usize) -> &str {
        self.hosts.get(n - 1).map_or("", String::as_str)
    }

    pub(crate) fn address(&self, n: usize) -> String {
        format!("10.213.7.{n}")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = ip(&format!("netns del {host}"));
        }
        let _ = ip(&format!("link del {BRIDGE}"));
    }
}

fn ip(words: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(words.split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ip {words}: {status}")),
        Err(e) => Err(format!("ip: {e}")),
    }
}
