//! What can still be answered of a message that cannot be read.

use bytes::Bytes;
use memchr::memchr;

use crate::scan::{slice, tail};
use crate::{HeaderName, Message};

/// Bytes that are looked at, at most.
const BYTES_MAX: usize = 65_535;
/// Header lines that are kept, at most.
const LINES_MAX: usize = 64;
/// Longest line that is kept.
const LINE_BYTES_MAX: usize = 4_096;

impl Message {
    /// From bytes that [`Message::parse`] refused: a request with those of its lines that a reply
    /// is made of (RFC 3261 8.2.6), so that its sender can be told what is wrong. `None` if the
    /// first line is not that of a request, or no Via, From, To, Call-ID and CSeq are to be found;
    /// then a reply would reach nobody, or mean nothing.
    #[must_use]
    pub fn salvage(buf: &[u8]) -> Option<Self> {
        let buf = slice(buf, 0, buf.len().min(BYTES_MAX));
        let lead = buf.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let mut rest = tail(buf, lead);
        let mut kept = Vec::with_capacity(1024);
        for (number, line) in std::iter::from_fn(|| next_line(&mut rest)).enumerate() {
            if matches!(line, b"\n" | b"\r\n") {
                break;
            }
            let wanted = number == 0 || is_wanted(line);
            if wanted && line.len() <= LINE_BYTES_MAX && number < LINES_MAX {
                kept.extend_from_slice(line);
            } else if number == 0 {
                return None;
            }
        }
        kept.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        let message = Self::parse(Bytes::from(kept)).ok()?;
        let whole = message.is_request()
            && message.top_via().is_ok()
            && message.from().is_ok()
            && message.to().is_ok()
            && message.call_id().is_some()
            && message.cseq().is_ok();
        whole.then_some(message)
    }
}

/// The next line with its folded ones and its line end.
fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let whole = *rest;
    let mut end = 0;
    loop {
        end += memchr(b'\n', tail(whole, end))? + 1;
        if !matches!(whole.get(end), Some(b' ' | b'\t')) {
            break;
        }
    }
    *rest = tail(whole, end);
    Some(slice(whole, 0, end))
}

fn is_wanted(line: &[u8]) -> bool {
    let Some(colon) = memchr(b':', line) else { return false };
    let name = HeaderName::of(slice(line, 0, colon).trim_ascii_end());
    matches!(
        name,
        HeaderName::Via
            | HeaderName::From
            | HeaderName::To
            | HeaderName::CallId
            | HeaderName::CSeq
            | HeaderName::Timestamp
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n\
         f: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";

    #[test]
    fn a_request_with_a_broken_line_or_without_an_end_can_be_answered() {
        for broken in ["no colon\r\n\r\n", "bad name: x\r\n\r\n", ": x\r\n\r\n", "Subject: cut"] {
            let text = format!("{GOOD}{broken}");
            assert!(Message::parse(text.clone().into()).is_err(), "{broken}");
            let message = Message::salvage(text.as_bytes()).unwrap();
            assert_eq!(message.validate(), Ok(()));
            assert_eq!(message.call_id(), Some(&b"c"[..]));
        }
        let many = format!("{GOOD}{}\r\n", "X: y\r\n".repeat(300));
        assert!(Message::parse(many.clone().into()).is_err());
        assert!(Message::salvage(many.as_bytes()).is_some());
    }

    #[test]
    fn what_nobody_could_be_answered_for_is_left() {
        assert!(Message::salvage(b"").is_none());
        assert!(Message::salvage(b"SIP/2.0 200 OK\r\nbad\r\n\r\n").is_none());
        let without = GOOD.replace("Call-ID: c\r\n", "");
        assert!(Message::salvage(without.as_bytes()).is_none());
        assert!(Message::salvage(&[b'x'; 70_000]).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes: Vec<u8>, cut in 0usize..250) {
            let _ = Message::salvage(&bytes);
            let _ = Message::salvage(&GOOD.as_bytes()[..cut.min(GOOD.len())]);
        }
    }
}
