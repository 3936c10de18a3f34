//! Questions to modules that have not been answered yet.

use crate::effects::{CapId, RequestId};
use crate::listing::Listing;
use crate::wire::DigestMsg;
use std::collections::BTreeMap;
use tandem_bin::{ClusterId, NodeId};

/// What an answer is for.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// Some buckets for a peer that is given records.
    Buckets { to: NodeId },
    /// Names of records for a peer.
    SendListing { to: NodeId, buckets: Vec<u8> },
    /// Names of records to compare with a peer's.
    CompareListing { from: NodeId, theirs: Box<Listing> },
    /// Digests for a peer.
    SendDigests { to: NodeId, at_once: bool },
    /// Digests to compare with a peer's.
    Compare { from: NodeId, theirs: Box<DigestMsg> },
}

/// Open questions, the oldest of which are forgotten when there are too many.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    last: u64,
    open: BTreeMap<RequestId, (ClusterId, CapId, Question)>,
}

impl Questions {
    pub(crate) fn ask(&mut self, cluster: ClusterId, cap: CapId, q: Question) -> RequestId {
        self.last += 1;
        let id = RequestId(self.last);
        self.open.insert(id, (cluster, cap, q));
        if self.open.len() > QUESTIONS_MAX {
            self.open.pop_first();
        }
        id
    }

    pub(crate) fn answer(&mut self, id: RequestId) -> Option<(ClusterId, CapId, Question)> {
        self.open.remove(&id)
    }
}

const QUESTIONS_MAX: usize = 1024;
