//! What tells whose a reply is, found without reading the message.

use memchr::{memchr, memchr3};

/// A reply at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance<'a> {
    pub status: u16,
    pub call_id: &'a [u8],
    /// The method of its CSeq.
    pub method: &'a [u8],
}

/// Looks at a reply of the usual form. `None`: it is none, or only a parser can tell. Nothing but
/// the three fields is checked.
pub fn glance(bytes: &[u8]) -> Option<Glance<'_>> {
    let (digits, rest) = bytes.strip_prefix(b"SIP/2.0 ")?.split_at_checked(3)?;
    if rest.first() != Some(&b' ') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let (mut call_id, mut method) = (None, None);
    let mut rest = rest.get(memchr(b'\n', rest)? + 1..)?;
    loop {
        let (line, after) = rest.split_at_checked(memchr(b'\n', rest)?)?;
        rest = after.get(1..)?;
        // A blank line ends the headers; a line that goes on is for the parser.
        let first = *line.first().filter(|b| !b.is_ascii_whitespace())?;
        if matches!(first, b'c' | b'C' | b'i' | b'I') {
            let colon = memchr(b':', line)?;
            let (name, value) = (line.get(..colon)?.trim_ascii_end(), line.get(colon + 1..)?);
            let is_call_id = name.eq_ignore_ascii_case(b"Call-ID") || matches!(name, b"i" | b"I");
            if is_call_id && call_id.is_none() {
                call_id = Some(value.trim_ascii());
            } else if name.eq_ignore_ascii_case(b"CSeq") && method.is_none() {
                let mut words = value.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
                let number = words.next().filter(|n| n.iter().all(u8::is_ascii_digit));
                method = number.and(words.next()).filter(|_| words.next().is_none());
                method?;
            }
        }
        let goes_on = rest.first().is_none_or(|b| matches!(b, b' ' | b'\t'));
        if let (Some(call_id), Some(method), false) = (call_id, method, goes_on) {
            return Some(Glance { status, call_id, method });
        }
    }
}

/// The branch of a reply's topmost Via, if that is the first header and the only one of its line.
/// `None`: there is none, or only a parser can tell.
pub fn glance_branch(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.get(memchr(b'\n', bytes)? + 1..)?;
    let (line, after) = rest.split_at_checked(memchr(b'\n', rest)?)?;
    let value = line.strip_prefix(b"Via: ").or_else(|| line.strip_prefix(b"v: "))?;
    let goes_on = after.get(1).is_none_or(|b| matches!(b, b' ' | b'\t'));
    let is_involved = memchr3(b',', b'"', b'(', value).or_else(|| memchr(b'<', value)).is_some();
    if goes_on || is_involved {
        return None;
    }
    let mut rest = value.trim_ascii_end();
    let mut found = None;
    while let Some(at) = memchr(b';', rest) {
        rest = rest.get(at + 1..)?;
        let name = rest.trim_ascii_start();
        if name.get(..6).is_some_and(|name| name.eq_ignore_ascii_case(b"branch")) {
            let end = memchr(b';', name).unwrap_or(name.len());
            let branch = name.get(6..end)?.strip_prefix(b"=")?.trim_ascii_end();
            if found.is_some() || branch.iter().any(u8::is_ascii_whitespace) {
                return None;
            }
            found = Some(branch);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::Message;

    const REPLY: &str = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\n\
                         From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\ncall-id : x-1@h \r\n\
                         CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn a_reply_is_known_by_three_fields() {
        let wanted = Glance { status: 200, call_id: b"x-1@h", method: b"OPTIONS" };
        assert_eq!(glance(REPLY.as_bytes()), Some(wanted));
        let short = REPLY.replace("call-id ", "i");
        assert_eq!(glance(short.as_bytes()), Some(wanted));
    }

    #[test]
    fn the_branch_of_the_first_via_is_seen_where_it_stands_alone() {
        assert_eq!(glance_branch(REPLY.as_bytes()), Some(&b"z9hG4bK1"[..]));
        let more = REPLY.replace(";branch=z9hG4bK1", ";rport=5;Branch=x ;received=10.0.0.9 ");
        assert_eq!(glance_branch(more.as_bytes()), Some(&b"x"[..]));
        for (from, to) in [
            ("Via: ", "X: 1\r\nVia: "),
            ("bK1\r\n", "bK1,SIP/2.0/UDP b;branch=2\r\n"),
            ("bK1\r\n", "bK1\r\n ;x\r\n"),
            (";branch=z9hG4bK1", ";branch=a;branch=b"),
            (";branch=z9hG4bK1", ""),
            (";branch=z9hG4bK1", ";x=\";branch=y\""),
        ] {
            assert_eq!(glance_branch(REPLY.replace(from, to).as_bytes()), None, "{to}");
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_the_parser() {
        for (from, to) in [
            ("SIP/2.0 200", "SIP/2.0 2x0"),
            ("SIP/2.0 200 OK", "OPTIONS sip:a@b SIP/2.0"),
            ("CSeq: 1 OPTIONS", "CSeq: 1\r\n OPTIONS"),
            ("CSeq: 1 OPTIONS", "X: 1"),
            ("CSeq: 1 OPTIONS\r\n", "CSeq: 1 OPTIONS"),
            ("call-id : x-1@h \r\n", "\r\ncall-id : x-1@h\r\n"),
        ] {
            assert_eq!(glance(REPLY.replace(from, to).as_bytes()), None, "{to}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_parser_and_never_panics(
            at in 0..REPLY.len(), with in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut bytes = REPLY.as_bytes().to_vec();
            bytes.splice(at..(at + with.len()).min(REPLY.len()), with);
            let parsed = Message::parse(Bytes::from(bytes.clone()));
            if let (Some(seen), Ok(msg)) = (glance(&bytes), parsed) {
                prop_assert_eq!(Some(seen.call_id), msg.call_id());
                prop_assert_eq!(seen.status, msg.status());
                if let Ok(cseq) = msg.cseq() {
                    prop_assert_eq!(seen.method, cseq.method_bytes);
                }
                if let (Some(branch), Ok(via)) = (glance_branch(&bytes), msg.top_via()) {
                    prop_assert_eq!(Some(branch), via.branch);
                }
            }
        }

        #[test]
        fn noise_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = glance(&[b"SIP/2.0 200 ".as_slice(), &bytes].concat());
            let _ = glance_branch(&[b"SIP/2.0 200 OK\r\nVia: ".as_slice(), &bytes].concat());
        }
    }
}
