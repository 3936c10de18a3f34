//! Plain data for `tandemctl status` and the MI commands of the clusterer.

use crate::effects::{CapId, CapState};
use crate::table::TagView;
use tandem_bin::{ClusterId, NodeId};

/// State of the clusters of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub my_node_id: NodeId,
    pub incarnation: u64,
    pub clusters: Vec<ClusterStatus>,
    pub tags: Vec<TagView>,
    /// Packets and connections of others that were refused since the start.
    pub refused: u64,
    /// Changes that some peer was not told of because they fit no packet.
    pub oversized: u64,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    pub cluster: ClusterId,
    /// This node is enabled in it.
    pub enabled: bool,
    pub nodes: Vec<NodeStatus>,
    /// The known graph: each node with its neighbours, this node first.
    pub topology: Vec<(NodeId, Vec<NodeId>)>,
    pub capabilities: Vec<CapStatus>,
}

/// A peer, as `clusterer:list` and `tandemctl status` show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    pub node: NodeId,
    pub url: String,
    /// What the url resolves to.
    pub address: std::net::SocketAddr,
    pub sip_addr: String,
    pub description: String,
    /// `Up`, `Down` or `Probe`.
    pub link_state: &'static str,
    pub enabled: bool,
    pub reachable: bool,
    /// The neighbour that packets to it go through; itself on a direct link.
    pub next_hop: Option<NodeId>,
    pub kind: PeerKind,
    /// Its wall clock minus ours in milliseconds, as far as measured.
    pub clock_skew_ms: Option<i64>,
    /// Changes written and not yet acknowledged.
    pub unacked: u64,
    pub unacked_bytes: u64,
    /// Changes that were made while it could not be told, and are not repaired yet.
    pub missed: u64,
    /// Age of the oldest change that it has not applied, in milliseconds; 0 if it has them all.
    pub lag_ms: u64,
    /// Changes were lost on the way and have not been repaired yet.
    pub behind: bool,
    pub steps: Vec<StepStatus>,
}

/// What a peer has shown itself to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    Unproven,
    Stock,
    Tandem { incarnation: u64, level: u32 },
}

/// How a peer's records of a capability compare with ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepStatus {
    pub cap: CapId,
    pub name: String,
    pub step: Step,
}

/// The result of the last comparison of digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Step {
    #[default]
    NeverCompared,
    /// Equal, measured at this time.
    InStep { at_unix_ms: u64 },
    /// This many buckets differed.
    Differs { buckets: u32, at_unix_ms: u64 },
}

/// An own capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapStatus {
    pub cap: CapId,
    pub name: String,
    pub state: CapState,
    pub enabled: bool,
}
