//! Calls by number: what a routed INVITE costs with few and with many rules, what a rule takes in
//! memory, and how long many rules take to be read again while calls go on.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Plan;
use crate::calls::Load;
use crate::clock::now;
use crate::report::{Row, Sample, table};
use crate::server::{Place, Server};

/// Numbers of digits behind `49` that rules have.
const DIGITS: usize = 7;
/// Calls a second while rules are read again.
const PER_SECOND: u32 = 500;
/// How long the tables may take at the start.
const LOADED: Duration = Duration::from_secs(120);
pub(crate) const KAMAILIO_TABLES: &str = "/usr/share/kamailio/db_sqlite";

/// A server with rules, and its phones.
struct Contestant {
    server: Server,
    load: Load,
    /// Reads the tables again.
    reload: Command,
    bytes: u64,
}

/// The prefix of a rule: spread over all numbers of seven digits.
pub(crate) fn prefix(rule: usize, rules: usize) -> String {
    let step = 10usize.pow(DIGITS as u32) / rules.max(1);
    format!("49{:0width$}", rule * step, width = DIGITS)
}

/// Measures both servers with so many rules.
pub(crate) fn measure(place: &Place, plan: &Plan) -> Result<String, String> {
    let (mut rows, mut reloads) = (Vec::new(), Vec::new());
    let mut few: Option<[u64; 2]> = None;
    for rules in [100, plan.rules / 10, plan.rules] {
        let mut all = [kamailio(place, rules)?, tandem(place, rules)?];
        let work = format!("a call by number, {rules} rules");
        let first = rows.len();
        for (n, one) in all.iter().enumerate() {
            let (work, server) = (work.clone(), one.server.name.clone());
            rows.push(Row { work, server, is_reference: n == 0, samples: Vec::new() });
        }
        for round in 1..=plan.rounds {
            for (one, row) in all.iter_mut().zip(&mut rows[first..]) {
                let sample = one.load.measure(&one.server, None, plan.saturated)?;
                let (us, rate) = (sample.cpu_us(), sample.rate());
                eprintln!("  {work}, {}, round {round}: {us:.2} µs, {rate:.0}/s", row.server);
                row.samples.push(sample);
            }
        }
        let base = *few.get_or_insert(all.each_ref().map(|one| one.bytes));
        let mut against = None;
        for (one, base) in all.iter_mut().zip(base) {
            let bytes = one.bytes.saturating_sub(base) as f64 / rules as f64;
            let (seconds, sample) = reload(one)?;
            let against = *against.get_or_insert(seconds);
            reloads.push(Reloaded {
                rules,
                name: one.server.name.clone(),
                seconds,
                ratio: seconds / against,
                bytes,
                sample,
            });
        }
    }
    Ok(format!("{}\n{}", table(&rows), reload_table(&reloads)))
}

/// How the rules were read again.
struct Reloaded {
    rules: usize,
    name: String,
    seconds: f64,
    ratio: f64,
    bytes: f64,
    sample: Sample,
}

fn reload_table(all: &[Reloaded]) -> String {
    let mut text = String::from(
        "| rules | server | bytes a rule | read again, s | ratio | calls meanwhile | lost | reply ms p50/p99 |\n\
         |---:|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for Reloaded { rules, name, seconds, ratio, bytes, sample } in all {
        let ms = |us: u32| f64::from(us) / 1000.0;
        let (p50, p99) = (ms(sample.p50_us), ms(sample.p99_us));
        let _ = writeln!(
            text,
            "| {rules} | {name} | {bytes:.0} | {seconds:.2} | {ratio:.2} | {} | {} | {p50:.2} / {p99:.2} |",
            sample.answered,
            sample.lost + sample.refused
        );
    }
    text
}

/// Reads the rules again while calls go on.
fn reload(one: &mut Contestant) -> Result<(f64, Sample), String> {
    let begun = now();
    let child = one.reload.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| format!("{:?}: {e}", one.reload))?;
    let mut all = Sample::default();
    let mut ended = None;
    while ended.is_none() {
        let part = Duration::from_millis(100);
        let sample = one.load.measure(&one.server, Some(PER_SECOND), part)?;
        all.answered += sample.answered;
        all.refused += sample.refused;
        all.lost += sample.lost;
        all.p50_us = all.p50_us.max(sample.p50_us);
        all.p99_us = all.p99_us.max(sample.p99_us);
        ended = child.try_wait().map_err(|e| e.to_string())?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    match ended {
        Some(status) if status.success() => Ok((seconds, all)),
        other => Err(format!("{}: reading again: {other:?}", one.server.name)),
    }
}

fn kamailio(place: &Place, rules: usize) -> Result<Contestant, String> {
    let (name, address) = ("kamailio-routes", "127.0.3.7");
    let load = load(place, address, rules)?;
    let dir = place.folder(name)?;
    let file = dir.join("routes.sqlite");
    let gateways = rows_of_gateways(&load, |n, at| format!("({n}, 1, '{at}', 0, '', '', '')"));
    let made = sql(
        &file,
        &format!(
            ".read {KAMAILIO_TABLES}/standard-create.sql\n\
             .read {KAMAILIO_TABLES}/drouting-create.sql\n\
             BEGIN;\nINSERT INTO dr_gateways VALUES {gateways};\n{}COMMIT;\n",
            rules_sql(rules, "0")
        ),
    );
    made?;
    let server = place.kamailio_routes(&dir, address)?;
    let mut reload = Command::new("kamcmd");
    reload.args(["-s", &format!("unix:{}/ctl", dir.display()), "drouting.reload"]);
    contestant(server, load, reload)
}

fn tandem(place: &Place, rules: usize) -> Result<Contestant, String> {
    let (name, address) = ("tandem-routes", "127.0.3.8");
    let load = load(place, address, rules)?;
    let dir = place.folder(name)?;
    let file = dir.join("routes.sqlite");
    let _ = std::fs::remove_file(&file);
    let url = format!("sqlite://{}", file.display());
    let mut create = Command::new(&place.tandem);
    create.args(["ctl", "--db", &url, "db", "create", "drouting"]).stdout(Stdio::null());
    if !create.status().is_ok_and(|status| status.success()) {
        return Err("the tables of drouting could not be made".into());
    }
    let gateways = rows_of_gateways(&load, |n, at| format!("('{n}', 1, '{at}')"));
    let made = sql(
        &file,
        &format!(
            "BEGIN;\nINSERT INTO dr_gateways (gwid, type, address) VALUES {gateways};\n{}COMMIT;\n",
            rules_sql(rules, "")
        ),
    );
    made?;
    let server = place.tandem_routes(&dir, address)?;
    let mut reload = Command::new(&place.tandem);
    let url = format!("unix:{}/mi", dir.display());
    reload.args(["ctl", "--timeout", "120", "--url", &url, "drouting:reload"]);
    contestant(server, load, reload)
}

/// Waits until calls find their rule: a server may answer before its tables are there.
fn contestant(server: Server, mut load: Load, reload: Command) -> Result<Contestant, String> {
    let begun = now();
    while begun.elapsed() < LOADED {
        let sample = load.measure(&server, Some(PER_SECOND / 10), Duration::from_millis(200))?;
        if sample.answered > 0 && sample.refused == 0 {
            let bytes = server.memory_bytes();
            return Ok(Contestant { server, load, reload, bytes });
        }
    }
    Err(format!("{} has no rules after {LOADED:?}", server.name))
}

fn load(place: &Place, address: &str, rules: usize) -> Result<Load, String> {
    let from = place.load_from();
    let server: SocketAddr = format!("{address}:5060").parse().map_err(|e| format!("{e}"))?;
    Load::of_numbers(from, server, rules).map_err(|e| e.to_string())
}

fn rows_of_gateways(load: &Load, row: impl Fn(usize, SocketAddr) -> String) -> String {
    let rows = load.callees().into_iter().enumerate().map(|(n, at)| row(n + 1, at));
    rows.collect::<Vec<_>>().join(", ")
}

/// The statement that makes the rules; see [`prefix`]. `route` is the column `routeid`.
fn rules_sql(rules: usize, route: &str) -> String {
    let step = 10usize.pow(DIGITS as u32) / rules.max(1);
    let prefix = format!("'49' || substr('0000000' || (i * {step}), -{DIGITS})");
    format!(
        "INSERT INTO dr_rules (groupid, prefix, timerec, priority, routeid, gwlist)\n\
         WITH RECURSIVE n(i) AS\n\
         (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {rules})\n\
         SELECT '0', {prefix}, '', 0, '{route}', CAST(1 + i % 8 AS TEXT) FROM n;\n"
    )
}

/// Has `sqlite3` carry statements out.
pub(crate) fn sql(file: &Path, text: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("sqlite3: {e}");
    if text.starts_with(".read") {
        let _ = std::fs::remove_file(file);
    }
    let mut command = Command::new("sqlite3");
    let mut child = command.arg(file).stdin(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text.as_bytes()).map_err(failed)?;
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("sqlite3: {}: {other:?}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_spread() {
        assert_eq!(prefix(1, 100), "490100000");
        assert_eq!(prefix(999_999, 1_000_000), "499999990");
    }
}
