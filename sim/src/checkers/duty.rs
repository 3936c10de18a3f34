//! Nothing that a node sends of its own accord leaves a node without the duty to send it.

use bytes::Bytes;
use tandem_sip::Message;

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
    let is_caused = call_id.ends_with(CALL_ID_END.as_bytes());
    (msg.is_request() && !is_caused)
        .then(|| format!("a {} of its own", String::from_utf8_lossy(msg.method_bytes())))
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
        assert_eq!(self_initiated(&request("BYE", &format!("call-1{CALL_ID_END}"))), None);
    }
}
