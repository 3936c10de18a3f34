//! The requests of the phones.

use super::kind::Kind;
use crate::calls::Plan;
use crate::calls::text::{call_id, session, via};
use crate::message::{Message, uri_of};

/// The first request of a deed.
pub(super) fn first(plan: &Plan, n: u32, kind: Kind) -> String {
    let user = kind.user(n);
    let uri = match kind {
        Kind::Register { .. } => format!("sip:{}", plan.service.ip()),
        _ => format!("sip:{user}@{}", plan.service.ip()),
    };
    let to = format!("<sip:{user}@{}>", plan.service.ip());
    let (headers, body) = what(plan, n, kind, 2);
    Request { method: kind.method(), uri: &uri, to: &to, cseq: 1, headers: &headers, body: &body }
        .text(plan, n)
}

/// The second request of a deed that is done when the first is answered, if it has one.
pub(super) fn second(plan: &Plan, n: u32, kind: Kind, reply: &Message) -> Option<String> {
    let (uri, expires) = match kind {
        Kind::Register { back: true } => (format!("sip:{}", plan.service.ip()), 0),
        Kind::Subscribe { again: true } => (uri_of(reply.header("Contact")?).to_owned(), 2),
        _ => return None,
    };
    let to = reply.header("To")?;
    let to = if matches!(kind, Kind::Register { .. }) { to.split(';').next()? } else { to };
    let (headers, body) = what(plan, n, kind, expires);
    let request =
        Request { method: kind.method(), uri: &uri, to, cseq: 2, headers: &headers, body: &body };
    Some(request.text(plan, n))
}

/// The CANCEL of an INVITE (RFC 3261 9.1).
pub(super) fn cancel(invite: &str) -> String {
    let head = invite.split("\r\n\r\n").next().unwrap_or_default();
    let kept = |line: &&str| {
        let names = ["Via:", "Max-Forwards:", "From:", "To:", "Call-ID:", "CSeq:"];
        names.iter().any(|name| line.starts_with(name))
    };
    let lines: Vec<&str> = head.lines().filter(kept).collect();
    let uri = invite.split(' ').nth(1).unwrap_or_default();
    let lines = lines.join("\r\n").replace(" INVITE", " CANCEL");
    format!("CANCEL {uri} SIP/2.0\r\n{lines}\r\nContent-Length: 0\r\n\r\n")
}

struct Request<'a> {
    method: &'a str,
    uri: &'a str,
    to: &'a str,
    cseq: u32,
    headers: &'a str,
    body: &'a str,
}

impl Request<'_> {
    fn text(&self, plan: &Plan, n: u32) -> String {
        let Self { method, uri, to, cseq, headers, body } = self;
        format!(
            "{method} {uri} SIP/2.0\r\n{via}Max-Forwards: 70\r\n\
             From: <sip:caller@{host}>;tag=a{n}\r\nTo: {to}\r\nCall-ID: {call}\r\n\
             CSeq: {cseq} {method}\r\n{headers}Content-Length: {length}\r\n\r\n{body}",
            via = via(plan.at, &format!("{method}{}{n}-{cseq}", plan.name)),
            host = plan.service.ip(),
            call = call_id(plan, n),
            length = body.len(),
        )
    }
}

/// The headers and the body of a request.
fn what(plan: &Plan, n: u32, kind: Kind, expires: u32) -> (String, String) {
    let at = plan.at;
    match kind {
        Kind::Call { .. } | Kind::Registered => {
            let headers = "Content-Type: application/sdp\r\n";
            (format!("Contact: <sip:caller@{at}>\r\n{headers}"), session(at))
        }
        Kind::Register { .. } => {
            (format!("Contact: <sip:answer@{at}>\r\nExpires: {expires}\r\n"), String::new())
        }
        Kind::Subscribe { .. } => {
            // Some watchers never answer.
            let user = if (n / 40).is_multiple_of(3) { "silent" } else { "answer" };
            let event = "Event: message-summary\r\n";
            (format!("Contact: <sip:{user}@{at}>\r\nExpires: {expires}\r\n{event}"), String::new())
        }
        Kind::Publish => {
            let event = "Event: message-summary\r\n";
            let body = format!("Messages-Waiting: yes\r\nVoice-Message: {}/0\r\n", n % 100);
            let content = "Content-Type: application/simple-message-summary\r\n";
            (format!("Expires: {expires}\r\n{event}{content}"), body)
        }
        Kind::Message(_) => ("Content-Type: text/plain\r\n".into(), "Hello".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_is_that_of_its_invite() {
        let (at, service) = (([10, 0, 0, 1], 5070).into(), ([10, 0, 0, 2], 5060).into());
        let (calls, per_second, hold, until) = (1, 1, None, None);
        let plan = Plan { name: "s".into(), at, service, calls, per_second, hold, until };
        let text = first(&plan, 12, Kind::of(12));
        let (invite, cancel) = (Message::parse(text.as_bytes()).unwrap(), cancel(&text));
        let cancel = Message::parse(cancel.as_bytes()).unwrap();
        assert_eq!((invite.method(), cancel.method()), (Some("INVITE"), Some("CANCEL")));
        assert_eq!(cancel.want("Via"), invite.want("Via"));
        assert_eq!((cancel.want("CSeq"), cancel.want("To")), ("1 CANCEL", invite.want("To")));
    }
}
