//! A digest that is the same on every node: not keyed, and no secret.

/// Folds fields into 64 bits. Two nodes compare these, or sums of them; what strangers could gain
/// by a collision is a repair that comes late.
#[derive(Clone, Copy, Debug)]
pub struct Digester(u64);

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

impl Default for Digester {
    fn default() -> Self {
        Self(SEED)
    }
}

impl Digester {
    pub fn number(&mut self, n: u64) {
        let product = u128::from(self.0 ^ n) * u128::from(FACTOR);
        self.0 = (product as u64 ^ (product >> 64) as u64).wrapping_add(SEED).rotate_left(23);
    }

    /// A text with its length, so that texts beside each other cannot trade bytes.
    pub fn text(&mut self, text: &[u8]) {
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

    /// Things in whatever order; `each` folds one of them.
    pub fn unordered<T>(&mut self, all: impl IntoIterator<Item = T>, each: impl Fn(&mut Self, T)) {
        let sum = all.into_iter().fold(0u64, |sum, item| {
            let mut one = Self::default();
            each(&mut one, item);
            sum.wrapping_add(one.end())
        });
        self.number(sum);
    }

    pub fn end(mut self) -> u64 {
        self.number(FACTOR);
        self.0
    }

    /// The same and never 0, where 0 stands for what is in no digest.
    pub fn end_nonzero(self) -> u64 {
        self.end() | 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(each: impl FnOnce(&mut Digester)) -> u64 {
        let mut all = Digester::default();
        each(&mut all);
        all.end()
    }

    #[test]
    fn texts_beside_each_other_do_not_trade_bytes_and_order_counts_where_it_should() {
        let two = |a: &[u8], b: &[u8]| {
            of(|all| {
                all.text(a);
                all.text(b);
            })
        };
        assert_ne!(two(b"ab", b"c"), two(b"a", b"bc"));
        assert_ne!(two(b"a", b"b"), two(b"b", b"a"));
        let set = |names: [&str; 2]| {
            of(|all| all.unordered(names, |one, name| one.text(name.as_bytes())))
        };
        assert_eq!(set(["a", "b"]), set(["b", "a"]));
        assert_ne!(set(["a", "b"]), set(["a", "a"]));
    }

    #[test]
    fn the_rest_of_a_text_is_filled_up_with_zeros() {
        let padded = of(|all| {
            all.number(17);
            for word in [*b"01234567", *b"89abcdef", *b"g\0\0\0\0\0\0\0"] {
                all.number(u64::from_le_bytes(word));
            }
        });
        assert_eq!(of(|all| all.text(b"0123456789abcdefg")), padded);
    }
}
