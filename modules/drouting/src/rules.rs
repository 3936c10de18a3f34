//! The rules of a partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tandem_cfgutils::Times;
use tandem_db::Row;

use crate::destinations::{Choice, Destinations, Faults, Sort, int, sort_of, text};
use crate::prefix::{Alphabet, Entry, Tree};

/// Columns of a table of rules, in the order in which they are selected.
pub(crate) const RULE_COLUMNS: [&str; 10] = [
    "ruleid",
    "groupid",
    "prefix",
    "timerec",
    "priority",
    "routeid",
    "gwlist",
    "sort_alg",
    "sort_profile",
    "attrs",
];
/// Groups of one rule.
const GROUPS_MAX: usize = 1_000;
/// Characters of a prefix.
const PREFIX_MAX: usize = 64;

/// A rule. What many rules have in common they share.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: i64,
    pub(crate) prefix: Box<str>,
    pub(crate) priority: i64,
    pub(crate) times: Option<Arc<Times>>,
    /// The route to run when it matches.
    pub(crate) route: Option<Arc<str>>,
    pub(crate) list: Arc<[Choice]>,
    pub(crate) sort: Sort,
    pub(crate) attrs: Arc<str>,
}

/// Rules on their way into memory.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    rules: Vec<Rule>,
    entries: Vec<Entry>,
    texts: BTreeMap<String, Arc<str>>,
    times: BTreeMap<String, Arc<Times>>,
    lists: BTreeMap<String, Arc<[Choice]>>,
    /// Rows that were left out.
    pub(crate) refused: usize,
}

/// The rules of a partition with their tree.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) rules: Vec<Rule>,
    pub(crate) tree: Tree,
}

/// A rule that fits, and where the search goes on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Place of the rule.
    pub(crate) rule: u32,
    pub(crate) place: Place,
}

/// Digits of the prefix, and the number of the rule within the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) depth: usize,
    pub(crate) index: usize,
}

impl Loading {
    /// Takes a row of [`RULE_COLUMNS`].
    pub(crate) fn add(
        &mut self,
        row: &Row,
        alphabet: &Alphabet,
        of: &Destinations,
        faults: &mut Faults,
    ) {
        if let Err(why) = self.try_add(row, alphabet, of, faults) {
            self.refused += 1;
            faults.push(why);
        }
    }

    fn try_add(
        &mut self,
        row: &Row,
        alphabet: &Alphabet,
        of: &Destinations,
        faults: &mut Faults,
    ) -> Result<(), String> {
        let [id, groups, prefix, times, priority, route, list, sort, _profile, attrs] =
            row.as_slice()
        else {
            return Err("a row of rules has not the ten columns".into());
        };
        let id = int(id);
        let place = format!("rule {id}");
        let groups = self::groups(&text(groups)).map_err(|why| format!("{place}: {why}"))?;
        let prefix = text(prefix);
        if prefix.len() > PREFIX_MAX || !alphabet.takes(prefix.as_bytes()) {
            let why = "holds what no prefix holds (extra_prefix_chars), or is too long";
            return Err(format!("{place}: prefix `{prefix}` {why}"));
        }
        let sort = sort_of(&text(sort), &place)?;
        let times = self.times(&text(times)).map_err(|why| format!("{place}: timerec: {why}"))?;
        let list_text = text(list);
        let list = match self.lists.get(&list_text) {
            Some(list) => Arc::clone(list),
            None => {
                let list: Arc<[Choice]> = of.list(&list_text, true, &place, faults).into();
                self.lists.insert(list_text.clone(), Arc::clone(&list));
                list
            }
        };
        let route = self.text(text(route)).filter(|text| !text.is_empty() && &**text != "0");
        if list.is_empty() && route.is_none() {
            return Err(format!("{place}: gwlist `{list_text}` leads to no gateway"));
        }
        let rule = self.rules.len() as u32;
        self.entries.extend(groups.into_iter().map(|group| Entry { group, rule }));
        let attrs = self.text(text(attrs)).unwrap_or_default();
        let (priority, prefix) = (int(priority), prefix.into_boxed_str());
        self.rules.push(Rule { id, prefix, priority, times, route, list, sort, attrs });
        Ok(())
    }

    fn text(&mut self, text: String) -> Option<Arc<str>> {
        if let Some(known) = self.texts.get(&text) {
            return Some(Arc::clone(known));
        }
        let new: Arc<str> = text.as_str().into();
        self.texts.insert(text, Arc::clone(&new));
        Some(new)
    }

    fn times(&mut self, text: &str) -> Result<Option<Arc<Times>>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(known) = self.times.get(text) {
            return Ok(Some(Arc::clone(known)));
        }
        let new = Arc::new(Times::parse(text)?);
        self.times.insert(text.to_owned(), Arc::clone(&new));
        Ok(Some(new))
    }

    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// The rules with their tree.
    pub(crate) fn finish(self, alphabet: Alphabet) -> Rules {
        let Self { mut rules, entries, .. } = self;
        rules.shrink_to_fit();
        let tree = Tree::new(alphabet, entries, |rule| {
            let rule = rules.get(rule as usize);
            rule.map_or((&[], 0), |rule| (rule.prefix.as_bytes(), rule.priority))
        });
        Rules { rules, tree }
    }
}

impl Rules {
    pub(crate) fn empty(alphabet: Alphabet) -> Self {
        Loading::default().finish(alphabet)
    }

    pub(crate) fn rule(&self, at: u32) -> Option<&Rule> {
        self.rules.get(at as usize)
    }

    /// The next rule for a number: by the longest prefix, then by priority, if its times hold.
    /// `whole`: only a rule whose prefix is the whole number; `after`: only those behind.
    pub(crate) fn find(
        &self,
        number: &[u8],
        group: u32,
        unix_s: u64,
        whole: bool,
        after: Option<Place>,
    ) -> Option<Found> {
        let path = self.tree.path(number);
        for (depth, node) in path.iter().enumerate().rev() {
            if whole && depth != number.len() {
                continue;
            }
            let from = match after {
                Some(after) if depth > after.depth => continue,
                Some(after) if depth == after.depth => after.index + 1,
                _ => 0,
            };
            let rules = self.tree.rules(*node, group).iter().enumerate().skip(from);
            for (index, entry) in rules {
                let Some(rule) = self.rule(entry.rule) else { continue };
                if rule.times.as_ref().is_none_or(|times| times.hold(unix_s)) {
                    return Some(Found { rule: entry.rule, place: Place { depth, index } });
                }
            }
        }
        None
    }
}

/// `1,3;5`.
fn groups(text: &str) -> Result<BTreeSet<u32>, String> {
    let items = text.split([',', ';']).map(str::trim).filter(|item| !item.is_empty());
    let wrong = |item: &str| format!("`{item}` is no group");
    let groups: Result<BTreeSet<u32>, String> =
        items.take(GROUPS_MAX).map(|item| item.parse().map_err(|_| wrong(item))).collect();
    match groups {
        Ok(groups) if groups.is_empty() => Err("it is in no group".into()),
        groups => groups,
    }
}
