//! The rules of a partition: 32 bytes each, beside the tree that leads to them. Lists of
//! gateways, times and texts they share by number.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use tandem_cfgutils::Times;
use tandem_db::Row;
use tandem_engine::zone::Moment;
use tandem_targets::Faults;

use crate::destinations::{Choice, Destinations, Sort, int, shown, sort_of};
use crate::prefix::{Alphabet, Entry, Planned, Tree};
use crate::texts::{Gathering, Texts};

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
/// The table in faults.
const TABLE: &str = "rules";
/// Groups of one rule.
const GROUPS_MAX: usize = 1_000;
/// Characters of a prefix.
const PREFIX_MAX: usize = 64;
/// Lists that are looked for among those that are known.
const LISTS_MAX: usize = 65_536;

/// A rule as it is kept.
#[derive(Clone, Copy, Debug)]
struct Stored {
    id: i64,
    /// Number of its times and 1; 0: it always holds.
    times: u32,
    route: u32,
    list: u32,
    attrs: u32,
    profile: u32,
    sort: Sort,
}

/// A rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule<'r> {
    pub(crate) id: i64,
    pub(crate) times: Option<&'r Times>,
    /// The route to run when it matches.
    pub(crate) route: Option<&'r str>,
    pub(crate) list: &'r [Choice],
    pub(crate) sort: Sort,
    /// Row of qr_profiles.
    pub(crate) profile: u32,
    pub(crate) attrs: &'r str,
}

/// Lists of gateways by number.
#[derive(Debug, Default)]
struct Lists {
    all: Vec<Choice>,
    /// Where each list ends.
    ends: Vec<u32>,
}

impl Lists {
    fn get(&self, number: u32) -> &[Choice] {
        let end = |number: u32| self.ends.get(number as usize).map_or(0, |end| *end as usize);
        self.all.get(number.checked_sub(1).map_or(0, end)..end(number)).unwrap_or_default()
    }

    fn add(&mut self, list: &[Choice]) -> Option<u32> {
        let number = u32::try_from(self.ends.len()).ok()?;
        let end = u32::try_from(self.all.len() + list.len()).ok()?;
        self.all.extend_from_slice(list);
        self.ends.push(end);
        Some(number)
    }
}

/// Rules on their way into memory.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    rules: Vec<Stored>,
    plans: Vec<Planned>,
    /// The prefixes of the rules, one behind the other, and where each ends.
    prefixes: Vec<u8>,
    prefix_ends: Vec<u32>,
    texts: Gathering,
    times: Vec<Times>,
    times_known: BTreeMap<String, u32>,
    lists: Lists,
    /// By their text: the number, and whether something in it is not known.
    lists_known: BTreeMap<String, (u32, bool)>,
    by_quality: Vec<(i64, u32)>,
    /// Rules that lead somewhere; the others block their prefix.
    leading: usize,
    /// Nodes that the tree may have.
    likely_nodes: usize,
}

/// The rules of a partition with their tree.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Stored>,
    lists: Lists,
    texts: Texts,
    times: Vec<Times>,
    leading: usize,
    /// The rules that are sorted by quality, or have a carrier that is: their ids, in order, and
    /// places.
    by_quality: Vec<(i64, u32)>,
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
    /// With room for as many as there are: what grows is copied again and again, in the end by
    /// dozens of megabytes at a time.
    pub(crate) fn like(old: &Rules) -> Self {
        Self {
            rules: Vec::with_capacity(old.rules.len()),
            plans: Vec::with_capacity(old.tree.entries()),
            prefix_ends: Vec::with_capacity(old.rules.len()),
            likely_nodes: old.tree.nodes(),
            ..Self::default()
        }
    }

    /// Takes a row of [`RULE_COLUMNS`]; `has_route`: whether the script has a route.
    pub(crate) fn add(
        &mut self,
        row: &Row,
        alphabet: &Alphabet,
        (of, has_route): (&Destinations, &dyn Fn(&str) -> bool),
        faults: &mut Faults,
    ) {
        if let Err(why) = self.try_add(row, alphabet, (of, has_route), faults) {
            faults.refuse(TABLE, why);
        }
    }

    fn try_add(
        &mut self,
        row: &Row,
        alphabet: &Alphabet,
        (of, has_route): (&Destinations, &dyn Fn(&str) -> bool),
        faults: &mut Faults,
    ) -> Result<(), String> {
        let [id, groups, prefix, times, priority, route, list, sort, profile, attrs] =
            row.as_slice()
        else {
            return Err("a row of rules has not the ten columns".into());
        };
        let id = int(id);
        let place = || format!("rule {id}");
        let said = |why: String| format!("rule {id}: {why}");
        let groups = self::groups(&shown(groups)).map_err(said)?;
        let prefix = shown(prefix);
        if prefix.len() > PREFIX_MAX || !alphabet.takes(prefix.as_bytes()) {
            let why = "holds what no prefix holds (extra_prefix_chars), or is too long";
            return Err(said(format!("prefix `{prefix}` {why}")));
        }
        let sort = sort_of(&shown(sort)).map_err(said)?;
        let times = self.times(&shown(times)).map_err(|why| said(format!("timerec: {why}")))?;
        let list_text = shown(list);
        let (list, mut in_part) = self.list(&list_text, of, faults, &place)?;
        let route = shown(route);
        let route = if route == "0" { "" } else { &*route };
        // A rule without any list blocks its prefix; one whose gateways are all unknown is a
        // mistake.
        if self.lists.get(list).is_empty() && route.is_empty() && !list_text.is_empty() {
            return Err(said(format!("gwlist `{list_text}` leads to no gateway")));
        }
        if !route.is_empty() && !has_route(route) {
            let why = "calls that take it fail until the script has that route";
            faults.note(TABLE, said(format!("routeid `{route}` is no route: {why}")));
            in_part = true;
        }
        self.leading += usize::from(!self.lists.get(list).is_empty() || !route.is_empty());
        let full = || said("there is no room for more rules".into());
        let route = self.texts.add(route).ok_or_else(full)?;
        let attrs = self.texts.add(&shown(attrs)).ok_or_else(full)?;
        let rule = u32::try_from(self.rules.len()).map_err(|_| full())?;
        let end = u32::try_from(self.prefixes.len() + prefix.len()).map_err(|_| full())?;
        if in_part {
            faults.count_row();
        }
        self.prefixes.extend_from_slice(prefix.as_bytes());
        self.prefix_ends.push(end);
        let (priority, head) = (int(priority), alphabet.head(prefix.as_bytes()));
        let priority = priority.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        let plan = |group| Planned { head, group, priority, rule };
        self.plans.extend(groups.into_iter().map(plan));
        let profile = u32::try_from(int(profile)).unwrap_or(0);
        let list_by_quality = self.lists.get(list).iter().any(|to| of.is_by_quality(*to));
        if sort == Sort::Quality || list_by_quality {
            self.by_quality.push((id, rule));
        }
        self.rules.push(Stored { id, times, route, list, attrs, profile, sort });
        Ok(())
    }

    /// The number of the list that a text means, and whether something in it is not known.
    fn list(
        &mut self,
        text: &str,
        of: &Destinations,
        faults: &mut Faults,
        place: &impl Fn() -> String,
    ) -> Result<(u32, bool), String> {
        if let Some(known) = self.lists_known.get(text) {
            return Ok(*known);
        }
        let place = place();
        let (list, missing) = of.list(text, true, &place);
        let known = (self.lists.add(&list), !missing.is_empty());
        for why in missing {
            faults.note(TABLE, why);
        }
        let number = known.0.ok_or_else(|| format!("{place}: there is no room for more lists"))?;
        if self.lists_known.len() < LISTS_MAX {
            self.lists_known.insert(text.to_owned(), (number, known.1));
        }
        Ok((number, known.1))
    }

    fn times(&mut self, text: &str) -> Result<u32, String> {
        if text.is_empty() {
            return Ok(0);
        }
        if let Some(known) = self.times_known.get(text) {
            return Ok(*known);
        }
        self.times.push(Times::parse(text)?);
        let number = u32::try_from(self.times.len()).map_err(|_| "too many times".to_owned())?;
        self.times_known.insert(text.to_owned(), number);
        Ok(number)
    }

    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    pub(crate) fn leading(&self) -> usize {
        self.leading
    }

    /// The rules with their tree.
    pub(crate) fn finish(self, alphabet: Alphabet) -> Rules {
        let Self { mut rules, plans, prefixes, prefix_ends, texts, mut times, .. } = self;
        let Self { mut lists, mut by_quality, leading, likely_nodes, .. } = self;
        by_quality.sort_unstable();
        by_quality.shrink_to_fit();
        rules.shrink_to_fit();
        times.shrink_to_fit();
        lists.all.shrink_to_fit();
        lists.ends.shrink_to_fit();
        let end = |rule: u32| prefix_ends.get(rule as usize).map_or(0, |end| *end as usize);
        let tree = Tree::new(alphabet, plans, likely_nodes, |rule| {
            prefixes.get(rule.checked_sub(1).map_or(0, end)..end(rule)).unwrap_or_default()
        });
        Rules { rules, lists, texts: texts.finish(), times, leading, by_quality, tree }
    }
}

impl Rules {
    pub(crate) fn empty(alphabet: Alphabet) -> Self {
        Loading::default().finish(alphabet)
    }

    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// How many lead somewhere.
    pub(crate) fn leading(&self) -> usize {
        self.leading
    }

    /// Bytes that the rules take, as far as they grow with their number.
    pub(crate) fn bytes(&self) -> usize {
        let lists =
            self.lists.all.capacity() * size_of::<Choice>() + self.lists.ends.capacity() * 4;
        let by_quality = self.by_quality.capacity() * size_of::<(i64, u32)>();
        let rules = self.rules.capacity() * size_of::<Stored>() + by_quality;
        rules + lists + self.texts.bytes() + self.tree.bytes()
    }

    pub(crate) fn rule(&self, at: u32) -> Option<Rule<'_>> {
        let Stored { id, times, route, list, attrs, profile, sort } =
            *self.rules.get(at as usize)?;
        Some(Rule {
            id,
            times: times.checked_sub(1).and_then(|at| self.times.get(at as usize)),
            route: Some(self.texts.get(route)).filter(|text| !text.is_empty()),
            list: self.lists.get(list),
            sort,
            profile,
            attrs: self.texts.get(attrs),
        })
    }

    /// The rules that are sorted by quality, or have a carrier that is, by their ids.
    pub(crate) fn by_quality(&self) -> impl Iterator<Item = Rule<'_>> {
        self.by_quality.iter().filter_map(|(_, at)| self.rule(*at))
    }

    /// One of them.
    pub(crate) fn of_quality(&self, id: i64) -> Option<Rule<'_>> {
        let from = self.by_quality.partition_point(|(known, _)| *known < id);
        let (_, at) = self.by_quality.get(from).filter(|(known, _)| *known == id)?;
        self.rule(*at)
    }

    /// The next rule for a number: by the longest prefix, then by priority, if its times hold.
    /// `whole`: only a rule whose prefix is the whole number; `after`: only those behind.
    pub(crate) fn find(
        &self,
        number: &[u8],
        group: u32,
        at: Moment,
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
            for (index, Entry { rule, .. }) in rules {
                if self.holds(*rule, at) {
                    return Some(Found { rule: *rule, place: Place { depth, index } });
                }
            }
        }
        None
    }

    /// Whether a rule counts at a time.
    pub(crate) fn holds(&self, rule: u32, at: Moment) -> bool {
        let Some(rule) = self.rules.get(rule as usize) else { return false };
        let times = rule.times.checked_sub(1).and_then(|at| self.times.get(at as usize));
        times.is_none_or(|times| times.hold(at))
    }
}

/// `1,3;5`.
fn groups(text: &str) -> Result<SmallVec<[u32; 4]>, String> {
    let items = text.split([',', ';']).map(str::trim).filter(|item| !item.is_empty());
    let mut groups = SmallVec::new();
    for item in items.take(GROUPS_MAX) {
        groups.push(item.parse().map_err(|_| format!("`{item}` is no group"))?);
    }
    groups.sort_unstable();
    groups.dedup();
    if groups.is_empty() { Err("it is in no group".into()) } else { Ok(groups) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_db::Value;

    #[test]
    fn a_rule_is_small_however_many_there_are() {
        assert_eq!(size_of::<Stored>(), 32);
        let (alphabet, of) = (Alphabet::new("").unwrap(), Destinations::default());
        let mut faults = Faults::default();
        let mut read = |mut loading: Loading, rules: i64| {
            for n in 0..rules {
                let row = vec![
                    n.into(),
                    "1".into(),
                    format!("49{n:05}").into(),
                    Value::Null,
                    1.into(),
                    "pstn".into(),
                    Value::Null,
                    "N".into(),
                    Value::Null,
                    "fast".into(),
                ];
                loading.add(&row, &alphabet, (&of, &|_| true), &mut faults);
            }
            loading.finish(alphabet.clone())
        };
        let rules = read(Loading::default(), 50_000);
        // Room for what was there before costs nothing in the end, if it was more or less.
        for (before, after) in [(50_000, 50_000), (50_000, 10), (10, 50_000)] {
            let before = read(Loading::default(), before);
            let again = read(Loading::like(&before), after);
            assert_eq!(again.bytes(), read(Loading::default(), after).bytes());
        }
        assert!(faults.all.is_empty(), "{:?}", faults.all);
        assert!(rules.bytes() / rules.len() < 64, "{}", rules.bytes() / rules.len());
        let found = rules.find(b"4912345678", 1, 0.into(), false, None).unwrap();
        let rule = rules.rule(found.rule).unwrap();
        assert_eq!((rule.id, rule.route, rule.attrs), (12_345, Some("pstn"), "fast"));
        assert_eq!(found.place.depth, 7);
    }
}
