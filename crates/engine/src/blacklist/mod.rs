//! Lists of destinations that are not to be used (`dst_blacklist`, and the list `dns` of those
//! that failed a moment ago).
//!
//! A list holds for a message if it is a default one or the script names it with
//! `use_blacklist()`, and not after `unuse_blacklist()`.

pub(crate) mod parse;
mod rule;

use std::net::SocketAddr;

use parking_lot::RwLock;
use tandem_clock::Now;

pub use parse::parse;
pub use rule::{Net, Rule, Site};

use crate::sockets::Proto;

/// Rules of one list; a full one takes no more.
const RULES_MAX: usize = 10_000;
/// Lists of a node.
const LISTS_MAX: usize = 64;
/// How long a destination that failed is left alone.
const FAILED_S: u64 = 240;
/// The list of those.
pub const FAILED: &str = "dns";

/// A list as the script declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    pub name: String,
    /// Who keeps it: `core`, or a module.
    pub owner: &'static str,
    /// It holds for every message.
    pub default: bool,
    /// Its rules may end by themselves.
    pub expires: bool,
    /// Nobody may change it.
    pub read_only: bool,
    pub rules: Vec<Rule>,
}

/// Why a rule cannot be added or taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("there is no such blacklist")]
    Unknown,
    #[error("the blacklist cannot be changed")]
    ReadOnly,
    #[error("the blacklist takes no rules that end by themselves")]
    NoExpiry,
    #[error("there is no such rule")]
    NoRule,
    #[error("the blacklist is full")]
    Full,
}

/// What the script said about lists for one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    used: Vec<u16>,
    unused: Vec<u16>,
    none: bool,
}

/// A choice by the names of its lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceNames {
    pub used: Vec<String>,
    pub unused: Vec<String>,
    /// No list counts.
    pub none: bool,
}

/// All lists of a node.
#[derive(Debug, Default)]
pub struct Blacklists {
    lists: RwLock<Vec<List>>,
    /// Destinations that fail go into the list `dns` (`disable_dns_blacklist`).
    remembers: bool,
}

impl Blacklists {
    pub(crate) fn new(mut lists: Vec<List>, remembers: bool) -> Self {
        if remembers {
            let (name, owner) = (FAILED.to_owned(), "core");
            lists.push(List { name, owner, default: true, expires: true, ..List::default() });
        }
        lists.truncate(LISTS_MAX);
        Self { lists: RwLock::new(lists), remembers }
    }

    /// Puts a list of a module in the place of the one of its name.
    pub fn set(&self, list: List) -> Result<(), ListError> {
        let mut lists = self.lists.write();
        if let Some(place) = lists.iter_mut().find(|l| l.name == list.name) {
            *place = list;
            return Ok(());
        }
        if lists.len() >= LISTS_MAX {
            return Err(ListError::Full);
        }
        lists.push(list);
        Ok(())
    }

    /// All of them, without the rules that are over.
    pub fn views(&self, now: Now) -> Vec<List> {
        let mut views = self.lists.read().clone();
        for list in &mut views {
            list.rules.retain(|rule| rule.is_alive(now));
        }
        views
    }

    pub fn view(&self, now: Now, name: &str) -> Option<List> {
        self.views(now).into_iter().find(|list| list.name == name)
    }

    /// The rule of a list that a destination runs into.
    ///
    /// # Errors
    /// If there is no such list.
    pub fn check(&self, now: Now, name: &str, site: &Site<'_>) -> Result<Option<Rule>, ListError> {
        let lists = self.lists.read();
        let list = lists.iter().find(|l| l.name == name).ok_or(ListError::Unknown)?;
        Ok(list.rules.iter().find(|r| r.is_alive(now) && r.holds(site)).cloned())
    }

    /// Adds a rule, or renews the one that says the same.
    ///
    /// # Errors
    /// See [`ListError`].
    pub fn add(
        &self,
        now: Now,
        name: &str,
        mut rule: Rule,
        expire_s: u32,
    ) -> Result<(), ListError> {
        let mut lists = self.lists.write();
        let list = lists.iter_mut().find(|l| l.name == name).ok_or(ListError::Unknown)?;
        if list.read_only {
            return Err(ListError::ReadOnly);
        }
        if expire_s > 0 && !list.expires {
            return Err(ListError::NoExpiry);
        }
        rule.until = (expire_s > 0).then(|| now.after_s(u64::from(expire_s)));
        list.put(now, rule)
    }

    /// Takes a rule off.
    ///
    /// # Errors
    /// See [`ListError`].
    pub fn remove(&self, now: Now, name: &str, rule: &Rule) -> Result<(), ListError> {
        let mut lists = self.lists.write();
        let list = lists.iter_mut().find(|l| l.name == name).ok_or(ListError::Unknown)?;
        if list.read_only {
            return Err(ListError::ReadOnly);
        }
        let before = list.rules.len();
        list.rules.retain(|r| !r.says_as(rule) && r.is_alive(now));
        if list.rules.len() < before { Ok(()) } else { Err(ListError::NoRule) }
    }

    /// A destination has failed: it is left alone for a while, if the script wants that.
    pub fn failed(&self, now: Now, proto: Proto, addr: SocketAddr) {
        if !self.remembers {
            return;
        }
        let mut lists = self.lists.write();
        let Some(list) = lists.iter_mut().find(|l| l.name == FAILED) else { return };
        let mut rule = Rule::of(proto, addr);
        rule.until = Some(now.after_s(FAILED_S));
        // A full list forgets nobody early, and nobody more is remembered.
        let _ = list.put(now, rule);
    }

    /// Whether a message with this choice may not go to a destination.
    pub fn forbids(&self, now: Now, choice: Option<&Choice>, site: &Site<'_>) -> bool {
        let lists = self.lists.read();
        if lists.is_empty() {
            return false;
        }
        let numbered = lists.iter().zip(0..=u16::MAX);
        numbered
            .filter(|(list, n)| match choice {
                None => list.default,
                Some(c) => !c.none && !c.unused.contains(n) && (list.default || c.used.contains(n)),
            })
            .any(|(list, _)| list.rules.iter().any(|r| r.is_alive(now) && r.holds(site)))
    }

    /// `use_blacklist()`.
    ///
    /// # Errors
    /// If there is no such list.
    pub fn choose(&self, choice: &mut Option<Box<Choice>>, name: &str) -> Result<(), ListError> {
        let number = self.number(name)?;
        let choice = choice.get_or_insert_default();
        choice.none = false;
        choice.unused.retain(|n| *n != number);
        if !choice.used.contains(&number) {
            choice.used.push(number);
        }
        Ok(())
    }

    /// `unuse_blacklist()`; `all` is every one.
    ///
    /// # Errors
    /// If there is no such list.
    pub fn refuse(&self, choice: &mut Option<Box<Choice>>, name: &str) -> Result<(), ListError> {
        if name.eq_ignore_ascii_case("all") {
            **choice.get_or_insert_default() = Choice { none: true, ..Choice::default() };
            return Ok(());
        }
        let number = self.number(name)?;
        let choice = choice.get_or_insert_default();
        choice.used.retain(|n| *n != number);
        if !choice.unused.contains(&number) {
            choice.unused.push(number);
        }
        Ok(())
    }

    /// A choice by the names of its lists, which mean the same on another node.
    pub fn names(&self, choice: &Choice) -> ChoiceNames {
        let Choice { used, unused, none } = choice;
        let lists = self.lists.read();
        let named = |numbers: &[u16]| {
            let found = numbers.iter().filter_map(|n| lists.get(usize::from(*n)));
            found.map(|list| list.name.clone()).collect()
        };
        ChoiceNames { used: named(used), unused: named(unused), none: *none }
    }

    /// The choice with these names; lists that are not here count for nothing.
    pub fn choice(&self, names: &ChoiceNames) -> Choice {
        let ChoiceNames { used, unused, none } = names;
        let numbers =
            |names: &[String]| names.iter().filter_map(|name| self.number(name).ok()).collect();
        Choice { used: numbers(used), unused: numbers(unused), none: *none }
    }

    fn number(&self, name: &str) -> Result<u16, ListError> {
        let at = self.lists.read().iter().position(|l| l.name == name);
        at.and_then(|at| u16::try_from(at).ok()).ok_or(ListError::Unknown)
    }
}

impl List {
    fn put(&mut self, now: Now, rule: Rule) -> Result<(), ListError> {
        if let Some(known) = self.rules.iter_mut().find(|r| r.says_as(&rule)) {
            known.until = rule.until;
            return Ok(());
        }
        if self.rules.len() >= RULES_MAX {
            self.rules.retain(|r| r.is_alive(now));
        }
        if self.rules.len() >= RULES_MAX {
            return Err(ListError::Full);
        }
        self.rules.push(rule);
        Ok(())
    }
}
