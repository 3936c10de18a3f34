//! The servers that are measured, as processes.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clock::now;
use crate::cpu;
use crate::load::{Load, Pace};
use crate::message::Work;

const KAMAILIO: &str = include_str!("../configs/kamailio.cfg");
const TANDEM: &str = include_str!("../configs/tandem.cfg");
const TANDEM_PAIR: &str = include_str!("../configs/tandem-pair.cfg");

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(20);

/// A running server: one process or two nodes. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    nodes: Vec<Child>,
}

/// Where the servers find what they need.
#[derive(Debug)]
pub(crate) struct Place {
    /// A folder of the benchmark's own.
    pub(crate) dir: PathBuf,
    pub(crate) tandem: PathBuf,
    pub(crate) workers: usize,
}

impl Place {
    pub(crate) fn kamailio(&self) -> Result<Server, String> {
        let address = "127.0.3.1";
        let dir = self.folder("kamailio")?;
        let config = self.config(&dir, KAMAILIO, address, &[])?;
        let (config, dir) = (config.display().to_string(), dir.display().to_string());
        let pid_file = format!("{dir}/pid");
        let args = ["-f", &config, "-DD", "-x", "fm", "-m", "256", "-M", "16"];
        let more = ["-w", &dir, "-Y", &dir, "-P", &pid_file];
        let all: Vec<&str> = args.into_iter().chain(more).collect();
        let node = self.spawn(Path::new("kamailio"), &all, &dir)?;
        self.serving("Kamailio", address, vec![node])
    }

    pub(crate) fn tandem(&self) -> Result<Server, String> {
        let address = "127.0.3.2";
        let dir = self.folder("tandem")?;
        let config = self.config(&dir, TANDEM, address, &[])?;
        let node = self.spawn_tandem(&dir, &config)?;
        self.serving("Tandem", address, vec![node])
    }

    pub(crate) fn tandem_pair(&self) -> Result<Server, String> {
        let addresses = ["127.0.3.3", "127.0.3.4"];
        let mut nodes = Vec::new();
        for (n, address) in addresses.into_iter().enumerate() {
            let (own, peer) = ((n + 1).to_string(), (2 - n).to_string());
            let dir = self.folder(&format!("pair{own}"))?;
            let roles = [("active", ", flags=seed"), ("backup", "")];
            let words = [
                ("NODE", own.as_str()),
                ("PEER", peer.as_str()),
                ("NEIGHBOR", addresses[1 - n]),
                ("ROLE", roles[n].0),
                ("FLAGS", roles[n].1),
            ];
            let config = self.config(&dir, TANDEM_PAIR, address, &words)?;
            nodes.push(self.spawn_tandem(&dir, &config)?);
            await_port(address)?;
        }
        self.serving("Tandem, pair (both nodes)", addresses[0], nodes)
    }

    fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(dir)
    }

    fn config(
        &self,
        dir: &Path,
        template: &str,
        address: &str,
        words: &[(&str, &str)],
    ) -> Result<PathBuf, String> {
        let mut text = String::new();
        for line in template.lines().filter(|l| !l.starts_with('#')) {
            let mut line = line.to_owned();
            for (word, value) in words {
                line = line.replace(word, value);
            }
            line = line.replace("ADDRESS", address).replace("DIR", &dir.display().to_string());
            text += &line.replace("WORKERS", &self.workers.to_string());
            text.push('\n');
        }
        let path = dir.join("server.cfg");
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }

    fn spawn_tandem(&self, dir: &Path, config: &Path) -> Result<Child, String> {
        let (config, state) = (config.display().to_string(), dir.join("state"));
        let state = state.display().to_string();
        let args = ["-f", &config, "--state-dir", &state];
        self.spawn(&self.tandem, &args, &dir.display().to_string())
    }

    fn spawn(&self, program: &Path, args: &[&str], dir: &str) -> Result<Child, String> {
        let log = Path::new(dir).join("log");
        let file = fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let other = file.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(program).args(args);
        command.current_dir(dir).stdin(Stdio::null()).stdout(file).stderr(other);
        command.spawn().map_err(|e| format!("cannot start {}: {e}", program.display()))
    }

    fn serving(&self, name: &str, address: &str, nodes: Vec<Child>) -> Result<Server, String> {
        let address: SocketAddr =
            format!("{address}:5060").parse().map_err(|e| format!("{address}: {e}"))?;
        let mut server = Server { name: name.to_owned(), address, nodes };
        let mut probe = Load::new(address, 1, 1).map_err(|e| e.to_string())?;
        let deadline = now() + START;
        loop {
            let sample = probe.run(Work::Options, Pace::Once { window: 1 });
            if sample.is_ok_and(|s| s.answered == 1) {
                return Ok(server);
            }
            let gone = server.nodes.iter_mut().any(|n| n.try_wait().is_ok_and(|e| e.is_some()));
            if gone || now() > deadline {
                let dir = self.dir.display();
                return Err(format!("{name} does not serve at {address}; its log is in {dir}"));
            }
        }
    }
}

impl Server {
    /// Processor time of all its processes so far, in ns.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.nodes.iter().map(|n| cpu::time_ns(n.id())).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if node.try_wait().is_ok_and(|e| e.is_none()) {
                let pid = rustix::process::Pid::from_child(node);
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let deadline = now() + Duration::from_secs(5);
        for node in &mut self.nodes {
            while now() < deadline && node.try_wait().is_ok_and(|e| e.is_none()) {
                breathe();
            }
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "waiting for a process to start or to end")]
fn breathe() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Waits until a node takes connections of the cluster.
#[expect(clippy::disallowed_methods, reason = "the benchmark owns its sockets")]
fn await_port(address: &str) -> Result<(), String> {
    let deadline = now() + START;
    while TcpStream::connect((address, 5566)).is_err() {
        if now() > deadline {
            return Err(format!("no node listens at {address}:5566"));
        }
        breathe();
    }
    Ok(())
}
