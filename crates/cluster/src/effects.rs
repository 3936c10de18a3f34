//! What the machine wants done.

use crate::listing::Difference;
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use tandem_bin::clusterer::{GenericMsg, MiCmd};
use tandem_bin::{ClusterId, NodeId};

/// A stream to a peer. The machine numbers the connections it opens, the caller those it
/// accepts; the two number spaces do not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnId {
    Outgoing(u64),
    Accepted(u64),
}

/// A registered capability of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CapId(pub(crate) u32);

/// When and where a replicated write was made: what conflicts are decided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Hybrid logical microseconds: wall time, pushed forward where it stands still.
    pub time_us: u64,
    pub node: NodeId,
}

/// A packet of a capability, without what makes it a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Packet type of the capability.
    pub kind: u32,
    pub version: u16,
    pub bytes: Bytes,
}

/// A change of a record, in the words of each kind of peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What the stock protocol says about it; `None`: stock peers are told nothing.
    pub stock: Option<Payload>,
    /// What Tandem peers are told; `None`: the same as stock peers.
    pub tandem: Option<Payload>,
    pub stamp: Stamp,
}

impl Change {
    /// A change of which all peers are told the same.
    pub fn same(kind: u32, version: u16, bytes: Bytes, stamp: Stamp) -> Self {
        Self { stock: Some(Payload { kind, version, bytes }), tandem: None, stamp }
    }

    pub(crate) fn for_tandem(&self) -> Option<&Payload> {
        self.tandem.as_ref().or(self.stock.as_ref())
    }
}

/// What [`crate::Clusterer::broadcast`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicated {
    /// Grows with each broadcast of the cluster; [`Effect::Acked`] refers to it.
    pub mark: u64,
    /// Tandem peers that will acknowledge it. 0: a gate has nothing to wait for.
    pub tandem_peers: u32,
    /// Peers it was handed to, Tandem and stock.
    pub peers: u32,
}

/// Names an activation until its [`Effect::Activated`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivationId(pub u64);

/// Names a question to a module until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Why and by whose command a tag changed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reason {
    /// E.g. `MI command`.
    pub text: String,
    /// E.g. `fifo`, a user, a script line.
    pub by: String,
}

impl Reason {
    pub fn new(text: impl Into<String>, by: impl Into<String>) -> Self {
        Self { text: text.into(), by: by.into() }
    }
}

/// State of an own capability; the numbers are those of status reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CapState {
    NotSynced,
    Pending,
    InProgress,
    Synced,
}

impl CapState {
    /// Status code of the `cap:<name>` status report.
    pub fn code(self) -> i32 {
        match self {
            Self::NotSynced => -3,
            Self::Pending => -2,
            Self::InProgress => -1,
            Self::Synced => 1,
        }
    }

    /// Details of the `cap:<name>` status report.
    pub fn details(self) -> &'static str {
        match self {
            Self::NotSynced => "not synced",
            Self::Pending => "sync pending",
            Self::InProgress => "sync in progress",
            Self::Synced => "synced",
        }
    }
}

/// Which encoding the records of a snapshot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// The chunks that the stock protocol defines for the capability.
    Stock,
    /// The module's own encoding, with stamps and tombstones.
    Tandem,
}

/// The records of a capability at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Version of the records' encoding.
    pub version: u16,
    /// Each at most [`crate::RECORD_BYTES_MAX`] bytes; larger ones are dropped and logged.
    pub records: Vec<Bytes>,
}

/// Buckets of a [`Digests`].
pub const BUCKETS: usize = 256;

/// Digests of a capability's records, by bucket; which record is in which bucket is the
/// module's business and the same on every node. An empty bucket is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    pub count: u64,
    pub buckets: Box<[u64; BUCKETS]>,
}

impl Default for Digests {
    fn default() -> Self {
        Self { count: 0, buckets: Box::new([0; BUCKETS]) }
    }
}

/// How urgent a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warning,
    Info,
    Debug,
}

/// A thing to do, in this order: what was delivered before an acknowledgement is written has to
/// be applied before the write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open a stream; answer with `handle_connected` or `handle_connect_failed`.
    Connect {
        conn: ConnId,
        peer: SocketAddr,
        local_ip: Option<IpAddr>,
    },
    /// Write; several packets of a batch are one write.
    Write {
        conn: ConnId,
        bytes: Bytes,
    },
    /// Close; no `handle_closed` is expected.
    Close {
        conn: ConnId,
    },
    /// A module packet. `stamp` comes from Tandem peers only.
    Deliver {
        cluster: ClusterId,
        source: NodeId,
        cap: CapId,
        packet_type: u32,
        version: u16,
        payload: Bytes,
        stamp: Option<Stamp>,
    },
    /// Records of a sync or of a repair; to be merged.
    DeliverSync {
        cluster: ClusterId,
        source: NodeId,
        cap: CapId,
        form: Form,
        version: u16,
        records: Vec<Bytes>,
    },
    /// Answer with `snapshot_ready`: all records, or those of these buckets. A sync of all is
    /// asked for bucket by bucket.
    SnapshotWanted {
        request: RequestId,
        cluster: ClusterId,
        cap: CapId,
        form: Form,
        buckets: Option<Vec<u8>>,
    },
    /// Answer with `listing_ready`.
    ListingWanted {
        request: RequestId,
        cluster: ClusterId,
        cap: CapId,
        buckets: Vec<u8>,
    },
    /// How a peer's records differ from ours.
    Differs {
        cluster: ClusterId,
        peer: NodeId,
        cap: CapId,
        difference: Difference,
    },
    /// Answer with `digests_ready`.
    DigestsWanted {
        request: RequestId,
        cluster: ClusterId,
        cap: CapId,
    },
    /// The link to a stock peer is back: answer with `replay_ready`, what changed here in these
    /// buckets since then.
    ReplayWanted {
        request: RequestId,
        cluster: ClusterId,
        peer: NodeId,
        cap: CapId,
        since_unix_ms: u64,
        buckets: Vec<u8>,
    },
    /// An own capability changed its state; `report` is the line of the status report.
    CapState {
        cluster: ClusterId,
        cap: CapId,
        state: CapState,
        report: String,
    },
    /// A node became reachable, or stopped being so.
    NodeState {
        cluster: ClusterId,
        node: NodeId,
        up: bool,
    },
    /// This node took or gave up a tag.
    TagChanged {
        name: String,
        cluster: ClusterId,
        active: bool,
        epoch: u64,
        reason: Reason,
    },
    /// An activation has been persisted and announced.
    Activated {
        id: ActivationId,
        told: Vec<NodeId>,
        not_told: Vec<NodeId>,
    },
    /// Write the state file durably; answer with `persisted`.
    Persist {
        token: u64,
        bytes: Bytes,
    },
    /// The peer has applied every broadcast up to this mark.
    Acked {
        cluster: ClusterId,
        peer: NodeId,
        mark: u64,
    },
    /// A Tandem peer has said how to judge its nonces.
    NonceKey {
        node: NodeId,
        key: Bytes,
    },
    /// A Tandem peer has said how to open what it has sealed.
    NodeKey {
        node: NodeId,
        key: Bytes,
    },
    /// Whether a peer's records of a capability were measured to equal ours.
    PeerInStep {
        cluster: ClusterId,
        peer: NodeId,
        cap: CapId,
        in_step: bool,
    },
    /// A script message from another node.
    Generic {
        cluster: ClusterId,
        source: NodeId,
        message: GenericMsg,
    },
    /// A management command from another node; there is no answer packet.
    Mi {
        cluster: ClusterId,
        source: NodeId,
        command: MiCmd,
    },
    Log {
        level: Level,
        text: String,
    },
}

/// The effects of one or more steps, in order.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    logged: usize,
}

/// Log lines of one batch; strangers can cause them, so there is a bound.
const LOG_LINES_MAX: usize = 64;

impl Effects {
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Takes what has been collected.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect> {
        self.logged = 0;
        self.list.drain(..)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn as_slice(&self) -> &[Effect] {
        &self.list
    }

    pub(crate) fn log(&mut self, level: Level, text: impl Into<String>) {
        if self.logged < LOG_LINES_MAX {
            self.logged += 1;
            self.push(Effect::Log { level, text: text.into() });
        }
    }
}
