//! Calls, from both ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::message::{Message, tag_of, uri_of};
use crate::phone::{session, unique, uri_host};
use crate::{PATIENCE, Phone, wait_for};

/// One end of an established call.
#[derive(Debug)]
pub struct Dialog<'p> {
    /// Its Call-ID.
    pub call_id: String,
    phone: &'p Phone,
    /// From and To of this end's requests.
    local: String,
    remote: String,
    target: String,
    routes: Vec<String>,
    cseq: AtomicU32,
}

impl Phone {
    /// Calls `user` through `node`: INVITE, 180, 200, ACK.
    ///
    /// # Panics
    /// If the call is not established that way, or the node did not record a route.
    pub fn call(&self, node: SocketAddr, user: &str) -> Dialog<'_> {
        let call_id = unique("call");
        let host = uri_host(node);
        let local = format!("<sip:{}@{host}>;tag={}", self.user, unique("caller"));
        let body = session(self.shown);
        let invite = format!(
            "INVITE sip:{user}@{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: {local}\r\n\
             To: <sip:{user}@{host}>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:{own}@{at}>\r\nContent-Type: application/sdp\r\n\
             Content-Length: {length}\r\n\r\n{body}",
            via = self.via(),
            own = self.user,
            at = self.shown,
            length = body.len(),
        );
        let answer = self.transact(node, &invite, &call_id, "1 INVITE");
        assert_eq!(answer.code(), Some(200), "{answer:?}");
        let codes: Vec<_> =
            self.replies(&call_id, "1 INVITE").iter().filter_map(Message::code).collect();
        assert!(codes.contains(&180), "no 180 among {codes:?}");
        let dialog = Dialog::of_caller(self, local, &answer, 1);
        assert!(dialog.routes.iter().any(|r| r.contains(&host)), "no route via {node}");
        dialog.send_ack(1);
        dialog
    }

    /// The other end of a call: this phone was called.
    ///
    /// # Panics
    /// If INVITE and ACK have not come, or came without a recorded route.
    #[must_use]
    pub fn answered(&self, call_id: &str) -> Dialog<'_> {
        let first = |method: &str| {
            let what = format!("{method} of {call_id} at {}", self.user);
            wait_for(&what, PATIENCE, || self.requests(method, call_id).into_iter().next())
        };
        let (invite, ack) = (first("INVITE"), first("ACK"));
        let routes = invite.all("Record-Route");
        assert!(!routes.is_empty(), "no Record-Route in {invite:?}");
        Dialog {
            call_id: call_id.to_owned(),
            phone: self,
            local: ack.want("To").to_owned(),
            remote: invite.want("From").to_owned(),
            target: uri_of(invite.want("Contact")).to_owned(),
            routes,
            cseq: AtomicU32::new(100),
        }
    }
}

impl<'p> Dialog<'p> {
    /// The caller's end after this answer to its INVITE with the number `cseq`.
    pub(crate) fn of_caller(phone: &'p Phone, local: String, answer: &Message, cseq: u32) -> Self {
        let mut routes = answer.all("Record-Route");
        routes.reverse();
        Self {
            call_id: answer.want("Call-ID").to_owned(),
            phone,
            local,
            remote: answer.want("To").to_owned(),
            target: uri_of(answer.want("Contact")).to_owned(),
            routes,
            cseq: AtomicU32::new(cseq),
        }
    }

    /// The same call, after the address that it was set up through has moved to another node.
    #[must_use]
    pub fn moved(mut self, from: SocketAddr, to: SocketAddr) -> Self {
        let (from, to) = (uri_host(from), uri_host(to));
        for route in &mut self.routes {
            *route = route.replace(&from, &to);
        }
        self
    }

    /// Sends a request within the dialog and gives back its final reply.
    pub fn request(&self, method: &str) -> Message {
        let cseq = self.cseq.fetch_add(1, Ordering::Relaxed) + 1;
        let text = self.text(method, cseq);
        self.phone.transact(self.next_hop(), &text, &self.call_id, &format!("{cseq} {method}"))
    }

    /// The same by way of another node than the one that is in the route.
    pub fn request_via(&self, node: SocketAddr, method: &str) -> Message {
        let cseq = self.cseq.fetch_add(1, Ordering::Relaxed) + 1;
        let text = self.text(method, cseq);
        self.phone.transact(node, &text, &self.call_id, &format!("{cseq} {method}"))
    }

    /// Ends the call.
    ///
    /// # Panics
    /// If the BYE is not answered with 200.
    pub fn hang_up(self) {
        let reply = self.request("BYE");
        assert_eq!(reply.code(), Some(200), "{reply:?}");
        assert!(tag_of(reply.want("To")).is_some());
    }

    pub(crate) fn send_ack(&self, cseq: u32) {
        self.phone.send(self.next_hop(), self.text("ACK", cseq).as_bytes());
    }

    fn text(&self, method: &str, cseq: u32) -> String {
        let routes: String = self.routes.iter().map(|r| format!("Route: {r}\r\n")).collect();
        format!(
            "{method} {target} SIP/2.0\r\n{via}{routes}Max-Forwards: 70\r\nFrom: {local}\r\n\
             To: {remote}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:{user}@{at}>\r\nContent-Length: 0\r\n\r\n",
            target = self.target,
            via = self.phone.via(),
            local = self.local,
            remote = self.remote,
            call_id = self.call_id,
            user = self.phone.user,
            at = self.phone.shown,
        )
    }

    /// Where a request of this end goes first.
    fn next_hop(&self) -> SocketAddr {
        let uri = self.routes.first().map_or(self.target.as_str(), |r| uri_of(r));
        let rest = uri.trim_start_matches("sip:");
        let rest = rest.rsplit('@').next().unwrap_or(rest);
        let host = rest.split(';').next().unwrap_or(rest);
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:5060") };
        with_port.parse().unwrap_or_else(|e| panic!("no address in {uri}: {e}"))
    }
}
