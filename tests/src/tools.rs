//! The phones of others: sipp and sipsak.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use crate::ctl::run;
use crate::{Answer, Process, Site, repository};

/// Seconds after which a sipp run that has not finished counts as failed.
const SIPP_S: &str = "30";

/// Runs a scenario of `tests/sipp` to its end, from address `from`, against `node`.
#[must_use]
pub fn sipp(
    site: &Site,
    scenario: &str,
    from: impl Into<IpAddr>,
    node: SocketAddr,
    more: &[&str],
) -> Answer {
    let args = arguments(site, scenario, from.into(), more);
    let mut command = Command::new("sipp");
    run(command.arg(node.to_string()).args(args).current_dir(site.dir()))
}

/// Starts a scenario that waits for calls.
#[must_use]
pub fn start_sipp(site: &Site, scenario: &str, at: impl Into<IpAddr>, more: &[&str]) -> Process {
    let args = arguments(site, scenario, at.into(), more);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let log = site.dir().join(format!("{scenario}.log"));
    Process::start(scenario, Path::new("/usr/bin/sipp"), &args, site.dir(), &log)
}

fn arguments(site: &Site, scenario: &str, at: IpAddr, more: &[&str]) -> Vec<String> {
    // A scenario of the test itself is a file of its site.
    let file = match scenario.ends_with(".xml") {
        true => site.dir().join(scenario),
        false => repository().join(format!("tests/sipp/{scenario}.xml")),
    };
    let file = file.display().to_string();
    let errors = site.dir().join(format!("{scenario}.errors")).display().to_string();
    let at = at.to_string();
    let fixed = ["-sf", &file, "-i", &at, "-p", "5060", "-nostdin"];
    let bounds = ["-timeout", SIPP_S, "-timeout_error", "-trace_err", "-error_file", &errors];
    fixed.iter().chain(&bounds).chain(more).map(|s| (*s).to_owned()).collect()
}

/// Runs sipsak with these words.
#[must_use]
pub fn sipsak(words: &[&str]) -> Answer {
    run(Command::new("sipsak").args(words))
}
