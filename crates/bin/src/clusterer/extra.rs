//! `clusterer-extra`: what is routed by trailer.

use super::{CHUNK_MARKER, EXTRA, SYNC_VERSION};
use crate::{Malformed, NodeId, Reader, TooBig, Trailer, Writer};
use bytes::Bytes;

/// Parameters of an MI command.
const MI_PARAMS_MAX: usize = 20;

/// A packet of `clusterer-extra`; cluster, source and destination are in its trailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Type 6.
    RemoveNode { node: NodeId },
    /// Type 7.
    Generic(GenericMsg),
    /// Type 8.
    Mi(MiCmd),
    /// Type 10: send me all your records of this capability.
    SyncReq { capability: Bytes },
    /// Type 11.
    Sync(Sync),
    /// Type 12.
    SyncEnd(SyncEnd),
    /// Type 13: the sender has just taken this tag.
    ShtagActive { tag: Bytes },
}

/// A message from script to script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenericMsg {
    /// True for a request, false for a reply.
    pub request: bool,
    /// A reply repeats the tag of its request.
    pub exchange_tag: Bytes,
    pub message: Bytes,
}

/// A management command to run on the destination; there is no answer packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MiCmd {
    pub command: Bytes,
    pub params: Vec<Bytes>,
}

/// A part of a full sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    pub capability: Bytes,
    /// Version of the records.
    pub data_version: i32,
    pub chunks: Vec<Bytes>,
    /// False if a wrong marker or size ended the packet early; those chunks are not counted.
    pub intact: bool,
}

/// The end of a full sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncEnd {
    pub capability: Bytes,
    /// Chunks in all packets of this sync.
    pub chunks: i32,
}

impl Extra {
    /// Reads the payload of a `clusterer-extra` packet.
    pub fn decode(packet_type: u32, version: u16, payload: &Bytes) -> Result<Self, Malformed> {
        if (10..=12).contains(&packet_type) && version != SYNC_VERSION {
            return Err(Malformed::Version(version));
        }
        let mut r = Reader::new(payload.clone());
        Ok(match packet_type {
            6 => Self::RemoveNode { node: r.uint("node id")? },
            7 => Self::Generic(GenericMsg {
                request: r.flag("request")?,
                exchange_tag: r.str("exchange tag")?,
                message: r.str("message")?,
            }),
            8 => Self::Mi(MiCmd {
                command: r.str("command")?,
                params: {
                    let count = r.count("number of parameters", MI_PARAMS_MAX)?;
                    (0..count).map(|_| r.str("parameter")).collect::<Result<_, _>>()?
                },
            }),
            10 => Self::SyncReq { capability: r.str("capability")? },
            11 => Self::Sync(Sync::read(&mut r)?),
            12 => Self::SyncEnd(SyncEnd {
                capability: r.str("capability")?,
                chunks: r.int("number of chunks")?,
            }),
            13 => Self::ShtagActive { tag: r.str("tag")? },
            other => return Err(Malformed::Type(other)),
        })
    }

    /// The number of the packet type.
    pub fn packet_type(&self) -> u32 {
        match self {
            Self::RemoveNode { .. } => 6,
            Self::Generic(_) => 7,
            Self::Mi(_) => 8,
            Self::SyncReq { .. } => 10,
            Self::Sync(_) => 11,
            Self::SyncEnd(_) => 12,
            Self::ShtagActive { .. } => 13,
        }
    }

    /// The payload version that this type is sent with.
    pub fn version(&self) -> u16 {
        if (10..=12).contains(&self.packet_type()) { SYNC_VERSION } else { 1 }
    }

    /// The whole packet for the wire.
    pub fn encode(&self, trailer: &Trailer) -> Result<Bytes, TooBig> {
        let mut w = Writer::packet(EXTRA, self.packet_type(), self.version());
        match self {
            Self::RemoveNode { node } => w.uint(*node),
            Self::Generic(g) => {
                w.flag(g.request);
                w.str(&g.exchange_tag);
                w.str(&g.message);
            }
            Self::Mi(mi) => {
                w.str(&mi.command);
                w.count(mi.params.len());
                mi.params.iter().for_each(|param| w.str(param));
            }
            Self::SyncReq { capability } => w.str(capability),
            Self::Sync(sync) => sync.write(&mut w),
            Self::SyncEnd(end) => {
                w.str(&end.capability);
                w.int(end.chunks);
            }
            Self::ShtagActive { tag } => w.str(tag),
        }
        w.finish_packet(Some(trailer))
    }
}

impl Sync {
    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        let capability = r.str("capability")?;
        let data_version = r.int("data version")?;
        let mut reader = Chunks { rest: r.clone(), intact: true };
        let chunks = reader.by_ref().collect();
        Ok(Self { capability, data_version, chunks, intact: reader.intact })
    }

    fn write(&self, w: &mut Writer) {
        w.str(&self.capability);
        w.int(self.data_version);
        for chunk in &self.chunks {
            w.count(chunk.len());
            w.uint(CHUNK_MARKER);
            w.raw(chunk);
        }
    }
}

/// The records of a sync packet, one after the other.
#[derive(Debug)]
pub struct Chunks {
    rest: Reader,
    intact: bool,
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.rest.is_empty() || !self.intact {
            return None;
        }
        let chunk = self.read();
        self.intact = chunk.is_some();
        chunk
    }
}

impl Chunks {
    fn read(&mut self) -> Option<Bytes> {
        let size = self.rest.count("chunk size", self.rest.len()).ok()?;
        let marker = self.rest.uint("chunk marker").ok()?;
        if marker != CHUNK_MARKER {
            return None;
        }
        self.rest.take(size, "chunk").ok()
    }
}
