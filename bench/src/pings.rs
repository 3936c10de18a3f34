//! What it costs to keep phones behind NAT reachable: contacts that were registered once, pinged
//! by each server in its interval, while nothing else happens.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tandem_net::RecvBatch;

use crate::Plan;
use crate::calls::reply;
use crate::clock::now;
use crate::load::{Load, Pace};
use crate::message::Work;
use crate::report::{Row, Sample, table};
use crate::server::{Place, Server};

/// Seconds between two pings of a contact.
pub(crate) const INTERVAL_S: u64 = 10;
/// Requests that wait for their reply while contacts are registered.
const WINDOW: usize = 64;
const SOCKETS: usize = 16;
const LOOK: Duration = Duration::from_millis(2);

/// A server with its phones.
struct Contestant {
    server: Server,
    load: Load,
    pings: u64,
}

/// Measures pings of four bytes and pings by OPTIONS that are answered. Both servers ping at the
/// same time, each its own phones; what each computes is counted for itself.
pub(crate) fn measure(place: &Place, plan: &Plan) -> Result<String, String> {
    let mut rows: Vec<Row> = Vec::new();
    for by_sip in [false, true] {
        let contacts = plan.pinged;
        let what = if by_sip { "OPTIONS, answered" } else { "4 bytes" };
        let work = format!("pings, {what}, {contacts} contacts every {INTERVAL_S} s");
        let mut all = Vec::new();
        for server in [place.kamailio_pings(by_sip)?, place.tandem_pings(by_sip)?] {
            let failed = |e: std::io::Error| format!("{}: {e}", server.name);
            let (from, to) = (server.from, server.active());
            let mut load = Load::new(from, to, SOCKETS, contacts).map_err(failed)?;
            load.run(Work::Register, Pace::Once { window: WINDOW }).map_err(failed)?;
            all.push(Contestant { server, load, pings: 0 });
        }
        let first = rows.len();
        for (n, contestant) in all.iter().enumerate() {
            let (work, server) = (work.clone(), contestant.server.name.clone());
            rows.push(Row { work, server, is_reference: n == 0, samples: Vec::new() });
        }
        // The first interval is not counted: whoever registered late is pinged late.
        for round in 0..=plan.rounds {
            let samples = window(&mut all, by_sip)?;
            for (row, sample) in rows.iter_mut().skip(first).zip(samples) {
                let (us, count) = (sample.cpu_us(), sample.answered);
                eprintln!("  {}, {}: {us:.2} µs, {count} pings", row.work, row.server);
                if round > 0 {
                    row.samples.push(sample);
                }
            }
        }
    }
    Ok(table(&rows))
}

/// One interval.
fn window(all: &mut [Contestant], by_sip: bool) -> Result<Vec<Sample>, String> {
    let before: Vec<u64> = all.iter().map(|c| c.server.cpu_ns()[0]).collect();
    all.iter_mut().for_each(|c| c.pings = 0);
    let begun = now();
    let mut batch = RecvBatch::new();
    while begun.elapsed() < Duration::from_secs(INTERVAL_S) {
        wait(all).map_err(|e| e.to_string())?;
        for contestant in &mut *all {
            contestant.take(&mut batch, by_sip).map_err(|e| e.to_string())?;
        }
    }
    let elapsed_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let sample = |(c, before): (&Contestant, u64)| Sample {
        answered: c.pings,
        elapsed_ns,
        cpu_ns: [c.server.cpu_ns()[0].saturating_sub(before), 0],
        ..Sample::default()
    };
    Ok(all.iter().zip(before).map(sample).collect())
}

fn wait(all: &[Contestant]) -> std::io::Result<()> {
    let limit = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
    let sockets = all.iter().flat_map(|c| c.load.sockets());
    let mut fds: Vec<PollFd<'_>> = sockets.map(|udp| PollFd::new(udp, PollFlags::IN)).collect();
    match poll(&mut fds, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

impl Contestant {
    fn take(&mut self, batch: &mut RecvBatch, by_sip: bool) -> std::io::Result<()> {
        let to = self.server.active();
        for udp in self.load.sockets() {
            while udp.recv_batch(batch)? > 0 {
                let mut replies = Vec::new();
                for datagram in batch.drain() {
                    match std::str::from_utf8(&datagram.payload) {
                        Ok(text) if text.starts_with("OPTIONS ") => {
                            self.pings += 1;
                            replies.push(reply(text, "200 OK", "", ""));
                        }
                        _ if !by_sip => self.pings += 1,
                        _ => {}
                    }
                }
                udp.send_each(&replies, |r| ((to, None), r.as_bytes()), &mut Vec::new());
            }
        }
        Ok(())
    }
}
