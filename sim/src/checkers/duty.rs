//! Nothing that a node sends of its own accord leaves a node without the duty to send it.

use bytes::Bytes;
use tandem_sip::{HeaderName, Message, Method};

use crate::actors::CALL_ID_END;

/// Name in findings.
pub const NAME: &str = "duty";

/// What a datagram is, if neither a phone nor the operator has caused it.
pub(crate) fn self_initiated(payload: &Bytes) -> Option<String> {
    if payload.as_ref() == [0; 4] {
        return Some("a ping of 4 zero bytes".to_owned());
    }
    let msg = Message::parse(payload.clone()).ok()?;
    let call_id = msg.call_id().unwrap_or_default();
    let is_of_phone = call_id.ends_with(CALL_ID_END.as_bytes()) && !is_own(&msg);
    let is_caused = is_of_phone || is_of_call(&msg);
    (msg.is_request() && !is_caused)
        .then(|| format!("a {} of its own", String::from_utf8_lossy(msg.method_bytes())))
}

/// A BYE that nobody sent to the node: it ends a call whose time is over. A NOTIFY.
fn is_own(msg: &Message) -> bool {
    matches!(msg.method(), Method::Bye | Method::Notify)
        && msg.headers(HeaderName::Via).count() == 1
}

/// A PUBLISH that tells a state: what has happened to a call causes it. One without a body only
/// prolongs what was told.
fn is_of_call(msg: &Message) -> bool {
    msg.method() == Method::Publish && !msg.body().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, call_id: &str) -> Bytes {
        Bytes::from(format!(
            "{method} sip:a@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bKx\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: {call_id}\r\n\
             CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        ))
    }

    #[test]
    fn pings_and_own_requests_are_self_initiated_and_relayed_ones_are_not() {
        assert!(self_initiated(&Bytes::from_static(&[0; 4])).is_some());
        assert!(self_initiated(&request("OPTIONS", "abc@127.0.1.1")).is_some());
        let bye = request("BYE", &format!("call-1{CALL_ID_END}"));
        assert!(self_initiated(&bye).is_some(), "it ends a call of its own accord");
        let relayed = String::from_utf8_lossy(&bye).replacen(
            "Via:",
            "Via: SIP/2.0/UDP 10.0.0.3;branch=z9hG4bKy\r\nVia:",
            1,
        );
        assert_eq!(self_initiated(&Bytes::from(relayed)), None);
    }
}
