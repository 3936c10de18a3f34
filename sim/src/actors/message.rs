//! The messages of a phone.

use std::net::SocketAddr;

use bytes::Bytes;
use tandem_sip::{HeaderName, Message, NameAddr, Uri};

/// Name of the service; the nodes know it as an alias.
pub(crate) const DOMAIN: &str = "sip.example.org";

/// What a request is made of. Lines end with `\n` and are turned into CRLF at the end.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) uri: String,
    /// Host and port of Via.
    pub(crate) via: String,
    pub(crate) branch: String,
    pub(crate) routes: &'a [String],
    /// URI and tag.
    pub(crate) from: (String, String),
    pub(crate) to: (String, Option<String>),
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
    pub(crate) contact: Option<String>,
    pub(crate) expires_s: Option<u64>,
    /// Further header lines, without their ends.
    pub(crate) extra: Vec<String>,
    pub(crate) body: String,
}

impl Request<'_> {
    pub(crate) fn bytes(&self) -> Bytes {
        let mut t = format!("{} {} SIP/2.0\r\n", self.method, self.uri);
        let mut line = |text: String| {
            t.push_str(&text);
            t.push_str("\r\n");
        };
        line(format!("Via: SIP/2.0/UDP {};rport;branch={}", self.via, self.branch));
        for route in self.routes {
            line(format!("Route: {route}"));
        }
        line("Max-Forwards: 70".into());
        line(format!("From: <{}>;tag={}", self.from.0, self.from.1));
        let tag = self.to.1.as_ref().map(|t| format!(";tag={t}")).unwrap_or_default();
        line(format!("To: <{}>{tag}", self.to.0));
        line(format!("Call-ID: {}", self.call_id));
        line(format!("CSeq: {} {}", self.cseq, self.method));
        if let Some(contact) = &self.contact {
            line(format!("Contact: <{contact}>"));
        }
        if let Some(expires) = self.expires_s {
            line(format!("Expires: {expires}"));
        }
        line("User-Agent: phone/1.0".into());
        self.extra.iter().for_each(|extra| line(extra.clone()));
        line(format!("Content-Length: {}", self.body.len()));
        line(String::new());
        t.push_str(&self.body);
        Bytes::from(t)
    }
}

/// A reply to a request: the headers that RFC 3261 8.2.6 and 12.1.1 say, copied as they came.
/// `contact` is a whole value, with its brackets.
pub(crate) fn reply(
    request: &Message,
    code: u16,
    reason: &str,
    tag: &str,
    contact: Option<&str>,
) -> Bytes {
    let mut out = format!("SIP/2.0 {code} {reason}\r\n").into_bytes();
    let mut copy = |name: HeaderName, tail: &str| {
        for header in request.headers(name) {
            out.extend_from_slice(header.name_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(header.value());
            out.extend_from_slice(tail.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    };
    copy(HeaderName::Via, "");
    copy(HeaderName::RecordRoute, "");
    copy(HeaderName::From, "");
    let has_tag = request.to_tag().is_some();
    copy(HeaderName::To, if has_tag { String::new() } else { format!(";tag={tag}") }.as_str());
    copy(HeaderName::CallId, "");
    copy(HeaderName::CSeq, "");
    if let Some(contact) = contact {
        out.extend_from_slice(format!("Contact: {contact}\r\n").as_bytes());
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    Bytes::from(out)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Record-Route values as they stand in the message.
pub(crate) fn record_routes(msg: &Message) -> Vec<String> {
    msg.values(HeaderName::RecordRoute).map(|v| text(v.bytes)).collect()
}

/// The URI of the first contact.
pub(crate) fn contact_uri(msg: &Message) -> Option<String> {
    let list = msg.contact_list().ok()?;
    list.contacts().first().map(|c| text(c.uri()))
}

/// The address of a URI or of a Route value.
pub(crate) fn address(uri_or_route: &str) -> Option<SocketAddr> {
    let bytes = uri_or_route.as_bytes();
    let uri = match uri_or_route.contains('<') {
        true => NameAddr::parse(bytes).ok()?.uri,
        false => bytes,
    };
    let uri = Uri::parse(uri).ok()?;
    Some(SocketAddr::new(uri.host_ip()?, uri.port.unwrap_or(5060)))
}

/// One line for the trace: what the message is and whom it is about.
pub(crate) fn summary(payload: &[u8]) -> String {
    if payload == [0; 4] {
        return "ping of 4 zero bytes".to_owned();
    }
    let Ok(msg) = Message::parse(Bytes::copy_from_slice(payload)) else {
        return format!("{} bytes that are no SIP message", payload.len());
    };
    let cseq =
        msg.cseq().map(|c| format!("{} {}", c.number, text(c.method_bytes))).unwrap_or_default();
    let user = |addr: Result<NameAddr<'_>, _>| {
        let addr = addr.ok().and_then(|a: NameAddr<'_>| {
            a.parse_uri().ok().map(|u| text(u.user.unwrap_or_default()))
        });
        addr.unwrap_or_default()
    };
    let (from, to) = (user(msg.from()), user(msg.to()));
    let about = if from == to { from } else { format!("{from} -> {to}") };
    // Two phones may have several calls.
    let call = msg.call_id().filter(|id| id.starts_with(b"call-")).map(text);
    let call = call.map(|id| format!(" {}", id.split('@').next().unwrap_or_default()));
    let call = call.unwrap_or_default();
    if msg.is_request() {
        format!("{:<8} {about} (CSeq {cseq}){call}", text(msg.method_bytes()))
    } else {
        format!("{:<8} {about} (CSeq {cseq}) {}{call}", msg.status(), text(msg.reason()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_can_be_read_and_its_reply_repeats_what_it_must() {
        let request = Request {
            method: "INVITE",
            uri: "sip:b@sip.example.org".into(),
            via: "10.0.0.1:5060".into(),
            branch: "z9hG4bK1".into(),
            from: ("sip:a@sip.example.org".into(), "x".into()),
            to: ("sip:b@sip.example.org".into(), None),
            call_id: "c".into(),
            cseq: 3,
            contact: Some("sip:a@10.0.0.1:5060".into()),
            ..Request::default()
        };
        let msg = Message::parse(request.bytes()).unwrap();
        assert!(msg.validate().is_ok());
        let reply = Message::parse(reply(&msg, 200, "OK", "y", None)).unwrap();
        assert_eq!(reply.to_tag(), Some(&b"y"[..]));
        assert_eq!(reply.cseq().unwrap().number, 3);
        assert_eq!(reply.call_id(), Some(&b"c"[..]));
        assert_eq!(reply.top_via().unwrap().branch, msg.top_via().unwrap().branch);
    }

    #[test]
    fn a_route_names_an_address() {
        let want = "127.0.1.1:5060".parse().ok();
        assert_eq!(address("<sip:127.0.1.1;lr;ftag=x>"), want);
        assert_eq!(address("sip:a@127.0.1.1:5060"), want);
        assert_eq!(address("sip:a@example.org"), None);
    }
}
