//! Texts hidden with a key, in letters that stand in URIs and Call-IDs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

/// The letters of an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Base64,
    /// RFC 4648 6 in small letters, read in any case.
    Base32,
}

/// Longest text that is decoded.
const TEXT_BYTES_MAX: usize = 8_192;
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

pub(crate) fn encode(bytes: &[u8], key: &[u8], scheme: Scheme) -> String {
    let mut all = checksum(bytes).to_vec();
    all.extend_from_slice(bytes);
    mix(&mut all, key);
    letters(&all, scheme)
}

/// Bytes in the letters of an encoding.
pub(crate) fn letters(bytes: &[u8], scheme: Scheme) -> String {
    match scheme {
        Scheme::Base64 => BASE64.encode(bytes),
        Scheme::Base32 => base32(bytes),
    }
}

/// `None`: these are not letters of this encoding, or too many.
pub(crate) fn read_letters(text: &[u8], scheme: Scheme) -> Option<Vec<u8>> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    match scheme {
        Scheme::Base64 => BASE64.decode(text).ok(),
        Scheme::Base32 => from_base32(text),
    }
}

/// `None`: it was not encoded with this key.
pub(crate) fn decode(text: &[u8], key: &[u8], scheme: Scheme) -> Option<Vec<u8>> {
    let mut all = read_letters(text, scheme)?;
    mix(&mut all, key);
    let (sum, bytes) = all.split_at_checked(4)?;
    (checksum(bytes) == sum).then(|| bytes.to_vec())
}

fn mix(bytes: &mut [u8], key: &[u8]) {
    if !key.is_empty() {
        bytes.iter_mut().zip(key.iter().cycle()).for_each(|(b, k)| *b ^= k);
    }
}

/// FNV-1a: tells what was not encoded here, and is no protection against forgery.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    let step = |sum: u32, b: &u8| (sum ^ u32::from(*b)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, step).to_le_bytes()
}

fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut bits, mut held) = (0u32, 0u32);
    for b in bytes {
        held = held << 8 | u32::from(*b);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(letter(held >> bits));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(letter(held << (5 - bits)));
    }
    out
}

fn letter(number: u32) -> char {
    char::from(LETTERS.get((number & 31) as usize).copied().unwrap_or(b'a'))
}

fn from_base32(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut held) = (0u32, 0u32);
    for b in text {
        let number = LETTERS.iter().position(|l| *l == b.to_ascii_lowercase())? as u32;
        held = held << 5 | number;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            bytes in proptest::collection::vec(any::<u8>(), 0..60), key in "[ -~]{0,9}"
        ) {
            for scheme in [Scheme::Base64, Scheme::Base32] {
                let text = encode(&bytes, key.as_bytes(), scheme);
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
                let read = decode(text.as_bytes(), key.as_bytes(), scheme);
                prop_assert_eq!(read, Some(bytes.clone()));
            }
        }

        #[test]
        fn no_text_panics(text in "[ -~]{0,40}") {
            for scheme in [Scheme::Base64, Scheme::Base32] {
                let _ = decode(text.as_bytes(), b"key", scheme);
            }
        }
    }
}
