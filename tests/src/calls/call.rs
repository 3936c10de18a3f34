//! One call, with both of its phones.

use std::net::SocketAddr;
use std::time::Instant;

use super::text::{self, End};
use super::{GIVE_UP, Plan, RINGING, Repeated};
use crate::message::{Message, uri_of};

/// What is to be sent.
pub(super) type Out = Vec<(String, SocketAddr)>;

#[derive(Debug)]
pub(super) struct Call {
    n: u32,
    /// The caller's request that waits for an answer.
    asked: Option<Repeated>,
    invite: String,
    /// The callee's 200, until the ACK has come.
    accepted: Option<Repeated>,
    /// The BYE, and whose it is does not matter.
    bye: Option<Repeated>,
    caller: End,
    callee: End,
    /// The caller has the 200.
    pub(super) answered: Option<Instant>,
    /// The callee has the ACK.
    pub(super) confirmed: bool,
    pub(super) over: Option<Instant>,
    /// The code that ended it: 200 to the BYE, or what went wrong.
    pub(super) ended: u16,
}

impl Call {
    pub(super) fn place(plan: &Plan, n: u32, at: Instant) -> Self {
        let invite = text::invite(plan, n);
        Self {
            n,
            asked: Some(Repeated::new(invite.clone(), plan.service, at)),
            invite,
            accepted: None,
            bye: None,
            caller: End::default(),
            callee: End::default(),
            answered: None,
            confirmed: false,
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

    fn end(&mut self, code: u16, at: Instant) {
        self.over.get_or_insert(at);
        self.ended = code;
        (self.asked, self.accepted, self.bye) = (None, None, None);
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
        out.extend(self.caller.next_hop().map(|to| (ack, to)));
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
        match request.method().unwrap_or_default() {
            "INVITE" if request.header("To").is_some_and(|to| !to.contains(";tag=")) => {
                self.is_called(plan, request, from, at, out);
            }
            "ACK" => {
                self.confirmed = true;
                self.accepted = None;
            }
            "BYE" => {
                out.push((text::answer(request, "200 OK", "", ""), from));
            }
            "INVITE" => {
                let extra = accepts(plan);
                out.push((text::answer(request, "200 OK", "", &extra), from));
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
            out.push((text::answer(invite, "180 Ringing", &tag, ""), from));
            self.accepted = Some(Repeated::new(ok.clone(), from, at));
        }
        if !self.confirmed {
            out.push((ok, from));
        }
    }

    /// Repeats, hangs up, gives up.
    pub(super) fn tick(&mut self, plan: &Plan, at: Instant, out: &mut Out) {
        if self.asked.as_ref().is_some_and(|asked| asked.is_over(at)) {
            return self.end(408, at);
        }
        if self.bye.as_ref().is_some_and(|bye| bye.is_over(at)) {
            return self.end(408, at);
        }
        let all = [&mut self.asked, &mut self.accepted, &mut self.bye];
        for repeated in all.into_iter().flatten() {
            if repeated.is_due(at) {
                out.push((repeated.text.clone(), repeated.to));
            }
        }
        let held = self.answered.is_some_and(|since| at - since >= plan.hold);
        // A callee hangs up when it knows that it is heard.
        let callee = self.n % 2 == 1 && self.confirmed;
        let late = self.answered.is_some_and(|since| at - since >= plan.hold + GIVE_UP);
        if held && self.bye.is_none() && (self.n.is_multiple_of(2) || callee || late) {
            let (end, cseq) = if callee { (&self.callee, 100) } else { (&self.caller, 2) };
            let bye = end.request(plan, self.n, "BYE", cseq);
            let Some(to) = end.next_hop() else { return self.end(500, at) };
            out.push((bye.clone(), to));
            self.bye = Some(Repeated::new(bye, to, at));
        }
    }
}

fn accepts(plan: &Plan) -> String {
    let body = text::session(plan.at);
    format!("Contact: <sip:b@{}>\r\nContent-Type: application/sdp\r\n\r\n{body}", plan.at)
}
