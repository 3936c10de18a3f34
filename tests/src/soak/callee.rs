//! Those who are called: each behaves as its name says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::calls::Plan;
use crate::calls::text::{End, answer, number_of, session};
use crate::message::{Message, uri_of};

/// What is to be sent.
pub(super) type Out = Vec<(String, SocketAddr)>;

/// What the phones that are called remember.
#[derive(Debug, Default)]
pub(super) struct Callees {
    /// INVITEs that ring, by the branch of their Via.
    ringing: HashMap<String, (Instant, Message)>,
    /// Calls whose callee hangs up when he hears the ACK.
    hangups: HashMap<u32, (Instant, End)>,
    forgot: Option<Instant>,
}

/// Longer than any timer of the node's script.
const FORGET: Duration = Duration::from_secs(10);
/// CSeq of a callee's BYE.
const BYE: u32 = 100;

impl Callees {
    /// A request of the node; whether a phone has sent a request of its own.
    pub(super) fn hear(
        &mut self,
        plan: &Plan,
        request: &Message,
        from: SocketAddr,
        at: Instant,
        out: &mut Out,
    ) -> bool {
        let uri = request.start.split(' ').nth(1).unwrap_or_default();
        let user = uri.trim_start_matches("sip:").split('@').next().unwrap_or_default();
        let begins = request.header("To").is_some_and(|to| !to.contains(";tag="));
        match (request.method().unwrap_or_default(), user) {
            ("INVITE", _) if begins => self.is_called(plan, request, user, (from, at), out),
            ("INVITE", _) => out.push((answer(request, "200 OK", "", &accepts(plan, user)), from)),
            ("ACK", "hangup") => return self.hang_up(plan, request, out),
            ("ACK", _) | (_, "silent" | "gone") | ("CANCEL", "deaf") => {}
            ("CANCEL", _) => self.is_cancelled(plan, request, user, from, out),
            _ => out.push((answer(request, "200 OK", "x", ""), from)),
        }
        false
    }

    /// Forgets what is long over.
    pub(super) fn tick(&mut self, at: Instant) {
        if self.forgot.is_some_and(|last| at - last < Duration::from_secs(1)) {
            return;
        }
        self.forgot = Some(at);
        self.ringing.retain(|_, (since, _)| at - *since < FORGET);
        self.hangups.retain(|_, (since, _)| at - *since < FORGET);
    }

    fn is_called(
        &mut self,
        plan: &Plan,
        invite: &Message,
        user: &str,
        (from, at): (SocketAddr, Instant),
        out: &mut Out,
    ) {
        let tag = format!("b-{user}");
        let mut say = |status: &str, extra: &str| {
            out.push((answer(invite, status, &tag, extra), from));
        };
        match user {
            "silent" => {}
            "busy" | "again" => say("486 Busy Here", ""),
            "ring" | "ring2" | "deaf" | "late" => {
                say("180 Ringing", "");
                self.ringing.insert(branch(invite), (at, invite.clone()));
            }
            _ => {
                say("180 Ringing", "");
                say("200 OK", &accepts(plan, user));
            }
        }
        let number = invite.header("Call-ID").and_then(|id| number_of(plan, id));
        if let ("hangup", Some(n)) = (user, number) {
            let end = End {
                local: format!("{};tag={tag}", invite.header("To").unwrap_or_default()),
                remote: invite.header("From").unwrap_or_default().to_owned(),
                target: uri_of(invite.header("Contact").unwrap_or_default()).to_owned(),
                routes: invite.all("Record-Route"),
            };
            self.hangups.insert(n, (at, end));
        }
    }

    fn is_cancelled(
        &mut self,
        plan: &Plan,
        cancel: &Message,
        user: &str,
        from: SocketAddr,
        out: &mut Out,
    ) {
        let tag = format!("b-{user}");
        out.push((answer(cancel, "200 OK", &tag, ""), from));
        let Some((_, invite)) = self.ringing.remove(&branch(cancel)) else { return };
        let (status, extra) = match user {
            // He has picked up when the CANCEL comes.
            "late" => ("200 OK", accepts(plan, user)),
            _ => ("487 Request Terminated", String::new()),
        };
        out.push((answer(&invite, status, &tag, &extra), from));
    }

    fn hang_up(&mut self, plan: &Plan, ack: &Message, out: &mut Out) -> bool {
        let number = ack.header("Call-ID").and_then(|id| number_of(plan, id));
        let Some((n, (_, end))) = number.and_then(|n| Some((n, self.hangups.remove(&n)?))) else {
            return false;
        };
        let Some(to) = end.next_hop() else { return false };
        out.push((end.request(plan, n, "BYE", BYE), to));
        true
    }
}

fn branch(request: &Message) -> String {
    let via = request.header("Via").unwrap_or_default();
    let branch = via.split(';').find_map(|p| p.trim().strip_prefix("branch="));
    branch.unwrap_or_default().to_owned()
}

fn accepts(plan: &Plan, user: &str) -> String {
    let body = session(plan.at);
    format!("Contact: <sip:{user}@{}>\r\nContent-Type: application/sdp\r\n\r\n{body}", plan.at)
}
