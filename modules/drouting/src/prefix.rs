//! The tree of digits: from a number to the rules of its prefixes, the longest first.
//!
//! The nodes lie in one array, the children of a node side by side in the order of their digits,
//! so that a node is a set of digits, the place of its first child and the places of its rules:
//! 16 bytes. A look-up takes as many steps as the number has digits, however many rules there
//! are. A tree is never changed; another one takes its place.

use std::cmp::Reverse;
use std::collections::VecDeque;

use smallvec::SmallVec;

/// Digits that a tree may know: bits of a node's set.
const DIGITS_MAX: usize = 32;
/// Digits of a number that are looked at.
const DEPTH_MAX: usize = 256;

/// The digits of prefixes.
#[derive(Clone, Debug)]
pub(crate) struct Alphabet([u8; 128]);

impl Alphabet {
    /// 0 to 9 and further characters.
    ///
    /// # Errors
    /// What is wrong with those, in plain words.
    pub(crate) fn new(extra: &str) -> Result<Self, String> {
        let mut all: Vec<u8> = extra.bytes().chain(b'0'..=b'9').collect();
        if let Some(wrong) = extra.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(format!("{wrong:?} cannot be part of a prefix"));
        }
        all.sort_unstable();
        all.dedup();
        if all.len() > DIGITS_MAX {
            return Err(format!("a prefix has at most {DIGITS_MAX} different characters"));
        }
        let mut codes = [u8::MAX; 128];
        for (code, byte) in (0u8..).zip(all) {
            if let Some(place) = codes.get_mut(usize::from(byte)) {
                *place = code;
            }
        }
        Ok(Self(codes))
    }

    /// The bit of a digit; `None`: it is none.
    fn bit(&self, byte: u8) -> Option<u32> {
        let code = self.0.get(usize::from(byte)).copied().filter(|code| *code != u8::MAX)?;
        Some(1 << code)
    }

    pub(crate) fn takes(&self, prefix: &[u8]) -> bool {
        prefix.iter().all(|byte| self.bit(*byte).is_some())
    }
}

/// A rule as the tree sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) group: u32,
    /// Its place in the table of rules.
    pub(crate) rule: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// Digits that lead on.
    digits: u32,
    /// Place of the child of the smallest of them.
    child: u32,
    /// The rules of this prefix.
    first: u32,
    count: u32,
}

/// Rules by their prefixes.
#[derive(Debug)]
pub(crate) struct Tree {
    alphabet: Alphabet,
    nodes: Vec<Node>,
    /// By prefix, then group, then priority.
    entries: Vec<Entry>,
}

/// The nodes that a number leads through; the root first.
pub(crate) type Path = SmallVec<[u32; 24]>;

impl Tree {
    /// `of` gives the prefix and the priority of a rule; prefixes hold digits of the alphabet
    /// only.
    pub(crate) fn new<'r>(
        alphabet: Alphabet,
        mut entries: Vec<Entry>,
        of: impl Fn(u32) -> (&'r [u8], i64),
    ) -> Self {
        entries.sort_unstable_by(|a, b| {
            let ((left, more), (right, less)) = (of(a.rule), of(b.rule));
            let key = |entry: &Entry, priority| (entry.group, Reverse(priority), entry.rule);
            left.cmp(right).then_with(|| key(a, more).cmp(&key(b, less)))
        });
        let digit = |entry: &Entry, depth: usize| of(entry.rule).0.get(depth).copied();
        let mut nodes = vec![Node::default()];
        let mut open = VecDeque::from([(0usize, 0usize, entries.len(), 0usize)]);
        while let Some((at, low, high, depth)) = open.pop_front() {
            let here = entries.get(low..high).unwrap_or_default();
            let own = here.partition_point(|entry| digit(entry, depth).is_none());
            let child = nodes.len() as u32;
            let (mut digits, mut from) = (0, low + own);
            while let Some(entry) = entries.get(from).filter(|_| from < high) {
                let here = digit(entry, depth);
                let rest = entries.get(from..high).unwrap_or_default();
                let to = from + rest.partition_point(|entry| digit(entry, depth) == here);
                digits |= here.and_then(|digit| alphabet.bit(digit)).unwrap_or(0);
                open.push_back((nodes.len(), from, to.max(from + 1), depth + 1));
                nodes.push(Node::default());
                from = to.max(from + 1);
            }
            if let Some(node) = nodes.get_mut(at) {
                *node = Node { digits, child, first: low as u32, count: own as u32 };
            }
        }
        Self { alphabet, nodes, entries }
    }

    /// The nodes of a number. A character that is no digit, met before the tree ends, leaves the
    /// root alone.
    pub(crate) fn path(&self, number: &[u8]) -> Path {
        let root = Path::from_slice(&[0]);
        let mut path = root.clone();
        let mut at = 0u32;
        for byte in number.iter().take(DEPTH_MAX) {
            let Some(node) = self.nodes.get(at as usize) else { break };
            if node.digits == 0 {
                break;
            }
            let Some(bit) = self.alphabet.bit(*byte) else { return root };
            if node.digits & bit == 0 {
                break;
            }
            at = node.child + (node.digits & (bit - 1)).count_ones();
            path.push(at);
        }
        path
    }

    /// The rules of a group at a node, the most important first.
    pub(crate) fn rules(&self, node: u32, group: u32) -> &[Entry] {
        let Some(node) = self.nodes.get(node as usize) else { return &[] };
        let (first, count) = (node.first as usize, node.count as usize);
        let all = self.entries.get(first..first.saturating_add(count)).unwrap_or_default();
        let from = all.partition_point(|entry| entry.group < group);
        let all = all.get(from..).unwrap_or_default();
        let to = all.partition_point(|entry| entry.group == group);
        all.get(..to).unwrap_or_default()
    }

    /// Bytes that the tree takes.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>() + self.entries.len() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Rules = Vec<(String, u32, i64)>;

    fn tree(rules: &Rules, extra: &str) -> Tree {
        let entries = (0u32..).zip(rules).map(|(rule, r)| Entry { group: r.1, rule }).collect();
        Tree::new(Alphabet::new(extra).unwrap(), entries, |rule| {
            let (prefix, _, priority) = &rules[rule as usize];
            (prefix.as_bytes(), *priority)
        })
    }

    /// All rules that fit, in the order in which they are tried.
    fn found(tree: &Tree, number: &str, group: u32) -> Vec<u32> {
        let path = tree.path(number.as_bytes());
        let rules = path.iter().rev().flat_map(|node| tree.rules(*node, group));
        rules.map(|entry| entry.rule).collect()
    }

    /// The same, looking at every rule.
    fn naive(rules: &Rules, number: &str, group: u32) -> Vec<u32> {
        let fits = |r: &&(u32, &(String, u32, i64))| r.1.1 == group && number.starts_with(&r.1.0);
        let all: Vec<_> = (0u32..).zip(rules).collect();
        let mut fitting: Vec<_> = all.iter().filter(fits).collect();
        fitting.sort_by_key(|(at, r)| (Reverse(r.0.len()), Reverse(r.2), *at));
        fitting.into_iter().map(|(at, _)| *at).collect()
    }

    #[test]
    fn other_characters_end_the_walk() {
        let rules = vec![("".into(), 0, 0), ("40".into(), 0, 0), ("402".into(), 0, 0)];
        let tree = tree(&rules, "");
        assert_eq!(found(&tree, "4021", 0), [2, 1, 0]);
        assert_eq!(found(&tree, "40x", 0), [0], "inside the tree");
        assert_eq!(found(&tree, "402x", 0), [2, 1, 0], "behind its end");
        assert_eq!(found(&tree, "+402", 0), [0]);
        assert!(found(&tree, "402", 1).is_empty());
        let plus = vec![("+40".into(), 0, 0)];
        assert_eq!(found(&self::tree(&plus, "+#"), "+402", 0), [0]);
        assert!(Alphabet::new("\u{e4}").is_err());
        let every: String = ('!'..'~').collect();
        assert!(Alphabet::new(&every).is_err());
    }

    #[test]
    fn many_rules_are_small() {
        let rules: Rules = (0..100_000).map(|n| (format!("{n:05}"), 0, 0)).collect();
        let tree = tree(&rules, "");
        assert!(tree.bytes() / rules.len() <= 32, "{} bytes a rule", tree.bytes() / rules.len());
        assert_eq!(found(&tree, "123456789", 0), [12_345]);
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_search_finds(
            rules in proptest::collection::vec(("[0-3]{0,5}", 0u32..3, -2i64..3), 0..60),
            numbers in proptest::collection::vec("[0-3]{0,8}", 1..20),
        ) {
            let tree = tree(&rules, "");
            for number in &numbers {
                for group in 0..3 {
                    prop_assert_eq!(found(&tree, number, group), naive(&rules, number, group));
                }
            }
        }

        #[test]
        fn no_number_panics(number in ".{0,40}") {
            let rules = vec![("1".into(), 0, 0), ("12".into(), 0, 0)];
            found(&tree(&rules, "*"), &number, 0);
        }
    }
}
