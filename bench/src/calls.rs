//! Calls: INVITE, 180, 200, ACK, BYE, 200 through a proxy, with both phones played here.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tandem_net::{RecvBatch, UdpOptions, UdpSocket};

use crate::Plan;
use crate::clock::now;
use crate::network::Network;
use crate::report::{Row, Sample, table};
use crate::server::{Place, Server};

/// Sockets of the callers, and as many of the callees.
const SOCKETS: usize = 8;
/// Calls that are being set up or ended at the same time when a server is saturated.
const WINDOW: usize = 32;
/// Calls that may be unfinished, per load.
const SLOTS: usize = 4096;
/// After this an unfinished call counts as lost.
const LOST: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
const PER_SECOND: u32 = 1000;
/// How long calls are ended before those that ring are counted, and how long these may take.
const FIRST: Duration = Duration::from_millis(200);
const RINGING_MAX: Duration = Duration::from_secs(60);

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                   m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n\
                   a=sendrecv\r\n";

/// How a contestant comes to be.
type Start = fn(&Place) -> Result<Server, String>;

/// Measures calls for each contestant in turn.
pub(crate) fn measure(place: &Place, plan: &Plan, what: &str) -> Result<String, String> {
    let starts: &[Start] = match what {
        "calls" => &[Place::kamailio_calls, Place::tandem_calls, Place::floor],
        "calls to four" => &[Place::kamailio_forking, Place::tandem_forking],
        _ => &[Place::kamailio_dialogs, Place::tandem_dialogs],
    };
    contest(starts.iter().map(|start| start(place)), plan, what)
}

/// Measures calls on pairs, whose nodes keep the same dialogs.
pub(crate) fn replicated(place: &Place, network: &Network, plan: &Plan) -> Result<String, String> {
    let pairs = [place.kamailio_dialog_pair(network), place.tandem_dialog_pair(network)];
    contest(pairs, plan, "calls with dialog and CDR, replicated")
}

/// Measures what a call that rings takes in memory: its transaction, all included.
pub(crate) fn ringing(place: &Place, calls: usize) -> Result<String, String> {
    let mut text = format!(
        "| {calls} calls that ring | bytes each | ratio | of them the request | above it | lost |\n\
         |---|---:|---:|---:|---:|---:|\n"
    );
    let mut base = None;
    for start in [Place::kamailio_calls, Place::tandem_calls] {
        let server = start(place)?;
        let failed = |e: io::Error| format!("{}: {e}", server.name);
        let mut load = Load::new(server.from, server.active()).map_err(failed)?;
        // What the first ones cost is not theirs.
        load.run(None, FIRST).map_err(failed)?;
        load.rings = Some(calls);
        let memory = server.memory_bytes();
        let sample = load.run(None, RINGING_MAX).map_err(failed)?;
        let each = server.memory_bytes().saturating_sub(memory) as f64 / calls as f64;
        let request = load.request_bytes;
        let _ = writeln!(
            text,
            "| {} | {each:.0} | {:.2} | {request} | {:.0} | {} |",
            server.name,
            each / *base.get_or_insert(each),
            each - request as f64,
            sample.lost
        );
    }
    Ok(text)
}

fn contest(
    servers: impl IntoIterator<Item = Result<Server, String>>,
    plan: &Plan,
    what: &str,
) -> Result<String, String> {
    let mut contestants = Vec::new();
    for server in servers {
        let server = server?;
        let load = Load::new(server.from, server.active()).map_err(|e| e.to_string())?;
        contestants.push((server, load));
    }
    let saturated = (format!("{what}, saturated"), None, plan.saturated);
    let paced = (format!("{what}, {PER_SECOND}/s"), Some(PER_SECOND), plan.paced);
    let works = [saturated, paced];
    let mut rows: Vec<Row> = Vec::new();
    for (work, ..) in &works {
        for (n, (server, _)) in contestants.iter().enumerate() {
            let (work, server) = (work.clone(), server.name.clone());
            rows.push(Row { work, server, is_reference: n == 0, samples: Vec::new() });
        }
    }
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        let mut rows = rows.iter_mut();
        for (name, per_second, duration) in &works {
            for (server, load) in &mut contestants {
                let sample = load.measure(server, *per_second, *duration)?;
                let (us, rate, lost) = (sample.cpu_us(), sample.rate(), sample.lost);
                eprintln!("  {name}, {}: {us:.2} µs, {rate:.0}/s, {lost} lost", server.name);
                if let Some(row) = rows.next() {
                    row.samples.push(sample);
                }
            }
        }
    }
    Ok(table(&rows))
}

#[derive(Debug)]
pub(crate) struct Load {
    server: SocketAddr,
    callers: Vec<UdpSocket>,
    callees: Vec<UdpSocket>,
    /// Calls go to numbers that this many rules are for, not to the callees themselves.
    rules: Option<usize>,
    /// So many more calls are begun, and nobody answers.
    rings: Option<usize>,
    /// Of the last INVITE.
    request_bytes: usize,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// What leaves with the next flush: from which socket, callers first.
    outgoing: Vec<(usize, String)>,
    latencies: Vec<u32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    turn: u64,
    begun: Option<Instant>,
    /// The 200 to INVITE has been acknowledged.
    answered: bool,
}

impl Load {
    /// Calls to numbers: so many rules lead to the callees.
    pub(crate) fn of_numbers(
        from: SocketAddr,
        server: SocketAddr,
        rules: usize,
    ) -> io::Result<Self> {
        Ok(Self { rules: Some(rules), ..Self::new(from, server)? })
    }

    /// Where the callees are.
    pub(crate) fn callees(&self) -> Vec<SocketAddr> {
        self.callees.iter().map(UdpSocket::local_addr).collect()
    }

    fn new(from: SocketAddr, server: SocketAddr) -> io::Result<Self> {
        let open = || {
            let options = UdpOptions { freebind: false, ..UdpOptions::default() };
            UdpSocket::open(from, options)
        };
        Ok(Self {
            server,
            rules: None,
            rings: None,
            request_bytes: 0,
            callers: (0..SOCKETS).map(|_| open()).collect::<io::Result<_>>()?,
            callees: (0..SOCKETS).map(|_| open()).collect::<io::Result<_>>()?,
            slots: vec![Slot::default(); SLOTS],
            free: (0..SLOTS).rev().collect(),
            outgoing: Vec::new(),
            latencies: Vec::new(),
        })
    }

    pub(crate) fn measure(
        &mut self,
        server: &Server,
        per_second: Option<u32>,
        duration: Duration,
    ) -> Result<Sample, String> {
        let before = server.cpu_ns();
        let run = self.run(per_second, duration);
        let mut sample = run.map_err(|e| format!("{}: {e}", server.name))?;
        let after = server.cpu_ns();
        sample.cpu_ns = [0, 1].map(|n| after[n].saturating_sub(before[n]));
        Ok(sample)
    }

    fn run(&mut self, per_second: Option<u32>, duration: Duration) -> io::Result<Sample> {
        let (begun, mut looked) = (now(), now());
        let (mut sample, mut sent) = (Sample::default(), 0u64);
        let mut batch = RecvBatch::new();
        self.latencies.clear();
        loop {
            let (elapsed, open) = (begun.elapsed(), SLOTS - self.free.len());
            let over = elapsed >= duration || self.rings == Some(0);
            if over && open == 0 {
                break;
            }
            let wanted = match per_second {
                None => WINDOW.saturating_sub(open),
                Some(rate) => {
                    let by_now = (elapsed.as_secs_f64() * f64::from(rate)) as u64 + 1;
                    by_now.saturating_sub(sent) as usize
                }
            };
            for _ in 0..if over { 0 } else { wanted.min(self.free.len()) } {
                self.begin();
                sent += 1;
            }
            self.flush();
            let due = per_second.map_or(LOOK, |rate| {
                let due = Duration::from_secs_f64(sent as f64 / f64::from(rate));
                due.saturating_sub(begun.elapsed()).min(LOOK)
            });
            self.wait(due)?;
            self.receive(&mut batch, &mut sample)?;
            self.flush();
            if looked.elapsed() > LOOK {
                looked = now();
                self.give_up(&mut sample);
            }
        }
        sample.elapsed_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        sample.latencies(&mut self.latencies);
        Ok(sample)
    }

    fn begin(&mut self) {
        if self.rings == Some(0) {
            return;
        }
        self.rings = self.rings.map(|left| left - 1);
        let Some(n) = self.free.pop() else { return };
        let slot = &mut self.slots[n];
        slot.turn += 1;
        (slot.begun, slot.answered) = (Some(now()), false);
        let (turn, at) = (slot.turn, n % SOCKETS);
        let (caller, callee) = (self.callers[at].local_addr(), self.callees[at].local_addr());
        let (host, length) = (self.server.ip(), SDP.len());
        let target = match self.rules {
            None => format!("u{n}@{callee}"),
            Some(rules) => {
                // Rules far from each other, so that no cache has them.
                let at = (turn as usize * 7_919 + n * 104_729) % rules;
                format!("{}555@{host}:5060", crate::routes::prefix(at, rules))
            }
        };
        let text = format!(
            "INVITE sip:{target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {caller};branch=z9hG4bKi{n:x}-{turn:x}\r\nMax-Forwards: 70\r\n\
             From: <sip:c{n}@{host}>;tag=f{n:x}{turn:x}\r\nTo: <sip:u{n}@{host}>\r\n\
             Call-ID: k-{n:x}-{turn:x}-@{caller}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:c{n}@{caller}>\r\nUser-Agent: bench\r\n\
             Allow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\nSupported: replaces\r\n\
             Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{SDP}"
        );
        self.request_bytes = text.len();
        self.outgoing.push((at, text));
    }

    /// Sends what is queued, for each socket in one batch.
    fn flush(&mut self) {
        self.outgoing.sort_by_key(|(socket, _)| *socket);
        for batch in self.outgoing.chunk_by(|a, b| a.0 == b.0) {
            let at = batch[0].0;
            let all = self.callers.iter().chain(&self.callees);
            let Some(udp) = { all }.nth(at) else { continue };
            let to = self.server;
            udp.send_each(batch, |(_, text)| ((to, None), text.as_bytes()), &mut Vec::new());
        }
        self.outgoing.clear();
    }

    fn wait(&self, limit: Duration) -> io::Result<()> {
        let limit = Timespec { tv_sec: 0, tv_nsec: limit.as_nanos() as i64 };
        let all = self.callers.iter().chain(&self.callees);
        let mut fds: Vec<PollFd<'_>> = all.map(|udp| PollFd::new(udp, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn receive(&mut self, batch: &mut RecvBatch, sample: &mut Sample) -> io::Result<()> {
        for at in 0..2 * SOCKETS {
            let udp = if at < SOCKETS { &self.callers[at] } else { &self.callees[at - SOCKETS] };
            udp.recv_batch(batch)?;
            for datagram in batch.drain() {
                let Ok(text) = std::str::from_utf8(&datagram.payload) else { continue };
                if at < SOCKETS {
                    self.caller_takes(at, text, sample);
                } else {
                    self.callee_takes(at, text);
                }
            }
        }
        Ok(())
    }

    fn callee_takes(&mut self, at: usize, text: &str) {
        let own = self.callees[at - SOCKETS].local_addr();
        if text.starts_with("INVITE ") {
            let contact = format!("Contact: <sip:u@{own}>\r\n");
            self.outgoing.push((at, reply(text, "180 Ringing", &contact, "")));
            // The other users of a call that forks ring until they are cancelled; a number answers.
            if !text.starts_with("INVITE sip:f") && self.rings.is_none() {
                self.outgoing.push((at, reply(text, "200 OK", &contact, SDP)));
            }
        } else if text.starts_with("CANCEL ") {
            self.outgoing.push((at, reply(text, "200 OK", "", "")));
            let ended = reply(text, "487 Request Terminated", "", "");
            self.outgoing.push((at, ended.replace("1 CANCEL", "1 INVITE")));
        } else if text.starts_with("BYE ") {
            self.outgoing.push((at, reply(text, "200 OK", "", "")));
        }
    }

    fn caller_takes(&mut self, at: usize, text: &str, sample: &mut Sample) {
        let Some(code) = text.strip_prefix("SIP/2.0 ").and_then(|t| t.get(..3)) else { return };
        let Some((n, turn)) = call_of(text) else { return };
        let Some(slot) = self.slots.get_mut(n).filter(|s| s.turn == turn) else { return };
        let is_done = !code.starts_with('1') || (code == "180" && self.rings.is_some());
        let Some(begun) = slot.begun.filter(|_| is_done) else { return };
        let is_invite = header(text, "CSeq").is_some_and(|c| c.ends_with("INVITE"));
        if is_invite && code == "200" {
            if !std::mem::replace(&mut slot.answered, true) {
                self.confirm(at, n, turn, text);
            }
            return;
        }
        slot.begun = None;
        self.free.push(n);
        match code {
            "200" | "180" => sample.answered += 1,
            _ => sample.refused += 1,
        }
        self.latencies.push(begun.elapsed().as_micros() as u32);
    }

    /// ACK, and BYE right behind it.
    fn confirm(&mut self, at: usize, n: usize, turn: u64, ok: &str) {
        let of = |name| header(ok, name).unwrap_or_default();
        let target = of("Contact").trim_start_matches('<').trim_end_matches('>');
        let routes: Vec<&str> = headers(ok, "Record-Route").collect();
        let mut route = String::new();
        for one in routes.iter().rev() {
            let _ = write!(route, "Route: {one}\r\n");
        }
        let caller = self.callers[at].local_addr();
        for (cseq, method) in [(1, "ACK"), (2, "BYE")] {
            let text = format!(
                "{method} {target} SIP/2.0\r\n\
                 Via: SIP/2.0/UDP {caller};branch=z9hG4bK{method}{n:x}-{turn:x}\r\n\
                 Max-Forwards: 70\r\n{route}From: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
                 CSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n",
                of("From"),
                of("To"),
                of("Call-ID"),
            );
            self.outgoing.push((at, text));
        }
    }

    fn give_up(&mut self, sample: &mut Sample) {
        let at = now();
        for (n, slot) in self.slots.iter_mut().enumerate() {
            if slot.begun.is_some_and(|begun| at.duration_since(begun) > LOST) {
                slot.begun = None;
                self.free.push(n);
                sample.lost += 1;
            }
        }
    }
}

/// Slot and turn of the call that a message belongs to.
fn call_of(text: &str) -> Option<(usize, u64)> {
    let mut parts = header(text, "Call-ID")?.strip_prefix("k-")?.split('-');
    let slot = usize::from_str_radix(parts.next()?, 16).ok()?;
    Some((slot, u64::from_str_radix(parts.next()?, 16).ok()?))
}

fn headers<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let head = text.split_once("\r\n\r\n").map_or(text, |(head, _)| head);
    head.split("\r\n").filter_map(move |line| line.strip_prefix(name)?.strip_prefix(": "))
}

pub(crate) fn header<'a>(text: &'a str, name: &'a str) -> Option<&'a str> {
    headers(text, name).next()
}

/// The callee's reply to a request.
pub(crate) fn reply(request: &str, status: &str, extra: &str, body: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in headers(request, name) {
            let tag = if name == "To" && !value.contains(";tag=") { ";tag=b" } else { "" };
            let _ = write!(text, "{name}: {value}{tag}\r\n");
        }
    }
    text += extra;
    if !body.is_empty() {
        text += "Content-Type: application/sdp\r\n";
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:u@h SIP/2.0\r\nVia: SIP/2.0/UDP p;branch=1\r\n\
        Via: SIP/2.0/UDP c;branch=2\r\nRecord-Route: <sip:p;lr>\r\nFrom: <sip:a@h>;tag=f\r\n\
        To: <sip:u@h>\r\nCall-ID: k-1f-2-@c\r\nCSeq: 1 INVITE\r\n\r\nTo: body\r\n";

    #[test]
    fn a_reply_goes_back_the_way_of_its_request() {
        let text = reply(INVITE, "200 OK", "Contact: <sip:u@x>\r\n", "v=0\r\n");
        assert!(text.starts_with("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP p;branch=1\r\nVia: "));
        assert!(text.contains("Record-Route: <sip:p;lr>\r\nFrom: <sip:a@h>;tag=f\r\n"));
        assert!(text.contains("To: <sip:u@h>;tag=b\r\n"));
        assert!(text.ends_with("Content-Length: 5\r\n\r\nv=0\r\n"));
        assert_eq!(call_of(&text), Some((31, 2)));
    }
}
