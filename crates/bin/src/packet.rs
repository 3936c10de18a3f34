//! A packet: header, payload, trailer.

use crate::clusterer::INTERNAL;
use crate::{
    ClusterId, FrameError, Malformed, NodeId, PACKET_BYTES_MAX, PACKET_BYTES_MIN, Reader, TooBig,
    Writer,
};
use bytes::Bytes;

pub(crate) const MARKER: &[u8; 4] = b"P4CK";
/// The destination that marks a packet which crossed a bridge between two clusters.
pub const BRIDGED: u32 = 0xC000_0000;
const TRAILER_BYTES: usize = 12;
const BRIDGE_BYTES: usize = 4;

/// A packet of any capability. `payload` is a slice of the received buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub capability: Bytes,
    /// Its meaning is private to the capability.
    pub packet_type: u32,
    /// Version of the payload format of this capability and type.
    pub version: u16,
    pub payload: Bytes,
    /// Present on every packet except those of `clusterer-internal`.
    pub trailer: Option<Trailer>,
}

/// Who sent a packet to whom; taken from the end of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    pub cluster: ClusterId,
    /// The originator, also when the packet was relayed.
    pub source: NodeId,
    /// [`BRIDGED`] if and only if `bridge` is present.
    pub destination: NodeId,
    /// The cluster a bridged packet comes from.
    pub bridge: Option<ClusterId>,
}

impl Trailer {
    pub fn new(cluster: ClusterId, source: NodeId, destination: NodeId) -> Self {
        Self { cluster, source, destination, bridge: None }
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        if let Some(from) = self.bridge {
            w.uint(from);
        }
        w.uint(self.cluster);
        w.uint(self.source);
        w.uint(if self.bridge.is_some() { BRIDGED } else { self.destination });
    }

    /// Takes the trailer off the end of a payload.
    fn split(payload: &mut Bytes) -> Result<Self, Malformed> {
        let at = payload.len().checked_sub(TRAILER_BYTES).ok_or(Malformed::Short("trailer"))?;
        let mut r = Reader::new(payload.split_off(at));
        let cluster = r.uint("trailer")?;
        let source = r.uint("trailer")?;
        let destination = r.uint("trailer")?;
        let bridge = if destination == BRIDGED {
            let at = payload
                .len()
                .checked_sub(BRIDGE_BYTES)
                .ok_or(Malformed::Short("bridge trailer"))?;
            Some(Reader::new(payload.split_off(at)).uint("bridge trailer")?)
        } else {
            None
        };
        Ok(Self { cluster, source, destination, bridge })
    }
}

impl Packet {
    /// Reads one whole frame, as [`crate::Framer`] gives it.
    pub fn decode(frame: Bytes) -> Result<Self, Malformed> {
        let total = frame.len();
        let mut r = Reader::new(frame);
        if r.take(4, "marker")?.as_ref() != MARKER {
            return Err(FrameError::Marker.into());
        }
        let length = r.uint("length")?;
        if length as usize != total || !(PACKET_BYTES_MIN..=PACKET_BYTES_MAX).contains(&total) {
            return Err(FrameError::Length(length).into());
        }
        let version = r.u16("version")?;
        let capability = r.str("capability")?;
        let packet_type = r.uint("type")?;
        let mut payload = r.rest().clone();
        let trailer = match capability.as_ref() == INTERNAL {
            true => None,
            false => Some(Trailer::split(&mut payload)?),
        };
        Ok(Self { capability, packet_type, version, payload, trailer })
    }

    /// The bytes for the wire.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::packet(&self.capability, self.packet_type, self.version);
        w.raw(&self.payload);
        w.finish_packet(self.trailer.as_ref())
    }
}
