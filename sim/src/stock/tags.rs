//! The sharing tag of the scenarios: whoever announces it last has it.

use std::collections::BTreeSet;

use bytes::Bytes;
use tandem_bin::NodeId;
use tandem_bin::clusterer::Extra;
use tandem_clock::Now;

use super::Stock;

const NAME: &[u8] = b"service";

#[derive(Debug, Default)]
pub(super) struct Tags {
    pub(super) is_active: bool,
    /// Somebody could not be told.
    to_announce: bool,
    told: BTreeSet<NodeId>,
}

impl Tags {
    /// Steps down without asking.
    pub(super) fn on_announced(&mut self, tag: &[u8]) {
        if tag == NAME {
            *self = Self::default();
        }
    }

    /// Whether a node that has come up hears of the tag; each hears of it once.
    pub(super) fn tells(&mut self, node: NodeId) -> bool {
        self.is_active && self.to_announce && self.told.insert(node)
    }
}

impl Stock {
    /// The operator's command.
    pub(crate) fn activate(&mut self, now: Now) {
        self.tags.is_active = true;
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        for id in ids {
            if self.tags.to_announce && self.tags.told.contains(&id) {
                continue;
            }
            if self.announce_tag(now, id) {
                self.tags.told.insert(id);
            } else {
                self.tags.to_announce = true;
            }
        }
    }

    pub(super) fn announce_tag(&mut self, now: Now, to: NodeId) -> bool {
        let packet = Extra::ShtagActive { tag: Bytes::from_static(NAME) };
        packet.encode(&self.trailer(to)).is_ok_and(|bytes| self.route(now, to, &bytes))
    }
}
