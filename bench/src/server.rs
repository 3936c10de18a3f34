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
use crate::network::{self, Network};
use crate::pings;
use crate::routes::{KAMAILIO_TABLES, sql};

const KAMAILIO: &str = include_str!("../configs/kamailio.cfg");
const KAMAILIO_PAIR: &str = include_str!("../configs/kamailio-pair.cfg");
const KAMAILIO_CALLS: &str = include_str!("../configs/kamailio-calls.cfg");
const TANDEM_CALLS: &str = include_str!("../configs/tandem-calls.cfg");

/// The last module of the scripts above, behind which those of dialogs are loaded.
const LAST_KAMAILIO: &str = "loadmodule \"textops.so\"\n";
const KAMAILIO_DIALOGS: &str = "loadmodule \"dialog.so\"\nloadmodule \"acc.so\"\n\
    modparam(\"acc\", \"cdr_enable\", 1)\nmodparam(\"acc\", \"log_level\", -1)\n";
const LAST_TANDEM: &str = "loadmodule \"sipmsgops.so\"\n";
const TANDEM_DIALOGS: &str = "loadmodule \"dialog.so\"\nloadmodule \"acc.so\"\n\
    modparam(\"acc\", \"log_level\", -1)\n";
const TANDEM_ACCOUNTS: &str = "create_dialog(); do_accounting(\"log\", \"cdr\"); record_route();";
/// What makes a pair of those that keep dialogs.
const KAMAILIO_DMQ: &str = "loadmodule \"dmq.so\"\n\
    modparam(\"dmq\", \"server_address\", \"sip:ADDRESS:5062\")\n\
    modparam(\"dmq\", \"notification_address\", \"sip:NEIGHBOR:5062\")\n\
    modparam(\"dmq\", \"num_workers\", WORKERS)\n";
const KAMAILIO_SHARED: &str = "modparam(\"dialog\", \"enable_dmq\", 1)\n";
const TANDEM_CLUSTER: &str = "loadmodule \"proto_bin.so\"\nloadmodule \"clusterer.so\"\n\
    modparam(\"clusterer\", \"db_mode\", 0)\n\
    modparam(\"clusterer\", \"my_node_id\", NODE)\n\
    modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:ADDRESS:5566FLAGS\")\n\
    modparam(\"clusterer\", \"neighbor_node_info\", \
    \"cluster_id=1, node_id=PEER, url=bin:NEIGHBOR:5566\")\n\
    modparam(\"clusterer\", \"sharing_tag\", \"service/1=ROLE\")\n";
const TANDEM_SHARED: &str = "modparam(\"dialog\", \"dialog_replication_cluster\", 1)\n";
const SIP_SOCKET: &str = "udp:ADDRESS:5060\n";
/// The last module of the scripts for a single server.
const LAST_SINGLE: &str = "loadmodule \"auth.so\"\n";
const TANDEM: &str = include_str!("../configs/tandem.cfg");
const KAMAILIO_PRESENCE: &str = include_str!("../configs/kamailio-presence.cfg");
const TANDEM_PRESENCE: &str = include_str!("../configs/tandem-presence.cfg");
const TANDEM_PAIR: &str = include_str!("../configs/tandem-pair.cfg");

/// The same for rules.
const KAMAILIO_ROUTES: &str = "loadmodule \"ctl.so\"\nloadmodule \"db_sqlite.so\"\n\
    loadmodule \"drouting.so\"\nmodparam(\"ctl\", \"binrpc\", \"unix:DIR/ctl\")\n\
    modparam(\"drouting\", \"db_url\", \"sqlite:///DIR/routes.sqlite\")\n";
const KAMAILIO_ROUTING: &str =
    "record_route(); if (!do_routing(\"0\")) { sl_send_reply(\"404\", \"No Rule\"); exit; }";
const TANDEM_ROUTES: &str = "loadmodule \"db_sqlite.so\"\nloadmodule \"mi_datagram.so\"\n\
    loadmodule \"drouting.so\"\nmodparam(\"mi_datagram\", \"socket_name\", \"unix:DIR/mi\")\n\
    modparam(\"drouting\", \"probing_interval\", 0)\n\
    modparam(\"drouting\", \"db_url\", \"sqlite://DIR/routes.sqlite\")\n";
const TANDEM_ROUTING: &str =
    "record_route(); if (!do_routing(0)) { send_reply(404, \"No Rule\"); exit; }";

/// The name of what does nothing.
pub(crate) const FLOOR: &str = "floor";

/// Where the load of a single server sends from.
const SINGLE_LOAD: &str = "127.0.3.100";

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(60);

/// Three more branches, to users of the same phone whose names begin with an f.
fn forks(append: &str) -> String {
    let one = |n: u32| format!("{append}(\"sip:f{n}-$rU@$rd:$rp\"); ");
    format!("{}record_route();", (1..=3).map(one).collect::<String>())
}

fn kamailio_with_dialogs(script: &str) -> String {
    script
        .replace(LAST_KAMAILIO, &format!("{LAST_KAMAILIO}{KAMAILIO_DIALOGS}"))
        .replace("record_route();", "dlg_manage(); record_route();")
}

fn tandem_with_dialogs(script: &str) -> String {
    script
        .replace(LAST_TANDEM, &format!("{LAST_TANDEM}{TANDEM_DIALOGS}"))
        .replace("record_route();", TANDEM_ACCOUNTS)
}

/// A running server: one process or two nodes. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    addresses: Vec<SocketAddr>,
    /// Where the load sends from.
    pub(crate) from: SocketAddr,
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
        let node = self.spawn_kamailio(&dir, &config, None)?;
        self.serving("Kamailio", &[address], SINGLE_LOAD, vec![node])
    }

    pub(crate) fn tandem(&self) -> Result<Server, String> {
        let address = "127.0.3.2";
        let dir = self.folder("tandem")?;
        let config = self.config(&dir, TANDEM, address, &[])?;
        let node = self.spawn_tandem(&dir, &config, None)?;
        self.serving("Tandem", &[address], SINGLE_LOAD, vec![node])
    }

    /// What does nothing with the datagrams that the others serve; see [`crate::floor`].
    pub(crate) fn floor(&self) -> Result<Server, String> {
        let address = "127.0.3.16";
        let dir = self.folder("floor")?;
        let own = std::env::current_exe().map_err(|e| format!("no floor: {e}"))?;
        let (bind, dir) = (format!("{address}:5060"), dir.display().to_string());
        let node = self.spawn(&own, &["floor", &bind], &dir, None)?;
        self.serving(FLOOR, &[address], SINGLE_LOAD, vec![node])
    }

    pub(crate) fn kamailio_calls(&self) -> Result<Server, String> {
        self.kamailio_script("calls", "127.0.3.3", KAMAILIO_CALLS)
    }

    pub(crate) fn tandem_calls(&self) -> Result<Server, String> {
        self.tandem_script("calls", "127.0.3.4", TANDEM_CALLS)
    }

    /// The same with a dialog and a CDR in the log for each call.
    pub(crate) fn kamailio_dialogs(&self) -> Result<Server, String> {
        self.kamailio_script("dialogs", "127.0.3.5", &kamailio_with_dialogs(KAMAILIO_CALLS))
    }

    pub(crate) fn tandem_dialogs(&self) -> Result<Server, String> {
        self.tandem_script("dialogs", "127.0.3.6", &tandem_with_dialogs(TANDEM_CALLS))
    }

    /// The same with three more branches for each call.
    pub(crate) fn kamailio_forking(&self) -> Result<Server, String> {
        let corex = format!("{LAST_KAMAILIO}loadmodule \"corex.so\"\n");
        let script = KAMAILIO_CALLS
            .replace(LAST_KAMAILIO, &corex)
            .replace("record_route();", &forks("append_branch"));
        self.kamailio_script("forking", "127.0.3.7", &script)
    }

    pub(crate) fn tandem_forking(&self) -> Result<Server, String> {
        let script = TANDEM_CALLS.replace("record_route();", &forks("append_msg_branch"));
        self.tandem_script("forking", "127.0.3.8", &script)
    }

    /// It wants its tables also where it keeps everything in memory.
    pub(crate) fn kamailio_presence(&self) -> Result<Server, String> {
        let file = self.folder("kamailio-presence")?.join("presence.sqlite");
        let read = |part: &str| format!(".read {KAMAILIO_TABLES}/{part}-create.sql\n");
        sql(&file, &(read("standard") + &read("presence")))?;
        self.kamailio_script("presence", "127.0.3.13", KAMAILIO_PRESENCE)
    }

    pub(crate) fn tandem_presence(&self) -> Result<Server, String> {
        // The module with the rules wants a database, of which nothing is read here.
        let file = self.folder("tandem-presence")?.join("xcap.sqlite");
        sql(&file, "CREATE TABLE xcap (id INTEGER PRIMARY KEY)")?;
        self.tandem_script("presence", "127.0.3.14", TANDEM_PRESENCE)
    }

    fn kamailio_script(&self, name: &str, address: &str, script: &str) -> Result<Server, String> {
        let dir = self.folder(&format!("kamailio-{name}"))?;
        let config = self.config(&dir, script, address, &[])?;
        let node = self.spawn_kamailio(&dir, &config, None)?;
        self.serving("Kamailio", &[address], SINGLE_LOAD, vec![node])
    }

    fn tandem_script(&self, name: &str, address: &str, script: &str) -> Result<Server, String> {
        let dir = self.folder(&format!("tandem-{name}"))?;
        let config = self.config(&dir, script, address, &[])?;
        let node = self.spawn_tandem(&dir, &config, None)?;
        self.serving("Tandem", &[address], SINGLE_LOAD, vec![node])
    }

    /// Where the load of a single server sends from.
    pub(crate) fn load_from(&self) -> SocketAddr {
        SocketAddr::from((std::net::Ipv4Addr::new(127, 0, 3, 100), 0))
    }

    /// Calls by number; the tables are in the folder.
    pub(crate) fn kamailio_routes(&self, dir: &Path, address: &str) -> Result<Server, String> {
        let script = KAMAILIO_CALLS
            .replace(LAST_KAMAILIO, &format!("{LAST_KAMAILIO}{KAMAILIO_ROUTES}"))
            .replace("record_route();", KAMAILIO_ROUTING);
        let config = self.config(dir, &script, address, &[])?;
        let node = self.spawn_kamailio(dir, &config, None)?;
        self.serving("Kamailio", &[address], SINGLE_LOAD, vec![node])
    }

    pub(crate) fn tandem_routes(&self, dir: &Path, address: &str) -> Result<Server, String> {
        let script = TANDEM_CALLS
            .replace(LAST_TANDEM, &format!("{LAST_TANDEM}{TANDEM_ROUTES}"))
            .replace("record_route();", TANDEM_ROUTING);
        let config = self.config(dir, &script, address, &[])?;
        let node = self.spawn_tandem(dir, &config, None)?;
        self.serving("Tandem", &[address], SINGLE_LOAD, vec![node])
    }

    /// One that pings its contacts, by SIP requests or with four bytes.
    pub(crate) fn kamailio_pings(&self, by_sip: bool) -> Result<Server, String> {
        let address = "127.0.3.11";
        let dir = self.folder(&format!("kamailio-pings-{by_sip}"))?;
        let interval = pings::INTERVAL_S;
        let more = format!(
            "loadmodule \"nathelper.so\"\n\
             modparam(\"nathelper\", \"natping_interval\", {interval})\n\
             modparam(\"nathelper\", \"ping_nated_only\", 0)\n\
             modparam(\"nathelper\", \"sipping_bflag\", 6)\n\
             modparam(\"nathelper\", \"sipping_from\", \"sip:ping@127.0.3.11\")\n"
        );
        let script = KAMAILIO
            .replace(LAST_SINGLE, &format!("{LAST_SINGLE}{more}"))
            .replace("if (!save", if by_sip { "setbflag(6); if (!save" } else { "if (!save" });
        let config = self.config(&dir, &script, address, &[])?;
        let node = self.spawn_kamailio(&dir, &config, None)?;
        self.serving("Kamailio", &[address], SINGLE_LOAD, vec![node])
    }

    pub(crate) fn tandem_pings(&self, by_sip: bool) -> Result<Server, String> {
        let address = "127.0.3.12";
        let dir = self.folder(&format!("tandem-pings-{by_sip}"))?;
        let interval = pings::INTERVAL_S;
        let more = format!(
            "loadmodule \"nathelper.so\"\n\
             modparam(\"nathelper\", \"natping_interval\", {interval})\n\
             modparam(\"nathelper\", \"sipping_bflag\", \"SIP\")\n\
             modparam(\"nathelper\", \"sipping_from\", \"sip:ping@127.0.3.12\")\n"
        );
        let script = TANDEM.replace(LAST_SINGLE, &format!("{LAST_SINGLE}{more}")).replace(
            "if (!save",
            if by_sip { "setbflag(\"SIP\"); if (!save" } else { "if (!save" },
        );
        let config = self.config(&dir, &script, address, &[])?;
        let node = self.spawn_tandem(&dir, &config, None)?;
        self.serving("Tandem", &[address], SINGLE_LOAD, vec![node])
    }

    /// Two Kamailios that replicate by DMQ, on the first two hosts.
    pub(crate) fn kamailio_pair(&self, network: &Network) -> Result<Server, String> {
        let mut nodes = Vec::new();
        for n in 1..=2 {
            nodes.push(self.kamailio_node(network, n)?);
        }
        self.serving_pair("Kamailio, DMQ", network, 1, nodes)
    }

    /// One of them.
    pub(crate) fn kamailio_node(&self, network: &Network, n: usize) -> Result<Child, String> {
        self.kamailio_host(network, n, "kamailio", KAMAILIO_PAIR)
    }

    fn kamailio_host(
        &self,
        network: &Network,
        n: usize,
        name: &str,
        script: &str,
    ) -> Result<Child, String> {
        let dir = self.folder(&format!("{name}{n}"))?;
        let neighbor = network.address(3 - n);
        let words = [("NEIGHBOR", neighbor.as_str())];
        let config = self.config(&dir, script, &network.address(n), &words)?;
        self.spawn_kamailio(&dir, &config, Some(network.host(n)))
    }

    /// Two Kamailios that keep the same dialogs.
    pub(crate) fn kamailio_dialog_pair(&self, network: &Network) -> Result<Server, String> {
        let more = format!("{LAST_KAMAILIO}{KAMAILIO_DMQ}");
        let two = format!("{SIP_SOCKET}listen=udp:ADDRESS:5062\n");
        let messages = "if (is_method(\"KDMQ\")) { dmq_handle_message(); exit; }";
        let script = kamailio_with_dialogs(KAMAILIO_CALLS)
            .replace(LAST_KAMAILIO, &more)
            .replace(KAMAILIO_DIALOGS, &format!("{KAMAILIO_DIALOGS}{KAMAILIO_SHARED}"))
            .replace(SIP_SOCKET, &two)
            .replace("request_route {\n", &format!("request_route {{\n{messages}\n"));
        let mut nodes = Vec::new();
        for n in 1..=2 {
            nodes.push(self.kamailio_host(network, n, "kamailio-calls", &script)?);
        }
        self.serving_pair("Kamailio, DMQ", network, 1, nodes)
    }

    /// Two Tandem nodes that replicate, on the third and fourth host.
    pub(crate) fn tandem_pair(&self, network: &Network) -> Result<Server, String> {
        let mut nodes = Vec::new();
        for n in 1..=2 {
            nodes.push(self.tandem_node(network, n)?);
            await_port(&network.address(n + 2))?;
        }
        self.serving_pair("Tandem, pair", network, 3, nodes)
    }

    /// Two Tandem nodes that keep the same dialogs; a 200 is held back until the other has it.
    pub(crate) fn tandem_dialog_pair(&self, network: &Network) -> Result<Server, String> {
        let script = tandem_with_dialogs(TANDEM_CALLS)
            .replace(LAST_TANDEM, &format!("{LAST_TANDEM}{TANDEM_CLUSTER}"))
            .replace(TANDEM_DIALOGS, &format!("{TANDEM_DIALOGS}{TANDEM_SHARED}"))
            .replace(SIP_SOCKET, &format!("{SIP_SOCKET}socket = bin:ADDRESS:5566\n"))
            .replace("create_dialog();", "create_dialog(); set_dlg_sharing_tag(\"service\");");
        let mut nodes = Vec::new();
        for n in 1..=2 {
            nodes.push(self.tandem_host(network, n, "pair-calls", &script)?);
            await_port(&network.address(n + 2))?;
        }
        self.serving_pair("Tandem, pair", network, 3, nodes)
    }

    /// One of them.
    pub(crate) fn tandem_node(&self, network: &Network, n: usize) -> Result<Child, String> {
        self.tandem_host(network, n, "pair", TANDEM_PAIR)
    }

    fn tandem_host(
        &self,
        network: &Network,
        n: usize,
        name: &str,
        script: &str,
    ) -> Result<Child, String> {
        let (own, peer) = (n.to_string(), (3 - n).to_string());
        let dir = self.folder(&format!("{name}{own}"))?;
        let roles = [("active", ", flags=seed"), ("backup", "")];
        let neighbor = network.address(5 - n);
        let words = [
            ("NODE", own.as_str()),
            ("PEER", peer.as_str()),
            ("NEIGHBOR", &neighbor),
            ("ROLE", roles[n - 1].0),
            ("FLAGS", roles[n - 1].1),
        ];
        let config = self.config(&dir, script, &network.address(n + 2), &words)?;
        self.spawn_tandem(&dir, &config, Some(network.host(n + 2)))
    }

    fn serving_pair(
        &self,
        name: &str,
        network: &Network,
        first: usize,
        nodes: Vec<Child>,
    ) -> Result<Server, String> {
        let addresses = [network.address(first), network.address(first + 1)];
        let addresses = addresses.each_ref().map(String::as_str);
        self.serving(name, &addresses, network::LOAD, nodes)
    }

    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, String> {
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

    fn spawn_kamailio(
        &self,
        dir: &Path,
        config: &Path,
        host: Option<&str>,
    ) -> Result<Child, String> {
        let (config, dir) = (config.display().to_string(), dir.display().to_string());
        let pid_file = format!("{dir}/pid");
        let args = ["-f", &config, "-DD", "-x", "fm", "-m", "4096", "-M", "1024"];
        let more = ["-w", &dir, "-Y", &dir, "-P", &pid_file];
        let all: Vec<&str> = args.into_iter().chain(more).collect();
        self.spawn(Path::new("kamailio"), &all, &dir, host)
    }

    fn spawn_tandem(&self, dir: &Path, config: &Path, host: Option<&str>) -> Result<Child, String> {
        let (config, state) = (config.display().to_string(), dir.join("state"));
        let state = state.display().to_string();
        let args = ["-f", &config, "--state-dir", &state];
        self.spawn(&self.tandem, &args, &dir.display().to_string(), host)
    }

    fn spawn(
        &self,
        program: &Path,
        args: &[&str],
        dir: &str,
        host: Option<&str>,
    ) -> Result<Child, String> {
        let log = Path::new(dir).join("log");
        let file = fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let other = file.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
        let mut command = match host {
            Some(host) => {
                // It becomes the program: the process id stays the same.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", host, "setpriv"]);
                command
            }
            None => Command::new("setpriv"),
        };
        command.args(["--pdeathsig", "TERM", "--"]).arg(program).args(args);
        command.current_dir(dir).stdin(Stdio::null()).stdout(file).stderr(other);
        command.spawn().map_err(|e| format!("cannot start {}: {e}", program.display()))
    }

    fn serving(
        &self,
        name: &str,
        addresses: &[&str],
        from: &str,
        nodes: Vec<Child>,
    ) -> Result<Server, String> {
        let sip = |ip: &&str| format!("{ip}:5060").parse().map_err(|e| format!("{ip}: {e}"));
        let addresses = addresses.iter().map(sip).collect::<Result<Vec<SocketAddr>, String>>()?;
        let from = format!("{from}:0").parse().map_err(|e| format!("{from}: {e}"))?;
        let mut server = Server { name: name.to_owned(), addresses, from, nodes };
        for address in server.addresses.clone() {
            server.await_answer(address, &self.dir)?;
        }
        Ok(server)
    }
}

impl Server {
    /// Waits until the server answers at an address.
    pub(crate) fn await_answer(&mut self, address: SocketAddr, dir: &Path) -> Result<(), String> {
        let mut probe = Load::new(self.from, address, 1, 1).map_err(|e| e.to_string())?;
        let deadline = now() + START;
        loop {
            let sample = probe.run(Work::Options, Pace::Once { window: 1 });
            if sample.is_ok_and(|s| s.answered == 1) {
                return Ok(());
            }
            let gone = self.nodes.iter_mut().any(|n| n.try_wait().is_ok_and(|e| e.is_some()));
            if gone || now() > deadline {
                let (name, dir) = (&self.name, dir.display());
                return Err(format!("{name} does not serve at {address}; its log is in {dir}"));
            }
        }
    }

    pub(crate) fn active(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn backup(&self) -> Option<SocketAddr> {
        self.addresses.get(1).copied()
    }

    /// Processor time of each of its nodes so far, in ns.
    pub(crate) fn cpu_ns(&self) -> [u64; 2] {
        [0, 1].map(|n| self.nodes.get(n).map_or(0, |n| cpu::time_ns(n.id())))
    }

    /// Memory of its first node, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.nodes.first().map_or(0, |n| cpu::memory_bytes(n.id()))
    }

    /// Ends the second node.
    pub(crate) fn end_backup(&mut self) {
        if self.nodes.len() > 1 {
            end(self.nodes.split_off(1));
        }
    }

    /// Takes a new second node.
    pub(crate) fn add_backup(&mut self, node: Child) {
        self.nodes.push(node);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(std::mem::take(&mut self.nodes));
    }
}

fn end(mut nodes: Vec<Child>) {
    for node in &mut nodes {
        if node.try_wait().is_ok_and(|e| e.is_none()) {
            let pid = rustix::process::Pid::from_child(node);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
    let deadline = now() + Duration::from_secs(5);
    for node in &mut nodes {
        while now() < deadline && node.try_wait().is_ok_and(|e| e.is_none()) {
            breathe();
        }
        let _ = node.kill();
        let _ = node.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "waiting for a process to start or to end")]
pub(crate) fn breathe() {
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
