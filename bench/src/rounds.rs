//! The rounds: every work for every contestant in turn, so that the moods of the machine fall on
//! all alike.

use std::time::Duration;

use crate::Plan;
use crate::load::{Load, Pace};
use crate::message::Work;
use crate::network::Network;
use crate::probe::Probe;
use crate::report::{Row, Sample, table};
use crate::server::{FLOOR, Place, Server};

/// Phones of a load, and sockets they share.
pub(crate) const PHONES: usize = 4000;
pub(crate) const SOCKETS: usize = 16;
/// Requests that wait for their reply at the same time when a server is saturated.
const WINDOW: usize = 64;
/// Phones of the probe have higher numbers than those of the load.
const PROBES_FROM: usize = 1_000_000;

/// A server, and its phones, which are registered before anything is measured.
#[derive(Debug)]
struct Contestant {
    server: Server,
    load: Load,
    /// The same phones behind a single address and port.
    one_flow: Load,
    probes: usize,
}

/// Contestants that do the same works; the first one is the reference.
#[derive(Debug)]
pub(crate) struct Contest {
    contestants: Vec<Contestant>,
    works: Vec<(String, Work, Rate, Flows)>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
enum Rate {
    Saturated,
    PerSecond(u32),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Flows {
    Many,
    One,
    /// Many, with a look at how long changes take to the other node.
    Probed,
}

impl Contest {
    /// One node of each.
    pub(crate) fn single(place: &Place) -> Result<Self, String> {
        let mut contestants = Vec::new();
        for start in [Place::kamailio, Place::tandem, Place::floor] {
            contestants.push(contestant(start(place)?)?);
        }
        let work = |name: &str, work, rate, flows| (name.to_owned(), work, rate, flows);
        let works = vec![
            work("OPTIONS, saturated", Work::Options, Rate::Saturated, Flows::Many),
            work("OPTIONS, 8000/s", Work::Options, Rate::PerSecond(8000), Flows::Many),
            work("OPTIONS, 1000/s", Work::Options, Rate::PerSecond(1000), Flows::Many),
            work("OPTIONS, one flow", Work::Options, Rate::Saturated, Flows::One),
            work("REGISTER, saturated", Work::Register, Rate::Saturated, Flows::Many),
            work("REGISTER, 8000/s", Work::Register, Rate::PerSecond(8000), Flows::Many),
            work("REGISTER with digest, saturated", Work::Digest, Rate::Saturated, Flows::Many),
            work("REGISTER with digest, 4000/s", Work::Digest, Rate::PerSecond(4000), Flows::Many),
        ];
        Ok(Self { contestants, works, rows: Vec::new() })
    }

    /// Two nodes of each that replicate.
    pub(crate) fn pairs(place: &Place, network: &Network) -> Result<Self, String> {
        let mut contestants = Vec::new();
        for start in [Place::kamailio_pair, Place::tandem_pair] {
            contestants.push(contestant(start(place, network)?)?);
        }
        let work = |name: &str, rate, flows| (name.to_owned(), Work::Register, rate, flows);
        let works = vec![
            work("REGISTER, replicated, saturated", Rate::Saturated, Flows::Many),
            work("REGISTER, replicated, 4000/s", Rate::PerSecond(4000), Flows::Many),
            work("REGISTER, replicated, 4000/s, lag", Rate::PerSecond(4000), Flows::Probed),
        ];
        Ok(Self { contestants, works, rows: Vec::new() })
    }

    pub(crate) fn rounds(&mut self, plan: &Plan) -> Result<(), String> {
        let names = self.contestants.iter().map(|c| c.server.name.clone()).enumerate();
        let names: Vec<(usize, String)> = names.collect();
        let taking_part = |work| names.iter().filter(move |(_, name)| takes_part(name, work));
        let rows = self.works.iter().flat_map(|w| taking_part(w.1).map(|n| row(&w.0, n)));
        self.rows = rows.collect();
        for round in 1..=plan.rounds {
            eprintln!("round {round} of {}", plan.rounds);
            let mut rows = self.rows.iter_mut();
            for (name, work, rate, flows) in &self.works {
                let all = self.contestants.iter_mut();
                for contestant in all.filter(|c| takes_part(&c.server.name, *work)) {
                    let sample = contestant.measure(plan, *work, *rate, *flows)?;
                    let (who, us) = (&contestant.server.name, sample.cpu_us());
                    let (rate, lost) = (sample.rate(), sample.lost);
                    eprintln!("  {name}, {who}: {us:.2} µs, {rate:.0}/s, {lost} lost");
                    if let Some(row) = rows.next() {
                        row.samples.push(sample);
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn table(&self) -> String {
        table(&self.rows)
    }

    /// Phones that the two nodes of each contestant answer differently for.
    pub(crate) fn unequal(&mut self) -> Result<String, String> {
        let mut text = String::new();
        for Contestant { server, load, .. } in &mut self.contestants {
            let failed = |e: std::io::Error| format!("{}: {e}", server.name);
            let Some(backup) = server.backup() else { continue };
            let ask = Pace::Once { window: WINDOW };
            load.run(Work::Fetch, ask).map_err(failed)?;
            let ours = load.found.clone();
            load.turn_to(backup);
            load.run(Work::Fetch, ask).map_err(failed)?;
            let theirs = &load.found;
            let same = |a: &Option<u32>, b: &Option<u32>| match (a, b) {
                // Every refresh asked for another time, 6 s apart or more.
                (Some(a), Some(b)) => a.abs_diff(*b) <= 3,
                _ => false,
            };
            let unequal = ours.iter().zip(theirs).filter(|(a, b)| !same(a, b)).count();
            text += &format!("{}: {unequal} of {PHONES} phones unequal\n", server.name);
        }
        Ok(text)
    }
}

/// The floor challenges nobody: it would answer one request where others answer two.
fn takes_part(name: &str, work: Work) -> bool {
    name != FLOOR || work != Work::Digest
}

fn row(work: &str, (n, server): &(usize, String)) -> Row {
    let (work, server) = (work.to_owned(), server.clone());
    Row { work, server, is_reference: *n == 0, samples: Vec::new() }
}

fn contestant(server: Server) -> Result<Contestant, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", server.name);
    let load = |sockets| Load::new(server.from, server.active(), sockets, PHONES).map_err(failed);
    let (mut load, one_flow) = (load(SOCKETS)?, load(1)?);
    let first = load.run(Work::Register, Pace::Once { window: WINDOW }).map_err(failed)?;
    if first.answered != PHONES as u64 || first.lost + first.refused > 0 {
        return Err(format!("{} did not register every phone: {first:?}", server.name));
    }
    Ok(Contestant { server, load, one_flow, probes: PROBES_FROM })
}

impl Contestant {
    fn measure(
        &mut self,
        plan: &Plan,
        work: Work,
        rate: Rate,
        flows: Flows,
    ) -> Result<Sample, String> {
        let pace = match rate {
            Rate::Saturated => Pace::Saturated { window: WINDOW, duration: plan.saturated },
            Rate::PerSecond(per_second) => Pace::Paced { per_second, duration: plan.paced },
        };
        let failed = |e: std::io::Error| format!("{}: {e}", self.server.name);
        let probe = match self.server.backup().filter(|_| flows == Flows::Probed) {
            Some(backup) => {
                let (from, active) = (self.server.from, self.server.active());
                let first = self.probes;
                self.probes += 100_000;
                Some(Probe::start(from, active, backup, first).map_err(failed)?)
            }
            None => None,
        };
        let load = if flows == Flows::One { &mut self.one_flow } else { &mut self.load };
        let before = self.server.cpu_ns();
        let mut sample = load.run(work, pace).map_err(failed)?;
        let after = self.server.cpu_ns();
        sample.cpu_ns = [0, 1].map(|n| after[n].saturating_sub(before[n]));
        if let Some(probe) = probe {
            sample.lags(&mut probe.end());
        }
        // What is still on its way belongs to this measurement, not to the next.
        load.run(Work::Options, Pace::Paced { per_second: 10, duration: SETTLE })
            .map_err(failed)?;
        Ok(sample)
    }
}

const SETTLE: Duration = Duration::from_millis(200);
