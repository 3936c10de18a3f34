//! The load: phones on a handful of sockets, bounded in count and time. Requests leave and
//! replies come in batches, so that the load costs less than what it measures.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tandem_net::{RecvBatch, UdpOptions, UdpSocket};

use crate::clock::now;
use crate::digest::credentials;
use crate::message::{Request, Work, read_expires, read_reply};
use crate::report::Sample;

/// How much is asked for, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As fast as the replies come, with this many requests waiting, for this long.
    Saturated { window: usize, duration: Duration },
    /// So many requests per second, evenly spread, for this long, whatever the replies do.
    Paced { per_second: u32, duration: Duration },
    /// Every phone once, as fast as the replies come.
    Once { window: usize },
}

/// Requests that may wait for a reply at the same time, per load.
const SLOTS: usize = 8192;
/// After this a request counts as lost.
const LOST: Duration = Duration::from_secs(1);
/// How often it is looked for lost requests.
const LOOK: Duration = Duration::from_millis(20);
/// No load takes longer than this, whatever was asked for.
const LONGEST: Duration = Duration::from_secs(240);

/// Phones that send to one server.
#[derive(Debug)]
pub(crate) struct Load {
    server: SocketAddr,
    lines: Vec<Line>,
    /// The CSeq of each phone; a phone always uses the same socket.
    cseqs: Vec<u32>,
    next_phone: usize,
    slots: Vec<Slot>,
    free: Vec<usize>,
    text: String,
    batch: RecvBatch,
    /// How long each reply took, in µs.
    pub(crate) latencies: Vec<u32>,
    /// What [`Work::Fetch`] found: the remaining seconds of each phone's contact.
    pub(crate) found: Vec<Option<u32>>,
}

/// A socket, and the requests that leave through it with the next batch.
#[derive(Debug)]
struct Line {
    udp: UdpSocket,
    queued: Vec<Range<usize>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    turn: u64,
    sent: Option<Instant>,
    phone: usize,
}

impl Load {
    /// `phones` phones on `sockets` sockets of the address `from`.
    pub(crate) fn new(
        from: SocketAddr,
        server: SocketAddr,
        sockets: usize,
        phones: usize,
    ) -> io::Result<Self> {
        let mut lines = Vec::new();
        for _ in 0..sockets {
            let options = UdpOptions { freebind: false, ..UdpOptions::default() };
            lines.push(Line { udp: UdpSocket::open(from, options)?, queued: Vec::new() });
        }
        Ok(Self {
            server,
            lines,
            cseqs: vec![0; phones],
            next_phone: 0,
            slots: vec![Slot::default(); SLOTS],
            free: (0..SLOTS).rev().collect(),
            text: String::with_capacity(64 << 10),
            batch: RecvBatch::new(),
            latencies: Vec::new(),
            found: vec![None; phones],
        })
    }

    /// Where its phones are.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.lines.iter().map(|line| &line.udp)
    }

    /// The same phones, asking another server.
    pub(crate) fn turn_to(&mut self, server: SocketAddr) {
        self.server = server;
        self.next_phone = 0;
    }

    /// Runs a load to its end. The processor time of the sample is left to the caller.
    pub(crate) fn run(&mut self, work: Work, pace: Pace) -> io::Result<Sample> {
        let begun = now();
        let mut sample = Sample::default();
        let mut sent = 0;
        let mut looked = begun;
        self.latencies.clear();
        if matches!(pace, Pace::Once { .. }) {
            self.next_phone = 0;
        }
        loop {
            let elapsed = begun.elapsed();
            let waiting = SLOTS - self.free.len();
            let (wanted, over) = self.due(pace, elapsed, sent, waiting);
            if (over && waiting == 0) || elapsed > LONGEST {
                break;
            }
            let wanted = if over { 0 } else { wanted.min(self.free.len()) };
            for _ in 0..wanted {
                self.begin(work);
            }
            sent += wanted as u64;
            self.flush();
            self.wait(pace, begun, sent)?;
            self.receive(work, &mut sample)?;
            if looked.elapsed() > LOOK {
                looked = now();
                self.give_up(&mut sample);
            }
        }
        sample.elapsed_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        sample.latencies(&mut self.latencies);
        Ok(sample)
    }

    /// Asks for one phone; `None`: it is unknown, or there was no answer.
    pub(crate) fn fetch_one(&mut self, phone: usize) -> io::Result<Option<u32>> {
        let Some(index) = self.free.pop() else { return Ok(None) };
        self.found[phone] = None;
        self.queue(Work::Fetch, index, phone, "");
        self.flush();
        let begun = now();
        while self.slots[index].sent.is_some() && begun.elapsed() < LOST {
            self.wait(Pace::Once { window: 1 }, begun, 0)?;
            self.receive(Work::Fetch, &mut Sample::default())?;
        }
        if self.slots[index].sent.take().is_some() {
            self.free.push(index);
        }
        Ok(self.found[phone])
    }

    /// How many requests to send now, and whether the load has been sent.
    fn due(&self, pace: Pace, elapsed: Duration, sent: u64, waiting: usize) -> (usize, bool) {
        match pace {
            Pace::Saturated { window, duration } => {
                (window.saturating_sub(waiting), elapsed >= duration)
            }
            Pace::Once { window } => {
                let left = self.cseqs.len().saturating_sub(sent as usize);
                (window.saturating_sub(waiting).min(left), left == 0)
            }
            Pace::Paced { per_second, duration } => {
                let all = (duration.as_secs_f64() * f64::from(per_second)) as u64;
                let by_now = (elapsed.as_secs_f64() * f64::from(per_second)) as u64 + 1;
                (by_now.min(all).saturating_sub(sent) as usize, sent >= all)
            }
        }
    }

    /// Queues the next phone's request.
    fn begin(&mut self, work: Work) {
        let Some(index) = self.free.pop() else { return };
        let phone = self.next_phone;
        self.next_phone = (phone + 1) % self.cseqs.len();
        self.queue(work, index, phone, "");
    }

    fn queue(&mut self, work: Work, index: usize, phone: usize, credentials: &str) {
        let at = phone % self.lines.len();
        let client = self.lines[at].udp.local_addr();
        if work != Work::Fetch {
            self.cseqs[phone] += 1;
        }
        let slot = &mut self.slots[index];
        slot.turn += 1;
        slot.phone = phone;
        // The second request of a challenge belongs to the same refresh.
        slot.sent = slot.sent.or(Some(now()));
        let (server, turn, cseq) = (self.server, slot.turn, self.cseqs[phone]);
        let slot = index;
        let from = self.text.len();
        Request { work, server, client, slot, turn, phone, cseq, credentials }
            .write(&mut self.text);
        self.lines[at].queued.push(from..self.text.len());
    }

    /// Sends what is queued. A full socket buffer loses a request, as the network would; it is
    /// counted as lost in time.
    fn flush(&mut self) {
        let (text, to) = (&self.text, self.server);
        for Line { udp, queued } in &mut self.lines {
            if !queued.is_empty() {
                let bytes = |range: &Range<usize>| &text.as_bytes()[range.clone()];
                udp.send_each(queued, |range| ((to, None), bytes(range)), &mut Vec::new());
                queued.clear();
            }
        }
        self.text.clear();
    }

    /// Waits for replies, at most until the next request is due.
    fn wait(&self, pace: Pace, begun: Instant, sent: u64) -> io::Result<()> {
        let limit = match pace {
            Pace::Paced { per_second, .. } => {
                let due = Duration::from_secs_f64(sent as f64 / f64::from(per_second));
                due.saturating_sub(begun.elapsed()).min(LOOK)
            }
            _ => LOOK,
        };
        let limit = Timespec { tv_sec: 0, tv_nsec: limit.as_nanos() as i64 };
        let mut fds: Vec<PollFd<'_>> =
            self.lines.iter().map(|l| PollFd::new(&l.udp, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn receive(&mut self, work: Work, sample: &mut Sample) -> io::Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        for line in 0..self.lines.len() {
            while self.lines[line].udp.recv_batch(&mut batch)? > 0 {
                let at = now();
                for datagram in batch.datagrams() {
                    self.take(work, &datagram.payload, at, sample);
                }
                if batch.datagrams().len() < RecvBatch::CAPACITY {
                    break;
                }
            }
        }
        self.batch = batch;
        Ok(())
    }

    fn take(&mut self, work: Work, datagram: &[u8], at: Instant, sample: &mut Sample) {
        let Some(reply) = read_reply(datagram) else { return };
        let Some(slot) = self.slots.get_mut(reply.slot) else { return };
        let phone = slot.phone;
        // A late reply to a request given up, or a second one, counts for nothing.
        if reply.code < 200 || slot.turn != reply.turn {
            return;
        }
        let Some(sent) = slot.sent else { return };
        if work == Work::Digest && reply.code == 401 {
            let uri = format!("sip:{}", self.server.ip());
            if let Some(line) = credentials(datagram, &format!("u{phone}"), &uri) {
                return self.queue(work, reply.slot, phone, &line);
            }
        }
        slot.sent = None;
        self.free.push(reply.slot);
        match reply.code {
            200 => sample.answered += 1,
            _ => sample.refused += 1,
        }
        self.latencies.push(at.duration_since(sent).as_micros() as u32);
        if work == Work::Fetch {
            self.found[phone] = read_expires(datagram);
        }
    }

    fn give_up(&mut self, sample: &mut Sample) {
        if self.free.len() == SLOTS {
            return;
        }
        let at = now();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.sent.is_some_and(|sent| at.duration_since(sent) > LOST) {
                slot.sent = None;
                self.free.push(index);
                sample.lost += 1;
            }
        }
    }
}
