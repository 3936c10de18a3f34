//! `cachedb-local-repl`: collections of the local cache. Version 1.

use bytes::Bytes;

use crate::{Malformed, Reader, TooBig, Writer};

/// Name of the capability.
pub const CAPABILITY: &[u8] = b"cachedb-local-repl";
/// The one version there is; readers do not look at it.
pub const VERSION: u16 = 1;

/// A packet of this capability; [`Insert`] is also the record of a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachedbLocal {
    /// Type 1.
    Insert(Insert),
    /// Type 2.
    Remove { collection: Bytes, key: Bytes },
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    pub collection: Bytes,
    pub key: Bytes,
    pub value: Bytes,
    /// Seconds from now; 0: for ever.
    pub expires_s: u32,
}

impl CachedbLocal {
    /// Reads a payload.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(packet_type: u32, payload: &Bytes) -> Result<Self, Malformed> {
        match packet_type {
            1 => Ok(Self::Insert(Insert::decode(payload)?)),
            2 => {
                let r = &mut Reader::new(payload.clone());
                Ok(Self::Remove { collection: r.str("collection")?, key: r.str("key")? })
            }
            other => Err(Malformed::Type(other)),
        }
    }

    /// The number of the packet type.
    pub fn packet_type(&self) -> u32 {
        match self {
            Self::Insert(_) => 1,
            Self::Remove { .. } => 2,
        }
    }

    /// The payload.
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        match self {
            Self::Insert(insert) => insert.encode(),
            Self::Remove { collection, key } => {
                let mut w = Writer::payload();
                w.str(collection);
                w.str(key);
                w.finish()
            }
        }
    }
}

impl Insert {
    /// Reads a payload of type 1, or a record of a sync. A missing end is "for ever".
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(payload: &Bytes) -> Result<Self, Malformed> {
        let r = &mut Reader::new(payload.clone());
        let (collection, key, value) = (r.str("collection")?, r.str("key")?, r.str("value")?);
        let expires = if r.is_empty() { 0 } else { r.int("expires")? };
        Ok(Self { collection, key, value, expires_s: u32::try_from(expires).unwrap_or(0) })
    }

    /// The payload.
    ///
    /// # Errors
    /// When it is larger than a packet.
    pub fn encode(&self) -> Result<Bytes, TooBig> {
        let mut w = Writer::payload();
        for text in [&self.collection, &self.key, &self.value] {
            w.str(text);
        }
        w.int(i32::try_from(self.expires_s).unwrap_or(i32::MAX));
        w.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Payloads of packets between stock nodes.
    const INSERT: &[u8] = b"\x03\0rep\x04\0key1\x06\0value1\x58\x02\0\0";
    const REMOVE: &[u8] = b"\x03\0rep\x04\0key2";

    #[test]
    fn packets_of_stock_nodes_are_read_and_written() {
        let insert = CachedbLocal::Insert(Insert {
            collection: "rep".into(),
            key: "key1".into(),
            value: "value1".into(),
            expires_s: 600,
        });
        let remove = CachedbLocal::Remove { collection: "rep".into(), key: "key2".into() };
        for (packet, bytes) in [(insert, INSERT), (remove, REMOVE)] {
            let read = CachedbLocal::decode(packet.packet_type(), &Bytes::from_static(bytes));
            assert_eq!(read.unwrap(), packet);
            assert_eq!(&packet.encode().unwrap()[..], bytes);
        }
        assert!(CachedbLocal::decode(3, &Bytes::new()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(kind in 0u32..4, bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = CachedbLocal::decode(kind, &Bytes::from(bytes));
        }

        #[test]
        fn a_packet_survives(key in "[a-z]{0,9}", value in "\\PC{0,20}", expires_s in 0u32..1 << 31) {
            let insert = Insert {
                collection: "c".into(),
                key: key.into(),
                value: value.into(),
                expires_s,
            };
            prop_assert_eq!(Insert::decode(&insert.encode().unwrap()).unwrap(), insert);
        }
    }
}
