//! The simulator on the command line.

use std::ops::Range;
use std::process::ExitCode;

use clap::Parser;
use sim::options::Options;
use sim::report::{run, run_many};
use sim::scenario::Scenario;

/// Runs whole clusters of the production code in a simulated world.
#[derive(Debug, Parser)]
#[command(name = "sim", version)]
struct Args {
    /// Runs one seed and tells what happens. Without --random it is the story of a failover.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Runs many seeds, each with a plan of its own: the first, and the one after the last.
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Option<Range<u64>>,
    /// With --seed: the plan that --seeds draws for this seed.
    #[arg(long)]
    random: bool,
    /// Nodes, 2 or 3.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=3))]
    nodes: u32,
    /// How many of the nodes, the last ones, are stock nodes.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=2))]
    stock: u32,
    /// Workers of each node.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    workers: u8,
    /// Simulated seconds under faults; rest comes on top.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    seconds: u64,
    /// With gateways that come and go, and an operator who switches them.
    #[arg(long)]
    routing: bool,
    /// No faults at all.
    #[arg(long)]
    calm: bool,
    /// Says nothing about single events.
    #[arg(long)]
    quiet: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (a, b) = text.split_once("..").ok_or("expected A..B")?;
    let number = |t: &str| t.trim().parse::<u64>().map_err(|e| format!("`{t}`: {e}"));
    let range = number(a)?..number(b)?;
    if range.is_empty() { Err("no seed is in it".into()) } else { Ok(range) }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.seeds.clone() {
        Some(seeds) => many(&args, seeds),
        None => one(&args, args.seed.unwrap_or(1)),
    }
}

impl Args {
    fn options(&self) -> Options {
        let base = if self.calm { Options::calm() } else { Options::hostile() };
        let base = if self.routing { base.with_routing() } else { base };
        let workers = usize::from(self.workers);
        let (nodes, stock) = (self.nodes, self.stock);
        Options { nodes, stock, workers, seconds: self.seconds, ..base }
    }

    /// The command that repeats one run with its lines.
    fn replay(&self, seed: u64) -> String {
        let calm = if self.calm { " --calm" } else { "" };
        let routing = if self.routing { " --routing" } else { "" };
        let (nodes, stock) = (self.nodes, self.stock);
        let (workers, seconds) = (self.workers, self.seconds);
        format!(
            "cargo run -p sim -- --seed {seed} --random --nodes {nodes} --stock {stock} \
             --workers {workers} \
             --seconds {seconds}{calm}{routing}"
        )
    }
}

fn one(args: &Args, seed: u64) -> ExitCode {
    let scenario = if args.random {
        Scenario::new(seed, args.options())
    } else {
        let story = Scenario::story(seed);
        let workers = usize::from(args.workers);
        let options =
            Options { nodes: args.nodes, stock: args.stock, workers, ..story.options.clone() };
        Scenario { options, ..story }
    };
    let outcome = run(&scenario, !args.quiet);
    for line in &outcome.lines {
        println!("{line}");
    }
    println!("\n{}", outcome.counts.table());
    println!("{} events, trace {:016x}", outcome.events, outcome.hash);
    for violation in &outcome.violations {
        println!("VIOLATION {violation}");
    }
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(args: &Args, seeds: Range<u64>) -> ExitCode {
    let summary = run_many(seeds, &args.options(), |seed, violations| {
        if !args.quiet {
            println!("seed {seed}:");
            violations.iter().for_each(|v| println!("  {v}"));
        }
    });
    println!("{} runs, {} events\n\n{}", summary.runs, summary.events, summary.counts.table());
    let Some((seed, violations)) = summary.failures.first() else {
        println!("no violation");
        return ExitCode::SUCCESS;
    };
    println!("{} of {} seeds failed; the first is {seed}:", summary.failures.len(), summary.runs);
    violations.iter().for_each(|v| println!("  {v}"));
    println!("replay it with: {}", args.replay(*seed));
    ExitCode::FAILURE
}
