//! The branch of our own Via: it names the transaction and its branch, so that a reply finds them.
//!
//! `z9hG4bK` + hash index + `.` + label + `.` + branch number, in hex with the least significant
//! digit first, as OpenSIPS writes it. The label is random, so that nobody who has not seen the
//! request can make up a reply to it.

use tandem_sip::BRANCH_COOKIE;

/// Shards of the transaction table; the hash index of a branch is one of them.
pub(crate) const SHARDS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 10;
/// Bits of the label that are unique in a shard and go into timers and tickets.
const SHORT_BITS: u32 = 30;

/// Of the short label: one of the requests that need no transaction (`plain.rs`).
const PLAIN: u64 = 1 << (SHORT_BITS - 1);

/// The name of a transaction in this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TxId {
    /// The shard.
    pub(crate) index: u16,
    pub(crate) label: u64,
}

impl TxId {
    /// The name of a request in a place of [`crate::plain::Plains`].
    pub(crate) fn plain(index: u16, place: u32, random: u64) -> Self {
        let free = random & !((1 << SHORT_BITS) - 1);
        Self { index, label: free | PLAIN | (u64::from(place) & (PLAIN - 1)) }
    }

    /// Whether it looks like one of those.
    pub(crate) fn is_plain(self) -> bool {
        self.label & PLAIN != 0
    }

    /// The same by the short label.
    pub(crate) fn is_plain_short(short: u32) -> bool {
        u64::from(short) & PLAIN != 0
    }

    pub(crate) fn plain_place(self) -> usize {
        (self.label & (PLAIN - 1)) as usize
    }

    /// A token for what is sent. In place of a number some of the random bits: nearly always
    /// another one than that of an earlier request in the same place.
    pub(crate) fn plain_ticket(self) -> u64 {
        self.token((self.label >> SHORT_BITS) as u8)
    }

    /// A label for a transaction.
    pub(crate) fn label(random: u64) -> u64 {
        random & !PLAIN
    }

    /// The part of the label that is unique in the shard.
    pub(crate) fn short(self) -> u32 {
        (self.label & ((1 << SHORT_BITS) - 1)) as u32
    }

    /// Shard and short label: enough to find it.
    pub(crate) fn place(self) -> (u16, u32) {
        (self.index, self.short())
    }

    /// Shard, short label and a number in the 48 bits that timers and tickets have; not 0 as
    /// long as the short label is not.
    pub(crate) fn token(self, number: u8) -> u64 {
        let short = u64::from(self.short()) | (u64::from(self.index) << SHORT_BITS);
        (short << 8) | u64::from(number)
    }

    /// Shard, short label and number of a token.
    pub(crate) fn of_token(token: u64) -> (u16, u32, u8) {
        let short = (token >> 8) & ((1 << SHORT_BITS) - 1);
        let index = (token >> (8 + SHORT_BITS)) & (SHARDS as u64 - 1);
        (index as u16, short as u32, token as u8)
    }

    /// The branch value for a Via.
    pub(crate) fn via_branch(self, branch: u8) -> Vec<u8> {
        let mut out = Vec::with_capacity(BRANCH_COOKIE.len() + 24);
        out.extend_from_slice(BRANCH_COOKIE);
        self.write(&mut out);
        out.push(b'.');
        push_hex(&mut out, u64::from(branch));
        out
    }

    /// What `$T_id` shows.
    pub(crate) fn text(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        self.write(&mut out);
        out
    }

    /// Transaction and branch number of a Via branch, if it has the form of ours.
    pub(crate) fn parse(branch: &[u8]) -> Option<(Self, u8)> {
        let mut parts = branch.strip_prefix(BRANCH_COOKIE)?.split(|b| *b == b'.');
        let index = u16::try_from(parse_hex(parts.next()?)?).ok()?;
        let label = parse_hex(parts.next()?)?;
        let branch = u8::try_from(parse_hex(parts.next()?)?).ok()?;
        let known = usize::from(index) < SHARDS && parts.next().is_none();
        known.then_some((Self { index, label }, branch))
    }

    fn write(self, out: &mut Vec<u8>) {
        push_hex(out, u64::from(self.index));
        out.push(b'.');
        push_hex(out, self.label);
    }
}

fn push_hex(out: &mut Vec<u8>, number: u64) {
    let mut rest = number;
    loop {
        let digit = (rest & 0xf) as u8;
        out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        rest >>= 4;
        if rest == 0 {
            return;
        }
    }
}

fn parse_hex(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter().rev().try_fold(0u64, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        Some((number << 4) | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_are_written_with_the_least_significant_first() {
        let mut out = Vec::new();
        push_hex(&mut out, 0x1f8d);
        assert_eq!(out, b"d8f1");
        let id = TxId { index: 0x1a, label: 0x2b };
        assert_eq!(id.via_branch(16), b"z9hG4bKa1.b2.01");
    }

    #[test]
    fn branches_of_others_are_not_taken_for_ours() {
        for other in ["z9hG4bK", "z9hG4bK1.2", "z9hG4bK1.2.3.4", "1.2.3", "z9hG4bKffff.1.1"] {
            assert_eq!(TxId::parse(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(index in 0..SHARDS as u16, label: u64, branch: u8) {
            let id = TxId { index, label };
            prop_assert_eq!(TxId::parse(&id.via_branch(branch)), Some((id, branch)));
            prop_assert_eq!(TxId::of_token(id.token(branch)), (index, id.short(), branch));
            prop_assert!(id.token(branch) < 1 << 48);
        }

        #[test]
        fn any_bytes_give_an_answer(text: Vec<u8>) {
            let _ = TxId::parse(&text);
        }
    }
}
