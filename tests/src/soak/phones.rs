//! The phones: all on one socket, each with one deed, and no memory of what is done.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::callee::{Callees, Out};
use super::kind::{Kind, Then};
use super::text::{cancel, first, second};
use crate::calls::Plan;
use crate::calls::text::{End, ack_failure, number_of};
use crate::message::{Message, uri_of};
use crate::now;

/// What has come of it.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Transactions that the phones have begun.
    pub begun: u64,
    /// Those that nobody has answered finally.
    pub lost: u64,
    /// Final answers, by method and code.
    pub answers: BTreeMap<(String, u16), u64>,
}

/// A deed that goes on.
#[derive(Debug)]
struct Deed {
    kind: Kind,
    /// The request that is not answered yet.
    asked: String,
    to: SocketAddr,
    begun: Instant,
    next: Instant,
    /// It is answered provisionally, so it is not repeated.
    quiet: bool,
    cancelled: bool,
    end: End,
}

#[derive(Debug)]
pub(super) struct Phones {
    plan: Plan,
    socket: UdpSocket,
    deeds: HashMap<u32, Deed>,
    callees: Callees,
    /// Deeds begun.
    placed: u32,
    looked: Instant,
    pub(super) counts: Counts,
}

/// Deeds that may go on at the same time.
const DEEDS_MAX: usize = 20_000;
/// Longer than the node takes for anything, by its script.
const GIVE_UP: Duration = Duration::from_secs(10);
const REPEAT: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(50);
/// What the kernel keeps while the node and we take turns on few processors.
const BUFFER: usize = 8 << 20;

impl Phones {
    #[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
    pub(super) fn new(at: SocketAddr, service: SocketAddr) -> Self {
        let socket = UdpSocket::bind(at).unwrap_or_else(|e| panic!("{at}: {e}"));
        let _ = socket.set_read_timeout(Some(Duration::from_millis(1)));
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER);
        let (name, calls, per_second) = ("s".to_owned(), 0, 0);
        let plan = Plan { name, at, service, calls, per_second, hold: None, until: None };
        Self {
            plan,
            socket,
            deeds: HashMap::new(),
            callees: Callees::default(),
            placed: 0,
            looked: now(),
            counts: Counts::default(),
        }
    }

    /// Begins so many transactions, about so many a second; the last ones are not answered yet.
    pub(super) fn run(&mut self, transactions: u64, per_second: u32) {
        let (begun, from) = (now(), self.counts.begun);
        loop {
            let done = self.counts.begun - from;
            if done >= transactions {
                return;
            }
            let due = (begun.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
            let wanted = due.min(transactions).saturating_sub(done).min(256);
            for _ in 0..wanted {
                if self.deeds.len() < DEEDS_MAX {
                    self.begin();
                }
            }
            self.turn();
        }
    }

    /// Comes to an end with what has begun, and begins nothing, until the condition holds or
    /// patience runs out. It is asked every so often.
    pub(super) fn rest(&mut self, patience: Duration, mut holds: impl FnMut() -> bool) {
        while !self.deeds.is_empty() {
            self.turn();
        }
        let begun = now();
        while begun.elapsed() < patience && !holds() {
            let asked = now();
            while asked.elapsed() < 5 * LOOK {
                self.turn();
            }
        }
    }

    fn begin(&mut self) {
        let n = self.placed;
        self.placed += 1;
        let (kind, at, to) = (Kind::of(n), now(), self.plan.service);
        let asked = first(&self.plan, n, kind);
        self.ask(&asked, to);
        let (next, end) = (at + REPEAT, End::default());
        let deed = Deed { kind, asked, to, begun: at, next, quiet: false, cancelled: false, end };
        self.deeds.insert(n, deed);
    }

    /// Sends a request that begins a transaction.
    fn ask(&mut self, text: &str, to: SocketAddr) {
        self.counts.begun += 1;
        self.send(text, to);
    }

    fn send(&self, text: &str, to: SocketAddr) {
        // What is lost is repeated.
        let _ = self.socket.send_to(text.as_bytes(), to);
    }

    /// Hears what has come, repeats what is due.
    fn turn(&mut self) {
        let mut datagram = [0; 8192];
        for _ in 0..256 {
            let Ok((n, from)) = self.socket.recv_from(&mut datagram) else { break };
            let Some(message) = Message::parse(&datagram[..n]) else { continue };
            match message.code() {
                Some(code) => self.reply(&message, code),
                None => {
                    let mut out = Out::new();
                    if self.callees.hear(&self.plan, &message, from, now(), &mut out) {
                        self.counts.begun += 1;
                    }
                    out.iter().for_each(|(text, to)| self.send(text, *to));
                }
            }
        }
        let at = now();
        self.callees.tick(at);
        if at - self.looked >= LOOK {
            self.looked = at;
            self.repeat(at);
        }
    }

    fn repeat(&mut self, at: Instant) {
        let before = self.deeds.len();
        self.deeds.retain(|_, deed| at - deed.begun < GIVE_UP);
        self.counts.lost += (before - self.deeds.len()) as u64;
        let mut out = Out::new();
        for deed in self.deeds.values_mut().filter(|d| !d.quiet && at >= d.next) {
            deed.next = at + REPEAT;
            out.push((deed.asked.clone(), deed.to));
        }
        out.iter().for_each(|(text, to)| self.send(text, *to));
    }

    fn reply(&mut self, reply: &Message, code: u16) {
        let number = reply.header("Call-ID").and_then(|id| number_of(&self.plan, id));
        let Some(n) = number else { return };
        let (cseq, method) =
            reply.header("CSeq").and_then(|c| c.split_once(' ')).unwrap_or_default();
        if code >= 200 {
            *self.counts.answers.entry((method.to_owned(), code)).or_default() += 1;
        }
        // What a callee asked, and CANCEL, nobody waits for.
        if cseq == "100" || method == "CANCEL" {
            return;
        }
        let Some(mut deed) = self.deeds.remove(&n) else { return };
        let method = method.to_owned();
        if self.heard(n, &mut deed, reply, &method, code) {
            self.deeds.insert(n, deed);
        }
    }

    /// A reply to the request of a deed; whether the deed goes on.
    fn heard(&mut self, n: u32, deed: &mut Deed, reply: &Message, method: &str, code: u16) -> bool {
        if !deed.asked.starts_with(method) {
            // A copy of an earlier answer.
            return true;
        }
        if code < 200 {
            deed.quiet = method == "INVITE";
            if code > 100 && deed.kind.cancels() && !deed.cancelled {
                deed.cancelled = true;
                self.ask(&cancel(&deed.asked), deed.to);
            }
            return true;
        }
        if method != "INVITE" {
            let more = if code < 300 { second(&self.plan, n, deed.kind, reply) } else { None };
            // The second request is the last.
            let more = more.filter(|_| deed.asked.contains("\r\nCSeq: 1 "));
            return self.go_on(deed, more);
        }
        if code >= 300 {
            if deed.kind.acks() {
                self.send(&ack_failure(&deed.asked, reply), deed.to);
            }
            return false;
        }
        self.is_answered(n, deed, reply)
    }

    fn is_answered(&mut self, n: u32, deed: &mut Deed, reply: &Message) -> bool {
        if !deed.kind.acks() {
            return false;
        }
        let changed = deed.asked.contains("\r\nCSeq: 2 ");
        if !changed {
            let mut routes = reply.all("Record-Route");
            routes.reverse();
            deed.end = End {
                local: format!("<sip:caller@{}>;tag=a{n}", self.plan.service.ip()),
                remote: reply.header("To").unwrap_or_default().to_owned(),
                target: uri_of(reply.header("Contact").unwrap_or_default()).to_owned(),
                routes,
            };
        }
        let Some(to) = deed.end.next_hop() else { return false };
        deed.to = to;
        let cseq = if changed { 2 } else { 1 };
        let ack = deed.end.request(&self.plan, n, "ACK", cseq);
        self.send(&ack, to);
        let more = match deed.kind.then() {
            Then::Wait => None,
            Then::Change if !changed => Some(deed.end.request(&self.plan, n, "INVITE", 2)),
            Then::Change | Then::HangUp => Some(deed.end.request(&self.plan, n, "BYE", 3)),
        };
        self.go_on(deed, more)
    }

    /// The next request of a deed, if there is one.
    fn go_on(&mut self, deed: &mut Deed, more: Option<String>) -> bool {
        let Some(more) = more else { return false };
        self.ask(&more, deed.to);
        let at = now();
        (deed.asked, deed.begun, deed.next, deed.quiet) = (more, at, at + REPEAT, false);
        true
    }
}
