//! Whether this node may act on a dialog of itself.

use tandem_cluster::{Duty, TagTable};
use tandem_engine::node::Node;

use crate::record::Dialog;
use crate::replication::takeover::CREATOR_MARK;
use crate::state::Dialogs;

/// Leave to act on one's own initiative.
#[derive(Debug)]
pub(crate) enum Leave<'t> {
    /// The node is in no cluster, or does not share its dialogs.
    Alone,
    Duty(#[expect(dead_code, reason = "having it is the proof")] Duty<'t>),
}

/// The parts of `name` or `name/cluster`.
pub(crate) fn parts(tag: &str, cluster: u32) -> (&str, u32) {
    match tag.rsplit_once('/') {
        Some((name, number)) => (name, number.parse().unwrap_or(cluster)),
        None => (tag, cluster),
    }
}

impl Dialogs {
    /// Leave to end, ping or bill a dialog: by its tag, or else by the node that made it.
    /// `tags` is the node's table.
    pub(crate) fn leave<'t>(&self, tags: Option<&'t TagTable>, d: &Dialog) -> Option<Leave<'t>> {
        let Some(tags) = tags else { return Some(Leave::Alone) };
        if self.params.cluster == 0 && d.tag().is_none_or(|tag| !tag.contains('/')) {
            return Some(Leave::Alone);
        }
        if let Some(tag) = d.tag() {
            let (name, cluster) = parts(tag, self.params.cluster);
            return tags.duty(name, cluster).map(Leave::Duty);
        }
        if d.creator == 0 {
            return Some(Leave::Alone);
        }
        tags.duty_of_creator(self.params.cluster, d.creator).map(Leave::Duty)
    }

    /// Whether this node may act on a dialog now.
    pub fn may_act(&self, node: &Node, d: &Dialog) -> bool {
        let tags = node.membership().tags().map(|tags| &**tags);
        self.leave(tags, d).is_some()
    }

    /// Whether a stock node acts for a dialog.
    pub(crate) fn is_left_to_stock(&self, node: &Node, d: &Dialog) -> bool {
        let (Some(tags), Some(tag)) = (node.membership().tags(), d.tag()) else { return false };
        let (name, cluster) = parts(tag, self.params.cluster);
        tags.is_held_by_stock(name, cluster)
    }

    /// The epoch of a dialog's tag as it is known here; 0: it has none.
    pub(crate) fn epoch(&self, node: &Node, d: &Dialog) -> u64 {
        let (Some(tags), Some(tag)) = (node.membership().tags(), d.tag()) else { return 0 };
        let (name, cluster) = parts(tag, self.params.cluster);
        tags.epoch(name, cluster)
    }

    /// Whether an operator may change a dialog here: one with a tag where that is held, any other
    /// everywhere.
    pub(crate) fn may_edit(&self, node: &Node, d: &Dialog) -> bool {
        self.tag_counts(node, d.tag().unwrap_or_default().as_bytes())
    }

    /// Whether a dialog of this owner (see [`owner_key`]) counts here in a profile that nodes
    /// share.
    ///
    /// [`owner_key`]: crate::replication::takeover::owner_key
    pub(crate) fn tag_counts(&self, node: &Node, tag: &[u8]) -> bool {
        let Some(tags) = node.membership().tags() else { return true };
        if let [CREATOR_MARK, creator @ ..] = tag {
            let creator = creator.try_into().map_or(0, u32::from_be_bytes);
            return !self.is_replicated()
                || tags.duty_of_creator(self.params.cluster, creator).is_some();
        }
        let Ok(tag) = std::str::from_utf8(tag) else { return true };
        let (name, cluster) = parts(tag, self.params.cluster);
        tag.is_empty() || tags.is_active(name, cluster)
    }
}
