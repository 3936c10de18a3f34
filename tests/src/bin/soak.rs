//! A soak: `soak [--transactions N] [--per-second N] [--keep]`.
//!
//! Phones do everything phones do, a million transactions by default, with one node. A fifth of
//! them comes first and runs out; then half of the rest, and the other half. At the end every
//! table has to be empty, and the process as large as it was after the first fifth.

use std::process::ExitCode;

use tandem_tests::{Reading, Soak};

/// How often the memory is shown on the way.
const PARTS: u64 = 20;
/// What the process may have grown by, at most, beside [`BYTES_MAX`].
const NOISE_KB: u64 = 16 << 10;
/// A transaction may leave this many bytes, on the average: the allocator's own disorder.
const BYTES_MAX: u64 = 8;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let value = words.iter().skip_while(|w| *w != name).nth(1);
        value.map_or(Some(default), |text| text.parse().ok().filter(|n| *n >= 1))
    };
    let (Some(all), Some(pace)) =
        (number("--transactions", 1_000_000), number("--per-second", 1_500))
    else {
        eprintln!("soak: --transactions and --per-second want a number above 0");
        return ExitCode::from(2);
    };
    let pace = u32::try_from(pace).unwrap_or(u32::MAX);
    let mut soak = Soak::start("soak");
    println!("the files of the node are in {}", soak.dir().display());
    show("at the start", &soak.reading());
    soak.run(all / 5, pace);
    let before = soak.run_out();
    show("a fifth, run out", &before);
    println!();
    for part in 1..=PARTS {
        soak.run(all * 4 / 5 / PARTS, pace);
        let reading = soak.reading();
        println!("{} s: {} transactions, {} kB", reading.at_s, reading.begun, reading.rss_kb);
        if part == PARTS / 2 {
            show("half-way", &reading);
            println!();
        }
    }
    show("the last request is sent", &soak.reading());
    let after = soak.run_out();
    show("all, run out", &after);
    let counts = soak.counts();
    println!("\n{} transactions, {} not answered; answers:", counts.begun, counts.lost);
    for ((method, code), n) in &counts.answers {
        println!("    {method:10} {code} {n}");
    }
    let mut wrong = [before.left(), after.left()].concat();
    let allowed = NOISE_KB + (after.begun - before.begun) * BYTES_MAX / 1024;
    if after.rss_kb > before.rss_kb + allowed {
        let grown = after.rss_kb - before.rss_kb;
        wrong.push(format!("the process has grown by {grown} kB, {allowed} kB allowed"));
    }
    if (after.threads, after.files) != (before.threads, before.files) {
        wrong.push("the process has other threads or files than before".into());
    }
    if counts.lost > 0 {
        wrong.push("not all was answered: the machine is too slow for so many a second".into());
    }
    if soak.log().contains("panicked") {
        wrong.push("the node panicked".into());
    }
    wrong.iter().for_each(|wrong| println!("WRONG {wrong}"));
    if words.iter().any(|w| w == "--keep") {
        let kept = std::env::temp_dir().join("tandem-soak.log");
        let _ = std::fs::write(&kept, soak.log());
        println!("the log is in {}", kept.display());
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(when: &str, reading: &Reading) {
    println!("\n## {when}: {reading}");
}
