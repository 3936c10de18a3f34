//! `dispatcher-status-repl`: the states of destinations. Version 1.

use bytes::Bytes;

use crate::{Malformed, Reader, TooBig, Writer};

/// Name of the capability.
pub const CAPABILITY: &[u8] = b"dispatcher-status-repl";
/// The one version there is.
pub const VERSION: u16 = 1;
/// The packet type of a destination's state.
pub const STATUS: u32 = 1;
/// Bit of a state: it is inactive.
pub const INACTIVE: i32 = 1;
/// Bit of a state: it is probed until it answers.
pub const PROBING: i32 = 2;

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub partition: Bytes,
    pub set: i32,
    pub uri: Bytes,
}

/// Bits of a destination that were set, or taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub of: Destination,
    pub sets: bool,
    pub bits: i32,
}

/// A chunk of a sync. Bits beside [`INACTIVE`] and [`PROBING`] mean something on the sender only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRecord {
    pub of: Destination,
    pub flags: i32,
}

impl Destination {
    fn read(r: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { partition: r.str("partition")?, set: r.int("set")?, uri: r.str("uri")? })
    }

    fn write(&self, w: &mut Writer) {
        w.str(&self.partition);
        w.int(self.set);
        w.str(&self.uri);
    }
}

impl Status {
    /// Reads a payload of type 1.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(payload: &Bytes) -> Result<Self, Malformed> {
        let r = &mut Reader::new(payload.clone());
        let of = Destination::read(r)?;
        Ok(Self { of, sets: r.int("operation")? != 0, bits: r.int("state")? })
    }

    /// The payload of type 1.
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        self.of.write(&mut w);
        w.int(i32::from(self.sets));
        w.int(self.bits);
        w.finish()
    }
}

impl SyncRecord {
    /// Reads a chunk.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(chunk: &Bytes) -> Result<Self, Malformed> {
        let r = &mut Reader::new(chunk.clone());
        Ok(Self { of: Destination::read(r)?, flags: r.int("flags")? })
    }

    /// The chunk.
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        self.of.write(&mut w);
        w.int(self.flags);
        w.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn states_survive(text in "[a-z]{0,9}", set: i32, sets: bool, bits: i32) {
            let text = Bytes::from(text);
            let of = Destination { partition: text.clone(), set, uri: text };
            let status = Status { of: of.clone(), sets, bits };
            prop_assert_eq!(Status::decode(&status.encode().unwrap()).unwrap(), status);
            let record = SyncRecord { of, flags: bits };
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
