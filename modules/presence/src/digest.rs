//! A digest that two nodes compute alike: not keyed, and no secret.

/// Folds fields into 64 bits; what strangers could gain by a collision is a NOTIFY less.
#[derive(Clone, Debug)]
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
        for chunk in text.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.number(u64::from_le_bytes(word));
        }
    }

    /// Never 0, which stands for nothing.
    pub(crate) fn end(mut self) -> u64 {
        self.number(FACTOR);
        self.0 | 1
    }
}
