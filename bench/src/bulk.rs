//! Many contacts: what each costs to create and to keep, and how long an empty node takes to get
//! them all.

use std::fmt::Write;
use std::time::Duration;

use crate::clock::now;
use crate::load::{Load, Pace};
use crate::message::Work;
use crate::network::Network;
use crate::server::{Place, Server, breathe};

/// Requests that wait for their reply at the same time.
const WINDOW: usize = 64;
/// Phones that are asked for at the other node to see whether it has everybody.
const SAMPLE: usize = 500;
/// A node that takes longer does not end.
const SYNC_MAX: Duration = Duration::from_secs(120);

/// What creating contacts came to.
struct Created {
    name: String,
    cpu_us: f64,
    bytes: f64,
    refused: u64,
    lost: u64,
}

/// Creates so many contacts on a fresh server of each kind.
pub(crate) fn million(place: &Place, contacts: usize) -> Result<String, String> {
    let mut text = format!(
        "| {contacts} contacts | CPU µs each | ratio | bytes each | ratio | refused | lost |\n\
         |---|---:|---:|---:|---:|---:|---:|\n"
    );
    let mut base: Option<Created> = None;
    for start in [Place::kamailio, Place::tandem] {
        let made = create(&start(place)?, contacts)?;
        let against = base.as_ref().unwrap_or(&made);
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.2} | {:.0} | {:.2} | {} | {} |",
            made.name,
            made.cpu_us,
            made.cpu_us / against.cpu_us,
            made.bytes,
            made.bytes / against.bytes,
            made.refused,
            made.lost
        );
        base = base.or(Some(made));
    }
    Ok(text)
}

fn create(server: &Server, contacts: usize) -> Result<Created, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", server.name);
    let mut load = Load::new(server.from, server.active(), 16, contacts).map_err(failed)?;
    let (cpu, memory) = (server.cpu_ns(), server.memory_bytes());
    let sample = load.run(Work::Register, Pace::Once { window: WINDOW }).map_err(failed)?;
    let cpu_ns = server.cpu_ns()[0].saturating_sub(cpu[0]);
    let bytes = server.memory_bytes().saturating_sub(memory);
    Ok(Created {
        name: server.name.clone(),
        cpu_us: cpu_ns as f64 / 1000.0 / contacts as f64,
        bytes: bytes as f64 / contacts as f64,
        refused: sample.refused,
        lost: sample.lost,
    })
}

/// Registers contacts at one node alone, starts the other one empty and waits until it has them,
/// while the first one is asked 1000 times per second.
pub(crate) fn sync(place: &Place, network: &Network, contacts: usize) -> Result<String, String> {
    let mut text = format!(
        "| {contacts} contacts to an empty node | seconds | ratio | answers of the active | lost meanwhile | slowest 1 %, ms |\n\
         |---|---:|---:|---:|---:|---:|\n"
    );
    let mut base = None;
    for tandem in [false, true] {
        let mut server = match tandem {
            true => place.tandem_pair(network)?,
            false => place.kamailio_pair(network)?,
        };
        let failed = |e: std::io::Error| format!("sync: {e}");
        server.end_backup();
        let mut load = Load::new(server.from, server.active(), 16, contacts).map_err(failed)?;
        load.run(Work::Register, Pace::Once { window: WINDOW }).map_err(failed)?;
        let begun = now();
        server.add_backup(match tandem {
            true => place.tandem_node(network, 2)?,
            false => place.kamailio_node(network, 2)?,
        });
        let mut asker = Load::new(server.from, server.active(), 4, 1000).map_err(failed)?;
        let (mut answered, mut lost, mut p99_us) = (0, 0, 0);
        let mut seconds = None;
        while seconds.is_none() && begun.elapsed() < SYNC_MAX {
            let duration = Duration::from_millis(100);
            let pace = Pace::Paced { per_second: 1000, duration };
            let sample = asker.run(Work::Options, pace).map_err(failed)?;
            answered += sample.answered;
            lost += sample.lost;
            p99_us = p99_us.max(sample.p99_us);
            if has_everybody(&server, contacts)? {
                seconds = Some(begun.elapsed().as_secs_f64());
            }
            breathe();
        }
        let against = *base.get_or_insert(seconds.unwrap_or(f64::INFINITY));
        let shown = seconds.map_or("never".into(), |s| format!("{s:.1}"));
        let ratio = seconds.unwrap_or(f64::INFINITY) / against;
        let _ = writeln!(
            text,
            "| {} | {shown} | {ratio:.2} | {answered} | {lost} | {:.1} |",
            server.name,
            f64::from(p99_us) / 1000.0
        );
    }
    Ok(text)
}

/// Whether the other node knows a sample of the phones, spread over all of them.
fn has_everybody(server: &Server, contacts: usize) -> Result<bool, String> {
    let failed = |e: std::io::Error| format!("sync: {e}");
    let Some(backup) = server.backup() else { return Ok(false) };
    let mut asker = Load::new(server.from, backup, 1, contacts).map_err(failed)?;
    let mut of = (0..SAMPLE).map(|n| n * (contacts - 1) / (SAMPLE - 1));
    // One unanswered or unknown phone is enough to go on waiting.
    of.try_fold(true, |_, phone| match asker.fetch_one(phone).map_err(failed)? {
        Some(_) => Ok(true),
        None => Err(String::new()),
    })
    .or_else(|e| if e.is_empty() { Ok(false) } else { Err(e) })
}
