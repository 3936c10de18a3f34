//! One call, with both of its phones.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::manner::Manner;
use super::text::{self, End};
use super::{GIVE_UP, Plan, RINGING, Repeated};
use crate::message::{Message, uri_of};

/// What is to be sent.
pub(super) type Out = Vec<(String, SocketAddr)>;

/// CSeq of the caller's second INVITE, of its BYE, and of the callee's BYE.
const AGAIN: u32 = 2;
const CALLER_BYE: u32 = 3;
const CALLEE_BYE: u32 = 100;

#[derive(Debug)]
pub(super) struct Call {
    n: u32,
    manner: Manner,
    /// The caller's request that waits for an answer.
    asked: Option<Repeated>,
    invite: String,
    /// The callee's 200, when it picks up.
    rings: Option<(Instant, String, SocketAddr)>,
    /// The callee's 200, until the ACK has come.
    accepted: Option<Repeated>,
    /// The caller's second INVITE.
    again: Option<Repeated>,
    /// The BYE, and whose it is does not matter.
    bye: Option<Repeated>,
    /// What an end says when it has thought.
    later: Vec<(Instant, String, SocketAddr)>,
    caller: End,
    callee: End,
    /// The INVITE was sent.
    pub(super) placed: Instant,
    /// The callee has said 200 for the first time.
    pub(super) picked_up: Option<Instant>,
    /// The caller has the 200.
    pub(super) answered: Option<Instant>,
    /// The callee has the ACK.
    pub(super) confirmed: Option<Instant>,
    /// The second INVITE was sent, and was answered.
    pub(super) asked_again: Option<Instant>,
    pub(super) agreed: Option<Instant>,
    /// The BYE was sent.
    pub(super) hung_up: Option<Instant>,
    pub(super) over: Option<Instant>,
    /// The code that ended it: 200 to the BYE, or what went wrong.
    pub(super) ended: u16,
}

impl Call {
    pub(super) fn place(plan: &Plan, n: u32, at: Instant) -> Self {
        let invite = text::invite(plan, n);
        Self {
            n,
            manner: Manner::of(plan, n),
            asked: Some(Repeated::new(invite.clone(), plan.service, at)),
            invite,
            rings: None,
            accepted: None,
            again: None,
            bye: None,
            later: Vec::new(),
            caller: End::default(),
            callee: End::default(),
            placed: at,
            picked_up: None,
            answered: None,
            confirmed: None,
            asked_again: None,
            agreed: None,
            hung_up: None,
            over: None,
            ended: 0,
        }
    }

    pub(super) fn invite(&self) -> &str {
        &self.invite
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Whether it has anything to say still.
    pub(super) fn is_busy(&self) -> bool {
        !self.is_over() || !self.later.is_empty()
    }

    fn end(&mut self, code: u16, at: Instant) {
        self.over.get_or_insert(at);
        self.ended = code;
        (self.asked, self.accepted, self.again, self.bye) = (None, None, None, None);
    }

    /// A reply to one of the phones.
    pub(super) fn reply(&mut self, plan: &Plan, reply: &Message, at: Instant, out: &mut Out) {
        let code = reply.code().unwrap_or(0);
        match reply.header("CSeq").unwrap_or_default() {
            "1 INVITE" if code < 200 => {
                if let Some(asked) = &mut self.asked {
                    (asked.quiet, asked.patience) = (true, RINGING);
                }
            }
            "1 INVITE" if code < 300 => self.is_answered(plan, reply, at, out),
            "1 INVITE" => {
                out.push((text::ack_failure(&self.invite, reply), plan.service));
                if self.asked.is_some() {
                    self.end(code, at);
                }
            }
            "2 INVITE" if code >= 200 => self.is_agreed(plan, reply, at, out),
            cseq if cseq.ends_with("BYE") && code >= 200 && self.bye.is_some() => {
                self.end(code, at);
            }
            _ => {}
        }
    }

    fn is_answered(&mut self, plan: &Plan, reply: &Message, at: Instant, out: &mut Out) {
        self.asked = None;
        if self.answered.is_none() {
            let first = Message::parse(self.invite.as_bytes());
            let mut routes = reply.all("Record-Route");
            routes.reverse();
            self.caller = End {
                local: first.and_then(|m| Some(m.header("From")?.to_owned())).unwrap_or_default(),
                remote: reply.header("To").unwrap_or_default().to_owned(),
                target: uri_of(reply.header("Contact").unwrap_or_default()).to_owned(),
                routes,
            };
            self.answered = Some(at);
        }
        // Each copy of the 200 is acknowledged.
        let ack = self.caller.request(plan, self.n, "ACK", 1);
        if let Some(to) = self.caller.next_hop() {
            self.say(ack, to, at, self.manner.ack_after, out);
        }
    }

    /// The second INVITE is answered: with a refusal the call goes on as it was.
    fn is_agreed(&mut self, plan: &Plan, reply: &Message, at: Instant, out: &mut Out) {
        let Some(to) = self.caller.next_hop() else { return };
        if reply.code().is_some_and(|code| code < 300) {
            self.agreed.get_or_insert(at);
            out.push((self.caller.request(plan, self.n, "ACK", AGAIN), to));
        } else if let Some(again) = &self.again {
            out.push((text::ack_failure(&again.text, reply), to));
        }
        self.again = None;
    }

    fn say(&mut self, text: String, to: SocketAddr, at: Instant, after: Duration, out: &mut Out) {
        if after.is_zero() { out.push((text, to)) } else { self.later.push((at + after, text, to)) }
    }

    /// A request to one of the phones.
    pub(super) fn request(
        &mut self,
        plan: &Plan,
        request: &Message,
        from: SocketAddr,
        at: Instant,
        out: &mut Out,
    ) {
        let thinks = self.manner.thinks;
        match request.method().unwrap_or_default() {
            "INVITE" if request.header("To").is_some_and(|to| !to.contains(";tag=")) => {
                self.is_called(plan, request, from, at, out);
            }
            "ACK" => {
                self.confirmed.get_or_insert(at);
                self.accepted = None;
            }
            "BYE" => self.say(text::answer(request, "200 OK", "", ""), from, at, thinks, out),
            "INVITE" => {
                let extra = accepts(plan);
                self.say(text::answer(request, "200 OK", "", &extra), from, at, thinks, out);
            }
            _ => out.push((text::answer(request, "200 OK", "x", ""), from)),
        }
    }

    fn is_called(
        &mut self,
        plan: &Plan,
        invite: &Message,
        from: SocketAddr,
        at: Instant,
        out: &mut Out,
    ) {
        let tag = format!("b{}", self.n);
        let ok = text::answer(invite, "200 OK", &tag, &accepts(plan));
        if self.callee.target.is_empty() {
            self.callee = End {
                local: format!("{};tag={tag}", invite.header("To").unwrap_or_default()),
                remote: invite.header("From").unwrap_or_default().to_owned(),
                target: uri_of(invite.header("Contact").unwrap_or_default()).to_owned(),
                routes: invite.all("Record-Route"),
            };
            self.rings = Some((at + self.manner.rings, ok.clone(), from));
        }
        if self.picked_up.is_none() {
            out.push((text::answer(invite, "180 Ringing", &tag, ""), from));
            self.picks_up(at, out);
        } else if self.confirmed.is_none() {
            out.push((ok, from));
        }
    }

    /// The callee picks up, if it has rung for long enough.
    fn picks_up(&mut self, at: Instant, out: &mut Out) {
        if let Some((_, ok, to)) = self.rings.take_if(|(due, ..)| *due <= at) {
            self.accepted = Some(Repeated::new(ok.clone(), to, at));
            self.picked_up = Some(at);
            out.push((ok, to));
        }
    }

    /// Repeats, hangs up, gives up.
    pub(super) fn tick(&mut self, plan: &Plan, at: Instant, out: &mut Out) {
        self.later.retain(|(due, text, to)| {
            let waits = *due > at;
            if !waits {
                out.push((text.clone(), *to));
            }
            waits
        });
        if self.is_over() {
            return;
        }
        self.picks_up(at, out);
        let is_over = |r: &Option<Repeated>| r.as_ref().is_some_and(|r| r.is_over(at));
        if is_over(&self.asked) || is_over(&self.bye) {
            return self.end(408, at);
        }
        let all = [&mut self.asked, &mut self.accepted, &mut self.again, &mut self.bye];
        for repeated in all.into_iter().flatten() {
            if repeated.is_due(at) {
                out.push((repeated.text.clone(), repeated.to));
            }
        }
        self.goes_on(plan, at, out);
    }

    fn goes_on(&mut self, plan: &Plan, at: Instant, out: &mut Out) {
        let Some(since) = self.answered.map(|answered| at - answered) else { return };
        let hold = self.manner.hold;
        if self.manner.asks_again && since >= hold / 2 && self.asked_again.is_none() {
            let again = self.caller.request(plan, self.n, "INVITE", AGAIN);
            let Some(to) = self.caller.next_hop() else { return self.end(500, at) };
            out.push((again.clone(), to));
            self.again = Some(Repeated::new(again, to, at));
            self.asked_again = Some(at);
        }
        // A callee hangs up when it knows that it is heard.
        let callee = self.n % 2 == 1 && self.confirmed.is_some();
        let late = since >= hold + GIVE_UP;
        // Nobody hangs up while both talk about the session.
        let talks = self.again.as_ref().is_some_and(|again| !again.is_over(at));
        let wants = since >= hold && self.bye.is_none() && !talks;
        if wants && (self.n.is_multiple_of(2) || callee || late) {
            let (end, cseq) =
                if callee { (&self.callee, CALLEE_BYE) } else { (&self.caller, CALLER_BYE) };
            let bye = end.request(plan, self.n, "BYE", cseq);
            let Some(to) = end.next_hop() else { return self.end(500, at) };
            out.push((bye.clone(), to));
            self.bye = Some(Repeated::new(bye, to, at));
            self.hung_up = Some(at);
        }
    }
}

fn accepts(plan: &Plan) -> String {
    let body = text::session(plan.at);
    format!("Contact: <sip:b@{}>\r\nContent-Type: application/sdp\r\n\r\n{body}", plan.at)
}
