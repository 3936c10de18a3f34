//! The packets of the clusterer itself: capabilities `clusterer-internal` (hop by hop, no
//! trailer) and `clusterer-extra` (routed by trailer). Numbering of releases 3.2 to 4.0.

mod extra;
mod internal;

pub use extra::{Chunks, Extra, GenericMsg, MiCmd, Sync, SyncEnd};
pub use internal::{
    Body, CapNode, CapUpdate, Description, FullTopUpdate, Internal, LinkStateUpdate, NodeBlock,
    NodeDescription,
};

/// Name of the hop-by-hop capability.
pub const INTERNAL: &[u8] = b"clusterer-internal";
/// Name of the routed capability.
pub const EXTRA: &[u8] = b"clusterer-extra";

/// Nodes a cluster may have besides this one.
pub const NODES_MAX: usize = 128;
/// A packet that has visited more nodes is not flooded further.
pub const PATH_MAX: usize = 25;
/// Payload version of sync packets.
pub const SYNC_VERSION: u16 = 3;
/// Marker in front of each record of a sync packet.
pub const CHUNK_MARKER: u32 = 101_010_101;
