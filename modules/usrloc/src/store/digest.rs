//! A digest that is the same on every node: not keyed, and no secret.

/// Folds fields into 64 bits. Two nodes compare sums of these; what strangers could gain by a
/// collision is a repair that comes late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digester(u64);

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

impl Default for Digester {
    fn default() -> Self {
        Self(SEED)
    }
}

impl Digester {
    pub(crate) fn number(&mut self, n: u64) {
        let product = u128::from(self.0 ^ n) * u128::from(FACTOR);
        self.0 = (product as u64 ^ (product >> 64) as u64).wrapping_add(SEED).rotate_left(23);
    }

    /// A text with its length, so that texts beside each other cannot trade bytes.
    pub(crate) fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        let (words, rest) = text.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.number(last);
        }
    }

    /// Names separated by spaces, in whatever order.
    pub(crate) fn names(&mut self, names: &[u8]) {
        let each = names.split(|b| *b == b' ').filter(|n| !n.is_empty());
        let sum = each.fold(0u64, |sum, name| {
            let mut one = Self::default();
            one.text(name);
            sum.wrapping_add(one.end())
        });
        self.number(sum);
    }

    pub(crate) fn end(mut self) -> u64 {
        self.number(FACTOR);
        self.0
    }
}
