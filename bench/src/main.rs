//! Side by side with its peers: processor time per OPTIONS answered and per registration
//! refreshed, for Tandem, a pair of Tandem nodes that replicate, and Kamailio, in the same run.
//!
//! `cargo run --release -p bench` builds the server, starts all of them on addresses of
//! 127.0.3.0/24, and measures them in turn, in several rounds. `--rounds N` and `--quick` make it
//! longer or shorter. The table goes to standard output, as Markdown.

mod clock;
mod cpu;
mod load;
mod message;
mod report;
mod server;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use load::{Load, Pace};
use message::Work;
use report::{Row, Sample, table};
use server::{Place, Server};

/// Phones of a load, and sockets they share.
const PHONES: usize = 4000;
const SOCKETS: usize = 16;
/// Requests that wait for their reply at the same time when a server is saturated.
const WINDOW: usize = 64;
const PER_SECOND: u32 = 1000;
const REFERENCE: &str = "Kamailio";

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: usize,
    saturated: Duration,
    paced: Duration,
}

fn main() -> ExitCode {
    match plan(std::env::args().skip(1)).and_then(measure) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("bench: {text}");
            ExitCode::FAILURE
        }
    }
}

fn plan(mut words: impl Iterator<Item = String>) -> Result<Plan, String> {
    let (saturated, paced) = (Duration::from_secs(3), Duration::from_secs(5));
    let mut plan = Plan { rounds: 5, saturated, paced };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => {
                plan = Plan { rounds: 1, saturated: saturated / 3, paced: paced / 5 };
            }
            "--rounds" => {
                let n = words.next().and_then(|n| n.parse().ok()).filter(|n| (1..=50).contains(n));
                plan.rounds = n.ok_or("--rounds wants a number from 1 to 50")?;
            }
            _ => return Err(format!("unknown word {word}; usage: bench [--quick] [--rounds N]")),
        }
    }
    Ok(plan)
}

fn measure(plan: Plan) -> Result<(), String> {
    let dir = std::env::temp_dir().join(format!("tandem-bench-{}", std::process::id()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let place = Place { dir: dir.clone(), tandem: tandem()?, workers };
    let mut contestants = Vec::new();
    match place.kamailio() {
        Ok(server) => contestants.push(contestant(server)?),
        Err(e) => eprintln!("bench: without Kamailio (.ci/install-packages bench): {e}"),
    }
    contestants.push(contestant(place.tandem()?)?);
    contestants.push(contestant(place.tandem_pair()?)?);
    let mut rows = empty_rows(&contestants);
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        one_round(plan, &mut contestants, &mut rows)?;
    }
    println!("{}", machine(workers));
    println!("{}", table(&rows, REFERENCE));
    drop(contestants);
    let _ = std::fs::remove_dir_all(dir);
    Ok(())
}

/// A server and its phones, which are registered before anything is measured.
fn contestant(server: Server) -> Result<(Server, Load), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", server.name);
    let mut load = Load::new(server.address, SOCKETS, PHONES).map_err(failed)?;
    let first = load.run(Work::Register, Pace::Once { window: WINDOW }).map_err(failed)?;
    let expected = Sample { answered: PHONES as u64, elapsed_ns: first.elapsed_ns, ..first };
    if first != expected || first.lost + first.refused > 0 {
        return Err(format!("{} did not register every phone: {first:?}", server.name));
    }
    Ok((server, load))
}

/// The works of a round in order; each is measured for every server before the next.
fn works(plan: Plan) -> [(&'static str, Work, Pace); 4] {
    let saturated = Pace::Saturated { window: WINDOW, duration: plan.saturated };
    let paced = Pace::Paced { per_second: PER_SECOND, duration: plan.paced };
    [
        ("OPTIONS, saturated", Work::Options, saturated),
        ("OPTIONS, 1000/s", Work::Options, paced),
        ("REGISTER, saturated", Work::Register, saturated),
        ("REGISTER, 1000/s", Work::Register, paced),
    ]
}

fn empty_rows(contestants: &[(Server, Load)]) -> Vec<Row> {
    let plan = Plan { rounds: 0, saturated: Duration::ZERO, paced: Duration::ZERO };
    let row = |work, server: &str| Row { work, server: server.to_owned(), samples: Vec::new() };
    let works = works(plan).map(|(name, ..)| name);
    works.iter().flat_map(|w| contestants.iter().map(|(s, _)| row(*w, &s.name))).collect()
}

fn one_round(
    plan: Plan,
    contestants: &mut [(Server, Load)],
    rows: &mut [Row],
) -> Result<(), String> {
    let works = works(plan);
    let mut rows = rows.iter_mut();
    for (name, work, pace) in works {
        for (server, load) in contestants.iter_mut() {
            let before = server.cpu_ns();
            let mut sample = load.run(work, pace).map_err(|e| format!("{}: {e}", server.name))?;
            sample.cpu_ns = server.cpu_ns().saturating_sub(before);
            eprintln!(
                "  {name}, {}: {:.2} µs, {:.0}/s, {} lost",
                server.name,
                sample.cpu_us(),
                sample.rate(),
                sample.lost
            );
            if let Some(row) = rows.next() {
                row.samples.push(sample);
            }
        }
    }
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
