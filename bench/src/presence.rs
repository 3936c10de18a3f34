//! Presence: one phone publishes, others watch it. Each state is published when all watchers have
//! the one before; and what a subscription takes in memory.

use std::collections::HashSet;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tandem_net::{RecvBatch, UdpOptions, UdpSocket};

use crate::Plan;
use crate::calls::{header, reply};
use crate::clock::now;
use crate::report::{Row, Sample, table};
use crate::server::{Place, Server};

const SOCKETS: usize = 8;
/// SUBSCRIBEs that wait for their answer.
const WINDOW: usize = 32;
/// After this a state that not all watchers have counts as lost for the others.
const LOST: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
const WATCHERS: [usize; 2] = [10, 1000];

/// Measures each server in turn, with few and with many watchers; then its memory.
pub(crate) fn measure(place: &Place, plan: &Plan) -> Result<String, String> {
    let servers = [place.kamailio_presence()?, place.tandem_presence()?];
    let mut all: Vec<Phones> = Vec::new();
    for server in &servers {
        let failed = |e: io::Error| format!("{}: {e}", server.name);
        for watchers in WATCHERS {
            let whom = format!("p{watchers}");
            let mut phones = Phones::new(server, &whom).map_err(failed)?;
            let missing = phones.watch(0..watchers, |_| whom.clone()).map_err(failed)?;
            if missing > 0 {
                return Err(format!("{}: {missing} of {watchers} cannot watch", server.name));
            }
            all.push(phones);
        }
    }
    let mut rows = Vec::new();
    for (n, watchers) in WATCHERS.iter().enumerate() {
        for what in ["PUBLISH", "NOTIFY"] {
            for (at, server) in servers.iter().enumerate() {
                let work = format!("{what}, {watchers} watchers");
                let (server, is_reference) = (server.name.clone(), at == 0);
                rows.push(Row { work, server, is_reference, samples: Vec::new() });
            }
        }
        for round in 1..=plan.rounds {
            for (at, server) in servers.iter().enumerate() {
                let phones = &mut all[at * WATCHERS.len() + n];
                let [publish, notify] = phones.measure(server, *watchers, plan.saturated)?;
                let (us, name) = (notify.cpu_us(), &server.name);
                eprintln!(
                    "round {round}: {watchers} watchers, {name}: {:.1} µs a PUBLISH, {us:.2} µs a \
                     NOTIFY, {} lost",
                    publish.cpu_us(),
                    notify.lost
                );
                rows[4 * n + at].samples.push(publish);
                rows[4 * n + 2 + at].samples.push(notify);
            }
        }
    }
    let mut text = table(&rows);
    text.push_str("\n| subscriptions | server | bytes each |\n|---:|---|---:|\n");
    for server in &servers {
        let bytes = memory(server, plan.watched)?;
        let _ = writeln!(text, "| {} | {} | {bytes:.0} |", plan.watched, server.name);
    }
    Ok(text)
}

/// Bytes of a subscription. As many are made before, so that what transactions and buffers take
/// is there already.
fn memory(server: &Server, count: usize) -> Result<f64, String> {
    let failed = |e: io::Error| format!("{}: {e}", server.name);
    let mut phones = Phones::new(server, "nobody").map_err(failed)?;
    let mut grown = 0;
    for half in 0..2 {
        let before = server.memory_bytes();
        let range = half * count..(half + 1) * count;
        let missing = phones.watch(range, |n| format!("m{n}")).map_err(failed)?;
        if missing > 0 {
            eprintln!("bench: {}: {missing} of {count} cannot watch", server.name);
        }
        grown = server.memory_bytes().saturating_sub(before);
    }
    Ok(grown as f64 / count.max(1) as f64)
}

/// The watchers, and the phone that publishes.
struct Phones {
    server: SocketAddr,
    sockets: Vec<UdpSocket>,
    whom: String,
    etag: String,
    /// States published so far.
    turn: u64,
    outgoing: Vec<(usize, String)>,
    latencies: Vec<u32>,
}

/// What is waited for of a state.
#[derive(Default)]
struct Told {
    is_accepted: bool,
    watchers: HashSet<usize>,
}

impl Phones {
    fn new(server: &Server, whom: &str) -> io::Result<Self> {
        let open = |_| {
            let options = UdpOptions { freebind: false, ..UdpOptions::default() };
            UdpSocket::open(server.from, options)
        };
        Ok(Self {
            server: server.active(),
            sockets: (0..SOCKETS).map(open).collect::<io::Result<_>>()?,
            whom: whom.to_owned(),
            etag: String::new(),
            turn: 0,
            outgoing: Vec::new(),
            latencies: Vec::new(),
        })
    }

    /// Subscribes; how many were not let in.
    fn watch(
        &mut self,
        range: std::ops::Range<usize>,
        whom: impl Fn(usize) -> String,
    ) -> io::Result<usize> {
        let (mut next, mut open, mut batch) = (range.start, HashSet::new(), RecvBatch::new());
        let mut last = now();
        while (next < range.end || !open.is_empty()) && last.elapsed() < LOST {
            while next < range.end && open.len() < WINDOW {
                self.subscribe(next, &whom(next));
                open.insert(next);
                next += 1;
            }
            self.flush();
            self.wait()?;
            self.receive(&mut batch, |text, _| {
                let is_reply = text.starts_with("SIP/2.0 20") && text.contains(" SUBSCRIBE\r\n");
                if let Some(n) = watcher_of(text).filter(|_| is_reply) {
                    open.remove(&n);
                    last = now();
                }
            })?;
        }
        // The first NOTIFYs are answered too.
        let quiet = now();
        while quiet.elapsed() < LOOK * 10 {
            self.flush();
            self.wait()?;
            self.receive(&mut batch, |_, _| {})?;
        }
        Ok(range.end - next + open.len())
    }

    fn subscribe(&mut self, n: usize, whom: &str) {
        let at = n % SOCKETS;
        let (own, host) = (self.sockets[at].local_addr(), self.server.ip());
        let text = format!(
            "SUBSCRIBE sip:{whom}@{host}:5060 SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own};branch=z9hG4bKs{n}-{whom}\r\nMax-Forwards: 70\r\n\
             From: <sip:w{n}@{host}>;tag=f{n}\r\nTo: <sip:{whom}@{host}>\r\n\
             Call-ID: w-{n}-{whom}@{own}\r\nCSeq: 1 SUBSCRIBE\r\nContact: <sip:w{n}@{own}>\r\n\
             Event: presence\r\nAccept: application/pidf+xml\r\nExpires: 3600\r\n\
             Content-Length: 0\r\n\r\n"
        );
        self.outgoing.push((at, text));
    }

    /// Publishes one state after the other: a sample of PUBLISH, and one of NOTIFY.
    fn measure(
        &mut self,
        server: &Server,
        watchers: usize,
        duration: Duration,
    ) -> Result<[Sample; 2], String> {
        let before = server.cpu_ns();
        self.latencies.clear();
        let begun = now();
        let (mut publish, mut notify) = (Sample::default(), Sample::default());
        while begun.elapsed() < duration {
            let told = self.state(watchers).map_err(|e| format!("{}: {e}", server.name))?;
            publish.answered += u64::from(told.is_accepted);
            publish.lost += u64::from(!told.is_accepted);
            notify.answered += told.watchers.len() as u64;
            notify.lost += (watchers - told.watchers.len()) as u64;
        }
        publish.elapsed_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        publish.cpu_ns = [server.cpu_ns()[0].saturating_sub(before[0]), 0];
        publish.latencies(&mut self.latencies);
        (notify.elapsed_ns, notify.cpu_ns) = (publish.elapsed_ns, publish.cpu_ns);
        (notify.p50_us, notify.p99_us) = (publish.p50_us, publish.p99_us);
        Ok([publish, notify])
    }

    /// One state, until all have it.
    fn state(&mut self, watchers: usize) -> io::Result<Told> {
        self.turn += 1;
        let (begun, mut told, mut batch) = (now(), Told::default(), RecvBatch::new());
        let note = format!("state {} of {}<", self.turn, self.whom);
        self.publish();
        let mut etag = None;
        while (!told.is_accepted || told.watchers.len() < watchers) && begun.elapsed() < LOST {
            self.flush();
            self.wait()?;
            self.receive(&mut batch, |text, is_request| {
                if is_request && text.contains(&note) {
                    told.watchers.extend(watcher_of(text));
                } else if text.starts_with("SIP/2.0 200") && text.contains(" PUBLISH\r\n") {
                    told.is_accepted = true;
                    etag = header(text, "SIP-ETag").map(str::to_owned);
                }
            })?;
        }
        self.flush();
        self.etag = etag.unwrap_or_default();
        self.latencies.push(begun.elapsed().as_micros() as u32);
        Ok(told)
    }

    fn publish(&mut self) {
        let (own, host, turn) = (self.sockets[0].local_addr(), self.server.ip(), self.turn);
        let whom = &self.whom;
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
             <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:{whom}@{host}\">\r\n\
             <tuple id=\"t1\">\r\n<status><basic>open</basic></status>\r\n\
             <contact>sip:{whom}@{own}</contact>\r\n<note>state {turn} of {whom}</note>\r\n\
             </tuple>\r\n</presence>\r\n"
        );
        let etag = match self.etag.as_str() {
            "" => String::new(),
            etag => format!("SIP-If-Match: {etag}\r\n"),
        };
        let length = body.len();
        let text = format!(
            "PUBLISH sip:{whom}@{host}:5060 SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own};branch=z9hG4bKp{turn}-{whom}\r\nMax-Forwards: 70\r\n\
             From: <sip:{whom}@{host}>;tag=p\r\nTo: <sip:{whom}@{host}>\r\n\
             Call-ID: p-{whom}-{turn}@{own}\r\nCSeq: 1 PUBLISH\r\nEvent: presence\r\n{etag}\
             Expires: 3600\r\nContent-Type: application/pidf+xml\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.outgoing.push((0, text));
    }

    fn flush(&mut self) {
        self.outgoing.sort_by_key(|(socket, _)| *socket);
        for batch in self.outgoing.chunk_by(|a, b| a.0 == b.0) {
            let Some(udp) = self.sockets.get(batch[0].0) else { continue };
            let to = self.server;
            udp.send_each(batch, |(_, text)| ((to, None), text.as_bytes()), &mut Vec::new());
        }
        self.outgoing.clear();
    }

    fn wait(&self) -> io::Result<()> {
        let limit = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
        let mut fds: Vec<PollFd<'_>> =
            self.sockets.iter().map(|udp| PollFd::new(udp, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Answers every NOTIFY, and shows each message.
    fn receive(
        &mut self,
        batch: &mut RecvBatch,
        mut see: impl FnMut(&str, bool),
    ) -> io::Result<()> {
        for (at, udp) in self.sockets.iter().enumerate() {
            while udp.recv_batch(batch)? > 0 {
                for datagram in batch.drain() {
                    let Ok(text) = std::str::from_utf8(&datagram.payload) else { continue };
                    let is_request = text.starts_with("NOTIFY ");
                    if is_request {
                        self.outgoing.push((at, reply(text, "200 OK", "", "")));
                    }
                    see(text, is_request);
                }
            }
        }
        Ok(())
    }
}

/// The watcher that a message belongs to.
fn watcher_of(text: &str) -> Option<usize> {
    header(text, "Call-ID")?.strip_prefix("w-")?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_of_its_watcher() {
        assert_eq!(watcher_of("NOTIFY x SIP/2.0\r\nCall-ID: w-17-p10@h\r\n\r\n"), Some(17));
        assert_eq!(watcher_of("NOTIFY x SIP/2.0\r\nCall-ID: p-p10-1@h\r\n\r\n"), None);
    }
}
