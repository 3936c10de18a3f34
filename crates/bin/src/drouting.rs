//! `drouting-status-repl`: the states of gateways and carriers. Version 1.

use bytes::Bytes;

use crate::{Malformed, Reader, TooBig, Writer};

/// Name of the capability.
pub const CAPABILITY: &[u8] = b"drouting-status-repl";
/// The one version there is.
pub const VERSION: u16 = 1;
/// The packet type of a gateway's state.
pub const GATEWAY: u32 = 1;
/// The packet type of a carrier's state.
pub const CARRIER: u32 = 2;
/// Flag of a gateway: it is disabled.
pub const GATEWAY_DISABLED: i32 = 4;
/// Flag of a gateway: probing does not enable it again.
pub const GATEWAY_HELD: i32 = 8;
/// Flag of a carrier: it is off.
pub const CARRIER_OFF: i32 = 2;

/// The state of a gateway or carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub partition: Bytes,
    pub id: Bytes,
    pub flags: i32,
}

/// A chunk of a sync: what it is about, and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRecord {
    pub is_gateway: bool,
    pub status: Status,
}

impl Status {
    /// Reads a payload of type 1 or 2.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(payload: &Bytes) -> Result<Self, Malformed> {
        Self::read(&mut Reader::new(payload.clone()))
    }

    /// The payload of type 1 or 2.
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        self.write(&mut w);
        w.finish()
    }

    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { partition: r.str("partition")?, id: r.str("id")?, flags: r.int("flags")? })
    }

    fn write(&self, w: &mut Writer) {
        w.str(&self.partition);
        w.str(&self.id);
        w.int(self.flags);
    }
}

impl SyncRecord {
    /// Reads a chunk.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(chunk: &Bytes) -> Result<Self, Malformed> {
        let r = &mut Reader::new(chunk.clone());
        Ok(Self { is_gateway: r.int("is_gateway")? != 0, status: Status::read(r)? })
    }

    /// The chunk.
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        w.int(i32::from(self.is_gateway));
        self.status.write(&mut w);
        w.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn states_survive(partition in "[a-z]{0,9}", id in "[a-z]{0,9}", flags: i32, gw: bool) {
            let status = Status { partition: partition.into(), id: id.into(), flags };
            prop_assert_eq!(Status::decode(&status.encode().unwrap()).unwrap(), status.clone());
            let record = SyncRecord { is_gateway: gw, status };
            prop_assert_eq!(SyncRecord::decode(&record.encode().unwrap()).unwrap(), record);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let bytes = Bytes::from(bytes);
            let _ = Status::decode(&bytes);
            let _ = SyncRecord::decode(&bytes);
        }
    }
}
