//! What the machine is built from. Names are resolved and files are read by the caller.

use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use tandem_bin::{ClusterId, NodeId};

/// Everything a node knows about its clusters at start.
#[derive(Clone, Debug)]
pub struct Config {
    pub my_node_id: NodeId,
    /// This life of the node: a random number that no earlier life had.
    pub incarnation: u64,
    pub clusters: Vec<ClusterConfig>,
    pub tags: Vec<TagConfig>,
    pub gate: GateMode,
    /// The content of the state file; `None` if there is none.
    pub saved_claims: Option<Bytes>,
    /// Addresses of our sockets, and whether this host holds them.
    pub addresses: Vec<(IpAddr, bool)>,
}

/// A cluster this node is a member of.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    pub cluster: ClusterId,
    /// This node, as its peers know it.
    pub own: NodeConfig,
    pub peers: Vec<NodeConfig>,
    /// The node list comes from a database and is fixed (`db_mode` 1); no discovery.
    pub db_mode: bool,
    /// Unknown nodes may describe themselves (only if `db_mode` is off).
    pub discovery: bool,
    pub ping_interval_s: u32,
    pub ping_timeout_ms: u32,
    pub node_timeout_s: u32,
    pub seed_fallback_interval_s: u32,
    pub sync_timeout_s: u32,
    /// Packets go through other nodes where a direct link is down.
    pub rerouting: bool,
    /// A sync packet is closed when it would grow beyond this.
    pub sync_packet_size: usize,
    /// Unacknowledged bytes per Tandem peer, above which the peer counts as behind.
    pub log_bytes_max: usize,
}

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    pub node: NodeId,
    /// `bin:host[:port]`, as it is described to others.
    pub url: String,
    /// What `url` resolves to.
    pub address: SocketAddr,
    /// `host[:port]`, may be empty.
    pub sip_addr: String,
    pub description: String,
    pub priority: i32,
    /// PINGs that may be lost after the first before the node is down.
    pub ping_retries: u32,
    /// May become the first synced node of a cluster that has none.
    pub seed: bool,
    /// Administratively enabled.
    pub enabled: bool,
}

/// A sharing tag named in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagConfig {
    pub name: String,
    pub cluster: ClusterId,
    /// `=active` in the file: a claim of epoch 0, which loses against every other.
    pub active_in_file: bool,
}

/// When a reply to a client may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GateMode {
    /// At once.
    Off,
    /// When the change was handed to the link.
    Sent,
    /// When a Tandem peer has applied the change.
    #[default]
    Acked,
}

impl Config {
    /// A node without clusters.
    pub fn new(my_node_id: NodeId, incarnation: u64) -> Self {
        Self {
            my_node_id,
            incarnation,
            clusters: Vec::new(),
            tags: Vec::new(),
            gate: GateMode::default(),
            saved_claims: None,
            addresses: Vec::new(),
        }
    }
}

impl ClusterConfig {
    /// A cluster with the default parameters and no peer yet.
    pub fn new(cluster: ClusterId, own: NodeConfig) -> Self {
        Self {
            cluster,
            own,
            peers: Vec::new(),
            db_mode: false,
            discovery: true,
            ping_interval_s: 4,
            ping_timeout_ms: 1000,
            node_timeout_s: 60,
            seed_fallback_interval_s: 5,
            sync_timeout_s: 15,
            rerouting: true,
            sync_packet_size: 32768,
            log_bytes_max: 16 << 20,
        }
    }
}

impl NodeConfig {
    /// An enabled node with the default priority and retries.
    pub fn new(node: NodeId, address: SocketAddr) -> Self {
        Self {
            node,
            url: format!("bin:{address}"),
            address,
            sip_addr: String::new(),
            description: String::new(),
            priority: 50,
            ping_retries: 3,
            seed: false,
            enabled: true,
        }
    }
}
