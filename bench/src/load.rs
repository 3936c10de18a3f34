//! The load: phones on a handful of sockets, bounded in count and time.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::now;
use crate::message::{Request, Work, read_reply};
use crate::report::Sample;

/// How much is asked for, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As fast as the replies come, with this many requests waiting, for this long.
    Saturated { window: usize, duration: Duration },
    /// So many requests per second, for this long, whatever the replies do.
    Paced { per_second: u32, duration: Duration },
    /// Every phone once, as fast as the replies come.
    Once { window: usize },
}

/// Requests that may wait for a reply at the same time, per load.
const SLOTS: usize = 4096;
/// After this a request counts as lost.
const LOST: Duration = Duration::from_secs(1);
/// No load takes longer than this, whatever was asked for.
const LONGEST: Duration = Duration::from_secs(120);

/// Phones that send to one server.
#[derive(Debug)]
pub(crate) struct Load {
    server: SocketAddr,
    lines: Vec<UdpSocket>,
    addresses: Vec<SocketAddr>,
    /// The CSeq of each phone; a phone always uses the same socket.
    cseqs: Vec<u32>,
    next_phone: usize,
    slots: Vec<Slot>,
    free: Vec<usize>,
    text: String,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    turn: u64,
    sent: Option<Instant>,
}

impl Load {
    /// `phones` phones on `sockets` sockets.
    #[expect(clippy::disallowed_methods, reason = "the benchmark owns its sockets")]
    pub(crate) fn new(server: SocketAddr, sockets: usize, phones: usize) -> io::Result<Self> {
        let mut lines = Vec::new();
        for _ in 0..sockets {
            let line = UdpSocket::bind(("127.0.3.100", 0))?;
            line.connect(server)?;
            line.set_nonblocking(true)?;
            lines.push(line);
        }
        let addresses = lines.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>()?;
        let free = (0..SLOTS).rev().collect();
        let slots = vec![Slot::default(); SLOTS];
        let (cseqs, text) = (vec![0; phones], String::with_capacity(1024));
        Ok(Self { server, lines, addresses, cseqs, next_phone: 0, slots, free, text })
    }

    /// Runs a load to its end. The processor time of the sample is left to the caller.
    pub(crate) fn run(&mut self, work: Work, pace: Pace) -> io::Result<Sample> {
        let begun = now();
        let mut sample = Sample::default();
        let mut sent = 0;
        loop {
            let elapsed = begun.elapsed();
            let waiting = SLOTS - self.free.len();
            let (wanted, over) = self.due(pace, elapsed, sent, waiting);
            if (over && waiting == 0) || elapsed > LONGEST {
                break;
            }
            for _ in 0..if over { 0 } else { wanted } {
                if !self.send(work)? {
                    break;
                }
                sent += 1;
            }
            self.wait(pace)?;
            self.receive(&mut sample);
            self.give_up(&mut sample);
        }
        sample.elapsed_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(sample)
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

    /// Sends one request; `false` if there is no room for one.
    fn send(&mut self, work: Work) -> io::Result<bool> {
        let Some(index) = self.free.pop() else { return Ok(false) };
        let phone = self.next_phone;
        self.next_phone = (phone + 1) % self.cseqs.len();
        let at = phone % self.lines.len();
        self.cseqs[phone] += 1;
        let slot = &mut self.slots[index];
        slot.turn += 1;
        slot.sent = Some(now());
        let request = Request {
            work,
            server: self.server,
            client: self.addresses[at],
            slot: index,
            turn: slot.turn,
            phone,
            cseq: self.cseqs[phone],
        };
        request.write(&mut self.text);
        match self.lines[at].send(self.text.as_bytes()) {
            Ok(_) => Ok(true),
            // A full socket buffer loses the request, as the network would; it is counted.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
            Err(e) => Err(e),
        }
    }

    fn wait(&self, pace: Pace) -> io::Result<()> {
        let ms = if matches!(pace, Pace::Paced { .. }) { 1 } else { 20 };
        let limit = Timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 };
        let mut fds: Vec<PollFd<'_>> =
            self.lines.iter().map(|l| PollFd::new(l, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn receive(&mut self, sample: &mut Sample) {
        let mut datagram = [0; 4096];
        for line in &self.lines {
            // Errors (nobody listens, nothing there) end this socket's turn: what was asked
            // for counts as lost in time.
            while let Ok(n) = line.recv(&mut datagram) {
                let Some(reply) = read_reply(&datagram[..n]) else { continue };
                let Some(slot) = self.slots.get_mut(reply.slot) else { continue };
                // A late reply to a request given up, or a second one, counts for nothing.
                if reply.code < 200 || slot.turn != reply.turn || slot.sent.is_none() {
                    continue;
                }
                slot.sent = None;
                self.free.push(reply.slot);
                match reply.code {
                    200 => sample.answered += 1,
                    _ => sample.refused += 1,
                }
            }
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
