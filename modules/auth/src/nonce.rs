//! Nonces that carry what is needed to judge them, so that any node with the key can.
//!
//! 16 bytes, big-endian, and 16 bytes of a keyed hash over them, in base64 for URLs:
//! time of issue (unix ms, 6), node (2), issuer (4, chosen at every start), number (4).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Characters of a nonce.
pub(crate) const NONCE_CHARS: usize = 43;
const DATA_BYTES: usize = 16;
const MAC_BYTES: usize = 16;

/// The key that signs.
#[derive(Clone)]
pub(crate) struct Key([u8; 32]);

impl Key {
    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From the text of `secret`.
    pub(crate) fn of_secret(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Key and data fill one block of the hash, and the result is cut: nothing can be appended.
    fn mac(&self, data: [u8; DATA_BYTES]) -> [u8; MAC_BYTES] {
        let hash = Sha256::new().chain_update(self.0).chain_update(data).finalize();
        let mut mac = [0; MAC_BYTES];
        mac.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        mac
    }
}

/// What a nonce says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nonce {
    pub(crate) unix_ms: u64,
    pub(crate) node: u16,
    pub(crate) issuer: u32,
    pub(crate) number: u32,
}

impl Nonce {
    /// Writes the nonce as text.
    pub(crate) fn write(&self, key: &Key) -> [u8; NONCE_CHARS] {
        let data = self.data();
        let mut bytes = [0; DATA_BYTES + MAC_BYTES];
        let signed = data.into_iter().chain(key.mac(data));
        bytes.iter_mut().zip(signed).for_each(|(to, from)| *to = from);
        let mut text = [b'-'; NONCE_CHARS];
        // The room is exactly what 32 bytes need.
        let _ = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        text
    }

    /// Reads a nonce; `None` if it was not signed with the key of the node that it names.
    pub(crate) fn read(text: &[u8], key_of: impl FnOnce(u16) -> Option<Key>) -> Option<Self> {
        if text.len() != NONCE_CHARS {
            return None;
        }
        let mut bytes = [0; DATA_BYTES + MAC_BYTES + 2];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        if length != DATA_BYTES + MAC_BYTES {
            return None;
        }
        let (data, rest) = bytes.split_first_chunk::<DATA_BYTES>()?;
        let nonce = Self::of_data(u128::from_be_bytes(*data));
        let key = key_of(nonce.node)?;
        let differences =
            key.mac(*data).iter().zip(rest).fold(0, |all, (wanted, given)| all | (wanted ^ given));
        (differences == 0).then_some(nonce)
    }

    fn data(&self) -> [u8; DATA_BYTES] {
        let time = u128::from(self.unix_ms & ((1 << 48) - 1)) << 80;
        let node = u128::from(self.node) << 64;
        (time | node | u128::from(self.issuer) << 32 | u128::from(self.number)).to_be_bytes()
    }

    const fn of_data(data: u128) -> Self {
        Self {
            unix_ms: (data >> 80) as u64,
            node: (data >> 64) as u16,
            issuer: (data >> 32) as u32,
            number: data as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_nonce_is_read_with_its_key_only_and_not_when_changed() {
        let (key, other) = (Key::of_secret(b"secret-1"), Key::of_secret(b"secret-2"));
        let nonce = Nonce { unix_ms: 1_800_000_000_123, node: 2, issuer: 7, number: u32::MAX };
        let text = nonce.write(&key);
        assert_eq!(Nonce::read(&text, |_| Some(key.clone())), Some(nonce));
        assert_eq!(Nonce::read(&text, |_| Some(other.clone())), None);
        for at in 0..NONCE_CHARS {
            let mut changed = text;
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(Nonce::read(&changed, |_| Some(key.clone())), None, "character {at}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text: Vec<u8>, nonce in "[A-Za-z0-9_-]{43}") {
            let key = Key::of_secret(b"secret-1");
            prop_assert_eq!(Nonce::read(&text, |_| Some(key.clone())), None);
            prop_assert_eq!(Nonce::read(nonce.as_bytes(), |_| Some(key.clone())), None);
        }
    }
}
