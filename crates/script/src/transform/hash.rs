//! `{s.*}`: digests, message authentication, base64, xor.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{KeyInit, Mac, SimpleHmac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::text::hex;
use super::{Args, Run, TransformSig, map, on, row, special, text};
use crate::value::Value;

pub(super) const TABLE: &[TransformSig] = &[
    row("s.md5", (0, 0, 0), |v, _| digest::<Md5>(v), "MD5, in hexadecimal"),
    row("s.crc32", (0, 0, 0), |v, _| on(v, crc32), "CRC-32, as a decimal text"),
    row("s.sha1", (0, 0, 0), |v, _| digest::<Sha1>(v), "SHA-1, in hexadecimal"),
    row("s.sha224", (0, 0, 0), |v, _| digest::<Sha224>(v), "SHA-224, in hexadecimal"),
    row("s.sha256", (0, 0, 0), |v, _| digest::<Sha256>(v), "SHA-256, in hexadecimal"),
    row("s.sha384", (0, 0, 0), |v, _| digest::<Sha384>(v), "SHA-384, in hexadecimal"),
    row("s.sha512", (0, 0, 0), |v, _| digest::<Sha512>(v), "SHA-512, in hexadecimal"),
    keyed("s.sha1_hmac", mac::<SimpleHmac<Sha1>>),
    keyed("s.sha224_hmac", mac::<SimpleHmac<Sha224>>),
    keyed("s.sha256_hmac", mac::<SimpleHmac<Sha256>>),
    keyed("s.sha384_hmac", mac::<SimpleHmac<Sha384>>),
    keyed("s.sha512_hmac", mac::<SimpleHmac<Sha512>>),
    row("s.b64encode", (0, 0, 0), |v, _| on(v, |t| text(STANDARD.encode(t))), "to base64"),
    row("s.b64decode", (0, 0, 0), |v, _| map(v, from_base64), "from base64, as far as it goes"),
    special("s.xor", (1, 1, 0), Run::Greedy(xor), "exclusive or with a secret"),
];

const fn keyed(name: &'static str, run: fn(&Value, &Args<'_>) -> Value) -> TransformSig {
    special(name, (1, 1, 0), Run::Greedy(run), "HMAC with a key (RFC 2104), in hexadecimal")
}

fn digest<D: Digest>(value: &Value) -> Value {
    map(value, |t| hex(&D::digest(t)))
}

fn crc32(bytes: &[u8]) -> Value {
    text(crc32fast::hash(bytes).to_string())
}

fn mac<M: Mac + KeyInit>(value: &Value, args: &Args<'_>) -> Value {
    let Some(key) = args.text(0) else { return Value::Null };
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(&key) else { return Value::Null };
    map(value, |t| {
        mac.update(t);
        hex(&mac.finalize().into_bytes())
    })
}

/// Decodes up to the first character that is none of the alphabet; without padding, too.
fn from_base64(text: &[u8]) -> Vec<u8> {
    let part = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0u32);
    for six in text.iter().filter(|b| !b.is_ascii_whitespace()).map_while(|b| part(*b)) {
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

fn xor(value: &Value, args: &Args<'_>) -> Value {
    let Some(secret) = args.text(0).filter(|s| !s.is_empty()) else { return Value::Null };
    map(value, |t| t.iter().zip(secret.iter().cycle()).map(|(a, b)| a ^ b).collect())
}
