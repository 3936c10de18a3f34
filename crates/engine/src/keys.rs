//! Texts of our own that others carry for us: nobody else reads them or makes one.
//!
//! A text is sealed with a key and a purpose. 12 bytes of a keyed hash over it stand before it and
//! start the stream that hides it, so equal texts look equal and nothing can be changed. Key and
//! kind stand first in what is hashed and the tag is cut, so that nothing can be appended.
//!
//! Every node has a key of its own, kept in its state, and its Tandem peers are told it: what a
//! node has sealed its peers can open when it is gone.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use tandem_clock::Chance;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes that a sealed text is longer.
const TAG_BYTES: usize = 12;
/// Keys of other nodes that are kept.
const PEERS_MAX: usize = 64;
/// The kinds of what is hashed.
const TAG: u8 = 1;
const STREAM: u8 = 2;

/// A key that seals.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// From a text of the configuration.
    pub fn of_secret(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    fn random(chance: &mut Chance) -> Self {
        let mut bytes = [0; KEY_BYTES];
        bytes.chunks_mut(8).for_each(|part| {
            part.iter_mut().zip(chance.u64().to_be_bytes()).for_each(|(to, from)| *to = from);
        });
        Self(bytes)
    }

    fn hash(&self, kind: u8, purpose: &str, parts: [&[u8]; 2]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update([kind, purpose.len() as u8]);
        hash.update(purpose.as_bytes());
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().into()
    }

    fn tag(&self, purpose: &str, text: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        let hash = self.hash(TAG, purpose, [text, b""]);
        tag.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        tag
    }

    /// Hides what is readable, and back.
    fn mix(&self, purpose: &str, tag: &[u8], text: &mut [u8]) {
        for (number, part) in (0u32..).zip(text.chunks_mut(32)) {
            let stream = self.hash(STREAM, purpose, [tag, &number.to_be_bytes()]);
            part.iter_mut().zip(stream).for_each(|(b, s)| *b ^= s);
        }
    }

    pub fn seal(&self, purpose: &str, text: &[u8]) -> Vec<u8> {
        let tag = self.tag(purpose, text);
        let mut sealed = [&tag[..], text].concat();
        if let Some(text) = sealed.get_mut(TAG_BYTES..) {
            self.mix(purpose, &tag, text);
        }
        sealed
    }

    /// `None`: it was not sealed with this key for this purpose, or was changed.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (tag, text) = sealed.split_at_checked(TAG_BYTES)?;
        let mut text = text.to_vec();
        self.mix(purpose, tag, &mut text);
        let wanted = self.tag(purpose, &text);
        let differences = wanted.iter().zip(tag).fold(0, |all, (w, g)| all | (w ^ g));
        (differences == 0).then_some(text)
    }
}

/// The keys that a node knows: its own, and those of its peers.
#[derive(Debug)]
pub struct Keys {
    node: u32,
    own: RwLock<Key>,
    peers: RwLock<BTreeMap<u32, Key>>,
}

impl Keys {
    pub(crate) fn new(node: u32, chance: &mut Chance) -> Self {
        Self { node, own: RwLock::new(Key::random(chance)), peers: RwLock::default() }
    }

    /// This node's key as its peers have it.
    pub(crate) fn own(&self) -> Bytes {
        Bytes::copy_from_slice(&self.own.read().0)
    }

    /// The same as its state file has it.
    pub(crate) fn text(&self) -> String {
        self.own.read().0.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// Takes the key of an earlier life; `false`: that is none.
    pub(crate) fn restore(&self, text: &[u8]) -> bool {
        let mut key = [0; KEY_BYTES];
        let text = std::str::from_utf8(text).unwrap_or_default().trim();
        if text.len() != 2 * KEY_BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
        for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
            *byte = text.get(at..at + 2).and_then(|t| u8::from_str_radix(t, 16).ok()).unwrap_or(0);
        }
        *self.own.write() = Key(key);
        true
    }

    pub(crate) fn learn(&self, node: u32, key: &[u8]) {
        let Ok(key) = <[u8; KEY_BYTES]>::try_from(key) else { return };
        let mut peers = self.peers.write();
        if peers.len() < PEERS_MAX || peers.contains_key(&node) {
            peers.insert(node, Key(key));
        }
    }

    /// Seals a text so that this node and its peers can open it.
    pub fn seal(&self, purpose: &str, text: &[u8]) -> Vec<u8> {
        let node = self.node.to_be_bytes();
        let [.., high, low] = node;
        let mut sealed = vec![high, low];
        sealed.extend(self.own.read().seal(purpose, text));
        sealed
    }

    /// Opens what this node or one of its peers has sealed.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (node, sealed) = sealed.split_first_chunk::<2>()?;
        let node = u32::from(u16::from_be_bytes(*node));
        let of_peer = self.peers.read().get(&node).cloned();
        // A node that has joined a cluster opens what it sealed before.
        let known = of_peer.filter(|_| node != self.node).and_then(|k| k.open(purpose, sealed));
        known.or_else(|| self.own.read().open(purpose, sealed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_peer_opens_what_a_node_has_sealed_and_strangers_do_not() {
        let mut chance = Chance::from_number(1);
        let (one, two) = (Keys::new(1, &mut chance), Keys::new(2, &mut chance));
        let sealed = one.seal("contact", b"sip:alice@10.0.0.1");
        assert_eq!(two.open("contact", &sealed), None);
        two.learn(1, &one.own());
        assert_eq!(two.open("contact", &sealed).as_deref(), Some(&b"sip:alice@10.0.0.1"[..]));
        assert_eq!(one.open("contact", &sealed), two.open("contact", &sealed));
        assert_eq!(two.open("gruu", &sealed), None, "the purpose counts");
        let own = one.text();
        let later = Keys::new(1, &mut chance);
        assert_eq!(later.open("contact", &sealed), None);
        assert!(later.restore(own.as_bytes()) && !later.restore(b"short"));
        assert!(later.open("contact", &sealed).is_some(), "after a restart");
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_and_nothing_else_is(
            text in proptest::collection::vec(any::<u8>(), 0..100),
            at in any::<prop::sample::Index>(), bit in 0u8..8,
            other in proptest::collection::vec(any::<u8>(), 0..60)
        ) {
            let key = Key::of_secret(b"secret");
            let mut sealed = key.seal("p", &text);
            prop_assert_eq!(key.open("p", &sealed), Some(text));
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(key.open("p", &sealed), None);
            prop_assert_eq!(key.open("p", &other), None);
        }
    }
}
