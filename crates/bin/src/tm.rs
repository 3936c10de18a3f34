//! `tm-repl`: messages that an anycast address brought to another node than the one that knows
//! their transaction. The version is 0, and no reader looks at it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use crate::{Malformed, Reader, TooBig, Writer};

/// Name of the capability.
pub const CAPABILITY: &[u8] = b"tm-repl";
/// The one version there is.
pub const VERSION: u16 = 0;

/// A packet of this capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TmPacket {
    /// Type 1: a reply, for the node whose id its Via names.
    Reply(HandedOn),
    /// Type 2: an ACK, or a CANCEL that a script decided about.
    Request(HandedOn),
    /// Type 3: a CANCEL that no script saw.
    AutoCancel(HandedOn, CancelParts),
}

/// A message and where it came from and arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOn {
    /// Of the receiving socket: 1 UDP, 2 TCP, 3 TLS.
    pub proto: i32,
    /// Tag of the receiving socket, or its address.
    pub socket: Bytes,
    /// 0 with a tag.
    pub port: i32,
    /// The sender's address as its machine keeps it: family, length, 16 bytes.
    pub raw_source: Bytes,
    pub source_port: i32,
    /// The SIP message and one zero byte.
    pub message: Bytes,
}

/// Places in the message of a CANCEL, and what to tell the callee.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CancelParts {
    /// Offset and length of the branch in the topmost Via; `None` if it has none.
    pub branch: Option<(i32, i32)>,
    pub host: Option<(i32, i32)>,
    pub transport: Option<(i32, i32)>,
    /// 0: none.
    pub via_port: i32,
    /// Complete `Reason` header with its line end, or empty.
    pub reason: Bytes,
    /// Place in the sender's table; means something to it only.
    pub hash_index: i32,
}

impl TmPacket {
    /// Reads a payload.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(packet_type: u32, payload: &Bytes) -> Result<Self, Malformed> {
        let r = &mut Reader::new(payload.clone());
        match packet_type {
            1 => Ok(Self::Reply(HandedOn::read(r)?)),
            2 => Ok(Self::Request(HandedOn::read(r)?)),
            3 => Ok(Self::AutoCancel(HandedOn::read(r)?, CancelParts::read(r)?)),
            other => Err(Malformed::Type(other)),
        }
    }

    /// The number of the packet type.
    pub fn packet_type(&self) -> u32 {
        match self {
            Self::Reply(_) => 1,
            Self::Request(_) => 2,
            Self::AutoCancel(..) => 3,
        }
    }

    /// The payload.
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        match self {
            Self::Reply(message) | Self::Request(message) => message.write(&mut w),
            Self::AutoCancel(message, parts) => {
                message.write(&mut w);
                parts.write(&mut w);
            }
        }
        w.finish()
    }
}

impl HandedOn {
    /// The sender's address; `None` if it is of another family.
    pub fn source(&self) -> Option<IpAddr> {
        let raw = &self.raw_source;
        match i32::from_le_bytes(raw.get(..4)?.try_into().ok()?) {
            AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(raw.get(8..12)?).ok()?).into()),
            AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(raw.get(8..24)?).ok()?).into()),
            _ => None,
        }
    }

    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            proto: r.int("protocol")?,
            socket: r.str("destination")?,
            port: r.int("destination port")?,
            raw_source: r.str("source address")?,
            source_port: r.int("source port")?,
            message: r.str("message")?,
        })
    }

    fn write(&self, w: &mut Writer) {
        w.int(self.proto);
        w.str(&self.socket);
        w.int(self.port);
        w.str(&self.raw_source);
        w.int(self.source_port);
        w.str(&self.message);
    }
}

/// An address in the form of [`HandedOn::raw_source`].
pub fn raw_source(ip: IpAddr) -> Bytes {
    let (family, bytes) = match ip {
        IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
    };
    let mut raw = [family.to_le_bytes(), (bytes.len() as i32).to_le_bytes()].concat();
    raw.extend_from_slice(&bytes);
    raw.resize(24, 0);
    raw.into()
}

impl CancelParts {
    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        let mut place = |field| -> Result<Option<(i32, i32)>, Malformed> {
            match r.int(field)? {
                0 => Ok(None),
                at => Ok(Some((at, r.int(field)?))),
            }
        };
        Ok(Self {
            branch: place("Via branch")?,
            host: place("Via host")?,
            transport: place("Via transport")?,
            via_port: r.int("Via port")?,
            reason: r.str("reason")?,
            hash_index: r.int("hash index")?,
        })
    }

    fn write(&self, w: &mut Writer) {
        for place in [self.branch, self.host, self.transport] {
            w.int(place.map_or(0, |(at, _)| at));
            if let Some((_, length)) = place {
                w.int(length);
            }
        }
        w.int(self.via_port);
        w.str(&self.reason);
        w.int(self.hash_index);
    }
}

const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn addresses_survive(ip: IpAddr) {
            let message = HandedOn {
                proto: 1, socket: Bytes::new(), port: 0, raw_source: raw_source(ip),
                source_port: 0, message: Bytes::new(),
            };
            prop_assert_eq!(message.source(), Some(ip));
        }

        #[test]
        fn no_bytes_panic(kind in 0u32..5, bytes: Vec<u8>) {
            if let Ok(packet) = TmPacket::decode(kind, &Bytes::from(bytes)) {
                let message = match packet {
                    TmPacket::Reply(m) | TmPacket::Request(m) | TmPacket::AutoCancel(m, _) => m,
                };
                let _ = message.source();
            }
        }
    }
}
