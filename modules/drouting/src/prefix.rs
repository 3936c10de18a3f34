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
pub(crate) struct Alphabet {
    codes: [u8; 128],
    /// Bits of a digit in a head.
    bits: u32,
}

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
        let (mut codes, all_len) = ([u8::MAX; 128], all.len());
        for (code, byte) in (0u8..).zip(all) {
            if let Some(place) = codes.get_mut(usize::from(byte)) {
                *place = code;
            }
        }
        // 0 is the end of a prefix.
        let bits = if all_len < 16 { 4 } else { 6 };
        Ok(Self { codes, bits })
    }

    /// Digits of a head.
    fn head_len(&self) -> usize {
        (u64::BITS / self.bits) as usize
    }

    /// The first digits of a prefix as one number: of two prefixes that differ in these digits,
    /// the smaller one has the smaller head.
    pub(crate) fn head(&self, prefix: &[u8]) -> u64 {
        let digit =
            |at: usize| prefix.get(at).and_then(|byte| self.code(*byte)).map_or(0, |c| c + 1);
        (0..self.head_len()).fold(0, |head, at| (head << self.bits) | u64::from(digit(at)))
    }

    /// The bit of a node's set for a digit of a head; `None`: the prefix ends before it.
    fn bit_in(&self, head: u64, depth: usize) -> Option<u32> {
        let up = (self.head_len() - 1 - depth) as u32 * self.bits;
        let code = (head >> up) & ((1 << self.bits) - 1);
        Some(1 << code.checked_sub(1)?)
    }

    fn code(&self, byte: u8) -> Option<u8> {
        self.codes.get(usize::from(byte)).copied().filter(|code| *code != u8::MAX)
    }

    /// The bit of a digit; `None`: it is none.
    fn bit(&self, byte: u8) -> Option<u32> {
        Some(1 << self.code(byte)?)
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

/// A rule on its way into a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// The first digits, 4 or 6 bits each, so that most comparisons touch no text; see
    /// [`Alphabet::head`].
    pub(crate) head: u64,
    pub(crate) group: u32,
    pub(crate) priority: i32,
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
    /// `prefix` gives the prefix of a rule; prefixes hold digits of the alphabet only. `likely` is
    /// how many nodes there may be.
    pub(crate) fn new<'r>(
        alphabet: Alphabet,
        mut plans: Vec<Planned>,
        likely: usize,
        prefix: impl Fn(u32) -> &'r [u8],
    ) -> Self {
        plans.sort_unstable_by(|a, b| {
            // Long prefixes may differ behind their heads.
            let by_text = || prefix(a.rule).cmp(prefix(b.rule));
            let key = |plan: &Planned| (plan.group, Reverse(plan.priority), plan.rule);
            a.head.cmp(&b.head).then_with(by_text).then_with(|| key(a).cmp(&key(b)))
        });
        let head_len = alphabet.head_len();
        let bit = |plan: &Planned, depth: usize| match depth < head_len {
            true => alphabet.bit_in(plan.head, depth),
            false => prefix(plan.rule).get(depth).and_then(|byte| alphabet.bit(*byte)),
        };
        let mut nodes = Vec::with_capacity(likely);
        nodes.push(Node::default());
        let mut open = VecDeque::from([(0usize, 0usize, plans.len(), 0usize)]);
        while let Some((at, low, high, depth)) = open.pop_front() {
            let here = plans.get(low..high).unwrap_or_default();
            let own = here.partition_point(|plan| bit(plan, depth).is_none());
            let child = nodes.len() as u32;
            let (mut digits, mut from) = (0, low + own);
            while let Some(plan) = plans.get(from).filter(|_| from < high) {
                let here = bit(plan, depth);
                let rest = plans.get(from..high).unwrap_or_default();
                let to = from + rest.partition_point(|plan| bit(plan, depth) == here);
                let to = to.max(from + 1);
                digits |= here.unwrap_or(0);
                // Prefixes that end come first: nothing is below if the last one ends.
                let below = plans.get(to - 1).and_then(|last| bit(last, depth + 1));
                if below.is_some() {
                    open.push_back((nodes.len(), from, to, depth + 1));
                }
                let (first, count) = (from as u32, (to - from) as u32);
                nodes.push(Node { first, count, ..Node::default() });
                from = to;
            }
            if let Some(node) = nodes.get_mut(at) {
                *node = Node { digits, child, first: low as u32, count: own as u32 };
            }
        }
        nodes.shrink_to_fit();
        let entry = |plan: &Planned| Entry { group: plan.group, rule: plan.rule };
        Self { alphabet, nodes, entries: plans.iter().map(entry).collect() }
    }

    /// The nodes of a number. A character that is no digit, met before the tree ends, leaves the
    /// root alone.
    pub(crate) fn path(&self, number: &[u8]) -> Path {
        self.path_and_end(number).0
    }

    /// The same with the character that is no digit, if one was met.
    pub(crate) fn path_and_end(&self, number: &[u8]) -> (Path, Option<char>) {
        let mut path = Path::from_slice(&[0]);
        let mut at = 0u32;
        for byte in number.iter().take(DEPTH_MAX) {
            let Some(node) = self.nodes.get(at as usize) else { break };
            if node.digits == 0 {
                break;
            }
            let Some(bit) = self.alphabet.bit(*byte) else {
                path.truncate(1);
                return (path, Some(char::from(*byte)));
            };
            if node.digits & bit == 0 {
                break;
            }
            at = node.child + (node.digits & (bit - 1)).count_ones();
            path.push(at);
        }
        (path, None)
    }

    /// All rules at a node, by group, the most important first.
    pub(crate) fn at(&self, node: u32) -> &[Entry] {
        let Some(node) = self.nodes.get(node as usize) else { return &[] };
        let (first, count) = (node.first as usize, node.count as usize);
        self.entries.get(first..first.saturating_add(count)).unwrap_or_default()
    }

    /// The rules of a group at a node, the most important first.
    pub(crate) fn rules(&self, node: u32, group: u32) -> &[Entry] {
        let all = self.at(node);
        let from = all.partition_point(|entry| entry.group < group);
        let all = all.get(from..).unwrap_or_default();
        let to = all.partition_point(|entry| entry.group == group);
        all.get(..to).unwrap_or_default()
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Rules, each as often as it has groups.
    pub(crate) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that the tree takes.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>() + self.entries.len() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Rules = Vec<(String, u32, i32)>;

    fn tree(rules: &Rules, extra: &str) -> Tree {
        let alphabet = Alphabet::new(extra).unwrap();
        let plan = |(rule, (prefix, group, priority)): (u32, &(String, u32, i32))| {
            let head = alphabet.head(prefix.as_bytes());
            Planned { head, group: *group, priority: *priority, rule }
        };
        let plans = (0u32..).zip(rules).map(plan).collect();
        Tree::new(alphabet.clone(), plans, 0, |rule| rules[rule as usize].0.as_bytes())
    }

    /// All rules that fit, in the order in which they are tried.
    fn found(tree: &Tree, number: &str, group: u32) -> Vec<u32> {
        let path = tree.path(number.as_bytes());
        let rules = path.iter().rev().flat_map(|node| tree.rules(*node, group));
        rules.map(|entry| entry.rule).collect()
    }

    /// The same, looking at every rule.
    fn naive(rules: &Rules, number: &str, group: u32) -> Vec<u32> {
        let fits = |r: &&(u32, &(String, u32, i32))| r.1.1 == group && number.starts_with(&r.1.0);
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
            rules in proptest::collection::vec(("[0-3]{0,5}", 0u32..3, -2i32..3), 0..60),
            far in proptest::collection::vec(("[0-1]{8,30}", 0u32..3, -2i32..3), 0..20),
            numbers in proptest::collection::vec("[0-3]{0,8}", 1..20),
            extra in prop::sample::select(vec!["", "*#+abcdefgh"]),
        ) {
            // Prefixes that are longer than a head, and numbers that begin with them.
            let numbers: Vec<String> =
                numbers.into_iter().chain(far.iter().map(|rule| format!("{}2", rule.0))).collect();
            let rules = [rules, far].concat();
            let tree = tree(&rules, extra);
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
