//! Phones for a host of its own:
//! `phones AT SERVICE CALLS PER_SECOND HOLD_MS RECORDS [NAME UNTIL]`.
//!
//! Registers its callees, says `registered`, places the calls, and writes what became of each
//! to the file RECORDS. HOLD_MS is `mixed` for calls that differ. With NAME (begins the names of
//! the callees) and UNTIL it places further calls until the file UNTIL is there.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use tandem_tests::{Exchange, Plan};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((plan, records)) = plan(&words) else {
        eprintln!("phones AT SERVICE CALLS PER_SECOND HOLD_MS RECORDS [NAME UNTIL]");
        return ExitCode::from(2);
    };
    let mut exchange = Exchange::new(plan);
    exchange.register();
    println!("registered");
    exchange.run();
    match std::fs::write(&records, exchange.records()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{records}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan(words: &[String]) -> Option<(Plan, String)> {
    let [at, service, calls, per_second, hold_ms, records, more @ ..] = words else { return None };
    let (name, until) = match more {
        [] => ("b", None),
        [name, until] => (name.as_str(), Some(until.into())),
        _ => return None,
    };
    let hold = match hold_ms.as_str() {
        "mixed" => None,
        ms => Some(Duration::from_millis(number(ms)?)),
    };
    let plan = Plan {
        name: name.to_owned(),
        at: number(at)?,
        service: number(service)?,
        calls: number(calls)?,
        per_second: number(per_second)?,
        hold,
        until,
    };
    Some((plan, records.clone()))
}

fn number<T: FromStr>(word: &str) -> Option<T> {
    word.parse().ok()
}
