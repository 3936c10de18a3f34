//! Side by side with its peers: what Tandem and Kamailio cost for the same work, in the same run.
//!
//! `cargo run --release -p bench` builds the server, starts all contestants and measures them in
//! turn, in several rounds; the README says what each row is. The tables go to standard output,
//! as Markdown.

mod bulk;
mod calls;
mod clock;
mod cpu;
mod digest;
mod floor;
mod load;
mod message;
mod network;
mod pings;
mod presence;
mod probe;
mod report;
mod rounds;
mod routes;
mod server;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use network::Network;
use rounds::{Contest, PHONES, SOCKETS};
use server::Place;

const USAGE: &str = "usage: bench [--quick] [--rounds N] [\
                     --only single|calls|ringing|forking|dialogs|routes|pings|presence|pair|\
                     callpair|bulk]";

const PARTS: [&str; 11] = [
    "single", "calls", "ringing", "forking", "dialogs", "routes", "pings", "presence", "pair",
    "callpair", "bulk",
];

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) saturated: Duration,
    pub(crate) paced: Duration,
    /// Contacts of the row about creating, and of the one about syncing.
    pub(crate) million: usize,
    pub(crate) synced: usize,
    /// Rules of the largest table of routes.
    pub(crate) rules: usize,
    /// Contacts that are pinged.
    pub(crate) pinged: usize,
    /// Subscriptions whose memory is measured.
    pub(crate) watched: usize,
    /// Calls that ring whose memory is measured.
    pub(crate) ringing: usize,
    only: Option<String>,
}

impl Plan {
    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    // The program starts itself as the server that does nothing.
    let done = match words.next_if(|word| word == "floor").and_then(|_| words.next()) {
        Some(address) => floor::serve(&address),
        None => plan(words).and_then(|plan| measure(&plan)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("bench: {text}");
            ExitCode::FAILURE
        }
    }
}

fn plan(mut words: impl Iterator<Item = String>) -> Result<Plan, String> {
    let (saturated, paced) = (Duration::from_secs(3), Duration::from_secs(4));
    let (million, synced, rules, pinged) = (1_000_000, 500_000, 1_000_000, 100_000);
    let (watched, ringing, rounds, only) = (50_000, 100_000, 5, None);
    let mut plan =
        Plan { rounds, saturated, paced, million, synced, rules, pinged, watched, ringing, only };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => {
                plan.rounds = 1;
                (plan.saturated, plan.paced) = (saturated / 3, paced / 4);
                (plan.million, plan.synced) = (million / 10, synced / 10);
                plan.rules = rules / 10;
                plan.pinged = pinged / 4;
                plan.watched = watched / 10;
                plan.ringing = ringing / 10;
            }
            "--rounds" => {
                let n = words.next().and_then(|n| n.parse().ok()).filter(|n| (1..=50).contains(n));
                plan.rounds = n.ok_or("--rounds wants a number from 1 to 50")?;
            }
            "--only" => {
                let part = words.next().filter(|w| PARTS.contains(&w.as_str()));
                plan.only = Some(part.ok_or(USAGE)?);
            }
            _ => return Err(format!("unknown word {word}; {USAGE}")),
        }
    }
    Ok(plan)
}

fn measure(plan: &Plan) -> Result<(), String> {
    let dir = std::env::temp_dir().join(format!("tandem-bench-{}", std::process::id()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let place = Place { dir: dir.clone(), tandem: tandem()?, workers };
    println!("{}", machine(workers));
    if plan.wants("single") {
        let mut contest = Contest::single(&place)?;
        contest.rounds(plan)?;
        println!("{}", contest.table());
    }
    if plan.wants("calls") {
        println!("{}", calls::measure(&place, plan, "calls")?);
    }
    if plan.wants("ringing") {
        println!("{}", calls::ringing(&place, plan.ringing)?);
    }
    if plan.wants("forking") {
        println!("{}", calls::measure(&place, plan, "calls to four")?);
    }
    if plan.wants("dialogs") {
        println!("{}", calls::measure(&place, plan, "calls with dialog and CDR")?);
    }
    if plan.wants("routes") {
        println!("{}", routes::measure(&place, plan)?);
    }
    if plan.wants("pings") {
        println!("{}", pings::measure(&place, plan)?);
    }
    if plan.wants("presence") {
        println!("{}", presence::measure(&place, plan)?);
    }
    let network = Network::new(4);
    let network = network
        .inspect_err(|e| eprintln!("bench: no pairs (they need root for network namespaces): {e}"))
        .ok();
    if let Some(network) = network.as_ref().filter(|_| plan.wants("pair")) {
        let mut contest = Contest::pairs(&place, network)?;
        contest.rounds(plan)?;
        println!("{}", contest.table());
        println!("{}", contest.unequal()?);
    }
    if let Some(network) = network.as_ref().filter(|_| plan.wants("callpair")) {
        println!("{}", calls::replicated(&place, network, plan)?);
    }
    if plan.wants("bulk") {
        println!("{}", bulk::million(&place, plan.million)?);
        if let Some(network) = &network {
            println!("{}", bulk::sync(&place, network, plan.synced)?);
        }
    }
    let _ = std::fs::remove_dir_all(dir);
    Ok(())
}

/// The server of the release profile, built if it is not up to date; or `$TANDEM_BIN`.
fn tandem() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("TANDEM_BIN") {
        return PathBuf::from(path).canonicalize().map_err(|e| format!("TANDEM_BIN: {e}"));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["build", "--release", "--quiet", "-p", "tandem"];
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let built = Command::new(cargo).args(args).current_dir(root).status();
    if !built.is_ok_and(|s| s.success()) {
        return Err("the server could not be built".into());
    }
    // Both programs are in the folder of the release profile.
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let found = own.parent().map(|dir| dir.with_file_name("release").join("tandem"));
    found.filter(|p| p.is_file()).ok_or_else(|| "the built server is not where it should be".into())
}

/// What the numbers were measured on.
fn machine(workers: usize) -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let version = Command::new("kamailio").arg("-v").output().map(|o| o.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version);
    let kamailio = version.lines().next().unwrap_or("no kamailio").trim();
    format!(
        "{model}, {workers} processors, {workers} workers each; {kamailio}; {PHONES} phones on \
         {SOCKETS} sockets; medians.\n"
    )
}
