//! One node as a process: a reader with helpers for what comes over the network, everything else
//! on one control thread.
//!
//! The reader waits for datagrams and BIN streams and steps worker 1; helpers step the others
//! when it has too much to do. The control thread steps worker 0: management, databases, files,
//! addresses, signals. Effects for it travel over a channel.

mod clients;
mod control;
mod daemon;
mod databases;
mod files;
mod gather;
mod gauges;
mod helpers;
mod host;
mod host_clock;
mod limits;
mod log;
mod log_format;
mod management;
mod parcel;
mod programs;
mod reader;
mod spool;
mod tcp;
mod udp;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tandem_clock::Chance;
use tandem_drivers::Clock;
use tandem_drivers::privileges::{self, Identity};
use tandem_engine::build::NodeOptions;
use tandem_engine::effect::{Send, SendError};
use tandem_engine::log::Level;
use tandem_engine::node::Node;
use tandem_engine::sockets::Proto;
use tandem_net::{BinOptions, BinStreams, Poller};

use crate::script;

/// What the command line asks of a server.
#[derive(Debug, Default)]
pub struct Options {
    pub file: PathBuf,
    /// `-p`: the script goes through this command.
    pub preprocessor: Option<String>,
    pub state_dir: Option<PathBuf>,
    /// `-m`: the soft limit of memory.
    pub memory_mb: Option<u64>,
    /// `-l`: more sockets.
    pub listen: Vec<String>,
    /// `-n`.
    pub udp_workers: Option<usize>,
    /// `-E`: standard error, whatever the script says.
    pub stderr: bool,
    /// `-D`: every line is logged.
    pub debug: bool,
    /// `-d`: so many levels more.
    pub louder: u8,
    pub pid_file: Option<PathBuf>,
    pub group_file: Option<PathBuf>,
    pub chroot: Option<PathBuf>,
    pub working_dir: Option<PathBuf>,
    pub user: Option<String>,
    pub group: Option<String>,
}

/// What every thread of the server has.
struct Shared {
    node: Arc<Node>,
    script: script::Origin,
    clock: Clock,
    sockets: udp::SocketTable,
    /// Where connections that carry SIP are written to; `None`: the node has none.
    streams: Option<tcp::Outlet>,
    /// Assumed when everything is open.
    identity: Identity,
    /// What the reader waits with; its waker ends the wait.
    poller: Poller,
}

impl Shared {
    /// Sends datagrams; see [`udp::SocketTable::send`].
    fn send(&self, sends: &mut Vec<Send>) -> Vec<(u64, SendError)> {
        self.sockets.send(&self.node.sockets, sends)
    }
}

/// Runs a node until it is told to stop. In the background, the command ends when it serves.
pub fn run(options: Options, background: bool) -> ExitCode {
    if background && !daemon::is_child() {
        return daemon::start_in_background();
    }
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Result<(), String> {
    limits::use_small_pages();
    let clock = Clock::new();
    let begun = clock.now();
    if daemon::is_child() {
        daemon::leave_terminal()?;
    }
    // The working folder may change below.
    let origin = script::Origin {
        file: absolute(&options.file),
        preprocessor: options.preprocessor.clone(),
        listen: options.listen.clone(),
    };
    let mut script = script::load(&options.file, options.preprocessor.as_deref());
    for socket in &options.listen {
        script.listen(socket)?;
    }
    let identity = Identity::find(options.user.as_deref(), options.group.as_deref())
        .map_err(|e| format!("tandem: {e}"))?;
    let workers = script.program.as_ref().map_or(1, |p| udp_workers(p, options));
    let seed = tandem_drivers::os_seed().map_err(|e| format!("no random numbers: {e}"))?;
    let mut chance = Chance::from_seed(seed);
    let node = script.build(NodeOptions {
        chance: chance.fork(),
        now: begun,
        // The control thread's and that of TCP.
        workers: workers + 2,
        command_line: std::env::args().collect(),
    });
    let findings = script.rendered();
    if !findings.is_empty() {
        eprintln!("{findings}");
    }
    let node = node.ok_or_else(|| format!("tandem: {} was not started", options.file.display()))?;
    node.set_pid(std::process::id());
    node.dns.set_hosts(tandem_drivers::dns::host_table());
    if let Some(Err(text)) = tandem_drivers::zone_name().map(|name| node.zone.set(&name)) {
        eprintln!("tandem: {text}: times are those of UTC");
    }
    match options.memory_mb {
        Some(mb) => node.memory.set_limit(mb.saturating_mul(1 << 20)),
        None => node.memory.set_total(tandem_drivers::memory::installed().unwrap_or(0)),
    }
    set_up_log(&node, options)?;
    log_format::set(&node)?;
    limits::set(&node)?;
    let state_dir = options.state_dir.as_deref().map(absolute);
    let _files = settle_in(&node, options)?;
    if let Ok(folder) = std::env::current_dir() {
        node.set_folder(folder.display().to_string());
    }
    let state = files::StateDir::choose(&node, state_dir, &origin.file);
    node.membership().drive_from(reader::WORKER);
    daemon::allow_open_files(&node);
    let sockets = udp::SocketTable::open(&node)?;
    let poller = Poller::new().map_err(|e| format!("tandem: no epoll: {e}"))?;
    let bin = listen_bin(&node, &poller)?;
    let script = origin;
    let (tcp, streams) = tcp::open(&node, clock.now())?.unzip();
    let shared = Arc::new(Shared { node, script, clock, sockets, streams, identity, poller });
    control::run(&shared, (workers, tcp), chance, bin, &state, begun)
}

/// Bytes that may wait on a connection that a node opened to us: nothing but answers to who asks
/// as a stranger leaves there.
const ANSWERS_BYTES_MAX: usize = 256 << 10;

/// After a silence of the network peers hear of each other so soon: what they replicate is worth
/// little later. Above the round trip of any link that is of use.
const REPEAT_WITHIN_MS: u32 = 2000;

fn listen_bin(node: &Node, poller: &Poller) -> Result<BinStreams, String> {
    let mut bin = BinStreams::new(BinOptions {
        write_queue_bytes_of_accepted_max: ANSWERS_BYTES_MAX,
        repeat_within_ms: Some(REPEAT_WITHIN_MS),
        ..BinOptions::default()
    });
    for (_, socket) in node.sockets.of(Proto::Bin) {
        bin.listen(poller, socket.addr)
            .map_err(|e| format!("tandem: cannot listen on {}: {e}", socket.text()))?;
    }
    Ok(bin)
}

fn set_up_log(node: &Arc<Node>, options: &Options) -> Result<(), String> {
    if options.debug {
        node.set_log_level(Level::Debug);
    } else if options.louder > 0 {
        let level = i32::from(node.log_level()) + i32::from(options.louder);
        node.set_log_level(Level::from_number(level));
    }
    log::open(node, options.stderr)
}

/// Working folder, root folder and the files with the numbers of the process, which go away with
/// what is returned.
fn settle_in(node: &Node, options: &Options) -> Result<Vec<daemon::PidFile>, String> {
    let mut files = Vec::new();
    if let Some(path) = &options.pid_file {
        files.push(daemon::PidFile::write(path, std::process::id())?);
    }
    if let Some(path) = &options.group_file {
        files.push(daemon::PidFile::write(path, daemon::process_group())?);
    }
    let global = |name: &str| match node.program.global(name) {
        Some(tandem_script::program::Setting::Str(dir)) => Some(PathBuf::from(dir)),
        _ => None,
    };
    if let Some(dir) = options.chroot.clone().or_else(|| global("chroot")) {
        privileges::change_root(&dir)
            .map_err(|e| format!("tandem: cannot make {} the root: {e}", dir.display()))?;
    }
    let dir = options.working_dir.clone().or_else(|| global("wdir"));
    if let Some(dir) = dir.or_else(|| daemon::is_child().then(|| PathBuf::from("/"))) {
        std::env::set_current_dir(&dir)
            .map_err(|e| format!("tandem: cannot go to {}: {e}", dir.display()))?;
    }
    Ok(files)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `-n`, else `udp_workers` of the script, else one for each processor.
fn udp_workers(program: &tandem_script::Program, options: &Options) -> usize {
    let of_script = || match program.global("udp_workers") {
        Some(tandem_script::program::Setting::Int(n)) => usize::try_from(*n).ok(),
        _ => None,
    };
    if matches!(program.global("debug_mode"), Some(tandem_script::program::Setting::Int(1..))) {
        return 1;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // More workers than processors only cost cache: a worker never waits for anything.
    options.udp_workers.or_else(of_script).unwrap_or(cores).clamp(1, cores)
}
