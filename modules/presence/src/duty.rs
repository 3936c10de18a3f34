//! Whether this node may act on something of itself.

use tandem_cluster::{Duty, TagTable};
use tandem_engine::module::Cx;

use crate::params::tag_parts;
use crate::record::Subscription;
use crate::state::Presence;

/// Leave to act on one's own initiative.
#[derive(Debug)]
pub(crate) enum Leave<'t> {
    /// The node is in no cluster, or does not share its subscriptions.
    Alone,
    Duty(#[expect(dead_code, reason = "having it is the proof")] Duty<'t>),
}

impl Presence {
    /// Leave to act at all: with `cluster_be_active_shtag`, while its tag is held here. `tags` is
    /// the table of the node.
    pub(crate) fn leave_of_node<'t>(&self, tags: Option<&'t TagTable>) -> Option<Leave<'t>> {
        let Some((name, cluster)) = &self.params.node_tag else { return Some(Leave::Alone) };
        tags?.duty(name, *cluster).map(Leave::Duty)
    }

    /// Leave to notify and to end a subscription: by its tag, by that of the node, or else by the
    /// node that made it.
    pub(crate) fn leave<'t>(
        &self,
        tags: Option<&'t TagTable>,
        s: &Subscription,
    ) -> Option<Leave<'t>> {
        let node = self.leave_of_node(tags)?;
        if self.params.cluster == 0 {
            return Some(node);
        }
        let tags = tags?;
        if !s.tag.is_empty() {
            let tag = std::str::from_utf8(&s.tag).ok()?;
            let (name, cluster) = tag_parts(tag, self.params.cluster);
            return tags.duty(name, cluster).map(Leave::Duty);
        }
        if self.params.node_tag.is_some() || s.creator == 0 {
            return Some(node);
        }
        tags.duty_of_creator(self.params.cluster, s.creator).map(Leave::Duty)
    }

    pub(crate) fn is_ours(&self, cx: &Cx<'_>, s: &Subscription) -> bool {
        let tags = cx.node.membership().tags().map(|tags| &**tags);
        self.leave(tags, s).is_some()
    }

    /// Whether the tag of the whole node, if there is one, is held here.
    pub(crate) fn is_active(&self, cx: &Cx<'_>) -> bool {
        let tags = cx.node.membership().tags().map(|tags| &**tags);
        self.leave_of_node(tags).is_some()
    }
}
