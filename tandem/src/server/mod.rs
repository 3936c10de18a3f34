//! One node as a process: UDP workers on threads, everything else on one control thread.
//!
//! A worker thread owns its sockets (SO_REUSEPORT) and steps its worker with batches of
//! datagrams. The control thread drives worker 0: BIN streams, management, databases, files,
//! addresses, signals. Effects that are not datagrams travel from a worker to the control thread
//! over a channel.

mod control;
mod files;
mod log;
mod udp;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tandem_clock::Chance;
use tandem_drivers::Clock;
use tandem_engine::build::NodeOptions;
use tandem_engine::node::Node;

use crate::script;

/// What every thread of the server has.
struct Shared {
    node: Arc<Node>,
    /// The script's main file.
    script: PathBuf,
    clock: Clock,
    sockets: udp::SocketTable,
}

/// Runs a node until it is told to stop.
pub fn run(file: &Path, state_dir: Option<PathBuf>) -> ExitCode {
    match start(file, state_dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn start(file: &Path, state_dir: Option<PathBuf>) -> Result<(), String> {
    let clock = Clock::new();
    let begun = clock.now();
    let mut script = script::load(file);
    let workers = script.program.as_ref().map_or(1, udp_workers);
    let seed = tandem_drivers::os_seed().map_err(|e| format!("no random numbers: {e}"))?;
    let mut chance = Chance::from_seed(seed);
    let options = NodeOptions {
        chance: chance.fork(),
        now: begun,
        workers: workers + 1,
        command_line: std::env::args().collect(),
    };
    let node = script.build(options);
    let findings = script.rendered();
    if !findings.is_empty() {
        eprintln!("{findings}");
    }
    let node = node.ok_or_else(|| format!("tandem: {} was not started", file.display()))?;
    node.set_pid(std::process::id());
    let state = files::StateDir::choose(&node, state_dir);
    let sockets = udp::SocketTable::open(&node, workers)?;
    let shared = Arc::new(Shared { node, script: file.to_path_buf(), clock, sockets });
    control::run(&shared, workers, chance, &state, begun)
}

/// `udp_workers` of the script, else one for each processor.
fn udp_workers(program: &tandem_script::Program) -> usize {
    let given = match program.global("udp_workers") {
        Some(tandem_script::program::Setting::Int(n)) => usize::try_from(*n).ok(),
        _ => None,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // More workers than processors only cost cache: a worker never waits for anything.
    given.unwrap_or(cores).clamp(1, cores)
}
