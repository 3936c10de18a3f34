//! The copy of the table.

use std::collections::BTreeMap;

use tandem_db::{Rows, Value};

/// Labels of a domain that are looked at, at most: a name has no more than 127.
pub(crate) const LABELS_MAX: usize = 128;

/// A domain that is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) attrs: Option<String>,
    /// Whether its subdomains are ours, too.
    pub(crate) with_subdomains: bool,
}

/// Domains in lower case.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<Vec<u8>, Entry>);

impl Table {
    /// From rows of domain, attributes and subdomains, in this order.
    pub(crate) fn of(rows: &Rows) -> Self {
        Self(rows.rows.iter().filter_map(|row| read(row)).collect())
    }

    /// The entry that makes a host ours: its own, or one above that takes subdomains.
    pub(crate) fn find(&self, host: &[u8]) -> Option<&Entry> {
        let host = host.to_ascii_lowercase();
        if let Some(own) = self.0.get(&host) {
            return Some(own);
        }
        let above = parents(&host).find_map(|parent| self.0.get(parent));
        above.filter(|entry| entry.with_subdomains)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (String, &Entry)> {
        self.0.iter().map(|(name, entry)| (String::from_utf8_lossy(name).into_owned(), entry))
    }
}

/// The domains above a host, nearest first.
pub(crate) fn parents(host: &[u8]) -> impl Iterator<Item = &[u8]> {
    let dots = host.iter().enumerate().filter(|(_, b)| **b == b'.').take(LABELS_MAX);
    dots.filter_map(|(at, _)| host.get(at + 1..)).filter(|parent| !parent.is_empty())
}

/// A row of domain, attributes and subdomains.
pub(crate) fn read(row: &[Value]) -> Option<(Vec<u8>, Entry)> {
    let [domain, attrs, subdomains, ..] = row else { return None };
    let name = domain.as_str().filter(|name| !name.is_empty())?;
    let attrs = attrs.as_str().map(str::to_owned);
    let with_subdomains = subdomains.as_int().unwrap_or(0) != 0;
    Some((name.to_ascii_lowercase().into_bytes(), Entry { attrs, with_subdomains }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_by_itself_or_under_a_domain_that_takes_subdomains() {
        let row = |name: &str, sub: i64| vec![name.into(), Value::Null, Value::Int(sub)];
        let rows = vec![row("Example.org", 1), row("closed.example.org", 0), row("a.test", 0)];
        let table = Table::of(&Rows { rows, ..Rows::default() });
        for ours in ["example.ORG", "x.example.org", "x.y.example.org", "a.test"] {
            assert!(table.find(ours.as_bytes()).is_some(), "{ours}");
        }
        for other in ["b.a.test", "org", "xexample.org", "x.closed.example.org", "", "."] {
            assert!(table.find(other.as_bytes()).is_none(), "{other}");
        }
    }
}
