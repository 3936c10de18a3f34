//! Presence: phones publish, others watch them. Each state is published when all watchers have
//! the one before; and what a subscription takes in memory.

use std::collections::HashSet;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

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
const LOST: Duration = Duration::from_secs(10);
/// A request without its answer is sent again (RFC 3261 timer E).
const AGAIN: Duration = Duration::from_millis(500);
/// After this transactions that have been answered are over (timers K and J), and their memory is
/// free.
const TRANSACTIONS: Duration = Duration::from_secs(36);
const LOOK: Duration = Duration::from_millis(20);
/// Phones that publish at the same time, and the watchers of each.
const WORKS: [(usize, usize); 2] = [(32, 10), (1, 1000)];

/// Measures each server in turn, with few and with many watchers; then its memory.
pub(crate) fn measure(place: &Place, plan: &Plan) -> Result<String, String> {
    let servers = [place.kamailio_presence()?, place.tandem_presence()?];
    let mut all: Vec<Phones> = Vec::new();
    for server in &servers {
        let failed = |e: io::Error| format!("{}: {e}", server.name);
        for (count, watchers) in WORKS {
            let mut phones = Phones::new(server, count, watchers).map_err(failed)?;
            let whom = |n: usize| format!("p{}-{watchers}", n / watchers);
            let missing = phones.watch(0..count * watchers, whom).map_err(failed)?;
            if missing > 0 {
                return Err(format!("{}: {missing} watchers are not let in", server.name));
            }
            all.push(phones);
        }
    }
    let mut rows = Vec::new();
    for (n, (_, watchers)) in WORKS.iter().enumerate() {
        for what in ["PUBLISH", "NOTIFY"] {
            for (at, server) in servers.iter().enumerate() {
                let work = format!("{what}, {watchers} watchers");
                let (server, is_reference) = (server.name.clone(), at == 0);
                rows.push(Row { work, server, is_reference, samples: Vec::new() });
            }
        }
        for round in 1..=plan.rounds {
            for (at, server) in servers.iter().enumerate() {
                let phones = &mut all[at * WORKS.len() + n];
                let [publish, notify] = phones.measure(server, plan.saturated)?;
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

/// Bytes of a subscription. As many are made before, so that buffers are there already; and
/// transactions have ended when memory is looked at.
fn memory(server: &Server, count: usize) -> Result<f64, String> {
    let failed = |e: io::Error| format!("{}: {e}", server.name);
    let mut phones = Phones::new(server, 0, 0).map_err(failed)?;
    let mut grown = 0;
    for half in 0..2 {
        let before = server.memory_bytes();
        let range = half * count..(half + 1) * count;
        let missing = phones.watch(range, |n| format!("m{n}")).map_err(failed)?;
        if missing > 0 {
            eprintln!("bench: {}: {missing} of {count} cannot watch", server.name);
        }
        phones.rest(TRANSACTIONS).map_err(failed)?;
        grown = server.memory_bytes().saturating_sub(before);
    }
    Ok(grown as f64 / count.max(1) as f64)
}

/// A phone that publishes.
#[derive(Default)]
struct Publisher {
    etag: String,
    /// States published so far.
    turn: u64,
    begun: Option<Instant>,
    /// The PUBLISH, and when it left last.
    request: String,
    sent: Option<Instant>,
    is_accepted: bool,
    told: HashSet<usize>,
}

impl Publisher {
    fn repeat(&mut self, at: usize, outgoing: &mut Vec<(usize, String)>) {
        if !self.is_accepted && self.sent.is_some_and(|sent| sent.elapsed() > AGAIN) {
            self.sent = Some(now());
            outgoing.push((at, self.request.clone()));
        }
    }
}

/// The watchers, and the phones that publish.
struct Phones {
    server: SocketAddr,
    sockets: Vec<UdpSocket>,
    publishers: Vec<Publisher>,
    /// Of each of them.
    watchers: usize,
    outgoing: Vec<(usize, String)>,
    latencies: Vec<u32>,
}

impl Phones {
    fn new(server: &Server, publishers: usize, watchers: usize) -> io::Result<Self> {
        let open = |_| {
            let options = UdpOptions { freebind: false, ..UdpOptions::default() };
            UdpSocket::open(server.from, options)
        };
        Ok(Self {
            server: server.active(),
            sockets: (0..SOCKETS).map(open).collect::<io::Result<_>>()?,
            publishers: (0..publishers).map(|_| Publisher::default()).collect(),
            watchers,
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
                if let Some(n) = number_of(text, "w-").filter(|_| is_reply) {
                    open.remove(&n);
                    last = now();
                }
            })?;
        }
        // The first NOTIFYs are answered too.
        self.rest(LOOK * 10)?;
        Ok(range.end - next + open.len())
    }

    /// Only answers.
    fn rest(&mut self, duration: Duration) -> io::Result<()> {
        let (begun, mut batch) = (now(), RecvBatch::new());
        while begun.elapsed() < duration {
            self.flush();
            self.wait()?;
            self.receive(&mut batch, |_, _| {})?;
        }
        Ok(())
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
    fn measure(&mut self, server: &Server, duration: Duration) -> Result<[Sample; 2], String> {
        let before = server.cpu_ns();
        self.latencies.clear();
        let begun = now();
        let mut samples = [Sample::default(); 2];
        self.run(begun, duration, &mut samples).map_err(|e| format!("{}: {e}", server.name))?;
        let elapsed_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let cpu_ns = [server.cpu_ns()[0].saturating_sub(before[0]), 0];
        for sample in &mut samples {
            (sample.elapsed_ns, sample.cpu_ns) = (elapsed_ns, cpu_ns);
            sample.latencies(&mut self.latencies);
        }
        Ok(samples)
    }

    fn run(
        &mut self,
        begun: Instant,
        duration: Duration,
        [publish, notify]: &mut [Sample; 2],
    ) -> io::Result<()> {
        let mut batch = RecvBatch::new();
        loop {
            let is_over = begun.elapsed() >= duration;
            for n in 0..self.publishers.len() {
                let phone = &mut self.publishers[n];
                if let Some(at) = phone.begun {
                    let is_done = phone.is_accepted && phone.told.len() == self.watchers;
                    if !is_done && at.elapsed() < LOST {
                        phone.repeat(n % SOCKETS, &mut self.outgoing);
                        continue;
                    }
                    phone.begun = None;
                    self.latencies.push(at.elapsed().as_micros() as u32);
                    publish.answered += u64::from(phone.is_accepted);
                    publish.lost += u64::from(!phone.is_accepted);
                    notify.answered += phone.told.len() as u64;
                    notify.lost += (self.watchers - phone.told.len()) as u64;
                }
                if !is_over {
                    self.publish(n);
                }
            }
            self.flush();
            if is_over && self.publishers.iter().all(|phone| phone.begun.is_none()) {
                return Ok(());
            }
            self.wait()?;
            let mut seen = Vec::new();
            self.receive(&mut batch, |text, is_request| seen.extend(Seen::of(text, is_request)))?;
            for one in seen {
                self.take(one);
            }
        }
    }

    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Told { publisher, turn, watcher } => {
                let phone = self.publishers.get_mut(publisher).filter(|p| p.turn == turn);
                phone.map(|phone| phone.told.insert(watcher));
            }
            Seen::Accepted { publisher, etag } => {
                let Some(phone) = self.publishers.get_mut(publisher) else { return };
                (phone.is_accepted, phone.etag) = (true, etag);
            }
        }
    }

    fn publish(&mut self, n: usize) {
        let (at, host) = (n % SOCKETS, self.server.ip());
        let (own, whom) = (self.sockets[at].local_addr(), format!("p{n}-{}", self.watchers));
        let phone = &mut self.publishers[n];
        let etag = std::mem::take(&mut phone.etag);
        let turn = phone.turn + 1;
        let begun = Some(now());
        *phone = Publisher { turn, begun, sent: begun, ..Publisher::default() };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
             <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:{whom}@{host}\">\r\n\
             <tuple id=\"t1\">\r\n<status><basic>open</basic></status>\r\n\
             <contact>sip:{whom}@{own}</contact>\r\n<note>state {turn} of {n}</note>\r\n\
             </tuple>\r\n</presence>\r\n"
        );
        let etag = match etag.as_str() {
            "" => String::new(),
            etag => format!("SIP-If-Match: {etag}\r\n"),
        };
        let length = body.len();
        let text = format!(
            "PUBLISH sip:{whom}@{host}:5060 SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own};branch=z9hG4bKp{turn}-{whom}\r\nMax-Forwards: 70\r\n\
             From: <sip:{whom}@{host}>;tag=p\r\nTo: <sip:{whom}@{host}>\r\n\
             Call-ID: p-{n}-{turn}-{whom}@{own}\r\nCSeq: 1 PUBLISH\r\nEvent: presence\r\n{etag}\
             Expires: 3600\r\nContent-Type: application/pidf+xml\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        phone.request.clone_from(&text);
        self.outgoing.push((at, text));
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

/// What a message tells about a state.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Told { publisher: usize, turn: u64, watcher: usize },
    Accepted { publisher: usize, etag: String },
}

impl Seen {
    fn of(text: &str, is_request: bool) -> Option<Self> {
        if is_request {
            let (_, note) = text.split_once("<note>state ")?;
            let (turn, publisher) = note.split_once('<')?.0.split_once(" of ")?;
            let (publisher, turn) = (publisher.parse().ok()?, turn.parse().ok()?);
            return Some(Self::Told { publisher, turn, watcher: number_of(text, "w-")? });
        }
        let publisher = number_of(text, "p-").filter(|_| text.starts_with("SIP/2.0 200"))?;
        Some(Self::Accepted { publisher, etag: header(text, "SIP-ETag")?.to_owned() })
    }
}

/// Whose message it is, by its Call-ID.
fn number_of(text: &str, whose: &str) -> Option<usize> {
    header(text, "Call-ID")?.strip_prefix(whose)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_of_a_state() {
        let notify = "NOTIFY x SIP/2.0\r\nCall-ID: w-17-p3-10@h\r\n\r\n<note>state 5 of 3</note>";
        let told = Seen::Told { publisher: 3, turn: 5, watcher: 17 };
        assert_eq!(Seen::of(notify, true), Some(told));
        let reply = "SIP/2.0 200 OK\r\nCall-ID: p-3-5-p3-10@h\r\nSIP-ETag: e\r\n\r\n";
        let accepted = Seen::Accepted { publisher: 3, etag: "e".into() };
        assert_eq!(Seen::of(reply, false), Some(accepted));
        assert_eq!(Seen::of("SIP/2.0 412 x\r\nCall-ID: p-3-5-p3@h\r\n\r\n", false), None);
    }
}
