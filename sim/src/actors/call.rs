//! Calls of a phone: INVITE, 180, 200, ACK, BYE (RFC 3261 12 to 15).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use tandem_clock::{MS, Mono, SEC};
use tandem_sip::{Message, Method};

use super::client::Resend;
use super::message::{Request, address, contact_uri, record_routes, reply, text};
use super::phone::{Phone, Timer};
use super::{Act, CALL_ID_END, Completed, Step};
use crate::options::Dice;

/// The calls of a phone, by Call-ID.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    dialogs: BTreeMap<String, Dialog>,
    /// Branch of an INVITE or BYE under way: its call.
    branches: BTreeMap<String, (String, bool)>,
}

/// One side of a call.
#[derive(Debug)]
struct Dialog {
    local: (String, String),
    remote: (String, Option<String>),
    target: String,
    routes: Vec<String>,
    cseq: u32,
    state: State,
    /// The side that was called: its INVITE, where it came from and the last reply to it.
    called: Option<(Message, SocketAddr, Bytes)>,
    resend: Option<Resend>,
    /// The ACK of the calling side, for a 200 that comes again.
    ack: Option<(SocketAddr, Bytes)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Early,
    Confirmed,
    Ended,
}

/// Calls that one phone remembers; the oldest is forgotten.
const CALLS_MAX: usize = 64;

impl Phone {
    pub(crate) fn arm_dial(&mut self, now: Mono) {
        if self.habits.call_per_s > 0.0 {
            let mean_ms = (1_000.0 / self.habits.call_per_s) as u64;
            let wait = self.chance.between(mean_ms / 2, mean_ms * 3 / 2) * MS;
            self.arm(now + wait, Timer::Dial);
        }
    }

    pub(crate) fn dial_somebody(&mut self, now: Mono) {
        if self.is_resting {
            return;
        }
        let other = 1
            + (self.id + self.chance.below(self.habits.phones.max(2) - 1))
                % self.habits.phones.max(1);
        if other != self.id {
            self.dial(now, other);
        }
        self.arm_dial(now);
    }

    /// Calls a phone through the node it uses.
    pub(crate) fn dial(&mut self, now: Mono, other: u32) {
        let branch = format!("z9hG4bK{}", self.token());
        let token = self.token();
        let call_id = format!("call-{}-{token}{CALL_ID_END}", self.id);
        let remote = format!("sip:phone{other}@{}", super::message::DOMAIN);
        let local = (self.aor_uri(), self.token());
        let request = Request {
            method: "INVITE",
            uri: remote.clone(),
            via: self.via(),
            branch: branch.clone(),
            from: local.clone(),
            to: (remote.clone(), None),
            call_id: call_id.clone(),
            cseq: 1,
            contact: Some(self.contact()),
            ..Request::default()
        };
        let dialog = Dialog::new(local, (remote.clone(), None), remote, Vec::new());
        self.remember(call_id.clone(), dialog);
        self.calls.branches.insert(branch.clone(), (call_id.clone(), true));
        self.step(&call_id, Step::Begins);
        self.say(format!("calls phone{other}"));
        self.start(now, branch, self.home_addr(), request.bytes());
    }

    fn remember(&mut self, call_id: String, dialog: Dialog) {
        while self.calls.dialogs.len() >= CALLS_MAX {
            self.calls.dialogs.pop_first();
        }
        self.calls.dialogs.insert(call_id, dialog);
    }

    /// The INVITE or BYE of a call has its final reply.
    pub(crate) fn call_replied(
        &mut self,
        now: Mono,
        branch: &str,
        status: u16,
        reply: Option<&Message>,
    ) {
        let Some((call_id, is_invite)) = self.calls.branches.remove(branch) else { return };
        let failed = !(200..300).contains(&status);
        if !is_invite {
            let done = if failed { Completed::Failure } else { Completed::Call };
            self.say(if failed { format!("BYE failed with {status}") } else { "hung up".into() });
            self.step(&call_id, if failed { Step::IsLeft } else { Step::IsEnded });
            self.acts.push(Act::Completed(done));
            return;
        }
        if failed {
            self.calls.dialogs.remove(&call_id);
            self.acts.push(Act::Completed(Completed::Failure));
            self.say(format!("call failed with {status}"));
            if let Some(reply) = reply {
                self.ack_failure(branch, reply);
            }
            return;
        }
        if let Some(reply) = reply {
            self.established(now, &call_id, reply);
        }
    }

    /// ACK of a failure: same branch, sent where the INVITE went (RFC 3261 17.1.1.3).
    fn ack_failure(&mut self, branch: &str, reply: &Message) {
        let (Ok(to), Ok(from), Ok(cseq)) = (reply.to(), reply.from(), reply.cseq()) else { return };
        let request = Request {
            method: "ACK",
            uri: text(to.uri),
            via: self.via(),
            branch: branch.to_owned(),
            from: (text(from.uri), text(from.tag().unwrap_or_default())),
            to: (text(to.uri), to.tag().map(text)),
            call_id: text(reply.call_id().unwrap_or_default()),
            cseq: cseq.number,
            ..Request::default()
        };
        self.send(self.home_addr(), request.bytes());
    }

    fn established(&mut self, now: Mono, call_id: &str, reply: &Message) {
        let branch = format!("z9hG4bK{}", self.token());
        let (via, home) = (self.via(), self.home_addr());
        let Some(dialog) = self.calls.dialogs.get_mut(call_id) else { return };
        dialog.remote.1 = reply.to_tag().map(text);
        dialog.target = contact_uri(reply).unwrap_or_else(|| dialog.target.clone());
        dialog.routes = record_routes(reply);
        dialog.routes.reverse();
        dialog.state = State::Confirmed;
        let ack = dialog.request("ACK", 1, via, branch, call_id);
        let to = dialog.next_hop().unwrap_or(home);
        dialog.ack = Some((to, ack.clone()));
        self.say("call is up");
        self.step(call_id, Step::IsAnswered);
        self.send(to, ack);
        self.plan_end(now, call_id);
    }

    /// Either side may be the one that hangs up first.
    fn plan_end(&mut self, now: Mono, call_id: &str) {
        // Both sides draw the same lot.
        let lot = call_id.bytes().fold(7u64, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
        if (lot % 1000) as f64 / 1000.0 < self.habits.endless {
            return;
        }
        let talk = self.chance.between(SEC, 8 * SEC);
        self.arm(now + talk, Timer::HangUp(call_id.to_owned()));
    }

    pub(crate) fn hang_up(&mut self, now: Mono, call_id: &str) {
        let branch = format!("z9hG4bK{}", self.token());
        let via = self.via();
        let Some(dialog) = self.calls.dialogs.get_mut(call_id) else { return };
        if dialog.state != State::Confirmed {
            return;
        }
        dialog.state = State::Ended;
        dialog.cseq += 1;
        let bye = dialog.request("BYE", dialog.cseq, via, branch.clone(), call_id);
        let Some(to) = dialog.next_hop() else { return };
        self.calls.branches.insert(branch.clone(), (call_id.to_owned(), false));
        self.step(call_id, Step::Ends);
        self.start(now, branch, to, bye);
    }

    /// A 200 to INVITE that comes again is acknowledged again (RFC 3261 13.2.2.4).
    pub(crate) fn stray_reply(&mut self, _now: Mono, msg: &Message) {
        let is_invite = msg.cseq().is_ok_and(|c| c.method == Method::Invite);
        if !is_invite || !(200..300).contains(&msg.status()) {
            return;
        }
        let call_id = text(msg.call_id().unwrap_or_default());
        let ack = self.calls.dialogs.get(&call_id).and_then(|d| d.ack.clone());
        if let Some((to, ack)) = ack {
            self.send(to, ack);
        }
    }

    pub(crate) fn request(&mut self, now: Mono, from: SocketAddr, msg: Message) {
        match msg.method() {
            Method::Invite => self.invited(now, from, msg),
            Method::Ack => {
                let call_id = text(msg.call_id().unwrap_or_default());
                if let Some(dialog) = self.calls.dialogs.get_mut(&call_id) {
                    dialog.resend = None;
                }
            }
            Method::Bye => self.bye(from, &msg),
            Method::Notify => self.notified(now, from, &msg),
            _ => {
                let tag = self.token();
                self.send(from, reply(&msg, 200, "OK", &tag, None));
            }
        }
    }

    fn invited(&mut self, now: Mono, from: SocketAddr, msg: Message) {
        let call_id = text(msg.call_id().unwrap_or_default());
        if let Some(dialog) = self.calls.dialogs.get(&call_id) {
            // A retransmission: the last reply again.
            if let Some((_, to, last)) = dialog.called.clone() {
                self.send(to, last);
            }
            return;
        }
        let (Ok(caller), Ok(called)) = (msg.from(), msg.to()) else { return };
        let remote = (text(caller.uri), caller.tag().map(text));
        let local = (text(called.uri), self.token());
        let target = contact_uri(&msg).unwrap_or_else(|| remote.0.clone());
        let ringing = reply(&msg, 180, "Ringing", &local.1, Some(&format!("<{}>", self.contact())));
        let mut dialog = Dialog::new(local, remote, target, record_routes(&msg));
        dialog.called = Some((msg, from, ringing.clone()));
        self.remember(call_id.clone(), dialog);
        self.say("rings");
        self.send(from, ringing);
        let answered = now + self.chance.between(SEC / 5, 3 * SEC);
        self.arm(answered, Timer::Answer(call_id));
    }

    pub(crate) fn answer(&mut self, now: Mono, call_id: &str) {
        let contact = format!("<{}>", self.contact());
        let Some(dialog) = self.calls.dialogs.get_mut(call_id) else { return };
        let tag = dialog.local.1.clone();
        let Some((invite, to, last)) = &mut dialog.called else { return };
        *last = reply(invite, 200, "OK", &tag, Some(&contact));
        let (to, ok) = (*to, last.clone());
        dialog.state = State::Confirmed;
        dialog.resend = Some(Resend::new(now));
        self.step(call_id, Step::Accepts);
        self.send(to, ok);
        self.arm(Resend::first_wake(now), Timer::Resend(call_id.to_owned()));
        if self.chance.happens(0.5) {
            self.plan_end(now, call_id);
        }
    }

    pub(crate) fn resend(&mut self, now: Mono, call_id: String) {
        let Some(dialog) = self.calls.dialogs.get_mut(&call_id) else { return };
        let next = dialog.resend.as_mut().map(|r| r.fire(now));
        match (next, &dialog.called) {
            (Some(Some(at)), Some((_, to, last))) => {
                let (to, last) = (*to, last.clone());
                self.send(to, last);
                self.arm(at, Timer::Resend(call_id));
            }
            (Some(None), _) => dialog.resend = None,
            _ => {}
        }
    }

    fn step(&mut self, call_id: &str, step: Step) {
        self.acts.push(Act::Call { call_id: call_id.to_owned(), step });
    }

    fn bye(&mut self, from: SocketAddr, msg: &Message) {
        let call_id = text(msg.call_id().unwrap_or_default());
        let tag = self.token();
        let known = self.calls.dialogs.get_mut(&call_id).map(|dialog| {
            dialog.state = State::Ended;
            dialog.resend = None;
        });
        match known {
            Some(()) => {
                self.step(&call_id, Step::Ends);
                self.step(&call_id, Step::IsEnded);
                self.send(from, reply(msg, 200, "OK", &tag, None));
            }
            None => self.send(from, reply(msg, 481, "Call Does Not Exist", &tag, None)),
        }
    }
}

impl Dialog {
    fn new(
        local: (String, String),
        remote: (String, Option<String>),
        target: String,
        routes: Vec<String>,
    ) -> Self {
        Self {
            local,
            remote,
            target,
            routes,
            cseq: 1,
            state: State::Early,
            called: None,
            resend: None,
            ack: None,
        }
    }

    /// The first route, else the target itself.
    fn next_hop(&self) -> Option<SocketAddr> {
        address(self.routes.first().unwrap_or(&self.target))
    }

    fn request(
        &self,
        method: &str,
        cseq: u32,
        via: String,
        branch: String,
        call_id: &str,
    ) -> Bytes {
        Request {
            method,
            uri: self.target.clone(),
            via,
            branch,
            routes: &self.routes,
            from: self.local.clone(),
            to: self.remote.clone(),
            call_id: call_id.to_owned(),
            cseq,
            ..Request::default()
        }
        .bytes()
    }
}
