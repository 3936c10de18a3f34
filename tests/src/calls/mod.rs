//! Calls by the thousand, from both ends, and what became of each.
//!
//! An [`Exchange`] has the phones of callers and callees on one socket. It places calls at a
//! steady rate, holds each for a while and hangs up, in turn from the caller's and from the
//! callee's side. Requests and 200s are repeated as RFC 3261 17 and 13.3.1.4 say, so a call
//! outlives a server that dies as long as another one takes over in time.

mod call;
mod manner;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::message::Message;
use crate::now;
use call::Call;
pub(crate) use text::ack_failure;

/// What calls are placed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Begins the names of those who are called, and the Call-IDs.
    pub name: String,
    /// Where the phones are.
    pub at: SocketAddr,
    /// Where the service is.
    pub service: SocketAddr,
    /// Calls in all.
    pub calls: u32,
    /// Calls placed a second.
    pub per_second: u32,
    /// From the 200 to the BYE; `None`: as the [`Manner`] of the call says.
    pub hold: Option<Duration>,
    /// When all calls are placed, more are until there is a file here.
    pub until: Option<PathBuf>,
}

/// Milliseconds since the machine started: the same for all its hosts.
#[must_use]
pub fn uptime_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().and_then(|s| s.parse::<f64>().ok());
    (seconds.unwrap_or(0.0) * 1000.0) as u64
}

/// Phones that are called.
const CALLEES: u32 = 50;
/// What a phone waits for a final answer to anything but INVITE (timer F).
const GIVE_UP: Duration = Duration::from_secs(32);
/// How long a caller lets it ring.
const RINGING: Duration = Duration::from_secs(60);
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// A message that is repeated until it is answered.
#[derive(Debug)]
pub(crate) struct Repeated {
    text: String,
    to: SocketAddr,
    begun: Instant,
    next: Instant,
    interval: Duration,
    /// It is answered provisionally: no longer repeated, but still waited for.
    quiet: bool,
    patience: Duration,
}

impl Repeated {
    fn new(text: String, to: SocketAddr, at: Instant) -> Self {
        let (interval, patience) = (T1, GIVE_UP);
        Self { text, to, begun: at, next: at + T1, interval, quiet: false, patience }
    }

    /// Nobody has answered in time.
    fn is_over(&self, at: Instant) -> bool {
        at - self.begun >= self.patience
    }

    /// Whether it is to be sent again now.
    fn is_due(&mut self, at: Instant) -> bool {
        if self.quiet || at < self.next {
            return false;
        }
        self.interval = (self.interval * 2).min(T2);
        self.next = at + self.interval;
        true
    }
}

/// The phones.
#[derive(Debug)]
pub struct Exchange {
    plan: Plan,
    socket: UdpSocket,
    begun: Instant,
    /// What the machine's clock showed at `begun`.
    begun_ms: u64,
    calls: BTreeMap<u32, Call>,
    registering: BTreeMap<u32, Repeated>,
}

impl Exchange {
    /// Puts the phones on the network.
    ///
    /// # Panics
    /// If the address is taken.
    #[expect(clippy::disallowed_methods, reason = "the tests own their sockets")]
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let socket = UdpSocket::bind(plan.at).unwrap_or_else(|e| panic!("{}: {e}", plan.at));
        let _ = socket.set_read_timeout(Some(Duration::from_millis(2)));
        let (calls, registering) = (BTreeMap::new(), BTreeMap::new());
        Self { plan, socket, begun: now(), begun_ms: uptime_ms(), calls, registering }
    }

    /// Registers the phones that are called.
    ///
    /// # Panics
    /// If one is not registered.
    pub fn register(&mut self) {
        for callee in 0..CALLEES {
            let text = text::register(&self.plan, callee);
            self.send(&text, self.plan.service);
            self.registering.insert(callee, Repeated::new(text, self.plan.service, now()));
        }
        while !self.registering.is_empty() {
            self.turn();
            assert!(self.registering.values().all(|r| !r.is_over(now())), "not registered");
        }
        (self.begun, self.begun_ms) = (now(), uptime_ms());
    }

    /// Places all calls and waits until each has come to its end.
    pub fn run(&mut self) {
        let mut placed = 0;
        while self.wants_more(placed) || self.calls.values().any(|c| !c.is_over()) {
            let due = self.begun.elapsed().as_secs_f64() * f64::from(self.plan.per_second);
            while self.wants_more(placed) && f64::from(placed) < due {
                let call = Call::place(&self.plan, placed, now());
                self.send(call.invite(), self.plan.service);
                self.calls.insert(placed, call);
                placed += 1;
                if placed.is_multiple_of(10) {
                    println!("placed {placed}");
                }
            }
            self.turn();
        }
    }

    fn wants_more(&self, placed: u32) -> bool {
        placed < self.plan.calls || self.plan.until.as_ref().is_some_and(|file| !file.exists())
    }

    /// A line of JSON for each call; times are those of [`uptime_ms`].
    #[must_use]
    pub fn records(&self) -> String {
        let line = |(n, call): (&u32, &Call)| {
            let time = |at: Option<Instant>| {
                at.map(|at| self.begun_ms + (at - self.begun).as_millis() as u64)
            };
            let record = json!({
                "call": text::call_id(&self.plan, *n), "placed_ms": time(Some(call.placed)), "picked_up_ms": time(call.picked_up),
                "answered_ms": time(call.answered),
                "confirmed_ms": time(call.confirmed), "asked_again_ms": time(call.asked_again),
                "agreed_ms": time(call.agreed), "bye_ms": time(call.hung_up),
                "ended_ms": time(call.over), "ended": call.ended,
            });
            format!("{record}\n")
        };
        self.calls.iter().map(line).collect()
    }

    /// Hears what has come, repeats what is due.
    fn turn(&mut self) {
        let mut datagram = [0; 8192];
        for _ in 0..256 {
            let Ok((n, from)) = self.socket.recv_from(&mut datagram) else { break };
            if let Some(message) = Message::parse(&datagram[..n]) {
                self.hear(&message, from);
            }
        }
        let at = now();
        let mut out = Vec::new();
        let repeated = self.registering.values_mut().filter_map(|r| {
            let due = r.is_due(at);
            due.then(|| (r.text.clone(), r.to))
        });
        out.extend(repeated);
        for call in self.calls.values_mut().filter(|c| c.is_busy()) {
            call.tick(&self.plan, at, &mut out);
        }
        out.iter().for_each(|(text, to)| self.send(text, *to));
    }

    fn hear(&mut self, message: &Message, from: SocketAddr) {
        let id = message.header("Call-ID").unwrap_or_default();
        if let Some(callee) = text::registration(id) {
            if message.code() == Some(200) {
                self.registering.remove(&callee);
            }
            return;
        }
        let call = text::number_of(&self.plan, id).and_then(|n| self.calls.get_mut(&n));
        let mut out = Vec::new();
        match call {
            Some(call) if message.code().is_some() => {
                call.reply(&self.plan, message, now(), &mut out)
            }
            Some(call) => call.request(&self.plan, message, from, now(), &mut out),
            // Somebody looks whether the phone is there.
            None if message.method() == Some("OPTIONS") => {
                out.push((text::answer(message, "200 OK", "", ""), from));
            }
            None => {}
        }
        out.iter().for_each(|(text, to)| self.send(text, *to));
    }

    fn send(&self, text: &str, to: SocketAddr) {
        // What is lost is repeated.
        let _ = self.socket.send_to(text.as_bytes(), to);
    }
}
