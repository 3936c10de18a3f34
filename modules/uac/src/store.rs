//! The text in the Record-Route: two URIs laid over each other, so that each gives the other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

/// The longest URI that is stored.
pub(crate) const URI_BYTES_MAX: usize = 1_024;

/// One URI over the other, hidden with a key; `None` if one is too long.
pub(crate) fn encode(one: &[u8], other: &[u8], key: &[u8]) -> Option<String> {
    let len = one.len().max(other.len());
    if len > URI_BYTES_MAX {
        return None;
    }
    let mixed: Vec<u8> = (0..len).map(|at| byte(one, at) ^ byte(other, at)).collect();
    Some(BASE64.encode(with_key(mixed, key)))
}

/// The URI that lies over `known`; `None` if the text is not one of [`encode`].
pub(crate) fn decode(text: &[u8], known: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    if text.len() > URI_BYTES_MAX * 2 {
        return None;
    }
    let mixed = with_key(BASE64.decode(text).ok()?, key);
    if known.len() > mixed.len() {
        return None;
    }
    let mut uri: Vec<u8> = mixed.iter().enumerate().map(|(at, b)| b ^ byte(known, at)).collect();
    while uri.last() == Some(&0) {
        uri.pop();
    }
    let is_text = !uri.is_empty() && uri.iter().all(|b| *b > b' ' && *b < 0x7f);
    is_text.then_some(uri)
}

fn byte(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(0)
}

fn with_key(mut bytes: Vec<u8>, key: &[u8]) -> Vec<u8> {
    if !key.is_empty() {
        bytes.iter_mut().zip(key.iter().cycle()).for_each(|(b, k)| *b ^= k);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_uri_gives_the_other(
            one in "sip:[a-z0-9@.;=]{1,40}", other in "sip:[a-z0-9@.]{1,40}", key in "[ -~]{0,8}"
        ) {
            let (one, other, key) = (one.as_bytes(), other.as_bytes(), key.as_bytes());
            let text = encode(one, other, key).unwrap();
            prop_assert_eq!(decode(text.as_bytes(), one, key), Some(other.to_vec()));
            prop_assert_eq!(decode(text.as_bytes(), other, key), Some(one.to_vec()));
        }

        #[test]
        fn no_text_panics(text in "[ -~]{0,40}", known in "[ -~]{0,40}", key in "[ -~]{0,4}") {
            let _ = decode(text.as_bytes(), known.as_bytes(), key.as_bytes());
        }
    }
}
