//! The form in which nearly everybody writes Via, From, To and CSeq, read in one walk. What is
//! written in another way is left to the general readers, with which these agree.

use super::{AddrAt, CSeqAt, ViaAt};
use crate::host::is_host_byte;
use crate::scan::{find_soon, is_lws, is_token, is_token_byte, parse_u32, slice, tail};
use crate::span::Place;
use crate::{Method, Rport, Transport};

/// Digits of a CSeq that fit into 32 bits whatever they are.
const DIGITS_MAX: usize = 9;

/// Places in a value that starts at an offset.
struct Places(usize);

impl Places {
    fn of(&self, from: usize, to: usize) -> Place {
        Place::new(self.0 + from, self.0 + to)
    }
}

/// `SIP/2.0/UDP host:port;name=token;name`: without spaces, quotes, commas and references.
pub(super) fn via(value: &[u8], start: u32) -> Option<ViaAt> {
    const HOST: usize = 12;
    let transport = match value.split_first_chunk::<HOST>()?.0 {
        b"SIP/2.0/UDP " => Transport::Udp,
        b"SIP/2.0/TCP " => Transport::Tcp,
        _ => return None,
    };
    let host_end = end_of(value, HOST, is_host_byte);
    if host_end == HOST {
        return None;
    }
    let (port, mut at) = match tail(value, host_end) {
        [b':', ..] => {
            let end = end_of(value, host_end + 1, |b| b.is_ascii_digit());
            let port = u16::try_from(parse_u32(slice(value, host_end + 1, end))?).ok()?;
            (Some(port).filter(|port| *port > 0)?.into(), end)
        }
        _ => (None, host_end),
    };
    let places = Places(start as usize);
    let mut via = ViaAt {
        transport: Some(transport),
        transport_bytes: places.of(8, 11),
        host: places.of(HOST, host_end),
        port,
        branch: None,
        received: None,
        rport: Rport::Absent,
        params: places.of(at, value.len()),
        received_raw: None,
        rport_raw: None,
        raw: places.of(0, value.len()),
        has_more: false,
    };
    while at < value.len() {
        at = param(&mut via, value, at, &places)?;
    }
    Some(via)
}

/// Reads the parameter whose `;` is at `at`; gives the place behind it.
fn param(via: &mut ViaAt, value: &[u8], at: usize, places: &Places) -> Option<usize> {
    let [b';', _, ..] = tail(value, at) else { return None };
    let name_end = end_of(value, at + 1, is_token_byte);
    let name = slice(value, at + 1, name_end);
    let end = match value.get(name_end) {
        Some(b'=') => end_of(value, name_end + 1, is_value_byte),
        _ => name_end,
    };
    let given = (end > name_end).then(|| places.of(name_end + 1, end));
    let raw = places.of(at + 1, end);
    match name.len() {
        0 => return None,
        6 if via.branch.is_none() && name.eq_ignore_ascii_case(b"branch") => via.branch = given,
        8 if via.received_raw.is_none() && name.eq_ignore_ascii_case(b"received") => {
            (via.received, via.received_raw) = (given, Some(raw));
        }
        5 if via.rport_raw.is_none() && name.eq_ignore_ascii_case(b"rport") => {
            let digits = slice(value, name_end + 1, end);
            let port = parse_u32(digits).and_then(|n| u16::try_from(n).ok()).filter(|p| *p > 0);
            (via.rport, via.rport_raw) = (port.map_or(Rport::Empty, Rport::Port), Some(raw));
        }
        _ => {}
    }
    Some(end)
}

/// `<uri>` or `<uri>;tag=token`.
pub(super) fn addr(value: &[u8], start: u32) -> Option<AddrAt> {
    let rest = value.strip_prefix(b"<")?;
    let close = find_soon(rest, b'>')?;
    let [first, ..] = slice(rest, 0, close) else { return None };
    if is_lws(*first) || rest.get(close.wrapping_sub(1)).is_none_or(|b| is_lws(*b)) {
        return None;
    }
    let places = Places(start as usize);
    let behind = close + 2;
    let tag = match tail(value, behind) {
        [] => None,
        params => {
            let tag = params.strip_prefix(b";tag=")?;
            Some(places.of(value.len() - tag.len(), value.len())).filter(|_| is_token(tag))?.into()
        }
    };
    Some(AddrAt {
        display: Place::default(),
        uri: places.of(1, behind - 1),
        params: places.of(behind, value.len()),
        tag,
    })
}

/// `number METHOD` with a method that is known.
pub(super) fn cseq(value: &[u8], start: u32) -> Option<CSeqAt> {
    let digits = end_of(value, 0, |b| b.is_ascii_digit());
    let [b' ', name @ ..] = tail(value, digits) else { return None };
    let number = parse_u32(slice(value, 0, digits)).filter(|_| digits <= DIGITS_MAX)?;
    let method = Method::of(name);
    let method_bytes = Places(start as usize).of(digits + 1, value.len());
    (method != Method::Other).then_some(CSeqAt { number, method, method_bytes })
}

/// The end of the bytes of a kind that begin at `from`.
#[inline]
fn end_of(text: &[u8], from: usize, is_it: impl Fn(u8) -> bool) -> usize {
    let rest = tail(text, from);
    from + rest.iter().position(|b| !is_it(*b)).unwrap_or(rest.len())
}

/// What values consist of without quotes: tokens and IPv6 addresses.
fn is_value_byte(b: u8) -> bool {
    is_token_byte(b) || matches!(b, b':' | b'[' | b']' | b'=' | b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CSeq, NameAddr, Via};
    use proptest::prelude::*;

    /// What the general readers make of the same bytes.
    fn agrees(value: &[u8]) {
        if let Some(plain) = via(value, 0) {
            let general = Via::parse(value).expect("the general reader takes it");
            assert_eq!(format!("{:?}", plain.view(value)), format!("{general:?}"));
            assert!(!value.contains(&b','));
        }
        if let Some(plain) = addr(value, 0) {
            let general = NameAddr::parse(value).expect("the general reader takes it");
            assert_eq!(format!("{:?}", plain.view(value)), format!("{general:?}"));
            assert_eq!(plain.tag(value), general.tag());
        }
        if let Some(plain) = cseq(value, 0) {
            assert_eq!(plain.view(value), CSeq::parse(value).expect("so does it take this"));
        }
    }

    #[test]
    fn the_usual_forms_are_taken() {
        for text in [
            "SIP/2.0/UDP 10.0.0.1:5062;rport;branch=z9hG4bK-1-2",
            "SIP/2.0/TCP a.example;branch=z9hG4bK=/x;received=::1;rport=5060;alias",
            "SIP/2.0/UDP h",
        ] {
            assert!(via(text.as_bytes(), 0).is_some(), "{text}");
            agrees(text.as_bytes());
        }
        for text in ["<sip:a@h>", "<sip:a@h;x=1>;tag=a.b-1"] {
            assert!(addr(text.as_bytes(), 0).is_some(), "{text}");
            agrees(text.as_bytes());
        }
        assert!(cseq(b"1 INVITE", 0).is_some() && cseq(b"999999999 BYE", 0).is_some());
    }

    #[test]
    fn what_needs_a_closer_look_is_left() {
        for text in [
            "SIP/2.0/UDP [::1]:5060;branch=a",
            "SIP/2.0/UDP h:0;branch=a",
            "SIP/2.0/UDP h:70000",
            "SIP/2.0/UDP h ;branch=a",
            "SIP/2.0/UDP h;branch=\"a\"",
            "SIP/2.0/UDP h;branch=a, SIP/2.0/UDP b",
            "SIP/2.0/UDP h;;a",
            "SIP/2.0/UDP h;",
            "SIP/2.0/UDP ;a",
        ] {
            assert!(via(text.as_bytes(), 0).is_none(), "{text}");
        }
        for text in ["a <sip:a@h>", "<>", "< sip:a@h>", "<sip:a@h>;x", "<sip:a@h>;tag=", "sip:a"] {
            assert!(addr(text.as_bytes(), 0).is_none(), "{text}");
        }
        for text in ["1  INVITE", "9999999999 BYE", "1 FOO", "INVITE", "1", ""] {
            assert!(cseq(text.as_bytes(), 0).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_readers_agree_on_whatever_is_taken(
            sent_by in "[a-z0-9.:\\[\\]-]{1,12}",
            params in proptest::collection::vec(
                "(;branch|;rport|;received|;BRANCH|;x|;|;tag|,)(=[a-z0-9:=\". ]{0,6})?", 0..5
            ),
            value in "[<>a-z:@;= 0-9,]{0,24}",
        ) {
            agrees(format!("SIP/2.0/UDP {sent_by}{}", params.concat()).as_bytes());
            agrees(format!("<{value}{}", params.concat()).as_bytes());
            agrees(value.as_bytes());
            agrees(format!("{value} BYE").as_bytes());
        }

        #[test]
        fn any_bytes_are_looked_at_without_a_panic(value: Vec<u8>) {
            agrees(&value);
        }
    }
}
