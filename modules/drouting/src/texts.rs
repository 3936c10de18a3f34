//! Many texts in few allocations: what rules have in common they share.

use std::collections::BTreeMap;

/// Different texts that are looked for; a table with more of them has one for nearly every rule,
/// and then looking costs more than it saves.
const KNOWN_MAX: usize = 65_536;

/// Texts by their numbers. Number 0 is the empty text.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    all: String,
    /// Where each text ends.
    ends: Vec<u32>,
}

impl Texts {
    /// The text of a number.
    pub(crate) fn get(&self, number: u32) -> &str {
        let end = |number: u32| self.ends.get(number as usize).map_or(0, |end| *end as usize);
        let from = number.checked_sub(1).map_or(0, end);
        self.all.get(from..end(number)).unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.all.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

/// Texts on their way into memory.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    texts: Texts,
    known: BTreeMap<Box<str>, u32>,
}

impl Gathering {
    /// The number of a text; `None`: there is no room for more.
    pub(crate) fn add(&mut self, text: &str) -> Option<u32> {
        let Texts { all, ends } = &mut self.texts;
        if ends.is_empty() {
            ends.push(0);
        }
        if text.is_empty() {
            return Some(0);
        }
        if let Some(number) = self.known.get(text) {
            return Some(*number);
        }
        let (number, end) = (u32::try_from(ends.len()), u32::try_from(all.len() + text.len()));
        let (number, end) = (number.ok()?, end.ok()?);
        all.push_str(text);
        ends.push(end);
        if self.known.len() < KNOWN_MAX {
            self.known.insert(text.into(), number);
        }
        Some(number)
    }

    pub(crate) fn finish(mut self) -> Texts {
        self.texts.all.shrink_to_fit();
        self.texts.ends.shrink_to_fit();
        self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(all in proptest::collection::vec("[a-c\u{e4}]{0,3}", 0..40)) {
            let mut gathering = Gathering::default();
            let numbers: Vec<u32> = all.iter().map(|t| gathering.add(t).unwrap()).collect();
            let texts = gathering.finish();
            for (text, number) in all.iter().zip(&numbers) {
                prop_assert_eq!(texts.get(*number), text);
            }
            for (a, b) in all.iter().zip(&numbers) {
                for (c, d) in all.iter().zip(&numbers) {
                    prop_assert_eq!(a == c, b == d);
                }
            }
            prop_assert_eq!(texts.get(99), "");
        }
    }
}
