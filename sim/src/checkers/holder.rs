//! While links are up a tag never has two holders, and once somebody was told to act never none.
//! Two stock nodes that were both told to act while they did not see each other keep it both, also
//! when they meet again: that is theirs.

use std::collections::BTreeSet;

use tandem_clock::{Mono, SEC};

/// Name in findings.
pub const NAME: &str = "holder";

/// What a running node says of the tag and of its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) node: u32,
    pub(crate) is_stock: bool,
    /// It holds the tag.
    pub(crate) is_active: bool,
    /// And may act.
    pub(crate) has_duty: bool,
    /// Nodes to which it has a link that is up, the peer having said that it is Tandem.
    pub(crate) linked: BTreeSet<u32>,
}

/// Links that have been up this long have carried what there was to say.
const SETTLED_NS: Mono = 2 * SEC;

#[derive(Debug, Default)]
pub(crate) struct Holder {
    /// Since when all nodes that run see each other, and nothing else has happened.
    quiet_since: Option<Mono>,
    /// Somebody was told to act, and no holder has died since.
    is_owed: bool,
}

impl Holder {
    /// Something has happened that takes time to be settled.
    pub(crate) fn disturbed(&mut self) {
        self.quiet_since = None;
    }

    /// The operator's command has been answered with success.
    pub(crate) fn told(&mut self) {
        self.is_owed = true;
        self.disturbed();
    }

    /// A node dies; if it was the holder, nobody needs to act until somebody is told to.
    pub(crate) fn crashed(&mut self, was_active: bool) {
        if was_active {
            self.is_owed = false;
        }
        self.disturbed();
    }

    /// Looks at all running nodes.
    pub(crate) fn look(&mut self, now: Mono, views: &[View]) -> Option<String> {
        let names = |of: fn(&View) -> bool| -> Vec<String> {
            views.iter().filter(|v| of(v)).map(|v| v.node.to_string()).collect()
        };
        let acting = names(|v| v.has_duty);
        if acting.len() == 1 {
            self.is_owed = true;
        }
        if views.is_empty() || !all_linked(views) {
            self.quiet_since = None;
            return None;
        }
        let since = *self.quiet_since.get_or_insert(now);
        if now - since < SETTLED_NS {
            return None;
        }
        if acting.len() > 1 && views.iter().any(|v| v.has_duty && !v.is_stock) {
            return Some(format!("nodes {} all hold service/1", acting.join(" and ")));
        }
        let nobody = names(|v| v.is_active).is_empty();
        (nobody && self.is_owed).then(|| "nobody holds service/1".to_owned())
    }
}

fn all_linked(views: &[View]) -> bool {
    let sees = |a: &View| views.iter().all(|b| a.node == b.node || a.linked.contains(&b.node));
    views.iter().all(sees)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(node: u32, is_active: bool, linked: &[u32]) -> View {
        let linked = linked.iter().copied().collect();
        View { node, is_stock: false, is_active, has_duty: is_active, linked }
    }

    #[test]
    fn two_holders_are_a_fault_of_ours_if_one_of_them_is_not_stock() {
        let found = |first: bool, second: bool| {
            let mut holder = Holder::default();
            let mut views = [view(1, true, &[2]), view(2, true, &[1])];
            (views[0].is_stock, views[1].is_stock) = (first, second);
            holder.look(0, &views);
            holder.look(3 * SEC, &views).is_some()
        };
        assert!(found(false, true) && found(true, false) && !found(true, true));
    }

    #[test]
    fn two_holders_are_allowed_while_cut_and_for_the_time_it_takes_to_settle() {
        let mut holder = Holder::default();
        let cut = [view(1, true, &[]), view(2, true, &[])];
        assert_eq!(holder.look(0, &cut), None);
        assert_eq!(holder.look(60 * SEC, &cut), None);
        let healed = [view(1, true, &[2]), view(2, true, &[1])];
        assert_eq!(holder.look(61 * SEC, &healed), None);
        assert_eq!(holder.look(62 * SEC, &healed), None);
        assert!(holder.look(63 * SEC, &healed).is_some());
    }

    #[test]
    fn nobody_is_a_fault_once_somebody_held_it_unless_the_holder_died() {
        let mut holder = Holder::default();
        let none = [view(1, false, &[2]), view(2, false, &[1])];
        holder.look(0, &none);
        assert_eq!(holder.look(10 * SEC, &none), None, "nobody was ever told to act");
        holder.look(11 * SEC, &[view(1, true, &[2]), view(2, false, &[1])]);
        assert!(holder.look(20 * SEC, &none).is_some());
        holder.crashed(true);
        holder.look(21 * SEC, &[view(2, false, &[])]);
        assert_eq!(holder.look(30 * SEC, &[view(2, false, &[])]), None);
        holder.told();
        holder.look(31 * SEC, &[view(2, false, &[])]);
        assert!(holder.look(40 * SEC, &[view(2, false, &[])]).is_some());
    }
}
