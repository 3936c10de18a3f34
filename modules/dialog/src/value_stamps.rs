//! When each value of a dialog was written, so that values which nodes wrote apart all survive:
//! of one name the later write wins, a removal is a write.

use tandem_cluster::fields::{Fields, fields, int32, integer};

use crate::record::{Dialog, Stamp, Text, VALUES_MAX, Val};

/// The change at hand has no stamp yet.
const PENDING: Stamp = Stamp { time_us: u64::MAX, node: 0 };

/// Names with the stamps of their last writes, in the order of the names. What is not here was
/// written with the record itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueStamps(Vec<(Text, Stamp)>);

impl ValueStamps {
    /// A value is written or removed by the change at hand.
    pub(crate) fn touch(&mut self, name: &[u8]) {
        self.put(name, PENDING);
    }

    /// The change at hand has got its stamp.
    pub(crate) fn settle(&mut self, stamp: Stamp) {
        let pending = self.0.iter_mut().filter(|(_, at)| *at == PENDING);
        pending.for_each(|(_, at)| *at = stamp);
    }

    pub(crate) fn put(&mut self, name: &[u8], stamp: Stamp) {
        match self.0.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(at) => {
                if let Some((_, known)) = self.0.get_mut(at) {
                    *known = stamp;
                }
            }
            // Values are bounded; so are the names of those that are gone.
            Err(at) if self.0.len() < 2 * VALUES_MAX => self.0.insert(at, (name.into(), stamp)),
            Err(_) => {}
        }
    }

    /// All of one node.
    #[cfg(test)]
    pub(crate) fn of_node(&mut self, node: u32) {
        self.0.iter_mut().for_each(|(_, stamp)| stamp.node = node);
    }

    fn of(&self, name: &[u8]) -> Option<Stamp> {
        let at = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        self.0.get(at).map(|(_, stamp)| *stamp)
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// One field for each, as peers are told.
    pub(crate) fn encoded(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.0.iter().map(|(name, stamp)| {
            let mut w = Fields::with_capacity(32 + name.len());
            w.put(1, name);
            w.put_number(2, stamp.time_us);
            w.put_number(3, stamp.node.into());
            w.into_bytes()
        })
    }

    /// Takes one of these fields; `None`: it cannot be read.
    pub(crate) fn lay(&mut self, field: &[u8]) -> Option<()> {
        let (mut name, mut stamp) = (&[][..], Stamp { time_us: 0, node: 0 });
        for one in fields(field) {
            match one? {
                (1, value) => name = value,
                (2, value) => stamp.time_us = integer(value)?,
                (3, value) => stamp.node = int32(value)?,
                _ => {}
            }
        }
        self.put(name, stamp);
        Some(())
    }
}

/// Gives `both`, which is a copy of `new`, the values that `old` has written later.
pub(crate) fn merge_values(both: &mut Dialog, new: &Dialog, old: &Dialog) {
    if new.values == old.values && new.value_stamps == old.value_stamps {
        return;
    }
    for (name, stamp) in &old.value_stamps.0 {
        if new.value_stamps.of(name) >= Some(*stamp) {
            continue;
        }
        both.value_stamps.put(name, *stamp);
        let value = old.values.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        lay(both, name, value);
    }
}

fn lay(d: &mut Dialog, name: &Text, value: Option<Val>) {
    let room = d.values.len() < VALUES_MAX;
    match (d.values.iter().position(|(n, _)| n == name), value) {
        (Some(at), None) => drop(d.values.remove(at)),
        (Some(at), Some(value)) => {
            if let Some((_, old)) = d.values.get_mut(at) {
                *old = value;
            }
        }
        (None, Some(value)) if room => d.values.push((name.clone(), value)),
        (None, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DialogId;
    use crate::replication::merge::merged;

    #[test]
    fn values_that_two_nodes_wrote_apart_are_there_in_the_end() {
        let stamp = |time_us, node| Stamp { time_us, node };
        let mut base = Dialog::empty(DialogId { entry: 1, id: 2 });
        base.stamp = stamp(10, 1);
        base.values = vec![(b"x"[..].into(), Val::Int(0)), (b"z"[..].into(), Val::Int(9))];
        let (mut one, mut two) = (base.clone(), base);
        one.values = vec![(b"x"[..].into(), Val::Int(1)), (b"z"[..].into(), Val::Int(9))];
        one.value_stamps.put(b"x", stamp(20, 1));
        one.stamp = stamp(20, 1);
        two.values = vec![(b"x"[..].into(), Val::Int(0)), (b"y"[..].into(), Val::Int(2))];
        two.value_stamps.put(b"y", stamp(30, 2));
        two.value_stamps.put(b"z", stamp(25, 2));
        two.stamp = stamp(30, 2);
        let there = |d: &Dialog| {
            let mut all = d.values.clone();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        let both = merged(&one, &two).unwrap();
        let expected = vec![(b"x"[..].into(), Val::Int(1)), (b"y"[..].into(), Val::Int(2))];
        assert_eq!(there(&both), expected, "`z` was removed");
        assert_eq!(there(&merged(&two, &one).unwrap()), expected);
        assert_eq!(merged(&both, &two), None);
    }
}
