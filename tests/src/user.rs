//! A person with an account: a phone that proves who it is, calls, publishes and watches.

use std::net::SocketAddr;

use crate::calls::ack_failure;
use crate::digest;
use crate::message::{Message, tag_of, uri_of};
use crate::phone::{session, unique};
use crate::{Dialog, PATIENCE, Phone, wait_for};

/// Somebody at a domain.
#[derive(Debug)]
pub struct User {
    /// Where messages come and go.
    pub phone: Phone,
    domain: String,
    password: String,
}

/// What somebody watches.
#[derive(Debug)]
pub struct Subscription {
    /// Its Call-ID.
    pub call_id: String,
    /// The event package.
    pub event: String,
}

/// A request outside a dialog, before it is written.
struct Request<'a> {
    method: &'a str,
    uri: &'a str,
    to: &'a str,
    /// Whole lines.
    headers: &'a str,
    body: &'a str,
}

impl User {
    /// `name` at `domain`, with a phone at this address.
    #[must_use]
    pub fn new(name: &str, at: impl Into<SocketAddr>, domain: &str, password: &str) -> Self {
        let phone = Phone::new(name, at);
        Self { phone, domain: domain.to_owned(), password: password.to_owned() }
    }

    /// Its address of record.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("sip:{}@{}", self.phone.user, self.domain)
    }

    fn contact(&self) -> String {
        format!("Contact: <sip:{}@{}>\r\n", self.phone.user, self.phone.at)
    }

    /// Sends a request to `node`, again with an answer to a challenge if there is one, and gives
    /// back the final reply, with the From and the number of the last attempt.
    fn ask(&self, node: SocketAddr, request: &Request<'_>) -> (Message, String, u32) {
        let call_id = unique(request.method);
        let from = format!("<{}>;tag={}", self.uri(), unique("f"));
        let mut proof = String::new();
        for cseq in 1.. {
            let via = self.phone.via();
            let text = self.text(request, &via, &from, &call_id, cseq, &proof);
            let number = format!("{cseq} {}", request.method);
            let reply = self.phone.transact(node, &text, &call_id, &number);
            let challenged = matches!(reply.code(), Some(401 | 407)) && cseq == 1;
            if request.method == "INVITE" && reply.code() >= Some(300) {
                self.phone.send(node, ack_failure(&text, &reply).as_bytes());
            }
            if !challenged {
                return (reply, from, cseq);
            }
            let (user, password) = (&self.phone.user, &self.password);
            proof = digest::answer(&reply, request.method, request.uri, user, password);
        }
        unreachable!("the second attempt is the last")
    }

    fn text(
        &self,
        request: &Request<'_>,
        via: &str,
        from: &str,
        call_id: &str,
        cseq: u32,
        proof: &str,
    ) -> String {
        let Request { method, uri, to, headers, body } = request;
        format!(
            "{method} {uri} SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: {from}\r\nTo: <{to}>\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{contact}{proof}{headers}\
             Content-Length: {length}\r\n\r\n{body}",
            contact = self.contact(),
            length = body.len(),
        )
    }

    /// Registers for 600 s.
    ///
    /// # Panics
    /// If it is refused.
    pub fn register(&self, node: SocketAddr) {
        let (uri, to) = (format!("sip:{}", self.domain), self.uri());
        let headers = "Expires: 600\r\n";
        let request = Request { method: "REGISTER", uri: &uri, to: &to, headers, body: "" };
        let (reply, ..) = self.ask(node, &request);
        assert_eq!(reply.code(), Some(200), "{reply:?}");
    }

    /// Calls somebody: INVITE, 200, ACK.
    ///
    /// # Panics
    /// If the call is not answered.
    pub fn call(&self, node: SocketAddr, uri: &str) -> Dialog<'_> {
        let headers = "Content-Type: application/sdp\r\n";
        let body = session(self.phone.at);
        let request = Request { method: "INVITE", uri, to: uri, headers, body: &body };
        let (answer, from, cseq) = self.ask(node, &request);
        assert_eq!(answer.code(), Some(200), "{answer:?}");
        let dialog = Dialog::of_caller(&self.phone, from, &answer, cseq);
        dialog.send_ack(cseq);
        dialog
    }

    /// Publishes a document of presence about itself (RFC 3903) and gives back the entity tag.
    ///
    /// # Panics
    /// If it is refused.
    pub fn publish(&self, node: SocketAddr, body: &str, etag: Option<&str>) -> String {
        let uri = self.uri();
        let known = etag.map(|tag| format!("SIP-If-Match: {tag}\r\n")).unwrap_or_default();
        let headers = format!(
            "Event: presence\r\nExpires: 600\r\n{known}Content-Type: application/pidf+xml\r\n"
        );
        let request = Request { method: "PUBLISH", uri: &uri, to: &uri, headers: &headers, body };
        let (reply, ..) = self.ask(node, &request);
        assert_eq!(reply.code(), Some(200), "{reply:?}");
        reply.want("SIP-ETag").to_owned()
    }

    /// Watches somebody for 600 s (RFC 6665).
    ///
    /// # Panics
    /// If it is refused.
    pub fn watch(&self, node: SocketAddr, uri: &str, event: &str) -> Subscription {
        let headers = format!("Event: {event}\r\nExpires: 600\r\n");
        let request = Request { method: "SUBSCRIBE", uri, to: uri, headers: &headers, body: "" };
        let (reply, ..) = self.ask(node, &request);
        assert!(matches!(reply.code(), Some(200 | 202)), "{reply:?}");
        assert!(tag_of(reply.want("To")).is_some() && !uri_of(reply.want("Contact")).is_empty());
        Subscription { call_id: reply.want("Call-ID").to_owned(), event: event.to_owned() }
    }

    /// What came for a subscription so far, without retransmissions, in order of arrival.
    #[must_use]
    pub fn notified(&self, of: &Subscription) -> Vec<Message> {
        let mut all = self.phone.requests("NOTIFY", &of.call_id);
        let mut seen = Vec::new();
        all.retain(|m| {
            let number = m.want("CSeq").to_owned();
            let new = !seen.contains(&number);
            seen.push(number);
            new
        });
        all
    }

    /// Waits for a notification whose body contains this text, and gives it back.
    ///
    /// # Panics
    /// If none comes.
    #[must_use]
    pub fn wait_notified(&self, of: &Subscription, text: &str) -> Message {
        let what = format!("{} hears {text:?} of {}", self.phone.user, of.event);
        wait_for(&what, PATIENCE, || {
            self.notified(of).into_iter().rev().find(|m| m.body.contains(text))
        })
    }
}
