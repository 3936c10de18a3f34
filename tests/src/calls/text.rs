//! The messages of the phones.

use std::net::SocketAddr;

use super::{CALLEES, Plan};
use crate::message::{Message, uri_of};

pub(crate) fn call_id(plan: &Plan, n: u32) -> String {
    format!("call-{}-{n}", plan.name)
}

pub(crate) fn number_of(plan: &Plan, call_id: &str) -> Option<u32> {
    call_id.strip_prefix("call-")?.strip_prefix(&plan.name)?.strip_prefix('-')?.parse().ok()
}

/// The number of the callee whose registration has this Call-ID.
pub(super) fn registration(call_id: &str) -> Option<u32> {
    call_id.strip_prefix("reg-")?.rsplit('-').next()?.parse().ok()
}

pub(crate) fn via(at: SocketAddr, branch: &str) -> String {
    format!("Via: SIP/2.0/UDP {at};rport;branch=z9hG4bK{branch}\r\n")
}

pub(super) fn register(plan: &Plan, callee: u32) -> String {
    let (at, host, b) = (plan.at, plan.service.ip(), &plan.name);
    format!(
        "REGISTER sip:{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\n\
         From: <sip:{b}{callee}@{host}>;tag=r\r\nTo: <sip:{b}{callee}@{host}>\r\n\
         Call-ID: reg-{b}-{callee}\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:{b}{callee}@{at}>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n",
        via = via(at, &format!("reg{b}{callee}")),
    )
}

pub(crate) fn session(at: SocketAddr) -> String {
    let ip = at.ip();
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

pub(super) fn invite(plan: &Plan, n: u32) -> String {
    let (at, host, body) = (plan.at, plan.service.ip(), session(plan.at));
    format!(
        "INVITE sip:{b}{callee}@{host} SIP/2.0\r\n{via}Max-Forwards: 70\r\n\
         From: <sip:alice@{host}>;tag=a{n}\r\nTo: <sip:{b}{callee}@{host}>\r\n\
         Call-ID: {call}\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@{at}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}",
        callee = n % CALLEES,
        b = plan.name,
        via = via(at, &format!("inv{}{n}", plan.name)),
        call = call_id(plan, n),
        length = body.len(),
    )
}

/// The ACK to a refusal: of the INVITE's transaction (RFC 3261 17.1.1.3).
pub(crate) fn ack_failure(invite: &str, reply: &Message) -> String {
    let part = |name: &str| {
        let line = invite.lines().find(|line| line.starts_with(name));
        line.map(|line| format!("{line}\r\n")).unwrap_or_default()
    };
    let uri = invite.split(' ').nth(1).unwrap_or_default();
    format!(
        "ACK {uri} SIP/2.0\r\n{}Max-Forwards: 70\r\n{}To: {}\r\n{}{}\
         Content-Length: 0\r\n\r\n",
        part("Via:"),
        part("From:"),
        reply.header("To").unwrap_or_default(),
        part("Call-ID:"),
        part("CSeq:").replace("INVITE", "ACK"),
    )
}

/// A reply to a request; `tag` is added to a To that has none, `extra` are whole lines.
pub(crate) fn answer(request: &Message, status: &str, tag: &str, extra: &str) -> String {
    let to = request.header("To").unwrap_or_default();
    let tag = if to.contains(";tag=") || tag.is_empty() { "" } else { &format!(";tag={tag}") };
    let (head, body) = extra.split_once("\r\n\r\n").unwrap_or((extra, ""));
    let head =
        if head.is_empty() || head.ends_with("\r\n") { head } else { &format!("{head}\r\n") };
    format!(
        "SIP/2.0 {status}\r\n{}To: {to}{tag}\r\n{head}Content-Length: {}\r\n\r\n{body}",
        request.copied(),
        body.len(),
    )
}

/// The end of an in-dialog request: an INVITE offers a session, others have nothing to say.
fn body_of(plan: &Plan, method: &str) -> String {
    if method != "INVITE" {
        return "Content-Length: 0\r\n\r\n".into();
    }
    let body = session(plan.at);
    format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// What makes an in-dialog request of one end.
#[derive(Debug, Clone, Default)]
pub(crate) struct End {
    /// From and To of its requests.
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) target: String,
    pub(crate) routes: Vec<String>,
}

impl End {
    pub(crate) fn request(&self, plan: &Plan, n: u32, method: &str, cseq: u32) -> String {
        let routes: String = self.routes.iter().map(|r| format!("Route: {r}\r\n")).collect();
        format!(
            "{method} {target} SIP/2.0\r\n{via}{routes}Max-Forwards: 70\r\nFrom: {local}\r\n\
             To: {remote}\r\nCall-ID: {call}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:x@{at}>\r\n{body}",
            target = self.target,
            body = body_of(plan, method),
            via = via(plan.at, &format!("{method}{}{n}-{cseq}", plan.name)),
            local = self.local,
            remote = self.remote,
            call = call_id(plan, n),
            at = plan.at,
        )
    }

    /// Where its requests go.
    pub(crate) fn next_hop(&self) -> Option<SocketAddr> {
        let uri = self.routes.first().map_or(self.target.as_str(), |r| uri_of(r));
        let rest = uri.trim_start_matches("sip:");
        let host = rest.rsplit('@').next()?.split(';').next()?;
        if host.contains(':') { host.parse() } else { format!("{host}:5060").parse() }.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_what_belongs_to_the_request() {
        let plan = Plan {
            name: "b".into(),
            at: ([10, 0, 0, 1], 5070).into(),
            service: ([10, 0, 0, 2], 5060).into(),
            calls: 1,
            per_second: 1,
            hold: None,
            until: None,
        };
        let invite = Message::parse(invite(&plan, 7).as_bytes()).unwrap();
        assert_eq!(number_of(&plan, invite.want("Call-ID")), Some(7));
        let ok = answer(&invite, "200 OK", "t", "Contact: <sip:b@h>\r\n\r\nv=0\r\n");
        let ok = Message::parse(ok.as_bytes()).unwrap();
        assert_eq!((ok.code(), ok.body.as_str()), (Some(200), "v=0\r\n"));
        assert_eq!(ok.want("Contact"), "<sip:b@h>");
        assert!(ok.want("To").ends_with(";tag=t"));
        assert_eq!(ok.want("Via"), invite.want("Via"));
        let bye = answer(&ok, "200 OK", "u", "");
        assert!(!bye.contains("tag=u"), "{bye}");
    }
}
