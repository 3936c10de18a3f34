//! Failovers by the hundred: `failover [--long | --only BLOWS] [--store files|shared] [--keep]`.
//!
//! Two machines with keepalived, phones on two further hosts, and calls that are at every step
//! when the machine that serves is dealt a blow. Counted is what the phones saw and what stands in
//! the database. Five blows to each store; `--long` deals 50 to each, amid 5,000 calls.
//! `--only split:30,restart --times N [--amid no-database|full-spools]` deals N of these in turn,
//! each for a second or as long as it says: death, unplugged, restart, killed, split, flap, race,
//! swing, switch. Needs root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tandem_tests::{
    Blow, Deed, ELECTION, PHONES, Phones, Standby, Store, Tally, is_root, now, uptime_ms,
    wait_until,
};

/// What else is wrong while blows fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amid {
    Nothing,
    NoDatabase,
    FullSpools,
}

/// Blows in a row amid something.
struct Round {
    amid: Amid,
    blows: Vec<(Blow, Duration)>,
}

/// What is done to one pair, and the calls that each host of phones places meanwhile.
struct Plan {
    rounds: Vec<Round>,
    calls: u32,
}

/// How long the database is away at least.
const AWAY: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(30);

/// Findings that are printed.
const SHOWN_MAX: usize = 40;

/// Calls a second from each host of phones.
const PER_SECOND: u32 = 5;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|w| w == word);
    let stores: &[Store] = match value_of(&words, "--store") {
        None => &[Store::Files, Store::Shared],
        Some("files") => &[Store::Files],
        Some("shared") => &[Store::Shared],
        Some(name) => {
            eprintln!("failover: --store is `files` or `shared`, not `{name}`");
            return ExitCode::from(2);
        }
    };
    if !is_root() {
        eprintln!("failover: hosts are network namespaces, and making them takes root");
        return ExitCode::FAILURE;
    }
    let plan = match value_of(&words, "--only") {
        None => {
            Plan { rounds: rounds(has("--long")), calls: if has("--long") { 2_500 } else { 250 } }
        }
        Some(blows) => match again_and_again(&words, blows) {
            Ok(plan) => plan,
            Err(why) => {
                eprintln!("failover: {why}");
                return ExitCode::from(2);
            }
        },
    };
    let mut clean = true;
    for store in stores {
        clean &= run(*store, &plan, has("--keep"));
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Deals all blows to one pair, and says whether everything is as it should be.
fn run(store: Store, plan: &Plan, keep: bool) -> bool {
    let Some(mut standby) = Standby::start("failover", store) else { return false };
    eprintln!("{store:?}: the pair serves; its files are in {}", standby.site.dir().display());
    let program = beside("phones");
    let load = [plan.calls, PER_SECOND];
    let phones = PHONES.map(|host| Phones::start(&standby, &program, host, load, None));
    wait_until("the contacts are on both", ELECTION, || {
        standby.machines.iter().all(|m| m.knows("b49") && m.knows("c49"))
    });
    // Calls of every length are up before the first blow.
    wait_until("calls are under way", 2 * ELECTION, || phones[0].placed() >= 100);
    let mut deeds = Vec::new();
    for round in &plan.rounds {
        go(&mut standby, &phones[0], round, &mut deeds);
    }
    phones.iter().for_each(Phones::enough);
    let patience = Duration::from_secs(1_200);
    let records = phones.map(|p| p.outcome(patience)).concat();
    let tally = settle(&standby, &records, &deeds);
    println!(
        "\n## {store:?}: {} failovers, {} calls placed, {} answered, {} billed once\n\n{}",
        deeds.len(),
        tally.placed,
        tally.answered,
        tally.billed,
        tally.table()
    );
    let shown = tally.findings.iter().take(SHOWN_MAX);
    shown.for_each(|finding| println!("WRONG {finding}"));
    tally.unbilled.iter().take(SHOWN_MAX).for_each(|call| println!("SET UP THEN {call}"));
    let left = standby.leftovers();
    left.iter().for_each(|left| println!("LEFT {left}"));
    let clean = tally.is_clean() && left.is_empty();
    if keep || !clean {
        let kept = std::env::temp_dir().join(format!("tandem-failover-{store:?}"));
        keep_files(standby.site.dir(), &kept, &records);
    }
    clean
}

/// One round: something is wrong, blows fall, all is mended.
fn go(standby: &mut Standby, phones: &Phones, round: &Round, deeds: &mut Vec<Deed>) {
    let begun = now();
    match round.amid {
        Amid::Nothing => {}
        Amid::NoDatabase => standby.stop_database(true),
        Amid::FullSpools => standby.fill_spools(true),
    }
    for (blow, lasts) in &round.blows {
        let amid = match round.amid {
            Amid::Nothing => "",
            Amid::NoDatabase => ", no database",
            Amid::FullSpools => ", full spools",
        };
        let of =
            if *blow == Blow::Split { format!(" of {} s", lasts.as_secs()) } else { "".into() };
        let what = format!("{blow:?}{of}{amid}");
        eprintln!("{:>4} {what}", deeds.len() + 1);
        deal(standby, *blow, *lasts, &what, deeds);
        standby.wait_in_step();
        calls_pass(phones);
    }
    match round.amid {
        Amid::Nothing => {}
        Amid::NoDatabase => {
            wait_until("a minute is over", 2 * AWAY, || now() - begun >= AWAY);
            standby.stop_database(false);
        }
        Amid::FullSpools => standby.fill_spools(false),
    }
}

fn deal(standby: &mut Standby, blow: Blow, lasts: Duration, what: &str, deeds: &mut Vec<Deed>) {
    let (begun, from_ms) = (now(), uptime_ms());
    standby.strike(blow);
    let to_ms = uptime_ms();
    deeds.push(Deed { what: what.to_owned(), blow, from_ms, to_ms });
    match blow {
        Blow::Restart | Blow::Killed | Blow::Flap | Blow::Race | Blow::Swing => {}
        Blow::Split if lasts < LONG => {
            wait_until("the split has lasted", 2 * LONG, || now() - begun >= lasts);
        }
        Blow::Split => {
            wait_until("both serve", ELECTION, || {
                standby.machines.iter().all(|m| m.serves(&standby.lan))
            });
            standby.divide_phones();
            wait_until("the split has lasted", 2 * LONG, || now() - begun >= lasts);
        }
        Blow::Death | Blow::Unplugged | Blow::Switch => {
            let other = "the other machine serves";
            wait_until(other, ELECTION, || standby.takes_over());
            wait_until("it has lasted", ELECTION, || now() - begun >= lasts);
        }
    }
    standby.mend(blow);
}

/// Waits until further calls are placed.
fn calls_pass(phones: &Phones) {
    let wanted = phones.placed() + 10;
    wait_until("calls are placed", Duration::from_secs(60), || phones.placed() >= wanted);
}

/// Waits until each call has its row and nothing is left, or gives up.
fn settle(standby: &Standby, records: &[serde_json::Value], deeds: &[Deed]) -> Tally {
    let begun = now();
    loop {
        let tally = Tally::of(records, deeds, &standby.billed(), standby.is_apart());
        let done = tally.is_clean() && standby.leftovers().is_empty();
        if done || now() - begun >= 2 * ELECTION {
            return tally;
        }
        let again = now();
        wait_until("a second is over", ELECTION, || now() - again >= SHORT);
    }
}

/// Which blows fall.
fn rounds(long: bool) -> Vec<Round> {
    use Blow::{Death, Killed, Restart, Split, Unplugged};
    let one = |amid, blow, lasts| Round { amid, blows: vec![(blow, lasts)] };
    let few =
        |amid, blows: &[Blow]| Round { amid, blows: blows.iter().map(|b| (*b, SHORT)).collect() };
    if !long {
        return vec![
            one(Amid::Nothing, Death, SHORT),
            one(Amid::Nothing, Split, SHORT),
            one(Amid::Nothing, Killed, SHORT),
            one(Amid::FullSpools, Unplugged, SHORT),
            one(Amid::NoDatabase, Death, SHORT),
        ];
    }
    let mut rounds = Vec::new();
    for n in 0..6 {
        rounds.extend(
            [Death, Killed, Unplugged, Restart, Split].map(|b| one(Amid::Nothing, b, SHORT)),
        );
        if n % 3 == 0 {
            rounds.push(few(Amid::NoDatabase, &[Death, Killed, Unplugged, Restart]));
            rounds.push(one(Amid::Nothing, Split, LONG));
        } else {
            rounds.push(few(Amid::FullSpools, &[Death, Killed]));
        }
    }
    // Fifty in all: the rest are the commonest.
    let dealt: usize = rounds.iter().map(|r| r.blows.len()).sum();
    rounds.extend((dealt..50).map(|_| one(Amid::Nothing, Death, SHORT)));
    rounds
}

/// The same blows in turn, again and again.
fn again_and_again(words: &[String], blows: &str) -> Result<Plan, String> {
    let blow = |text: &str| {
        let (name, lasts) = text.split_once(':').unwrap_or((text, "1"));
        let known = Blow::ALL.into_iter().find(|b| format!("{b:?}").eq_ignore_ascii_case(name));
        let none = || format!("--only: there is no blow `{name}`; there are {:?}", Blow::ALL);
        let lasts = lasts.parse().ok().filter(|s| (1..=600).contains(s));
        let lasts = lasts.ok_or_else(|| format!("--only: `{text}` lasts from 1 to 600 seconds"))?;
        Ok((known.ok_or_else(none)?, Duration::from_secs(lasts)))
    };
    let blows = blows.split(',').map(blow).collect::<Result<Vec<_>, String>>()?;
    let amid = match value_of(words, "--amid") {
        None => Amid::Nothing,
        Some("no-database") => Amid::NoDatabase,
        Some("full-spools") => Amid::FullSpools,
        Some(name) => return Err(format!("--amid: no-database or full-spools, not `{name}`")),
    };
    let times = value_of(words, "--times").map_or(Some(1), |n| n.parse().ok());
    let times = times.filter(|n| (1..=500).contains(n)).ok_or("--times: a number from 1 to 500")?;
    // The database comes and goes with each round.
    let each = if amid == Amid::NoDatabase { 4 } else { 1 };
    let all: Vec<_> = blows.iter().copied().cycle().take(times).collect();
    let rounds = all.chunks(each).map(|blows| Round { amid, blows: blows.to_vec() }).collect();
    // As many as are placed meanwhile, about.
    let seconds: u64 = all.iter().map(|(_, lasts)| 3 + lasts.as_secs()).sum();
    let calls = u32::try_from(seconds).map_or(100, |n| PER_SECOND * n + 100);
    Ok(Plan { rounds, calls })
}

/// What follows an option.
fn value_of<'a>(words: &'a [String], option: &str) -> Option<&'a str> {
    words.iter().skip_while(|w| *w != option).nth(1).map(String::as_str)
}

/// The program beside this one.
fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let path = own.with_file_name(name);
    assert!(path.is_file(), "{} is missing: cargo build -p tandem-tests", path.display());
    path
}

/// Keeps the logs and what the phones saw.
fn keep_files(from: &Path, to: &Path, records: &[serde_json::Value]) {
    let _ = std::fs::create_dir_all(to);
    let mut lines = BTreeMap::new();
    for record in records {
        lines.insert(record["call"].to_string(), record.to_string());
    }
    let text: Vec<String> = lines.into_values().collect();
    let _ = std::fs::write(to.join("records.json"), text.join("\n"));
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|e| e == "log") {
            let _ = std::fs::copy(entry.path(), to.join(entry.file_name()));
        }
    }
    println!("the logs are in {}", to.display());
}
