//! A phone: registers, refreshes at this node or that, moves, leaves, calls and is called.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use tandem_clock::{Chance, MS, Mono, SEC};
use tandem_sip::Message;

use super::call::Calls;
use super::client::{Client, Fired};
use super::message::{DOMAIN, Request, text};
use super::watch::Watching;
use super::{Act, CALL_ID_END, Completed, Registered};
use crate::options::{Dice, Options};

/// A phone and its transactions.
#[derive(Debug)]
pub(crate) struct Phone {
    pub(crate) id: u32,
    pub(crate) user: String,
    /// Where packets come from and go to, as the network sees it.
    pub(crate) public: SocketAddr,
    is_nated: bool,
    /// Port of the contact; a new one each time the phone moves.
    port: u16,
    pub(crate) nodes: Vec<SocketAddr>,
    /// The node it uses.
    pub(crate) home: usize,
    pub(crate) chance: Chance,
    pub(crate) habits: Habits,
    /// Does nothing new of its own accord except refreshing.
    pub(crate) is_resting: bool,
    register: Register,
    pub(crate) clients: BTreeMap<String, Client>,
    timers: BTreeMap<u64, Timer>,
    next: u64,
    pub(crate) calls: Calls,
    pub(crate) watching: Watching,
    pub(crate) acts: Vec<Act>,
}

/// How often a phone does what.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    other_node: f64,
    unregister: f64,
    change_contact: f64,
    pub(crate) call_per_s: f64,
    pub(crate) endless: f64,
    pub(crate) publish_per_s: f64,
    pub(crate) lamps: bool,
    pub(crate) phones: u32,
}

#[derive(Debug)]
struct Register {
    call_id: String,
    tag: String,
    cseq: u32,
    /// The branch of the REGISTER under way, and what it asks for.
    open: Option<(String, Wish)>,
    is_registered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Register,
    Leave {
        /// Register again under another contact afterwards.
        moves: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Timer {
    Client(String),
    Register,
    Refresh,
    Dial,
    /// A called phone is answered.
    Answer(String),
    /// A 200 waits for its ACK.
    Resend(String),
    HangUp(String),
    Publish,
    Subscribe,
}

impl Phone {
    pub(crate) fn new(
        id: u32,
        nodes: Vec<SocketAddr>,
        options: &Options,
        mut chance: Chance,
    ) -> Self {
        let is_nated = chance.happens(options.nat);
        let home = if chance.happens(options.other_node) { chance.pick(nodes.len()) } else { 0 };
        let register = Register::new(id, &mut chance);
        let host = Ipv4Addr::new(198, 51, 100, (id % 250) as u8 + 1);
        Self {
            id,
            user: format!("phone{id}"),
            public: SocketAddr::new(IpAddr::V4(host), if is_nated { 31_000 } else { 5_060 }),
            is_nated,
            port: 5_060,
            nodes,
            home,
            chance,
            habits: Habits {
                other_node: options.other_node,
                unregister: options.unregister,
                change_contact: options.change_contact,
                call_per_s: options.call_per_s,
                endless: options.endless,
                publish_per_s: options.publish_per_s,
                lamps: options.lamps,
                phones: options.phones,
            },
            is_resting: false,
            register,
            clients: BTreeMap::new(),
            timers: BTreeMap::new(),
            next: 0,
            calls: Calls::default(),
            watching: Watching::new(id),
            acts: Vec::new(),
        }
    }

    /// Takes what the phone wants since the last call.
    pub(crate) fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    /// The phone is switched on; it registers and calls at times of its own.
    pub(crate) fn switch_on(&mut self, now: Mono) {
        let first = self.chance.between(0, 6 * SEC);
        self.arm(now + first, Timer::Register);
        self.arm_dial(now);
        self.begin_watching(now);
    }

    pub(crate) fn aor_uri(&self) -> String {
        format!("sip:{}@{DOMAIN}", self.user)
    }

    /// The contact of this moment.
    pub(crate) fn contact(&self) -> String {
        format!("sip:{}@{}", self.user, self.via())
    }

    /// Host and port as the phone itself knows them.
    pub(crate) fn via(&self) -> String {
        match self.is_nated {
            true => format!("192.168.7.{}:{}", self.id % 250 + 1, self.port),
            false => format!("{}:{}", self.public.ip(), self.port),
        }
    }

    pub(crate) fn home_addr(&self) -> SocketAddr {
        self.nodes.get(self.home).copied().unwrap_or(self.public)
    }

    pub(crate) fn token(&mut self) -> String {
        format!("{:012x}", self.chance.u64() & 0xffff_ffff_ffff)
    }

    pub(crate) fn arm(&mut self, at: Mono, timer: Timer) {
        self.next += 1;
        self.timers.insert(self.next, timer);
        self.acts.push(Act::Timer { at, number: self.next });
    }

    pub(crate) fn send(&mut self, to: SocketAddr, payload: Bytes) {
        self.acts.push(Act::Send { to, payload });
    }

    pub(crate) fn say(&mut self, what: impl Into<String>) {
        self.acts.push(Act::Say(what.into()));
    }

    /// Starts a client transaction.
    pub(crate) fn start(&mut self, now: Mono, branch: String, to: SocketAddr, request: Bytes) {
        let is_invite = request.starts_with(b"INVITE");
        self.send(to, request.clone());
        self.clients.insert(branch.clone(), Client::new(request, to, is_invite, now));
        self.arm(Client::first_wake(now), Timer::Client(branch));
    }

    pub(crate) fn timer(&mut self, now: Mono, number: u64) {
        match self.timers.remove(&number) {
            None => {}
            Some(Timer::Client(branch)) => self.client_timer(now, branch),
            Some(Timer::Register) => self.register_now(now),
            Some(Timer::Refresh) => self.refresh(now),
            Some(Timer::Dial) => self.dial_somebody(now),
            Some(Timer::Answer(call_id)) => self.answer(now, &call_id),
            Some(Timer::Resend(call_id)) => self.resend(now, call_id),
            Some(Timer::HangUp(call_id)) => self.hang_up(now, &call_id),
            Some(Timer::Publish) => self.publish(now),
            Some(Timer::Subscribe) => self.subscribe(now),
        }
    }

    fn client_timer(&mut self, now: Mono, branch: String) {
        let Some(client) = self.clients.get_mut(&branch) else { return };
        match client.fire(now) {
            Fired::Again(next) => {
                let (to, request) = (client.to, client.request.clone());
                self.send(to, request);
                self.arm(next, Timer::Client(branch));
            }
            Fired::Wait(at) => self.arm(at, Timer::Client(branch)),
            Fired::TimedOut => {
                self.clients.remove(&branch);
                self.ended(now, &branch, 408, None);
            }
        }
    }

    /// A datagram for the phone.
    pub(crate) fn receive(&mut self, now: Mono, from: SocketAddr, payload: Bytes) {
        let Ok(msg) = Message::parse(payload) else { return };
        if msg.is_request() {
            self.request(now, from, msg);
            return;
        }
        let Some(branch) = msg.top_via().ok().and_then(|v| v.branch.map(text)) else { return };
        let status = msg.status();
        if status < 200 {
            if let Some(client) = self.clients.get_mut(&branch) {
                client.provisional(now);
            }
            return;
        }
        if self.clients.remove(&branch).is_some() {
            self.ended(now, &branch, status, Some(&msg));
        } else {
            self.stray_reply(now, &msg);
        }
    }

    /// A transaction has its final reply, or none in time (408).
    fn ended(&mut self, now: Mono, branch: &str, status: u16, reply: Option<&Message>) {
        match self.register.open.take() {
            Some((open, wish)) if open == branch => self.registered(now, wish, status, reply),
            other => {
                self.register.open = other;
                if !self.watch_replied(now, branch, status, reply) {
                    self.call_replied(now, branch, status, reply);
                }
            }
        }
    }

    /// Registers or refreshes at once, unless a REGISTER is under way.
    pub(crate) fn register_now(&mut self, now: Mono) {
        self.send_register(now, Wish::Register);
    }

    fn refresh(&mut self, now: Mono) {
        if self.chance.happens(self.habits.other_node) {
            self.home = self.chance.pick(self.nodes.len());
        }
        let leaves = self.chance.happens(self.habits.unregister);
        let moves = self.chance.happens(self.habits.change_contact);
        match self.register.is_registered && !self.is_resting && (leaves || moves) {
            true => self.send_register(now, Wish::Leave { moves: !leaves }),
            false => self.send_register(now, Wish::Register),
        }
    }

    fn send_register(&mut self, now: Mono, wish: Wish) {
        if self.register.open.is_some() {
            return;
        }
        self.register.cseq += 1;
        let branch = format!("z9hG4bK{}", self.token());
        let expires_s = match wish {
            Wish::Register => [90, 180, 300, 600][self.chance.pick(4)],
            Wish::Leave { .. } => 0,
        };
        let request = Request {
            method: "REGISTER",
            uri: format!("sip:{DOMAIN}"),
            via: self.via(),
            branch: branch.clone(),
            from: (self.aor_uri(), self.register.tag.clone()),
            to: (self.aor_uri(), None),
            call_id: self.register.call_id.clone(),
            cseq: self.register.cseq,
            contact: Some(self.contact()),
            expires_s: Some(expires_s),
            ..Request::default()
        };
        if wish != Wish::Register {
            let (aor, contact) = (self.user.clone(), self.contact());
            self.acts.push(Act::Leaving { aor, contact });
        }
        self.register.open = Some((branch.clone(), wish));
        self.start(now, branch, self.home_addr(), request.bytes());
    }

    fn registered(&mut self, now: Mono, wish: Wish, status: u16, reply: Option<&Message>) {
        if !(200..300).contains(&status) {
            self.say(format!("REGISTER failed with {status}, tries another node"));
            self.acts.push(Act::Completed(Completed::Failure));
            self.home = (self.home + 1) % self.nodes.len().max(1);
            let soon = now + self.chance.between(SEC / 2, 2 * SEC);
            self.arm(soon, Timer::Register);
            return;
        }
        match wish {
            Wish::Register => self.acknowledged(now, reply),
            Wish::Leave { moves } => {
                self.register.is_registered = false;
                self.say(if moves { "has left; moves" } else { "has left" });
                let pause = if moves { SEC / 10 } else { self.chance.between(SEC, 8 * SEC) };
                if moves {
                    self.port = self.port.wrapping_add(2).max(1_024);
                    let public_port = self.public.port().wrapping_add(2).max(1_024);
                    self.public.set_port(public_port);
                    self.register = Register::new(self.id, &mut self.chance);
                }
                self.arm(now + pause, Timer::Register);
            }
        }
    }

    /// A 200 to a REGISTER says what is registered: the contact has to be among it.
    fn acknowledged(&mut self, now: Mono, reply: Option<&Message>) {
        let contact = self.contact();
        let listed = reply.and_then(|r| r.contact_list().ok()).and_then(|list| {
            let own = list.contacts().iter().find(|c| c.uri() == contact.as_bytes())?;
            own.expires().ok().flatten()
        });
        let Some(granted_s) = listed.map(u64::from) else {
            self.acts.push(Act::Nonsense(format!("200 to REGISTER does not list {contact}")));
            return;
        };
        self.register.is_registered = true;
        self.say(format!("is registered as {contact} for {granted_s} s"));
        self.acts.push(Act::Completed(Completed::Registration));
        self.acts.push(Act::Acknowledged(Registered {
            aor: self.user.clone(),
            contact,
            call_id: self.register.call_id.clone(),
            cseq: self.register.cseq,
            granted_s,
        }));
        let earliest = if self.is_resting { granted_s * SEC / 2 } else { 3 * SEC };
        let refresh =
            self.chance.between(earliest, (granted_s * SEC / 2).min(20 * SEC).max(earliest));
        self.arm(now + refresh + MS, Timer::Refresh);
    }
}

impl Register {
    fn new(phone: u32, chance: &mut Chance) -> Self {
        Self {
            call_id: format!("reg-{phone}-{:08x}{CALL_ID_END}", chance.u32()),
            tag: format!("{:08x}", chance.u32()),
            cseq: chance.below(1_000),
            open: None,
            is_registered: false,
        }
    }
}
