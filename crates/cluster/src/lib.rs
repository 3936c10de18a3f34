//! Membership, links, capabilities, sync and sharing tags: one machine for all clusters of a
//! node, without I/O.
//!
//! [`Clusterer`] takes bytes of streams, commands, answers of modules and the time, and appends
//! [`Effect`]s. It speaks the stock protocol to every peer, and capability `tandem` (see
//! `wire.rs` for its packets) to peers that have said HELLO.

mod acks;
mod awaiting;
mod bridge;
mod caps;
mod cluster;
mod clusterer;
mod commands;
mod complaints;
mod config;
mod digest;
mod donor;
mod effects;
pub mod fields;
mod link;
mod links;
mod listing;
mod peer;
mod pings;
mod questions;
mod register;
mod routed;
mod saved;
mod session;
mod skew;
mod status;
mod streams;
mod table;
mod tags;
mod view;
mod wire;

pub use bridge::BridgeConfig;
pub use caps::RECORD_BYTES_MAX;
pub use clusterer::{ClusterError, Clusterer};
pub use config::{ClusterConfig, Config, GateMode, NodeConfig, TagConfig};
pub use digest::Digester;
pub use donor::Missed;
pub use effects::{
    ActivationId, BUCKETS, CapId, CapState, ConnId, Digests, Effect, Effects, Form, Level, Reason,
    Replicated, RequestId, Snapshot, Stamp,
};
pub use effects::{Change, Payload};
pub use listing::{Difference, Entry};
pub use status::{CapStatus, ClusterStatus, NodeStatus, PeerKind, Status, Step, StepStatus};
pub use table::{Duty, Pledge, TagTable, TagView};
