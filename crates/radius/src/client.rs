//! Requests on their way to servers: sent, sent again, and given to the next server.
//!
//! It asks for nothing itself: what it wants is a list of [`Want`]s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use tandem_clock::{Mono, Now};

use crate::packet::{self, Avp, Code, Packet};

/// Requests that wait at the same time; what comes then fails at once.
pub const REQUESTS_MAX: usize = 4_096;

/// What a server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Auth,
    Acct,
}

/// A server, as it is configured.
#[derive(Clone, Debug)]
pub struct Spec {
    pub kind: Kind,
    pub host: String,
    pub port: u16,
    pub secret: Vec<u8>,
    /// What it answers has to have a Message-Authenticator: without one, somebody on the way may
    /// have made another answer of it (CVE-2024-3596).
    pub needs_proof: bool,
}

/// How long a server may take, how often it is asked again, and how long one that was silent is
/// left alone.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub timeout_s: u64,
    pub retries: u32,
    pub deadtime_s: u64,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Access-Accept or Accounting-Response.
    Accepted(Vec<Avp>),
    /// Access-Reject, or a challenge that nobody here can meet.
    Rejected(Vec<Avp>),
    /// No server has answered.
    Failed(String),
}

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// A request, by a number that no other has.
    Ask {
        number: u64,
        kind: Kind,
        avps: Vec<Avp>,
    },
    Resolved {
        server: usize,
        found: Result<Vec<IpAddr>, String>,
    },
    Opened {
        server: usize,
    },
    Bytes {
        server: usize,
        bytes: Bytes,
    },
    Closed {
        server: usize,
        why: String,
    },
    /// Time has passed.
    Due,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    Resolve(usize),
    Open(usize, SocketAddr),
    Write(usize, Bytes),
    Close(usize),
    /// Something has gone wrong, or right again (`false`).
    Log(bool, String),
    Done(u64, Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Opening,
    Open,
}

#[derive(Debug)]
struct Server {
    spec: Spec,
    phase: Phase,
    /// Counts sockets: what comes of an older one is nobody's.
    attempt: u64,
    /// Requests under way, by the octet that names them.
    ids: BTreeMap<u8, u64>,
    next_id: u8,
    waiting: VecDeque<u64>,
    /// That it does not answer was said.
    is_silent: bool,
    /// That somebody else answers was said.
    is_forged: bool,
    dead_until: Mono,
}

#[derive(Debug)]
struct Request {
    code: Code,
    avps: Vec<Avp>,
    /// Servers that are left.
    left: VecDeque<usize>,
    at: usize,
    sent: Option<Sent>,
    due: Mono,
}

#[derive(Debug)]
struct Sent {
    id: u8,
    bytes: Bytes,
    authenticator: [u8; 16],
    times: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    patience: Patience,
    servers: Vec<Server>,
    requests: BTreeMap<u64, Request>,
    due: BTreeSet<(Mono, u64)>,
    /// That there are too many was said.
    is_full: bool,
}

/// One step: what happens in it, and what is wanted.
struct Step<'a> {
    now: Now,
    chance: &'a mut dyn FnMut() -> [u8; 16],
    wants: Vec<Want>,
}

impl Client {
    pub fn new(specs: Vec<Spec>, patience: Patience) -> Self {
        let server = |spec| Server {
            spec,
            phase: Phase::Closed,
            attempt: 0,
            ids: BTreeMap::new(),
            next_id: 0,
            waiting: VecDeque::new(),
            is_silent: false,
            is_forged: false,
            dead_until: 0,
        };
        let servers = specs.into_iter().map(server).collect();
        Self { patience, servers, requests: BTreeMap::new(), due: BTreeSet::new(), is_full: false }
    }

    /// Where a server is, as it is configured.
    pub fn spec(&self, server: usize) -> Option<&Spec> {
        self.servers.get(server).map(|server| &server.spec)
    }

    /// Which socket of a server is the present one.
    pub fn attempt(&self, server: usize) -> u64 {
        self.servers.get(server).map_or(0, |server| server.attempt)
    }

    /// When [`Event::Due`] is wanted.
    pub fn deadline(&self) -> Mono {
        self.due.first().map_or(Mono::MAX, |(due, _)| *due)
    }

    /// How each server stands, and how many requests are with it.
    pub fn state(&self) -> impl Iterator<Item = (&Spec, &'static str, usize)> {
        self.servers.iter().map(|server| {
            let state = match server {
                Server { is_silent: true, .. } => "silent",
                Server { phase: Phase::Open, .. } => "open",
                _ => "idle",
            };
            (&server.spec, state, server.ids.len() + server.waiting.len())
        })
    }

    /// Takes what has happened; `chance` are bytes by chance.
    pub fn handle(
        &mut self,
        now: Now,
        event: Event,
        chance: &mut dyn FnMut() -> [u8; 16],
    ) -> Vec<Want> {
        let mut step = Step { now, chance, wants: Vec::new() };
        match event {
            Event::Ask { number, kind, avps } => self.ask(&mut step, number, kind, avps),
            Event::Resolved { server, found } => self.resolved(&mut step, server, found),
            Event::Opened { server } => self.opened(&mut step, server),
            Event::Bytes { server, bytes } => self.came(&mut step, server, &bytes),
            Event::Closed { server, why } => self.lost(&mut step, server, &why),
            Event::Due => self.time_passes(&mut step),
        }
        step.wants
    }

    fn ask(&mut self, step: &mut Step<'_>, number: u64, kind: Kind, avps: Vec<Avp>) {
        let failed = |why: String| Want::Done(number, Outcome::Failed(why));
        if self.requests.len() >= REQUESTS_MAX || self.requests.contains_key(&number) {
            let why = format!("{REQUESTS_MAX} requests wait for servers already");
            if !std::mem::replace(&mut self.is_full, true) {
                let text = format!("{why}: what is asked beyond them fails at once");
                step.wants.push(Want::Log(true, text));
            }
            return step.wants.push(failed(why));
        }
        // Said again only after it was half as bad.
        self.is_full &= self.requests.len() > REQUESTS_MAX / 2;
        let of_kind = |(_, server): &(usize, &Server)| server.spec.kind == kind;
        let all: Vec<(usize, &Server)> = self.servers.iter().enumerate().filter(of_kind).collect();
        let is_alive = |server: &Server| server.dead_until <= step.now.mono_ns;
        let is_any = !all.iter().any(|(_, server)| is_alive(server));
        let left = all.into_iter().filter(|(_, server)| is_any || is_alive(server));
        let code = match kind {
            Kind::Auth => Code::AccessRequest,
            Kind::Acct => Code::AccountingRequest,
        };
        let left = left.map(|(at, _)| at).collect();
        let request = Request { code, avps, left, at: 0, sent: None, due: Mono::MAX };
        self.requests.insert(number, request);
        self.try_next(step, number, "the configuration names no server for it");
    }

    /// Gives a request to the next server; `why` it is not with the last one any more.
    fn try_next(&mut self, step: &mut Step<'_>, number: u64, why: &str) {
        let patience = self.patience;
        let Some(request) = self.requests.get_mut(&number) else { return };
        self.due.remove(&(request.due, number));
        request.sent = None;
        let Some(at) = request.left.pop_front() else {
            self.requests.remove(&number);
            return step.wants.push(Want::Done(number, Outcome::Failed(why.to_owned())));
        };
        request.at = at;
        // Until it is sent, it has as long as if it had been.
        let whole_s = patience.timeout_s.saturating_mul(u64::from(patience.retries) + 1);
        request.due = step.now.after_s(whole_s);
        self.due.insert((request.due, number));
        let Some(server) = self.servers.get_mut(at) else { return };
        server.waiting.push_back(number);
        match server.phase {
            Phase::Open => self.pump(step, at),
            Phase::Opening => {}
            Phase::Closed => {
                server.phase = Phase::Opening;
                server.attempt += 1;
                match server.spec.host.parse::<IpAddr>() {
                    Ok(ip) => step.wants.push(Want::Open(at, (ip, server.spec.port).into())),
                    Err(_) => step.wants.push(Want::Resolve(at)),
                }
            }
        }
    }

    fn resolved(&mut self, step: &mut Step<'_>, at: usize, found: Result<Vec<IpAddr>, String>) {
        let Some(server) = self.servers.get(at).filter(|s| s.phase == Phase::Opening) else {
            return;
        };
        let pick = |all: Vec<IpAddr>| {
            let nth = server.attempt.checked_rem(all.len() as u64)? as usize;
            all.get(nth).copied()
        };
        match found.map(pick) {
            Ok(Some(ip)) => step.wants.push(Want::Open(at, (ip, server.spec.port).into())),
            Ok(None) => self.lost(step, at, "its name has no address"),
            Err(why) => self.lost(step, at, &why),
        }
    }

    fn opened(&mut self, step: &mut Step<'_>, at: usize) {
        if let Some(server) = self.servers.get_mut(at) {
            server.phase = Phase::Open;
            self.pump(step, at);
        }
    }

    /// Sends what waits for a server, while there are names for it.
    fn pump(&mut self, step: &mut Step<'_>, at: usize) {
        while let Some(server) = self.servers.get_mut(at) {
            let free = (0..=u8::MAX).map(|n| server.next_id.wrapping_add(n));
            let Some(id) = free.into_iter().find(|id| !server.ids.contains_key(id)) else { return };
            let Some(number) = server.waiting.pop_front() else { return };
            let Some(request) = self.requests.get_mut(&number) else { continue };
            if request.at != at || request.sent.is_some() {
                continue;
            }
            let secret = &server.spec.secret;
            let made = packet::request(request.code, id, (step.chance)(), secret, &request.avps);
            let Ok(packet::Request { bytes, authenticator }) = made else {
                self.finish(step, number, Outcome::Failed("its attributes are too many".into()));
                continue;
            };
            let bytes = Bytes::from(bytes);
            server.next_id = id.wrapping_add(1);
            server.ids.insert(id, number);
            self.due.remove(&(request.due, number));
            request.due = step.now.after_s(self.patience.timeout_s);
            self.due.insert((request.due, number));
            request.sent = Some(Sent { id, bytes: bytes.clone(), authenticator, times: 1 });
            step.wants.push(Want::Write(at, bytes));
        }
    }

    fn finish(&mut self, step: &mut Step<'_>, number: u64, outcome: Outcome) {
        if let Some(request) = self.requests.remove(&number) {
            self.due.remove(&(request.due, number));
            step.wants.push(Want::Done(number, outcome));
        }
    }

    fn came(&mut self, step: &mut Step<'_>, at: usize, bytes: &[u8]) {
        let Some(server) = self.servers.get_mut(at) else { return };
        let Ok(packet) = Packet::parse(bytes) else { return };
        let Some(&number) = server.ids.get(&packet.id) else { return };
        let Some(request) = self.requests.get(&number) else { return };
        let Some(sent) = &request.sent else { return };
        if !packet.answers(&sent.authenticator, &server.spec.secret) {
            if !std::mem::replace(&mut server.is_forged, true) {
                let text = format!(
                    "the server {} answers with another secret than ours, or somebody else answers: \
                     its answers are ignored",
                    name(&server.spec)
                );
                step.wants.push(Want::Log(true, text));
            }
            return;
        }
        if server.spec.needs_proof && !packet.has_proof() {
            if !std::mem::replace(&mut server.is_forged, true) {
                let text = format!(
                    "the server {} answers without a Message-Authenticator: its answers are \
                     ignored, since require-message-authenticator is yes",
                    name(&server.spec)
                );
                step.wants.push(Want::Log(true, text));
            }
            return;
        }
        let outcome = match (request.code, packet.code) {
            (Code::AccessRequest, Code::AccessAccept)
            | (Code::AccountingRequest, Code::AccountingResponse) => {
                Outcome::Accepted(packet.avps())
            }
            (Code::AccessRequest, Code::AccessReject | Code::AccessChallenge) => {
                Outcome::Rejected(packet.avps())
            }
            _ => return,
        };
        server.ids.remove(&packet.id);
        (server.is_forged, server.dead_until) = (false, 0);
        if std::mem::take(&mut server.is_silent) {
            step.wants
                .push(Want::Log(false, format!("the server {} answers again", name(&server.spec))));
        }
        self.finish(step, number, outcome);
        self.pump(step, at);
    }

    fn time_passes(&mut self, step: &mut Step<'_>) {
        while let Some(&(due, number)) = self.due.first()
            && due <= step.now.mono_ns
        {
            self.due.pop_first();
            let Some(request) = self.requests.get_mut(&number) else { continue };
            match &mut request.sent {
                Some(sent) if sent.times <= self.patience.retries => {
                    // The same packet, so that the server knows it again: RFC 5080 2.2.1.
                    sent.times += 1;
                    step.wants.push(Want::Write(request.at, sent.bytes.clone()));
                    request.due = step.now.after_s(self.patience.timeout_s);
                    self.due.insert((request.due, number));
                }
                _ => self.unanswered(step, number),
            }
        }
    }

    /// A server has not answered a request.
    fn unanswered(&mut self, step: &mut Step<'_>, number: u64) {
        let Some(request) = self.requests.get(&number) else { return };
        let (at, id) = (request.at, request.sent.as_ref().map(|sent| sent.id));
        if let Some(server) = self.servers.get_mut(at) {
            match id {
                Some(id) => drop(server.ids.remove(&id)),
                None => server.waiting.retain(|waiting| *waiting != number),
            }
            server.dead_until = step.now.after_s(self.patience.deadtime_s);
            say_silent(step, server, "it does not answer");
            // The next attempt looks its name up again.
            if server.ids.is_empty() && server.waiting.is_empty() && server.phase != Phase::Closed {
                server.phase = Phase::Closed;
                step.wants.push(Want::Close(at));
            }
        }
        self.try_next(step, number, "no server answers");
        self.pump_open(step, at);
    }

    fn pump_open(&mut self, step: &mut Step<'_>, at: usize) {
        if self.servers.get(at).is_some_and(|server| server.phase == Phase::Open) {
            self.pump(step, at);
        }
    }

    /// The socket of a server is gone, with all that was under way.
    fn lost(&mut self, step: &mut Step<'_>, at: usize, why: &str) {
        let Some(server) = self.servers.get_mut(at) else { return };
        server.phase = Phase::Closed;
        server.dead_until = step.now.after_s(self.patience.deadtime_s);
        let numbers = std::mem::take(&mut server.ids).into_values();
        let numbers: Vec<u64> = numbers.chain(std::mem::take(&mut server.waiting)).collect();
        say_silent(step, server, why);
        for number in numbers {
            if self.requests.get(&number).is_some_and(|request| request.at == at) {
                self.try_next(step, number, "no server answers");
            }
        }
    }
}

fn say_silent(step: &mut Step<'_>, server: &mut Server, why: &str) {
    if !std::mem::replace(&mut server.is_silent, true) {
        step.wants.push(Want::Log(true, format!("the server {}: {why}", name(&server.spec))));
    }
}

fn name(spec: &Spec) -> String {
    match spec.host.contains(':') {
        true => format!("[{}]:{}", spec.host, spec.port),
        false => format!("{}:{}", spec.host, spec.port),
    }
}

#[cfg(test)]
mod tests;
