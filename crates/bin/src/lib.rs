//! The BIN packet codec: what nodes of a cluster say to each other over `bin:` and `bins:`.
//!
//! [`Framer`] cuts a byte stream into frames, [`Packet`] is a frame with its header and trailer
//! taken off, and one module per capability turns payloads into types and back:
//! [`clusterer`], [`usrloc`], [`dialog`], [`tm`], [`cachedb_local`], [`ratelimit`],
//! [`drouting`], [`dispatcher`], [`presence`] and [`pua`]. Everything read is hostile until
//! parsed: a bad packet is a typed [`Malformed`], never a panic.
#![deny(clippy::indexing_slicing)]

pub mod cachedb_local;
pub mod clusterer;
pub mod dialog;
pub mod dispatcher;
pub mod drouting;
mod error;
mod framer;
pub mod load_balancer;
mod packet;
pub mod presence;
pub mod pua;
pub mod ratelimit;
mod reader;
pub mod tm;
pub mod usrloc;
mod writer;

pub use error::{FrameError, Malformed, TooBig};
pub use framer::Framer;
pub use packet::{BRIDGED, Packet, Trailer};
pub use reader::Reader;
pub use writer::Writer;

/// A node id: 1 and above, unique in its cluster.
pub type NodeId = u32;
/// A cluster id.
pub type ClusterId = u32;

/// The smallest packet a reader accepts, in bytes.
pub const PACKET_BYTES_MIN: usize = 17;
/// The largest packet a reader accepts, in bytes (3.x peers emit up to this).
pub const PACKET_BYTES_MAX: usize = 65535;
/// The largest packet that is ever emitted, in bytes (the limit of a 4.0 reader).
pub const EMIT_BYTES_MAX: usize = 65515;
