//! Status and reports: how ready each part of a node is, and what it did lately.
//!
//! A part is an identifier within a group. A group that needs one identifier only calls it
//! `main`, and it may be left out in commands and scripts.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tandem_clock::Now;
use tandem_script::value::Value;

use crate::module::Cx;

/// The identifier meant when none is named.
pub const MAIN: &str = "main";
/// The event raised when a status changes.
pub(crate) const STATUS_CHANGED: &str = "E_CORE_SR_STATUS_CHANGED";

/// Reports kept for one identifier; the oldest goes when another comes.
const REPORTS_MAX: usize = 200;
/// Identifiers of one group.
const IDENTIFIERS_MAX: usize = 10_000;
/// Groups.
const GROUPS_MAX: usize = 1_000;

/// A line about something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Unix seconds.
    pub at_s: u64,
    pub text: String,
}

/// How ready something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    pub name: String,
    /// Positive: ready; negative: not; 0: nothing was said yet.
    pub status: i32,
    pub details: String,
    /// The oldest first.
    pub reports: VecDeque<Report>,
}

/// The identifiers of one module, or of the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub identifiers: Vec<Identifier>,
}

/// All groups of a node, in the order in which they appeared.
#[derive(Debug, Default)]
pub struct Reports(Mutex<Vec<Group>>);

impl Reports {
    /// A copy of every group.
    pub fn groups(&self) -> Vec<Group> {
        self.0.lock().clone()
    }

    /// A copy of one group.
    pub fn group(&self, name: &str) -> Option<Group> {
        self.0.lock().iter().find(|g| g.name == name).cloned()
    }

    /// Status and details of an identifier.
    pub fn status(&self, group: &str, identifier: &str) -> Option<(i32, String)> {
        let groups = self.0.lock();
        let group = groups.iter().find(|g| g.name == group)?;
        let found = group.identifiers.iter().find(|i| i.name == identifier)?;
        Some((found.status, found.details.clone()))
    }

    /// Makes an identifier known; nothing happens to one that is.
    pub fn register(&self, group: &str, identifier: &str) {
        self.change(group, identifier, |_| ());
    }

    /// Sets a status; gives the old one if it was another.
    pub(crate) fn set(
        &self,
        group: &str,
        identifier: &str,
        status: i32,
        details: &str,
    ) -> Option<i32> {
        self.change(group, identifier, |i| {
            i.details = details.to_owned();
            let old = std::mem::replace(&mut i.status, status);
            (old != status).then_some(old)
        })?
    }

    /// Adds a report; the oldest makes room.
    pub fn add(&self, now: Now, group: &str, identifier: &str, text: &str) {
        self.change(group, identifier, |i| {
            if i.reports.len() >= REPORTS_MAX {
                i.reports.pop_front();
            }
            i.reports.push_back(Report { at_s: now.unix_s(), text: text.to_owned() });
        });
    }

    /// Forgets an identifier, e.g. of a partition that is gone.
    pub fn remove(&self, group: &str, identifier: &str) {
        if let Some(group) = self.0.lock().iter_mut().find(|g| g.name == group) {
            group.identifiers.retain(|i| i.name != identifier);
        }
    }

    fn change<T>(
        &self,
        group: &str,
        identifier: &str,
        change: impl FnOnce(&mut Identifier) -> T,
    ) -> Option<T> {
        let mut groups = self.0.lock();
        let room = groups.len() < GROUPS_MAX;
        let at = groups.iter().position(|g| g.name == group).or_else(|| {
            room.then(|| {
                groups.push(Group { name: group.to_owned(), identifiers: Vec::new() });
                groups.len() - 1
            })
        })?;
        let identifiers = &mut groups.get_mut(at)?.identifiers;
        let room = identifiers.len() < IDENTIFIERS_MAX;
        let at = identifiers.iter().position(|i| i.name == identifier).or_else(|| {
            room.then(|| {
                identifiers.push(Identifier {
                    name: identifier.to_owned(),
                    status: 0,
                    details: String::new(),
                    reports: VecDeque::new(),
                });
                identifiers.len() - 1
            })
        })?;
        identifiers.get_mut(at).map(change)
    }
}

impl Cx<'_> {
    /// Sets the status of an identifier (not 0; negative: not ready) and raises
    /// `E_CORE_SR_STATUS_CHANGED` when it is another than before.
    pub fn set_status(&mut self, group: &str, identifier: &str, status: i32, details: &str) {
        let Some(old) = self.node.reports.set(group, identifier, status, details) else { return };
        let text = |t: &str| Value::str(t.as_bytes().to_vec());
        let params = vec![
            ("group", text(group)),
            ("identifier", text(identifier)),
            ("status", Value::Int(status)),
            ("details", text(details)),
            ("old_status", Value::Int(old)),
        ];
        self.raise(STATUS_CHANGED, params);
    }

    /// Adds a line to the reports of an identifier.
    pub fn report(&mut self, group: &str, identifier: &str, text: &str) {
        self.node.reports.add(self.now, group, identifier, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_reports_keeps_the_latest() {
        let reports = Reports::default();
        for n in 0..=REPORTS_MAX {
            let now = Now { mono_ns: 0, unix_ms: n as u64 * 1000 };
            reports.add(now, "g", MAIN, &n.to_string());
        }
        let kept = &reports.group("g").unwrap().identifiers[0].reports;
        assert_eq!(kept.len(), REPORTS_MAX);
        assert_eq!(kept[0], Report { at_s: 1, text: "1".into() });
    }

    #[test]
    fn only_a_change_of_the_status_is_one() {
        let reports = Reports::default();
        assert_eq!(reports.set("g", "i", -1, "loading"), Some(0));
        assert_eq!(reports.set("g", "i", -1, "still loading"), None);
        assert_eq!(reports.set("g", "i", 1, "ready"), Some(-1));
        assert_eq!(reports.status("g", "i"), Some((1, "ready".into())));
        reports.remove("g", "i");
        assert_eq!(reports.status("g", "i"), None);
    }
}
