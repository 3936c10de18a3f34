//! What can happen to a record, and what came of it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::contact::{Contact, NewContact};
use super::matching::Matching;

/// When a write happened. Later writes are greater.
pub use tandem_cluster::Stamp;

/// A stamp from its parts.
pub(crate) const fn stamp_at(time_us: u64, node: u32) -> Stamp {
    Stamp { time_us, node }
}

/// Who asks for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client or an operator of this node: it gets a fresh stamp and goes to the peers.
    Local,
    /// A Tandem peer; it carries the stamp of the node that made it.
    Tandem { stamp: Stamp },
    /// A stock peer: its CSeq rules decide, the stamp is its last-modified.
    Stock { node: u32 },
    /// A row of SQL, read at start.
    Database,
}

/// A change of one AoR.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// Insert a contact or replace the one it means.
    Put { contact: NewContact<'a>, matching: &'a Matching },
    /// As [`Change::Put`] of a stock peer's update packet, where an equal CSeq is accepted. Of
    /// this node: exactly this state, key/values and all.
    Update { contact: NewContact<'a>, matching: &'a Matching },
    /// As [`Change::Put`], of a stock peer's sync: what it says may be old.
    Learn { contact: NewContact<'a>, matching: &'a Matching },
    /// Remove the contact with this id.
    Delete { id: u64 },
    /// Remove the contact that a peer names.
    DeleteNamed { uri: &'a [u8], call_id: &'a [u8], cseq: u32, matching: &'a Matching },
    /// A tombstone of a peer's snapshot.
    Bury { tombstone: Tombstone },
    /// A stock peer has made an AoR, with the labels it has there; its contacts follow. Without
    /// any it stays until `until_s`.
    InsertAor { record_label: u32, next_label: u16, until_s: u64 },
    /// A stock peer removed the AoR with all contacts.
    DeleteAor,
    /// Drop the AoR if it has no contact. Local, and never on the wire.
    ExpireAor,
    /// Drop the contact with this id if it has expired. Local, and never on the wire.
    Expire { id: u64 },
}

/// A delete that is remembered, so that a late packet does not undo it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// URI and Call-ID, one behind the other.
    names: Box<[u8]>,
    uri_len: u32,
    pub cseq: u32,
    pub stamp: Stamp,
    /// Unix seconds after which it is forgotten.
    pub until_s: u32,
    /// URI and Call-ID together name what was deleted; else the URI alone.
    pub keyed_by_call_id: bool,
}

impl Tombstone {
    pub fn new(
        uri: &[u8],
        call_id: &[u8],
        keyed_by_call_id: bool,
        cseq: u32,
        stamp: Stamp,
        until_s: u64,
    ) -> Self {
        Self {
            names: [uri, call_id].concat().into(),
            uri_len: uri.len() as u32,
            cseq,
            stamp,
            until_s: u32::try_from(until_s).unwrap_or(u32::MAX),
            keyed_by_call_id,
        }
    }

    pub fn uri(&self) -> &[u8] {
        self.names.get(..self.uri_len as usize).unwrap_or_default()
    }

    pub fn call_id(&self) -> &[u8] {
        self.names.get(self.uri_len as usize..).unwrap_or_default()
    }
}

/// What one change came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is an AoR, without contacts.
    AorInserted,
    /// A contact with this id is new.
    Inserted(u64),
    /// More than the lifetime changed.
    Updated(u64),
    /// Only the lifetime changed.
    Refreshed(u64),
    Deleted,
    Ignored(Why),
}

/// Why a change changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Already so.
    Known,
    /// Lower CSeq of the same Call-ID.
    OldCseq,
    /// An earlier stamp than what is stored, or than a delete.
    Older,
    /// Already over.
    Expired,
    NotFound,
    NotStored(NotStored),
}

/// Why a contact cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    #[error("the texts of the contact are longer than 64 KiB")]
    TooLong,
    #[error("the AoR has too many contacts")]
    TooMany,
}

/// Something to tell: events, SQL and statistics work on these after the lock is released.
#[derive(Clone, Debug)]
pub enum Event {
    AorInserted,
    ContactInserted(Arc<Contact>),
    ContactUpdated { contact: Arc<Contact>, old: Arc<Contact> },
    ContactDeleted { contact: Arc<Contact>, is_expiry: bool },
    AorDeleted,
}

/// What an edit of an AoR came to.
#[derive(Clone, Debug)]
pub struct Done {
    pub origin: Origin,
    pub events: SmallVec<[Event; 2]>,
}

/// A change on its way to the peers, lent while the shard is locked.
#[derive(Clone, Copy, Debug)]
pub enum Replica<'a> {
    AorInsert { aor: &'a [u8], record_label: u32, next_label: u16 },
    ContactInsert { aor: &'a [u8], contact: &'a Arc<Contact>, matching: &'a Matching },
    ContactUpdate { aor: &'a [u8], contact: &'a Arc<Contact>, matching: &'a Matching },
    ContactDelete { aor: &'a [u8], tombstone: &'a Tombstone },
    AorDelete { aor: &'a [u8], stamp: Stamp },
}

impl Replica<'_> {
    /// The stamp of the change; `None` where it changes no contact.
    pub fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::AorInsert { .. } => None,
            Self::ContactInsert { contact, .. } | Self::ContactUpdate { contact, .. } => {
                Some(contact.stamp())
            }
            Self::ContactDelete { tombstone, .. } => Some(tombstone.stamp),
            Self::AorDelete { stamp, .. } => Some(*stamp),
        }
    }
}

/// Where local changes go. Called with the shard locked, so it must only append.
pub trait Sink {
    /// A stamp later than every stamp given out or heard of.
    fn stamp(&self) -> Stamp;
    /// Appends to the log of the shard.
    fn replicate(&self, shard: usize, change: Replica<'_>);
}
