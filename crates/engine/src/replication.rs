//! What a module implements to have its records replicated.

use bytes::Bytes;
use tandem_clock::Now;
use tandem_cluster::{Digests, Form, Snapshot, Stamp};

use crate::module::Cx;

/// A change that a peer made.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The node where it happened.
    pub source: u32,
    /// Packet type of the capability.
    pub kind: u32,
    pub version: u16,
    pub payload: Bytes,
    /// From Tandem peers only.
    pub stamp: Option<Stamp>,
}

/// The records of a module that other nodes have too. Every change goes through one function of
/// the module, which also appends the replication record; what comes in here goes through the
/// same function, marked as replicated, so that nothing echoes.
pub trait Replicated {
    /// The capability's name on the wire, e.g. `usrloc-contact-repl`.
    fn capability(&self) -> &'static str;

    fn cluster(&self) -> u32;

    /// Whether a node asks for all records when it starts.
    fn startup_sync(&self) -> bool;

    /// Whether the records of a peer stand against those here, and do not add to them: then a
    /// stock node that is not synced itself is not asked.
    fn replaces(&self) -> bool {
        false
    }

    /// Whether a stock node has a sync of these records, so that it may be asked for them.
    fn syncs_with_stock(&self) -> bool {
        true
    }

    /// Applies one change of a peer.
    fn apply(&self, cx: &mut Cx<'_>, change: Incoming);

    /// Merges records of a sync or repair; `form` says how they are encoded.
    fn merge(&self, cx: &mut Cx<'_>, source: u32, form: Form, version: u16, records: Vec<Bytes>);

    /// All records, or those of some buckets.
    fn snapshot(&self, cx: &mut Cx<'_>, form: Form, buckets: Option<&[u8]>) -> Snapshot;

    /// Digests of all records.
    fn digests(&self, now: Now) -> Digests;

    /// The records of some buckets by name, each with a digest of what it says: for people.
    fn listing(&self, _cx: &mut Cx<'_>, _buckets: &[u8]) -> Vec<(Bytes, u64)> {
        Vec::new()
    }

    /// What changed here since then in some buckets, for a stock peer that missed it: (type,
    /// version, payload). What that peer itself told last may be left out.
    fn replay_since(
        &self,
        cx: &mut Cx<'_>,
        peer: u32,
        since_unix_ms: u64,
        buckets: &[u8],
    ) -> Vec<(u32, u16, Bytes)>;
}
