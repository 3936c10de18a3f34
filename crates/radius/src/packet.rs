//! Packets: RFC 2865 3 and 5, RFC 2866 3, RFC 2869 5.14.

use hmac::{KeyInit, Mac, SimpleHmac};
use md5::{Digest, Md5};

/// The most that a packet may have (RFC 2865 3).
pub const PACKET_BYTES_MAX: usize = 4_096;
/// The most that the value of an attribute may have.
pub const VALUE_BYTES_MAX: usize = 253;
/// The most that the value of an attribute of a vendor may have, which travels inside of one.
pub const VENDOR_VALUE_BYTES_MAX: usize = VALUE_BYTES_MAX - 6;
const HEAD_BYTES: usize = 20;
const VENDOR_SPECIFIC: u8 = 26;
const MESSAGE_AUTHENTICATOR: u8 = 80;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    AccessRequest,
    AccessAccept,
    AccessReject,
    AccountingRequest,
    AccountingResponse,
    AccessChallenge,
}

impl Code {
    const ALL: [(Self, u8); 6] = [
        (Self::AccessRequest, 1),
        (Self::AccessAccept, 2),
        (Self::AccessReject, 3),
        (Self::AccountingRequest, 4),
        (Self::AccountingResponse, 5),
        (Self::AccessChallenge, 11),
    ];

    fn number(self) -> u8 {
        Self::ALL.into_iter().find(|(code, _)| *code == self).map_or(0, |(_, number)| number)
    }

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, n)| *n == number).map(|(code, _)| code)
    }
}

/// An attribute with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avp {
    /// 0: one of the RFCs.
    pub vendor: u32,
    pub number: u8,
    pub value: Vec<u8>,
    /// It is hidden as User-Password is.
    pub hidden: bool,
}

/// Why a packet is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Short,
    Length,
    Code,
    Attribute,
}

/// The packet would be longer than one may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// A request as it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub bytes: Vec<u8>,
    /// What the reply is proved with.
    pub authenticator: [u8; 16],
}

/// Writes a request; `chance` are bytes by chance, which nobody can foresee.
///
/// # Errors
/// If the attributes are too many.
pub fn request(
    code: Code,
    id: u8,
    chance: [u8; 16],
    secret: &[u8],
    avps: &[Avp],
) -> Result<Request, TooLong> {
    let is_accounting = code == Code::AccountingRequest;
    let mut authenticator = if is_accounting { [0; 16] } else { chance };
    let mut bytes = vec![code.number(), id, 0, 0];
    bytes.extend(authenticator);
    // An Access-Request proves itself, since its authenticator does not. It comes first, so that
    // nobody who forges replies can guess at what stands before it.
    let proof = (!is_accounting).then_some(bytes.len() + 2);
    if proof.is_some() {
        bytes.extend([MESSAGE_AUTHENTICATOR, 18]);
        bytes.extend([0; 16]);
    }
    for avp in avps {
        push(&mut bytes, avp, &authenticator, secret)?;
    }
    let length = u16::try_from(bytes.len()).map_err(|_| TooLong)?;
    if bytes.len() > PACKET_BYTES_MAX {
        return Err(TooLong);
    }
    put(&mut bytes, 2, &length.to_be_bytes());
    if let Some(at) = proof {
        let proof = keyed(secret, &[&bytes]);
        put(&mut bytes, at, &proof);
    }
    if is_accounting {
        authenticator = digest(&[&bytes, secret]);
        put(&mut bytes, 4, &authenticator);
    }
    Ok(Request { bytes, authenticator })
}

fn push(bytes: &mut Vec<u8>, avp: &Avp, seed: &[u8; 16], secret: &[u8]) -> Result<(), TooLong> {
    let hidden;
    let value = match avp.hidden {
        true => {
            hidden = hide(&avp.value, seed, secret);
            &hidden
        }
        false => &avp.value,
    };
    let length = u8::try_from(value.len() + 2).map_err(|_| TooLong)?;
    if avp.vendor != 0 {
        let whole = length.checked_add(6).ok_or(TooLong)?;
        bytes.extend([VENDOR_SPECIFIC, whole]);
        bytes.extend(avp.vendor.to_be_bytes());
    }
    bytes.extend([avp.number, length]);
    bytes.extend(value);
    Ok(())
}

/// Hides a password: RFC 2865 5.2.
fn hide(password: &[u8], seed: &[u8; 16], secret: &[u8]) -> Vec<u8> {
    let length = password.len().clamp(1, 128);
    let mut padded = password.to_vec();
    padded.resize(length.next_multiple_of(16), 0);
    let mut before = *seed;
    for block in padded.chunks_exact_mut(16) {
        let mask = digest(&[secret, &before]);
        block.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        block.iter().zip(&mut before).for_each(|(byte, before)| *before = *byte);
    }
    padded
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes.iter_mut().skip(at).zip(what).for_each(|(place, byte)| *place = *byte);
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut md5 = Md5::new();
    parts.iter().for_each(|part| md5.update(part));
    md5.finalize().into()
}

fn keyed(secret: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // A key of any length will do.
    let Ok(mut mac) = SimpleHmac::<Md5>::new_from_slice(secret) else { return [0; 16] };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// A packet that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub code: Code,
    pub id: u8,
    /// All of it, without what came after its end.
    bytes: Vec<u8>,
}

impl Packet {
    /// Reads a packet.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let [code, id, high, low, ..] = *bytes else { return Err(Malformed::Short) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(HEAD_BYTES..=PACKET_BYTES_MAX).contains(&length) {
            return Err(Malformed::Length);
        }
        let bytes = bytes.get(..length).ok_or(Malformed::Short)?;
        let code = Code::of(code).ok_or(Malformed::Code)?;
        if split(bytes.get(HEAD_BYTES..).unwrap_or_default()).any(|found| found.is_none()) {
            return Err(Malformed::Attribute);
        }
        Ok(Self { code, id, bytes: bytes.to_vec() })
    }

    /// Whether it answers the request with this authenticator, and is from somebody who knows the
    /// secret.
    pub fn answers(&self, authenticator: &[u8; 16], secret: &[u8]) -> bool {
        let (head, rest) = self.bytes.split_at(HEAD_BYTES.min(self.bytes.len()));
        let (start, own) = head.split_at(4.min(head.len()));
        if digest(&[start, authenticator, rest, secret]) != *own {
            return false;
        }
        let Some((at, proof)) = self.proof() else { return true };
        let mut asked = self.bytes.clone();
        put(&mut asked, 4, authenticator);
        put(&mut asked, at, &[0; 16]);
        proof.is_some_and(|proof| proof == keyed(secret, &[&asked]))
    }

    /// Whether it has a Message-Authenticator.
    pub fn has_proof(&self) -> bool {
        self.proof().is_some()
    }

    /// Its Message-Authenticator, and where that stands.
    fn proof(&self) -> Option<(usize, Option<[u8; 16]>)> {
        let mut at = HEAD_BYTES;
        for (number, value) in self.raw() {
            if number == MESSAGE_AUTHENTICATOR {
                return Some((at + 2, value.try_into().ok()));
            }
            at += value.len() + 2;
        }
        None
    }

    fn raw(&self) -> impl Iterator<Item = (u8, &[u8])> {
        split(self.bytes.get(HEAD_BYTES..).unwrap_or_default()).flatten()
    }

    /// Its attributes in their order. What a vendor has packed in a way of its own stays whole.
    pub fn avps(&self) -> Vec<Avp> {
        let avp = |vendor, number, value: &[u8]| Avp {
            vendor,
            number,
            value: value.to_vec(),
            hidden: false,
        };
        let mut all = Vec::new();
        for (number, value) in self.raw() {
            let inside = match value {
                [a, b, c, d, inside @ ..] if number == VENDOR_SPECIFIC && !inside.is_empty() => {
                    let vendor = u32::from_be_bytes([*a, *b, *c, *d]);
                    split(inside).collect::<Option<Vec<_>>>().map(|found| (vendor, found))
                }
                _ => None,
            };
            match inside {
                Some((vendor, found)) => {
                    all.extend(found.into_iter().map(|(number, value)| avp(vendor, number, value)));
                }
                None => all.push(avp(0, number, value)),
            }
        }
        all
    }
}

/// Attributes one after the other; `None`: what follows is none.
fn split(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u8, &[u8])>> {
    std::iter::from_fn(move || {
        let (number, length) = match *bytes {
            [] => return None,
            [number, length, ..] if length >= 2 => (number, usize::from(length)),
            _ => {
                bytes = &[];
                return Some(None);
            }
        };
        let value = bytes.get(2..length);
        bytes = bytes.get(length..).unwrap_or_default();
        Some(value.map(|value| (number, value)))
    })
}

/// A reply to a request, as a server would write it: for tests.
pub fn reply(code: Code, to: &[u8], secret: &[u8], avps: &[Avp]) -> Vec<u8> {
    signed(code, to, secret, avps, false)
}

/// The same with a Message-Authenticator.
pub fn proved_reply(code: Code, to: &[u8], secret: &[u8], avps: &[Avp]) -> Vec<u8> {
    signed(code, to, secret, avps, true)
}

fn signed(code: Code, to: &[u8], secret: &[u8], avps: &[Avp], proves: bool) -> Vec<u8> {
    let (id, asked) = (to.get(1).copied().unwrap_or(0), to.get(4..20).unwrap_or_default());
    let mut bytes = vec![code.number(), id, 0, 0];
    bytes.extend(asked);
    let at = bytes.len() + 2;
    if proves {
        bytes.extend([MESSAGE_AUTHENTICATOR, 18]);
        bytes.extend([0; 16]);
    }
    for avp in avps {
        let _ = push(&mut bytes, avp, &[0; 16], secret);
    }
    let length = u16::try_from(bytes.len()).unwrap_or(0);
    put(&mut bytes, 2, &length.to_be_bytes());
    if proves {
        let proof = keyed(secret, &[&bytes]);
        put(&mut bytes, at, &proof);
    }
    let authenticator = digest(&[&bytes, secret]);
    put(&mut bytes, 4, &authenticator);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::slice::from_ref;

    const SECRET: &[u8] = b"xyzzy5461";

    fn avp(number: u8, value: &[u8]) -> Avp {
        Avp { vendor: 0, number, value: value.to_vec(), hidden: false }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn the_reply_of_the_rfc_is_proved() {
        // RFC 2865 7.1: nemo wants to log in by telnet.
        let asked = bytes("0f 40 3f 94 73 97 80 57 bd 83 d5 cb 98 f4 22 7a");
        let reply = bytes(
            "02 00 00 26 86 fe 22 0e 76 24 ba 2a 10 05 f6 bf 9b 55 e0 b2 06 06 00 00 00 01 0f 06 \
             00 00 00 00 0e 06 c0 a8 01 03",
        );
        let packet = Packet::parse(&reply).unwrap();
        let asked: [u8; 16] = asked.try_into().unwrap();
        assert!(packet.answers(&asked, SECRET));
        assert!(!packet.answers(&asked, b"another") && !packet.answers(&[0; 16], SECRET));
        let found: Vec<_> = packet.avps().into_iter().map(|a| (a.number, a.value)).collect();
        let expected = [(6, vec![0, 0, 0, 1]), (15, vec![0; 4]), (14, vec![192, 168, 1, 3])];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_password_of_the_rfc_is_hidden() {
        let asked = bytes("0f 40 3f 94 73 97 80 57 bd 83 d5 cb 98 f4 22 7a").try_into().unwrap();
        let hidden = bytes("0d be 70 8d 93 d4 13 ce 31 96 e4 3f 78 2a 0a ee");
        assert_eq!(hide(b"arctangent", &asked, SECRET), hidden);
        assert_eq!(hide(&[b'x'; 17], &asked, SECRET).len(), 32);
    }

    #[test]
    fn requests_prove_themselves() {
        let user = avp(1, b"alice");
        let access = request(Code::AccessRequest, 7, [9; 16], SECRET, from_ref(&user)).unwrap();
        assert_eq!((access.bytes[1], access.authenticator), (7, [9; 16]));
        let packet = Packet::parse(&access.bytes).unwrap();
        let (at, proof) = packet.proof().unwrap();
        let mut blank = access.bytes.clone();
        put(&mut blank, at, &[0; 16]);
        assert_eq!(proof, Some(keyed(SECRET, &[&blank])));
        let account = request(Code::AccountingRequest, 7, [9; 16], SECRET, &[user]).unwrap();
        let mut blank = account.bytes.clone();
        put(&mut blank, 4, &[0; 16]);
        assert_eq!(account.authenticator, digest(&[&blank, SECRET]));
        assert_eq!(account.bytes[4..20], account.authenticator);
    }

    #[test]
    fn a_reply_whose_second_proof_is_wrong_is_refused() {
        let asked = request(Code::AccessRequest, 1, [3; 16], SECRET, &[]).unwrap();
        let good = Packet::parse(&reply(Code::AccessAccept, &asked.bytes, SECRET, &[])).unwrap();
        assert!(good.answers(&asked.authenticator, SECRET));
        let forged = reply(Code::AccessAccept, &asked.bytes, SECRET, &[avp(80, &[1; 16])]);
        assert!(!Packet::parse(&forged).unwrap().answers(&asked.authenticator, SECRET));
        let short = reply(Code::AccessAccept, &asked.bytes, SECRET, &[avp(80, b"x")]);
        assert!(!Packet::parse(&short).unwrap().answers(&asked.authenticator, SECRET));
    }

    #[test]
    fn attributes_of_vendors_are_taken_apart() {
        let of = Avp { vendor: 9, number: 1, value: b"a=b".to_vec(), hidden: false };
        let sent = request(Code::AccountingRequest, 1, [0; 16], SECRET, from_ref(&of)).unwrap();
        assert_eq!(Packet::parse(&sent.bytes).unwrap().avps(), [of]);
        let odd = [avp(26, &[0, 0, 0, 9, 1, 0]), avp(26, b"x")];
        let sent = request(Code::AccountingRequest, 1, [0; 16], SECRET, &odd).unwrap();
        assert_eq!(Packet::parse(&sent.bytes).unwrap().avps(), odd);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let long = avp(1, &[b'x'; VALUE_BYTES_MAX]);
        let sent = |n| request(Code::AccountingRequest, 1, [0; 16], SECRET, &vec![long.clone(); n]);
        assert!(sent(15).is_ok() && sent(16) == Ok(sent(15).unwrap()) || sent(17).is_err());
        assert_eq!(sent(17), Err(TooLong));
        let longer = avp(1, &[b'x'; VALUE_BYTES_MAX + 1]);
        assert_eq!(request(Code::AccessRequest, 1, [0; 16], SECRET, &[longer]), Err(TooLong));
    }

    fn any_avp() -> impl Strategy<Value = (u32, u8, Vec<u8>)> {
        let vendor = prop_oneof![Just(0u32), any::<u32>()];
        (vendor, 1u8..26, prop::collection::vec(any::<u8>(), 0..200))
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, length in 0u16..60) {
            let mut bytes = bytes;
            for bytes in [bytes.clone(), { put(&mut bytes, 2, &length.to_be_bytes()); bytes }] {
                if let Ok(packet) = Packet::parse(&bytes) {
                    let _ = (packet.avps(), packet.answers(&[0; 16], SECRET));
                }
            }
        }

        #[test]
        fn what_is_written_is_read(avps in prop::collection::vec(any_avp(), 0..10)) {
            let avp = |(vendor, number, value)| Avp { vendor, number, value, hidden: false };
            let avps: Vec<Avp> = avps.into_iter().map(avp).collect();
            let sent = request(Code::AccountingRequest, 1, [0; 16], SECRET, &avps).unwrap();
            prop_assert_eq!(Packet::parse(&sent.bytes).unwrap().avps(), avps);
        }
    }
}
