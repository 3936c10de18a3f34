//! What a module tells of its targets.

use bytes::Bytes;
use tandem_bin::Malformed;
use tandem_cluster::Stamp;
use tandem_db::Query;
use tandem_engine::effect::DatabaseId;
use tandem_engine::module::{Cx, Module};

use crate::params::Sharing;
use crate::probing::{Prober, Target};
use crate::register::Register;

/// What a state belongs to, as nodes name it to each other.
pub trait Key: Clone + Ord + Send + Sync + 'static {
    /// The same on all nodes: digests are made of it, and people read it.
    fn name(&self) -> Vec<u8>;
}

/// What a peer says about a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Becomes {
    /// It has these bits and no others.
    Exactly(u32),
    /// These bits were set.
    With(u32),
    /// These bits were taken off.
    Without(u32),
    /// It has these bits and no others, unless it has one of those `held`: an operator wants it
    /// so.
    Unless { held: u32, bits: u32 },
}

/// A state as a peer tells it.
#[derive(Clone, Debug)]
pub struct Said<K> {
    pub key: K,
    pub becomes: Becomes,
}

/// Where a change comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// This node has found it out, and how.
    Here(&'a str),
    /// Somebody at this node wants it, and why: that counts from now on, also when it changes
    /// nothing here.
    Command(&'a str),
    /// A peer; in a sync nobody is told. A Tandem peer may have told no stock peer, and says of
    /// which wish it knew.
    Peer { stamp: Stamp, wish: Option<Stamp>, in_sync: bool, is_tandem: bool },
}

impl<'a> Origin<'a> {
    /// The reason for people; `None`: it is part of a sync.
    pub fn reason(self) -> Option<&'a str> {
        match self {
            Self::Here(why) | Self::Command(why) => Some(why),
            Self::Peer { in_sync: true, .. } => None,
            Self::Peer { in_sync: false, .. } => Some("replicated"),
        }
    }
}

/// A state has changed.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a, K> {
    pub key: &'a K,
    pub before: u32,
    pub bits: u32,
    pub origin: Origin<'a>,
}

/// A module with targets.
pub trait Owner: Module + Sized {
    /// The module, for log lines.
    const NAME: &'static str;
    const CAPABILITY: &'static str;
    /// Version of the packets of stock nodes.
    const VERSION: u16;
    /// Whether a node asks for all states when it starts.
    const STARTUP_SYNC: bool = true;
    type Key: Key;

    fn states(&self) -> &Register<Self>;

    fn prober(&self) -> &Prober<Self::Key>;

    fn sharing(&self) -> &Sharing;

    /// The packet that makes a target what it is now: its type and payload.
    fn packet(key: &Self::Key, bits: u32) -> Option<(u32, Bytes)>;

    /// Reads a packet; `None`: its type is none of this capability.
    fn read_packet(kind: u32, payload: &Bytes) -> Option<Result<Said<Self::Key>, Malformed>>;

    /// The same as a chunk of a sync.
    fn chunk(key: &Self::Key, bits: u32) -> Option<Bytes>;

    /// Reads a chunk of a sync.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read_chunk(chunk: &Bytes) -> Result<Said<Self::Key>, Malformed>;

    /// A target by the name that a peer gives it, which may be written in another way.
    fn known_as(&self, key: Self::Key) -> Self::Key {
        key
    }

    /// Whether this target may be in a table that is on its way or will be read later, so that what
    /// peers say is kept.
    fn awaits(&self, key: &Self::Key) -> bool;

    /// The state after a peer has set bits.
    fn with(present: u32, bits: u32) -> u32 {
        present | bits
    }

    /// Whether what a stock peer says counts: it may not know yet what is wanted here.
    fn takes_of_stock(_present: u32, _bits: u32) -> bool {
        true
    }

    /// Tells the event and the reports, with no lock held.
    fn changed(&self, cx: &mut Cx<'_>, change: Change<'_, Self::Key>);

    /// What writes a state to the database; `None`: it is not kept there.
    fn update(&self, key: &Self::Key, bits: u32) -> Option<(DatabaseId, Query)>;

    /// The targets that are to be probed now, as far as the number of their name is `wanted`.
    fn due(&self, wanted: &dyn Fn(&[u8]) -> bool) -> Vec<Target<Self::Key>>;
}
